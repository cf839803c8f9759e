//! The one fatal error of a communicator, and the bell that wakes whoever sleeps when it comes.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};

/// The first fatal error, kept for ever. Asking whether there is one costs a load.
#[derive(Debug)]
pub(crate) struct Fault {
    /// True once `first` is set. A separate flag, so that the data path reads one byte.
    raised: AtomicBool,
    first: OnceLock<Error>,
    /// `None` where whoever sleeps looks for itself now and then: a rank without peers waits for its devices only.
    bell: Option<EventFd>,
}

impl Fault {
    /// No fault yet.
    ///
    /// # Errors
    /// `System` when there is no descriptor left.
    pub(crate) fn new() -> Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|source| Error::system("eventfd").because(source))?;
        Ok(Self { bell: Some(bell), ..Self::without_bell() })
    }

    /// No fault yet, and nothing to sleep on.
    pub(crate) const fn without_bell() -> Self {
        Self { raised: AtomicBool::new(false), first: OnceLock::new(), bell: None }
    }

    /// Whether a fatal error has come.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// The fatal error, if one has come.
    pub(crate) fn error(&self) -> Option<&Error> {
        if self.is_raised() { self.first.get() } else { None }
    }

    /// The fatal error as a result.
    ///
    /// # Errors
    /// A clone of the first fatal error.
    pub(crate) fn check(&self) -> Result<()> {
        self.error().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Records a fatal error, unless there is one already, and rings the bell. True when it was the first.
    ///
    /// It changes this rank only; `Control::raise` also tells the others.
    pub(crate) fn record(&self, error: Error) -> bool {
        let first = self.first.set(error).is_ok();
        if first {
            self.raised.store(true, Ordering::Release);
            // An event descriptor that only ever counts to one cannot be full.
            let _ = self.bell.as_ref().map(|bell| bell.write(1));
        }
        first
    }

    /// Readable from the moment when a fatal error has come, for ever: nobody reads it.
    pub(crate) fn doorbell(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(EventFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn readable(fault: &Fault) -> bool {
        let bell = fault.doorbell().unwrap();
        poll(&mut [PollFd::new(bell, PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn first_error_stays_and_rings() {
        let fault = Fault::new().unwrap();
        assert!(!fault.is_raised() && !readable(&fault));
        fault.check().unwrap();
        assert!(fault.record(Error::remote("first")));
        assert!(!fault.record(Error::timeout("second")));
        assert_eq!(fault.check().unwrap_err().what, "first");
        assert!(readable(&fault) && readable(&fault));
    }
}
