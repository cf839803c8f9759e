//! Results are right: every collective, type, operation and algorithm, wherever the ranks are.

use dure_harness::Place;

use crate::{cluster, namespaces, over};

/// Lengths of blocks, in elements of 8 bytes: nothing, less than a block a rank, several slots of 16 KiB, and, where
/// ranks are few, enough for all lanes.
const COUNTS: [&str; 5] = ["0", "1", "3", "5000", "150000"];

fn every_collective(transport: &str) {
    for ranks in [1, 2, 4, 8] {
        let counts = if ranks > 2 { &COUNTS[..4] } else { &COUNTS };
        let cluster = over(transport, ranks).set("DURE_SLOT_BYTES", "16K");
        cluster.run("collectives", counts).expect_well();
        over(transport, ranks).run("typed", &[]).expect_well();
    }
}

#[test]
fn every_collective_over_the_pool() {
    every_collective("pool");
}

#[test]
fn every_collective_over_tcp() {
    every_collective("tcp");
}

#[test]
fn what_a_call_sends_is_on_its_way_when_it_returns() {
    let cluster =
        cluster(Place::Threads, 4).set("DURE_TRANSPORT", "tcp").set("DURE_TIMEOUT", "10s");
    cluster.set("DURE_TCP_DRIVER", "io_uring").run("apart", &[]).expect_well();
}

#[test]
fn every_type_and_operation() {
    for transport in ["pool", "tcp"] {
        for ranks in [2, 3] {
            over(transport, ranks).run("types", &[]).expect_well();
        }
    }
}

#[test]
fn every_collective_on_device_memory() {
    for transport in ["pool", "tcp"] {
        for ranks in [1, 2, 3] {
            let cluster = over(transport, ranks).set("DURE_SLOT_BYTES", "16K").on_npus();
            cluster.run("collectives", &COUNTS[..4]).expect_well();
        }
        over(transport, 3).on_npus().run("types", &[]).expect_well();
    }
}

#[test]
fn every_algorithm_on_one_host() {
    for ranks in [5, 8] {
        let cluster = over("pool,tcp", ranks).set("DURE_SLOT_BYTES", "16K");
        cluster.run("algorithms", &["1", "0", "7", "1000", "300000"]).expect_well();
        over("tcp", ranks).run("algorithms", &["1", "17", "40000"]).expect_well();
    }
}

#[test]
fn two_hosts() {
    let Some(place) = namespaces(2, None) else { return };
    for ranks in [2, 4] {
        let apart = cluster(place.clone(), ranks);
        apart.clone().set("DURE_SLOT_BYTES", "16K").run("collectives", &COUNTS[..4]).expect_well();
        apart.run("typed", &[]).expect_well();
        apart.run("algorithms", &["2", "7", "1000", "40000"]).expect_well();
    }
    cluster(place, 4).run("types", &[]).expect_well();
}

#[test]
fn three_hosts_of_which_one_is_smaller() {
    let Some(place) = namespaces(3, None) else { return };
    cluster(place.clone(), 5).run("algorithms", &["3", "7", "1000", "40000"]).expect_well();
    cluster(place, 5).run("typed", &[]).expect_well();
}

#[test]
fn a_slow_network_that_loses_packets() {
    let Some(place) = namespaces(2, Some("delay 5ms loss 1%")) else { return };
    cluster(place, 4).run("collectives", &["3", "5000"]).expect_well();
}

#[test]
fn deterministic_results_are_bit_equal() {
    for ranks in [2, 3, 5, 8] {
        cluster(Place::Threads, ranks).run("bits", &[]).expect_well();
    }
}

#[test]
fn eight_ranks_on_two_cores() {
    over("pool", 8).started_by(&["taskset", "-c", "0,1"]).run("small-loop", &["200"]).expect_well();
}

#[test]
fn no_named_segment() {
    over("pool", 4).run("segments", &["shared"]).expect_well();
}

#[test]
fn a_container_with_little_shared_memory() {
    // Root may mount; others cannot try it.
    if !nix::unistd::geteuid().is_root() {
        dure_harness::tell_people("a_container_with_little_shared_memory skipped: needs root");
        return;
    }
    let script = "mount -t tmpfs -o size=64k none /dev/shm && exec \"$0\" \"$@\"";
    let cluster = over("pool", 4).started_by(&["unshare", "--mount", "sh", "-c", script]);
    cluster.run("segments", &["private"]).expect_well();
}
