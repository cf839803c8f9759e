//! Runs the steps of all ranks of one lane against each other, as the executor would: in order, and a send waits while
//! its edge has no free slot. What a step means is the business of a [`Machine`].
//!
//! A lane is a network of sequential processes joined by bounded first-in-first-out edges. Such a network is
//! determinate: whether it gets stuck, and what each step sees, does not depend on the order in which ranks run. So
//! one run stands for all.
//!
//! Nor does it matter that the executor skips messages whose chunks are all empty: that takes a send and its receive
//! out together, and what remains waits for fewer slots than before.

use std::collections::HashMap;

use crate::algorithm::{Algorithm, Collective, World};
use crate::step::{Rank, Step};

/// The steps of all ranks on one lane, with their edges.
pub(crate) struct Lane {
    pub(crate) number: u16,
    pub(crate) steps: Vec<Vec<Step>>,
    /// Per rank and step its edge, or [`NONE`].
    edges_of: Vec<Vec<u32>>,
    pub(crate) edges: Vec<Edge>,
}

/// An ordered stream of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Edge {
    pub(crate) from: Rank,
    pub(crate) to: Rank,
}

/// No edge.
const NONE: u32 = u32::MAX;

/// Step `index` of rank `rank` in pass `pass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) rank: u32,
    pub(crate) pass: u32,
    pub(crate) index: u32,
}

/// Gives steps a meaning.
pub(crate) trait Machine {
    /// Why it stops.
    type Error;

    /// A step is done. `edge` is the number of its edge; it means nothing for a step without one.
    fn step(&mut self, at: At, step: Step, edge: usize) -> Result<(), Self::Error>;

    /// A rank has done its last step of a pass.
    fn end_of_pass(&mut self, at: At) -> Result<(), Self::Error>;
}

/// How a run ended early.
pub(crate) enum Halt<E> {
    /// Some ranks wait for each other, each at a step.
    Stuck(Vec<At>),
    /// Somebody sent a message on this edge that nobody received.
    Leftover(usize),
    /// The machine stopped.
    Machine(E),
}

/// The edge of a step of rank `me`.
fn edge(me: Rank, step: Step) -> Option<Edge> {
    match step {
        Step::Send { to, .. } => Some(Edge { from: me, to }),
        Step::Recv { from, .. } | Step::RecvReduce { from, .. } => Some(Edge { from, to: me }),
        Step::Copy { .. } | Step::Reduce { .. } => None,
    }
}

impl Lane {
    /// Collects lane `number`. Every peer must be one of the ranks before [`Lane::run`].
    pub(crate) fn collect(
        what: Collective,
        world: &World,
        by: &dyn Algorithm,
        number: u16,
    ) -> Self {
        let steps: Vec<Vec<Step>> =
            (0..world.ranks).map(|me| by.steps(what, world, Rank(me), number).collect()).collect();
        let mut edges = Vec::new();
        let mut known: HashMap<Edge, u32> = HashMap::new();
        let mut number_of = |edge: Edge| {
            *known.entry(edge).or_insert_with(|| {
                edges.push(edge);
                u32::try_from(edges.len() - 1).expect("there are fewer edges than steps")
            })
        };
        let mut edges_of = Vec::new();
        for (me, steps) in (0..).zip(&steps) {
            edges_of.push(
                steps
                    .iter()
                    .map(|step| edge(Rank(me), *step).map_or(NONE, &mut number_of))
                    .collect(),
            );
        }
        Self { number, steps, edges_of, edges }
    }

    /// Runs all ranks for `passes` passes with `slots` slots on each edge.
    pub(crate) fn run<M: Machine>(
        &self,
        slots: u32,
        passes: u32,
        machine: &mut M,
    ) -> Result<(), Halt<M::Error>> {
        let ranks = u32::try_from(self.steps.len()).expect("ranks are numbered by u32");
        let mut run = Run {
            lane: self,
            slots,
            passes,
            at: (0..ranks).map(|rank| At { rank, pass: 0, index: 0 }).collect(),
            waits: vec![NONE; self.steps.len()],
            in_flight: vec![0; self.edges.len()],
            ready: (0..ranks).rev().collect(),
        };
        while let Some(rank) = run.ready.pop() {
            run.advance(rank, machine).map_err(Halt::Machine)?;
        }
        let stuck: Vec<At> = run.at.iter().copied().filter(|at| at.pass < passes).collect();
        if !stuck.is_empty() {
            return Err(Halt::Stuck(stuck));
        }
        run.in_flight
            .iter()
            .position(|&messages| messages > 0)
            .map_or(Ok(()), |edge| Err(Halt::Leftover(edge)))
    }
}

struct Run<'l> {
    lane: &'l Lane,
    slots: u32,
    passes: u32,
    /// The next step of each rank.
    at: Vec<At>,
    /// The edge that each rank waits for.
    waits: Vec<u32>,
    /// Messages sent and not received, per edge.
    in_flight: Vec<u32>,
    ready: Vec<u32>,
}

impl Run<'_> {
    /// Runs one rank until it is done or must wait.
    fn advance<M: Machine>(&mut self, rank: u32, machine: &mut M) -> Result<(), M::Error> {
        let me = rank as usize;
        while self.at[me].pass < self.passes {
            let at = self.at[me];
            let Some(&step) = self.lane.steps[me].get(at.index as usize) else {
                machine.end_of_pass(at)?;
                self.at[me] = At { pass: at.pass + 1, index: 0, ..at };
                continue;
            };
            let edge = self.lane.edges_of[me][at.index as usize];
            if !self.may(step, edge) {
                self.waits[me] = edge;
                return Ok(());
            }
            machine.step(at, step, edge as usize)?;
            self.at[me].index += 1;
            self.pass_on(step, edge);
        }
        Ok(())
    }

    /// Whether a step can be done now.
    fn may(&self, step: Step, edge: u32) -> bool {
        match step {
            Step::Send { .. } => self.in_flight[edge as usize] < self.slots,
            Step::Recv { .. } | Step::RecvReduce { .. } => self.in_flight[edge as usize] > 0,
            Step::Copy { .. } | Step::Reduce { .. } => true,
        }
    }

    /// Counts a message, and wakes the peer if it waits for just that.
    fn pass_on(&mut self, step: Step, edge: u32) {
        let Some(Rank(peer)) = step.peer() else { return };
        let in_flight = &mut self.in_flight[edge as usize];
        *in_flight =
            if matches!(step, Step::Send { .. }) { *in_flight + 1 } else { *in_flight - 1 };
        if self.waits[peer as usize] == edge {
            self.waits[peer as usize] = NONE;
            self.ready.push(peer);
        }
    }
}
