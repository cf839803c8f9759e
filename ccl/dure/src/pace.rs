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
/// Time to poll and yield in vain before going to sleep: when nobody else wants the core, and the same when ranks share
/// cores, where the scheduler may hold back others although we yield (those of another session or container).
const ALONE: Duration = Duration::from_millis(1);
const ALONE_SHARED: Duration = Duration::from_micros(100);
/// The same when others want the core and give it back.
const TOGETHER: Duration = Duration::from_millis(4);

/// What the waits of one communicator have learnt.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Nanoseconds of polling that pay.
    spin: AtomicU32,
    most: u32,
    alone: Duration,
}

impl Patience {
    /// Nothing is learnt yet. `shares_cores`: there are more ranks on this machine than cores.
    pub(crate) fn new(shares_cores: bool) -> Self {
        let (spin, most, alone) =
            if shares_cores { (0, MOST_SHARED, ALONE_SHARED) } else { (MOST, MOST, ALONE) };
        Self { spin: AtomicU32::new(spin), most, alone }
    }
}

/// Where a wait is since something moved last.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Polling; since when, once the clock was looked at.
    Polling(Option<Instant>),
    /// Offering the core between polls, since then.
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
    pub(crate) fn new(patience: &'p Patience) -> Self {
        let spin = patience.spin.load(Ordering::Relaxed);
        Self { patience, spin, polls: 0, look_at: interval(spin), stage: Stage::Polling(None) }
    }

    /// Something moved.
    pub(crate) fn moved(&mut self) {
        if self.polls == 0 {
            return;
        }
        if matches!(self.stage, Stage::Polling(_)) && self.spin < self.patience.most {
            self.learn((self.spin + self.spin / 8).min(self.patience.most));
        }
        *self =
            Self { polls: 0, look_at: interval(self.spin), stage: Stage::Polling(None), ..*self };
    }

    /// Nothing moved: lets some time pass. False when it is time to sleep.
    pub(crate) fn rest(&mut self) -> bool {
        self.polls += 1;
        if self.polls < self.look_at {
            std::hint::spin_loop();
            return true;
        }
        let goes_on = self.look();
        let sleeps = matches!(self.stage, Stage::Sleepy);
        self.look_at = self.polls + if sleeps { 1 } else { interval(self.spin) };
        goes_on
    }

    #[cold]
    fn look(&mut self) -> bool {
        let now = Instant::now();
        let spin = Duration::from_nanos(self.spin.into());
        match self.stage {
            Stage::Polling(None) if self.spin > 0 => self.stage = Stage::Polling(Some(now)),
            Stage::Polling(Some(since)) if now - since < spin => std::hint::spin_loop(),
            Stage::Polling(_) => self.give_way(now, now, false),
            Stage::Yielding { since, together } => {
                let limit = if together { TOGETHER } else { self.patience.alone };
                if now - since < limit {
                    self.give_way(now, since, together);
                } else {
                    self.stage = Stage::Sleepy;
                }
            }
            Stage::Sleepy => return false,
        }
        true
    }

    /// Offers the core to others, and learns from how long they take it.
    fn give_way(&mut self, now: Instant, since: Instant, together: bool) {
        std::thread::yield_now();
        let took = now.elapsed();
        self.learn(if took < SWITCH {
            longer(self.spin, self.patience.most)
        } else {
            shorter(self.spin)
        });
        self.stage = if took < SLICE {
            Stage::Yielding { since, together: together || took >= SWITCH }
        } else {
            Stage::Sleepy
        };
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
    fn a_wait_in_vain_ends_in_sleep_and_begins_anew_when_something_moved() {
        for shares_cores in [false, true] {
            let patience = Patience::new(shares_cores);
            let mut pace = Pace::new(&patience);
            while pace.rest() {}
            assert!(!pace.rest());
            pace.moved();
            assert!(pace.rest());
        }
    }
}
