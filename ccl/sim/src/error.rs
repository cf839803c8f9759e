//! Why there is no prediction.

/// Why there is no prediction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The algorithm does not serve the collective in that world.
    #[error(transparent)]
    Refused(#[from] dure_plan::Refusal),
    /// A message of the plan does not fit a slot.
    #[error("{0}")]
    Slots(String),
    /// The options make no sense.
    #[error("{what} is {got} (allowed: {allowed})")]
    Options {
        /// The option.
        what: &'static str,
        /// What it is.
        got: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// The cluster does not fit together, or not with the world.
    #[error("the cluster: {0}")]
    Cluster(String),
    /// Not the profile of a cluster.
    #[error("the profile: {0}")]
    Profile(String),
    /// A rank would talk to more others than it should have slots for.
    #[error(
        "{algorithm} has {edges} edges at one rank, with {:.1} GiB of slots there (allowed: {allowed} edges); {instead}",
        *slot_bytes as f64 / f64::from(1 << 30)
    )]
    TooManyEdges {
        /// The algorithm.
        algorithm: String,
        /// Peers of the rank that has most.
        edges: u32,
        /// Memory of the slots there.
        slot_bytes: u64,
        /// Most edges that are allowed.
        allowed: u32,
        /// What to use in its place.
        instead: String,
    },
    /// The plan is too long to simulate, and not symmetric enough for one host to stand for all.
    #[error(
        "{algorithm} has more than {limit} steps, and hosts differ too much for one to stand for all"
    )]
    TooManySteps {
        /// The algorithm.
        algorithm: String,
        /// Most steps that are simulated.
        limit: u64,
    },
    /// A step that no rank of the world can do: a plan that was not verified.
    #[error("{algorithm} has a step that cannot be, at rank {rank}: {step}")]
    Step {
        /// The algorithm.
        algorithm: String,
        /// Whose step it is.
        rank: u32,
        /// The step, for people.
        step: String,
    },
    /// Ranks wait for each other for ever.
    #[error("{algorithm} gets stuck at rank {rank}, step {step}")]
    Stuck {
        /// The algorithm.
        algorithm: String,
        /// A rank that waits.
        rank: u32,
        /// Where it waits.
        step: u32,
    },
}
