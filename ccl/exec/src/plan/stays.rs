//! Finds the sends whose source may be read in place by the receiver: see [`Stays`].

use std::collections::HashMap;

use dure_plan::{Buf, Chunks, Rank, Step};

use super::{LANDING_RANKS, Landing, NO_LANDING, Stays};

/// A message on an edge: which way it goes, and its number among those that go that way.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Message {
    Out(u32),
    In(u32),
}

impl Message {
    /// The same message as the other side sees it.
    fn mirrored(self) -> Self {
        match self {
            Self::Out(number) => Self::In(number),
            Self::In(number) => Self::Out(number),
        }
    }
}

/// For each of `me`'s steps, when its source may stay; nothing for what is no send.
pub(super) fn of(landing: &Landing<'_>, me: Rank, lane: u16, steps: &[Step]) -> Box<[Stays]> {
    let mut stays = vec![Stays::default(); steps.len()];
    if landing.world.ranks > LANDING_RANKS {
        return stays.into();
    }
    let messages = numbered(steps);
    let writers = [false, true].map(|in_place| writers(landing, me, steps, in_place));
    let mut orders = HashMap::new();
    for (at, step) in steps.iter().enumerate() {
        let (&Step::Send { to, src }, Some(message)) = (step, messages[at]) else { continue };
        if src.buf == Buf::Scratch {
            // The next pass uses it again.
            continue;
        }
        // Whether the receiver sends what step `later` overwrites the source with only when it has read it.
        let mut answered = |later: usize| {
            let Some((peer, reply)) = steps[later].peer().zip(messages[later]) else {
                return false;
            };
            let order = orders.entry(to).or_insert_with(|| order(landing, to, lane, me));
            peer == to && order.get(&message.mirrored()) < order.get(&reply.mirrored())
        };
        let mut may = |in_place: bool| {
            let writers = &writers[usize::from(in_place)];
            let overwriting = places(landing, src, me, in_place)
                .filter_map(|place| writers.get(&place))
                .flat_map(|all| &all[all.partition_point(|writer| *writer <= at)..]);
            overwriting.copied().all(&mut answered)
        };
        stays[at] = Stays { apart: may(false), in_place: may(true) };
    }
    stays.into()
}

/// For each of `me`'s sends, the chunk of the receiver's output that it fills, if it sends back to a peer the sum that the
/// step before formed with that peer's message, and the peer's output is free to be written by then: before the answer
/// comes, the peer does nothing with that chunk but send it to `me`, who has received it.
pub(super) fn answers(landing: &Landing<'_>, me: Rank, lane: u16, steps: &[Step]) -> Box<[u32]> {
    let mut answers = vec![NO_LANDING; steps.len()];
    let messages = numbered(steps);
    for (at, pair) in steps.windows(2).enumerate() {
        if let [Step::RecvReduce { from, dst, .. }, Step::Send { to, src }] = *pair
            && (from, dst) == (to, src)
            && let (Some(received), Some(sent)) = (messages[at], messages[at + 1])
            && landing.world.ranks <= LANDING_RANKS
        {
            let theirs: Vec<Step> =
                landing.by.steps(landing.what, landing.world, from, lane).collect();
            answers[at + 1] =
                filled(landing, (from, &theirs), me, (received, sent)).unwrap_or(NO_LANDING);
        }
    }
    answers.into()
}

/// The chunk of a peer's output that it fills with the message that `me` sent, if it did nothing with it before but send
/// it to `me` with the message that `me` received, or earlier.
fn filled(
    landing: &Landing<'_>,
    (peer, steps): (Rank, &[Step]),
    me: Rank,
    (received, sent): (Message, Message),
) -> Option<u32> {
    let messages = numbered(steps);
    let is = |at: usize, message: Message| {
        steps[at].peer() == Some(me) && messages[at] == Some(message.mirrored())
    };
    let last_sent = (0..steps.len()).find(|at| is(*at, received))?;
    let filling = (0..steps.len()).find(|at| is(*at, sent))?;
    let Step::Recv { dst, .. } = steps[filling] else { return None };
    if dst.buf != Buf::Output || dst.len != 1 {
        return None;
    }
    let place = (Buf::Output, dst.first);
    let touches = |chunks: Chunks| places(landing, chunks, peer, true).any(|other| other == place);
    let is_free = |at: usize| match steps[at] {
        Step::Send { to, src } => !touches(src) || (to == me && at <= last_sent),
        Step::Recv { dst, .. } => !touches(dst),
        Step::RecvReduce { with, dst, .. } => !touches(with) && !touches(dst),
        Step::Copy { src, dst } => !touches(src) && !touches(dst),
        Step::Reduce { srcs, dst } => !touches(srcs.own) && !touches(dst),
    };
    (0..filling).all(is_free).then_some(dst.first)
}

