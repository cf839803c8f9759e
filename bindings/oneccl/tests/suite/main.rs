//! The plug-in from oneCCL's side: C programs that call oneCCL, with this library as its back end. oneCCL is an installed one
//! where `DURE_ONECCL_ROOT` says where (`.ci/run oneccl` installs one), and otherwise the imitation beside the tests.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[path = "../../../common/testing/dynamic.rs"]
mod dynamic;
mod install;
#[path = "../../../common/testing/library.rs"]
mod library;
mod oneccl;
mod programs;

const PACKAGE: &str = "dure-oneccl";
const LIBRARY: &str = "libdure_oneccl.so";
/// What programs are linked to is oneCCL.
const LINKED: &str = "-l:libccl.so.2";
const SONAME: &str = "libdure_oneccl.so";
