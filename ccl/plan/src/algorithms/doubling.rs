//! Recursive doubling: in each round every rank exchanges all it has with the rank at twice the distance. The fewest
//! rounds there are; every message is the whole vector.
//!
//! Thakur, Rabenseifner and Gropp, Optimization of collective communication operations in MPICH, 2005, section 4.5.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, only, recv, recv_reduce, send, written};
use crate::algorithms::fold::{Fold, Role};
use crate::step::{Chunks, Rank, Step, input, output};

/// `recursive-doubling`: all-reduce.
#[derive(Debug)]
pub(super) struct RecursiveDoubling;

impl Algorithm for RecursiveDoubling {
    fn name(&self) -> &str {
        "recursive-doubling"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, what == Collective::AllReduce)
    }

    fn ragged(&self, _: Collective) -> bool {
        false
    }

    fn shape(&self, _: Collective, _: &World) -> Shape {
        Shape { parts: 1, scratch: 0, run: 1 }
    }

    fn steps<'w>(&'w self, what: Collective, world: &'w World, me: Rank, _: u16) -> Steps<'w> {
        if world.ranks == 1 {
            return alone(what, 1);
        }
        let mut steps = Vec::new();
        all_reduce(&mut steps, (world.ranks, me.0), |index| index, input(0, 1), output(0, 1));
        written(steps)
    }
}

/// All-reduce among `n` members, of whom this is number `index`: of `own`, into `sum`.
pub(super) fn all_reduce(
    steps: &mut Vec<Step>,
    (n, index): (u32, u32),
    rank_of: impl Fn(u32) -> u32,
    own: Chunks,
    sum: Chunks,
) {
    let fold = Fold::new(n);
    let (v, folded) = match fold.role(index) {
        Role::Core { v, folded } => (v, folded.map(&rank_of)),
        Role::Folded { hub } => {
            steps.extend([send(rank_of(hub), own), recv(rank_of(hub), sum)]);
            return;
        }
    };
    let mut so_far = own;
    if let Some(folded) = folded {
        steps.push(recv_reduce(folded, own, sum));
        so_far = sum;
    }
    for distance in fold.distances() {
        let partner = rank_of(fold.member(v ^ distance));
        steps.extend([send(partner, so_far), recv_reduce(partner, so_far, sum)]);
        so_far = sum;
    }
    steps.extend(folded.map(|folded| send(folded, sum)));
}
