//! The C interface, from the C side: programs that use the library, what it shows, and how it is installed.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod install;
mod library;
mod programs;
mod surface;
