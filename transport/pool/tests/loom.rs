//! Every interleaving of the publication protocol: `RUSTFLAGS="--cfg loom" cargo test -p dure-pool --test loom`.
//!
//! The protocol's own source is compiled in here, over loom's atomics. Each model is run a second time with one memory
//! order weakened, and must then fail.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a thread that panicked fails the model")]

#[path = "../src/signal.rs"]
mod signal;
#[path = "../src/sync.rs"]
mod sync;

use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;

use crate::sync::Word;

/// Which order of a word is weakened to `Relaxed`, if any.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    Load,
    Store,
    Swap,
    /// Waking stores instead of exchanging.
    Cut,
}

struct Modelled {
    word: AtomicU64,
    flaw: Flaw,
}

impl Modelled {
    fn new(flaw: Flaw) -> Self {
        Self { word: AtomicU64::new(0), flaw }
    }

    fn order(&self, asked: Ordering, weak: Flaw) -> Ordering {
        if self.flaw == weak { Ordering::Relaxed } else { asked }
    }
}

impl Word for Modelled {
    fn load(&self, order: Ordering) -> u64 {
        self.word.load(self.order(order, Flaw::Load))
    }

    fn store(&self, value: u64, order: Ordering) {
        self.word.store(value, self.order(order, Flaw::Store));
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.word.swap(value, self.order(order, Flaw::Swap))
    }
}

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// The slot of an edge: bytes, and the counter behind them.
struct Slot {
    bytes: UnsafeCell<[u64; 2]>,
    counter: Modelled,
}

// SAFETY: what the models check is that the counter orders the accesses to the bytes; loom reports a race otherwise.
unsafe impl Sync for Slot {}

/// Two puts into two places; whoever sees the count sees the bytes.
fn publication(flaw: Flaw) {
    explore(move || {
        let slot = Arc::new(Slot { bytes: UnsafeCell::new([0; 2]), counter: Modelled::new(flaw) });
        let writer = Arc::clone(&slot);
        let peer = thread::spawn(move || {
            // SAFETY: the owner reads only after it observed the count.
            writer.bytes.with_mut(|bytes| unsafe { *bytes = [7, 9] });
            signal::publish(&writer.counter, 1);
        });
        if signal::observe(&slot.counter) == 1 {
            // SAFETY: the count says that the bytes were written, and they are not written again.
            slot.bytes.with(|bytes| assert_eq!(unsafe { *bytes }, [7, 9]));
        }
        peer.join().unwrap();
    });
}

#[test]
fn bytes_are_visible_once_the_counter_is() {
    publication(Flaw::None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_publication_is_caught() {
    publication(Flaw::Store);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_observation_is_caught() {
    publication(Flaw::Load);
}

/// What the owner's segment holds for one peer.
struct Line {
    counter: Modelled,
    bell: Modelled,
}

impl Line {
    /// One put; whether the peer rang for it.
    fn put(&self, count: u64) -> bool {
        signal::publish(&self.counter, count);
        signal::must_wake(&self.bell)
    }

    fn unpark(&self) {
        if self.bell.flaw == Flaw::Cut {
            self.bell.store(0, Ordering::Release);
        } else {
            signal::unpark(&self.bell);
        }
    }
}

/// A peer puts `puts` times, and an owner wakes for another reason and then waits for the last of them.
fn wake(flaw: Flaw, puts: u64) {
    explore(move || {
        let line = Line { counter: Modelled::new(Flaw::None), bell: Modelled::new(flaw) };
        let line = Arc::new(line);
        let peer = Arc::clone(&line);
        let peer = thread::spawn(move || (1..=puts).filter(|count| peer.put(*count)).count());
        line.unpark();
        let mut seen = 0;
        while signal::observe(&line.counter) < puts {
            let changed = || {
                let now = signal::observe(&line.counter);
                std::mem::replace(&mut seen, now) != now
            };
            if signal::arm(std::iter::once(&line.bell), changed) {
                // Asleep. Nobody else rings: if the peer does not, this would be for ever.
                assert_ne!(peer.join().unwrap(), 0, "lost wake-up");
                return;
            }
        }
        peer.join().unwrap();
    });
}

#[test]
fn no_wake_up_is_lost() {
    wake(Flaw::None, 1);
    wake(Flaw::None, 2);
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn a_relaxed_bell_is_caught() {
    wake(Flaw::Swap, 1);
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn a_wake_by_plain_store_is_caught() {
    wake(Flaw::Cut, 1);
}
