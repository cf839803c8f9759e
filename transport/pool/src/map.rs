//! Memory shared with other processes: an anonymous file, sealed in size, and mappings of it.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

use dure_device::Memory;
use dure_transport::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use crate::region::wide;
use crate::system;

/// Size of a page, and the unit in which the file gives memory back. The larger pages of some aarch64 kernels are
/// multiples of it; there `discard` leaves partial pages allocated, but zeroed.
pub(crate) const PAGE: u64 = 4096;

/// No segment is larger unless it is asked for: two thousand of them, of one process each, fit into 128 TiB of addresses,
/// and in one of them the slots of a thousand communicators of eight ranks.
const DEFAULT_CAPACITY: u64 = 64 << 30;

/// A segment may take this part of a limit on the address space: the peers' segments are mapped beside it.
const PART_OF_ADDRESS_SPACE: u64 = 64;

/// A mapping of a whole segment, writable. The memory behind it is shared: nothing in it is ever borrowed as `&[u8]`.
#[derive(Debug)]
pub(crate) struct Map {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Map {}

// SAFETY: what is in it is shared with other processes anyway, and accessed as they access it: through raw pointers and
// atomics, by whoever the transport's contract lets.
unsafe impl Sync for Map {}

impl Map {
    fn new(file: BorrowedFd<'_>, len: u64) -> Result<Self> {
        let len = usize::try_from(len)
            .ok()
            .and_then(NonZeroUsize::new)
            .ok_or(Error::Protocol { what: "a segment without a possible length" })?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // The file is sparse and mostly never touched: no swap is set aside for it.
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: the kernel chooses an address range that is free.
        let base = unsafe { mmap(None, len, access, flags, file, 0) }.map_err(system("mmap"))?;
        // A core dump would otherwise read, and so allocate, every hole of every segment.
        // SAFETY: the range was mapped just now; the advice changes nothing but core dumps.
        unsafe { madvise(base, len.get(), MmapAdvise::MADV_DONTDUMP) }
            .map_err(system("madvise"))?;
        Ok(Self { base: base.cast(), len: len.get() })
    }

    /// Maps the segment of a peer. It is sealed in size, or refused: a peer that shrank it would make us fault.
    pub(crate) fn join(file: &OwnedFd) -> Result<Self> {
        let seals = fcntl(file, FcntlArg::F_GET_SEALS).map_err(system("fcntl"))?;
        if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(Error::Protocol { what: "a segment that is not sealed" });
        }
        let len = fstat(file).map_err(system("fstat"))?.st_size;
        Self::new(file.as_fd(), u64::try_from(len).unwrap_or(0))
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        wide(self.len)
    }

    /// Address of the byte at `at`, behind which there are at least `len`.
    ///
    /// # Panics
    /// When they are not inside the segment.
    pub(crate) fn address(&self, at: u64, len: u64) -> NonNull<u8> {
        let inside = at.checked_add(len).is_some_and(|end| end <= self.len());
        assert!(inside, "{len} bytes at {at} of a segment of {}", self.len);
        let offset = usize::try_from(at).expect("it is less than the length");
        // SAFETY: it was just checked that the offset is inside the mapping.
        unsafe { self.base.add(offset) }
    }

    /// The bytes from `at`; panics as `address` does.
    pub(crate) fn memory(&self, at: u64, len: u64) -> Memory {
        let len_here = usize::try_from(len).expect("inside a mapped segment");
        Memory::host(self.address(at, len).as_ptr(), len_here)
    }

    /// Copies bytes into the segment.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        let into = self.address(at, wide(bytes.len())).as_ptr();
        // SAFETY: `address` checked the target; `bytes` is borrowed and nothing borrowed lies in a mapping.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), into, bytes.len()) };
    }

    /// Copies bytes of another mapping, or of this one, into the segment.
    pub(crate) fn copy(&self, at: u64, source: &Self, from: u64, len: u64) {
        let (into, bytes) = (self.address(at, len), source.memory(from, len));
        // SAFETY: `address` checked both ranges; they may overlap.
        unsafe { ptr::copy(bytes.ptr.as_ptr(), into.as_ptr(), bytes.len) };
    }

    fn zero(&self, at: u64, len: u64) {
        let into = self.memory(at, len);
        // SAFETY: `address` checked the range.
        unsafe { into.ptr.write_bytes(0, into.len) };
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`; `Memory` of it is documented to end with the transport.
        let unmapped = unsafe { munmap(self.base.cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()), "a mapping can be unmapped");
    }
}

/// The file of an own segment. It has no name: it ends with the last process that holds or maps it.
#[derive(Debug)]
pub(crate) struct File(OwnedFd);

impl File {
    /// Makes and maps a segment of `capacity` bytes, or of half of that, and so on, when the system refuses so much;
    /// but of at least `floor`. Without a `capacity` it is 64 GiB.
    ///
    /// That is far more than is used, so that a segment is mapped once, by each process, and never grows: pages exist
    /// when they are touched, until they are discarded.
    pub(crate) fn create(capacity: Option<u64>, floor: u64) -> Result<(Self, Map)> {
        let mut len = capacity.unwrap_or(DEFAULT_CAPACITY).min(limits()).max(floor);
        loop {
            len = len.next_multiple_of(PAGE);
            match Self::sized(len) {
                Err(Error::System { source, .. })
                    if source.raw_os_error() == Some(Errno::ENOMEM as i32) && len / 2 >= floor =>
                {
                    len /= 2;
                }
                other => return other,
            }
        }
    }

    fn sized(len: u64) -> Result<(Self, Map)> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = memfd_create("dure", flags).map_err(system("memfd_create"))?;
        let size = i64::try_from(len).map_err(|_| Errno::EFBIG).map_err(system("ftruncate"))?;
        ftruncate(&file, size).map_err(system("ftruncate"))?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(system("fcntl"))?;
        let map = Map::new(file.as_fd(), len)?;
        Ok((Self(file), map))
    }

    #[cfg(test)]
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Makes bytes of the segment zero, and gives whole pages back to the system.
    pub(crate) fn discard(&self, map: &Map, at: u64, len: u64) {
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let range = i64::try_from(at).ok().zip(i64::try_from(len).ok());
        let (at_signed, len_signed) = range.expect("the size of a file is signed");
        if len < PAGE || fallocate(&self.0, punch, at_signed, len_signed).is_err() {
            map.zero(at, len);
        }
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The most that the limits of this process allow. The limit on file sizes is looked at beforehand, because the system
/// answers its breach with a signal that kills.
fn limits() -> u64 {
    let soft = |resource| getrlimit(resource).map_or(RLIM_INFINITY, |(soft, _)| soft);
    let space = soft(Resource::RLIMIT_AS);
    let space = if space == RLIM_INFINITY { space } else { space / PART_OF_ADDRESS_SPACE };
    soft(Resource::RLIMIT_FSIZE).min(space).min(i64::MAX.unsigned_abs())
}

/// Takes a descriptor that a system call has just made for us.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass what `accept4` and `recvmsg` returned, once: it is open and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
