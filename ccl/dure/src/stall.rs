//! What is done when nothing moves: who is asked, whom it is blamed on, and how a communicator ends.
//!
//! After half a second without movement the rank asks the peer that it waits for what it is doing: that finds calls that
//! do not match where no message tells. When the deadline passes it follows the chain of who waits for whom.

use std::time::{Duration, Instant};

use crate::communicator::Inner;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::turnstile::Inside;
use crate::wait::sleep;

/// First question to a peer after this long without movement.
const ASK_AFTER: Duration = Duration::from_millis(500);
/// How long a peer has to answer. A process that is alive answers from a thread of its own, at once.
const ANSWER: Duration = Duration::from_secs(1);
/// Longest chain of ranks that is followed to find who holds up the others.
const CHAIN: usize = 64;

/// How long nothing has moved, and when to ask next.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    since: Option<Instant>,
    asked: Duration,
}

impl Stall {
    /// Something moved. True when others may have been told before that nothing does.
    pub(crate) fn clear(&mut self) -> bool {
        !std::mem::take(self).asked.is_zero()
    }
}

/// What a waiter should do about a stall.
enum Action {
    Wait,
    Ask,
    GiveUp(Duration),
}

impl Inner {
    /// Looks how long nothing has moved, and acts when it is long.
    pub(crate) fn attend_to_stall(&self) {
        let Some(mut engine) = self.try_engine() else { return };
        let waiting: Vec<_> = engine.executor.waiting().collect();
        let Some(first) = waiting.iter().find(|w| w.peer().is_some()).or_else(|| waiting.first())
        else {
            return;
        };
        let now = Instant::now();
        let stall = &mut engine.stall;
        let Some(since) = stall.since else {
            *stall = Stall { since: Some(now), asked: Duration::ZERO };
            return;
        };
        let stalled = now - since;
        let action = if stalled >= self.config.timeout {
            Action::GiveUp(stalled)
        } else if self.config.check && stalled >= ASK_AFTER.max(stall.asked * 2) {
            stall.asked = stalled;
            Action::Ask
        } else {
            Action::Wait
        };
        if matches!(action, Action::Wait) {
            return;
        }
        let published = crate::record::Waiting {
            pass: first.pass,
            step: first.at,
            text: first.to_string(),
            peer: first.peer(),
        };
        self.record().set_waiting(Some(published.clone()));
        let (sequence, _) = engine.history();
        let in_collective = first.lane < engine.executor.settings().lanes;
        drop(engine);
        match action {
            Action::Wait => {}
            Action::Ask => self.ask_culprit(&published, sequence, in_collective),
            Action::GiveUp(stalled) => {
                let error = self.blame(published, sequence, stalled);
                self.end_with(error);
            }
        }
    }

    /// Asks the peer that we wait for whether it makes the same call; if not, that ends the communicator.
    fn ask_culprit(&self, waiting: &crate::record::Waiting, sequence: u64, in_collective: bool) {
        let (Some(peer), Some(control)) = (waiting.peer, &self.control) else { return };
        let Ok(answer) = control.ask(peer, sequence, ANSWER) else { return };
        if answer.left {
            let text = format!(
                "{} waits for rank {peer}, which has left the communicator",
                self.call_text(sequence)
            );
            self.end_with(Error::invalid_usage(text).on(self.rank).about(peer));
        } else if in_collective
            && answer.signature.is_some_and(|s| Some(s) != self.record().signature(sequence))
        {
            let error = self.mismatch(peer);
            self.end_with(error);
        }
    }

    /// Finds who holds up the call: follows from peer to peer whom each waits for.
    fn blame(
        &self,
        mut waiting: crate::record::Waiting,
        mut sequence: u64,
        stalled: Duration,
    ) -> Error {
        let call = self.call_text(sequence);
        let mut story = format!("{call} has not moved for {stalled:.1?}");
        let mut at = self.rank;
        let mut seen = vec![at];
        loop {
            story.push_str(&format!("; rank {at} waits at {}", waiting.text));
            let (Some(peer), Some(control)) = (waiting.peer, &self.control) else { break };
            let timeout = |text: String| Error::timeout(text).on(self.rank).about(peer);
            if seen.contains(&peer) || seen.len() > CHAIN {
                return timeout(format!(
                    "{story}; the ranks wait for one another, back to rank {peer}"
                ));
            }
            let Ok(answer) = control.ask(peer, sequence, ANSWER) else {
                return timeout(format!(
                    "{story}; rank {peer} does not answer: it is stopped, hung or unreachable"
                ));
            };
            if answer.left {
                return timeout(format!("{story}; rank {peer} has left the communicator"));
            }
            if answer.current < sequence {
                story.push_str(&format!(
                    "; rank {peer} has not made this call: its last is number {}",
                    answer.current
                ));
                // It may be held up itself, in the call before.
                let Some(next) = answer.waiting.filter(|_| answer.in_call) else {
                    return timeout(story);
                };
                seen.push(peer);
                (at, waiting, sequence) = (peer, next, answer.current);
                continue;
            }
            if answer.signature.is_some_and(|s| Some(s) != self.record().signature(sequence)) {
                return self.mismatch(peer);
            }
            let Some(next) = answer.waiting else {
                return timeout(format!(
                    "{story}; rank {peer} is in the call and does not say what it waits for"
                ));
            };
            seen.push(peer);
            (at, waiting) = (peer, next);
        }
        Error::timeout(story).on(self.rank)
    }

