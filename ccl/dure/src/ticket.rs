//! Calls that do not wait: the caller gives the buffers away, and the ticket gives them back.

use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use dure_device::Memory;
use dure_plan::{Collective, Rank};

use crate::call::{Action, Request};
use crate::communicator::{Communicator, Inner, Registration};
use crate::element::{Element, ReduceOp};
use crate::error::{Error, Result};
use crate::operation::Operation;

/// Host memory that the transports know: peers of the same host write it without a copy between. A slice of elements,
/// from [`Communicator::buffer`].
pub struct Buffer<T> {
    inner: Arc<Inner>,
    memory: Memory,
    registration: Registration,
    len: usize,
    elements: PhantomData<T>,
}

impl<T> Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

// The memory is the buffer's alone while no call is under way on it; during one, the ticket holds the buffer.
#[allow(unsafe_code, reason = "a slice over memory that the transport allocated")]
impl<T: Element> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the allocation holds `len` elements, was zeroed, and every bit pattern is an element; nobody writes it
        // while the buffer is not in a ticket.
        unsafe { std::slice::from_raw_parts(self.memory.ptr.as_ptr().cast(), self.len) }
    }
}

#[allow(unsafe_code, reason = "a slice over memory that the transport allocated")]
impl<T: Element> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`, and the borrow of the buffer is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.ptr.as_ptr().cast(), self.len) }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        self.inner.release(&self.registration);
    }
}

/// A call that is under way. [`Ticket::wait`] gives back what was given to the call. What a ticket holds is leaked when
/// the ticket is dropped before its call is done, or when the call failed: peers may still write it.
#[derive(Debug)]
pub struct Ticket<R> {
    inner: Arc<Inner>,
    operation: Arc<Operation>,
    held: Option<R>,
}

impl<R> Ticket<R> {
    /// Waits until the call is done.
    ///
    /// # Errors
    /// The call's error.
    pub fn wait(mut self) -> Result<R> {
        self.inner.wait(&self.operation)?;
        Ok(self.give_back())
    }

    /// The result, when the call is done; the ticket back when it is not.
    ///
    /// # Errors
    /// The ticket.
    pub fn poll(mut self) -> std::result::Result<Result<R>, Self> {
        self.inner.turn();
        match self.operation.result() {
            None => Err(self),
            Some(Err(error)) => Ok(Err(error)),
            Some(Ok(())) => Ok(Ok(self.give_back())),
        }
    }

    fn give_back(&mut self) -> R {
        self.held.take().expect("only functions that consume the ticket take it")
    }
}

impl<R> Drop for Ticket<R> {
    fn drop(&mut self) {
        if !matches!(self.operation.result(), Some(Ok(()))) {
            std::mem::forget(self.held.take());
        }
    }
}

impl Communicator {
    /// A zeroed buffer of `len` elements.
    ///
    /// # Errors
    /// `System` when there is no memory; `InvalidArgument` when the length cannot be.
    pub fn buffer<T: Element>(&self, len: usize) -> Result<Buffer<T>> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(|| {
            Error::invalid_argument(format!("a buffer of {len} elements")).on(self.rank())
        })?;
        let (registration, memory) = self.alloc(bytes)?;
        Ok(Buffer {
            inner: Arc::clone(&self.inner),
            memory,
            registration,
            len,
            elements: PhantomData,
        })
    }

    fn start<R>(&self, request: Request, held: R) -> Result<Ticket<R>> {
        // SAFETY: the memory is that of buffers in `held`, which the ticket keeps until the operation is done.
        #[allow(unsafe_code, reason = "buffers of the ticket")]
        let operation = unsafe { self.enqueue(vec![request], None) }?;
        self.progress_in_background()?;
        Ok(Ticket { inner: Arc::clone(&self.inner), operation, held: Some(held) })
    }

    /// Starts an all-reduce in place: see [`Communicator::all_reduce`].
    ///
    /// # Errors
    /// As for the blocking call, as far as it is known now.
    pub fn start_all_reduce<T: Element>(
        &self,
        data: Buffer<T>,
        op: ReduceOp,
    ) -> Result<Ticket<Buffer<T>>> {
        let action = Action::Collective(Collective::AllReduce, data.len as u64);
        self.start(
            Request { action, input: data.memory, output: data.memory, dtype: T::DTYPE, op },
            data,
        )
    }

    /// Starts a broadcast: see [`Communicator::broadcast`].
    ///
    /// # Errors
    /// As for the blocking call, as far as it is known now.
    pub fn start_broadcast<T: Element>(
        &self,
        data: Buffer<T>,
        root: u32,
    ) -> Result<Ticket<Buffer<T>>> {
        let action =
            Action::Collective(Collective::Broadcast { root: Rank(root) }, data.len as u64);
        let op = ReduceOp::Sum;
        self.start(
            Request { action, input: data.memory, output: data.memory, dtype: T::DTYPE, op },
            data,
        )
    }

    /// Starts an all-gather: see [`Communicator::all_gather`].
    ///
    /// # Errors
    /// As for the blocking call, as far as it is known now.
    pub fn start_all_gather<T: Element>(
        &self,
        input: Buffer<T>,
        output: Buffer<T>,
    ) -> Result<Ticket<(Buffer<T>, Buffer<T>)>> {
        self.start_pair((Collective::AllGather, input.len), input, output, ReduceOp::Sum)
    }

    /// Starts a reduce-scatter: see [`Communicator::reduce_scatter`].
    ///
    /// # Errors
    /// As for the blocking call, as far as it is known now.
    pub fn start_reduce_scatter<T: Element>(
        &self,
        input: Buffer<T>,
        output: Buffer<T>,
        op: ReduceOp,
    ) -> Result<Ticket<(Buffer<T>, Buffer<T>)>> {
        self.start_pair((Collective::ReduceScatter, output.len), input, output, op)
    }

    /// Starts an all-to-all: see [`Communicator::all_to_all`].
    ///
    /// # Errors
    /// As for the blocking call, as far as it is known now.
    pub fn start_all_to_all<T: Element>(
        &self,
        input: Buffer<T>,
        output: Buffer<T>,
    ) -> Result<Ticket<(Buffer<T>, Buffer<T>)>> {
        self.start_pair(
            (Collective::AllToAll, input.len / self.size() as usize),
            input,
            output,
            ReduceOp::Sum,
        )
    }

    fn start_pair<T: Element>(
        &self,
        (what, count): (Collective, usize),
        input: Buffer<T>,
        output: Buffer<T>,
        op: ReduceOp,
    ) -> Result<Ticket<(Buffer<T>, Buffer<T>)>> {
        let action = Action::Collective(what, count as u64);
        let request =
            Request { action, input: input.memory, output: output.memory, dtype: T::DTYPE, op };
        self.start(request, (input, output))
    }

    /// Starts a send: see [`Communicator::send`].
    ///
    /// # Errors
    /// As for the blocking call, as far as it is known now.
    pub fn start_send<T: Element>(&self, data: Buffer<T>, to: u32) -> Result<Ticket<Buffer<T>>> {
        let (input, output, op) = (data.memory, Memory::EMPTY, ReduceOp::Sum);
        self.start(Request { action: Action::Send(to), input, output, dtype: T::DTYPE, op }, data)
    }

    /// Starts a receive: see [`Communicator::recv`].
    ///
    /// # Errors
    /// As for the blocking call, as far as it is known now.
    pub fn start_recv<T: Element>(&self, data: Buffer<T>, from: u32) -> Result<Ticket<Buffer<T>>> {
        let (input, output, op) = (Memory::EMPTY, data.memory, ReduceOp::Sum);
        self.start(Request { action: Action::Recv(from), input, output, dtype: T::DTYPE, op }, data)
    }
}
