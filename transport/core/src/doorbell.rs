//! Doorbells: descriptors that become readable when there may be something to do.

use std::os::fd::{BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Borrows the doorbell of a transport.
///
/// # Safety
/// The transport, which owns the descriptor, outlives what is returned.
unsafe fn borrow<'a>(doorbell: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the caller promises that it stays open, and transports give no negative descriptors.
    unsafe { BorrowedFd::borrow_raw(doorbell) }
}

/// Whether a doorbell is readable now, or within `milliseconds`.
///
/// # Safety
/// The transport of the doorbell is alive.
pub(crate) unsafe fn rings(doorbell: RawFd, milliseconds: u8) -> bool {
    // SAFETY: the caller's promise.
    let fd = unsafe { borrow(doorbell) };
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(milliseconds)) {
        Ok(ready) => ready > 0,
        Err(Errno::EINTR) => false,
        Err(errno) => panic!("poll(2) of a doorbell: {errno}"),
    }
}
