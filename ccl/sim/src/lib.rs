//! What a plan would cost on a cluster: runs the steps of all ranks against a model of what joins them.
//!
//! The model is LogGOPS with resources: processors, ports, what the groups of the fabric have up and down, memories, pools. The
//! plan is the one that runs in production, with the executor's geometry, slots and passes.
//!
//! ```text
//!  Cluster, Constants ---> Network (routes)
//!                             |
//!  Call (plan, bytes) ---> cost ---> Cost: seconds, what they are made of, how it was found out
//! ```
//!
//! docs/cost-model.md has the model and how well it holds.

#![forbid(unsafe_code)]

mod bound;
mod constants;
mod cost;
mod engine;
mod error;
pub mod fit;
mod message;
mod network;
mod path;
mod pools;
mod profile;
mod program;
mod setup;
mod sizes;
mod symmetry;
mod timeline;
mod usual;

pub use crate::bound::{Bound, bound};
pub use crate::constants::{Adapter, Compute, Constants, Wire};
pub use crate::cost::{Call, Cost, How, Options, cost, ends, seconds};
pub use crate::error::Error;
pub use crate::network::{Network, Route, Stage};
pub use crate::path::{Counts, Parts, Traffic};
pub use crate::pools::Stripes;
pub use crate::profile::{Corrections, Observed, Profile};
pub use crate::timeline::{RANKS, Timeline, timeline};
pub use crate::usual::Wires;
