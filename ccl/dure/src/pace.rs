//! How long a waiting thread polls, when it offers its core to others, and when it goes to sleep: each as long as it pays.
//!
//! What is waited for may come from a thread that runs, within a tenth of a microsecond, or from one that waits for this
//! core. Nobody says which, but a yield does: it returns at once when nobody else wants the core, and takes the time of a
//! switch or more when somebody did. On virtual machines (EPYC 9005, Linux 6.18) a yield alone on a core takes 0.2 us, a
//! switch to another process 1.7 us, a wake-up of a core that sleeps 25 to 50 us, of a thread on a busy core 5 us.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest time to poll before the core is offered to others, in nanoseconds, when ranks have a core each: a wake-up
/// costs as much.
const MOST: u32 = 60_000;
/// The same when ranks share cores: whoever we wait for may need ours.
const MOST_SHARED: u32 = 10_000;
/// Shorter polling is none.
const LEAST: u32 = 1_000;
/// Polls between two looks at the clock, which costs as much as one or two polls of memory.
const LOOK: u32 = 16;
/// A yield that took less found nobody.
const SWITCH: Duration = Duration::from_micros(1);
/// A yield that took more found somebody who keeps the core: the scheduler's slices are 3 ms and more. Then sleeping is
/// better, since whoever is woken goes before him.
const SLICE: Duration = Duration::from_millis(1);
/// Longest time, in nanoseconds, to poll and yield in vain before going to sleep when nobody else wants the core; and the
/// same when ranks share cores, where the scheduler may hold back others although we yield (those of another session or
/// container). Halved, down to the least, whenever it was in vain.
const ALONE: u32 = 1_000_000;
const ALONE_SHARED: u32 = 100_000;
const LEAST_ALONE: u32 = 2_000;
/// The same when others want the core and give it back.
const TOGETHER: u32 = 4_000_000;
/// Waits that sleep instead of yielding after somebody kept the core: at first, and at most. Twice as many each time that
/// he is still there.
const AVOID: u32 = 8;
const MOST_AVOID: u32 = 4096;

/// What the waits of one communicator have learnt. It only decides how long they take: a race loses a lesson, no more.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Nanoseconds of polling that pay, and of yielding alone.
    spin: AtomicU32,
    alone: AtomicU32,
    /// Waits from now on that do not yield, and how many they were when that was learnt.
    avoid: AtomicU32,
    avoided: AtomicU32,
    most: u32,
    most_alone: u32,
}

impl Patience {
    /// Nothing is learnt yet. `shares_cores`: there are more ranks on this machine than cores.
    pub(crate) fn new(shares_cores: bool) -> Self {
        let (spin, most, most_alone) =
            if shares_cores { (0, MOST_SHARED, ALONE_SHARED) } else { (MOST, MOST, ALONE) };
        Self {
            spin: AtomicU32::new(spin),
            alone: AtomicU32::new(most_alone),
            avoid: AtomicU32::new(0),
            avoided: AtomicU32::new(0),
            most,
            most_alone,
        }
    }

    /// Whether this wait had better not yield.
    fn avoids_yielding(&self) -> bool {
        let left = self.avoid.load(Ordering::Relaxed);
        self.avoid.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// Learns from a yield whether somebody keeps the core.
    fn was_kept(&self, kept: bool) {
        let last = self.avoided.load(Ordering::Relaxed);
        let next = if kept { (2 * last).clamp(AVOID, MOST_AVOID) } else { 0 };
        self.avoided.store(next, Ordering::Relaxed);
        self.avoid.store(next, Ordering::Relaxed);
    }
}

/// Where a wait is since something moved last.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Polling; since when, once the clock was looked at.
    Polling(Option<Instant>),
    /// Offering the core between polls, since then; `together` with others, or in vain.
    Yielding { since: Instant, together: bool },
    /// Nothing helps but sleep.
    Sleepy,
}

/// One wait.
#[derive(Debug)]
pub(crate) struct Pace<'p> {
    patience: &'p Patience,
    spin: u32,
    /// Polls in vain since something moved last, and with which of them the next look is due.
    polls: u32,
    look_at: u32,
    stage: Stage,
}

impl<'p> Pace<'p> {
    /// A wait begins.
    #[inline]
    pub(crate) fn new(patience: &'p Patience) -> Self {
        let spin = patience.spin.load(Ordering::Relaxed);
        Self { patience, spin, polls: 0, look_at: interval(spin), stage: Stage::Polling(None) }
    }

    /// Something moved.
    #[inline]
    pub(crate) fn moved(&mut self) {
        if self.polls > 0 {
            self.begin_again();
        }
    }

