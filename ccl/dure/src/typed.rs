//! The typed calls: blocking ones that borrow, and groups of them.
//!
//! Every call here waits until it is done on this rank. Counts are the lengths of the slices; they must fit each other
//! and be the same on all ranks (the v-forms say what may differ).

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use dure_device::{Dtype, Memory};
use dure_plan::{Collective, Rank};

use crate::call::{Action, RaggedCounts, Request};
use crate::communicator::Communicator;
use crate::element::{Element, ReduceOp};
use crate::error::{Error, Result};

/// Memory that is read.
fn reads<T: Element>(slice: &[T]) -> Memory {
    Memory::host(slice.as_ptr().cast_mut().cast(), size_of_val(slice))
}

/// Memory that is written.
fn writes<T: Element>(slice: &mut [T]) -> Memory {
    Memory::host(slice.as_mut_ptr().cast(), size_of_val(slice))
}

/// Blocks that follow one another.
fn blocks(counts: &[usize]) -> Arc<[Range<u64>]> {
    let mut end = 0;
    counts
        .iter()
        .map(|count| {
            let start = end;
            end += *count as u64;
            start..end
        })
        .collect()
}

/// Calls that go on side by side, and are done together: see [`Communicator::group`].
#[derive(Debug)]
pub struct Group<'b> {
    rank: u32,
    size: u32,
    requests: Vec<Request>,
    /// The buffers stay borrowed until the group is done.
    buffers: PhantomData<&'b mut [u8]>,
}

impl<'b> Group<'b> {
    fn push(
        &mut self,
        action: Action,
        input: Memory,
        output: Memory,
        (dtype, op): (Dtype, ReduceOp),
    ) {
        self.requests.push(Request { action, input, output, dtype, op });
    }

    fn plain<T: Element>() -> (Dtype, ReduceOp) {
        (T::DTYPE, ReduceOp::Sum)
    }

    fn refuse<R>(&self, what: String) -> Result<R> {
        Err(Error::invalid_argument(what).on(self.rank))
    }

    /// Checks that `long` is one block of `short`'s length for each rank.
    fn blocks_fit(&self, long: usize, short: usize, which: &str) -> Result<()> {
        let want = short * self.size as usize;
        if long == want {
            return Ok(());
        }
        self.refuse(format!(
            "the {which} has {long} elements; {} ranks of {short} need {want}",
            self.size
        ))
    }

    fn only_root<T>(&self, root: u32, given: Option<T>, which: &str) -> Result<Option<T>> {
        if self.rank == root && given.is_none() {
            return self.refuse(format!("the root gave no {which}"));
        }
        Ok(given.filter(|_| self.rank == root))
    }

