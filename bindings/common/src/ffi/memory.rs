//! Memory: allocated, and made known to the transports.

#![allow(
    clippy::disallowed_types,
    reason = "a table that changes when memory is allocated or freed"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dure::{Device, Error, Memory, Result, devices};

use super::comm::HOST;
use super::pointer::{CommPtr, Out};
use crate::Interface;
use crate::boundary::{boundary, boundary_on};
use crate::code;
use crate::comm::{Comm, Registered};
use crate::environment;

/// Alignment of `...MemAlloc`: a page, which is also what NCCL asks of windows.
pub const ALIGNMENT: usize = 4096;

/// The last number of `ncclCommMemStat_t`.
pub const LAST_STATISTIC: c_int = 3;

/// What keeps memory of `...MemAlloc`.
enum Allocation {
    Host(Layout),
    Device(Arc<dyn Device>, Memory),
}

/// What `...MemAlloc` gave out, by address.
fn allocations() -> MutexGuard<'static, HashMap<usize, Allocation>> {
    static ALLOCATIONS: OnceLock<Mutex<HashMap<usize, Allocation>>> = OnceLock::new();
    ALLOCATIONS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// On the first device that `DURE_DEVICE` names, or else of the host.
pub fn mem_alloc<I: Interface>(ptr: Out<*mut c_void>, size: usize) -> c_int {
    boundary(|| {
        let place = ptr.place("ptr")?;
        let too_large =
            |_| Error::invalid_argument(format!("size {size} is more than memory can hold"));
        let layout = Layout::from_size_align(size.max(1), ALIGNMENT).map_err(too_large)?;
        let device = devices::open(&environment::config::<I>()?)?.into_iter().next();
        let (address, allocation) = match device {
            None => on_host(layout)?,
            Some(device) => on_device(device, layout)?,
        };
        allocations().insert(address.addr(), allocation);
        place.set(address);
        Ok(())
    })
}

fn on_host(layout: Layout) -> Result<(*mut c_void, Allocation)> {
    // SAFETY: the layout is at least a byte long.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        return Err(Error::system(format!("there are no {} bytes of memory", layout.size())));
    }
    Ok((memory.cast(), Allocation::Host(layout)))
}

fn on_device(device: Arc<dyn Device>, layout: Layout) -> Result<(*mut c_void, Allocation)> {
    let failed = |error| Error::device("memory for ptr").because(error);
    let memory = device.alloc(layout.size()).map_err(failed)?;
    Ok((memory.ptr.as_ptr().cast(), Allocation::Device(device, memory)))
}

pub fn mem_free<I: Interface>(ptr: *mut c_void) -> c_int {
    if ptr.is_null() {
        return code::SUCCESS;
    }
    boundary(|| {
        let allocation = allocations().remove(&ptr.addr());
        let otherwise = || Error::invalid_argument(not_from::<I>("ptr", "MemAlloc", "freed"));
        match allocation.ok_or_else(otherwise)? {
            // SAFETY: it was in the table, so it was allocated with this layout and is freed for the first time.
            Allocation::Host(layout) => unsafe { dealloc(ptr.cast(), layout) },
            Allocation::Device(device, memory) => {
                let failed = |error| Error::device("ptr cannot be freed").because(error);
                // SAFETY: as above; whoever frees it uses it no more.
                unsafe { device.free(memory) }.map_err(failed)?;
            }
        }
        Ok(())
    })
}

pub fn comm_mem_alloc(comm: CommPtr, ptr: Out<*mut c_void>, size: usize) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let place = ptr.place("ptr")?;
            if isize::try_from(size).is_err() {
                return Err(Error::invalid_argument(format!(
                    "size {size} is more than memory can hold"
                )));
            }
            let (registration, memory) = comm.open()?.alloc(size)?;
            comm.keep(Registered::Allocation, memory.address(), memory.address(), registration);
            place.set(memory.ptr.as_ptr().cast());
            Ok(())
        },
    )
}

pub fn comm_mem_free<I: Interface>(comm: CommPtr, ptr: *mut c_void) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            if ptr.is_null() {
                return Ok(());
            }
            let otherwise = || not_from::<I>("ptr", "CommMemAlloc of comm", "freed");
            end(comm, Registered::Allocation, ptr.addr(), otherwise)
        },
    )
}

pub fn comm_mem_device(comm: CommPtr, ptr: *const c_void, device: Out<c_int>) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let place = device.place("device")?;
            let owner = comm.open()?.device_of(ptr.cast_mut().cast());
            place.set(owner.map_or(HOST, |at| c_int::try_from(at).expect("devices are few")));
            Ok(())
        },
    )
}

