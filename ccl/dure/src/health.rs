//! How a communicator is, short of a fatal error.

use std::fmt;

use dure_transport::Route;

/// How a communicator is that works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Ranks to whom some wires have failed: what goes there is right, and may be slow. In ascending order.
    pub detours: Vec<Detour>,
}

impl Health {
    /// Whether some wires have failed.
    pub fn is_degraded(&self) -> bool {
        !self.detours.is_empty()
    }
}

/// What leads to a rank to whom some wires have failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detour {
    /// The rank that it leads to.
    pub rank: u32,
    /// The way there.
    pub route: Route,
}

impl fmt::Display for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "degraded to rank {}: {}", self.rank, self.route)
    }
}

/// What the executor knows, as users see it.
pub(crate) fn of(detours: &dure_exec::Detours) -> Health {
    let detours = detours.list().into_iter().map(|(rank, route)| Detour { rank, route });
    Health { detours: detours.collect() }
}
