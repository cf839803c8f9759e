//! The dissemination barrier: in each round every rank tells the rank twice as far on what it has heard so far.
//!
//! Hensgen, Finkel and Manber, Two algorithms for barrier synchronization, 1988.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{log2_up, only, recv, send, written};
use crate::step::{Rank, input, output};

/// `dissemination`: barrier.
#[derive(Debug)]
pub(super) struct Dissemination;

impl Algorithm for Dissemination {
    fn name(&self) -> &str {
        "dissemination"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, what == Collective::Barrier)
    }

    fn ragged(&self, _: Collective) -> bool {
        false
    }

    fn shape(&self, _: Collective, _: &World) -> Shape {
        Shape { parts: 1, scratch: 0, run: 1 }
    }

    fn steps<'w>(&'w self, _: Collective, world: &'w World, Rank(me): Rank, _: u16) -> Steps<'w> {
        let n = world.ranks;
        let rounds = (0..log2_up(n)).map(|k| (1 << k) % n);
        let round =
            |d: u32| [send((me + d) % n, input(0, 0)), recv((me + n - d) % n, output(0, 0))];
        written(rounds.flat_map(round).collect())
    }
}
