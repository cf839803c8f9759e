//! Memory: allocated, and made known to the transports.

#![allow(
    clippy::disallowed_types,
    reason = "a table that changes when memory is allocated or freed"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use dure::{Error, Memory, Result};

use super::pointer::{CommPtr, Out};
use crate::boundary::{boundary, boundary_on};
use crate::code;
use crate::comm::{Comm, Registered};

/// Alignment of `dureMemAlloc`: a page, which is also what NCCL asks of windows.
pub(super) const ALIGNMENT: usize = 4096;
/// The flags of `dureCommWindowRegister`.
pub(super) const WIN_DEFAULT: c_int = 0;
pub(super) const WIN_COLL_SYMMETRIC: c_int = 1;

/// What `dureMemAlloc` gave out, by address.
fn allocations() -> MutexGuard<'static, HashMap<usize, Layout>> {
    static ALLOCATIONS: OnceLock<Mutex<HashMap<usize, Layout>>> = OnceLock::new();
    ALLOCATIONS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

#[unsafe(no_mangle)]
extern "C" fn dureMemAlloc(ptr: Out<*mut c_void>, size: usize) -> c_int {
    boundary(|| {
        let place = ptr.place("ptr")?;
        let too_large =
            |_| Error::invalid_argument(format!("size {size} is more than memory can hold"));
        let layout = Layout::from_size_align(size.max(1), ALIGNMENT).map_err(too_large)?;
        // SAFETY: the layout is at least a byte long.
        let memory = unsafe { alloc_zeroed(layout) };
        if memory.is_null() {
            return Err(Error::system(format!("there are no {size} bytes of memory")));
        }
        allocations().insert(memory.addr(), layout);
        place.set(memory.cast());
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn dureMemFree(ptr: *mut c_void) -> c_int {
    if ptr.is_null() {
        return code::SUCCESS;
    }
    boundary(|| {
        let layout = allocations().remove(&ptr.addr());
        let layout = layout.ok_or_else(|| {
            Error::invalid_argument("ptr did not come from dureMemAlloc, or was freed")
        })?;
        // SAFETY: it is in the table, so it was allocated with this layout and is freed for the first time.
        unsafe { dealloc(ptr.cast(), layout) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn dureCommMemAlloc(comm: CommPtr, ptr: Out<*mut c_void>, size: usize) -> c_int {
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
            comm.keep(Registered::Allocation, memory.address(), registration);
            place.set(memory.ptr.as_ptr().cast());
            Ok(())
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn dureCommMemFree(comm: CommPtr, ptr: *mut c_void) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            if ptr.is_null() {
                return Ok(());
            }
            end(
                comm,
                Registered::Allocation,
                ptr.addr(),
                "ptr did not come from dureCommMemAlloc of comm, or was freed",
            )
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn dureCommRegister(
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

#[unsafe(no_mangle)]
extern "C" fn dureCommDeregister(comm: CommPtr, handle: *mut c_void) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            end(
                comm,
                Registered::Buffer,
                handle.addr(),
                "handle did not come from dureCommRegister of comm, or was ended",
            )
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn dureCommWindowRegister(
    comm: CommPtr,
    buff: *mut c_void,
    size: usize,
    win: Out<*mut c_void>,
    win_flags: c_int,
) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            if !(WIN_DEFAULT..=WIN_COLL_SYMMETRIC).contains(&win_flags) {
                let text = format!(
                    "winFlags {win_flags:#x} (allowed: 0, DURE_WIN_COLL_SYMMETRIC, which is 1)"
                );
                return Err(Error::invalid_argument(text));
            }
            register(comm, Registered::Window, (buff, size), ("win", win))
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn dureCommWindowDeregister(comm: CommPtr, win: *mut c_void) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            end(
                comm,
                Registered::Window,
                win.addr(),
                "win did not come from dureCommWindowRegister of comm, or was ended",
            )
        },
    )
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
    comm.keep(by, number, registration);
    place.set(std::ptr::without_provenance_mut(number));
    Ok(())
}

fn end(comm: &Comm, by: Registered, key: usize, otherwise: &str) -> Result<()> {
    let registration = comm.give_back(by, key).ok_or_else(|| Error::invalid_argument(otherwise))?;
    comm.communicator()?.deregister(registration);
    Ok(())
}
