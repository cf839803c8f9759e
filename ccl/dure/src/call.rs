//! One call as the user makes it: what is checked about it, and the signature by which ranks tell whether they call the
//! same thing.

use std::ops::Range;
use std::sync::Arc;

use dure_device::{Dtype, Memory};
use dure_exec::{Layout, Layouts};
use dure_plan::{Collective, Rank};

use crate::element::{ReduceOp, op_name};
use crate::error::{Error, Result};

/// A call: which, on what, and how.
///
/// Layouts of the buffers are those of `MPI` and NCCL; counts are in elements.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which collective or message.
    pub action: Action,
    /// What is read; empty where this rank has no input. In place when it is the output, or the block of the output
    /// (or the other way round) that belongs to this rank.
    pub input: Memory,
    /// What is written; empty where this rank has no output.
    pub output: Memory,
    /// Type of the elements.
    pub dtype: Dtype,
    /// How elements are combined; not looked at where nothing is.
    pub op: ReduceOp,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub enum Action {
    /// A collective whose blocks all have `count` elements. For `AllReduce`, `Broadcast` and `Reduce` that is the whole
    /// vector; for the others the block that one rank gives to, or gets from, another.
    Collective(Collective, u64),
    /// A collective whose blocks differ.
    Ragged(Collective, RaggedCounts),
    /// Send the input to a rank.
    Send(u32),
    /// Receive the output from a rank.
    Recv(u32),
}

/// Blocks of a v-form: element ranges, one a rank, where this rank has as many blocks as ranks; and the length of its
/// own single block where it has one.
#[derive(Clone, Debug)]
pub enum RaggedCounts {
    /// All-to-all: what goes to each rank, and what comes from each.
    Both(Arc<[Range<u64>]>, Arc<[Range<u64>]>),
    /// All-gather, reduce-scatter, and the root of gather and scatter: the blocks of the long buffer, rank by rank.
    Long(Arc<[Range<u64>]>),
    /// The other ranks of gather and scatter: the length of their own block.
    Own(u64),
}

/// Kinds of call beside the collectives in a signature.
const MESSAGE: u8 = 15;

/// What makes two calls the same: two words that travel in answers and are printed in mismatch reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signature(pub(crate) [u64; 2]);

/// What makes two calls of one rank the same but for their buffers, in all that a plan and its geometry depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u64; 2]);

/// The mark of v-forms in the first word of a signature.
const RAGGED: u64 = 1 << 15;
/// In place of an operation: nothing is combined.
const NO_OP: u8 = 0x7f;

impl Request {
    /// The signature of this call. Counts of v-forms that only this rank knows are left out.
    pub(crate) fn signature(&self) -> Signature {
        let (what, mark, count) = match &self.action {
            Action::Collective(what, count) => (*what, 0, *count),
            Action::Ragged(what, counts) => (*what, RAGGED, agreed_count(*what, counts)),
            Action::Send(_) | Action::Recv(_) => return self.message_signature(),
        };
        let (op, id) =
            if what.reduces() { (self.op.code(), self.op.custom_id()) } else { (NO_OP, 0) };
        // A barrier has no data: whatever type the caller's binding filled in says nothing.
        let dtype = if what == Collective::Barrier { 0xf } else { self.dtype as u8 };
        let kind = (what.number(), what.root().map_or(u32::MAX, |root| root.0));
        Signature([first_word(kind, dtype, (op, id)) | mark, count])
    }

    fn message_signature(&self) -> Signature {
        let first = first_word((MESSAGE, u32::MAX), self.dtype as u8, (NO_OP, 0));
        Signature([first, self.message_count()])
    }

    /// The key of this call, which has this signature. `None` when calls that look the same may differ: the counts of
    /// v-forms are not in it, and nothing but the caller's word says that functions of one number are one function.
    pub(crate) fn key(&self, Signature([first, count]): Signature) -> Option<Key> {
        // The place of the root is the peer's, and that of the mark of v-forms the direction's.
        let with_peer = |peer: u32| first & u64::from(u32::MAX) | u64::from(peer) << 32;
        match self.action {
            Action::Ragged(..) => None,
            Action::Collective(..) if self.reduces() && self.op.is_custom() => None,
            Action::Collective(..) => Some(Key([first, count])),
            Action::Send(peer) => Some(Key([with_peer(peer), count])),
            Action::Recv(peer) => Some(Key([with_peer(peer) | RAGGED, count])),
        }
    }

