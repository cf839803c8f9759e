//! How a communicator is, short of a fatal error.

use std::fmt;
use std::time::Duration;

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
    /// Name of the transport that carries the data: `rdma`, or `tcp` when no rail is left.
    pub over: &'static str,
    /// Rails in use: pairs of a device here and one of the peer.
    pub rails: usize,
    /// Rails at first.
    pub rails_at_first: usize,
    /// What failed, for people.
    pub why: String,
    /// How long traffic to the rank stood still when it changed.
    pub pause: Duration,
}

impl fmt::Display for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, over, rails, rails_at_first, why, pause } = self;
        let ms = pause.as_secs_f64() * 1e3;
        write!(
            f,
            "degraded to rank {rank}: {rails} of {rails_at_first} rails, over {over}: {why} (paused {ms:.1} ms)"
        )
    }
}

/// What the executor knows, as users see it.
pub(crate) fn of(detours: &dure_exec::Detours) -> Health {
    let detour = |(rank, route): (u32, dure_transport::Route)| Detour {
        rank,
        over: route.over,
        rails: route.rails,
        rails_at_first: route.rails_at_first,
        why: route.why,
        pause: route.pause,
    };
    Health { detours: detours.list().into_iter().map(detour).collect() }
}
