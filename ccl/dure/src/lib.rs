//! Open, vendor-neutral collective communication: the communicator.
//!
//! A [`Communicator`] is a group of ranks with a shared sequence of collectives. It is made from a [`UniqueId`] that all
//! ranks know, or from what a launcher left in the environment, and it ends with an error that says what happened, never
//! with a hang.
//!
//! ```text
//!   typed calls, groups, tickets, streams, C        what users call
//!                  |
//!               engine <------ wait, progress       one batch of calls after the other
//!              /      \
//!         tuner        dure-exec over a Fabric      which plan; who runs it
//!
//!   control thread: bootstrap, faults, questions    one a process, asleep
//! ```
//!
//! It is not a launcher, and it reads no environment unless asked to ([`Communicator::from_env`], [`Config::from_env`]).
//!
//! ```
//! use dure::{Communicator, Config, ReduceOp};
//!
//! # fn main() -> dure::Result<()> {
//! // Three ranks in one process; usually each is a process of its own.
//! let ranks = Communicator::init_all(3, &Config::default())?;
//! std::thread::scope(|scope| {
//!     for comm in &ranks {
//!         scope.spawn(move || {
//!             let mut gradients = [comm.rank() as f32, 1.0];
//!             comm.all_reduce(&mut gradients, ReduceOp::Sum)?;
//!             assert_eq!(gradients, [3.0, 3.0]);
//!             comm.finalize()
//!         });
//!     }
//! });
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

pub mod addresses;
mod alone;
mod blame;
mod bootstrap;
mod call;
mod communicator;
mod comparison;
pub mod config;
mod control;
pub mod devices;
mod element;
mod engine;
mod error;
mod fault;
mod footprint;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hardware;
mod health;
mod known;
mod launch;
mod messages;
#[cfg(feature = "mpi")]
mod mpi;
mod net;
mod operation;
mod pace;
mod padded;
pub mod planner;
mod progress;
mod rdma;
mod record;
#[doc(hidden)]
pub mod rehearsal;
mod requests;
mod stall;
mod stream;
mod subset;
mod ticket;
mod trace;
mod trial;
mod tuner;
mod turnstile;
mod typed;
mod unique_id;
mod wait;

pub use dure_device::{Bf16, CustomFn, Device, Dtype, F8E4M3, F8E5M2, F16, Memory, Space};
pub use dure_plan::{Collective, Rank};
pub use dure_transport::{Route, Way};

pub use crate::call::{Action, RaggedCounts, Request};
pub use crate::communicator::{Builder, Communicator, Registration};
pub use crate::element::{Element, ReduceOp, Scalar};
pub use crate::footprint::{Footprint, PeerFootprint, ProcessFootprint};
pub use crate::operation::Operation;
pub use crate::planner::Candidate;
pub use crate::stream::Stream;
pub use crate::ticket::{Buffer, Ticket};
pub use crate::typed::Group;

pub use crate::config::Config;
pub use crate::error::{Details, Error, ErrorKind, Result};
pub use crate::health::{Detour, Health};
pub use crate::launch::Launch;
pub use crate::unique_id::UniqueId;
