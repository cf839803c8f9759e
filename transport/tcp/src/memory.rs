//! The only place of this crate that dereferences memory of regions, and hands addresses to the kernel.
//!
//! Such memory is never a slice here: bytes are copied, sent and received through raw pointers.

#![expect(unsafe_code, reason = "system calls on memory that is not Rust's")]

use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use dure_device::{Memory, Space};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Where a system call takes an address that may be left out. The two calls of every small message are made without
/// libc, whose `send` and `recv` are points where a thread can be cancelled: that costs 20 ns each.
const NO_ADDRESS: usize = 0;

/// Host memory that somebody promised to keep mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes(Memory);

impl Bytes {
    /// No bytes.
    pub(crate) const EMPTY: Self = Self(Memory::EMPTY);

    /// # Safety
    /// As long as this, a part or a copy of it is used, `memory` is mapped, no Rust reference into it is alive, and no
    /// other thread writes what is sent from it or touches what is received into it.
    ///
    /// # Panics
    /// When the memory is not the host's.
    pub(crate) unsafe fn new(memory: Memory) -> Self {
        assert_eq!(memory.space, Space::Host, "the CPU addresses host memory only");
        Self(memory)
    }

    pub(crate) fn len(self) -> usize {
        self.0.len
    }

    /// The `len` bytes from `offset`.
    ///
    /// # Panics
    /// When they are not inside.
    pub(crate) fn part(self, offset: usize, len: usize) -> Self {
        Self(self.0.part(offset, len))
    }

    /// Without the first `count` bytes.
    pub(crate) fn skip(self, count: usize) -> Self {
        self.part(count, self.len() - count)
    }

    /// Copies `bytes` to the beginning.
    pub(crate) fn write(self, bytes: &[u8]) {
        let to = self.0.part(0, bytes.len());
        // SAFETY: `part` checked the bounds, and `new` had mapped memory promised that no reference, so `bytes`
        // neither, points into.
        unsafe { to.ptr.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    /// Copies these bytes into a slice of their length.
    ///
    /// # Panics
    /// When the lengths differ.
    pub(crate) fn read(self, into: &mut [u8]) {
        assert_eq!(into.len(), self.len(), "a copy is as long as what is copied");
        // SAFETY: `new` had mapped memory promised that no reference, so `into` neither, points into, and the lengths
        // are equal.
        unsafe { self.0.ptr.copy_to_nonoverlapping(NonNull::from(into).cast(), self.len()) };
    }

    /// A copy of these bytes.
    pub(crate) fn keep(self) -> io::Result<Pages> {
        let pages = Pages::new(self.len())?;
        // SAFETY: both were promised to be mapped, have the same length, and the pages are new, so they are apart.
        unsafe { pages.0.ptr.copy_from_nonoverlapping(self.0.ptr, self.len()) };
        Ok(pages)
    }

    /// Receives as much as is there and fits, first into this memory, then into `rest`: one system call for the end of
    /// one frame and the beginning of the next.
    pub(crate) fn receive(self, fd: BorrowedFd<'_>, rest: &mut [u8]) -> io::Result<usize> {
        let mut iov = [
            libc::iovec { iov_base: self.0.ptr.as_ptr().cast(), iov_len: self.len() },
            libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() },
        ];
        let mut message = message(&mut iov);
        // SAFETY: the first range was promised to be mapped and not otherwise in use, the second is borrowed.
        result(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) })
    }
}

/// Receives as much as is there and fits.
pub(crate) fn receive(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    let (fd, ptr, len) = (fd.as_raw_fd(), into.as_mut_ptr(), into.len());
    // SAFETY: the range is borrowed. The arguments are those of recvfrom(2), without an address.
    let got = unsafe {
        libc::syscall(libc::SYS_recvfrom, fd, ptr, len, libc::MSG_DONTWAIT, NO_ADDRESS, NO_ADDRESS)
    };
    result(got)
}

