//! A process that exits with communicators that it has not ended leaves no claim in a pool.
//!
//! The other process is this program again, told to run [`the_process_that_exits`].

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use dure_pool::cxl::{self, Cxl, Options, Plan, State};
use dure_transport::Peer;

const DEVICE: &str = "DURE_TEST_EXIT_DEVICE";

#[test]
fn claims_of_a_process_that_exits_are_freed() {
    let device = PathBuf::from(format!("/dev/shm/dure-exit-{}", std::process::id()));
    std::fs::File::create(&device).unwrap().set_len(64 << 20).unwrap();
    cxl::create(
        std::slice::from_ref(&device),
        Plan { members: 2, partitions: 1, granule: 2 << 20 },
    )
    .unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["the_process_that_exits", "--ignored", "--exact"]).env(DEVICE, &device);
    let status = other.output().unwrap().status;
    let states = cxl::members(std::slice::from_ref(&device), Duration::from_millis(500)).unwrap().1;
    std::fs::remove_file(&device).unwrap();
    assert_eq!(status.code(), Some(7));
    assert_eq!(states[0], [State::Free, State::Free]);
}

#[test]
#[ignore = "run by the other test"]
#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "a process that another test starts, and that exits"
)]
fn the_process_that_exits() {
    let device = std::env::var_os(DEVICE).unwrap().into();
    let options = Options { member: 1, ..Options::new(vec![device], Peer(0), 1) };
    let _kept = Cxl::open(&options).unwrap();
    std::process::exit(7);
}