    fn begin_again(&mut self) {
        let patience = self.patience;
        match self.stage {
            Stage::Polling(_) if self.spin < patience.most => {
                self.learn((self.spin + self.spin / 8).min(patience.most));
            }
            Stage::Yielding { together: false, .. } => {
                let alone = patience.alone.load(Ordering::Relaxed);
                patience.alone.store((2 * alone).min(patience.most_alone), Ordering::Relaxed);
            }
            Stage::Polling(_) | Stage::Yielding { .. } | Stage::Sleepy => {}
        }
        (self.polls, self.look_at) = (0, interval(self.spin));
        self.stage = Stage::Polling(None);
    }

    /// Nothing moved: lets some time pass. False when it is time to sleep.
    #[inline]
    pub(crate) fn rest(&mut self) -> bool {
        self.polls += 1;
        if self.polls < self.look_at {
            std::hint::spin_loop();
            return true;
        }
        self.look()
    }

    fn look(&mut self) -> bool {
        let now = Instant::now();
        let spin = Duration::from_nanos(self.spin.into());
        match self.stage {
            Stage::Polling(None) if self.spin > 0 => self.stage = Stage::Polling(Some(now)),
            Stage::Polling(Some(since)) if now - since < spin => std::hint::spin_loop(),
            Stage::Polling(_) if self.patience.avoids_yielding() => self.stage = Stage::Sleepy,
            Stage::Polling(_) => self.give_way(now, now, false),
            Stage::Yielding { since, together } => {
                let alone = self.patience.alone.load(Ordering::Relaxed);
                let limit = if together { TOGETHER } else { alone };
                if now - since < Duration::from_nanos(limit.into()) {
                    self.give_way(now, since, together);
                } else {
                    if !together {
                        self.patience.alone.store((alone / 2).max(LEAST_ALONE), Ordering::Relaxed);
                    }
                    self.stage = Stage::Sleepy;
                }
            }
            Stage::Sleepy => {}
        }
        let sleeps = matches!(self.stage, Stage::Sleepy);
        self.look_at = self.polls + if sleeps { 1 } else { interval(self.spin) };
        !sleeps
    }

    /// Offers the core to others, and learns from how long they take it.
    fn give_way(&mut self, now: Instant, since: Instant, together: bool) {
        std::thread::yield_now();
        let took = now.elapsed();
        if took < SWITCH {
            self.learn(longer(self.spin, self.patience.most));
        } else {
            self.learn(shorter(self.spin));
            self.patience.was_kept(took >= SLICE);
        }
        self.stage = Stage::Yielding { since, together: together || took >= SWITCH };
    }

    fn learn(&mut self, spin: u32) {
        self.spin = spin;
        self.patience.spin.store(spin, Ordering::Relaxed);
    }
}

/// Polls between two looks at the clock.
fn interval(spin: u32) -> u32 {
    if spin > 0 { LOOK } else { 1 }
}

/// Polling cost nobody anything: twice as long.
fn longer(spin: u32, most: u32) -> u32 {
    (spin * 2).clamp(LEAST, most)
}

/// Somebody wanted the core meanwhile: half as long, and in the end not at all.
fn shorter(spin: u32) -> u32 {
    if spin < 2 * LEAST { 0 } else { spin / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_gets_longer_and_shorter_within_its_bounds() {
        for most in [MOST, MOST_SHARED] {
            let up: Vec<_> =
                std::iter::successors(Some(0), |spin| Some(longer(*spin, most))).take(12).collect();
            assert_eq!((up[1], up[11]), (LEAST, most));
            assert!(up.is_sorted());
            let down = std::iter::successors(Some(most), |spin| Some(shorter(*spin)));
            assert_eq!(down.take(12).last(), Some(0));
        }
    }

    #[test]
    fn who_keeps_the_core_is_avoided_longer_each_time_and_forgotten_when_gone() {
        let patience = Patience::new(true);
        assert!(!patience.avoids_yielding());
        for waits in [8, 16, 32] {
            patience.was_kept(true);
            assert_eq!((0..100).filter(|_| patience.avoids_yielding()).count(), waits);
        }
        patience.was_kept(true);
        patience.was_kept(false);
        assert!(!patience.avoids_yielding());
        (0..32).for_each(|_| patience.was_kept(true));
        assert_eq!(patience.avoid.load(Ordering::Relaxed), MOST_AVOID);
    }

    #[test]
    fn a_wait_in_vain_ends_in_sleep_and_begins_anew_when_something_moved() {
        for shares_cores in [false, true] {
            let patience = Patience::new(shares_cores);
            let mut pace = Pace::new(&patience);
            while pace.rest() {}
            assert!(!pace.rest());
            // Other programs of this machine may have kept the core meanwhile: then sleep would be right at once.
            patience.was_kept(false);
            pace.moved();
            assert!(pace.rest());
        }
    }
}
