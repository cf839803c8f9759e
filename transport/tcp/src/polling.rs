//! The driver that asks: system calls on sockets that have something, or are expected to.
//!
//! One system call that receives costs as much as one that asks which sockets have something, and then there is no
//! second one. So while messages come in an order that repeats, as those of collectives do, the next flow is asked
//! without looking; that is guessed as processors guess branches. When guesses fail, epoll says who has something.

use dure_transport::{Error, Event, Full, Posted, Put, Result};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};

use crate::driver::Drive;
use crate::frame::Header;
use crate::join::OTHER;
use crate::region::index;
use crate::traffic::{FlowId, Heard, Traffic};

/// Flows that are read in one turn, when many have something.
const PER_TURN: usize = 64;
/// Turns after which epoll is asked though guesses were right.
const LOOK: u32 = 8;
/// Most that right guesses are believed: so many wrong ones in a row end it.
const TRUST: u8 = 4;

/// The driver that asks.
#[derive(Debug, Default)]
pub(crate) struct Polling {
    backlog: Vec<Waiting>,
    guess: Guess,
    turns: u32,
}

/// A flow with frames that wait.
#[derive(Debug)]
struct Waiting {
    id: FlowId,
    /// Whether the bell rings when its socket takes more.
    watched: bool,
}

impl Polling {
    /// Sends what waits.
    fn flush(&mut self, bell: &Epoll, traffic: &mut Traffic, events: &mut Vec<Event>) {
        self.backlog.retain(|waiting| {
            let waits = !traffic.flush(waiting.id, events);
            if waiting.watched && !waits {
                // If the kernel refuses, the worst are wake-ups for nothing.
                let _ = watch(bell, traffic, waiting.id, EpollFlags::EPOLLIN);
            }
            waits
        });
    }

    /// Reads what epoll says is there.
    fn look(&mut self, bell: &Epoll, traffic: &mut Traffic) {
        let mut ready = [EpollEvent::empty(); PER_TURN];
        let count = bell.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
        for event in ready[..count].iter().filter(|event| event.data() != OTHER) {
            #[expect(clippy::cast_possible_truncation, reason = "what `watch` made of a number")]
            let id = FlowId(event.data() as u32);
            self.hear(traffic, id);
        }
    }

    fn hear(&mut self, traffic: &mut Traffic, id: FlowId) {
        if traffic.hear(id) != Heard::Silence {
            self.guess.learn(id);
        }
    }
}

impl Drive for Polling {
    fn open(&mut self, bell: &Epoll, traffic: &Traffic, id: FlowId) -> Result<()> {
        self.guess.after.resize(self.guess.after.len().max(index(id.0) + 1), None);
        watch(bell, traffic, id, EpollFlags::EPOLLIN)
            .map_err(|errno| Error::System { call: "epoll_ctl", source: errno.into() })
    }

    fn post(
        &mut self,
        traffic: &mut Traffic,
        id: FlowId,
        header: Header,
        put: &Put<'_>,
    ) -> std::result::Result<Posted, Full> {
        let posted = traffic.post(id, header, put)?;
        if posted == Posted::Pending && self.backlog.iter().all(|waiting| waiting.id != id) {
            self.backlog.push(Waiting { id, watched: false });
        }
        Ok(posted)
    }

    fn turn(&mut self, bell: &Epoll, traffic: &mut Traffic, events: &mut Vec<Event>) {
        self.flush(bell, traffic, events);
        if let Some(id) = self.guess.next() {
            self.hear(traffic, id);
        }
        self.turns = self.turns.wrapping_add(1);
        if self.guess.trust == 0 || self.turns.is_multiple_of(LOOK) {
            self.look(bell, traffic);
        }
    }

    fn close(&mut self, _: &Epoll, _: &mut Traffic, id: FlowId) {
        self.backlog.retain(|waiting| waiting.id != id);
        self.guess.forget(id);
    }

    fn arm(&mut self, bell: &Epoll, traffic: &mut Traffic) -> bool {
        for waiting in self.backlog.iter_mut().filter(|waiting| !waiting.watched) {
            // If the kernel refuses, the worst is a late wake-up.
            let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            waiting.watched = watch(bell, traffic, waiting.id, both).is_ok();
        }
        // What is there rings by itself, and the next turn finds it.
        self.turns = LOOK - 1;
        true
    }
}

/// Says when a flow's socket rings the bell.
fn watch(bell: &Epoll, traffic: &Traffic, id: FlowId, what: EpollFlags) -> nix::Result<()> {
    let Some(flow) = traffic.flow(id) else { return Ok(()) };
    bell.modify(&flow.stream, &mut EpollEvent::new(what, id.0.into()))
}

/// Which flow will have something next.
#[derive(Debug, Default)]
struct Guess {
    /// By flow: which one came after it the last time.
    after: Vec<Option<FlowId>>,
    /// The last that had something.
    last: Option<FlowId>,
    /// How often guesses were right lately.
    trust: u8,
}

impl Guess {
    /// The flow to ask without looking.
    fn next(&self) -> Option<FlowId> {
        if self.trust == 0 { None } else { self.after[index(self.last?.0)] }
    }

    /// This flow had something.
    fn learn(&mut self, id: FlowId) {
        let Some(last) = self.last.replace(id) else { return };
        let right = self.after[index(last.0)].replace(id) == Some(id);
        self.trust = if right { TRUST.min(self.trust + 1) } else { self.trust.saturating_sub(1) };
    }

    /// This flow has nothing any more.
    fn forget(&mut self, id: FlowId) {
        self.last = self.last.filter(|last| *last != id);
        self.after.iter_mut().for_each(|after| *after = after.filter(|after| *after != id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guesses over a sequence of flows; returns how many of the last `count` were right.
    fn right(sequence: impl Iterator<Item = u32>, count: usize) -> usize {
        let mut guess = Guess { after: vec![None; 8], ..Guess::default() };
        let mut hits = Vec::new();
        for id in sequence.map(FlowId) {
            hits.push(guess.next() == Some(id));
            guess.learn(id);
        }
        hits[hits.len() - count..].iter().filter(|hit| **hit).count()
    }

    #[test]
    fn what_repeats_is_guessed() {
        for period in [1, 2, 3, 7] {
            assert_eq!(right((0..50).map(|k| k % period), 20), 20, "period {period}");
        }
    }

    #[test]
    fn what_is_never_the_same_is_not_guessed() {
        // Each flow is followed by each other one in turn.
        let mut state = 0;
        let sequence = (0..200).map(|k| {
            state = (state + 1 + k % 5) % 7;
            state
        });
        let mut guess = Guess { after: vec![None; 8], ..Guess::default() };
        let mut asked = 0;
        for id in sequence.map(FlowId) {
            asked += u32::from(guess.next().is_some());
            guess.learn(id);
        }
        assert!(asked < 20, "{asked} guesses");
    }

    #[test]
    fn a_flow_that_is_gone_is_not_guessed() {
        let mut guess = Guess { after: vec![None; 8], ..Guess::default() };
        (0..20).for_each(|k| guess.learn(FlowId(k % 2)));
        assert!(guess.next().is_some());
        guess.forget(FlowId(0));
        assert_eq!(guess.next(), None);
    }
}
