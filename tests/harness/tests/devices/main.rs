//! Devices of plug-ins: what the conformance program says of the reference ones, and collectives on their memory.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod collectives;
mod conformance;
mod cuda;
mod gone;
mod paths;
