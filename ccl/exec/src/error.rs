//! What can go wrong while a plan runs.

/// An error of the executor. All of them end the communicator: what was in flight is in no known state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Chunks of the plan's longest message do not fit a slot.
    #[error(
        "a message of {chunks} chunks of at least one {elem}-byte element does not fit a slot of {slot} bytes"
    )]
    SlotTooSmall {
        /// Bytes of a slot.
        slot: u32,
        /// Chunks in the longest message.
        chunks: u32,
        /// Bytes of an element.
        elem: u32,
    },
    /// A message belongs to another call than the one that runs here.
    #[error("rank {peer} made another call")]
    Mismatch {
        /// Who sent it.
        peer: u32,
    },
    /// A message is of the same call but not as long as the plan says.
    #[error("a message of {got} bytes from rank {peer} where the plan has {want}")]
    Length {
        /// Who sent it.
        peer: u32,
        /// Bytes that came.
        got: u64,
        /// Bytes that the plan says.
        want: u64,
    },
    /// What a peer said when the connection came up cannot be used.
    #[error("the greeting of rank {peer} makes no sense")]
    Greeting {
        /// Who sent it.
        peer: u32,
    },
    /// The connection to a peer that the plan still needs is lost.
    #[error("lost the connection to rank {peer}")]
    Lost {
        /// The peer.
        peer: u32,
        /// Why.
        source: dure_transport::Error,
    },
    /// The transport failed in a call of ours.
    #[error("transport to rank {peer}")]
    Transport {
        /// The peer that it was about.
        peer: u32,
        /// What failed.
        source: dure_transport::Error,
    },
    /// The transport gave no memory.
    #[error("no memory of the transport for {what}")]
    NoMemory {
        /// What it was for.
        what: &'static str,
        /// What failed.
        source: dure_transport::Error,
    },
    /// A device failed.
    #[error("device")]
    Device(#[from] dure_device::Error),
}
