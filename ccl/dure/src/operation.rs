//! An operation: what a caller waits for.

#![allow(
    clippy::disallowed_types,
    reason = "a waiter is registered once it has nothing better to do than to sleep"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use dure_device::plugin::Joined;

use crate::error::Result;

/// An operation's place in a stream of a device's maker: it begins when the stream has come there, and the stream goes on when it is
/// done.
#[derive(Debug)]
pub(crate) struct Place {
    stream: Arc<Mutex<Joined>>,
    /// Complete when the stream has come here.
    before: u64,
    /// What the stream waits for.
    hold: u64,
}

impl Place {
    /// The place behind all that the stream holds now.
    pub(crate) fn take(stream: &Arc<Mutex<Joined>>) -> dure_device::Result<Self> {
        let (before, hold) = stream.lock().unwrap_or_else(PoisonError::into_inner).part()?;
        Ok(Self { stream: Arc::clone(stream), before, hold })
    }

    /// Whether the stream has come here. On a device that failed it has: the work says so.
    fn is_reached(&self) -> bool {
        let completed = self.stream.lock().unwrap_or_else(PoisonError::into_inner).completed();
        !completed.is_ok_and(|completed| completed < self.before)
    }

    fn leave(&self) {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).release(self.hold);
    }
}

impl Drop for Place {
    /// An operation that nobody finishes holds no stream up.
    fn drop(&mut self) {
        self.leave();
    }
}

/// One batch's completion: its result, and who waits for it.
#[derive(Debug)]
pub struct Operation {
    /// The operation that must be done before this one may start (the previous one of its stream).
    after: OnceLock<Arc<Self>>,
    /// Where it stands in a stream of a device's maker.
    place: Option<Place>,
    result: OnceLock<Result<()>>,
    done: AtomicBool,
    waiters: Mutex<Vec<Thread>>,
}

impl Operation {
    pub(crate) fn new(after: Option<Arc<Self>>) -> Arc<Self> {
        Self::at(after, None)
    }

    pub(crate) fn at(after: Option<Arc<Self>>, place: Option<Place>) -> Arc<Self> {
        let operation = Self {
            after: OnceLock::new(),
            place,
            result: OnceLock::new(),
            done: AtomicBool::new(false),
            waiters: Mutex::new(Vec::new()),
        };
        if let Some(after) = after.filter(|o| !o.is_done()) {
            operation.after.get_or_init(|| after);
        }
        Arc::new(operation)
    }

    /// Whether it is done, well or not.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Its result, once it is done.
    pub fn result(&self) -> Option<Result<()>> {
        if self.is_done() { self.result.get().cloned() } else { None }
    }

    /// Whether the operation before it is done, and the stream of a device's maker has come to it. One that failed holds nobody
    /// back: its communicator says so itself.
    pub(crate) fn may_start(&self) -> bool {
        self.after.get().is_none_or(|after| after.is_done())
            && self.place.as_ref().is_none_or(Place::is_reached)
    }

    pub(crate) fn finish(&self, result: Result<()>) {
        if self.result.set(result).is_ok() {
            self.done.store(true, Ordering::Release);
            if let Some(place) = &self.place {
                place.leave();
            }
            self.wake();
        }
    }

    /// Unparks whoever has registered.
    pub(crate) fn wake(&self) {
        for thread in self.waiters.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            thread.unpark();
        }
    }

    /// Has the current thread unparked when the operation is done.
    pub(crate) fn register_waiter(&self) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let me = std::thread::current();
        if !waiters.iter().any(|thread| thread.id() == me.id()) {
            waiters.push(me);
        }
    }
}