    /// See [`Communicator::all_reduce`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn all_reduce<T: Element>(&mut self, data: &'b mut [T], op: ReduceOp) -> Result<()> {
        let memory = writes(data);
        self.push(
            Action::Collective(Collective::AllReduce, data.len() as u64),
            memory,
            memory,
            (T::DTYPE, op),
        );
        Ok(())
    }

    /// See [`Communicator::all_reduce_into`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn all_reduce_into<T: Element>(
        &mut self,
        input: &'b [T],
        output: &'b mut [T],
        op: ReduceOp,
    ) -> Result<()> {
        if input.len() != output.len() {
            return self.refuse(format!(
                "the input has {} elements and the output {}",
                input.len(),
                output.len()
            ));
        }
        let action = Action::Collective(Collective::AllReduce, input.len() as u64);
        self.push(action, reads(input), writes(output), (T::DTYPE, op));
        Ok(())
    }

    /// See [`Communicator::reduce_scatter`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn reduce_scatter<T: Element>(
        &mut self,
        input: &'b [T],
        output: &'b mut [T],
        op: ReduceOp,
    ) -> Result<()> {
        self.blocks_fit(input.len(), output.len(), "input")?;
        let action = Action::Collective(Collective::ReduceScatter, output.len() as u64);
        self.push(action, reads(input), writes(output), (T::DTYPE, op));
        Ok(())
    }

    /// See [`Communicator::reduce_scatter_v`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn reduce_scatter_v<T: Element>(
        &mut self,
        input: &'b [T],
        counts: &[usize],
        output: &'b mut [T],
        op: ReduceOp,
    ) -> Result<()> {
        let action = Action::Ragged(Collective::ReduceScatter, RaggedCounts::Long(blocks(counts)));
        self.push(action, reads(input), writes(output), (T::DTYPE, op));
        Ok(())
    }

    /// See [`Communicator::all_gather`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn all_gather<T: Element>(&mut self, input: &'b [T], output: &'b mut [T]) -> Result<()> {
        self.blocks_fit(output.len(), input.len(), "output")?;
        let action = Action::Collective(Collective::AllGather, input.len() as u64);
        self.push(action, reads(input), writes(output), Self::plain::<T>());
        Ok(())
    }

    /// See [`Communicator::all_gather_v`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn all_gather_v<T: Element>(
        &mut self,
        input: &'b [T],
        output: &'b mut [T],
        counts: &[usize],
    ) -> Result<()> {
        let action = Action::Ragged(Collective::AllGather, RaggedCounts::Long(blocks(counts)));
        self.push(action, reads(input), writes(output), Self::plain::<T>());
        Ok(())
    }

    /// See [`Communicator::all_to_all`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn all_to_all<T: Element>(&mut self, input: &'b [T], output: &'b mut [T]) -> Result<()> {
        let block = input.len() / self.size as usize;
        self.blocks_fit(input.len(), block, "input")?;
        self.blocks_fit(output.len(), block, "output")?;
        let action = Action::Collective(Collective::AllToAll, block as u64);
        self.push(action, reads(input), writes(output), Self::plain::<T>());
        Ok(())
    }

    /// See [`Communicator::all_to_all_v`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn all_to_all_v<T: Element>(
        &mut self,
        (input, to): (&'b [T], &[usize]),
        (output, from): (&'b mut [T], &[usize]),
    ) -> Result<()> {
        let action =
            Action::Ragged(Collective::AllToAll, RaggedCounts::Both(blocks(to), blocks(from)));
        self.push(action, reads(input), writes(output), Self::plain::<T>());
        Ok(())
    }

    /// See [`Communicator::broadcast`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn broadcast<T: Element>(&mut self, data: &'b mut [T], root: u32) -> Result<()> {
        let action =
            Action::Collective(Collective::Broadcast { root: Rank(root) }, data.len() as u64);
        let memory = writes(data);
        self.push(action, memory, memory, Self::plain::<T>());
        Ok(())
    }

    /// See [`Communicator::reduce`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn reduce<T: Element>(
        &mut self,
        input: &'b [T],
        output: Option<&'b mut [T]>,
        root: u32,
        op: ReduceOp,
    ) -> Result<()> {
        let output = self.only_root(root, output, "output")?.map_or(Memory::EMPTY, writes);
        let action =
            Action::Collective(Collective::Reduce { root: Rank(root) }, input.len() as u64);
        self.push(action, reads(input), output, (T::DTYPE, op));
        Ok(())
    }

    /// See [`Communicator::gather`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn gather<T: Element>(
        &mut self,
        input: &'b [T],
        output: Option<&'b mut [T]>,
        root: u32,
    ) -> Result<()> {
        let output = self.only_root(root, output, "output")?;
        if let Some(output) = &output {
            self.blocks_fit(output.len(), input.len(), "output")?;
        }
        let action =
            Action::Collective(Collective::Gather { root: Rank(root) }, input.len() as u64);
        self.push(action, reads(input), output.map_or(Memory::EMPTY, writes), Self::plain::<T>());
        Ok(())
    }

    /// See [`Communicator::gather_v`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn gather_v<T: Element>(
        &mut self,
        input: &'b [T],
        output: Option<(&'b mut [T], &[usize])>,
        root: u32,
    ) -> Result<()> {
        let what = Collective::Gather { root: Rank(root) };
        let (output, counts) = match self.only_root(root, output, "output")? {
            Some((output, counts)) => (writes(output), RaggedCounts::Long(blocks(counts))),
            None => (Memory::EMPTY, RaggedCounts::Own(input.len() as u64)),
        };
        self.push(Action::Ragged(what, counts), reads(input), output, Self::plain::<T>());
        Ok(())
    }

    /// See [`Communicator::scatter`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn scatter<T: Element>(
        &mut self,
        input: Option<&'b [T]>,
        output: &'b mut [T],
        root: u32,
    ) -> Result<()> {
        let input = self.only_root(root, input, "input")?;
        if let Some(input) = input {
            self.blocks_fit(input.len(), output.len(), "input")?;
        }
        let action =
            Action::Collective(Collective::Scatter { root: Rank(root) }, output.len() as u64);
        self.push(action, input.map_or(Memory::EMPTY, reads), writes(output), Self::plain::<T>());
        Ok(())
    }

    /// See [`Communicator::scatter_v`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn scatter_v<T: Element>(
        &mut self,
        input: Option<(&'b [T], &[usize])>,
        output: &'b mut [T],
        root: u32,
    ) -> Result<()> {
        let what = Collective::Scatter { root: Rank(root) };
        let (input, counts) = match self.only_root(root, input, "input")? {
            Some((input, counts)) => (reads(input), RaggedCounts::Long(blocks(counts))),
            None => (Memory::EMPTY, RaggedCounts::Own(output.len() as u64)),
        };
        self.push(Action::Ragged(what, counts), input, writes(output), Self::plain::<T>());
        Ok(())
    }

    /// See [`Communicator::barrier`].
    ///
    /// # Errors
    /// None that a group can see.
    pub fn barrier(&mut self) -> Result<()> {
        let action = Action::Collective(Collective::Barrier, 0);
        self.push(action, Memory::EMPTY, Memory::EMPTY, (Dtype::Uint8, ReduceOp::Sum));
        Ok(())
    }

    /// See [`Communicator::send`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn send<T: Element>(&mut self, data: &'b [T], to: u32) -> Result<()> {
        self.push(Action::Send(to), reads(data), Memory::EMPTY, Self::plain::<T>());
        Ok(())
    }

    /// See [`Communicator::recv`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn recv<T: Element>(&mut self, data: &'b mut [T], from: u32) -> Result<()> {
        self.push(Action::Recv(from), Memory::EMPTY, writes(data), Self::plain::<T>());
        Ok(())
    }
}

