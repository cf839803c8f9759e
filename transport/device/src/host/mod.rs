//! The host: memory that the CPU may dereference, and the kernels that reduce it.
//!
//! Kernels are plain loops over elements, generic in type and operation, compiled once for each width of
//! vector unit ([`Width`]); the small floating-point types have loops over vectors besides. Results are the same to the
//! bit on all widths and all machines.

mod access;
mod element;
mod kernel;
mod ops;
mod output;
#[cfg_attr(not(target_arch = "x86_64"), path = "unpacked.rs")]
mod packed;
mod reduce;
mod scale;
mod strip;
mod table;
mod width;
mod worker;

use std::collections::HashMap;
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use nix::libc::mincore;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use nix::unistd::{SysconfVar, sysconf};

pub use self::width::Width;
pub(crate) use self::worker::Worker;
use crate::{Device, Error, Memory, Queue, Result, Space, Work};

/// The host. All callers get the same one, so that memory may be freed by who did not allocate it.
pub fn host() -> Arc<dyn Device> {
    static HOST: LazyLock<Arc<Host>> = LazyLock::new(|| Arc::new(Host::new(Width::best())));
    Arc::<Host>::clone(&HOST)
}

/// Bytes of a huge page on x86-64, and on aarch64 with pages of 4 KiB.
pub const HUGE_PAGE: usize = 2 << 20;

/// How many bytes of some host memory exist, in pages that were touched. All of them, where the system does not tell.
pub fn resident(memory: Memory) -> u64 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|page| usize::try_from(page).ok()).unwrap_or(4096);
    let (start, end) = (memory.address(), memory.address() + memory.len);
    if memory.len == 0 || memory.space != Space::Host {
        return 0;
    }
    let lead = start % page;
    let mut pages = vec![1_u8; (lead + memory.len).div_ceil(page)];
    let first = memory.ptr.as_ptr().wrapping_sub(lead).cast::<c_void>();
    // SAFETY: the vector has a byte for each page of the range; the range is only asked about.
    let told = unsafe { mincore(first, lead + memory.len, pages.as_mut_ptr()) };
    if told != 0 {
        return memory.len as u64;
    }
    let part = |at: usize| {
        let page_start = start - lead + at * page;
        (page_start + page).min(end) - page_start.max(start)
    };
    (0..pages.len()).filter(|at| pages[*at] & 1 == 1).map(|at| part(at) as u64).sum()
}

/// The host as a device. Its queues do the work at once, on the caller's thread.
#[derive(Debug)]
pub struct Host {
    width: Width,
    /// Lengths of the allocations, by address. Not used on the data path.
    allocations: RwLock<HashMap<usize, usize>>,
}

impl Host {
    /// A host whose kernels use `width`; [`host`] uses the best there is.
    pub fn new(width: Width) -> Self {
        Self { width, allocations: RwLock::default() }
    }
}

impl Device for Host {
    fn name(&self) -> &str {
        "host"
    }

    fn space(&self) -> Space {
        Space::Host
    }

    /// Whole pages straight from the kernel: communication memory is registered, pinned and shared by the page, and
    /// must not take a neighbour of the heap with it. They are zero, and are placed near the CPU that touches them first.
    /// Long allocations ask for huge pages, without which up to half of
    /// the time of a pass over memory goes to looking up pages.
    fn alloc(&self, len: usize) -> Result<Memory> {
        let size = NonZeroUsize::new(len).expect("an allocation has at least one byte");
        let (access, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let mapped = unsafe { mmap_anonymous(None, size, access, flags) };
        let ptr = mapped
            .map_err(|_| Error::OutOfMemory { device: self.name().to_owned(), len })?
            .cast::<u8>();
        if len >= HUGE_PAGE {
            // A kernel without huge pages refuses, which does no harm.
            // SAFETY: the mapping is ours, and the advice changes none of its bytes.
            let _ = unsafe { madvise(ptr.cast(), len, MmapAdvise::MADV_HUGEPAGE) };
        }
        let mut allocations = self.allocations.write().unwrap_or_else(PoisonError::into_inner);
        allocations.insert(ptr.addr().get(), len);
        Ok(Memory { ptr, len, space: Space::Host })
    }

    unsafe fn free(&self, memory: Memory) -> Result<()> {
        let mut allocations = self.allocations.write().unwrap_or_else(PoisonError::into_inner);
        if memory.space != Space::Host || allocations.get(&memory.address()) != Some(&memory.len) {
            let (device, address) = (self.name().to_owned(), memory.address());
            return Err(Error::NotMine { device, address });
        }
        allocations.remove(&memory.address());
        // SAFETY: it is a whole mapping of `alloc`, and the caller promises that nobody uses it any more.
        let unmapped = unsafe { munmap(memory.ptr.cast::<c_void>(), memory.len) };
        unmapped.map_err(|errno| Error::System { call: "munmap", source: errno.into() })
    }

    fn owns(&self, _: *const u8) -> bool {
        false
    }

    fn queue(&self) -> Result<Box<dyn Queue>> {
        Ok(Box::new(HostQueue { worker: Worker::new(self.width), submitted: 0 }))
    }
}

/// A queue whose work is done when it was submitted.
#[derive(Debug)]
struct HostQueue {
    worker: Worker,
    submitted: u64,
}

impl HostQueue {
    /// [`Queue::submit`] of any work.
    ///
    /// # Errors
    /// As for that.
    ///
    /// # Safety
    /// As for that.
    #[inline(never)]
    unsafe fn submit_any(&mut self, work: &Work<'_>) -> Result<u64> {
        work.check("host", |memory| memory.space == Space::Host)?;
        // SAFETY: the caller's promise; the work was checked, and all memory is the host's.
        unsafe { self.worker.perform(work) };
        self.submitted += 1;
        Ok(self.submitted)
    }
}

impl Queue for HostQueue {
    unsafe fn submit(&mut self, work: &Work<'_>) -> Result<u64> {
        // SAFETY: the caller's promise.
        if unsafe { self.worker.perform_simple(work) } {
            self.submitted += 1;
            Ok(self.submitted)
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.submit_any(work) }
        }
    }

    fn completed(&mut self) -> Result<u64> {
        Ok(self.submitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_were_touched_exist() {
        let page = usize::try_from(sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap()).unwrap();
        let memory = host().alloc(3 * page).unwrap();
        assert_eq!(resident(memory), 0);
        let touched = memory.part(page + 8, 1);
        // SAFETY: the memory is ours.
        unsafe { touched.ptr.write(1) };
        assert_eq!(resident(memory), page as u64);
        assert_eq!(resident(memory.part(page - 8, 24)), 16);
        assert_eq!(resident(memory.part(0, page)), 0);
        assert_eq!(resident(Memory::EMPTY), 0);
        // SAFETY: nobody uses it any more.
        unsafe { host().free(memory) }.unwrap();
    }
}
