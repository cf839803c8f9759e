//! What a rank sleeps on where no host can wake another: a timer, after which it looks again.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use dure_transport::Result;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::system;

/// Of the first nap after something has happened.
const SHORTEST: Duration = Duration::from_micros(50);
/// Of a nap after many.
const LONGEST: Duration = Duration::from_millis(1);

/// A timer whose naps grow as long as nothing happens.
#[derive(Debug)]
pub(super) struct Timer {
    fd: TimerFd,
    nap: Duration,
    running: bool,
    /// Polls since the last nap.
    polls: u32,
}

/// Who polls so often between two naps has had something to do: more may come soon.
const BUSY: u32 = 16;

impl Timer {
    pub(super) fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(system("timerfd_create"))?;
        Ok(Self { fd, nap: SHORTEST, running: false, polls: 0 })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }

    /// Something has happened: more may soon.
    pub(super) fn shorten(&mut self) {
        self.nap = SHORTEST;
    }

    /// Begins a nap. False when the system refuses: then there is no sleep.
    pub(super) fn start(&mut self) -> bool {
        if self.polls > BUSY {
            self.shorten();
        }
        self.polls = 0;
        let expiration = Expiration::OneShot(TimeSpec::from_duration(self.nap));
        self.running = self.fd.set(expiration, TimerSetTimeFlags::empty()).is_ok();
        self.nap = (self.nap * 2).min(LONGEST);
        self.running
    }

    /// Ends a nap, so that the descriptor is not readable any more. True when there was one.
    pub(super) fn stop(&mut self) -> bool {
        self.polls = self.polls.saturating_add(1);
        if !std::mem::take(&mut self.running) {
            return false;
        }
        let stopped = self.fd.unset();
        debug_assert_eq!(stopped, Ok(()), "a timer can be stopped");
        true
    }
}
