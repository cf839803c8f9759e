//! Streams: calls in order, on any communicators, that nobody waits for until they are asked about.

#![allow(clippy::disallowed_types, reason = "taken once a call, by the thread that makes it")]

use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use dure_device::plugin::{Joined, PluginDevice};

use crate::call::Request;
use crate::communicator::{Communicator, Inner};
use crate::error::{Error, Result};
use crate::operation::{Operation, Place};

/// A sequence of calls: each starts when the one before it is done.
#[derive(Debug, Default)]
pub struct Stream {
    last: Mutex<Option<(Arc<Inner>, Arc<Operation>)>>,
    /// The stream of a device's maker whose order the calls keep.
    joined: Option<Arc<Mutex<Joined>>>,
}

impl Stream {
    /// A stream without calls.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stream whose calls keep the order of a stream of a device's maker, such as a `cudaStream_t`: each begins when all is done that
    /// was given to that before the call, and what is given to it later begins when the call is done.
    ///
    /// # Errors
    /// `Device` when the device has no streams that can be joined, or is gone.
    ///
    /// # Safety
    /// `native` is such a stream of this device, and is not ended before this one and its calls. (Null is the default stream.)
    #[allow(unsafe_code, reason = "a handle of another library's")]
    pub unsafe fn join(device: &PluginDevice, native: *mut c_void) -> Result<Self> {
        // SAFETY: this function's contract.
        let joined = unsafe { device.join(native) };
        let joined = joined.map_err(|error| Error::device("a stream to join").because(error))?;
        Ok(Self { last: Mutex::default(), joined: Some(Arc::new(Mutex::new(joined))) })
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
        let place = self.joined.as_ref().map(Place::take).transpose();
        let place = place.map_err(|error| Error::device("a stream's order").because(error))?;
        let operation = on.inner.enqueue(requests, Operation::at(after, place))?;
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
