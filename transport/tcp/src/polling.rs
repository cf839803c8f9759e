//! The driver that asks: system calls on sockets that have something, or are expected to.
//!
//! One system call that receives costs as much as one that asks which sockets have something, and then there is no
//! second one. So while messages come in an order that repeats, as those of collectives do, the next flow is asked
//! without looking; that is guessed as processors guess branches. When guesses fail, epoll says who has something.
//!
//! To be watched by epoll costs each arrival something as well, in the system call of its sender: 0.4 us of the 5.5 of
//! an all-reduce of 8 B. While guesses are right and flows few, they are not watched until somebody wants to sleep.

use dure_transport::{Error, Event, Full, Posted, Put, Result};
use nix::errno::Errno;
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
/// Right guesses in a row after which flows are not watched any more: so many that whoever sleeps now and then does not
/// pay for it.
const SURE: u32 = 64;
/// Most flows that are asked one by one instead of being watched.
const FEW: usize = 4;

/// The driver that asks.
#[derive(Debug, Default)]
pub(crate) struct Polling {
    flows: Vec<FlowId>,
    /// Flows rest while they are not in the set of the bell.
    rests: bool,
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

    /// Reads what is there, whoever it is from.
    fn look(&mut self, bell: &Epoll, traffic: &mut Traffic) {
        if self.rests {
            for at in 0..self.flows.len() {
                self.hear(traffic, self.flows[at]);
            }
            return;
        }
        let mut ready = [EpollEvent::empty(); PER_TURN];
        let count = bell.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
        for event in ready[..count].iter().filter(|event| event.data() != OTHER) {
            #[expect(clippy::cast_possible_truncation, reason = "what `mark` made of a number")]
            let id = FlowId(event.data() as u32);
            self.hear(traffic, id);
        }
    }

    /// Takes the flows out of the set of the bell.
    fn rest(&mut self, bell: &Epoll, traffic: &Traffic) {
        for flow in self.flows.iter().filter_map(|id| traffic.flow(*id)) {
            // It is in the set. If the kernel refuses all the same, the flow rings for nothing.
            let _ = bell.delete(&flow.stream);
        }
        self.backlog.iter_mut().for_each(|waiting| waiting.watched = false);
        self.rests = true;
    }

    /// Puts the flows back into the set of the bell.
    fn wake(&mut self, bell: &Epoll, traffic: &Traffic) -> nix::Result<()> {
        if !self.rests {
            return Ok(());
        }
        for (id, flow) in self.flows.iter().filter_map(|id| Some((*id, traffic.flow(*id)?))) {
            match bell.add(&flow.stream, mark(id, EpollFlags::EPOLLIN)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.rests = false;
        self.guess.streak = 0;
        Ok(())
    }

    fn hear(&mut self, traffic: &mut Traffic, id: FlowId) {
        if traffic.hear(id) != Heard::Silence {
            self.guess.learn(id);
        }
    }
}

impl Drive for Polling {
    fn open(&mut self, bell: &Epoll, traffic: &Traffic, id: FlowId) -> Result<()> {
        let failed = |errno: Errno| Error::System { call: "epoll_ctl", source: errno.into() };
        self.wake(bell, traffic).map_err(failed)?;
        watch(bell, traffic, id, EpollFlags::EPOLLIN).map_err(failed)?;
        self.guess.after.resize(self.guess.after.len().max(index(id.0) + 1), None);
        self.flows.push(id);
        Ok(())
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
        if self.guess.trust == 0 {
            // Where it fails, flows are asked one by one.
            let _ = self.wake(bell, traffic);
        } else if !self.rests && self.guess.streak >= SURE && self.flows.len() <= FEW {
            self.rest(bell, traffic);
        }
    }

    fn is_behind(&self) -> bool {
        !self.backlog.is_empty()
    }

    fn close(&mut self, bell: &Epoll, traffic: &mut Traffic, id: FlowId) {
        // So that whoever comes next finds all sockets as after `open`.
        let _ = self.wake(bell, traffic);
        self.flows.retain(|flow| *flow != id);
        self.backlog.retain(|waiting| waiting.id != id);
        self.guess.forget(id);
    }

    fn arm(&mut self, bell: &Epoll, traffic: &mut Traffic) -> bool {
        if self.wake(bell, traffic).is_err() {
            return false;
        }
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
    bell.modify(&flow.stream, &mut mark(id, what))
}

fn mark(id: FlowId, what: EpollFlags) -> EpollEvent {
    EpollEvent::new(what, id.0.into())
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
    /// Right guesses in a row.
    streak: u32,
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
        (self.trust, self.streak) = if right {
            (TRUST.min(self.trust + 1), self.streak.saturating_add(1))
        } else {
            (self.trust.saturating_sub(1), 0)
        };
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
