//! When each step of a plan runs, if every step takes one unit of time and every message one more on its way.

use std::collections::VecDeque;
use std::convert::Infallible;

use crate::schedule::{At, Halt, Lane, Machine};
use crate::step::Step;

/// One pass of one lane, in time.
pub(crate) struct Timeline {
    /// Per rank and step, the unit of time in which it runs; shorter than the plan for a rank that is stuck.
    pub(crate) starts: Vec<Vec<u32>>,
    pub(crate) messages: Vec<Message>,
    /// The steps at which ranks are stuck for ever.
    pub(crate) stuck: Vec<At>,
    /// When the last step ends.
    pub(crate) end: u32,
}

/// A message that was received: the step that sends it and the step that receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) from: At,
    pub(crate) to: At,
}

impl Timeline {
    /// Runs a lane with `slots` slots on each edge. The lane must have passed [`crate::check::steps`].
    pub(crate) fn new(lane: &Lane, slots: u32) -> Self {
        let mut clock = Clock {
            slots: slots as usize,
            free: vec![0; lane.steps.len()],
            starts: vec![Vec::new(); lane.steps.len()],
            sent: vec![VecDeque::new(); lane.edges.len()],
            taken: vec![VecDeque::new(); lane.edges.len()],
            messages: Vec::new(),
        };
        let stuck = match lane.run(slots, 1, &mut clock) {
            Err(Halt::Stuck(stuck)) => stuck,
            Ok(()) | Err(Halt::Leftover(_)) => Vec::new(),
        };
        let end = clock.free.iter().copied().max().unwrap_or(0);
        Self { starts: clock.starts, messages: clock.messages, stuck, end }
    }
}

struct Clock {
    slots: usize,
    /// When each rank has done its last step.
    free: Vec<u32>,
    starts: Vec<Vec<u32>>,
    /// Per edge, the messages on it and when they arrive.
    sent: Vec<VecDeque<(At, u32)>>,
    /// Per edge, when the last messages were taken from their slots, the latest last.
    taken: Vec<VecDeque<u32>>,
    messages: Vec<Message>,
}

impl Machine for Clock {
    type Error = Infallible;

    fn step(&mut self, at: At, step: Step, edge: usize) -> Result<(), Infallible> {
        let ready = self.free[at.rank as usize];
        let start = match step {
            Step::Send { .. } => {
                // Each slot but those of the messages under way was taken before; the first of them is used.
                let used = self.sent[edge].len();
                let slot = if self.taken[edge].len() + used >= self.slots {
                    self.taken[edge].pop_front()
                } else {
                    None
                };
                let start = ready.max(slot.unwrap_or(0));
                self.sent[edge].push_back((at, start + 2));
                start
            }
            Step::Recv { .. } | Step::RecvReduce { .. } => {
                let (from, arrives) =
                    self.sent[edge].pop_front().expect("a receive runs when a message is there");
                let start = ready.max(arrives);
                self.messages.push(Message { from, to: at });
                self.taken[edge].push_back(start + 1);
                start
            }
            Step::Copy { .. } | Step::Reduce { .. } => ready,
        };
        self.starts[at.rank as usize].push(start);
        self.free[at.rank as usize] = start + 1;
        Ok(())
    }

    fn end_of_pass(&mut self, _: At) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::{Collective, World};
    use crate::algorithms::find;
    use crate::step::Rank;

    fn timeline(what: Collective, name: &str, n: u32, slots: u32) -> Timeline {
        let world = World::flat(n);
        Timeline::new(&Lane::collect(what, &world, find(what, name).unwrap(), 0), slots)
    }

    #[test]
    fn a_chain_takes_three_units_a_rank() {
        let chain = timeline(Collective::Broadcast { root: Rank(0) }, "chain", 4, 1);
        assert_eq!(chain.starts, [vec![0, 1], vec![2, 3], vec![5, 6], vec![8]]);
        assert_eq!((chain.end, chain.messages.len()), (9, 3));
    }

    #[test]
    fn parts_of_a_tree_follow_one_another() {
        // In lockstep the eight parts take 161 units at 64 ranks.
        for (n, most) in [(8, 60), (16, 80), (64, 90)] {
            let tree = timeline(Collective::AllReduce, "double-binary-tree", n, 1);
            assert!(tree.end <= most, "{} units for {n} ranks", tree.end);
        }
    }

    #[test]
    fn a_send_waits_for_its_slot() {
        let what = Collective::Broadcast { root: Rank(0) };
        let tree = |slots| timeline(what, "double-binary-tree", 2, slots);
        // Eight parts over one edge: a slot is free again when its part was received.
        assert_eq!(tree(8).starts[0][..8], [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(tree(1).starts[0][..8], [0, 3, 6, 9, 12, 15, 18, 21]);
        assert_eq!(tree(2).starts[0][..8], [0, 1, 3, 4, 6, 7, 9, 10]);
    }
}