/// Gives the communicator the calls of a group, each as a group of its own.
macro_rules! alone {
    ($( $(#[$doc:meta])* $name:ident $(<$t:ident>)? ($($arg:ident: $type:ty),*); )+) => {
        impl Communicator {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// `InvalidArgument` for what this rank sees alone; otherwise what ended the communicator: a call that
                /// differs between ranks, a peer that died, a deadline, an abort.
                pub fn $name $(<$t: Element>)? (&self, $($arg: $type),*) -> Result<()> {
                    self.group(|group| group.$name($($arg),*))
                }
            )+
        }
    };
}

alone! {
    /// Every rank gets the reduction of all ranks' `data`, in place.
    all_reduce<T>(data: &mut [T], op: ReduceOp);
    /// Every rank gets the reduction of all ranks' `input`.
    all_reduce_into<T>(input: &[T], output: &mut [T], op: ReduceOp);
    /// Rank `r` gets block `r` of the reduction of all ranks' `input`, which has one block of `output`'s length a rank.
    reduce_scatter<T>(input: &[T], output: &mut [T], op: ReduceOp);
    /// As `reduce_scatter`, with `counts[r]` elements for rank `r`; all ranks give the same counts.
    reduce_scatter_v<T>(input: &[T], counts: &[usize], output: &mut [T], op: ReduceOp);
    /// Every rank gets all ranks' `input`, one after the other.
    all_gather<T>(input: &[T], output: &mut [T]);
    /// As `all_gather`, with `counts[r]` elements from rank `r`; all ranks give the same counts.
    all_gather_v<T>(input: &[T], output: &mut [T], counts: &[usize]);
    /// Block `s` of rank `r`'s output is block `r` of rank `s`'s input.
    all_to_all<T>(input: &[T], output: &mut [T]);
    /// As `all_to_all`, with as many elements to, and from, each rank as the counts beside the buffers say.
    all_to_all_v<T>(input: (&[T], &[usize]), output: (&mut [T], &[usize]));
    /// Every rank gets the root's `data`.
    broadcast<T>(data: &mut [T], root: u32);
    /// The root gets the reduction of all ranks' `input`; only it gives an `output`.
    reduce<T>(input: &[T], output: Option<&mut [T]>, root: u32, op: ReduceOp);
    /// The root gets all ranks' `input`, one after the other; only it gives an `output`.
    gather<T>(input: &[T], output: Option<&mut [T]>, root: u32);
    /// As `gather`, with as many elements from each rank as the root's counts say, and as `input` has there.
    gather_v<T>(input: &[T], output: Option<(&mut [T], &[usize])>, root: u32);
    /// Rank `r` gets block `r` of the root's `input`; only the root gives one.
    scatter<T>(input: Option<&[T]>, output: &mut [T], root: u32);
    /// As `scatter`, with as many elements to each rank as the root's counts say, and as `output` has there.
    scatter_v<T>(input: Option<(&[T], &[usize])>, output: &mut [T], root: u32);
    /// No rank goes on before every rank has come.
    barrier();
    /// Sends to a rank. It may return before the data arrived; it may also wait for the receiver.
    send<T>(data: &[T], to: u32);
    /// Receives from a rank: the k-th receive meets the k-th send, and both have the same length and type.
    recv<T>(data: &mut [T], from: u32);
}

impl Communicator {
    /// Makes several calls as one: they go on side by side, so that sends and receives of a group do not wait for one
    /// another. Collectives of a group run in the order given. A call of a group must not use what another writes.
    ///
    /// # Errors
    /// Whatever `calls` returns (nothing was started then), or as for the calls alone.
    #[allow(unsafe_code, reason = "borrowed buffers become raw memory until the operation is done")]
    pub fn group<'b, R>(&self, calls: impl FnOnce(&mut Group<'b>) -> Result<R>) -> Result<R> {
        let mut group = Group {
            rank: self.rank(),
            size: self.size(),
            requests: Vec::new(),
            buffers: PhantomData,
        };
        let result = calls(&mut group)?;
        // SAFETY: the buffers are borrowed for 'b, which outlives this call, and this call does not return before the
        // operation is done: `wait` returns when it is, or when the communicator has failed and dropped its work.
        let operation = unsafe { self.enqueue(group.requests, None) }?;
        self.wait(&operation)?;
        Ok(result)
    }
}
