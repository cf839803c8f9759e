//! A call on a communicator: from the arguments that calls have in common to a request.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use dure::{
    Action, Communicator, Dtype, Error, Memory, Operation, ReduceOp, Request, Result, Stream,
};

use super::pointer::{CommPtr, StreamPtr};
use crate::boundary::boundary_on;
use crate::comm::Comm;
use crate::{group, number};

/// A call that is being put together.
pub(super) struct Call<'c> {
    comm: &'c Comm,
    communicator: &'c Communicator,
}

/// Makes the call that `request` puts together.
pub(super) fn call(
    comm: CommPtr,
    stream: StreamPtr,
    request: impl FnOnce(&Call<'_>) -> Result<Request>,
) -> c_int {
    boundary_on(
        || comm.get(),
        |comm| {
            let stream = if stream.is_null() { None } else { Some(stream.get()?) };
            let request = request(&Call { comm, communicator: comm.open()? })?;
            group::submit(comm, stream, request)
        },
    )
}

impl Call<'_> {
    /// Number of ranks.
    pub(super) fn size(&self) -> u32 {
        self.communicator.size()
    }

    /// This rank.
    pub(super) fn me(&self) -> u32 {
        self.communicator.rank()
    }

    /// A rank of the communicator.
    pub(super) fn rank(&self, argument: &str, number: c_int) -> Result<u32> {
        number::rank(argument, number, self.size())
    }

    /// The reduction of a number.
    pub(super) fn op(&self, number: c_int, dtype: Dtype) -> Result<ReduceOp> {
        self.comm.operations().find(number, dtype)
    }

    /// Memory that is read; `bytes` long. Where there is nothing to read the pointer does not matter.
    pub(super) fn reads(&self, argument: &str, ptr: *const c_void, bytes: usize) -> Result<Memory> {
        self.writes(argument, ptr.cast_mut(), bytes)
    }

    /// Memory that is written.
    pub(super) fn writes(&self, argument: &str, ptr: *mut c_void, bytes: usize) -> Result<Memory> {
        if bytes == 0 {
            return Ok(Memory::EMPTY);
        }
        if ptr.is_null() {
            return Err(Error::invalid_argument(format!("{argument} is NULL")));
        }
        if ptr.addr().checked_add(bytes).is_none() {
            return Err(Error::invalid_argument(format!(
                "{argument} of {bytes} bytes goes beyond the address space"
            )));
        }
        Ok(self.communicator.locate(ptr.cast(), bytes))
    }
}

/// A request in which nothing is combined.
pub(super) fn plain(action: Action, input: Memory, output: Memory, dtype: Dtype) -> Request {
    Request { action, input, output, dtype, op: ReduceOp::Sum }
}

/// Starts requests that were put together from arguments.
///
/// # Errors
/// As [`Communicator::enqueue`].
pub(crate) fn enqueue(on: &Communicator, requests: Vec<Request>) -> Result<Arc<Operation>> {
    // SAFETY: the caller in C promised that the buffers stay, and are used by nobody else, until the call has returned.
    unsafe { on.enqueue(requests, None) }
}

/// Starts requests behind what a stream holds.
///
/// # Errors
/// As [`Stream::enqueue`].
pub(crate) fn enqueue_on(stream: &Stream, on: &Communicator, requests: Vec<Request>) -> Result<()> {
    // SAFETY: the caller in C promised that the buffers stay, and are used by nobody else, until the stream is past this.
    unsafe { stream.enqueue(on, requests) }.map(drop)
}
