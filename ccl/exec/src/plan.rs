//! A rank's own steps, collected from an algorithm once and kept, with what can be known of them before any call.

mod stays;

use std::collections::{HashMap, HashSet};

use dure_plan::{Algorithm, Buf, Chunks, Collective, Rank, Shape, Step, World};

/// Above this many ranks no message lands directly in the user's memory: finding out where would walk every peer's
/// plan, and an all-to-all has as many peers as ranks.
const LANDING_RANKS: u32 = 1024;

/// In place of a chunk number: this message goes through a slot.
const NO_LANDING: u32 = u32::MAX;

/// One rank's steps on every lane.
#[derive(Debug)]
pub struct Plan {
    /// How the algorithm cuts the buffers.
    pub shape: Shape,
    /// The steps, lane by lane.
    pub(crate) lanes: Box<[LanePlan]>,
}

/// One rank's steps on one lane.
#[derive(Debug)]
pub(crate) struct LanePlan {
    pub(crate) steps: Box<[Step]>,
    /// For each send, the chunk of the receiver's output that the message may land in; `NO_LANDING` otherwise.
    lands: Box<[u32]>,
    /// For each send, when its source may be read by the receiver in place.
    stays: Box<[Stays]>,
    /// For each send that answers the receive and reduce before it with the sum, the chunk of the receiver's output that
    /// the sum may be written to while it is formed; `NO_LANDING` otherwise.
    answers: Box<[u32]>,
    /// For each send to several peers in a row, the first of them; otherwise its own number.
    series: Box<[u32]>,
    /// Whether it sends from the output.
    pub(crate) forwards: bool,
    /// Everybody this lane talks to, once.
    pub(crate) peers: Box<[PeerUse]>,
}

/// When the source of a send may stay where it is until the receiver has read it: when nothing overwrites it in this
/// call, or only what the receiver sends after it has read it. Otherwise the two could wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stays {
    /// In a call whose input and output are apart.
    pub(crate) apart: bool,
    /// In a call whose input is part of its output, or the other way round.
    pub(crate) in_place: bool,
}

impl Stays {
    const ALWAYS: Self = Self { apart: true, in_place: true };
}

/// What a lane does with one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerUse {
    pub(crate) peer: u32,
    /// The messages to the peer, if all of them may land.
    pub(crate) lands_out: Option<Lands>,
    /// The messages from the peer, if all of them may land.
    pub(crate) lands_in: Option<Lands>,
}

/// The messages of an edge, all of which may land.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lands {
    /// What the first of them carries, on the side that looks.
    pub(crate) first: Chunks,
    /// Whether all of them go to one block. Where blocks differ in length, a rank knows nothing of the others' blocks but
    /// what it is told of one.
    pub(crate) one_block: bool,
}

impl Plan {
    /// The steps of rank `me`.
    pub fn collect(what: Collective, world: &World, by: &dyn Algorithm, me: Rank) -> Self {
        let mut shape = by.shape(what, world);
        let landing = Landing { what, world, by, parts: shape.parts };
        let lanes: Box<[LanePlan]> =
            (0..world.lanes).map(|lane| LanePlan::collect(&landing, me, lane)).collect();
        // The shape is that of the rank that needs most.
        if !lanes.iter().flat_map(|lane| &lane.steps).any(needs_scratch) {
            shape.scratch = 0;
        }
        Self { shape, lanes }
    }

    /// A message to (or from) one peer, outside any collective.
    pub fn message(step: Step) -> Self {
        let lands = |first| Some(Lands { first, one_block: true });
        let (peer, lands_out, lands_in) = match step {
            Step::Send { to, src } => (to.0, lands(src), None),
            Step::Recv { from, dst } => (from.0, None, lands(dst)),
            Step::RecvReduce { .. } | Step::Copy { .. } | Step::Reduce { .. } => {
                unreachable!("a message is a send or a receive")
            }
        };
        let lane = LanePlan {
            steps: Box::new([step]),
            lands: Box::new([0]),
            stays: Box::new([Stays::ALWAYS]),
            answers: Box::new([NO_LANDING]),
            series: Box::new([0]),
            forwards: false,
            peers: Box::new([PeerUse { peer, lands_out, lands_in }]),
        };
        Self { shape: Shape { parts: 1, scratch: 0, run: 1 }, lanes: Box::new([lane]) }
    }

    /// A copy of the input to the output, outside any collective.
    pub fn copy() -> Self {
        let step = Step::Copy { src: dure_plan::input(0, 1), dst: dure_plan::output(0, 1) };
        let lane = LanePlan {
            steps: Box::new([step]),
            lands: Box::new([NO_LANDING]),
            stays: Box::new([Stays::default()]),
            answers: Box::new([NO_LANDING]),
            series: Box::new([0]),
            forwards: false,
            peers: Box::new([]),
        };
        Self { shape: Shape { parts: 1, scratch: 0, run: 1 }, lanes: Box::new([lane]) }
    }

