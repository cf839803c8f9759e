//! Collectives on an NVIDIA GPU that all ranks share, where there is one. The same on a double of the driver: `devices/cuda.rs`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use dure_device::plugin::conformance::{Outcome, run};
use dure_harness::{Cluster, Place, tell_people};

/// Why there is no GPU here, said aloud.
fn skipped(test: &str) -> bool {
    let why = dure::devices::why_no_cuda();
    if let Some(why) = &why {
        tell_people(&format!("{test} SKIPPED: no GPU: {why}"));
    }
    why.is_some()
}

/// Ranks with small slots, some of them on the GPU.
fn on_gpu(ranks: u32, is_on: impl Fn(u32) -> bool) -> Cluster {
    let program = env!("CARGO_BIN_EXE_dure-rank");
    let cluster = Cluster::new(program, Place::Processes, ranks).set("DURE_SLOT_BYTES", "16K");
    let put = |cluster: Cluster, rank| cluster.set_on(rank, "DURE_DEVICE", "cuda:0");
    (0..ranks).filter(|rank| is_on(*rank)).fold(cluster, put)
}

#[test]
fn the_plug_in_holds_to_every_property_on_a_gpu() {
    if skipped("the_plug_in_holds_to_every_property_on_a_gpu") {
        return;
    }
    let plugin = dure::devices::cuda().unwrap();
    run(&plugin, 0, |(name, outcome)| assert_eq!(*outcome, Outcome::Holds, "{name}")).unwrap();
}

#[test]
fn ranks_on_one_gpu() {
    if skipped("ranks_on_one_gpu") {
        return;
    }
    for ranks in [2, 4, 8] {
        let all = on_gpu(ranks, |_| true);
        all.run("collectives", &["0", "1", "7", "3000", "300000"]).expect_well();
        all.run("on-devices-alone", &["1", "7", "3000", "40000"]).expect_well();
    }
    on_gpu(3, |_| true).run("types", &[]).expect_well();
}

#[test]
fn a_gpu_and_the_host() {
    if skipped("a_gpu_and_the_host") {
        return;
    }
    on_gpu(3, |rank| rank != 1).run("collectives", &["0", "1", "7", "3000"]).expect_well();
}
