//! Collectives through a pool of memory beside the same over InfiniBand, as CCCL measured them (ICS 2026, arXiv
//! 2602.22457): three hosts with an accelerator each, six devices behind a switch, against NCCL over 200 Gb/s.
//!
//! Its figures of collectives are what is to come out, so none of them goes in. What goes in was published of other
//! machines, or is what a line of this kind can carry at most.

#![allow(dead_code, clippy::unwrap_used, reason = "a test and an example use it, each some of it")]

use dure_plan::{Collective, Rank, World, find};
use dure_sim::{Adapter, Call, Compute, Constants, Network, Options, Wire, cost};
use dure_topology::{Cluster, Source};

/// Devices of 22.5 GB/s (Beluga), ports of the full 25 GB/s of the line.
pub(crate) const LAYOUT: &str = "6 pool[gb_per_s=22.5 ns=658] / 3 host * (2 npu + 1 nic[gbps=200])";

/// A host with one adapter that moves 26 GB/s between its accelerator and the pool, in each direction (Beluga, of GPUs).
pub(crate) const ONE_ADAPTER: Adapter = Adapter {
    write_per_byte: 1e-9 / 26.0,
    read_per_byte: 1e-9 / 26.0,
    source: Source::Declared,
    ..Adapter::USUAL
};

/// A host that writes as fast as [`Adapter::USUAL`] reads.
pub(crate) const BOTH_WAYS: Adapter = Adapter {
    write_per_byte: Adapter::USUAL.read_per_byte,
    source: Source::Declared,
    ..Adapter::USUAL
};

/// Sizes of the means: every power of two from 1 MiB to 4 GiB.
pub(crate) fn sizes() -> impl Iterator<Item = u64> {
    (20..=32).map(|log| 1 << log)
}

/// A collective, how each library does it, and how much faster the pool was in the mean over all sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) what: Collective,
    /// Through the pool: everybody writes what is its own, and reads the rest.
    pub(crate) by_pool: &'static str,
    /// NCCL's ring, or for gather and scatter the messages that one rank exchanges with all others.
    pub(crate) by_port: &'static str,
    pub(crate) gain: Option<f64>,
}

const ROOT: Rank = Rank(0);

/// Those that the abstract names.
pub(crate) const GAINS: [Published; 4] = [
    Published {
        what: Collective::AllGather,
        by_pool: "all-pairs",
        by_port: "ring",
        gain: Some(1.34),
    },
    Published {
        what: Collective::Broadcast { root: ROOT },
        by_pool: "linear",
        by_port: "chain",
        gain: Some(1.84),
    },
    Published {
        what: Collective::Gather { root: ROOT },
        by_pool: "linear",
        by_port: "linear",
        gain: Some(1.94),
    },
    Published {
        what: Collective::Scatter { root: ROOT },
        by_pool: "linear",
        by_port: "linear",
        gain: Some(1.04),
    },
];

/// Each writes its whole vector once and reads those of all others, where NCCL has a ring. That large ones lose was
/// published; by how much, or a mean that all who quote it agree on, was not found.
pub(crate) const ALL_REDUCE: Published =
    Published { what: Collective::AllReduce, by_pool: "one-shot", by_port: "ring", gain: None };

/// What this library would do instead: each adds up one part and writes the sum.
pub(crate) const TWO_SHOT: Published = Published { by_pool: "two-shot", ..ALL_REDUCE };

/// What there is of both libraries besides bytes. NCCL counts 8.4 us for a call and 14 us for each step of a ring over a
/// network, in its protocol for long messages and on accelerators of this generation (NVIDIA/nccl, src/graph/tuning.cc).
/// Through the pool a copy of 16 KiB to it takes 9.14 us and one from it 10.55 us from the first instruction to the last
/// byte (Beluga, of GPUs), of which 0.6 us are its bytes; and one look at the flag, 0.658 us.
fn constants(adapter: Adapter, through: Through) -> Constants {
    let declared = |wire: Wire| Wire { source: Source::Declared, ..wire };
    let call = if through == Through::Port { 8.4e-6 } else { 0.0 };
    Constants {
        between: declared(Wire { latency: 14e-6, ..Wire::RDMA }),
        pool: declared(Wire { latency: 8.5e-6 + 9.95e-6 + 0.658e-6, ..Wire::POOL }),
        adapter,
        accelerator: Compute { call, source: Source::Declared, ..Compute::ACCELERATOR },
        ..Constants::default()
    }
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Through {
    Port,
    Pool,
}

/// NCCL's eight steps of 512 KiB on a connection; the same through the pool.
const OPTIONS: Options =
    Options { slots: 8, slot_bytes: 512 << 10, limit_steps: 5_000_000, most_edges: 4096 };

/// Numbers of lanes, NCCL's channels. Of these each library takes what is fastest for the size.
const LANES: [u16; 4] = [1, 2, 4, 8];

/// The three hosts. What counts as an accelerator is known by how it reaches others of its host: so each host has two, of
/// which one is used.
fn cluster(through: Through) -> Cluster {
    let mut cluster = Cluster::synthetic(LAYOUT).unwrap();
    cluster.ranks = cluster.ranks.iter().copied().step_by(2).collect();
    if through == Through::Port {
        cluster.pools = Box::default();
    }
    cluster
}

fn seconds(what: Collective, by: &str, (adapter, through): (Adapter, Through), bytes: u64) -> f64 {
    let cluster = cluster(through);
    let network = Network::of(&cluster, &constants(adapter, through)).unwrap();
    let by = find(what, by).unwrap();
    let with = |lanes| {
        let world = World { ranks: cluster.size(), host_of: cluster.host_of().into(), lanes };
        let call = Call { what, world: &world, by, bytes, elem: 4 };
        cost(&call, &network, &OPTIONS).unwrap().seconds
    };
    LANES.into_iter().map(with).fold(f64::INFINITY, f64::min)
}

/// How many times as fast the pool is.
pub(crate) fn gain(of: &Published, adapter: Adapter, bytes: u64) -> f64 {
    let port = seconds(of.what, of.by_port, (adapter, Through::Port), bytes);
    port / seconds(of.what, of.by_pool, (adapter, Through::Pool), bytes)
}

/// The mean over all sizes.
pub(crate) fn mean(of: &Published, adapter: Adapter) -> f64 {
    sizes().map(|bytes| gain(of, adapter, bytes)).sum::<f64>() / sizes().count() as f64
}
