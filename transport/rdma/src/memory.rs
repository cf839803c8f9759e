//! The only place of this crate that copies bytes of regions, and maps memory.

use std::io;
use std::num::NonZeroUsize;

use dure_device::{Memory, Space};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// From this size pages may be huge: fewer entries in the device's page table.
const HUGE: usize = 2 << 20;

/// Zeroed pages of this process, given back when dropped.
#[derive(Debug)]
pub(crate) struct Pages(Memory);

impl Pages {
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        // Not even an empty region may share its address with another.
        let size = NonZeroUsize::new(len).unwrap_or(NonZeroUsize::MIN);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice changes no existing memory.
        let ptr = unsafe { mmap_anonymous(None, size, access, MapFlags::MAP_PRIVATE) }?;
        if len >= HUGE {
            // SAFETY: advice on the pages that were mapped just now.
            let advised = unsafe { madvise(ptr, len, MmapAdvise::MADV_HUGEPAGE) };
            // A kernel without huge pages refuses, and small ones do.
            advised.unwrap_or_default();
        }
        Ok(Self(Memory { ptr: ptr.cast(), len, space: Space::Host }))
    }

    pub(crate) fn memory(&self) -> Memory {
        self.0
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this, and the owner drops it after the last use of its bytes.
        let unmapped = unsafe { munmap(self.0.ptr.cast(), self.0.len.max(1)) };
        unmapped.expect("a mapping of this process can be unmapped");
    }
}

/// Copies `bytes` into memory.
///
/// # Safety
/// `into` is host memory that nobody else touches now.
#[inline]
pub(crate) unsafe fn write(into: Memory, bytes: &[u8]) {
    let into = into.part(0, bytes.len());
    // SAFETY: `part` checked the length, and the caller promised the rest.
    unsafe { into.ptr.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

/// Copies memory.
///
/// # Safety
/// Both are host memory, apart from one another; nobody writes `from` or touches `into` now.
#[inline]
pub(crate) unsafe fn copy(from: Memory, into: Memory) {
    let into = into.part(0, from.len);
    // SAFETY: `part` checked the length, and the caller promised the rest.
    unsafe { into.ptr.as_ptr().copy_from_nonoverlapping(from.ptr.as_ptr(), from.len) };
}

/// Copies bytes out of memory.
///
/// # Safety
/// `from` is host memory that nobody writes now.
pub(crate) unsafe fn read(from: Memory) -> Box<[u8]> {
    let mut bytes = vec![0; from.len].into_boxed_slice();
    // SAFETY: the box is as long and new; the caller promised the rest.
    unsafe { from.ptr.as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), from.len) };
    bytes
}
