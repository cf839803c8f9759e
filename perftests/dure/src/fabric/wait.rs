//! How a side waits: it looks again and again, gives its core away when that goes on, and gives up when nothing moves.

use std::time::{Duration, Instant};

use crate::output::Failure;

/// How long a wait spins before each turn offers the core to others: longer than a message takes over a fast wire, and no
/// longer, as the peer, or the kernel's work for a software device, may need this core.
pub(super) const SPIN: Duration = Duration::from_micros(20);
/// Turns between looks at the clock.
const TURNS_PER_LOOK: u32 = 4;

/// One wait.
#[derive(Debug)]
pub(super) struct Wait {
    patience: Duration,
    spin: Duration,
    turns: u32,
    /// When nothing had moved for some turns.
    since: Option<Instant>,
    yields: bool,
}

impl Wait {
    /// Of a side that spins for so long, and waits for so long.
    pub(super) fn new(patience: Duration, spin: Duration) -> Self {
        Self { patience, spin, turns: 0, since: None, yields: false }
    }

    /// Something moved.
    #[inline]
    pub(super) fn progress(&mut self) {
        (self.turns, self.since, self.yields) = (0, None, false);
    }

    /// Nothing moved in this turn.
    #[inline]
    pub(super) fn turn(&mut self, what: &str) -> Result<(), Failure> {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(TURNS_PER_LOOK) {
            self.look(what)?;
        }
        if self.yields {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Gives up when nothing has moved for too long.
    fn look(&mut self, what: &str) -> Result<(), Failure> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let elapsed = since.elapsed();
        self.yields = elapsed > self.spin;
        if elapsed < self.patience {
            return Ok(());
        }
        Err(Failure::Failed(format!("waited {:?} for {what}: nothing moved", self.patience)))
    }
}

/// How many messages a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Messages(u64),
    For(Duration),
}

impl Count {
    /// Room for what is noted of each message.
    pub(super) fn room(self) -> usize {
        match self {
            // More are rare, and then the room grows.
            Self::Messages(count) => usize::try_from(count).unwrap_or(0).min(1 << 24),
            Self::For(_) => 1 << 16,
        }
    }

    /// Whether message number `next` is still to be sent, at so many nanoseconds from the start.
    #[inline]
    pub(super) fn goes_on(self, next: u64, nanos: u64) -> bool {
        match self {
            Self::Messages(count) => next < count,
            Self::For(time) => u128::from(nanos) < time.as_nanos(),
        }
    }
}

/// Nanoseconds since `begin`.
#[inline]
pub(super) fn nanos_since(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_without_progress_ends() {
        let mut wait = Wait::new(Duration::from_millis(1), SPIN);
        let failure = loop {
            if let Err(failure) = wait.turn("a miracle") {
                break failure.to_string();
            }
        };
        assert!(failure.contains("a miracle"), "{failure}");
        wait.progress();
        assert!(wait.turn("more").is_ok());
    }

    #[test]
    fn rows_end_by_number_or_by_time() {
        assert!(Count::Messages(2).goes_on(1, u64::MAX) && !Count::Messages(2).goes_on(2, 0));
        let second = Count::For(Duration::from_secs(1));
        assert!(second.goes_on(u64::MAX, 999_999_999) && !second.goes_on(0, 1_000_000_000));
    }
}
