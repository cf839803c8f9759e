//! The memory of a transport that messages are put from and into, and its doorbell: the only place of `fabric` that touches
//! memory by address and descriptors by number.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use dure::Memory;
use dure_transport::{Region, Transport};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Memory that a transport has allocated. Used only as long as the transport is there, whose owner owns this.
#[derive(Debug)]
pub(super) struct Area {
    pub(super) region: Region,
    memory: Memory,
}

impl Area {
    pub(super) fn new(net: &mut dyn Transport, len: usize) -> dure_transport::Result<Self> {
        let (region, memory) = net.alloc(len)?;
        Ok(Self { region, memory })
    }

    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "the exclusive borrow keeps two from filling it at once"
    )]
    /// Fills the start. Nothing that was put from it is under way.
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        let part = self.memory.part(0, bytes.len());
        // SAFETY: `alloc` gave host memory that stays until the transport ends, `part` checked the bounds, and no put that
        // reads it is under way: rows end when all have been answered.
        unsafe { part.ptr.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// The first bytes, copied. A peer that writes meanwhile makes them a mixture of old and new ones.
    pub(super) fn bytes(&self, len: usize) -> Vec<u8> {
        let part = self.memory.part(0, len);
        let mut bytes = vec![0; len];
        // SAFETY: as above; the vector is new. What a peer writes after its row is a message that is wrong anyway.
        unsafe { part.ptr.as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        bytes
    }
}

/// Sleeps until the transport has something to say, at most so long.
pub(super) fn sleep(net: &mut dyn Transport, at_most: Duration) {
    let Some(fd) = net.doorbell().filter(|_| net.arm()) else { return };
    // SAFETY: the descriptor is open as long as the transport, which is borrowed.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
    // Whatever came of it, the caller looks again.
    let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout);
}

/// `len` bytes that look like no others: they depend on `seed` and on their place.
pub(super) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// How many bytes differ.
pub(super) fn differing(got: &[u8], wanted: &[u8]) -> u64 {
    got.iter().zip(wanted).filter(|(got, wanted)| got != wanted).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_differ_by_seed_and_place() {
        let (one, two) = (pattern(1, 1000), pattern(2, 1000));
        assert_eq!(one.len(), 1000);
        assert!(differing(&one, &two) > 900 && differing(&one, &one[8..]) > 900);
        assert_eq!(differing(&one, &pattern(1, 1000)), 0);
    }
}
