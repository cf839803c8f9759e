//! Streams: calls in order, on any communicators, that nobody waits for until they are asked about.

#![allow(clippy::disallowed_types, reason = "taken once a call, by the thread that makes it")]

use std::sync::{Arc, Mutex, PoisonError};

use crate::call::Request;
use crate::communicator::{Communicator, Inner};
use crate::error::Result;
use crate::operation::Operation;

/// A sequence of calls: each starts when the one before it is done.
#[derive(Debug, Default)]
pub struct Stream {
    last: Mutex<Option<(Arc<Inner>, Arc<Operation>)>>,
}

impl Stream {
    /// A stream without calls.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a group of calls on a communicator behind the calls before it, and returns at once.
    ///
    /// # Errors
    /// As [`Communicator::enqueue`].
    ///
    /// # Safety
    /// As [`Communicator::enqueue`].
    #[allow(unsafe_code, reason = "buffers are raw memory until the operation is done")]
    pub unsafe fn enqueue(
        &self,
        on: &Communicator,
        requests: Vec<Request>,
    ) -> Result<Arc<Operation>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let after = last.as_ref().map(|(_, operation)| Arc::clone(operation));
        // SAFETY: this function's contract.
        let operation = unsafe { on.enqueue(requests, after) }?;
        on.progress_in_background()?;
        *last = Some((Arc::clone(&on.inner), Arc::clone(&operation)));
        Ok(operation)
    }

    /// Whether every call so far is done.
    pub fn is_idle(&self) -> bool {
        self.last().is_none_or(|(_, operation)| operation.is_done())
    }

    /// Waits for every call so far.
    ///
    /// # Errors
    /// The error of the last call. (A call that failed ended its communicator, and so failed those after it on it.)
    pub fn synchronize(&self) -> Result<()> {
        self.last().map_or(Ok(()), |(inner, operation)| inner.wait(&operation))
    }

    fn last(&self) -> Option<(Arc<Inner>, Arc<Operation>)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
