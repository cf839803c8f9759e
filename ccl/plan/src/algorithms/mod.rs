//! Every algorithm of the library. A new one is a file here, its `mod` line and its line in [`ALL`].

mod all_pairs;
mod binomial;
mod bruck;
mod build;
mod chain;
mod dissemination;
mod doubling;
mod fold;
mod halving;
mod hosts;
mod linear;
mod neighbor;
mod pairwise;
mod ring;
mod tree;
mod two_level;
mod two_level_all_to_all;

use self::two_level::Across;
use crate::algorithm::{Algorithm, Collective};

static ALL: &[&dyn Algorithm] = &[
    &ring::Ring,
    &tree::DoubleBinaryTree,
    &doubling::RecursiveDoubling,
    &halving::HalvingDoubling,
    &two_level::TwoLevelAllReduce(Across::Ring),
    &two_level::TwoLevelAllReduce(Across::Tree),
    &two_level::TwoLevelAllReduce(Across::Doubling),
    &two_level::TwoLevel,
    &two_level_all_to_all::TwoLevelAllToAll,
    &all_pairs::OneShot,
    &all_pairs::TwoShot,
    &all_pairs::AllPairs,
    &bruck::Bruck,
    &neighbor::NeighborExchange,
    &chain::Chain,
    &binomial::Binomial,
    &pairwise::Pairwise,
    &linear::Linear,
    &dissemination::Dissemination,
];

/// Every algorithm of the library.
pub fn algorithms() -> &'static [&'static dyn Algorithm] {
    ALL
}

/// The algorithm of that name that knows the collective, in some world.
///
/// ```
/// use dure_plan::{Collective, find};
///
/// assert!(find(Collective::AllReduce, "ring").is_some());
/// assert!(find(Collective::Barrier, "ring").is_none());
/// ```
pub fn find(what: Collective, name: &str) -> Option<&'static dyn Algorithm> {
    let pair = crate::World { host_of: [0, 0].into(), ..crate::World::flat(2) };
    ALL.iter().copied().find(|by| by.name() == name && by.serves(what, &pair).is_ok())
}
