//! What is done when nothing moves: who is asked, whom it is blamed on, and how a communicator ends.
//!
//! After half a second without movement the rank says what it waits for to whoever asks, and asks the peer that it waits for
//! what it is doing: that finds calls that do not match where no message tells. When the deadline passes it follows the
//! chain of who waits for whom ([`crate::blame`]).

use std::time::{Duration, Instant};

use crate::blame::{self, Blocked, Found};
use crate::bootstrap::wire::Failure;
use crate::communicator::Inner;
use crate::control::Control;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind};
use crate::record::{Answer, Waiting};
use crate::turnstile::Inside;
use crate::wait::sleep;

/// After this long without movement a rank says what it waits for, and first asks a peer.
const ASK_AFTER: Duration = Duration::from_millis(500);
/// How long a peer has to answer. A process that is alive answers from a thread of its own, at once.
const ANSWER: Duration = Duration::from_secs(1);
/// Between two questions to a peer that does not say what it waits for: it does once it has waited for long enough.
const AGAIN: Duration = Duration::from_millis(50);
/// Most peers that a rank says it waits for.
const MOST_PEERS: usize = 16;

/// How long nothing has moved, what was said about it, and when to ask next.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    since: Option<Instant>,
    told: bool,
    asked: Duration,
}

/// What a waiter should do about a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Wait,
    /// Say what it waits for.
    Tell,
    /// That, and ask the peer, which has this long to answer.
    Ask(Duration),
    /// That, and find whom to blame for this long a wait.
    GiveUp(Duration),
}

impl Stall {
    /// Something moved. True when others may have been told before that nothing does.
    pub(crate) fn clear(&mut self) -> bool {
        std::mem::take(self).told
    }

    /// Nothing has moved until now.
    fn next(&mut self, now: Instant, timeout: Duration, check: bool) -> Action {
        let Some(since) = self.since else {
            self.since = Some(now);
            return Action::Wait;
        };
        let stalled = now - since;
        let action = if stalled >= timeout {
            Action::GiveUp(stalled)
        } else if check && stalled >= ASK_AFTER.max(self.asked * 2) {
            self.asked = stalled;
            // Whoever gives up late may find that the others have given up and are gone.
            Action::Ask(ANSWER.min(timeout - stalled))
        } else if !self.told && stalled >= ASK_AFTER.min(timeout / 2) {
            // Also where nobody asks: at the deadline, the others follow whom this rank waits for.
            Action::Tell
        } else {
            Action::Wait
        };
        self.told |= action != Action::Wait;
        action
    }
}

/// What a rank says that it waits for: each peer once, then what is no peer's affair.
fn waits(waiting: &[dure_exec::Waiting]) -> Vec<Waiting> {
    let mut said: Vec<Waiting> = Vec::new();
    let of_peers = waiting.iter().filter(|w| w.peer.is_some());
    for waiting in of_peers.chain(waiting.iter().filter(|w| w.peer.is_none())) {
        let dure_exec::Waiting { pass, at: step, peer, .. } = *waiting;
        if said.len() < MOST_PEERS && said.iter().all(|before| before.peer != peer) {
            said.push(Waiting { pass, step, text: waiting.to_string(), peer });
        }
    }
    said
}

impl Inner {
    /// Looks how long nothing has moved, and acts when it is long.
    pub(crate) fn attend_to_stall(&self) {
        let Some(mut engine) = self.try_engine() else { return };
        let waiting: Vec<_> = engine.executor.waiting().collect();
        if waiting.is_empty() {
            return;
        }
        let action = engine.stall.next(Instant::now(), self.config.timeout, self.config.check);
        if action == Action::Wait {
            return;
        }
        let said = waits(&waiting);
        self.record().set_waiting(said.clone());
        let (sequence, _) = engine.history();
        let lanes = engine.executor.settings().lanes;
        drop(engine);
        match action {
            Action::Wait | Action::Tell => {}
            Action::Ask(within) => {
                let asked = waiting.iter().find_map(|w| Some((w.peer?, w.lane < lanes)));
                if let Some((peer, in_collective)) = asked {
                    self.ask_culprit(peer, sequence, in_collective, within);
                }
            }
            Action::GiveUp(stalled) => {
                let error = self.blame(said, sequence, stalled);
                self.end_with(error);
            }
        }
    }

