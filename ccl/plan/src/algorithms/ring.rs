//! The ring: every rank talks to its two neighbours only, and each link carries the least possible number of bytes.
//!
//! Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, only, recv, recv_reduce, send};
use crate::step::{Buf, Chunks, Rank, Step, input, output, scratch};

/// `ring`: all-reduce, reduce-scatter, all-gather.
#[derive(Debug)]
pub(super) struct Ring;

/// Chunks of scratch through which the partial sums of a reduce-scatter pass in turn. A partial sum is dead as soon as
/// it is sent; a few of them let the send of one overlap with the making of the next.
const TURNS: u32 = 4;

impl Algorithm for Ring {
    fn name(&self) -> &str {
        "ring"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(
            self,
            what,
            matches!(
                what,
                Collective::AllReduce | Collective::ReduceScatter | Collective::AllGather
            ),
        )
    }

    fn ragged(&self, what: Collective) -> bool {
        what == Collective::AllGather
    }

    fn shape(&self, what: Collective, world: &World) -> Shape {
        let parts = if what == Collective::AllReduce { world.ranks } else { 1 };
        let scratch =
            if what == Collective::ReduceScatter { TURNS.min(world.ranks - 1) } else { 0 };
        Shape { parts, scratch, run: 1 }
    }

    fn steps<'w>(&'w self, what: Collective, world: &'w World, me: Rank, _: u16) -> Steps<'w> {
        let at = Place::new(world.ranks, me.0, |index| index);
        match what {
            _ if world.ranks == 1 => alone(what, 1),
            Collective::AllReduce => Box::new(all_reduce(at, 0, Buf::Input)),
            Collective::ReduceScatter => Box::new(reduce_scatter(at)),
            _ => Box::new(all_gather(at)),
        }
    }
}

/// Where a rank sits in a ring of `size` members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    size: u32,
    index: u32,
    next: u32,
    prev: u32,
}

impl Place {
    /// Member `index` of a ring of `size`, whose members are the ranks that `rank_of` tells.
    pub(super) fn new(size: u32, index: u32, rank_of: impl Fn(u32) -> u32) -> Self {
        Self {
            size,
            index,
            next: rank_of((index + 1) % size),
            prev: rank_of((index + size - 1) % size),
        }
    }

    /// The member `k` places back.
    fn back(self, k: u32) -> u32 {
        (self.index + 2 * self.size - k) % self.size
    }
}

/// All-reduce of the `size` chunks of the output from `base` on; this rank's own contribution is in `own`, at the same
/// chunk numbers.
pub(super) fn all_reduce(at: Place, base: u32, own: Buf) -> impl Iterator<Item = Step> + Send {
    let chunk = move |buf, k| Chunks { buf, first: base + at.back(k), len: 1 };
    let rounds = at.size - 1;
    let reduce = (0..rounds).flat_map(move |k| {
        let from = if k == 0 { own } else { Buf::Output };
        [
            send(at.next, chunk(from, k)),
            recv_reduce(at.prev, chunk(own, k + 1), chunk(Buf::Output, k + 1)),
        ]
    });
    let gather = (0..rounds).flat_map(move |k| {
        [send(at.next, chunk(Buf::Output, k + rounds)), recv(at.prev, chunk(Buf::Output, k))]
    });
    reduce.chain(gather)
}

/// The partial sum of block b starts at rank b + 1, gains a contribution at each rank, and ends at rank b.
fn reduce_scatter(at: Place) -> impl Iterator<Item = Step> + Send {
    let turn = |k: u32| scratch(k % TURNS, 1);
    let last = at.size - 2;
    (0..at.size - 1).flat_map(move |k| {
        let src = if k == 0 { input(at.back(1), 1) } else { turn(k - 1) };
        let dst = if k == last { output(0, 1) } else { turn(k) };
        [send(at.next, src), recv_reduce(at.prev, input(at.back(k + 2), 1), dst)]
    })
}

/// Every block goes once around.
fn all_gather(at: Place) -> impl Iterator<Item = Step> + Send {
    let begin = [
        send(at.next, input(0, 1)),
        copy(input(0, 1), output(at.index, 1)),
        recv(at.prev, output(at.back(1), 1)),
    ];
    let rest = (1..at.size - 1).flat_map(move |k| {
        [send(at.next, output(at.back(k), 1)), recv(at.prev, output(at.back(k + 1), 1))]
    });
    begin.into_iter().chain(rest)
}
