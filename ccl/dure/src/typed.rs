//! The typed calls: blocking ones that borrow, and groups of them.
//!
//! Every call here waits until it is done on this rank. Counts are the lengths of the slices; they must fit each other
//! and be the same on all ranks (the v-forms say what may differ).

use std::marker::PhantomData;

use crate::call::Request;
use crate::communicator::Communicator;
use crate::element::{Element, ReduceOp};
use crate::error::Result;
use crate::requests::Caller;

/// Calls that go on side by side, and are done together: see [`Communicator::group`].
#[derive(Debug)]
pub struct Group<'b> {
    caller: Caller,
    requests: Vec<Request>,
    /// The buffers stay borrowed until the group is done.
    buffers: PhantomData<&'b mut [u8]>,
}

/// Makes each call one of communicators and one of groups.
macro_rules! calls {
    ($( $(#[$doc:meta])* $name:ident $(<$t:ident>)? ($($arg:ident: $type:ty),*); )+) => {
        impl Communicator {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// `InvalidArgument` for what this rank sees alone; otherwise what ended the communicator: a call that
                /// differs between ranks, a peer that died, a deadline, an abort.
                #[allow(unsafe_code, reason = "borrowed buffers become raw memory until the call is done")]
                #[allow(clippy::extra_unused_lifetimes, reason = "a barrier has no buffers")]
                pub fn $name<'b $(, $t: Element)?> (&self, $($arg: $type),*) -> Result<()> {
                    let request = self.caller().$name($($arg),*)?;
                    // SAFETY: the buffers are borrowed for 'b, which outlives this call, and it does not return before
                    // the request is done, or the communicator has failed and dropped its work.
                    unsafe { self.call(&request) }
                }
            )+
        }

        impl<'b> Group<'b> {
            $(
                #[doc = concat!("See [`Communicator::", stringify!($name), "`].")]
                ///
                /// # Errors
                /// `InvalidArgument`.
                pub fn $name $(<$t: Element>)? (&mut self, $($arg: $type),*) -> Result<()> {
                    self.requests.push(self.caller.$name($($arg),*)?);
                    Ok(())
                }
            )+
        }
    };
}

calls! {
    /// Every rank gets the reduction of all ranks' `data`, in place.
    all_reduce<T>(data: &'b mut [T], op: ReduceOp);
    /// Every rank gets the reduction of all ranks' `input`.
    all_reduce_into<T>(input: &'b [T], output: &'b mut [T], op: ReduceOp);
    /// Rank `r` gets block `r` of the reduction of all ranks' `input`, which has one block of `output`'s length a rank.
    reduce_scatter<T>(input: &'b [T], output: &'b mut [T], op: ReduceOp);
    /// As `reduce_scatter`, with `counts[r]` elements for rank `r`; all ranks give the same counts.
    reduce_scatter_v<T>(input: &'b [T], counts: &[usize], output: &'b mut [T], op: ReduceOp);
    /// Every rank gets all ranks' `input`, one after the other.
    all_gather<T>(input: &'b [T], output: &'b mut [T]);
    /// As `all_gather`, with `counts[r]` elements from rank `r`; all ranks give the same counts.
    all_gather_v<T>(input: &'b [T], output: &'b mut [T], counts: &[usize]);
    /// Block `s` of rank `r`'s output is block `r` of rank `s`'s input.
    all_to_all<T>(input: &'b [T], output: &'b mut [T]);
    /// As `all_to_all`, with as many elements to, and from, each rank as the counts beside the buffers say.
    all_to_all_v<T>(input: (&'b [T], &[usize]), output: (&'b mut [T], &[usize]));
    /// Every rank gets the root's `data`.
    broadcast<T>(data: &'b mut [T], root: u32);
    /// The root gets the reduction of all ranks' `input`; only it gives an `output`.
    reduce<T>(input: &'b [T], output: Option<&'b mut [T]>, root: u32, op: ReduceOp);
    /// The root gets all ranks' `input`, one after the other; only it gives an `output`.
    gather<T>(input: &'b [T], output: Option<&'b mut [T]>, root: u32);
    /// As `gather`, with as many elements from each rank as the root's counts say, and as `input` has there.
    gather_v<T>(input: &'b [T], output: Option<(&'b mut [T], &[usize])>, root: u32);
    /// Rank `r` gets block `r` of the root's `input`; only the root gives one.
    scatter<T>(input: Option<&'b [T]>, output: &'b mut [T], root: u32);
    /// As `scatter`, with as many elements to each rank as the root's counts say, and as `output` has there.
    scatter_v<T>(input: Option<(&'b [T], &[usize])>, output: &'b mut [T], root: u32);
    /// No rank goes on before every rank has come.
    barrier();
    /// Sends to a rank. It may return before the data arrived; it may also wait for the receiver.
    send<T>(data: &'b [T], to: u32);
    /// Receives from a rank: the k-th receive meets the k-th send, and both have the same length and type.
    recv<T>(data: &'b mut [T], from: u32);
}

impl Communicator {
    fn caller(&self) -> Caller {
        Caller { rank: self.rank(), size: self.size() }
    }

    /// Makes several calls as one: they go on side by side, so that sends and receives of a group do not wait for one
    /// another. Collectives of a group run in the order given. A call of a group must not use what another writes.
    ///
    /// # Errors
    /// Whatever `calls` returns (nothing was started then), or as for the calls alone.
    #[allow(unsafe_code, reason = "borrowed buffers become raw memory until the operation is done")]
    pub fn group<'b, R>(&self, calls: impl FnOnce(&mut Group<'b>) -> Result<R>) -> Result<R> {
        let mut group = Group { caller: self.caller(), requests: Vec::new(), buffers: PhantomData };
        let result = calls(&mut group)?;
        // SAFETY: the buffers are borrowed for 'b, which outlives this call, and this call does not return before the
        // operation is done: `wait` returns when it is, or when the communicator has failed and dropped its work.
        let operation = unsafe { self.enqueue(group.requests, None) }?;
        self.wait(&operation)?;
        Ok(result)
    }
}