    /// Whether elements are combined.
    pub(crate) fn reduces(&self) -> bool {
        matches!(&self.action, Action::Collective(what, _) | Action::Ragged(what, _) if what.reduces())
    }

    fn message_count(&self) -> u64 {
        let bytes =
            if matches!(self.action, Action::Send(_)) { self.input.len } else { self.output.len };
        (bytes / self.dtype.size()) as u64
    }

    /// The layouts of the buffers on rank `me` of `ranks`.
    pub(crate) fn layouts(&self, ranks: u32, me: Rank) -> Layouts {
        let elem = u32::try_from(self.dtype.size()).expect("elements are short");
        let even = |elems: u64, blocks: u32| Layout::Even { elems, blocks };
        let (input, output, whole) = match &self.action {
            Action::Collective(what, count) => {
                return Layouts::even(*what, (ranks, me), elem, *count);
            }
            Action::Ragged(what, counts) => ragged(*what, counts, ranks, me),
            Action::Send(_) => {
                (even(self.message_count(), 1), Layout::NONE, even(self.message_count(), 1))
            }
            Action::Recv(_) => {
                (Layout::NONE, even(self.message_count(), 1), even(self.message_count(), 1))
            }
        };
        Layouts { elem, input, output, whole, ragged: matches!(self.action, Action::Ragged(..)) }
    }

    /// Bytes of the whole vector, as nccl-tests counts sizes; 0 for the v-forms whose counts only this rank knows, since
    /// all ranks must choose by the same number.
    pub(crate) fn bytes(&self, layouts: &Layouts) -> u64 {
        match self.action {
            Action::Ragged(
                Collective::AllToAll | Collective::Gather { .. } | Collective::Scatter { .. },
                _,
            ) => 0,
            _ => layouts.whole.extent() * u64::from(layouts.elem),
        }
    }

    /// Checks what one rank can check alone.
    pub(crate) fn check(&self, ranks: u32, me: Rank) -> Result<Layouts> {
        let refuse = |what: String| Err(Error::invalid_argument(what).on(me.0));
        let (what, peer) = match &self.action {
            Action::Collective(what, _) | Action::Ragged(what, _) => {
                (Some(*what), what.root().map(|r| r.0))
            }
            Action::Send(peer) | Action::Recv(peer) => (None, Some(*peer)),
        };
        if let Some(rank) = peer.filter(|rank| *rank >= ranks) {
            let role = if what.is_some() { "root" } else { "peer" };
            return refuse(format!("{role} {rank} is not a rank (allowed: 0 to {})", ranks - 1));
        }
        if what.is_some_and(Collective::reduces) && !self.op.combine().serves(self.dtype) {
            return refuse(format!(
                "{} is not defined on {} (allowed: integers)",
                self.op.name(),
                self.dtype
            ));
        }
        if let Action::Ragged(what, counts) = &self.action {
            check_ragged(*what, counts, ranks, me)?;
        }
        let layouts = self.layouts(ranks, me);
        for (name, layout, memory) in
            [("input", &layouts.input, self.input), ("output", &layouts.output, self.output)]
        {
            let bytes = layout.extent() * u64::from(layouts.elem);
            if (memory.len as u64) < bytes {
                return refuse(format!(
                    "the {name} has {} bytes, and the call needs {bytes}",
                    memory.len
                ));
            }
        }
        Ok(layouts)
    }
}

/// What the ranks must agree on in the counts of a v-form, as a number.
fn agreed_count(what: Collective, counts: &RaggedCounts) -> u64 {
    match (what, counts) {
        (Collective::AllGather | Collective::ReduceScatter, RaggedCounts::Long(ranges)) => {
            ranges.iter().fold(0, |sum, r| mix(sum, r.end - r.start))
        }
        _ => 0,
    }
}

/// The first word of a signature.
fn first_word((kind, root): (u8, u32), dtype: u8, (op, id): (u8, u16)) -> u64 {
    u64::from(kind)
        | u64::from(dtype) << 4
        | u64::from(op) << 8
        | u64::from(id) << 16
        | u64::from(root) << 32
}