    /// Steps on all lanes.
    pub fn steps(&self) -> usize {
        self.lanes.iter().map(|lane| lane.steps.len()).sum()
    }

    /// Memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let lane = |lane: &LanePlan| {
            size_of_val(&*lane.steps)
                + size_of_val(&*lane.lands)
                + size_of_val(&*lane.stays)
                + size_of_val(&*lane.answers)
                + size_of_val(&*lane.series)
                + size_of_val(&*lane.peers)
        };
        size_of::<Self>() + size_of_val(&*self.lanes) + self.lanes.iter().map(lane).sum::<usize>()
    }
}

/// For each step the first of the sends of the same source that it follows without other steps between.
fn series(steps: &[Step]) -> Box<[u32]> {
    let mut series: Vec<u32> = (0..).take(steps.len()).collect();
    for at in 1..steps.len() {
        if steps[at].sends_again(&steps[at - 1]) {
            series[at] = series[at - 1];
        }
    }
    series.into()
}

fn needs_scratch(step: &Step) -> bool {
    let is_scratch = |chunks: &Chunks| chunks.buf == Buf::Scratch;
    match step {
        Step::Send { src, .. } => is_scratch(src),
        Step::Recv { dst, .. } => is_scratch(dst),
        Step::RecvReduce { with, dst, .. } => is_scratch(with) || is_scratch(dst),
        Step::Copy { src, dst } => is_scratch(src) || is_scratch(dst),
        Step::Reduce { .. } => true,
    }
}

impl LanePlan {
    fn collect(landing: &Landing<'_>, me: Rank, lane: u16) -> Self {
        let steps: Box<[Step]> = landing.by.steps(landing.what, landing.world, me, lane).collect();
        let (mut peers, mut index) = (Vec::<PeerUse>::new(), HashMap::new());
        let mut place = |peer: Rank, peers: &mut Vec<PeerUse>| {
            *index.entry(peer.0).or_insert_with(|| {
                peers.push(PeerUse { peer: peer.0, lands_out: None, lands_in: None });
                peers.len() - 1
            })
        };
        let mut out: HashMap<u32, std::vec::IntoIter<u32>> = HashMap::new();
        let arrivals = landing.of(me, lane, None);
        let mut lands = vec![NO_LANDING; steps.len()];
        for (i, step) in steps.iter().enumerate() {
            match *step {
                Step::Send { to, src } => {
                    let at = place(to, &mut peers);
                    let chunks = out.entry(to.0).or_insert_with(|| {
                        let chunks = landing
                            .of(to, lane, Some(me))
                            .remove(&me.0)
                            .flatten()
                            .unwrap_or_default();
                        if !chunks.is_empty() {
                            peers[at].lands_out = Some(landing.lands(src, &chunks));
                        }
                        chunks.into_iter()
                    });
                    lands[i] = chunks.next().unwrap_or(NO_LANDING);
                }
                Step::Recv { from, dst } | Step::RecvReduce { from, dst, .. } => {
                    let at = place(from, &mut peers);
                    if let Some(Some(chunks)) = arrivals.get(&from.0) {
                        peers[at].lands_in.get_or_insert_with(|| landing.lands(dst, chunks));
                    }
                }
                Step::Copy { .. } | Step::Reduce { .. } => {}
            }
        }
        let stays = stays::of(landing, me, lane, &steps);
        let answers = stays::answers(landing, me, lane, &steps);
        let from_output =
            |step: &Step| matches!(step, Step::Send { src, .. } if src.buf == Buf::Output);
        let forwards = steps.iter().any(from_output);
        let series = series(&steps);
        Self { steps, lands: lands.into(), stays, answers, series, forwards, peers: peers.into() }
    }

    /// Which of the series of sends of one source to several peers step `at` belongs to, if to any.
    pub(crate) fn series(&self, at: usize) -> Option<u32> {
        let first = self.series[at];
        let begins = || self.series.get(at + 1).is_some_and(|next| *next == first);
        (first as usize != at || begins()).then_some(first)
    }

    /// The chunk of the receiver's output that the sum which step `at` sends may be written to as it is formed.
    pub(crate) fn answers(&self, at: usize) -> Option<u32> {
        self.answers.get(at).copied().filter(|chunk| *chunk != NO_LANDING)
    }

    /// When the source of step `at`, which is a send, may stay where it is.
    pub(crate) fn stays(&self, at: usize) -> Stays {
        self.stays[at]
    }

    /// The chunk of the receiver's output that the message of step `at` may land in.
    pub(crate) fn lands(&self, at: usize) -> Option<u32> {
        Some(self.lands[at]).filter(|chunk| *chunk != NO_LANDING)
    }
}

