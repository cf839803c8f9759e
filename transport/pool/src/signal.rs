//! The publication protocol: counters, and the bell that wakes a parked owner. No other file names an `Ordering`.
//!
//! A *counter* lies in its owner's segment and is bumped by one peer. A *bell* lies there too, one for each peer: the
//! owner sets it before it sleeps, the peer clears it when it bumps a counter, and rings the socket if it was set.
//! `docs/memory-model.md` gives the argument at length; `tests/loom.rs` runs these functions under every interleaving.

use std::sync::atomic::Ordering;

use crate::sync::Word;

/// What a bell holds while its owner is awake.
const AWAKE: u64 = 0;
/// What a bell holds while its owner sleeps, or is about to.
const PARKED: u64 = 1;

/// Makes `value` the content of a word, after all that this thread wrote before.
///
/// A plain store and no read-modify-write, because the word has one writer, who remembers the value.
pub(crate) fn publish(word: &impl Word, value: u64) {
    word.store(value, Ordering::Release);
}

/// Reads a word that another agent publishes: what it wrote before is visible afterwards.
pub(crate) fn observe(word: &impl Word) -> u64 {
    word.load(Ordering::Acquire)
}

/// The peer's side, after its [`publish`]: whether the owner of the bell sleeps and must be woken.
///
/// Both sides write one word and then read another, and at least one of them must see the other's write. A store and a
/// load do not give that without a fence between them, so both sides exchange the bell itself. Exchanges of one word
/// have one order. If the owner's [`park`] comes first, this exchange returns PARKED. If this one comes first, the
/// owner's exchange reads from it (or from a later exchange, which continues its release sequence), so the counter
/// that was published before is visible to the owner's second look.
#[must_use]
pub(crate) fn must_wake(bell: &impl Word) -> bool {
    bell.swap(AWAKE, Ordering::AcqRel) == PARKED
}

/// The owner's side, before it looks at its counters for the last time and sleeps.
fn park(bell: &impl Word) {
    bell.swap(PARKED, Ordering::AcqRel);
}

/// The owner's side, when it is awake again. An exchange like the others: a plain store would cut the release sequence
/// of a peer's exchange, and the next [`park`] would no longer synchronise with that peer.
pub(crate) fn unpark(bell: &impl Word) {
    bell.swap(AWAKE, Ordering::AcqRel);
}

/// The owner's side: parks every bell unless `changed` says that a counter moved. True when the owner may sleep, until
/// its doorbell rings.
///
/// `changed` compares the counters with what it saw at its last call. The first call spares awake owners the
/// exchanges; the one behind them is the one that counts.
#[must_use]
pub(crate) fn arm<'b, W: Word + 'b>(
    bells: impl Iterator<Item = &'b W> + Clone,
    mut changed: impl FnMut() -> bool,
) -> bool {
    if changed() {
        return false;
    }
    bells.clone().for_each(park);
    if !changed() {
        return true;
    }
    bells.for_each(unpark);
    false
}