fn check_ragged(what: Collective, counts: &RaggedCounts, ranks: u32, me: Rank) -> Result<()> {
    let refuse = |what: String| Err(Error::invalid_argument(what).on(me.0));
    let is_root = what.root() == Some(me);
    let shape_fits = match (what, counts) {
        (Collective::AllToAll, RaggedCounts::Both(..))
        | (Collective::AllGather | Collective::ReduceScatter, RaggedCounts::Long(_)) => true,
        (Collective::Gather { .. } | Collective::Scatter { .. }, RaggedCounts::Long(_)) => is_root,
        (Collective::Gather { .. } | Collective::Scatter { .. }, RaggedCounts::Own(_)) => !is_root,
        _ => false,
    };
    if !shape_fits {
        return refuse(format!("counts of this form do not belong to {what} on rank {}", me.0));
    }
    let lists: &[&Arc<[Range<u64>]>] = match counts {
        RaggedCounts::Both(input, output) => &[input, output],
        RaggedCounts::Long(long) => &[long],
        RaggedCounts::Own(_) => &[],
    };
    for list in lists {
        if list.len() != ranks as usize {
            return refuse(format!(
                "{} counts were given, and there are {ranks} ranks",
                list.len()
            ));
        }
        if let Some(rank) = list.iter().position(|r| r.start > r.end) {
            return refuse(format!("the block of rank {rank} ends before it begins"));
        }
    }
    if let (Collective::AllToAll, RaggedCounts::Both(input, output)) = (what, counts) {
        let own = me.0 as usize;
        let (gives, gets) =
            (input[own].end - input[own].start, output[own].end - output[own].start);
        if gives != gets {
            return refuse(format!(
                "this rank sends {gives} elements to itself and receives {gets}"
            ));
        }
    }
    Ok(())
}

fn ragged(
    what: Collective,
    counts: &RaggedCounts,
    ranks: u32,
    me: Rank,
) -> (Layout, Layout, Layout) {
    let long = |ranges: &Arc<[Range<u64>]>| Layout::Ragged(Arc::clone(ranges));
    let one = |elems: u64| Layout::Even { elems, blocks: 1 };
    let own = |ranges: &Arc<[Range<u64>]>| ranges[me.0 as usize].end - ranges[me.0 as usize].start;
    match (what, counts) {
        (Collective::AllToAll, RaggedCounts::Both(input, output)) => {
            (long(input), long(output), long(input))
        }
        (Collective::ReduceScatter | Collective::Scatter { .. }, RaggedCounts::Long(l)) => {
            (long(l), one(own(l)), long(l))
        }
        (Collective::AllGather | Collective::Gather { .. }, RaggedCounts::Long(l)) => {
            (one(own(l)), long(l), long(l))
        }
        (Collective::Gather { .. }, RaggedCounts::Own(n)) => {
            (one(*n), Layout::NONE, Layout::Even { elems: *n, blocks: ranks })
        }
        (_, RaggedCounts::Own(n)) => {
            (Layout::NONE, one(*n), Layout::Even { elems: *n, blocks: ranks })
        }
        _ => unreachable!("checked before"),
    }
}

impl Signature {
    /// The digest of this call as number `sequence` of its communicator, after a history of `chain`.
    pub(crate) fn chained(self, chain: u64, sequence: u64) -> u64 {
        mix(mix(mix(chain, self.0[0]), self.0[1]), sequence)
    }

    /// The call, for people.
    pub(crate) fn describe(self) -> String {
        let [first, count] = self.0;
        let field = |shift: u32, mask: u64| (first >> shift) & mask;
        let kind = usize::try_from(field(0, 0xf)).expect("four bits");
        let name = Collective::NAMES.get(kind).copied().unwrap_or("message");
        let dtype = u32::try_from(field(4, 0xf)).ok().and_then(Dtype::from_number);
        let op = u8::try_from(field(8, 0x7f)).expect("seven bits");
        let root = field(32, u64::from(u32::MAX));
        let mut text = name.to_owned();
        if field(15, 1) == 1 {
            text.push_str("-v");
        }
        if let Some(dtype) = dtype {
            let counted = if field(15, 1) == 1 { String::new() } else { format!(" {count}") };
            text = format!("{text} of{counted} {dtype}");
        }
        if op != NO_OP {
            text = format!("{text}, {}", op_name(op));
        }
        if op_name(op) == "custom" {
            text = format!("{text} {}", field(16, 0xffff));
        }
        if root != u64::from(u32::MAX) {
            text = format!("{text}, root {root}");
        }
        text
    }
}

/// One round of a 64-bit hash: multiply and fold (the constant is the golden ratio's, as in Fibonacci hashing).
#[expect(clippy::cast_possible_truncation, reason = "the product is folded")]
pub(crate) fn mix(state: u64, word: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(state ^ word ^ GOLDEN) * u128::from(GOLDEN);
    (product as u64) ^ ((product >> 64) as u64) ^ word.rotate_left(29)
}