    /// Asks the peer that we wait for whether it makes the same call; if not, that ends the communicator.
    fn ask_culprit(&self, peer: u32, sequence: u64, in_collective: bool, within: Duration) {
        let Some(control) = &self.control else { return };
        let Ok(answer) = control.ask(peer, sequence, within) else { return };
        if let Some(failure) = answer.failed {
            self.end_with(failure.told(peer, self.rank));
        } else if answer.left {
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

    /// Finds who holds up the call.
    fn blame(&self, waiting: Vec<Waiting>, call: u64, stalled: Duration) -> Error {
        let story = format!("{} has not moved for {stalled:.1?}", self.call_text(call));
        let Some(control) = &self.control else {
            let text = waiting.into_iter().next().map_or_else(String::new, |w| w.text);
            return Error::timeout(format!("{story}; it waits at {text}")).on(self.rank);
        };
        let first = Blocked { rank: self.rank, call, waiting, story };
        let ask = |peer, call| self.ask_until_it_says(control, peer, call);
        let differs = |call, signature| self.record().signature(call) != Some(signature);
        match blame::find(first, ask, differs) {
            Found::Differs(peer) => self.mismatch(peer),
            Found::Broken(peer, failure) => failure.told(peer, self.rank),
            Found::Culprit(None, story) => Error::timeout(story).on(self.rank),
            Found::Culprit(Some(peer), story) => Error::timeout(story).on(self.rank).about(peer),
        }
    }

    /// Asks a rank that should be in a call what it waits for. One that has waited only for a short time does not say yet.
    fn ask_until_it_says(&self, control: &Control, peer: u32, call: u64) -> Option<Answer> {
        let until = Instant::now() + 2 * ASK_AFTER;
        loop {
            let answer = control.ask(peer, call, ANSWER).ok()?;
            let is_late = answer.current < call && !answer.in_call;
            let says = !answer.waiting.is_empty() || answer.failed.is_some() || answer.left;
            if says || is_late || self.fault().is_raised() || Instant::now() >= until {
                return Some(answer);
            }
            sleep(self.fault().doorbell().into_iter(), AGAIN);
        }
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
            dure_exec::Error::Lost { peer, .. } | dure_exec::Error::Transport { peer, .. } => {
                // The control plane knows better why, as soon as the news reach us; a peer that ended its communicator
                // because of somebody else's failure is not to blame.
                sleep(self.fault().doorbell().into_iter(), ANSWER);
                match self.failure_of(peer) {
                    Some(failure) => failure.told(peer, self.rank),
                    None => self.loss(peer, sequence, error),
                }
            }
            _ => executor_error(error, self.rank),
        };
        self.end_with(error);
    }

    /// What has broken the communicator of a peer that left it, if the news has not come here and the peer still answers.
    fn failure_of(&self, peer: u32) -> Option<Failure> {
        let control = self.control.as_ref().filter(|_| !self.fault().is_raised())?;
        control.ask(peer, 0, ANSWER).ok()?.failed
    }

    /// The error of a call whose peer was lost.
    fn loss(&self, peer: u32, sequence: u64, error: &dure_exec::Error) -> Error {
        let call = self.call_text(sequence);
        let mut lost = executor_error(error, self.rank);
        if self.control.as_ref().is_some_and(|control| control.has_left(peer)) {
            lost.what = format!("rank {peer} has left the communicator");
        }
        lost.what = format!("{call} failed: {}", lost.what);
        lost
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

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(3200);

    /// What is done this many milliseconds after nothing moved first, by a rank that looks then.
    fn actions(check: bool, looks: &[u64]) -> Vec<Action> {
        let (start, mut stall) = (Instant::now(), Stall::default());
        assert_eq!(stall.next(start, TIMEOUT, check), Action::Wait);
        let at = |millis: &u64| start + Duration::from_millis(*millis);
        looks.iter().map(|millis| stall.next(at(millis), TIMEOUT, check)).collect()
    }

    #[test]
    fn asks_later_and_later_and_gives_up_at_the_deadline() {
        let expected = [
            Action::Wait,
            Action::Ask(ANSWER),
            Action::Wait,
            Action::Ask(ANSWER),
            // The deadline does not wait for an answer.
            Action::Ask(Duration::from_millis(200)),
            Action::GiveUp(TIMEOUT),
        ];
        assert_eq!(actions(true, &[499, 500, 999, 1500, 3000, 3200]), expected);
    }

    #[test]
    fn says_what_it_waits_for_long_before_the_deadline_although_it_does_not_ask() {
        let expected = [Action::Wait, Action::Tell, Action::Wait, Action::GiveUp(TIMEOUT)];
        assert_eq!(actions(false, &[499, 500, 1000, 3200]), expected);
    }

    #[test]
    fn each_peer_that_is_waited_for_is_said_once() {
        let waiting =
            |lane, peer| dure_exec::Waiting { digest: 1, lane, pass: 0, at: 0, step: None, peer };
        let all = [waiting(0, None), waiting(1, Some(3)), waiting(2, Some(1)), waiting(3, Some(3))];
        let said: Vec<_> = waits(&all).into_iter().map(|said| said.peer).collect();
        assert_eq!(said, [Some(3), Some(1), None]);
    }
}
