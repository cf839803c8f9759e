//! Messages through pools of memory that hosts share: what they cost, and what was published of collectives there.

mod common;

use common::published::{ALL_REDUCE, GAINS, ONE_ADAPTER, gain, mean};
use common::{bare, predict};
use dure_plan::{Collective, Rank};
use dure_sim::{Adapter, Constants, Network, Options, Wire};
use dure_topology::{Cluster, Source};

const ROOT: Collective = Collective::Broadcast { root: Rank(0) };

/// Gains in the mean over 1 MiB to 4 GiB, in direction and within 30 % in size.
#[test]
fn what_was_published_of_collectives_through_a_pool_comes_out() {
    for of in GAINS {
        let got = mean(&of, Adapter::USUAL);
        let what = of.what.name();
        assert!(got > 1.0, "{what} is faster over InfiniBand: {got}");
        let want = of.gain.expect("it was published");
        let off = got / want - 1.0;
        assert!(off.abs() < 0.3, "{what}: {got} times as fast, published {want}: {off}");
    }
}

/// Everybody reads what all others have written, where a ring sends each part of the sum once.
#[test]
fn a_large_all_reduce_is_faster_over_a_ring() {
    for bytes in [1 << 28, 1 << 30, 1 << 32] {
        let got = gain(&ALL_REDUCE, Adapter::USUAL, bytes);
        assert!(got < 0.9, "{bytes} bytes: {got}");
    }
}

/// With one adapter of 26 GB/s a host cannot read or write the pool much faster than its port of 25 GB/s can.
#[test]
fn one_adapter_for_a_host_explains_no_gain() {
    for of in GAINS {
        let got = gain(&of, ONE_ADAPTER, 1 << 30);
        assert!((1.0..1.1).contains(&got), "{}: {got}", of.what.name());
    }
}

/// Hosts of two accelerators each, of which the first is used.
fn hosts(pools: &str, count: u32) -> Cluster {
    let mut cluster =
        Cluster::synthetic(&format!("{pools} / {count} host * (2 npu + 1 nic)")).expect("a layout");
    cluster.ranks = cluster.ranks.iter().copied().step_by(2).collect();
    cluster
}

/// Messages alone: 1 us on the way, 2 GB/s to write, 4 GB/s to read.
fn constants() -> Constants {
    let wire =
        Wire { latency: 1e-6, overhead: 0.0, gap: 0.0, source: Source::Declared, ..Wire::POOL };
    let adapter = Adapter { write_per_byte: 0.5e-9, read_per_byte: 0.25e-9, ..Adapter::USUAL };
    Constants { adapter, ..bare(wire) }
}

fn took(what: Collective, cluster: &Cluster, bytes: u64) -> f64 {
    let cost = predict((what, "linear"), (cluster, &constants()), bytes, &Options::default());
    cost.expect("it serves").seconds
}

fn assert_close(got: f64, want: f64) {
    assert!((got / want - 1.0).abs() < 1e-9, "{got} instead of {want}");
}

#[test]
fn a_message_is_written_and_then_read() {
    let rest = 99_999.0 * 1e-9;
    let fast = hosts("2 pool[gb_per_s=100]", 2);
    assert_close(took(ROOT, &fast, 100_000), rest * 0.5 + 1e-6 + rest * 0.25);
    // 64 KiB of the message lie on the first device, which carries 1 GB/s, once written and once read.
    let slow = hosts("2 pool[gb_per_s=1]", 2);
    assert_close(took(ROOT, &slow, 100_000), 65_536.0 * 1e-9 * 2.0 + 1e-6);
}

#[test]
fn what_several_are_to_read_is_written_once() {
    let rest = |bytes: f64| (bytes - 1.0) * 1e-9;
    let four = hosts("6 pool[gb_per_s=1000]", 4);
    // Each reads by its own adapter, and devices are fast: how many read makes no difference but for these.
    let got = took(ROOT, &four, 100_000);
    let alone = rest(100_000.0) * 0.5 + 1e-6 + rest(100_000.0) * 0.25;
    assert!(got >= alone && got < alone * 1.01, "{got} instead of {alone}");
    // Three blocks that differ are written one after the other; the last one is then read.
    let got = took(Collective::Scatter { root: Rank(0) }, &four, 400_000);
    let thrice = 3.0 * rest(100_000.0) * 0.5 + 1e-6 + rest(100_000.0) * 0.25;
    assert!(got >= thrice * 0.999 && got < thrice * 1.01, "{got} instead of {thrice}");
}

#[test]
fn hosts_use_the_devices_that_both_reach_and_their_ports_otherwise() {
    let mut cluster = hosts("3 pool", 4);
    for (pool, hosts) in cluster.pools.iter_mut().zip([[0, 1], [0, 1], [1, 2]]) {
        pool.hosts = hosts.into();
    }
    let network = Network::of(&cluster, &Constants::default()).unwrap();
    let devices = |a, b| network.route(Rank(a), Rank(b)).stripes.map(|stripes| stripes.devices);
    assert_eq!([devices(0, 1), devices(1, 2), devices(2, 1)], [Some(2), Some(1), Some(1)]);
    assert_eq!([devices(0, 2), devices(0, 3)], [None, None]);
    assert!(network.route(Rank(0), Rank(3)).leaves_by_port);
    // A pool of one host joins nobody.
    let mut lonely = cluster.clone();
    lonely.pools.iter_mut().for_each(|pool| pool.hosts = [1].into());
    assert!(network.has_pools());
    assert!(!Network::of(&lonely, &Constants::default()).unwrap().has_pools());
    // What host 1 writes for host 0 lies where host 2 does not reach: it writes again.
    let broadcast = Collective::Broadcast { root: Rank(1) };
    cluster.ranks = cluster.ranks[..3].into();
    let twice = took(broadcast, &cluster, 1 << 20);
    cluster.pools.iter_mut().for_each(|pool| pool.hosts = [0, 1, 2].into());
    let once = took(broadcast, &cluster, 1 << 20);
    assert!(twice > 1.5 * once, "{twice} and {once}");
}
