//! Doorbells: descriptors that become readable when there may be something to do.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::{Error, Result};

/// Several doorbells that ring as one.
#[derive(Debug)]
pub(crate) struct Doorbells {
    epoll: Epoll,
}

impl Doorbells {
    /// # Safety
    /// The transports of the doorbells are alive.
    pub(crate) unsafe fn new(doorbells: &[RawFd]) -> Result<Self> {
        let failed = |call| move |errno: Errno| Error::System { call, source: errno.into() };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create1"))?;
        for doorbell in doorbells {
            // SAFETY: the caller's promise; the kernel drops the entry with the descriptor.
            let fd = unsafe { BorrowedFd::borrow_raw(*doorbell) };
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(failed("epoll_ctl"))?;
        }
        Ok(Self { epoll })
    }

    /// Readable while one of them is: entries are level-triggered, and nobody takes events out.
    pub(crate) fn doorbell(&self) -> RawFd {
        self.epoll.0.as_raw_fd()
    }
}

/// Whether a doorbell is readable now, or within `milliseconds`.
///
/// # Safety
/// The transport of the doorbell is alive.
pub(crate) unsafe fn rings(doorbell: RawFd, milliseconds: u8) -> bool {
    // SAFETY: the caller's promise; it owns the descriptor.
    let fd = unsafe { BorrowedFd::borrow_raw(doorbell) };
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(milliseconds)) {
        Ok(ready) => ready > 0,
        Err(Errno::EINTR) => false,
        Err(errno) => panic!("poll(2) of a doorbell: {errno}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write, pipe};

    use super::*;

    #[test]
    fn several_doorbells_ring_as_one() {
        let ends = [pipe().unwrap(), pipe().unwrap()];
        // SAFETY: the pipes are open until the end of the test.
        let all =
            unsafe { Doorbells::new(&[ends[0].0.as_raw_fd(), ends[1].0.as_raw_fd()]) }.unwrap();
        // SAFETY: as above.
        let rings = || unsafe { rings(all.doorbell(), 0) };
        assert!(!rings());
        for (mut read, mut write) in ends {
            write.write_all(b"x").unwrap();
            assert!(rings());
            read.read_exact(&mut [0]).unwrap();
            assert!(!rings());
        }
    }
}