/// The steps that write each place, in order.
fn writers(
    landing: &Landing<'_>,
    me: Rank,
    steps: &[Step],
    in_place: bool,
) -> HashMap<(Buf, u32), Vec<usize>> {
    let mut writers = HashMap::<_, Vec<usize>>::new();
    for (at, step) in steps.iter().enumerate() {
        let dst = match *step {
            Step::Send { .. } => continue,
            // A copy to itself.
            Step::Copy { src, dst }
                if places(landing, src, me, in_place).eq(places(landing, dst, me, in_place)) =>
            {
                continue;
            }
            Step::Recv { dst, .. }
            | Step::RecvReduce { dst, .. }
            | Step::Copy { dst, .. }
            | Step::Reduce { dst, .. } => dst,
        };
        for place in places(landing, dst, me, in_place) {
            writers.entry(place).or_default().push(at);
        }
    }
    writers
}

/// Numbers the messages of each edge.
fn numbered(steps: &[Step]) -> Vec<Option<Message>> {
    let (mut sent, mut received) = (HashMap::new(), HashMap::new());
    let next = |count: &mut HashMap<Rank, u32>, peer: Rank| {
        let number = count.entry(peer).or_insert(0);
        *number += 1;
        *number
    };
    let number = |step: &Step| match *step {
        Step::Send { to, .. } => Some(Message::Out(next(&mut sent, to))),
        Step::Recv { from, .. } | Step::RecvReduce { from, .. } => {
            Some(Message::In(next(&mut received, from)))
        }
        Step::Copy { .. } | Step::Reduce { .. } => None,
    };
    steps.iter().map(number).collect()
}

/// Where each message that `rank` exchanges with `peer` comes in the order of its steps.
fn order(landing: &Landing<'_>, rank: Rank, lane: u16, peer: Rank) -> HashMap<Message, usize> {
    let steps: Vec<Step> = landing.by.steps(landing.what, landing.world, rank, lane).collect();
    let messages = steps.iter().zip(numbered(&steps)).enumerate();
    let theirs = messages.filter(|(_, (step, _))| step.peer() == Some(peer));
    theirs.filter_map(|(at, (_, message))| Some((message?, at))).collect()
}

/// The places of chunks, named alike where buffers share them.
fn places(
    landing: &Landing<'_>,
    chunks: Chunks,
    me: Rank,
    in_place: bool,
) -> impl Iterator<Item = (Buf, u32)> {
    let place = move |chunk: u32| match landing.in_output(chunks.buf, chunk, me) {
        Some(shared) if in_place => (Buf::Output, shared),
        _ => (chunks.buf, chunk),
    };
    (chunks.first..chunks.first + chunks.len).map(place)
}

#[cfg(test)]
mod tests {
    use dure_plan::{Collective, World, algorithms};

    use super::*;
    use crate::plan::Plan;

    fn stays(what: Collective, by: &str, ranks: u32) -> Vec<(Step, Stays)> {
        let by = dure_plan::find(what, by).unwrap();
        let plan = Plan::collect(what, &World::flat(ranks), by, Rank(0));
        let lane = &plan.lanes[0];
        lane.steps.iter().copied().zip(lane.stays.iter().copied()).collect()
    }

    #[test]
    fn the_input_of_a_two_shot_all_reduce_may_stay_in_place_or_not() {
        let sends = stays(Collective::AllReduce, "two-shot", 2);
        assert!(sends.iter().any(|(step, _)| matches!(step, Step::Send { .. })));
        for (step, stays) in sends {
            if matches!(step, Step::Send { .. }) {
                assert_eq!(stays, Stays::ALWAYS, "{step}");
            }
        }
    }

    #[test]
    fn the_sum_of_two_is_written_to_both_outputs() {
        let by = dure_plan::find(Collective::AllReduce, "two-shot").unwrap();
        for me in 0..2 {
            let plan = Plan::collect(Collective::AllReduce, &World::flat(2), by, Rank(me));
            let lane = &plan.lanes[0];
            let answers: Vec<_> = (0..lane.steps.len()).filter_map(|at| lane.answers(at)).collect();
            assert_eq!(answers, [me], "rank {me} sends its part back");
        }
    }

    #[test]
    fn what_is_overwritten_before_the_peer_is_known_to_have_read_it_may_not_stay() {
        let all = stays(Collective::AllReduce, "recursive-doubling", 2);
        let (_, first) = all.iter().find(|(s, _)| matches!(s, Step::Send { .. })).unwrap();
        assert_eq!(*first, Stays { apart: true, in_place: false });
    }

    #[test]
    fn a_root_may_keep_what_it_broadcasts_in_place_or_not() {
        let what = Collective::Broadcast { root: Rank(0) };
        for by in algorithms().iter().filter(|by| by.serves(what, &World::flat(2)).is_ok()) {
            for (step, stays) in stays(what, by.name(), 2) {
                if matches!(step, Step::Send { .. }) {
                    assert_eq!(stays, Stays::ALWAYS, "{} {step}", by.name());
                }
            }
        }
    }

    #[test]
    fn every_send_of_an_all_gather_from_the_input_may_stay() {
        for by in algorithms() {
            let what = Collective::AllGather;
            if by.serves(what, &World::flat(4)).is_err() {
                continue;
            }
            for (step, stays) in stays(what, by.name(), 4) {
                if matches!(step, Step::Send { src, .. } if src.buf == Buf::Input) {
                    assert!(stays.apart, "{} {step}", by.name());
                }
            }
        }
    }
}
