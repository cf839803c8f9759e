//! Calls that were made before: what a repeated call need not work out again.
//!
//! Programs make the same few calls again and again. A call's key names all that its plan, geometry and type depend on,
//! so that a call that is found here needs no check but that of its buffers' length. A key that meets another one in its
//! place takes the place.

use std::sync::Arc;

use dure_device::Memory;
use dure_exec::Prepared;

use crate::call::{Key, mix};
use crate::tuner::DecisionId;

/// Places of the table. A power of two; more than the different calls of one step of a training.
const PLACES: usize = 64;

/// A call without its buffers.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) prepared: Arc<Prepared>,
    /// `None` for messages.
    pub(crate) decision: Option<DecisionId>,
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
        let (its, known) = self.places.get(place(key))?.as_ref()?;
        (*its == key).then_some(known)
    }

    /// Remembers a call.
    pub(crate) fn keep(&mut self, key: Key, known: Known) {
        if self.places.is_empty() {
            self.places = (0..PLACES).map(|_| None).collect();
        }
        self.places[place(key)] = Some((key, known));
    }
}

fn place(Key([first, count]): Key) -> usize {
    usize::try_from(mix(first, count) % PLACES as u64).expect("the remainder is small")
}
