//! Linear: one rank talks to all others itself. For gather and scatter every byte crosses once, and blocks may have any
//! length. For the others it is the fewest messages that there can be, in one or two rounds: best where ranks share cores,
//! so that what counts is the work of all together, or where the others read the root's memory themselves.

use crate::algorithm::{Algorithm, Blocks, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, recv, refuse, send, written};
use crate::step::{Rank, Sources, Step, input, output, scratch};

/// Most ranks whose blocks all pass through the scratch of one.
const MOST: u32 = 128;

/// `linear`: broadcast, reduce, gather, scatter; and all-reduce, reduce-scatter, all-gather, all-to-all and barrier, for
/// which rank 0 takes what all have and gives all what they should get.
#[derive(Debug)]
pub(super) struct Linear;

impl Algorithm for Linear {
    fn name(&self) -> &str {
        "linear"
    }

    fn serves(&self, what: Collective, world: &World) -> Result<(), Refusal> {
        use Collective::{AllToAll, ReduceScatter};
        match what {
            ReduceScatter | AllToAll if world.ranks > MOST => {
                Err(refuse(self, what, "one rank has no room for the blocks of so many"))
            }
            _ => Ok(()),
        }
    }

    fn ragged(&self, what: Collective) -> bool {
        use Collective::{AllGather, Gather, Scatter};
        matches!(what, AllGather | Gather { .. } | Scatter { .. })
    }

    fn shape(&self, what: Collective, world: &World) -> Shape {
        let n = world.ranks;
        let (scratch, run) = match what {
            Collective::AllReduce | Collective::Reduce { .. } => (n, 1),
            Collective::AllGather => (0, n),
            Collective::ReduceScatter => (n * n, n),
            Collective::AllToAll => (2 * n * n, n),
            _ => (0, 1),
        };
        Shape { parts: 1, scratch, run }
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
        if me != root && what.root().is_none() {
            let Blocks { input: given, output: gotten } = what.blocks(n, Rank(me));
            return written(vec![send(root, input(0, given)), recv(root, output(0, gotten))]);
        }
        let tell = || {
            let all = output(0, what.blocks(n, Rank(me)).output);
            others(n, me).map(move |to| send(to, all))
        };
        match (what, root == me) {
            (Collective::AllReduce, true) => written(add_up(n, me).chain(tell()).collect()),
            (Collective::AllGather, true) => written(gather(n, me).chain(tell()).collect()),
            (Collective::ReduceScatter, true) => written(reduce_scatter(n, me)),
            (Collective::AllToAll, true) => written(all_to_all(n, me)),
            (Collective::Barrier, true) => {
                let come = others(n, me).map(|from| recv(from, output(0, 0)));
                written(come.chain(tell()).collect())
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

/// Takes all others' inputs, adds them up in the order of the ranks, and gives each rank its block.
fn reduce_scatter(n: u32, me: u32) -> Vec<Step> {
    // Where the own input would be, if it were to be read from the scratch.
    let sums = scratch(me * n, n);
    let srcs = Sources { first: 0, groups: n, at: me, own: input(0, n) };
    let mut steps: Vec<Step> = others(n, me).map(|from| recv(from, scratch(from * n, n))).collect();
    steps.push(Step::Reduce { srcs, dst: sums });
    steps.extend(others(n, me).map(|to| send(to, scratch(sums.first + to, 1))));
    steps.push(copy(scratch(sums.first + me, 1), output(0, 1)));
    steps
}

/// Takes all others' inputs, and packs for each rank the blocks that go there. Those for the own rank are put where they
/// belong while the others read theirs.
fn all_to_all(n: u32, me: u32) -> Vec<Step> {
    let block = |from: u32, to: u32| {
        if from == me { input(to, 1) } else { scratch(from * n + to, 1) }
    };
    let packed = |to: u32| n * n + to * n;
    let mut steps: Vec<Step> = others(n, me).map(|from| recv(from, scratch(from * n, n))).collect();
    for to in others(n, me) {
        steps.extend((0..n).map(|from| copy(block(from, to), scratch(packed(to) + from, 1))));
        steps.push(send(to, scratch(packed(to), n)));
    }
    steps.extend((0..n).map(|from| copy(block(from, me), output(from, 1))));
    steps
}
