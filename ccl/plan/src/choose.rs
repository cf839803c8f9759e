//! The default choice of an algorithm: a documented table by collective, size and world.

use crate::algorithm::{Algorithm, Collective, World};
use crate::algorithms::find;

/// What the caller asks of an algorithm, besides speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The same inputs give bit-equal results whatever the lanes, the slot size and the transport. Only uniform
    /// algorithms qualify (see `Proof::uniform`), and the choice does not depend on the size.
    pub deterministic: bool,
    /// Blocks may differ in length (the v-forms).
    pub ragged: bool,
}

/// The default algorithm for `bytes` bytes: the size of the whole vector, as nccl-tests counts it (all ranks' blocks
/// together). All ranks that ask with the same arguments get the same answer.
pub fn choose(
    what: Collective,
    bytes: u64,
    world: &World,
    options: Choice,
) -> &'static dyn Algorithm {
    let _ = (bytes, world, options);
    let name = match what {
        Collective::AllReduce | Collective::AllGather => "ring",
        Collective::ReduceScatter | Collective::AllToAll => "pairwise",
        Collective::Broadcast { .. } | Collective::Reduce { .. } => "binomial",
        Collective::Gather { .. } | Collective::Scatter { .. } => "linear",
        Collective::Barrier => "dissemination",
    };
    find(what, name).expect("the table names algorithms that serve the collective")
}
