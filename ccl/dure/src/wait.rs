//! Waiting: for a call of one's own, or for an operation that any thread may move on.
//!
//! Whoever waits turns the engine. A wait ends when the operation is done, when the communicator has a fault, or when
//! nothing has moved for [`crate::Config::timeout`] ([`crate::stall`]). How long it polls, yields and sleeps meanwhile is
//! in [`crate::pace`].

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::call::Request;
use crate::communicator::Inner;
use crate::engine::{Engine, Turn};
use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::pace::Pace;
use crate::turnstile::Inside;

/// Longest sleep. Everything that matters rings a bell; this bounds the harm if a bell were missed.
const NAP: Duration = Duration::from_millis(20);
/// Longest sleep of a rank with devices, which ring no bell.
const NAP_BESIDE_DEVICES: Duration = Duration::from_micros(100);
/// Until something rings.
pub(crate) const FOREVER: Duration = Duration::from_secs(3600);

impl Inner {
    /// Makes a call and waits until it is done.
    ///
    /// One that was made before, on a communicator that has nothing else to do, is begun in place and seen through
    /// without ever leaving the engine to others, as long as the wait is short.
    ///
    /// # Errors
    /// As [`Inner::enqueue`] and [`Inner::wait`].
    pub(crate) fn call(&self, request: &Request) -> Result<()> {
        if let Some(mut engine) = self.try_engine()
            && self.submitted.is_empty()
            && !self.fault().is_raised()
            && let Some(begun) = engine.begin_known(request, self.record())
        {
            return match begun {
                Ok(()) => self.see_through(engine),
                Err(error) => self.go_on(engine, Some(error), Pace::new(&self.patience)),
            };
        }
        let operation = self.enqueue(vec![request.clone()], Operation::new(None))?;
        self.wait(&operation)
    }

    /// Polls until the call that was begun is done.
    #[inline]
    fn see_through(&self, mut engine: Inside<'_, Engine>) -> Result<()> {
        let mut pace = Pace::new(&self.patience);
        loop {
            match engine.executor.poll() {
                Ok(_) if engine.executor.is_idle() => {
                    engine.end_known(self.record());
                    drop(engine);
                    if !self.submitted.is_empty() {
                        self.hand_over();
                    }
                    return Ok(());
                }
                Ok(true) => pace.moved(),
                Ok(false) if self.fault().is_raised() || !pace.rest() => {
                    return self.go_on(engine, None, pace);
                }
                Ok(false) => {}
                Err(error) => return self.go_on(engine, Some(error), pace),
            }
        }
    }

    /// It is time to sleep, or something went wrong: the call that was begun goes on like one that was queued.
    #[cold]
    fn go_on(
        &self,
        mut engine: Inside<'_, Engine>,
        failure: Option<dure_exec::Error>,
        pace: Pace<'_>,
    ) -> Result<()> {
        let operation = Operation::new(None);
        engine.adopt(Arc::clone(&operation));
        match failure {
            Some(error) => self.fail(engine, &error),
            None => drop(engine),
        }
        self.wait_on(&operation, pace)
    }

    /// Waits for an operation, turning the engine meanwhile.
    ///
    /// # Errors
    /// The operation's error.
    pub(crate) fn wait(&self, operation: &Operation) -> Result<()> {
        self.wait_on(operation, Pace::new(&self.patience))
    }

    fn wait_on(&self, operation: &Operation, mut pace: Pace<'_>) -> Result<()> {
        loop {
            if let Some(result) = operation.result() {
                self.hand_over();
                return result;
            }
            match self.turn() {
                Turn::Moved => pace.moved(),
                // Whoever had it panicked.
                Turn::Idle if !operation.is_done() => return Err(self.lost()),
                Turn::Idle => {}
                Turn::Stuck if pace.rest() => {}
                Turn::Stuck => {
                    self.attend_to_stall();
                    operation.register_waiter();
                    if operation.result().is_none() {
                        self.park(self.nap());
                    }
                }
            }
        }
    }

    /// The error of an operation that is in no engine any more.
    fn lost(&self) -> Error {
        let internal = || Error::internal("a call was lost").on(self.rank);
        self.fault().error().cloned().unwrap_or_else(internal)
    }

    /// Whoever turned the engine goes. A thread that sleeps until its own operation is done takes over.
    fn hand_over(&self) {
        if let Some(mut engine) = self.try_engine() {
            self.take_submitted(&mut engine);
            engine.wake_next();
        }
    }

    fn take_submitted(&self, engine: &mut Engine) {
        while let Some(batch) = self.submitted.pop() {
            engine.push(batch);
        }
    }

    /// Turns the engine once, unless another thread does. A failure ends the communicator, and with it all operations.
    pub(crate) fn turn(&self) -> Turn {
        let Some(mut engine) = self.try_engine() else { return Turn::Stuck };
        self.take_submitted(&mut engine);
        if let Some(error) = self.fault().error() {
            self.give_up(&mut engine, error);
            return Turn::Idle;
        }
        match engine.turn(self.record()) {
            Ok(Turn::Moved) => {
                if engine.stall.clear() {
                    self.record().set_waiting(Vec::new());
                }
                Turn::Moved
            }
            Ok(turn) => turn,
            Err(error) => {
                self.fail(engine, &error);
                Turn::Moved
            }
        }
    }

    /// How long to sleep at most.
    pub(crate) fn nap(&self) -> Duration {
        if self.devices.is_empty() { NAP } else { NAP_BESIDE_DEVICES }
    }

    /// Sleeps until something may have happened, at most `at_most`.
    fn park(&self, at_most: Duration) {
        if self.try_engine().is_none() {
            // Another thread turns the engine; it wakes us when the operation is done.
            std::thread::park_timeout(at_most);
        } else if let Some(bells) = self.arm() {
            sleep(bells.into_iter(), at_most);
        }
    }

    /// Prepares to sleep: what to sleep on, or `None` when there is something to do already.
    pub(crate) fn arm(&self) -> Option<Vec<BorrowedFd<'_>>> {
        let mut engine = self.try_engine()?;
        let transport = engine.executor.transport();
        if !transport.arm() {
            return None;
        }
        // SAFETY: the engine, and with it the transport and its doorbell, lives as long as `self`.
        #[allow(unsafe_code, reason = "a descriptor of the transport, borrowed while we sleep")]
        let doorbell = transport.doorbell().map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
        Some(doorbell.into_iter().chain(self.fault().doorbell()).collect())
    }
}

/// Sleeps until one of the descriptors is readable.
pub(crate) fn sleep<'a>(bells: impl Iterator<Item = BorrowedFd<'a>>, at_most: Duration) {
    let mut fds: Vec<PollFd<'_>> = bells.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    // An interrupted or failed sleep is a short one: the caller looks for itself.
    let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(at_most)), None);
}
