//! The flight recorder: the last events of each lane, always on, read when something went wrong.

use crate::clock::{self, Clock};

/// Events kept per lane. A power of two, so that the position is a mask.
const EVENTS: usize = 256;

/// One event of a lane: a step that was done, or a call that began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since the executor was made.
    pub nanos: u64,
    /// Digest of the call.
    pub call: u32,
    /// The pass.
    pub pass: u32,
    /// Number of the step in the plan; [`Event::BEGIN`] when the call began.
    pub step: u32,
    /// The peer of the step; `u32::MAX` when it has none.
    pub peer: u32,
    /// Bytes of the step.
    pub bytes: u64,
}

impl Event {
    /// In place of a step: the call began.
    pub const BEGIN: u32 = u32::MAX;
}

/// A ring of the last events of one lane.
#[derive(Debug)]
pub struct Recorder {
    clock: Clock,
    next: usize,
    /// In place of nanoseconds they hold ticks. `None` for a rank without peers, whose calls wait for nobody.
    events: Option<Box<[Event; EVENTS]>>,
}

impl Recorder {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { events: Some(Box::new([Event::default(); EVENTS])), ..Self::none(clock) }
    }

    /// Keeps nothing.
    pub(crate) fn none(clock: Clock) -> Self {
        Self { clock, next: 0, events: None }
    }

    #[inline]
    pub(crate) fn record(&mut self, event: Event) {
        if let Some(events) = &mut self.events {
            events[self.next % EVENTS] = Event { nanos: clock::ticks(), ..event };
            self.next += 1;
        }
    }

    /// Memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.events.as_deref().map_or(0, size_of_val)
    }

    /// The events that are still known, the oldest first.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let rate = self.clock.rate();
        let known = self.next.saturating_sub(EVENTS)..self.next;
        self.events.iter().flat_map(move |events| {
            known.clone().map(move |i| {
                let event = events[i % EVENTS];
                Event { nanos: self.clock.nanos(event.nanos, rate), ..event }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_kept_in_order() {
        let mut recorder = Recorder::new(Clock::start());
        for step in 0..600 {
            recorder.record(Event { step, ..Event::default() });
        }
        let steps: Vec<u32> = recorder.events().map(|e| e.step).collect();
        assert_eq!(steps, (344..600).collect::<Vec<_>>());
        let times: Vec<u64> = recorder.events().map(|e| e.nanos).collect();
        assert!(times.is_sorted(), "time does not go back");
    }
}
