//! Memory that is mapped twice: without access rights at the addresses that the process knows, and readable and
//! writable for the engine.

use std::ffi::{CString, c_void};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

use crate::{Error, Memory, Result, Space};

/// Size of a page: the largest that our kernels use, so that no system call is needed to know it.
const PAGE: usize = 64 << 10;

/// The memory of a device.
#[derive(Debug)]
pub(super) struct Pages {
    /// What the process sees: no access.
    face: Mapping,
    /// The same bytes for the engine.
    back: Mapping,
}

impl Pages {
    /// Maps `capacity` bytes of zeros, rounded up to whole pages.
    ///
    /// # Errors
    /// [`Error::System`].
    pub(super) fn new(name: &str, capacity: usize) -> Result<Self> {
        let too_large = || system("memfd_create", Errno::EFBIG);
        let len = capacity.max(1).checked_next_multiple_of(PAGE).ok_or_else(too_large)?;
        let size = i64::try_from(len).map_err(|_| too_large())?;
        let name = CString::new(name).map_err(|_| system("memfd_create", Errno::EINVAL))?;
        let file = memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC)
            .map_err(|e| system("memfd_create", e))?;
        ftruncate(&file, size).map_err(|e| system("ftruncate", e))?;
        let len = NonZeroUsize::new(len).expect("at least one page");
        let face = Mapping::new(&file, len, ProtFlags::PROT_NONE)?;
        let back = Mapping::new(&file, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        Ok(Self { face, back })
    }

    /// Length in bytes.
    pub(super) const fn len(&self) -> usize {
        self.face.len
    }

    /// All of the memory, as the process sees it.
    pub(super) const fn face(&self, space: Space) -> Memory {
        Memory { ptr: self.face.ptr.cast(), len: self.face.len, space }
    }

    /// `memory` as the engine reaches it: where the device's pages are mapped for it, or the host's memory itself.
    pub(super) fn reach(&self, memory: Memory) -> Memory {
        if memory.space == Space::Host {
            return memory;
        }
        let back = Memory { ptr: self.back.ptr.cast(), len: self.back.len, space: Space::Host };
        back.part(memory.address() - self.face.ptr.addr().get(), memory.len)
    }
}

/// A mapping of a whole file.
#[derive(Debug)]
struct Mapping {
    ptr: NonNull<c_void>,
    len: usize,
}

// SAFETY: the mapping belongs to the value and is not accessed through it; `munmap` may be called on any thread.
unsafe impl Send for Mapping {}
// SAFETY: a shared reference gives its address and length only.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &OwnedFd, len: NonZeroUsize, access: ProtFlags) -> Result<Self> {
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let ptr =
            unsafe { mmap(None, len, access, flags, file, 0) }.map_err(|e| system("mmap", e))?;
        Ok(Self { ptr, len: len.get() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is a whole mapping of ours; the engine, its only user, holds the pages while it runs.
        let unmapped = unsafe { munmap(self.ptr, self.len) };
        debug_assert!(unmapped.is_ok(), "a whole mapping can be unmapped");
    }
}

fn system(call: &'static str, errno: Errno) -> Error {
    Error::System { call, source: io::Error::from(errno) }
}
