//! Open, vendor-neutral collective communication.

mod addresses;
mod bootstrap;
mod call;
mod communicator;
pub mod config;
mod control;
mod element;
mod engine;
mod error;
mod fault;
#[cfg(fuzzing)]
pub mod fuzzing;
mod launch;
mod net;
mod operation;
mod padded;
mod progress;
mod record;
mod stream;
mod subset;
mod ticket;
mod trace;
mod tuner;
mod typed;
mod unique_id;
mod wait;

pub use dure_device::{Bf16, CustomFn, Device, Dtype, F8E4M3, F8E5M2, F16, Memory, Space};
pub use dure_plan::{Collective, Rank};

pub use crate::call::{Action, RaggedCounts, Request};
pub use crate::communicator::{Builder, Communicator, Registration};
pub use crate::element::{Element, ReduceOp, Scalar};
pub use crate::operation::Operation;
pub use crate::stream::Stream;
pub use crate::ticket::{Buffer, Ticket};
pub use crate::tuner::Chosen;
pub use crate::typed::Group;

pub use crate::config::Config;
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::launch::Launch;
pub use crate::unique_id::UniqueId;
