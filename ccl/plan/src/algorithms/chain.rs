//! The chain: each rank passes on to the next. The most rounds, but in steady state every rank sends and receives each
//! byte only once: passes follow one another down the chain as in a pipe.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, only, recv, recv_reduce, send, written};
use crate::step::{Rank, Step, input, output, scratch};

/// `chain`: broadcast, reduce.
#[derive(Debug)]
pub(super) struct Chain;

impl Algorithm for Chain {
    fn name(&self) -> &str {
        "chain"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, matches!(what, Collective::Broadcast { .. } | Collective::Reduce { .. }))
    }

    fn ragged(&self, _: Collective) -> bool {
        false
    }

    fn shape(&self, what: Collective, _: &World) -> Shape {
        Shape { parts: 1, scratch: u32::from(matches!(what, Collective::Reduce { .. })), run: 1 }
    }

    fn steps<'w>(
        &'w self,
        what: Collective,
        world: &'w World,
        Rank(me): Rank,
        _: u16,
    ) -> Steps<'w> {
        let n = world.ranks;
        if n == 1 {
            return alone(what, 1);
        }
        let Rank(root) = what.root().expect("chain serves rooted collectives only");
        let (first, last) = (me == root, (me + 1) % n == root);
        let (nearer, farther) = ((me + n - 1) % n, (me + 1) % n);
        written(match what {
            Collective::Broadcast { .. } => broadcast(first, last, nearer, farther),
            _ => reduce(first, last, nearer, farther),
        })
    }
}

fn broadcast(first: bool, last: bool, nearer: u32, farther: u32) -> Vec<Step> {
    match (first, last) {
        (true, _) => vec![send(farther, input(0, 1)), copy(input(0, 1), output(0, 1))],
        (_, true) => vec![recv(nearer, output(0, 1))],
        _ => vec![recv(nearer, output(0, 1)), send(farther, output(0, 1))],
    }
}

fn reduce(first: bool, last: bool, nearer: u32, farther: u32) -> Vec<Step> {
    match (first, last) {
        (true, _) => vec![recv_reduce(farther, input(0, 1), output(0, 1))],
        (_, true) => vec![send(nearer, input(0, 1))],
        _ => vec![recv_reduce(farther, input(0, 1), scratch(0, 1)), send(nearer, scratch(0, 1))],
    }
}
