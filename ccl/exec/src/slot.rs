//! The first bytes of a slot: whose message it is. And the one place where this crate reads memory that peers write.

use dure_device::Memory;

/// Bytes from the start of a slot to its payload: a cache line, so that the payload is aligned.
pub(crate) const PAYLOAD: usize = 64;

/// What stands directly before the payload, so that header and payload are one put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Digest of the call that the message belongs to.
    pub(crate) digest: u32,
    /// Bytes of payload.
    pub(crate) bytes: u32,
    /// Number of the message on its edge, from 0.
    pub(crate) index: u64,
}

impl Header {
    pub(crate) const BYTES: usize = 16;
    /// Where it stands in the slot.
    pub(crate) const AT: usize = PAYLOAD - Self::BYTES;

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.digest.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; Self::BYTES]) -> Self {
        let [d0, d1, d2, d3, b0, b1, b2, b3, index @ ..] = bytes;
        Self {
            digest: u32::from_le_bytes([d0, d1, d2, d3]),
            bytes: u32::from_le_bytes([b0, b1, b2, b3]),
            index: u64::from_le_bytes(index),
        }
    }
}

/// Copies the first `N` bytes of memory that a peer has written.
///
/// # Safety
/// `memory` is host memory of the transport, alive, and its writer has signalled these bytes and does not write them
/// again before it gets a credit, which the caller has not given yet.
#[allow(
    unsafe_code,
    reason = "slots are written by another agent: they are read through a pointer, not a reference"
)]
pub(crate) unsafe fn read<const N: usize>(memory: Memory) -> [u8; N] {
    assert!(memory.len >= N, "a slot is as long as what is read from it");
    // SAFETY: the caller promises that the bytes are mapped and that nobody writes them; the length was checked.
    unsafe { memory.ptr.as_ptr().cast::<[u8; N]>().read_unaligned() }
}
