//! Open, vendor-neutral collective communication.

mod bootstrap;
pub mod config;
mod error;
mod fault;
mod record;
mod unique_id;

pub use crate::config::Config;
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::unique_id::UniqueId;
