//! What can be measured, and over what.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::args::name;
use crate::output::Failure;

/// A test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Test {
    /// How much the client writes into the server's memory in a second.
    WriteBw,
    /// How long a write takes until the other side sees it.
    WriteLat,
    /// How much the client reads from the server's memory in a second.
    ReadBw,
    /// How long a read takes.
    ReadLat,
    /// How much the client sends to receives of the server in a second.
    SendBw,
    /// How long a send takes until the other side has it.
    SendLat,
    /// How long a fetch-and-add in the server's memory takes.
    AtomicLat,
    /// Bandwidth and latency between all ranks of a job.
    Matrix,
}

/// A wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// InfiniBand and RoCE.
    Rdma,
    /// TCP.
    Tcp,
    /// Shared memory of one host.
    Pool,
    /// Memory that hosts share: CXL pools.
    Cxl,
    /// Links between NPUs.
    Npu,
}

impl Test {
    pub(crate) fn is_bandwidth(self) -> bool {
        matches!(self, Self::WriteBw | Self::ReadBw | Self::SendBw)
    }

    /// Whether it goes through the transport.
    pub(crate) fn is_write(self) -> bool {
        matches!(self, Self::WriteBw | Self::WriteLat | Self::Matrix)
    }

    pub(crate) fn is_send(self) -> bool {
        matches!(self, Self::SendBw | Self::SendLat)
    }

    /// Whether the client gets something back from the server's memory.
    pub(crate) fn is_fetch(self) -> bool {
        matches!(self, Self::ReadBw | Self::ReadLat | Self::AtomicLat)
    }

    /// Whether its latency is half of a round trip.
    pub(crate) fn is_half(self) -> bool {
        matches!(self, Self::WriteLat | Self::SendLat)
    }

    /// Bytes of a message where no flag says otherwise.
    pub(crate) fn usual_size(self) -> u64 {
        match self {
            Self::AtomicLat => 8,
            _ if self.is_bandwidth() => 65_536,
            _ => 2,
        }
    }

    /// The title of the table.
    pub(crate) fn title(self, both: bool) -> &'static str {
        match (self, both) {
            (Self::WriteBw, false) => "RDMA_Write BW Test",
            (Self::WriteBw, true) => "RDMA_Write Bidirectional BW Test",
            (Self::ReadBw, false) => "RDMA_Read BW Test",
            (Self::ReadBw, true) => "RDMA_Read Bidirectional BW Test",
            (Self::SendBw, false) => "Send BW Test",
            (Self::SendBw, true) => "Send Bidirectional BW Test",
            (Self::WriteLat, _) => "RDMA_Write Latency Test",
            (Self::ReadLat, _) => "RDMA_Read Latency Test",
            (Self::SendLat, _) => "Send Latency Test",
            (Self::AtomicLat, _) => "Atomic Fetch-and-Add Latency Test",
            (Self::Matrix, _) => "Matrix Test",
        }
    }
}

impl Kind {
    pub(crate) fn name(self) -> String {
        name(self)
    }

    /// Refuses a test that this build does not have over this wire.
    pub(crate) fn offers(self, test: Test) -> Result<(), Failure> {
        let refuse = |why: &str| {
            let (test, wire) = (name(test), self.name());
            Err(Failure::Usage(format!("{test} is not offered over --transport {wire}: {why}")))
        };
        match self {
            Self::Npu => refuse(
                "what devices read of each other is no put: see dure perf --device (allowed: rdma, tcp, pool, cxl)",
            ),
            Self::Rdma if cfg!(not(feature = "verbs")) => {
                refuse("this build was made without the feature `verbs` (allowed: tcp, pool, cxl)")
            }
            Self::Tcp | Self::Pool | Self::Cxl if !test.is_write() => {
                refuse("reads, sends and atomics are verbs of RDMA (allowed: rdma)")
            }
            _ => Ok(()),
        }
    }
}
