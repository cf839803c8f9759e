//! How many others a rank may exchange messages with.

use std::collections::HashSet;

use crate::algorithm::{Algorithm, Collective, World};
use crate::step::Rank;

/// Most peers that each rank may have in an all-to-all. Every peer takes slots for its messages, and a connection or
/// more between hosts. With 2,048 of them and the default slots (two lanes of four slots of 1 MiB) that is 16 GiB a rank
/// once long messages have come from all, and 128 GiB on a host of eight ranks; beyond, what hosts can give ends.
pub const MOST_PEERS: u32 = 2048;

/// The peers of a rank in an all-to-all, on one lane, when they are more than [`MOST_PEERS`]: the algorithm is flat, and
/// the edges of all ranks together grow with the square of their number.
///
/// Every rank gets the same answer: rank 0 is looked at, whose part is the largest in flat algorithms. `None` for all
/// other collectives: their flat algorithms are for a few ranks or have one busy rank, the root.
///
/// ```
/// use dure_plan::{Collective, World, find, too_many_edges};
///
/// let host_of = (0..10_240).map(|rank| rank / 8).collect();
/// let world = World { host_of, ..World::flat(10_240) };
/// let peers = |name| too_many_edges(Collective::AllToAll, find(Collective::AllToAll, name).unwrap(), &world);
/// assert_eq!(peers("pairwise"), Some(10_239));
/// assert_eq!(peers("two-level"), None);
/// ```
pub fn too_many_edges(what: Collective, by: &dyn Algorithm, world: &World) -> Option<u32> {
    let many = what == Collective::AllToAll && world.ranks > MOST_PEERS;
    if !many || by.serves(what, world).is_err() {
        return None;
    }
    let steps = by.steps(what, world, Rank(0), 0);
    let peers: HashSet<Rank> = steps.filter_map(|step| step.peer()).collect();
    u32::try_from(peers.len()).ok().filter(|peers| *peers > MOST_PEERS)
}
