//! From slices to requests. Counts are the lengths of the slices; they must fit each other.

use std::ops::Range;
use std::sync::Arc;

use dure_device::{Dtype, Memory};
use dure_plan::{Collective, Rank};

use crate::call::{Action, RaggedCounts, Request};
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

fn plain<T: Element>() -> (Dtype, ReduceOp) {
    (T::DTYPE, ReduceOp::Sum)
}

fn request(
    action: Action,
    input: Memory,
    output: Memory,
    (dtype, op): (Dtype, ReduceOp),
) -> Request {
    Request { action, input, output, dtype, op }
}

/// Whose call it is. Each function makes the request of the call of its name: see [`crate::Communicator`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) rank: u32,
    pub(crate) size: u32,
}

impl Caller {
    fn refuse<R>(self, what: String) -> Result<R> {
        Err(Error::invalid_argument(what).on(self.rank))
    }

    /// Checks that `long` is one block of `short`'s length for each rank.
    fn blocks_fit(self, long: usize, short: usize, which: &str) -> Result<()> {
        let want = short * self.size as usize;
        if long == want {
            return Ok(());
        }
        self.refuse(format!(
            "the {which} has {long} elements; {} ranks of {short} need {want}",
            self.size
        ))
    }

    fn only_root<T>(self, root: u32, given: Option<T>, which: &str) -> Result<Option<T>> {
        if self.rank == root && given.is_none() {
            return self.refuse(format!("the root gave no {which}"));
        }
        Ok(given.filter(|_| self.rank == root))
    }

    pub(crate) fn all_reduce<T: Element>(self, data: &mut [T], op: ReduceOp) -> Result<Request> {
        let memory = writes(data);
        Ok(request(
            Action::Collective(Collective::AllReduce, data.len() as u64),
            memory,
            memory,
            (T::DTYPE, op),
        ))
    }

    pub(crate) fn all_reduce_into<T: Element>(
        self,
        input: &[T],
        output: &mut [T],
        op: ReduceOp,
    ) -> Result<Request> {
        if input.len() != output.len() {
            return self.refuse(format!(
                "the input has {} elements and the output {}",
                input.len(),
                output.len()
            ));
        }
        let action = Action::Collective(Collective::AllReduce, input.len() as u64);
        Ok(request(action, reads(input), writes(output), (T::DTYPE, op)))
    }

    pub(crate) fn reduce_scatter<T: Element>(
        self,
        input: &[T],
        output: &mut [T],
        op: ReduceOp,
    ) -> Result<Request> {
        self.blocks_fit(input.len(), output.len(), "input")?;
        let action = Action::Collective(Collective::ReduceScatter, output.len() as u64);
        Ok(request(action, reads(input), writes(output), (T::DTYPE, op)))
    }

    pub(crate) fn reduce_scatter_v<T: Element>(
        self,
        input: &[T],
        counts: &[usize],
        output: &mut [T],
        op: ReduceOp,
    ) -> Result<Request> {
        let action = Action::Ragged(Collective::ReduceScatter, RaggedCounts::Long(blocks(counts)));
        Ok(request(action, reads(input), writes(output), (T::DTYPE, op)))
    }

    pub(crate) fn all_gather<T: Element>(self, input: &[T], output: &mut [T]) -> Result<Request> {
        self.blocks_fit(output.len(), input.len(), "output")?;
        let action = Action::Collective(Collective::AllGather, input.len() as u64);
        Ok(request(action, reads(input), writes(output), plain::<T>()))
    }

    pub(crate) fn all_gather_v<T: Element>(
        self,
        input: &[T],
        output: &mut [T],
        counts: &[usize],
    ) -> Result<Request> {
        let action = Action::Ragged(Collective::AllGather, RaggedCounts::Long(blocks(counts)));
        Ok(request(action, reads(input), writes(output), plain::<T>()))
    }

    pub(crate) fn all_to_all<T: Element>(self, input: &[T], output: &mut [T]) -> Result<Request> {
        let block = input.len() / self.size as usize;
        self.blocks_fit(input.len(), block, "input")?;
        self.blocks_fit(output.len(), block, "output")?;
        let action = Action::Collective(Collective::AllToAll, block as u64);
        Ok(request(action, reads(input), writes(output), plain::<T>()))
    }

