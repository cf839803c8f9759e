//! What a rank is doing, as its data path publishes it and its control thread tells others.
//!
//! A peer that waits too long asks over a connection of its own ([`crate::control`]); the answer comes from here, from a
//! thread that does not wait for anything itself. Publishing a call costs four stores to memory of this process.

#![allow(
    clippy::disallowed_types,
    reason = "control plane: taken once a rank has been blocked for long"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::bootstrap::wire::Failure;

/// Calls that are remembered. A power of two, so that the place is a mask.
pub(crate) const REMEMBERED: u64 = PLACES as u64;
const PLACES: usize = 64;

/// What a blocked rank waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Pass of the plan.
    pub(crate) pass: u32,
    /// Step of the plan.
    pub(crate) step: u32,
    /// The step, for people.
    pub(crate) text: String,
    /// Whom it waits for.
    pub(crate) peer: Option<u32>,
}

/// What a rank says when it is asked what it is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The last call that began; 0 when none has.
    pub(crate) current: u64,
    /// Whether that call is still running.
    pub(crate) in_call: bool,
    /// What it waits for, lane by lane, when it has been blocked for long.
    pub(crate) waiting: Vec<Waiting>,
    /// Signature of the call that was asked about, when it is remembered.
    pub(crate) signature: Option<[u64; 2]>,
    /// Whether the rank has left the communicator.
    pub(crate) left: bool,
    /// What has broken the communicator, as far as the rank knows.
    pub(crate) failed: Option<Failure>,
}

/// One remembered call. The stamp is the sequence number, or 0 while the signature changes.
#[derive(Debug, Default)]
struct Call {
    stamp: AtomicU64,
    signature: [AtomicU64; 2],
}

/// The calls of one rank of one communicator. One thread at a time publishes; any thread reads.
#[derive(Debug)]
pub(crate) struct Record {
    calls: Box<[Call]>,
    begun: AtomicU64,
    ended: AtomicU64,
    left: AtomicBool,
    waiting: Mutex<Vec<Waiting>>,
}

impl Record {
    /// No call yet.
    pub(crate) fn new() -> Self {
        Self::of(PLACES)
    }

    /// For a rank without peers: nobody asks it.
    pub(crate) fn unasked() -> Self {
        Self::of(1)
    }

    fn of(places: usize) -> Self {
        Self {
            calls: (0..places).map(|_| Call::default()).collect(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            left: AtomicBool::new(false),
            waiting: Mutex::default(),
        }
    }

    /// Memory that it takes besides itself, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.calls)
    }

    fn call(&self, sequence: u64) -> &Call {
        let mask = self.calls.len() - 1;
        &self.calls[usize::try_from(sequence & mask as u64).expect("the mask is a length")]
    }

    /// A call begins. Sequence numbers start at 1 and go up.
    ///
    /// A reader may look while the entry changes: it reads the stamp, then the signature, then the stamp again. The
    /// signature is stored with release after the stamp was cleared, so a reader that saw a new half sees the cleared
    /// or the new stamp in its second look, and drops what it read.
    pub(crate) fn begin(&self, sequence: u64, signature: [u64; 2]) {
        debug_assert!(sequence > 0, "sequence numbers start at 1");
        let call = self.call(sequence);
        call.stamp.store(0, Ordering::Relaxed);
        call.signature[0].store(signature[0], Ordering::Release);
        call.signature[1].store(signature[1], Ordering::Release);
        call.stamp.store(sequence, Ordering::Release);
        self.begun.store(sequence, Ordering::Release);
    }

    /// The call ended, well or not.
    pub(crate) fn end(&self, sequence: u64) {
        self.ended.store(sequence, Ordering::Release);
    }

    /// Says what the rank waits for, once it has been blocked for long; nothing when it goes on.
    pub(crate) fn set_waiting(&self, waiting: Vec<Waiting>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
    }

    /// The rank has left the communicator.
    pub(crate) fn set_left(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Signature of a call, when it is remembered.
    pub(crate) fn signature(&self, sequence: u64) -> Option<[u64; 2]> {
        let call = self.call(sequence);
        let before = call.stamp.load(Ordering::Acquire);
        let signature =
            [call.signature[0].load(Ordering::Acquire), call.signature[1].load(Ordering::Acquire)];
        let after = call.stamp.load(Ordering::Acquire);
        (sequence != 0 && before == sequence && after == sequence).then_some(signature)
    }

    /// What there is to say of calls, with the signature of call `sequence`.
    pub(crate) fn answer(&self, sequence: u64) -> Answer {
        let current = self.begun.load(Ordering::Acquire);
        Answer {
            current,
            in_call: self.ended.load(Ordering::Acquire) < current,
            waiting: self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            signature: self.signature(sequence),
            left: self.left.load(Ordering::Acquire),
            failed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_calls_and_no_others() {
        let record = Record::new();
        assert_eq!(record.signature(0), None);
        assert!(!record.answer(1).in_call);
        for sequence in 1..=100 {
            record.begin(sequence, [sequence, sequence * 2]);
            assert!(record.answer(sequence).in_call);
            record.end(sequence);
        }
        assert_eq!(record.signature(100), Some([100, 200]));
        assert_eq!(record.signature(37), Some([37, 74]));
        assert_eq!(record.signature(36), None);
        assert_eq!(record.signature(101), None);
        let answer = record.answer(50);
        assert_eq!(
            (answer.current, answer.in_call, answer.signature),
            (100, false, Some([50, 100]))
        );
    }

    #[test]
    fn a_reader_never_sees_half_a_call() {
        let record = Record::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for sequence in 1..=200_000 {
                    record.begin(sequence, [sequence, !sequence]);
                }
            });
            while record.answer(0).current < 200_000 {
                let sequence = record.answer(0).current;
                if let Some([a, b]) = record.signature(sequence) {
                    assert_eq!((a, b), (sequence, !sequence));
                }
            }
        });
    }
}
