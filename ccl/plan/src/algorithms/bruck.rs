//! Bruck's algorithms: in round k every rank exchanges with the ranks 2^k places away, for any number of ranks, and
//! the rounds are as few as can be.
//!
//! Bruck, Ho, Kipnis, Upfal and Weathersby, Efficient algorithms for all-to-all communications in multiport
//! message-passing systems, 1997. The reduce-scatter is the all-gather backwards, as in Jeaugey's PAT (2025).

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{
    alone, copy, log2_up, only, recv, recv_reduce, send, wrapped, written,
};
use crate::step::{Buf, Chunks, Rank, Step, input, output, scratch};

/// `bruck`: all-gather, reduce-scatter, all-to-all.
#[derive(Debug)]
pub(super) struct Bruck;

impl Algorithm for Bruck {
    fn name(&self) -> &str {
        "bruck"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        use Collective::{AllGather, AllToAll, ReduceScatter};
        only(self, what, matches!(what, AllGather | ReduceScatter | AllToAll))
    }

    fn ragged(&self, what: Collective) -> bool {
        what == Collective::AllGather
    }

    fn shape(&self, what: Collective, world: &World) -> Shape {
        let n = world.ranks;
        let half = n.next_power_of_two() / 2;
        match what {
            Collective::AllGather => Shape { parts: 1, scratch: 0, run: half.max(1) },
            Collective::ReduceScatter => Shape { parts: 1, scratch: half, run: half.max(1) },
            _ => {
                let moved = (0..log2_up(n)).map(|k| moves(n, k).len);
                let run = moved.clone().max().unwrap_or(1);
                Shape { parts: 1, scratch: STAGES * run + moved.sum::<u32>(), run }
            }
        }
    }

    fn steps<'w>(
        &'w self,
        what: Collective,
        world: &'w World,
        Rank(me): Rank,
        _: u16,
    ) -> Steps<'w> {
        match (what, world.ranks) {
            (_, 1) => alone(what, 1),
            (Collective::AllGather, n) => written(all_gather(n, me)),
            (Collective::ReduceScatter, n) => written(reduce_scatter(n, me)),
            (_, n) => written(all_to_all(n, me)),
        }
    }
}

/// Distance and number of blocks of each round of a gather.
fn rounds(n: u32) -> impl DoubleEndedIterator<Item = (u32, u32)> {
    (0..log2_up(n)).map(move |k| (1 << k, (1 << k).min(n - (1 << k))))
}

/// After a round at distance d a rank has the 2d blocks from its own on. Blocks land where they belong, so a message
/// that wraps around the end of the output is two. No more than half of the ranks have such a message to send in a
/// round, and following whom they send to leads to one who has not: one slot is enough.
fn all_gather(n: u32, me: u32) -> Vec<Step> {
    let mut steps = vec![copy(input(0, 1), output(me, 1))];
    for (distance, blocks) in rounds(n) {
        let (to, from) = ((me + n - distance) % n, (me + distance) % n);
        steps.extend(wrapped(Buf::Output, me, blocks, n).map(|src| send(to, src)));
        steps.extend(wrapped(Buf::Output, from, blocks, n).map(|dst| recv(from, dst)));
    }
    steps
}

/// The all-gather backwards. Partial sums are kept in the scratch by distance of the block from the own one; only the
/// first round, which may move less than half, reads the input and can wrap.
fn reduce_scatter(n: u32, me: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut backwards = rounds(n).rev();
    let (distance, blocks) = backwards.next().expect("there are two ranks or more");
    let (to, from) = ((me + distance) % n, (me + n - distance) % n);
    let sum = |first, len| if distance == 1 { output(0, 1) } else { scratch(first, len) };
    steps.extend(wrapped(Buf::Input, to, blocks, n).map(|src| send(to, src)));
    let mut done = 0;
    for own in wrapped(Buf::Input, me, blocks, n) {
        steps.push(recv_reduce(from, own, sum(done, own.len)));
        done += own.len;
    }
    for own in wrapped(Buf::Input, me + blocks, distance - blocks, n) {
        steps.push(copy(own, scratch(done, own.len)));
        done += own.len;
    }
    for (distance, blocks) in backwards {
        let (to, from) = ((me + distance) % n, (me + n - distance) % n);
        let sum = if distance == 1 { output(0, 1) } else { scratch(0, blocks) };
        steps.push(send(to, scratch(distance, blocks)));
        steps.push(recv_reduce(from, scratch(0, blocks), sum));
    }
    steps
}

/// Packed messages that may be under way at once.
const STAGES: u32 = 2;

/// The blocks that move in round `k` of an all-to-all among `n`: those that have `1 << k` in the binary form of their
/// distance.
#[derive(Clone, Copy)]
struct Moves {
    n: u32,
    k: u32,
    /// How many.
    len: u32,
}

fn moves(n: u32, k: u32) -> Moves {
    let len = (n >> (k + 1) << k) + (n & ((2 << k) - 1)).saturating_sub(1 << k);
    Moves { n, k, len }
}

impl Moves {
    /// Their distances. The farthest comes first, so that neighbours are in the order of the ranks they came from.
    fn distances(self) -> impl Iterator<Item = u32> {
        (0..self.n).rev().filter(move |distance| distance >> self.k & 1 == 1)
    }
}

/// Block of distance i is the one that goes i ranks on, as a sum of powers of two: in round k all blocks with that bit
/// move at once, packed into one message. Each round's message is left where it arrives.
fn all_to_all(n: u32, me: u32) -> Vec<Step> {
    let mut steps = vec![copy(input(me, 1), output(me, 1))];
    // Where the block of each distance is now.
    let mut at: Vec<Chunks> = (0..n).map(|i| input((me + i) % n, 1)).collect();
    let widest = (0..log2_up(n)).map(|k| moves(n, k).len).max().unwrap_or(0);
    let mut free = STAGES * widest;
    for k in 0..log2_up(n) {
        let moves = moves(n, k);
        let stage = k % STAGES * widest;
        let (to, from) = ((me + (1 << k)) % n, (me + n - (1 << k)) % n);
        let sources = moves.distances().map(|i| at[i as usize]);
        steps.extend(pack(sources, scratch(stage, moves.len)));
        steps.push(send(to, scratch(stage, moves.len)));
        steps.push(recv(from, scratch(free, moves.len)));
        for (arrived, i) in (free..).zip(moves.distances()) {
            at[i as usize] = scratch(arrived, 1);
        }
        free += moves.len;
    }
    // By the rank they came from: the farthest first.
    let arrived = (1..n).rev().map(|i| (at[i as usize], (me + n - i) % n));
    let (low, high): (Vec<_>, Vec<_>) = arrived.partition(|&(_, from)| from > me);
    for run in [low, high].into_iter().filter(|run| !run.is_empty()) {
        let len = u32::try_from(run.len()).expect("there are no more blocks than ranks");
        steps.extend(pack(run.iter().map(|&(src, _)| src), output(run[0].1, len)));
    }
    steps
}

/// Copies single chunks into a run, with as few steps as neighbours allow.
fn pack(sources: impl Iterator<Item = Chunks>, to: Chunks) -> Vec<Step> {
    let mut runs: Vec<Chunks> = Vec::new();
    for chunk in sources {
        match runs.last_mut() {
            Some(run) if run.buf == chunk.buf && run.first + run.len == chunk.first => run.len += 1,
            _ => runs.push(chunk),
        }
    }
    let mut first = to.first;
    let place = |run: Chunks| {
        let dst = Chunks { first, len: run.len, ..to };
        first += run.len;
        copy(run, dst)
    };
    runs.into_iter().map(place).collect()
}
