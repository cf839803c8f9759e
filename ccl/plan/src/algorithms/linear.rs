//! Linear: one rank talks to all others itself. For gather and scatter every byte crosses once, and blocks may have any
//! length. For the others it is the fewest messages that there can be, in one or two rounds: best where ranks share cores,
//! so that what counts is the work of all together, or where the others read the root's memory themselves.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, only, recv, send, written};
use crate::step::{Rank, Sources, Step, input, output, scratch};

/// `linear`: all-reduce (rank 0 adds up, and tells all), broadcast, reduce, gather, scatter.
#[derive(Debug)]
pub(super) struct Linear;

impl Algorithm for Linear {
    fn name(&self) -> &str {
        "linear"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, what == Collective::AllReduce || what.root().is_some())
    }

    fn ragged(&self, what: Collective) -> bool {
        matches!(what, Collective::Gather { .. } | Collective::Scatter { .. })
    }

    fn shape(&self, what: Collective, world: &World) -> Shape {
        let reduces = matches!(what, Collective::AllReduce | Collective::Reduce { .. });
        Shape { parts: 1, scratch: if reduces { world.ranks } else { 0 }, run: 1 }
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
        let root = what.root().map_or(0, |Rank(root)| root);
        let tell = || others(n, me).map(|to| send(to, output(0, 1)));
        match (what, root == me) {
            (Collective::AllReduce, true) => written(add_up(n, me).chain(tell()).collect()),
            (Collective::AllReduce, false) => {
                written(vec![send(root, input(0, 1)), recv(root, output(0, 1))])
            }
            (Collective::Broadcast { .. }, true) => {
                let own = copy(input(0, 1), output(0, 1));
                written(others(n, me).map(|to| send(to, input(0, 1))).chain([own]).collect())
            }
            (Collective::Reduce { .. }, true) => written(add_up(n, me).collect()),
            (Collective::Gather { .. }, true) => Box::new(gather(n, me)),
            (Collective::Scatter { .. }, true) => Box::new(scatter(n, me)),
            (Collective::Reduce { .. } | Collective::Gather { .. }, false) => {
                written(vec![send(root, input(0, 1))])
            }
            _ => written(vec![recv(root, output(0, 1))]),
        }
    }
}

/// The other ranks, those after `me` first.
fn others(n: u32, me: u32) -> impl Iterator<Item = u32> + Send {
    (1..n).map(move |s| (me + s) % n)
}

/// Takes all others' inputs, and adds them up in the order of the ranks.
fn add_up(n: u32, me: u32) -> impl Iterator<Item = Step> {
    let srcs = Sources { first: 0, groups: n, at: me, own: input(0, 1) };
    let sum = Step::Reduce { srcs, dst: output(0, 1) };
    others(n, me).map(|from| recv(from, scratch(from, 1))).chain([sum])
}

fn gather(n: u32, me: u32) -> impl Iterator<Item = Step> + Send {
    let own = copy(input(0, 1), output(me, 1));
    std::iter::once(own).chain(others(n, me).map(|from| recv(from, output(from, 1))))
}

fn scatter(n: u32, me: u32) -> impl Iterator<Item = Step> + Send {
    let own = copy(input(me, 1), output(0, 1));
    others(n, me).map(|to| send(to, input(to, 1))).chain(std::iter::once(own))
}
