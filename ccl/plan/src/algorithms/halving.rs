//! Halving and doubling: in each round of a reduction every rank gives half of what it still works on to its partner
//! and keeps the other half; a gather runs the rounds backwards. Few rounds and the fewest bytes.
//!
//! Rabenseifner, Optimization of collective reduction operations, 2004; Thakur, Rabenseifner and Gropp, 2005, sections
//! 4.1 to 4.5.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, only, pieces, recv, recv_reduce, send, written};
use crate::algorithms::fold::{Fold, Role};
use crate::step::{Buf, Chunks, Rank, Step, input, output, scratch};

/// `halving-doubling`: all-reduce, reduce-scatter, all-gather.
#[derive(Debug)]
pub(super) struct HalvingDoubling;

impl Algorithm for HalvingDoubling {
    fn name(&self) -> &str {
        "halving-doubling"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        use Collective::{AllGather, AllReduce, ReduceScatter};
        only(self, what, matches!(what, AllReduce | ReduceScatter | AllGather))
    }

    fn ragged(&self, what: Collective) -> bool {
        what == Collective::AllGather
    }

    fn shape(&self, what: Collective, world: &World) -> Shape {
        let fold = Fold::new(world.ranks);
        let half = fold.core / 2;
        match what {
            Collective::AllReduce => Shape { parts: fold.core, scratch: 0, run: half.max(1) },
            _ => {
                let scratch = if what == Collective::ReduceScatter { world.ranks } else { 0 };
                // The lower half stands for no fewer members than the upper half.
                Shape { parts: 1, scratch, run: fold.member(half).max(1) }
            }
        }
    }

    fn steps<'w>(&'w self, what: Collective, world: &'w World, me: Rank, _: u16) -> Steps<'w> {
        let fold = Fold::new(world.ranks);
        let shape = self.shape(what, world);
        if world.ranks == 1 {
            return alone(what, shape.parts);
        }
        written(match what {
            Collective::AllReduce => all_reduce(fold, me.0, shape),
            Collective::ReduceScatter => reduce_scatter(fold, me.0, shape),
            _ => all_gather(fold, me.0, shape),
        })
    }
}

fn all_reduce(fold: Fold, me: u32, shape: Shape) -> Vec<Step> {
    let all = |buf| pieces(Chunks { buf, first: 0, len: shape.parts }, shape.run);
    let (v, folded) = match fold.role(me) {
        Role::Core { v, folded } => (v, folded),
        Role::Folded { hub } => {
            let give = all(Buf::Input).map(|own| send(hub, own));
            return give.chain(all(Buf::Output).map(|sum| recv(hub, sum))).collect();
        }
    };
    let mut steps = Vec::new();
    let mut so_far = Buf::Input;
    if let Some(folded) = folded {
        let take = |own: Chunks| recv_reduce(folded, own, Chunks { buf: Buf::Output, ..own });
        steps.extend(all(Buf::Input).map(take));
        so_far = Buf::Output;
    }
    for distance in fold.distances().rev() {
        let partner = fold.member(v ^ distance);
        let half = |v: u32, buf| Chunks { buf, first: v & !(distance - 1), len: distance };
        steps.push(send(partner, half(v ^ distance, so_far)));
        steps.push(recv_reduce(partner, half(v, so_far), half(v, Buf::Output)));
        so_far = Buf::Output;
    }
    for distance in fold.distances() {
        let partner = fold.member(v ^ distance);
        let half = |v: u32| output(v & !(distance - 1), distance);
        steps.extend([send(partner, half(v)), recv(partner, half(v ^ distance))]);
    }
    if let Some(folded) = folded {
        steps.extend(all(Buf::Output).map(|sum| send(folded, sum)));
    }
    steps
}

/// Partial sums of block b are kept in chunk b of the scratch.
fn reduce_scatter(fold: Fold, me: u32, shape: Shape) -> Vec<Step> {
    let all = |buf| pieces(Chunks { buf, first: 0, len: shape.scratch }, shape.run);
    let (v, folded) = match fold.role(me) {
        Role::Core { v, folded } => (v, folded),
        Role::Folded { hub } => {
            let give = all(Buf::Input).map(|own| send(hub, own));
            return give.chain([recv(hub, output(0, 1))]).collect();
        }
    };
    let mut steps = Vec::new();
    let mut so_far = Buf::Input;
    if let Some(folded) = folded {
        let take = |own: Chunks| recv_reduce(folded, own, Chunks { buf: Buf::Scratch, ..own });
        steps.extend(all(Buf::Input).map(take));
        so_far = Buf::Scratch;
    }
    for distance in fold.distances().rev() {
        let partner = fold.member(v ^ distance);
        let half = |v: u32, buf| {
            let (first, len) = fold.members(v & !(distance - 1), distance);
            Chunks { buf, first, len }
        };
        let keep = half(v, so_far);
        let sum = if keep.len == 1 { output(0, 1) } else { half(v, Buf::Scratch) };
        steps.push(send(partner, half(v ^ distance, so_far)));
        steps.push(recv_reduce(partner, keep, sum));
        so_far = Buf::Scratch;
    }
    if let Some(folded) = folded {
        steps.extend([send(folded, scratch(folded, 1)), copy(scratch(me, 1), output(0, 1))]);
    }
    steps
}

fn all_gather(fold: Fold, me: u32, shape: Shape) -> Vec<Step> {
    let own = copy(input(0, 1), output(me, 1));
    // All blocks but the one that a folded rank gave itself.
    let others = |folded: u32| {
        let below = pieces(output(0, folded), shape.run);
        below.chain(pieces(output(folded + 1, fold.member(fold.core) - folded - 1), shape.run))
    };
    let (v, folded) = match fold.role(me) {
        Role::Core { v, folded } => (v, folded),
        Role::Folded { hub } => {
            let take = others(me).map(|blocks| recv(hub, blocks));
            return [send(hub, input(0, 1)), own].into_iter().chain(take).collect();
        }
    };
    let mut steps = vec![own];
    steps.extend(folded.map(|folded| recv(folded, output(folded, 1))));
    for distance in fold.distances() {
        let partner = fold.member(v ^ distance);
        let half = |v: u32| {
            let (first, len) = fold.members(v & !(distance - 1), distance);
            output(first, len)
        };
        steps.extend([send(partner, half(v)), recv(partner, half(v ^ distance))]);
    }
    if let Some(folded) = folded {
        steps.extend(others(folded).map(|blocks| send(folded, blocks)));
    }
    steps
}
