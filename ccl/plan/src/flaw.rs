//! What can be wrong with a plan, told with rank and step.

use std::fmt::{self, Display};

use crate::algorithm::Refusal;
use crate::step::{Chunks, Rank, Step};

/// One step of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The rank.
    pub rank: Rank,
    /// The lane.
    pub lane: u16,
    /// The number of the step, from 0.
    pub index: u32,
    /// The step.
    pub step: Step,
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}, lane {}, step {} ({})", self.rank.0, self.lane, self.index, self.step)
    }
}

/// The first thing that is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// The algorithm does not serve the collective in this world.
    #[error(transparent)]
    Refused(#[from] Refusal),

    /// The world, the shape or the number of slots makes no sense, or the plan is too large to be proved.
    #[error("cannot be proved: {0}")]
    Unprovable(String),

    /// These ranks wait for each other for ever.
    #[error("deadlock of {} ranks: {}", .0.len(), Waiting(.0))]
    Deadlock(Vec<Place>),

    /// A contribution enters a sum that has it already.
    #[error("{at}: counts the contribution of rank {} twice", .of.0)]
    CountedTwice {
        /// The step that adds it again.
        at: Place,
        /// Whose contribution.
        of: Rank,
    },

    /// The result of a rank misses contributions.
    #[error("rank {}, lane {lane}: {} misses {}{}", .rank.0, Target(.chunk), Ranks(.of), Last(.last))]
    Missing {
        /// Whose result.
        rank: Rank,
        /// On which lane.
        lane: u16,
        /// The chunk of the output; no chunks for a barrier.
        chunk: Chunks,
        /// The ranks whose contributions it misses.
        of: Vec<Rank>,
        /// The step that wrote it last; none if no step did.
        last: Option<Place>,
    },

    /// A step reads a chunk that nothing was written to in this pass.
    #[error("{at}: {chunk} was never written")]
    Unset {
        /// The step that reads it.
        at: Place,
        /// The chunk.
        chunk: Chunks,
    },

    /// A chunk gets something that does not belong there.
    #[error("{at}: {chunk} gets {found}, which is not {wanted}")]
    Wrong {
        /// The step that writes it.
        at: Place,
        /// The chunk.
        chunk: Chunks,
        /// What it gets.
        found: String,
        /// What may be there.
        wanted: String,
    },

    /// A rank sends something else when the call is in place.
    #[error("{at}: sends {found} in place, but {wanted} otherwise")]
    InPlace {
        /// The step that sends.
        at: Place,
        /// What it sends in place.
        found: String,
        /// What it sends when input and output are different memory.
        wanted: String,
    },

    /// Nobody receives a message in the pass in which it is sent.
    #[error("{at}: nobody receives this message")]
    Leftover {
        /// The step that sends it.
        at: Place,
    },

    /// A message does not have the length that its receiver expects.
    #[error("{at}: gets the {sent} chunks that {by} sends")]
    Mismatch {
        /// The step that receives.
        at: Place,
        /// Chunks of the message.
        sent: u32,
        /// The step that sent them.
        by: Place,
    },

    /// A step names chunks that do not exist.
    #[error("{at}: {chunks} is outside of that buffer, which has {limit} chunks")]
    OutOfRange {
        /// The step.
        at: Place,
        /// The chunks.
        chunks: Chunks,
        /// Chunks of that buffer.
        limit: u32,
    },

    /// A step breaks one of the rules for single steps.
    #[error("{at}: {rule}")]
    Malformed {
        /// The step.
        at: Place,
        /// The rule.
        rule: &'static str,
    },
}

/// How many of a list a message names before it only counts.
const NAMED: usize = 16;

struct Waiting<'a>(&'a [Place]);

impl Display for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, place) in self.0.iter().take(NAMED).enumerate() {
            let why = if matches!(place.step, Step::Send { .. }) {
                "for a slot"
            } else {
                "for a message"
            };
            write!(f, "{}{place} waits {why}", if i == 0 { "" } else { "; " })?;
        }
        more(f, self.0.len())
    }
}

struct Target<'a>(&'a Chunks);

impl Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len == 0 { f.write_str("the barrier") } else { self.0.fmt(f) }
    }
}

struct Ranks<'a>(&'a [Rank]);

impl Display for Ranks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 {
            "the contribution of rank "
        } else {
            "the contributions of ranks "
        })?;
        for (i, rank) in self.0.iter().take(NAMED).enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, rank.0)?;
        }
        more(f, self.0.len())
    }
}

struct Last<'a>(&'a Option<Place>);

impl Display for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(f, "; it was last written by step {} ({})", at.index, at.step),
            None => f.write_str("; no step writes it"),
        }
    }
}

fn more(f: &mut fmt::Formatter<'_>, all: usize) -> fmt::Result {
    if all > NAMED { write!(f, " and {} more", all - NAMED) } else { Ok(()) }
}
