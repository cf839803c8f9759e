//! A call on a communicator: from the arguments that calls have in common to a request.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use dure::{
    Action, Communicator, Dtype, Error, Memory, Operation, ReduceOp, Request, Result, Stream,
};

use super::pointer::{CommPtr, StreamPtr};
use crate::boundary::boundary_again;
use crate::comm::Comm;
use crate::{group, number, operation};

/// A call that is being put together.
pub(super) struct Call<'c> {
    comm: &'c Arc<Comm>,
    communicator: &'c Communicator,
    stream: StreamPtr,
    in_group: bool,
}

/// Makes the call that `body` puts together, and gives to [`Call::make`].
#[inline(always)]
pub(super) fn call(
    comm: CommPtr,
    stream: StreamPtr,
    body: impl FnOnce(&Call<'_>) -> Result<()>,
) -> c_int {
    boundary_again(
        || comm.find(),
        |comm, in_group| body(&Call { comm, communicator: comm.open()?, stream, in_group }),
    )
}

impl Call<'_> {
    /// Makes it, or adds it to the group or the stream.
    #[inline(always)]
    pub(super) fn make(&self, request: Request) -> Result<()> {
        if self.stream.is_null() && !self.in_group {
            return finish(self.communicator, &request);
        }
        let stream =
            if self.stream.is_null() { None } else { Some(self.comm.stream(self.stream)?) };
        group::submit(self.comm, stream, request)
    }

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
    #[inline(always)]
    pub(super) fn op(&self, number: c_int, dtype: Dtype) -> Result<ReduceOp> {
        match operation::built_in(number, dtype) {
            Some(op) => op,
            None => self.comm.operations().find(number, dtype),
        }
    }

    /// Memory that is read; `bytes` long. Where there is nothing to read the pointer does not matter.
    #[inline(always)]
    pub(super) fn reads(&self, argument: &str, ptr: *const c_void, bytes: usize) -> Result<Memory> {
        self.writes(argument, ptr.cast_mut(), bytes)
    }

    /// Memory that is written.
    #[inline(always)]
    pub(super) fn writes(&self, argument: &str, ptr: *mut c_void, bytes: usize) -> Result<Memory> {
        if bytes == 0 {
            return Ok(Memory::EMPTY);
        }
        if ptr.is_null() || ptr.addr().checked_add(bytes).is_none() {
            return Err(no_memory(argument, ptr, bytes));
        }
        Ok(self.communicator.locate(ptr.cast(), bytes))
    }
}

/// Why there is no memory at an address.
#[cold]
fn no_memory(argument: &str, ptr: *mut c_void, bytes: usize) -> Error {
    Error::invalid_argument(if ptr.is_null() {
        format!("{argument} is NULL")
    } else {
        format!("{argument} of {bytes} bytes goes beyond the address space")
    })
}

/// A request in which nothing is combined.
pub(super) fn plain(action: Action, input: Memory, output: Memory, dtype: Dtype) -> Request {
    Request { action, input, output, dtype, op: ReduceOp::Sum }
}

/// Makes a request that was put together from arguments, and waits until it is done.
fn finish(on: &Communicator, request: &Request) -> Result<()> {
    // SAFETY: the caller in C promised that the buffers stay, and are used by nobody else, until the call has returned.
    unsafe { on.call(request) }
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