/// Zeroed pages of this process, given back when dropped.
#[derive(Debug)]
pub(crate) struct Pages(Memory);

impl Pages {
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let Some(size) = NonZeroUsize::new(len) else { return Ok(Self(Memory::EMPTY)) };
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice changes no existing memory.
        let ptr = unsafe { mmap_anonymous(None, size, access, MapFlags::MAP_PRIVATE) }?;
        Ok(Self(Memory { ptr: ptr.cast(), len, space: Space::Host }))
    }

    pub(crate) fn memory(&self) -> Memory {
        self.0
    }

    /// The bytes, for as long as the owner keeps the pages.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes(self.0)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.0.len > 0 {
            // SAFETY: `new` mapped exactly this, and the owner drops it after the last use of its bytes.
            unsafe { munmap(self.0.ptr.cast(), self.0.len) }
                .expect("a mapping of this process can be unmapped");
        }
    }
}

/// A list of up to `N` byte ranges that are sent by one system call.
pub(crate) struct Gather<'a, const N: usize> {
    iov: [libc::iovec; N],
    count: usize,
    bytes: usize,
    slices: PhantomData<&'a [u8]>,
}

impl<'a, const N: usize> Gather<'a, N> {
    pub(crate) fn new() -> Self {
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self { iov: [none; N], count: 0, bytes: 0, slices: PhantomData }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count == N
    }

    /// How many bytes the list has.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push_slice(&mut self, slice: &'a [u8]) {
        // The kernel reads what the list of a send names; that `iov_base` is mutable is for receives.
        self.push_range(slice.as_ptr().cast_mut(), slice.len());
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.push_range(bytes.0.ptr.as_ptr(), bytes.len());
    }

    fn push_range(&mut self, ptr: *mut u8, len: usize) {
        self.iov[self.count] = libc::iovec { iov_base: ptr.cast(), iov_len: len };
        self.count += 1;
        self.bytes += len;
    }

    /// Sends as much as the socket takes without waiting.
    pub(crate) fn send(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        if let [one] = self.iov[..self.count] {
            let (fd, libc::iovec { iov_base, iov_len }) = (fd.as_raw_fd(), one);
            // SAFETY: `push_slice` borrowed the range, or `Bytes::new` had it promised to be mapped and still. The
            // arguments are those of sendto(2), without an address.
            let sent = unsafe {
                libc::syscall(libc::SYS_sendto, fd, iov_base, iov_len, FLAGS, NO_ADDRESS, 0)
            };
            return result(sent);
        }
        let message = message(&mut self.iov[..self.count]);
        // SAFETY: as above, for each range of the list.
        result(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, FLAGS) })
    }
}

/// Sets an option of the TCP level that takes a number.
pub(crate) fn set_tcp_option(fd: BorrowedFd<'_>, option: i32, value: i32) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<i32>()).expect("4 fits");
    // SAFETY: the kernel reads `len` bytes of `value`, which outlives the call.
    let code = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), len)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn message(iov: &mut [libc::iovec]) -> libc::msghdr {
    libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: iov.as_mut_ptr(),
        msg_iovlen: iov.len(),
        msg_control: std::ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}

/// A count, or the error that the system call left behind.
fn result<N>(count: N) -> io::Result<usize>
where
    usize: TryFrom<N>,
{
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_and_hold_what_is_written() {
        let pages = Pages::new(5000).unwrap();
        pages.bytes().skip(4990).write(b"dure");
        let kept = pages.bytes().part(4988, 8).keep().unwrap();
        // SAFETY: the pages are alive, and nobody writes them.
        let bytes = unsafe { std::slice::from_raw_parts(kept.memory().ptr.as_ptr(), 8) };
        assert_eq!(bytes, b"\0\0dure\0\0");
    }

    #[test]
    #[should_panic(expected = "part 0..4 of memory of 3 bytes")]
    fn nothing_is_written_past_the_end() {
        let pages = Pages::new(4096).unwrap();
        pages.bytes().part(4093, 3).write(b"dure");
    }
}
