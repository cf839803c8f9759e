//! A device that is reset or disappears in the middle of a collective: every rank learns which, and whose it was.

use std::fs;

use dure::ErrorKind;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::collectives::on;

/// The engine of a device of a process: a child of its.
fn engine(process: u32, name: &str) -> Pid {
    let children: Vec<_> = fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok())
        .collect();
    let children = children.join(" ");
    let is_engine = |child: &&str| {
        fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let found = children.split_whitespace().find(is_engine);
    Pid::from_raw(found.unwrap_or_else(|| panic!("no {name} in {children}")).parse().unwrap())
}

#[test]
fn every_rank_learns_which_device_is_gone() {
    for (devices, victim, name) in
        [("aaa", 1, "npu-a:1"), ("bbb", 2, "npu-b:02"), ("abh", 0, "npu-a:0")]
    {
        let mut job = on(devices).start("device-until-failure", &[]);
        job.wait_until_all_said("looping");
        kill(engine(job.process_id(victim), name), Signal::SIGKILL).unwrap();
        let report = job.finish();
        let device = format!("device npu-{}:{victim} is gone", &devices[victim as usize..][..1]);
        for rank in 0..3 {
            let failure = report.failure(rank);
            assert!(failure.text.contains(&device), "rank {rank}: {report}");
            let named = format!("rank {victim}");
            assert!(failure.text.contains(&named), "rank {rank}: {report}");
            assert_eq!(failure.kind, ErrorKind::Device, "rank {rank}: {report}");
        }
    }
}
