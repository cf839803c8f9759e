//! All pairs: everybody sends to everybody at once. One round of delay, at the price of an edge for each pair; best
//! for small messages and few ranks.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, only, recv, recv_reduce, send, written};
use crate::step::{Chunks, Rank, Sources, Step, input, output, scratch};

/// `one-shot`: all-reduce. Everybody gets everybody's input, and adds it up in the order of the ranks.
#[derive(Debug)]
pub(super) struct OneShot;

/// `two-shot`: all-reduce. Rank p adds up part p, and tells everybody.
#[derive(Debug)]
pub(super) struct TwoShot;

/// `all-pairs`: reduce-scatter, all-gather, all-to-all.
#[derive(Debug)]
pub(super) struct AllPairs;

impl Algorithm for OneShot {
    fn name(&self) -> &str {
        "one-shot"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, what == Collective::AllReduce)
    }

    fn ragged(&self, _: Collective) -> bool {
        false
    }

    fn shape(&self, _: Collective, world: &World) -> Shape {
        Shape { parts: 1, scratch: world.ranks, run: 1 }
    }

    fn steps<'w>(
        &'w self,
        what: Collective,
        world: &'w World,
        Rank(me): Rank,
        _: u16,
    ) -> Steps<'w> {
        match world.ranks {
            1 => alone(what, 1),
            n => written(gather_and_reduce(n, me, |_| input(0, 1))),
        }
    }
}

impl Algorithm for TwoShot {
    fn name(&self) -> &str {
        "two-shot"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, what == Collective::AllReduce)
    }

    fn ragged(&self, _: Collective) -> bool {
        false
    }

    fn shape(&self, _: Collective, world: &World) -> Shape {
        Shape { parts: world.ranks, scratch: 0, run: 1 }
    }

    // Parts differ in length, so the scratch has no room for all ranks' versions of one part: each is added on arrival.
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
        let mut steps: Vec<Step> = after(n, me).map(|to| send(to, input(to, 1))).collect();
        let mut so_far = input(me, 1);
        for from in before(n, me) {
            steps.push(recv_reduce(from, so_far, output(me, 1)));
            so_far = output(me, 1);
        }
        steps.extend(after(n, me).map(|to| send(to, output(me, 1))));
        steps.extend(before(n, me).map(|from| recv(from, output(from, 1))));
        written(steps)
    }
}

impl Algorithm for AllPairs {
    fn name(&self) -> &str {
        "all-pairs"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        let serves = [Collective::ReduceScatter, Collective::AllGather, Collective::AllToAll];
        only(self, what, serves.contains(&what))
    }

    fn ragged(&self, what: Collective) -> bool {
        matches!(what, Collective::AllGather | Collective::AllToAll)
    }

    fn shape(&self, what: Collective, world: &World) -> Shape {
        let scratch = if what == Collective::ReduceScatter { world.ranks } else { 0 };
        Shape { parts: 1, scratch, run: 1 }
    }

    fn steps<'w>(
        &'w self,
        what: Collective,
        world: &'w World,
        Rank(me): Rank,
        _: u16,
    ) -> Steps<'w> {
        let n = world.ranks;
        match what {
            _ if n == 1 => alone(what, 1),
            Collective::ReduceScatter => written(gather_and_reduce(n, me, |to| input(to, 1))),
            _ => {
                let block =
                    |to| if what == Collective::AllToAll { input(to, 1) } else { input(0, 1) };
                let mut steps: Vec<Step> = after(n, me).map(|to| send(to, block(to))).collect();
                steps.push(copy(block(me), output(me, 1)));
                steps.extend(before(n, me).map(|from| recv(from, output(from, 1))));
                written(steps)
            }
        }
    }
}

/// The other ranks in the order in which to send to them: no two ranks begin with the same.
fn after(n: u32, me: u32) -> impl Iterator<Item = u32> {
    (1..n).map(move |s| (me + s) % n)
}

/// The other ranks in the order in which their messages come.
fn before(n: u32, me: u32) -> impl Iterator<Item = u32> {
    (1..n).map(move |s| (me + n - s) % n)
}

/// Sends `part(to)` to every other rank, and adds up what they send and `part(me)`, in the order of the ranks.
fn gather_and_reduce(n: u32, me: u32, part: impl Fn(u32) -> Chunks) -> Vec<Step> {
    let mut steps: Vec<Step> = after(n, me).map(|to| send(to, part(to))).collect();
    steps.extend(before(n, me).map(|from| recv(from, scratch(from, 1))));
    let srcs = Sources { first: 0, groups: n, at: me, own: part(me) };
    steps.push(Step::Reduce { srcs, dst: output(0, 1) });
    steps
}
