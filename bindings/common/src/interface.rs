//! What sets one C interface apart from another.

use std::ffi::c_int;

use dure::{Config, Result};

use crate::ffi::config::Further;

/// A C interface of this library: names, numbers and layouts. What its functions do is the same for all.
pub trait Interface: 'static {
    /// How the names of its functions begin; those of its macros begin with the same letters as capitals.
    const PREFIX: &'static str;
    /// What its version function says.
    const VERSION: c_int;
    /// What is said of a communicator that works though wires have failed.
    const DEGRADED: c_int;
    /// Flags of windows that it has, by name.
    const WINDOW_FLAGS: &'static [(&'static str, c_int)];
    /// Functions that may be called on a communicator that was aborted, or revoked, and has its handle still.
    const AFTER_AN_ABORT: &'static [&'static str] = &["CommShrink", "CommDestroy"];
    /// Whether its programs give streams of a device's maker to calls, as those of NCCL give CUDA's.
    const JOINS_STREAMS: bool;
    /// The fields of its structure of settings that NCCL 2.28 has not.
    type Further: Further;

    /// The settings of the environment, which is read once. A bad value is the answer to every call that needs settings.
    ///
    /// # Errors
    /// `InvalidArgument` names the variable, and what it may be.
    fn environment() -> Result<Config>;

    /// The name of one of its functions.
    fn function(name: &str) -> String {
        format!("{}{name}", Self::PREFIX)
    }

    /// The name of one of its macros.
    fn constant(name: &str) -> String {
        format!("{}_{name}", Self::PREFIX.to_ascii_uppercase())
    }
}
