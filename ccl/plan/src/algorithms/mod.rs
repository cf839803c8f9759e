//! Every algorithm of the library. A new one is a file here, its `mod` line and its line in [`ALL`].

mod binomial;
mod build;
mod dissemination;
mod linear;
mod pairwise;
mod ring;

use crate::algorithm::{Algorithm, Collective};

static ALL: &[&dyn Algorithm] = &[
    &ring::Ring,
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
