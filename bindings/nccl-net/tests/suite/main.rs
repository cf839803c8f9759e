//! The plug-in from NCCL's side: C programs that drive it as NCCL does, what it shows, and how it is installed.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod install;
#[path = "../../../common/testing/library.rs"]
mod library;
mod programs;
mod surface;

const PACKAGE: &str = "dure-nccl-net";
/// What Cargo builds.
const LIBRARY: &str = "libnccl_net_dure.so";
/// Programs open the plug-in themselves.
const LINKED: &str = "-ldl";
/// The name that NCCL makes of NCCL_NET_PLUGIN=dure.
const SONAME: &str = "libnccl-net-dure.so";
