//! All-to-all-v by algorithms that need blocks of equal length.
//!
//! Bruck's and the two-level algorithm pass blocks on through ranks that do not know their lengths. Then all ranks first
//! agree on the longest block by an all-reduce of eight bytes, and exchange blocks padded to it (Fan and others, 2022,
//! call it padded Bruck). Worth it for many small blocks of similar length; the default is the pairwise exchange, which
//! pads nothing.

use std::ops::Range;
use std::sync::Arc;

use dure_device::{Combine, Dtype, Memory};
use dure_exec::{Call, Layout, Layouts, Plan, Track};
use dure_plan::Collective;

use crate::call::Request;
use crate::engine::{Active, Engine, Local};
use crate::error::Result;
use crate::stall::executor_error;
use crate::tuner::Kind;

/// An all-to-all-v that waits for the length of the longest block.
#[derive(Debug)]
pub(crate) struct Padded {
    request: Request,
    /// Element ranges of the blocks of the input and of the output.
    blocks: [Arc<[Range<u64>]>; 2],
    plan: Arc<Plan>,
    digest: u32,
    /// This rank's longest block, and that of all ranks when the all-reduce is done.
    longest: Box<[u64; 2]>,
}

impl Engine {
    /// Starts to find the longest block.
    pub(crate) fn begin_padded(
        &mut self,
        active: &mut Active,
        request: Request,
        blocks: [Arc<[Range<u64>]>; 2],
        (plan, digest): (Arc<Plan>, u32),
    ) -> Result<()> {
        let own = blocks.iter().flat_map(|b| b.iter()).map(|r| r.end - r.start).max().unwrap_or(0);
        let mut longest = Box::new([own, 0]);
        let words = Memory::host(longest.as_mut_ptr().cast(), size_of_val(&*longest));
        let decision = self.tuner.decide(Collective::AllReduce, 8, Kind::Own)?.id;
        let all_reduce = Arc::clone(&self.tuner.decision(decision).plan);
        let one = Layout::Even { elems: 1, blocks: 1 };
        let layouts =
            Layouts { elem: 8, input: one.clone(), output: one.clone(), whole: one, ragged: false };
        let prepared = self
            .prepare(all_reduce, &layouts, (Dtype::Uint64, Combine::Max))
            .map_err(|e| executor_error(&e, self.me.0))?;
        let call =
            Call { prepared, input: words.part(0, 8), output: words.part(8, 8), digest: !digest };
        active.calls.push((call, Track::Collective));
        active.padded.push_back(Padded { request, blocks, plan, digest, longest });
        Ok(())
    }

    /// The longest block is known: starts the exchange.
    pub(crate) fn go_on_padded(
        &mut self,
        active: &mut Active,
        padded: Padded,
    ) -> std::result::Result<Vec<Local>, dure_exec::Error> {
        let Padded { request, blocks: [input, output], plan, digest, longest } = padded;
        let (count, ranks) = (longest[1], u32::try_from(input.len()).expect("one block a rank"));
        let dtype = request.dtype;
        let bytes =
            |elems: u64| usize::try_from(elems).expect("the buffer was checked") * dtype.size();
        let len = bytes(count * u64::from(ranks));
        let room = (request.input.space, len);
        let (from, into) = (self.temporary(active, room)?, self.temporary(active, room)?);
        let part = |whole: Memory, range: &Range<u64>| {
            whole.part(bytes(range.start), bytes(range.end - range.start))
        };
        let padded = |whole: Memory, rank: usize, like: &Range<u64>| {
            whole.part(bytes(count) * rank, bytes(like.end - like.start))
        };
        let copy = |src, dst| Local { src, dst, dtype, by: None };
        let filled = |ranges: &Arc<[Range<u64>]>| {
            let ranges = Arc::clone(ranges);
            (0..ranges.len()).filter(move |r| !ranges[*r].is_empty())
        };
        let before = filled(&input)
            .map(|r| copy(part(request.input, &input[r]), padded(from, r, &input[r])))
            .collect();
        active.after.extend(
            filled(&output)
                .map(|r| copy(padded(into, r, &output[r]), part(request.output, &output[r]))),
        );
        let even = Layout::Even { elems: count, blocks: ranks };
        let elem = u32::try_from(dtype.size()).expect("elements are short");
        let layouts =
            Layouts { elem, input: even.clone(), output: even.clone(), whole: even, ragged: false };
        let prepared = self.prepare(plan, &layouts, (dtype, request.op.combine()))?;
        let call = Call { prepared, input: from, output: into, digest };
        active.calls.push((call, Track::Collective));
        Ok(before)
    }
}
