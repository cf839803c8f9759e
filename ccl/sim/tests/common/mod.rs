//! Clusters and constants that tests share.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses some of them, and all of them are tests"
)]

pub(crate) mod published;

use dure_plan::{Collective, World, find};
use dure_sim::{Adapter, Call, Compute, Constants, Cost, Error, Network, Options, Wire, cost};
use dure_topology::{Cluster, Group, HostKind, Level, Port, Reach, Site, Source};

/// A cluster of `hosts` hosts of `each` ranks with a port each.
pub(crate) fn cluster(
    hosts: u32,
    each: u32,
    path: &'static str,
    gb_per_s: [f64; 2],
    levels: Vec<Level>,
) -> Cluster {
    let reach = |gb_per_s| Reach { path, gb_per_s, latency_ns: 0.0, source: Source::Declared };
    let kind = HostKind {
        name: format!("{each} + {each}"),
        devices: each,
        cores: 2 * each,
        reach: (0..each * each).map(|_| reach(gb_per_s[0])).collect(),
        device_gb_per_s: vec![gb_per_s[0]; each as usize].into(),
        memory_gb_per_s: f64::INFINITY,
    };
    let per_leaf =
        levels.first().map_or(u32::MAX, |leaf| hosts / u32::try_from(leaf.groups.len()).unwrap());
    let port = |rank: u32| Port {
        host: rank / each,
        rail: rank % each,
        group: rank / each / per_leaf,
        gb_per_s: gb_per_s[1],
        source: Source::Declared,
    };
    let site = |rank: u32| Site { host: rank / each, device: rank % each, port: Some(rank) };
    Cluster {
        ranks: (0..hosts * each).map(site).collect(),
        hosts: vec![0; hosts as usize].into(),
        names: Box::new([]),
        kinds: Box::new([kind]),
        ports: (0..hosts * each).map(port).collect(),
        levels: levels.into(),
        pools: Box::new([]),
    }
}

/// Levels of a fat tree: per level the number of groups, and what each has up.
pub(crate) fn fat_tree(groups: &[(u32, f64)]) -> Vec<Level> {
    let level = |at: usize| {
        let (count, up_gb_per_s) = groups[at];
        let above = groups.get(at + 1).map_or(1, |above| above.0);
        let group = |number: u32| Group {
            name: format!("group {number}"),
            parent: number * above / count,
            up_gb_per_s,
            source: Source::Declared,
        };
        Level {
            name: format!("level {at}"),
            groups: (0..count).map(group).collect(),
            latency_ns: 300.0,
        }
    };
    (0..groups.len()).map(level).collect()
}

/// 1,280 hosts of 8 accelerators and 8 ports of 50 GB/s (or fewer, in proportion), in a three-level fat tree that has half
/// the bandwidth above the leaves: `hosts` in leaves of `per_leaf`, these in pods of `per_pod` leaves.
pub(crate) fn halved(hosts: u32, per_leaf: u32, per_pod: u32) -> Cluster {
    let leaf = 50.0 * f64::from(8 * per_leaf) / 2.0;
    let leaves = hosts / per_leaf;
    let pods = leaves.div_ceil(per_pod);
    let levels = fat_tree(&[(leaves, leaf), (pods, leaf * f64::from(per_pod)), (1, f64::INFINITY)]);
    cluster(hosts, 8, "NVL", [300.0, 50.0], levels)
}

/// The world of a cluster whose ranks are numbered host by host.
pub(crate) fn world(cluster: &Cluster, lanes: u16) -> World {
    let ranks = u32::try_from(cluster.ranks.len()).unwrap();
    World { ranks, host_of: cluster.ranks.iter().map(|site| site.host).collect(), lanes }
}

/// Constants of messages only: no work costs anything.
pub(crate) fn bare(wire: Wire) -> Constants {
    let free = Compute {
        reduce_per_byte: 0.0,
        copy_per_byte: 0.0,
        call: 0.0,
        step: 0.0,
        switch: 0.0,
        source: Source::Measured,
    };
    Constants {
        inside: wire,
        device: wire,
        between: wire,
        pool: wire,
        adapter: Adapter::USUAL,
        processor: free,
        accelerator: free,
    }
}

/// A prediction by the name of the algorithm.
pub(crate) fn predict(
    (what, name): (Collective, &str),
    (cluster, constants): (&Cluster, &Constants),
    bytes: u64,
    options: &Options,
) -> Result<Cost, Error> {
    let network = Network::of(cluster, constants).unwrap();
    let world = world(cluster, 1);
    let by = find(what, name).unwrap();
    cost(&Call { what, world: &world, by, bytes, elem: 4 }, &network, options)
}