    /// The error of two ranks that call different things: finds the first call that differs, and prints both sides.
    pub(crate) fn mismatch(&self, peer: u32) -> Error {
        let last = self.record().answer(0).current;
        let first = last.saturating_sub(crate::record::REMEMBERED - 1).max(1);
        let base = |text: String| Error::invalid_usage(text).on(self.rank).about(peer);
        let Some(control) = &self.control else { return base("a call does not match".to_owned()) };
        let describe = |signature: [u64; 2]| crate::call::Signature(signature).describe();
        for sequence in first..=last {
            let Some(ours) = self.record().signature(sequence) else { continue };
            let Ok(answer) = control.ask(peer, sequence, ANSWER) else { break };
            match answer.signature {
                Some(theirs) if theirs != ours => {
                    return base(format!(
                        "the ranks' calls differ: call {sequence} is {} on rank {} and {} on rank {peer}",
                        describe(ours),
                        self.rank,
                        describe(theirs)
                    ));
                }
                None if answer.current < sequence => {
                    return base(format!(
                        "the ranks' calls differ: rank {} makes call {sequence}, {}; rank {peer} has made {} and sends \
                         something else",
                        self.rank,
                        describe(ours),
                        answer.current
                    ));
                }
                _ => {}
            }
        }
        // It has found the difference itself, and is gone. Its news says more than we can, and counts when it comes first.
        sleep(self.fault().doorbell().into_iter(), ANSWER);
        base(format!(
            "a message from rank {peer} does not belong to this call: the ranks' calls differ"
        ))
    }

    fn call_text(&self, sequence: u64) -> String {
        match self.record().signature(sequence) {
            Some(signature) if sequence > 0 => {
                format!("call {sequence}, {},", crate::call::Signature(signature).describe())
            }
            _ => "a message".to_owned(),
        }
    }

    /// The executor failed: finds out what that means, tells everybody, and ends all operations.
    pub(crate) fn fail(&self, engine: Inside<'_, Engine>, error: &dure_exec::Error) {
        let (sequence, _) = engine.history();
        drop(engine);
        let error = match *error {
            dure_exec::Error::Mismatch { peer } | dure_exec::Error::Length { peer, .. } => {
                self.mismatch(peer)
            }
            dure_exec::Error::Lost { peer, .. } => {
                // The control plane knows better why, as soon as the news reach us; a peer that ended its communicator
                // because of somebody else's failure is not to blame.
                sleep(self.fault().doorbell().into_iter(), ANSWER);
                let call = self.call_text(sequence);
                let mut lost = executor_error(error, self.rank);
                if self.control.as_ref().is_some_and(|control| control.has_left(peer)) {
                    lost.what = format!("rank {peer} has left the communicator");
                }
                lost.what = format!("{call} failed: {}", lost.what);
                lost
            }
            _ => executor_error(error, self.rank),
        };
        self.end_with(error);
    }

    /// Ends the communicator: the first error is kept, told to all ranks, and given to every operation.
    pub(crate) fn end_with(&self, error: Error) {
        match &self.control {
            Some(control) => control.raise(error),
            None => {
                self.fault().record(error);
            }
        }
        let error = self
            .fault()
            .error()
            .cloned()
            .unwrap_or_else(|| Error::internal("a fault was raised and is not there"));
        tracing::warn!(target: "dure::coll", rank = self.rank, "{}", error.chain());
        if let Some(mut engine) = self.try_engine() {
            self.give_up(&mut engine, &error);
        }
    }

    /// Ends all operations with an error. The flight record of those under way is kept, where the settings say so.
    pub(crate) fn give_up(&self, engine: &mut Engine, error: &Error) {
        if engine.has_work() {
            self.dump(engine);
        }
        engine.fail(error);
    }
}

/// The library's error for one of the executor's.
pub(crate) fn executor_error(error: &dure_exec::Error, rank: u32) -> Error {
    use dure_exec::Error as Exec;
    let (kind, peer) = match error {
        Exec::SlotTooSmall { .. } => (ErrorKind::InvalidArgument, None),
        Exec::Mismatch { peer } | Exec::Length { peer, .. } => {
            (ErrorKind::InvalidUsage, Some(*peer))
        }
        Exec::Greeting { peer } | Exec::Lost { peer, .. } | Exec::Transport { peer, .. } => {
            (ErrorKind::Remote, Some(*peer))
        }
        Exec::NoMemory { .. } => (ErrorKind::System, None),
        Exec::Device(_) => (ErrorKind::Device, None),
        _ => (ErrorKind::Internal, None),
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let mut error = Error::new(kind, text).on(rank);
    error.peer = peer;
    error
}
