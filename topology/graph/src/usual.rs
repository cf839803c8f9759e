//! What is usual, for figures that nobody gave. A figure taken from here is marked [`Source::Default`](crate::Source).

pub use crate::speed::{LOCAL_GB_PER_S, SOCKET_NS};

/// Time to cross a switch and its cable, ns: an InfiniBand switch takes 90 to 230, an Ethernet switch 300 to 800, ten
/// metres of cable 50.
pub const SWITCH_NS: f64 = 300.0;
/// Bandwidth of a port of a host, Gb/s: NDR.
pub const PORT_GBPS: f64 = 400.0;
/// Bandwidth between accelerators below one host bridge, GB/s: PCIe Gen5 x16, as NCCL counts it.
pub const PCIE_GB_PER_S: f64 = 48.0;
/// Latency of a copy between accelerators over PCIe, ns.
pub const PCIE_NS: f64 = 1_000.0;
/// Bandwidth between NUMA nodes, GB/s: what NCCL counts for the link between two Sapphire Rapids.
pub const SOCKET_GB_PER_S: f64 = 22.0;
/// Latency between accelerators over links of their own, ns.
pub const ACCELERATOR_NS: f64 = 700.0;
/// Bandwidth of one core that copies through shared memory, GB/s.
pub const SHARED_GB_PER_S: f64 = 10.0;
/// Time until a word that one core wrote is seen by another, ns.
pub const SHARED_NS: f64 = 100.0;
/// Bandwidth of a host's memory, GB/s.
pub const MEMORY_GB_PER_S: f64 = 200.0;
/// Cores of a host that ranks on accelerators may use.
pub const CORES: u32 = 64;
/// Bandwidth of a CXL pool device, GB/s: measured behind an XC50256 switch (Beluga, arXiv 2511.20172).
pub const POOL_GB_PER_S: f64 = 22.5;
/// Latency of a load from a CXL pool device behind a switch, ns (the same source).
pub const POOL_NS: f64 = 750.0;
/// Size of a CXL pool device, bytes.
pub const POOL_BYTES: u64 = 128 << 30;
/// Time along a cable of ten metres, ns.
pub const CABLE_NS: f64 = 50.0;
