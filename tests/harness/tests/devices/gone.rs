//! A device that is reset or disappears in the middle of a collective: every rank learns which, and whose it was.

use std::fs;

use dure::ErrorKind;
use dure_harness::Report;
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
        let device = format!("npu-{}:{victim}", &devices[victim as usize..][..1]);
        expect_all_to_name(&job.finish(), &device, victim);
    }
}

#[test]
fn every_rank_learns_whose_gpu_is_lost() {
    for (devices, victim) in [("ccc", 1), ("hca", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lost");
        let cluster = on(devices).set_on(victim, "CUDA_DOUBLE_LOST", &file.display().to_string());
        let mut job = cluster.start("device-until-failure", &[]);
        job.wait_until_all_said("looping");
        fs::write(&file, "").unwrap();
        expect_all_to_name(&job.finish(), "cuda:0", victim);
    }
}

/// All three ranks failed, and say which device of which rank is gone.
fn expect_all_to_name(report: &Report, device: &str, victim: u32) {
    for rank in 0..3 {
        let failure = report.failure(rank);
        let gone = format!("device {device} is gone");
        assert!(failure.text.contains(&gone), "rank {rank}: {report}");
        assert!(failure.text.contains(&format!("rank {victim}")), "rank {rank}: {report}");
        assert_eq!(failure.kind, ErrorKind::Device, "rank {rank}: {report}");
    }
}
