//! Ranks that die, stop, or give up: the others learn it, by name, and in time.

use std::time::{Duration, Instant};

use dure::ErrorKind;
use dure_harness::{Cluster, Job, Report, tell_people};
use nix::sys::signal::Signal;

use crate::{cluster, namespaces, over};

/// Everything that must come without waiting for a deadline comes within this.
const SOON: Duration = Duration::from_secs(10);

fn others(ranks: u32, but: u32) -> Vec<u32> {
    (0..ranks).filter(|rank| *rank != but).collect()
}

/// When the last of these ranks reported its end, counted from `since`.
fn last_after(report: &Report, ranks: &[u32], since: Instant) -> Duration {
    let last = ranks.iter().map(|rank| report.of(*rank).at).max().expect("there are ranks");
    last.saturating_duration_since(since)
}

fn looping(cluster: &Cluster) -> Job {
    let mut job = cluster.start("until-failure", &[]);
    job.wait_until_all_said("looping");
    job
}

pub(crate) fn kill(cluster: &Cluster, victim: u32, place: &str) {
    let mut job = looping(cluster);
    let killed = Instant::now();
    job.signal(victim, Signal::SIGKILL);
    let report = job.finish();
    let survivors = others(cluster.ranks, victim);
    for &rank in &survivors {
        let failure = report.failure(rank);
        let (kind, peer) = (failure.kind, failure.peer);
        assert_eq!((kind, peer), (ErrorKind::Remote, Some(victim)), "rank {rank}:\n{report}");
        assert!(failure.text.contains(&format!("rank {victim}")), "{failure:?}");
    }
    let took = last_after(&report, &survivors, killed);
    assert!(took < SOON, "{took:?}:\n{report}");
    tell_people(&format!("rank {victim} killed {place}: all others knew after {took:.3?}"));
}

#[test]
fn a_killed_rank_is_named_over_the_pool() {
    [0, 2].into_iter().for_each(|victim| kill(&over("pool", 4), victim, "over the pool"));
}

#[test]
fn a_killed_rank_is_named_over_tcp() {
    [0, 2].into_iter().for_each(|victim| kill(&over("tcp", 4), victim, "over TCP"));
}

#[test]
fn a_killed_rank_is_named_on_two_hosts() {
    let Some(place) = namespaces(2, None) else { return };
    [0, 2].into_iter().for_each(|victim| kill(&cluster(place.clone(), 4), victim, "on two hosts"));
}

#[test]
fn a_stopped_rank_is_named_at_the_deadline() {
    for (transport, victim) in [("pool", 1), ("tcp", 2), ("tcp", 0)] {
        let mut job = looping(&over(transport, 4).set("DURE_TIMEOUT", "3s"));
        let stopped = Instant::now();
        job.signal(victim, Signal::SIGSTOP);
        let survivors = others(4, victim);
        job.wait_until_ended(&survivors);
        job.signal(victim, Signal::SIGKILL);
        let report = job.finish();
        for &rank in &survivors {
            let failure = report.failure(rank);
            let (kind, peer) = (failure.kind, failure.peer);
            assert_eq!((kind, peer), (ErrorKind::Timeout, Some(victim)), "rank {rank}:\n{report}");
            let text = &failure.text;
            assert!(text.contains(&format!("rank {victim}")) && text.contains("step"), "{text}");
            let took = report.of(rank).at.saturating_duration_since(stopped);
            // The last movement may have been before the signal.
            assert!(took > Duration::from_secs(1) && took < SOON + Duration::from_secs(3));
        }
    }
}

#[test]
fn an_abort_wakes_every_rank() {
    for transport in ["pool", "tcp"] {
        let mut job = over(transport, 4).start("abort", &[]);
        job.wait_until_all_said("waiting");
        let told = Instant::now();
        job.tell(0, "abort");
        let report = job.finish();
        for rank in 0..4 {
            assert_eq!(report.failure(rank).kind, ErrorKind::Aborted, "rank {rank}:\n{report}");
        }
        let took = last_after(&report, &[0, 1, 2, 3], told);
        assert!(took < SOON, "{took:?}:\n{report}");
    }
}

#[test]
fn survivors_go_on_without_the_dead() {
    for (transport, victim) in [("pool", 0), ("pool", 3), ("tcp", 1)] {
        let mut job = over(transport, 4).start("go-on", &[]);
        job.wait_until_all_said("looping");
        job.signal(victim, Signal::SIGKILL);
        let report = job.finish();
        for rank in others(4, victim) {
            let ended = &report.of(rank).ended;
            assert_eq!(*ended, dure_harness::Ended::Well, "rank {rank}:\n{report}");
        }
    }
}
