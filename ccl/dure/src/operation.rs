//! An operation: what a caller waits for.

#![allow(
    clippy::disallowed_types,
    reason = "a waiter is registered once it has nothing better to do than to sleep"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use crate::error::Result;

/// One batch's completion: its result, and who waits for it.
#[derive(Debug)]
pub struct Operation {
    /// The operation that must be done before this one may start (the previous one of its stream).
    after: OnceLock<Arc<Self>>,
    result: OnceLock<Result<()>>,
    done: AtomicBool,
    waiters: Mutex<Vec<Thread>>,
}

impl Operation {
    pub(crate) fn new(after: Option<Arc<Self>>) -> Arc<Self> {
        let operation = Self {
            after: OnceLock::new(),
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

    /// Whether the operation before it is done. One that failed holds nobody back: its communicator says so itself.
    pub(crate) fn may_start(&self) -> bool {
        self.after.get().is_none_or(|after| after.is_done())
    }

    pub(crate) fn finish(&self, result: Result<()>) {
        if self.result.set(result).is_ok() {
            self.done.store(true, Ordering::Release);
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
