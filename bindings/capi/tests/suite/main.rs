//! The C interface, from the C side: programs that use the library, what it shows, and how it is installed.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[path = "../../../common/testing/dynamic.rs"]
mod dynamic;
mod install;
#[path = "../../../common/testing/library.rs"]
mod library;
mod programs;
#[path = "../../../common/testing/surface.rs"]
mod surface;

const PACKAGE: &str = "dure-capi";
const LIBRARY: &str = "libdure.so";
const LINKED: &str = "-ldure";
/// The name that programs load the library by.
const SONAME: &str = "libdure.so.0.1";
/// How the names of functions begin.
const PREFIXES: &[&str] = &["dure"];
const HEADER: &str = "dure.h";
