//! The engine: a process that has the device's memory, and does what it is told.

use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};

use dure_device::{Combine, Dtype, Memory, Queue, Scale, Stores, Work};
use dure_device_abi as abi;

use crate::ring::{Kind, Order, Place, Shared, Space};

/// How many imports there may be.
pub(crate) const IMPORTS: usize = 1024;

/// Memory that the engine has mapped.
#[derive(Clone, Copy)]
struct Mapped {
    at: *mut u8,
    len: usize,
}

const NONE: Mapped = Mapped { at: std::ptr::null_mut(), len: 0 };

struct Engine {
    shared: Shared,
    host: libc::pid_t,
    own: Mapped,
    imports: [Mapped; IMPORTS],
    queue: Box<dyn Queue>,
}

type Outcome = Result<(), i32>;

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Serves the ring until it is told to stop, or the process `host` has ended. Never returns.
pub(crate) fn run(shared: Shared, memory: u64, host: libc::pid_t, name: &CString) -> ! {
    // Connections of the process must not outlive it here.
    // SAFETY: it takes numbers; this process uses none of the descriptors.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    // SAFETY: the name is alive.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    let status = serve(shared, memory, host, name).err().unwrap_or(0);
    shared.ring().failed.store(status.unsigned_abs(), Ordering::Release);
    // SAFETY: the child of a fork ends without running what its parent would.
    unsafe { libc::_exit(i32::from(status != 0)) }
}

fn serve(shared: Shared, memory: u64, host: libc::pid_t, name: &CString) -> Outcome {
    // SAFETY: the name is alive.
    let file = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    let len = i64::try_from(memory).map_err(|_| libc::EFBIG)?;
    // SAFETY: a descriptor of ours, or none.
    if file < 0 || unsafe { libc::ftruncate(file, len) } != 0 {
        return Err(errno());
    }
    let own = map(file, usize::try_from(memory).map_err(|_| libc::EFBIG)?)?;
    let queue = dure_device::host::host().queue().map_err(|_| libc::EIO)?;
    shared.ring().file.store(file.unsigned_abs(), Ordering::Release);
    let mut engine = Engine { shared, host, own, imports: [NONE; IMPORTS], queue };
    loop {
        let Some(order) = shared.ring().take() else {
            // SAFETY: it takes nothing.
            if unsafe { libc::getppid() } == host {
                continue;
            }
            return Ok(());
        };
        if matches!(order.kind, Kind::Stop) {
            return Ok(());
        }
        engine.obey(&order)?;
        shared.ring().done(&order);
    }
}

fn map(file: i32, len: usize) -> Result<Mapped, i32> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, file, 0) };
    if at == libc::MAP_FAILED { Err(errno()) } else { Ok(Mapped { at: at.cast(), len }) }
}

impl Engine {
    fn obey(&mut self, order: &Order) -> Outcome {
        match order.kind {
            Kind::Copy { rows, src_pitch, dst_pitch } => {
                for row in 0..u64::from(rows) {
                    let moved =
                        |place: Place, pitch: u64| Place { at: place.at + row * pitch, ..place };
                    self.copy(
                        moved(order.srcs[0], src_pitch),
                        moved(order.dst, dst_pitch),
                        order.bytes,
                    )?;
                }
                Ok(())
            }
            Kind::Reduce { sources, dtype, op } => {
                self.reduce(order, sources as usize, (dtype, op))
            }
            Kind::Scale { dtype, kind, factor, integer } => {
                self.scale(order, dtype, (kind, factor, integer))
            }
            Kind::Import { number, process, file } => self.import(number as usize, (process, file)),
            Kind::Forget { number } => self.forget(number as usize),
            Kind::Zero => {
                let into = self.reach(order.dst, order.bytes)?;
                // SAFETY: `reach` has checked the range.
                unsafe {
                    into.write_bytes(0, usize::try_from(order.bytes).map_err(|_| libc::EFAULT)?)
                };
                Ok(())
            }
            Kind::Stop => Ok(()),
        }
    }

    /// Where the engine has bytes mapped that are no memory of the host.
    fn reach(&self, place: Place, bytes: u64) -> Result<*mut u8, i32> {
        let mapped = match place.space {
            Space::Own => self.own,
            Space::Imported => *self.imports.get(place.number as usize).ok_or(libc::EFAULT)?,
            Space::Host => return Err(libc::EFAULT),
        };
        let end = place.at.checked_add(bytes).ok_or(libc::EFAULT)?;
        if end > mapped.len as u64 {
            return Err(libc::EFAULT);
        }
        Ok(mapped.at.wrapping_add(usize::try_from(place.at).map_err(|_| libc::EFAULT)?))
    }

    fn copy(&self, src: Place, dst: Place, bytes: u64) -> Outcome {
        let len = usize::try_from(bytes).map_err(|_| libc::EFAULT)?;
        let moved = &self.shared.ring().moved;
        match (src.space, dst.space) {
            (Space::Host, _) => {
                count(&moved.from_host, bytes);
                self.transfer(self.reach(dst, bytes)?, src.at, len, libc::process_vm_readv)
            }
            (_, Space::Host) => {
                count(&moved.to_host, bytes);
                self.transfer(self.reach(src, bytes)?, dst.at, len, libc::process_vm_writev)
            }
            (from, to) => {
                let own = (from, to) == (Space::Own, Space::Own);
                count(if own { &moved.inside } else { &moved.peer }, bytes);
                let (src, dst) = (self.reach(src, bytes)?, self.reach(dst, bytes)?);
                // SAFETY: `reach` has checked both ranges.
                unsafe { std::ptr::copy(src, dst, len) };
                Ok(())
            }
        }
    }

