//! Pairwise exchange: in round s every rank sends to the rank s places on and receives from the rank s places back, so
//! that no rank is ever the target of two.
//!
//! Thakur, Rabenseifner and Gropp, Optimization of collective communication operations in MPICH, 2005, sections 4.3
//! and 5.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, only, recv, recv_reduce, send};
use crate::step::{Rank, Step, input, output};

/// `pairwise`: all-to-all, reduce-scatter; no scratch, and blocks of any length.
#[derive(Debug)]
pub(super) struct Pairwise;

impl Algorithm for Pairwise {
    fn name(&self) -> &str {
        "pairwise"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, matches!(what, Collective::AllToAll | Collective::ReduceScatter))
    }

    fn ragged(&self, what: Collective) -> bool {
        matches!(what, Collective::AllToAll | Collective::ReduceScatter)
    }

    fn shape(&self, _: Collective, _: &World) -> Shape {
        Shape { parts: 1, scratch: 0, run: 1 }
    }

    fn steps<'w>(&'w self, what: Collective, world: &'w World, me: Rank, _: u16) -> Steps<'w> {
        match what {
            _ if world.ranks == 1 => alone(what, 1),
            Collective::AllToAll => Box::new(all_to_all(world.ranks, me.0)),
            _ => Box::new(reduce_scatter(world.ranks, me.0)),
        }
    }
}

fn all_to_all(n: u32, me: u32) -> impl Iterator<Item = Step> + Send {
    (1..n).flat_map(move |s| {
        let (to, from) = ((me + s) % n, (me + n - s) % n);
        // The own block is copied while the first message is under way.
        let own = (s == 1).then_some(copy(input(me, 1), output(me, 1)));
        [Some(send(to, input(to, 1))), own, Some(recv(from, output(from, 1)))].into_iter().flatten()
    })
}

fn reduce_scatter(n: u32, me: u32) -> impl Iterator<Item = Step> + Send {
    (1..n).flat_map(move |s| {
        let (to, from) = ((me + s) % n, (me + n - s) % n);
        let sum = if s == 1 { input(me, 1) } else { output(0, 1) };
        [send(to, input(to, 1)), recv_reduce(from, sum, output(0, 1))]
    })
}