    pub(crate) fn all_to_all_v<T: Element>(
        self,
        (input, to): (&[T], &[usize]),
        (output, from): (&mut [T], &[usize]),
    ) -> Result<Request> {
        let action =
            Action::Ragged(Collective::AllToAll, RaggedCounts::Both(blocks(to), blocks(from)));
        Ok(request(action, reads(input), writes(output), plain::<T>()))
    }

    pub(crate) fn broadcast<T: Element>(self, data: &mut [T], root: u32) -> Result<Request> {
        let action =
            Action::Collective(Collective::Broadcast { root: Rank(root) }, data.len() as u64);
        let memory = writes(data);
        Ok(request(action, memory, memory, plain::<T>()))
    }

    pub(crate) fn reduce<T: Element>(
        self,
        input: &[T],
        output: Option<&mut [T]>,
        root: u32,
        op: ReduceOp,
    ) -> Result<Request> {
        let output = self.only_root(root, output, "output")?.map_or(Memory::EMPTY, writes);
        let action =
            Action::Collective(Collective::Reduce { root: Rank(root) }, input.len() as u64);
        Ok(request(action, reads(input), output, (T::DTYPE, op)))
    }

    pub(crate) fn gather<T: Element>(
        self,
        input: &[T],
        output: Option<&mut [T]>,
        root: u32,
    ) -> Result<Request> {
        let output = self.only_root(root, output, "output")?;
        if let Some(output) = &output {
            self.blocks_fit(output.len(), input.len(), "output")?;
        }
        let action =
            Action::Collective(Collective::Gather { root: Rank(root) }, input.len() as u64);
        Ok(request(action, reads(input), output.map_or(Memory::EMPTY, writes), plain::<T>()))
    }

    pub(crate) fn gather_v<T: Element>(
        self,
        input: &[T],
        output: Option<(&mut [T], &[usize])>,
        root: u32,
    ) -> Result<Request> {
        let what = Collective::Gather { root: Rank(root) };
        let (output, counts) = match self.only_root(root, output, "output")? {
            Some((output, counts)) => (writes(output), RaggedCounts::Long(blocks(counts))),
            None => (Memory::EMPTY, RaggedCounts::Own(input.len() as u64)),
        };
        Ok(request(Action::Ragged(what, counts), reads(input), output, plain::<T>()))
    }

    pub(crate) fn scatter<T: Element>(
        self,
        input: Option<&[T]>,
        output: &mut [T],
        root: u32,
    ) -> Result<Request> {
        let input = self.only_root(root, input, "input")?;
        if let Some(input) = input {
            self.blocks_fit(input.len(), output.len(), "input")?;
        }
        let action =
            Action::Collective(Collective::Scatter { root: Rank(root) }, output.len() as u64);
        Ok(request(action, input.map_or(Memory::EMPTY, reads), writes(output), plain::<T>()))
    }

    pub(crate) fn scatter_v<T: Element>(
        self,
        input: Option<(&[T], &[usize])>,
        output: &mut [T],
        root: u32,
    ) -> Result<Request> {
        let what = Collective::Scatter { root: Rank(root) };
        let (input, counts) = match self.only_root(root, input, "input")? {
            Some((input, counts)) => (reads(input), RaggedCounts::Long(blocks(counts))),
            None => (Memory::EMPTY, RaggedCounts::Own(output.len() as u64)),
        };
        Ok(request(Action::Ragged(what, counts), input, writes(output), plain::<T>()))
    }

    pub(crate) fn barrier(self) -> Result<Request> {
        let action = Action::Collective(Collective::Barrier, 0);
        Ok(request(action, Memory::EMPTY, Memory::EMPTY, (Dtype::Uint8, ReduceOp::Sum)))
    }

    pub(crate) fn send<T: Element>(self, data: &[T], to: u32) -> Result<Request> {
        Ok(request(Action::Send(to), reads(data), Memory::EMPTY, plain::<T>()))
    }

    pub(crate) fn recv<T: Element>(self, data: &mut [T], from: u32) -> Result<Request> {
        Ok(request(Action::Recv(from), Memory::EMPTY, writes(data), plain::<T>()))
    }
}