    /// Copies between memory of the engine and memory of the process that it works for.
    fn transfer(
        &self,
        here: *mut u8,
        there: u64,
        len: usize,
        by: unsafe extern "C" fn(
            libc::pid_t,
            *const libc::iovec,
            libc::c_ulong,
            *const libc::iovec,
            libc::c_ulong,
            libc::c_ulong,
        ) -> isize,
    ) -> Outcome {
        let there = usize::try_from(there).map_err(|_| libc::EFAULT)?;
        let mut done = 0;
        while done < len {
            let local =
                libc::iovec { iov_base: here.wrapping_add(done).cast(), iov_len: len - done };
            let remote = libc::iovec {
                iov_base: std::ptr::without_provenance_mut(there + done),
                iov_len: len - done,
            };
            // SAFETY: the local range was checked; the kernel checks the other.
            let copied = unsafe { by(self.host, &raw const local, 1, &raw const remote, 1, 0) };
            match usize::try_from(copied) {
                Ok(0) => return Err(libc::EFAULT),
                Ok(copied) => done += copied,
                Err(_) => return Err(errno()),
            }
        }
        Ok(())
    }

    fn memory(&self, place: Place, bytes: u64) -> Result<Memory, i32> {
        let at = self.reach(place, bytes)?;
        if place.space == Space::Imported {
            count(&self.shared.ring().moved.peer, bytes);
        }
        Ok(Memory::host(at, usize::try_from(bytes).map_err(|_| libc::EFAULT)?))
    }

    fn reduce(&mut self, order: &Order, sources: usize, (dtype, op): (u32, u32)) -> Outcome {
        let dtype = Dtype::from_number(dtype).ok_or(libc::EINVAL)?;
        let by = match op {
            abi::SUM => Combine::Sum,
            abi::PROD => Combine::Prod,
            abi::MAX => Combine::Max,
            abi::MIN => Combine::Min,
            _ => return Err(libc::EINVAL),
        };
        let places = order.srcs.get(..sources).ok_or(libc::EINVAL)?;
        let srcs: Vec<Memory> = places
            .iter()
            .map(|place| self.memory(*place, order.bytes))
            .collect::<Result<_, _>>()?;
        let dst = self.memory(order.dst, order.bytes)?;
        count(&self.shared.ring().moved.reduced, order.bytes * srcs.len() as u64);
        self.work(&Work::Reduce {
            srcs: &srcs,
            dst,
            also: None,
            dtype,
            by: &by,
            stores: Stores::Cached,
        })
    }

    fn scale(
        &mut self,
        order: &Order,
        dtype: u32,
        (kind, factor, integer): (u32, f64, i64),
    ) -> Outcome {
        let dtype = Dtype::from_number(dtype).ok_or(libc::EINVAL)?;
        let by = match kind {
            abi::scale_kind::BY => Scale::By(factor),
            abi::scale_kind::BY_INTEGER => Scale::ByInteger(integer),
            abi::scale_kind::OVER => Scale::Over(u32::try_from(integer).map_err(|_| libc::EINVAL)?),
            _ => return Err(libc::EINVAL),
        };
        let src = self.memory(order.srcs[0], order.bytes)?;
        let dst = self.memory(order.dst, order.bytes)?;
        self.work(&Work::Scale { src, dst, dtype, by })
    }

    fn work(&mut self, work: &Work<'_>) -> Outcome {
        // SAFETY: the ranges were checked; the host does it before it returns.
        unsafe { self.queue.submit(work) }.map(drop).map_err(|_| libc::EINVAL)
    }

    fn import(&mut self, number: usize, (process, file): (u32, u32)) -> Outcome {
        let path = format!("/proc/{process}/fd/{file}\0");
        // SAFETY: the path ends with a 0.
        let fd = unsafe { libc::open(path.as_ptr().cast(), libc::O_RDWR | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(errno());
        }
        // SAFETY: zeroes are a structure of the system's.
        let mut about: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is alive.
        let known = unsafe { libc::fstat(fd, &raw mut about) };
        let len = usize::try_from(about.st_size).unwrap_or(0);
        let mapped = if known == 0 { map(fd, len) } else { Err(errno()) };
        // SAFETY: it was opened above; the mapping stays.
        unsafe { libc::close(fd) };
        *self.imports.get_mut(number).ok_or(libc::EFAULT)? = mapped?;
        Ok(())
    }

    fn forget(&mut self, number: usize) -> Outcome {
        let place = self.imports.get_mut(number).ok_or(libc::EFAULT)?;
        let Mapped { at, len } = std::mem::replace(place, NONE);
        // SAFETY: it is a whole mapping that no order names any more.
        unsafe { libc::munmap(at.cast(), len) };
        Ok(())
    }
}

fn count(counter: &AtomicU64, bytes: u64) {
    // The engine alone counts.
    counter.store(counter.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
}
