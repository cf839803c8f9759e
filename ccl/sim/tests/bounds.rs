//! No plan is faster than the bound, and the bound is what is known where it is known.

mod common;

use common::{cluster, halved, predict};
use dure_plan::{Collective, Rank, World, algorithms};
use dure_sim::{Constants, Network, Options, Wire, bound};
use dure_topology::{Cluster, Source};

const ALL: [Collective; 9] = Collective::all(Rank(0));

/// ForestColl's own example of a switch: an all-gather among 8 GPUs of 300 GB/s each.
#[test]
fn eight_gpus_on_a_switch_gather_at_342_857_gb_per_s() {
    let node = cluster(1, 8, "NVL", [300.0, 50.0], Vec::new());
    let network = Network::of(&node, &Constants::default()).unwrap();
    let bytes = 1_u64 << 30;
    let bound = bound(Collective::AllGather, bytes, &network);
    let rate = bytes as f64 / bound.seconds / 1e9;
    assert!((rate - 342.857).abs() < 5e-4, "{rate} GB/s: {bound:?}");
    assert_eq!(bound.narrowest, "what a rank receives");
}

#[test]
fn a_port_bounds_what_the_literature_says() {
    let hosts = cluster(16, 1, "LOC", [1.0, 50.0], Vec::new());
    let network = Network::of(&hosts, &Constants::default()).unwrap();
    let (bytes, rate) = (1_u64 << 30, 50e9);
    let vector = bytes as f64 / rate;
    for (what, want) in [
        (Collective::AllReduce, 2.0 * 15.0 / 16.0 * vector),
        (Collective::ReduceScatter, 15.0 / 16.0 * vector),
        (Collective::AllGather, 15.0 / 16.0 * vector),
        (Collective::AllToAll, 15.0 / 16.0 * vector),
        (Collective::Broadcast { root: Rank(3) }, vector),
        (Collective::Gather { root: Rank(3) }, 15.0 / 16.0 * vector),
    ] {
        let got = bound(what, bytes, &network);
        assert!((got.seconds / want - 1.0).abs() < 1e-9, "{what}: {got:?} instead of {want}");
    }
}

/// Half of what the ports can send goes up: what must leave a leaf takes twice as long as what must leave a host.
#[test]
fn the_narrowest_level_of_the_fabric_counts() {
    let tree = halved(16, 4, 2);
    let network = Network::of(&tree, &Constants::default()).unwrap();
    let got = bound(Collective::AllToAll, 1 << 30, &network);
    // 32 ranks in a leaf, 96 outside, 8 MiB for each; 800 GB/s up.
    let want = 32.0 * 96.0 * f64::from(1 << 23) / 800e9;
    assert!((got.seconds / want - 1.0).abs() < 1e-9, "{got:?} instead of {want}");
    assert_eq!(got.narrowest, "what leaves a group of level 0");
}

fn assert_above_bound(name: &str, cluster: &Cluster, constants: &Constants) {
    let network = Network::of(cluster, constants).expect("it fits together");
    let world = World { ranks: cluster.size(), host_of: cluster.host_of().into(), lanes: 1 };
    let mut cells = 0;
    for what in ALL {
        for bytes in [64, 1 << 12, 1 << 20, 1 << 25] {
            let bound = bound(what, bytes, &network);
            for by in algorithms().iter().filter(|by| by.serves(what, &world).is_ok()) {
                let cost =
                    predict((what, by.name()), (cluster, constants), bytes, &Options::default());
                let fraction = cost.expect("it serves").fraction_of(&bound);
                cells += 1;
                assert!(
                    fraction > 0.0 && fraction < 1.0 + 1e-9,
                    "{name}, {what} of {bytes} by {}: {fraction} of {bound:?}",
                    by.name()
                );
            }
        }
    }
    assert!(cells > 100, "{cells}");
}

#[test]
fn no_algorithm_is_faster_than_the_bound() {
    let pinned = Wire { source: Source::Measured, per_byte: 0.3e-9, ..Wire::RDMA };
    let measured = Constants { between: pinned, device: pinned, ..Constants::default() };
    for (name, cluster) in [
        ("fat tree", halved(4, 2, 2)),
        ("ports", cluster(13, 1, "LOC", [1.0, 25.0], Vec::new())),
        ("one host", Cluster::local(5, 5)),
        ("few cores", Cluster::local(8, 2)),
        (
            "rails",
            Cluster::synthetic("fattree levels=2 over=2 rail=yes / 4 host * (4 npu + 4 nic)")
                .unwrap(),
        ),
        ("few ports", Cluster::synthetic("4 host * (4 cpu + 1 nic)").unwrap()),
        ("pools", Cluster::synthetic("6 pool / 3 host * (2 npu + 1 nic)").unwrap()),
        (
            "pools of some",
            Cluster::synthetic("4 pool[hosts=2] / 4 host * (2 cpu + 1 nic)").unwrap(),
        ),
    ] {
        for constants in [Constants::default(), Constants::tcp(), Constants::wired(), measured] {
            assert_above_bound(name, &cluster, &constants);
        }
    }
}
