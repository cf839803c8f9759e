//! What an algorithm is, and what it may see.

use std::fmt::{self, Debug, Display};

use crate::host_map::HostMap;
use crate::step::{Rank, Step};

/// A collective, as far as a plan must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collective {
    /// Every rank gets the reduction of all inputs.
    AllReduce,
    /// Rank `r` gets the reduction of all ranks' input blocks `r`.
    ReduceScatter,
    /// Every rank gets every rank's input, as block `r` of its output.
    AllGather,
    /// Output block `s` of rank `r` is input block `r` of rank `s`.
    AllToAll,
    /// Every rank gets the root's input.
    Broadcast {
        /// Who has it.
        root: Rank,
    },
    /// The root gets the reduction of all inputs.
    Reduce {
        /// Who gets it.
        root: Rank,
    },
    /// The root gets every rank's input, as block `r` of its output.
    Gather {
        /// Who gets them.
        root: Rank,
    },
    /// Rank `r` gets block `r` of the root's input.
    Scatter {
        /// Who has them.
        root: Rank,
    },
    /// No rank leaves before every rank has come.
    Barrier,
}

/// Blocks of the input and of the output of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Blocks of the input; 0 when this rank has no input.
    pub input: u32,
    /// Blocks of the output; 0 when this rank has no output.
    pub output: u32,
}

impl Collective {
    /// All of them, with this root where there is one.
    pub const fn all(root: Rank) -> [Self; 9] {
        [
            Self::AllReduce,
            Self::ReduceScatter,
            Self::AllGather,
            Self::AllToAll,
            Self::Broadcast { root },
            Self::Reduce { root },
            Self::Gather { root },
            Self::Scatter { root },
            Self::Barrier,
        ]
    }

    /// How many blocks the buffers of rank `me` of `ranks` have.
    ///
    /// In a rooted collective every rank but the root has a 0 where only the root has a buffer. `Broadcast` gives
    /// every rank an output, the root too; `Reduce` gives every rank an input, and only the root an output.
    pub fn blocks(self, ranks: u32, me: Rank) -> Blocks {
        let only = |root: Rank, blocks: u32| if root == me { blocks } else { 0 };
        match self {
            Self::AllReduce => Blocks { input: 1, output: 1 },
            Self::ReduceScatter => Blocks { input: ranks, output: 1 },
            Self::AllGather => Blocks { input: 1, output: ranks },
            Self::AllToAll => Blocks { input: ranks, output: ranks },
            Self::Broadcast { root } => Blocks { input: only(root, 1), output: 1 },
            Self::Reduce { root } => Blocks { input: 1, output: only(root, 1) },
            Self::Gather { root } => Blocks { input: 1, output: only(root, ranks) },
            Self::Scatter { root } => Blocks { input: only(root, ranks), output: 1 },
            Self::Barrier => Blocks { input: 0, output: 0 },
        }
    }

    /// Blocks of the whole vector that the collective is about: the larger of input and output at the rank that has
    /// most. Chunk `j` of the scratch is sized like chunk `j % (whole * parts)` of that vector.
    pub fn whole(self, ranks: u32) -> u32 {
        match self {
            Self::AllReduce | Self::Broadcast { .. } | Self::Reduce { .. } => 1,
            Self::ReduceScatter
            | Self::AllGather
            | Self::AllToAll
            | Self::Gather { .. }
            | Self::Scatter { .. } => ranks,
            Self::Barrier => 0,
        }
    }

    /// Whether elements are combined.
    pub fn reduces(self) -> bool {
        matches!(self, Self::AllReduce | Self::ReduceScatter | Self::Reduce { .. })
    }

    /// The distinguished member, if there is one.
    pub fn root(self) -> Option<Rank> {
        match self {
            Self::Broadcast { root }
            | Self::Reduce { root }
            | Self::Gather { root }
            | Self::Scatter { root } => Some(root),
            Self::AllReduce
            | Self::ReduceScatter
            | Self::AllGather
            | Self::AllToAll
            | Self::Barrier => None,
        }
    }

    /// The names of all collectives, in the order of [`Collective::number`].
    pub const NAMES: [&str; 9] = [
        "all-reduce",
        "reduce-scatter",
        "all-gather",
        "all-to-all",
        "broadcast",
        "reduce",
        "gather",
        "scatter",
        "barrier",
    ];

    /// Its place among the collectives.
    pub fn number(self) -> u8 {
        match self {
            Self::AllReduce => 0,
            Self::ReduceScatter => 1,
            Self::AllGather => 2,
            Self::AllToAll => 3,
            Self::Broadcast { .. } => 4,
            Self::Reduce { .. } => 5,
            Self::Gather { .. } => 6,
            Self::Scatter { .. } => 7,
            Self::Barrier => 8,
        }
    }

    /// Its name, without the root: one of [`Collective::NAMES`].
    pub fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.number())]
    }
}

impl Display for Collective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.root().map_or(Ok(()), |root| write!(f, " root {}", root.0))
    }
}

/// All that a plan may see of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// Number of ranks, at least 1.
    pub ranks: u32,
    /// Host of each rank; hosts are numbered from 0 in the order in which they first appear.
    pub host_of: HostMap,
    /// Number of lanes, at least 1.
    pub lanes: u16,
}

impl World {
    /// `ranks` ranks on one host, with one lane.
    pub fn flat(ranks: u32) -> Self {
        Self { ranks, host_of: (0..ranks).map(|_| 0).collect(), lanes: 1 }
    }
}

/// How a plan cuts its buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Parts per block, at least 1.
    pub parts: u32,
    /// Chunks of scratch on every rank.
    pub scratch: u32,
    /// Most chunks in one message, on any rank; at least 1. It decides how much of a block one pass covers, since a
    /// message must fit a slot.
    pub run: u32,
}

/// Why an algorithm does not serve a collective in a world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{algorithm} does not serve {what}: {why}")]
pub struct Refusal {
    /// Name of the algorithm.
    pub algorithm: String,
    /// The collective.
    pub what: String,
    /// The reason, for people.
    pub why: String,
}

/// A collective algorithm: a rule that gives each rank its steps.
///
/// The rule is pure: the same arguments always give the same steps, on every rank. Steps must be right both when input
/// and output are different memory and when the call is in place (the input is the output, or the block of it that
/// belongs to this rank; for `ReduceScatter` and `Scatter` the output is a block of the input). The verifier proves both.
/// `AllToAll` is never run in place.
pub trait Algorithm: Sync + Debug {
    /// Its name, unique in [`crate::algorithms`] for a collective: `ring`, `double-binary-tree`, ...
    fn name(&self) -> &str;

    /// Whether it serves a collective in a world.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    fn serves(&self, what: Collective, world: &World) -> Result<(), Refusal>;

    /// Whether blocks may differ in length when a rank knows only the lengths of its own input and output blocks (the
    /// v-forms). An algorithm without scratch, whose messages are chunks that both ends know, may.
    fn ragged(&self, what: Collective) -> bool;

    /// How it cuts the buffers. Only asked where it serves.
    fn shape(&self, what: Collective, world: &World) -> Shape;

    /// The steps of rank `me` on lane `lane` (below `world.lanes`), for one pass. Only asked where it serves. A lane
    /// carries its own share of every block; lanes may differ in who leads, roots or goes first, no more.
    fn steps<'w>(&'w self, what: Collective, world: &'w World, me: Rank, lane: u16) -> Steps<'w>;
}

/// The steps of one rank.
pub type Steps<'w> = Box<dyn Iterator<Item = Step> + Send + 'w>;
