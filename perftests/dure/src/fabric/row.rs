//! One row, as both sides know it.

use serde::{Deserialize, Serialize};

use super::figures::{Bandwidth, Figures};

/// Counters of devices that moved, by name.
pub(crate) type Moved = Vec<(String, u64)>;

/// What the server adds to a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Of what it sent, when both send.
    pub(crate) bandwidth: Option<Bandwidth>,
    /// Bytes that are not what they should be.
    pub(crate) wrong: u64,
    pub(crate) counters: Counters,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Bytes of a message.
    pub(crate) size: u64,
    /// Messages that were measured, of the client.
    pub(crate) messages: u64,
    /// Whether other traffic was under way.
    pub(crate) loaded: bool,
    pub(crate) figures: Figures,
    /// Bytes on both sides that are not what they should be.
    pub(crate) wrong: u64,
    /// Of the client's devices, and of the server's.
    pub(crate) counters: [Counters; 2],
}

/// Counters of one side's devices around a row. Empty without RDMA, or where they cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Device and port, counter, its value before the row and after it.
    pub(crate) values: Vec<(String, String, u64, u64)>,
    /// Those that moved and count errors.
    pub(crate) errors: Moved,
    /// Those that moved and count traffic.
    pub(crate) traffic: Moved,
}
