//! Atomic words, real and modelled.
//!
//! Elsewhere a module swaps `core`'s atomics for loom's. Here the words lie in a mapped segment, and loom's atomics are
//! objects that record their history: they cannot lie there. So the protocol of [`signal`](crate::signal) is written
//! over this trait; the transport runs it on words of the segment and `tests/loom.rs` on loom's, where it can also
//! weaken an order and see that the models notice.

use std::sync::atomic::{AtomicU64, Ordering};

/// A word of 64 bits that several agents share.
pub(crate) trait Word {
    /// Reads the word.
    fn load(&self, order: Ordering) -> u64;
    /// Overwrites the word.
    fn store(&self, value: u64, order: Ordering);
    /// Overwrites the word and returns what it held, in one step.
    fn swap(&self, value: u64, order: Ordering) -> u64;
}

impl Word for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.swap(value, order)
    }
}
