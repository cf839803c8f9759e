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
}

/// Up to here the number of rounds decides.
const SMALL: u64 = 64 << 10;
/// Up to here it still counts.
const MEDIUM: u64 = 1 << 20;
/// Up to here a block of an all-to-all is better packed with others than sent alone.
const TINY_BLOCK: u64 = 256;
/// Up to so many ranks everybody may talk to everybody at once.
const FEW: u32 = 8;
/// A vector of so many bytes per rank fills a chain of them: a default slot each.
const FILL: u64 = 256 << 10;

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
        _ if options.ragged => ragged(what, bytes, world),
        _ if options.deterministic && what.reduces() => deterministic(what),
        _ => fast(what, bytes, world),
    };
    find(what, name).expect("the table names algorithms that serve the collective")
}

/// Uniform ones.
fn deterministic(what: Collective) -> &'static str {
    if matches!(what, Collective::Reduce { .. }) { "binomial" } else { "halving-doubling" }
}

/// Those that know no more than the lengths of a rank's own blocks.
fn ragged(what: Collective, bytes: u64, world: &World) -> &'static str {
    match what {
        Collective::AllToAll | Collective::ReduceScatter => "pairwise",
        Collective::Gather { .. } | Collective::Scatter { .. } => "linear",
        // Every all-gather of the table is ragged, and where there is one block, blocks do not differ.
        _ => fast(what, bytes, world),
    }
}

fn fast(what: Collective, bytes: u64, world: &World) -> &'static str {
    let n = world.ranks;
    let hosts = world.host_of.iter().max().map_or(1, |last| last + 1);
    let levels = hosts > 1 && hosts < n;
    let few = n <= FEW && hosts == 1;
    match what {
        Collective::AllReduce => match bytes {
            0..=SMALL if levels => "two-level-doubling",
            _ if levels => "two-level-ring",
            0..=SMALL if few => "one-shot",
            0..=SMALL => "recursive-doubling",
            _ if few => "two-shot",
            0..=MEDIUM => "halving-doubling",
            _ => "ring",
        },
        Collective::ReduceScatter => match bytes {
            _ if levels => "two-level",
            0..=SMALL if few => "all-pairs",
            _ if few => "pairwise",
            0..=MEDIUM => "halving-doubling",
            _ => "ring",
        },
        Collective::AllGather => match bytes {
            _ if levels => "two-level",
            _ if few => "all-pairs",
            0..=MEDIUM => "bruck",
            _ => "ring",
        },
        Collective::AllToAll => match bytes / u64::from(n.max(1)) {
            0..=TINY_BLOCK if levels => "two-level",
            0..=TINY_BLOCK if n > FEW => "bruck",
            _ => "pairwise",
        },
        Collective::Broadcast { .. } | Collective::Reduce { .. } => match bytes {
            0..=SMALL if levels => "two-level",
            0..=SMALL => "binomial",
            _ if bytes / u64::from(n.max(1)) >= FILL => "chain",
            _ => "double-binary-tree",
        },
        Collective::Gather { .. } | Collective::Scatter { .. } => match bytes {
            0..=SMALL if n > FEW => "binomial",
            _ => "linear",
        },
        Collective::Barrier => "dissemination",
    }
}
