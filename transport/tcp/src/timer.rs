//! A deadline that can be slept on beside sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Readable from the instant that was set, until another one is.
#[derive(Debug)]
pub(crate) struct Timer {
    descriptor: TimerFd,
    at: Option<Instant>,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self { descriptor: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?, at: None })
    }

    /// Sets the instant; `None` for never. Costs a system call only when it changes.
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        if at == self.at {
            return;
        }
        // Setting a timer, and clearing it too, forgets that the earlier one ran out (timerfd_create(2)).
        let done = match at {
            None => self.descriptor.unset(),
            Some(at) => {
                // A duration of zero would disarm the timer.
                let left = at
                    .saturating_duration_since(Instant::now())
                    .max(std::time::Duration::from_nanos(1));
                self.descriptor.set(
                    Expiration::OneShot(TimeSpec::from_duration(left)),
                    TimerSetTimeFlags::empty(),
                )
            }
        };
        done.expect("a timer takes any time that is not negative");
        self.at = at;
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
