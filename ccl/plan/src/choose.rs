//! The default choice of an algorithm: a documented table by collective, size and world (docs/algorithms.md). The
//! sizes in it are where the fewer rounds of one algorithm stop to pay for the fewer bytes of the other on common
//! machines, no more exact than a power of two or four.

use crate::algorithm::{Algorithm, Collective, World};
use crate::algorithms::find;

/// What the caller asks of an algorithm, besides speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The same inputs give bit-equal results whatever the size of slots, the lanes, the transport and the placement.
    /// Each collective that reduces then has one algorithm for all sizes, and a uniform one (see
    /// [`crate::Proof::uniform`]). Collectives that only move data give the same bits anyhow.
    pub deterministic: bool,
    /// Blocks may differ in length (the v-forms): only algorithms that are [`Algorithm::ragged`] qualify.
    pub ragged: bool,
    /// Ranks of one host do not share memory: what they send each other costs both of them system calls, as between
    /// hosts.
    pub wired: bool,
}

/// Up to here a block of an all-to-all is better packed with others than sent alone.
const TINY_BLOCK: u64 = 256;
/// Up to so many ranks of one host everybody may talk to everybody at once, or one to all.
const FEW: u32 = 8;
/// Up to here the fewest messages are best for a few ranks.
const TINY: u64 = 2 << 10;
/// Up to here two ranks had better send each other all than half of it twice.
const SHORT: u64 = 128 << 10;
/// A vector of so many bytes per rank fills a chain of them: a default slot each.
const FILL: u64 = 256 << 10;

/// What counts at a size.
#[derive(Clone, Copy)]
enum Size {
    /// Rounds.
    Small,
    /// Both.
    Medium,
    /// Bytes.
    Large,
}

impl Size {
    fn of(bytes: u64) -> Self {
        match bytes {
            0..=0x1_0000 => Self::Small,
            0x1_0001..=0x10_0000 => Self::Medium,
            _ => Self::Large,
        }
    }
}

/// The default algorithm for `bytes` bytes: the size of the whole vector as nccl-tests counts it, which is the larger
/// of a rank's input and output. All ranks that ask with the same arguments get the same answer. It serves the
/// collective in any world.
///
/// ```
/// use dure_plan::{Choice, Collective, World, choose};
///
/// let exact = Choice { deterministic: true, ..Choice::default() };
/// let small = choose(Collective::AllReduce, 8, &World::flat(12), exact);
/// let large = choose(Collective::AllReduce, 8 << 30, &World::flat(12), exact);
/// assert_eq!(small.name(), large.name());
/// ```
pub fn choose(
    what: Collective,
    bytes: u64,
    world: &World,
    options: Choice,
) -> &'static dyn Algorithm {
    let name = match what {
        _ if options.ragged => ragged(what, bytes, world, options.wired),
        _ if options.deterministic && what.reduces() => deterministic(what),
        _ => fast(what, bytes, world, options.wired),
    };
    find(what, name).expect("the table names algorithms that serve the collective")
}

/// Uniform ones.
fn deterministic(what: Collective) -> &'static str {
    if matches!(what, Collective::Reduce { .. }) { "binomial" } else { "halving-doubling" }
}

/// Those that know no more than the lengths of a rank's own blocks.
fn ragged(what: Collective, bytes: u64, world: &World, wired: bool) -> &'static str {
    match what {
        Collective::AllToAll | Collective::ReduceScatter => "pairwise",
        Collective::Gather { .. } | Collective::Scatter { .. } => "linear",
        // Every all-gather of the table is ragged, and where there is one block, blocks do not differ.
        _ => fast(what, bytes, world, wired),
    }
}

/// A few ranks, but not two, of one host that do not share memory do as if each had a host of its own, but for what is
/// named here. They share cores, so that what counts is the number of messages of all together.
fn wired(what: Collective, bytes: u64) -> Option<&'static str> {
    match what {
        Collective::AllReduce if bytes <= 64 << 10 => Some("linear"),
        Collective::Reduce { .. } if bytes <= 64 << 10 => Some("linear"),
        // Rank 0 sends all to all.
        Collective::ReduceScatter | Collective::AllGather if bytes <= 32 << 10 => Some("linear"),
        // It also copies each block.
        Collective::AllToAll if bytes <= 16 << 10 => Some("linear"),
        Collective::AllToAll => Some("all-pairs"),
        Collective::Broadcast { .. } if bytes <= 64 << 10 => Some("linear"),
        Collective::Broadcast { .. } => Some("chain"),
        Collective::Barrier => Some("linear"),
        _ => None,
    }
}

fn fast(what: Collective, bytes: u64, world: &World, over_wire: bool) -> &'static str {
    let n = world.ranks;
    let hosts = world.host_of.iter().max().map_or(1, |last| last + 1);
    let levels = hosts > 1 && hosts < n;
    let few = n <= FEW && hosts == 1;
    let few_wired = few && over_wire && n > 2;
    if few_wired && let Some(name) = wired(what, bytes) {
        return name;
    }
    let few = few && !few_wired;
    let size = Size::of(bytes);
    match what {
        Collective::AllReduce => match size {
            Size::Small if levels => "two-level-doubling",
            _ if levels => "two-level-ring",
            // One message each way, and the sum of two is the same in either order.
            _ if n == 2 && bytes <= SHORT => "recursive-doubling",
            Size::Small if few && bytes <= TINY => "linear",
            _ if few => "two-shot",
            Size::Small => "recursive-doubling",
            Size::Medium => "halving-doubling",
            Size::Large => "ring",
        },
        Collective::ReduceScatter => match size {
            _ if levels => "two-level",
            Size::Small if few => "all-pairs",
            _ if few => "pairwise",
            Size::Small | Size::Medium => "halving-doubling",
            Size::Large => "ring",
        },
        Collective::AllGather => match size {
            _ if levels => "two-level",
            _ if few => "all-pairs",
            Size::Small | Size::Medium => "bruck",
            Size::Large => "ring",
        },
        Collective::AllToAll if few => "all-pairs",
        Collective::AllToAll if bytes / u64::from(n.max(1)) > TINY_BLOCK => "pairwise",
        Collective::AllToAll if levels => "two-level",
        Collective::AllToAll => "bruck",
        Collective::Broadcast { .. } if few => "linear",
        Collective::Reduce { .. } if few && bytes <= TINY => "linear",
        Collective::Broadcast { .. } | Collective::Reduce { .. } => match size {
            Size::Small if levels => "two-level",
            Size::Small => "binomial",
            _ if bytes / u64::from(n.max(1)) >= FILL => "chain",
            _ => "double-binary-tree",
        },
        Collective::Gather { .. } | Collective::Scatter { .. } => match size {
            Size::Small if n > FEW => "binomial",
            _ => "linear",
        },
        Collective::Barrier => "dissemination",
    }
}
