//! What a rank of a communicator shares with the control thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::bootstrap::table::Table;
use crate::bootstrap::wire::{Failure, Packed};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::record::{Answer, Record};

/// One per rank and communicator.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) rank: u32,
    pub(crate) fault: Fault,
    pub(crate) record: Record,
    state: Mutex<State>,
    changed: Condvar,
}

/// What the control thread has learnt for this rank.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The members, once known.
    pub(crate) table: Option<Table>,
    /// Gathers that this rank has given to.
    pub(crate) given: u64,
    /// Results that nobody has fetched.
    pub(crate) gathered: BTreeMap<u64, Packed>,
    /// Ranks that said goodbye.
    pub(crate) left: BTreeSet<u32>,
}

impl Shared {
    pub(crate) fn new(rank: u32) -> Result<Self> {
        Ok(Self::with(rank, Fault::new()?, Record::new()))
    }

    /// For a rank without peers, of which the control thread does not know.
    pub(crate) fn alone(rank: u32) -> Self {
        Self::with(rank, Fault::without_bell(), Record::unasked())
    }

    fn with(rank: u32, fault: Fault, record: Record) -> Self {
        Self { rank, fault, record, state: Mutex::default(), changed: Condvar::new() }
    }

    /// The state is consistent after every statement, so a panic of another holder does not matter.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything there is to say to a rank that asks, with the signature of call `sequence`.
    pub(crate) fn answer(&self, sequence: u64) -> Answer {
        let failed = self.fault.error().map(Failure::from);
        Answer { failed, ..self.record.answer(sequence) }
    }

    /// Changes the state and wakes whoever waits for that.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Breaks the communicator on this rank, and wakes everybody.
    pub(crate) fn break_with(&self, error: Error) {
        self.fault.record(error);
        // Taking the lock orders this after the look of whoever is about to wait.
        drop(self.state());
        self.changed.notify_all();
    }

    /// Blocks until `look` finds what it looks for.
    ///
    /// # Errors
    /// The fatal error, if one comes first; `Timeout` with the text of `late`.
    pub(crate) fn wait<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&mut State) -> Option<T>,
        late: impl FnOnce() -> String,
    ) -> Result<T> {
        let mut state = self.state();
        loop {
            if let Some(value) = look(&mut state) {
                return Ok(value);
            }
            self.fault.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::timeout(late()).on(self.rank));
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Blocks for a while, or until the communicator breaks.
    ///
    /// # Errors
    /// The fatal error.
    pub(crate) fn pause(&self, until: Instant) -> Result<()> {
        match self.wait(until, |_| None::<()>, String::new) {
            Err(error) if !self.fault.is_raised() => {
                debug_assert_eq!(error.kind, crate::error::ErrorKind::Timeout);
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => Ok(()),
        }
    }
}
