//! Puts ranks somewhere and runs the same function in each.
//!
//! ```text
//!  test                     dure-rank, one process a rank
//!  ----                     -----------------------------
//!  Cluster::start ---------> the communicator from DURE_*, then the scenario of that name
//!  Job: what ranks said <--- say, ok, error (lines on standard output)
//!  Job::tell --------------> Seat::was_told (a line on standard input)
//!  Job::signal ------------> SIGKILL, SIGSTOP
//!  Report <----------------- exit
//! ```
//!
//! A scenario is a function in [`scenarios`] with a line in its table; the program `dure-rank` runs it in a process, and
//! [`Place::Threads`] in threads of the test. Nothing outlives its test: children die with their parent, are killed at
//! the deadline, and [`Job::finish`] fails when a process of theirs is left.

mod call;
mod cluster;
mod data;
mod job;
mod network;
pub mod plugins;
mod report;
pub mod scenarios;
mod seat;

pub use crate::call::Call;
pub use crate::cluster::{Cluster, Place, free_port};
pub use crate::job::Job;
pub use crate::network::{Network, Unavailable};
pub use crate::report::{Ended, Failure, Outcome, Report, Said};
pub use crate::seat::{Seat, serve};

use std::io::Write as _;

/// Says something that a person should see, past the capture of test output: a figure, or why a test was skipped.
pub fn tell_people(text: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "{text}");
}
