//! Calls that were made before: what a repeated call need not work out again.
//!
//! Programs make the same few calls again and again. A call's key names all that its plan, geometry and type depend on,
//! so that a call that is found here needs no check but that of its buffers' length. A key that meets another one in its
//! place takes the place.

use std::sync::Arc;

use dure_device::Memory;
use dure_exec::Prepared;

use crate::call::{Key, mix};
use crate::tuner::{DecisionId, Trying};

/// Places of the table at first, and at most: it doubles when two calls want one place. Powers of two.
const FEW: usize = 8;
const MANY: usize = 256;

/// A call without its buffers.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) prepared: Arc<Prepared>,
    /// `None` for messages.
    pub(crate) decision: Option<DecisionId>,
    /// The call is part of a trial: it is not remembered.
    pub(crate) trying: Option<Trying>,
    /// Bytes of this rank's input and output.
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// The executor does it all: nothing is scaled before or after.
    pub(crate) bare: bool,
}

impl Known {
    /// The part of the caller's buffers that the call uses; `None` when one is too short.
    pub(crate) fn buffers(&self, input: Memory, output: Memory) -> Option<(Memory, Memory)> {
        let part = |memory: Memory, len: usize| match len {
            0 => Some(Memory::EMPTY),
            _ if len <= memory.len => Some(Memory { len, ..memory }),
            _ => None,
        };
        Some((part(input, self.input)?, part(output, self.output)?))
    }
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct KnownCalls {
    /// Empty until the first call.
    places: Box<[Option<(Key, Known)>]>,
}

impl KnownCalls {
    /// What is known of a call.
    pub(crate) fn find(&self, key: Key) -> Option<&Known> {
        let (its, known) = self.places.get(self.place(key))?.as_ref()?;
        (*its == key).then_some(known)
    }

    /// Remembers a call.
    pub(crate) fn keep(&mut self, key: Key, known: Known) {
        if self.places.is_empty() {
            self.grow(FEW);
        }
        while self.places.len() < MANY && self.is_taken(key) {
            self.grow(2 * self.places.len());
        }
        let place = self.place(key);
        self.places[place] = Some((key, known));
    }

    /// Memory of the table, and of what it holds, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let calls = self.places.iter().flatten().map(|(_, known)| known.prepared.bytes());
        size_of_val(&*self.places) + calls.sum::<usize>()
    }

    /// Whether the place of a call is another one's.
    fn is_taken(&self, key: Key) -> bool {
        self.places[self.place(key)].as_ref().is_some_and(|(its, _)| *its != key)
    }

    fn grow(&mut self, len: usize) {
        let places = (0..len).map(|_| None).collect();
        for (key, known) in std::mem::replace(&mut self.places, places).into_iter().flatten() {
            let place = self.place(key);
            self.places[place] = Some((key, known));
        }
    }

    /// The place of a call; the length is a power of two.
    #[inline]
    fn place(&self, Key([first, count]): Key) -> usize {
        let mask = self.places.len().wrapping_sub(1);
        usize::try_from(mix(first, count) & mask as u64).expect("the mask is a length")
    }
}

#[cfg(test)]
mod tests {
    use dure_device::{Combine, Dtype};
    use dure_exec::{Layout, Layouts, Plan, Settings};

    use super::*;

    #[test]
    fn calls_are_found_again_as_long_as_there_is_room() {
        let one = Layout::Even { elems: 1, blocks: 1 };
        let layouts =
            Layouts { elem: 1, input: one.clone(), output: one.clone(), whole: one, ragged: false };
        let settings = Settings {
            lanes: 1,
            slots: 1,
            slot_bytes: 64,
            landing_bytes: 64,
            reading_bytes: 64,
            shares_cores: false,
        };
        let kind = (Dtype::Uint8, Combine::Sum);
        let prepared = Prepared::new(Arc::new(Plan::copy()), &layouts, settings, kind).unwrap();
        let prepared = Arc::new(prepared);
        let known = |input| {
            let prepared = Arc::clone(&prepared);
            Known { prepared, decision: None, trying: None, input, output: 0, bare: true }
        };
        let mut calls = KnownCalls::default();
        assert!(calls.find(Key([0, 0])).is_none());
        let keys = || (0..40).map(|i: u64| (Key([i % 3, i << 10]), usize::try_from(i).unwrap()));
        for (key, input) in keys() {
            calls.keep(key, known(input));
            calls.keep(key, known(input));
        }
        let found = keys().filter(|(key, _)| calls.find(*key).is_some()).count();
        assert!(found > 35, "{found} of 40 are known, in {} places", calls.places.len());
        for (key, input) in keys() {
            assert!(calls.find(key).is_none_or(|known| known.input == input));
        }
        assert!(calls.find(Key([3, 0])).is_none());
        (0..10_000).for_each(|i| calls.keep(Key([7, i]), known(0)));
        assert_eq!(calls.places.len(), MANY);
    }
}