/// Finds the messages that may land directly in the receiver's output at any time of the call: every message of the
/// edge is a plain receive of one chunk of output that no earlier step of the receiver touches. Later passes touch
/// other bytes, so one pass decides.
struct Landing<'a> {
    what: Collective,
    world: &'a World,
    by: &'a dyn Algorithm,
    parts: u32,
}

impl Landing<'_> {
    /// For each peer that `receiver` gets messages from (or only for `sender`), the chunks they land in, in order;
    /// `None` where some message may not land.
    fn of(
        &self,
        receiver: Rank,
        lane: u16,
        sender: Option<Rank>,
    ) -> HashMap<u32, Option<Vec<u32>>> {
        let mut found = HashMap::new();
        if self.world.ranks > LANDING_RANKS {
            return found;
        }
        let mut touched = HashSet::new();
        let touch = |chunks: Chunks, touched: &mut HashSet<u32>| {
            touched.extend(
                (chunks.first..chunks.first + chunks.len)
                    .filter_map(|c| self.in_output(chunks.buf, c, receiver)),
            );
        };
        for step in self.by.steps(self.what, self.world, receiver, lane) {
            match step {
                Step::Send { src, .. } => touch(src, &mut touched),
                Step::Recv { from, dst } => {
                    let lands =
                        dst.buf == Buf::Output && dst.len == 1 && !touched.contains(&dst.first);
                    if sender.is_none_or(|s| s == from) {
                        note(&mut found, from, lands.then_some(dst.first));
                    }
                    touch(dst, &mut touched);
                }
                Step::RecvReduce { from, with, dst } => {
                    if sender.is_none_or(|s| s == from) {
                        note(&mut found, from, None);
                    }
                    touch(with, &mut touched);
                    touch(dst, &mut touched);
                }
                Step::Copy { src, dst } => {
                    touch(src, &mut touched);
                    touch(dst, &mut touched);
                }
                Step::Reduce { srcs, dst } => {
                    touch(srcs.own, &mut touched);
                    touch(dst, &mut touched);
                }
            }
        }
        found
    }

    /// Messages that land in these chunks of the output, the first of which is `first` on the side that looks.
    fn lands(&self, first: Chunks, chunks: &[u32]) -> Lands {
        let one_block = chunks.windows(2).all(|pair| pair[0] / self.parts == pair[1] / self.parts);
        Lands { first, one_block }
    }

    /// The chunk of the output that a chunk is, when the call is in place.
    fn in_output(&self, buf: Buf, chunk: u32, me: Rank) -> Option<u32> {
        match (buf, self.what) {
            (Buf::Output, _) => Some(chunk),
            (Buf::Scratch, _) | (Buf::Input, Collective::AllToAll | Collective::Barrier) => None,
            (
                Buf::Input,
                Collective::AllReduce | Collective::Broadcast { .. } | Collective::Reduce { .. },
            ) => Some(chunk),
            (Buf::Input, Collective::AllGather | Collective::Gather { .. }) => {
                Some(me.0 * self.parts + chunk)
            }
            (Buf::Input, Collective::ReduceScatter | Collective::Scatter { .. }) => {
                (chunk / self.parts == me.0).then_some(chunk % self.parts)
            }
        }
    }
}

fn note(found: &mut HashMap<u32, Option<Vec<u32>>>, from: Rank, chunk: Option<u32>) {
    let chunks = found.entry(from.0).or_insert_with(|| Some(Vec::new()));
    match (chunks.as_mut(), chunk) {
        (Some(list), Some(chunk)) => list.push(chunk),
        _ => *chunks = None,
    }
}

#[cfg(test)]
mod tests {
    use dure_plan::algorithms;

    use super::*;

    #[test]
    fn sends_of_one_source_in_a_row_are_a_series() {
        let by = dure_plan::find(Collective::AllReduce, "two-shot").unwrap();
        let plan = Plan::collect(Collective::AllReduce, &World::flat(4), by, Rank(0));
        let lane = &plan.lanes[0];
        // The parts of the input go to one rank each, the sum to all others, one after the other.
        let sends_sum =
            |step: &Step| matches!(step, Step::Send { src, .. } if src.buf == Buf::Output);
        let first = lane.steps.iter().position(sends_sum).unwrap();
        for (at, step) in lane.steps.iter().enumerate() {
            let series = lane.series(at).map(|series| series as usize);
            assert_eq!(series, sends_sum(step).then_some(first), "{step}");
        }
    }

    #[test]
    fn only_ranks_that_use_scratch_have_some() {
        let by = algorithms().iter().find(|by| by.name() == "chain").unwrap();
        let what = Collective::Reduce { root: Rank(0) };
        let scratch = |me| Plan::collect(what, &World::flat(3), *by, Rank(me)).shape.scratch;
        // The sum is formed at rank 1 on its way from rank 2 to the output of rank 0.
        assert_eq!([0, 1, 2].map(scratch), [0, 1, 0]);
    }
}