pub fn comm_register(
    comm: CommPtr,
    buff: *mut c_void,
    size: usize,
    handle: Out<*mut c_void>,
) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| register(comm, Registered::Buffer, (buff, size), ("handle", handle)),
    )
}

pub fn comm_deregister<I: Interface>(comm: CommPtr, handle: *mut c_void) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let otherwise = || not_from::<I>("handle", "CommRegister of comm", "ended");
            end(comm, Registered::Buffer, handle.addr(), otherwise)
        },
    )
}

pub fn comm_window_register<I: Interface>(
    comm: CommPtr,
    buff: *mut c_void,
    size: usize,
    win: Out<*mut c_void>,
    win_flags: c_int,
) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            check_flags::<I>(win_flags)?;
            register(comm, Registered::Window, (buff, size), ("win", win))
        },
    )
}

pub fn comm_window_deregister<I: Interface>(comm: CommPtr, win: *mut c_void) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let otherwise = || not_from::<I>("win", "CommWindowRegister of comm", "ended");
            end(comm, Registered::Window, win.addr(), otherwise)
        },
    )
}

pub fn win_get_user_ptr<I: Interface>(
    comm: CommPtr,
    win: *mut c_void,
    out_user_ptr: Out<*mut c_void>,
) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let place = out_user_ptr.place("outUserPtr")?;
            let address = comm.address_of(Registered::Window, win.addr()).ok_or_else(|| {
                Error::invalid_argument(not_from::<I>("win", "CommWindowRegister of comm", "ended"))
            })?;
            place.set(std::ptr::with_exposed_provenance_mut(address));
            Ok(())
        },
    )
}

/// Statistics of a GPU's memory, of which nothing here is ever a part.
pub fn comm_mem_stats(comm: CommPtr, stat: c_int, value: Out<u64>) -> c_int {
    boundary_on(
        || comm.get(),
        |_| {
            let place = value.place("value")?;
            if !(0..=LAST_STATISTIC).contains(&stat) {
                let text = format!("stat {stat} is none (allowed: 0 to {LAST_STATISTIC})");
                return Err(Error::invalid_argument(text));
            }
            place.set(0);
            Ok(())
        },
    )
}

/// All combinations of the interface's flags are taken note of, and of no effect.
fn check_flags<I: Interface>(win_flags: c_int) -> Result<()> {
    let all = I::WINDOW_FLAGS.iter().fold(0, |all, (_, flag)| all | flag);
    if win_flags & !all == 0 {
        return Ok(());
    }
    let named = I::WINDOW_FLAGS
        .iter()
        .map(|(name, flag)| format!("{}, which is {flag}", I::constant(name)));
    let named: Vec<_> = named.collect();
    let text = format!("winFlags {win_flags:#x} (allowed: 0, {})", named.join("; "));
    Err(Error::invalid_argument(text))
}

/// Registers memory. What C gets is a number in the clothes of a pointer, which nothing ever follows.
fn register(
    comm: &Comm,
    by: Registered,
    (buff, size): (*mut c_void, usize),
    (argument, out): (&str, Out<*mut c_void>),
) -> Result<()> {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let place = out.place(argument)?;
    if buff.is_null() {
        return Err(Error::invalid_argument("buff is NULL"));
    }
    if size == 0 || isize::try_from(size).is_err() || buff.addr().checked_add(size).is_none() {
        return Err(Error::invalid_argument(format!("size {size} is not the size of a buffer")));
    }
    let memory: Memory = comm.open()?.locate(buff.cast(), size);
    // SAFETY: the caller in C promised that the memory stays mapped until it is deregistered or the communicator is
    // destroyed, and is used by nobody else during calls on it.
    let registration = unsafe { comm.open()?.register(memory) }?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    comm.keep(by, number, buff.addr(), registration);
    place.set(std::ptr::without_provenance_mut(number));
    Ok(())
}

/// What is said of something that nobody has, or nobody has any more.
fn not_from<I: Interface>(argument: &str, maker: &str, gone: &str) -> String {
    format!("{argument} did not come from {}, or was {gone}", I::function(maker))
}

fn end(comm: &Comm, by: Registered, key: usize, otherwise: impl FnOnce() -> String) -> Result<()> {
    let registration =
        comm.give_back(by, key).ok_or_else(|| Error::invalid_argument(otherwise()))?;
    comm.communicator()?.deregister(registration);
    Ok(())
}
