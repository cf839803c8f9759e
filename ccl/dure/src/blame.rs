//! Finds who holds up a call: follows whom each rank waits for, from rank to rank, until one waits for nobody.
//!
//! A rank may wait for several others at once, on several lanes or for several messages. All of them are followed, nearest
//! first: some only wait for ranks that were met before, and one leads to the culprit.

use std::collections::VecDeque;

use crate::bootstrap::wire::Failure;
use crate::record::{Answer, Waiting};

/// Most ranks that are asked.
const MOST: usize = 64;

/// A rank that is held up.
#[derive(Debug)]
pub(crate) struct Blocked {
    pub(crate) rank: u32,
    /// Number of its last call.
    pub(crate) call: u64,
    pub(crate) waiting: Vec<Waiting>,
    /// How it was found.
    pub(crate) story: String,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A rank that holds up the others, and the way to it. `None` when a device of this rank does.
    Culprit(Option<u32>, String),
    /// A rank that makes another call than the one before it on the way.
    Differs(u32),
    /// A rank whose communicator is broken, and why. The news has not come here, maybe because who should have passed it
    /// on is stopped.
    Broken(u32, Failure),
}

/// Finds who holds up `first`. `ask` asks a rank what it is doing, and for the signature of a call; `None` when there is
/// no answer. `differs` says whether that is not the signature of this call.
pub(crate) fn find(
    first: Blocked,
    mut ask: impl FnMut(u32, u64) -> Option<Answer>,
    differs: impl Fn(u64, [u64; 2]) -> bool,
) -> Found {
    let me = first.rank;
    let mut seen = vec![me];
    let mut blocked = VecDeque::from([first]);
    // What is said when every way ends without somebody who is surely to blame.
    let (mut silent, mut device, mut circle) = (None, None, None);
    while let Some(Blocked { rank, call, waiting, story }) = blocked.pop_front() {
        if waiting.is_empty() {
            let why = "is in the call and does not say what it waits for";
            let story = format!("{story}; rank {rank} {why}");
            silent.get_or_insert(Found::Culprit(Some(rank), story));
        }
        for Waiting { text, peer, .. } in waiting {
            let story = format!("{story}; rank {rank} waits at {text}");
            let Some(peer) = peer else {
                let culprit = (rank != me).then_some(rank);
                device.get_or_insert(Found::Culprit(culprit, story));
                continue;
            };
            if seen.contains(&peer) || seen.len() > MOST {
                let story = format!("{story}; the ranks wait for one another, back to rank {peer}");
                circle.get_or_insert(Found::Culprit(Some(peer), story));
                continue;
            }
            seen.push(peer);
            match look(peer, call, story, ask(peer, call), &differs) {
                Ok(next) => blocked.push_back(next),
                Err(found) => return found,
            }
        }
    }
    silent.or(device).or(circle).expect("a rank that waits for nobody is silent")
}

/// Looks at the answer of a rank that another waits for in a call: it may be held up itself, or else the search ends.
fn look(
    rank: u32,
    call: u64,
    mut story: String,
    answer: Option<Answer>,
    differs: &impl Fn(u64, [u64; 2]) -> bool,
) -> Result<Blocked, Found> {
    let culprit = |story: &str, why: &str| {
        Err(Found::Culprit(Some(rank), format!("{story}; rank {rank} {why}")))
    };
    let Some(answer) = answer else {
        return culprit(&story, "does not answer: it is stopped, hung or unreachable");
    };
    let Answer { current, in_call, waiting, signature, left, failed } = answer;
    if let Some(failure) = failed {
        return Err(Found::Broken(rank, failure));
    }
    if left {
        return culprit(&story, "has left the communicator");
    }
    if current < call {
        let late = format!("has not made this call: its last is number {current}");
        // It may be held up itself, in the call before.
        if !in_call || waiting.is_empty() {
            return culprit(&story, &late);
        }
        story.push_str(&format!("; rank {rank} {late}"));
        return Ok(Blocked { rank, call: current, waiting, story });
    }
    if signature.is_some_and(|signature| differs(call, signature)) {
        return Err(Found::Differs(rank));
    }
    Ok(Blocked { rank, call, waiting, story })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn waits(peers: &[Option<u32>]) -> Vec<Waiting> {
        let wait = |peer: &Option<u32>| Waiting {
            pass: 0,
            step: 0,
            text: peer.map_or_else(|| "a copy".to_owned(), |peer| format!("a message of {peer}")),
            peer: *peer,
        };
        peers.iter().map(wait).collect()
    }

    /// In call 5, and held up by these.
    fn held_up(peers: &[Option<u32>]) -> Answer {
        Answer {
            current: 5,
            in_call: true,
            waiting: waits(peers),
            signature: Some([1, 2]),
            left: false,
            failed: None,
        }
    }

    /// What rank 0 finds, in call 5 and held up by `peers`, when the others answer like that.
    fn found(peers: &[u32], answer: impl Fn(u32) -> Option<Answer>) -> Found {
        let peers: Vec<_> = peers.iter().copied().map(Some).collect();
        let first =
            Blocked { rank: 0, call: 5, waiting: waits(&peers), story: "a call".to_owned() };
        find(first, |rank, _| answer(rank), |_, signature| signature != [1, 2])
    }

    fn culprit(found: &Found) -> Option<u32> {
        let Found::Culprit(rank, _) = found else { panic!("{found:?}") };
        *rank
    }

    #[test]
    fn whoever_does_not_answer_is_found_behind_those_who_do() {
        let found = found(&[1], |rank| match rank {
            1 => Some(held_up(&[Some(2)])),
            _ => None,
        });
        let story = "a call; rank 0 waits at a message of 1; rank 1 waits at a message of 2; rank 2 does not answer: it \
                     is stopped, hung or unreachable";
        assert_eq!(found, Found::Culprit(Some(2), story.to_owned()));
    }

    #[test]
    fn all_that_a_rank_waits_for_are_followed() {
        // One way leads in a circle, the other to the culprit; whichever comes first.
        for waiting in [[1, 2], [2, 1]] {
            let answer = |rank| match rank {
                1 => Some(held_up(&[Some(0)])),
                2 => Some(held_up(&[Some(1), Some(3)])),
                _ => None,
            };
            assert_eq!(culprit(&found(&waiting, answer)), Some(3));
        }
        let circle = found(&[1], |_| Some(held_up(&[Some(0)])));
        assert_eq!(culprit(&circle), Some(0));
    }

    #[test]
    fn who_does_not_answer_counts_more_than_who_does_not_say() {
        let found = found(&[1, 2], |rank| (rank == 1).then(|| held_up(&[])));
        assert_eq!(culprit(&found), Some(2));
    }

    #[test]
    fn a_rank_that_waits_for_its_device_is_the_culprit() {
        assert_eq!(culprit(&found(&[1], |_| Some(held_up(&[Some(0), None])))), Some(1));
    }

    #[test]
    fn who_is_late_is_the_culprit_unless_the_call_before_holds_him_up() {
        let late = |in_call, peers: &[_]| Answer { current: 4, in_call, ..held_up(peers) };
        assert_eq!(culprit(&found(&[1], |_| Some(late(false, &[])))), Some(1));
        let stopped = found(&[1], |rank| (rank == 1).then(|| late(true, &[Some(2)])));
        assert_eq!(culprit(&stopped), Some(2));
    }

    #[test]
    fn who_has_left_calls_something_else_or_says_nothing_ends_the_search() {
        let left = Answer { left: true, ..held_up(&[]) };
        assert_eq!(culprit(&found(&[1], |_| Some(left.clone()))), Some(1));
        assert_eq!(culprit(&found(&[1], |_| Some(held_up(&[])))), Some(1));
        let differs = Answer { signature: Some([1, 3]), ..held_up(&[]) };
        assert_eq!(found(&[1], |_| Some(differs.clone())), Found::Differs(1));
    }

    #[test]
    fn what_has_broken_another_rank_counts_although_it_has_left() {
        let failure = Failure {
            kind: ErrorKind::Timeout,
            what: "rank 7 is stopped".to_owned(),
            peer: Some(7),
        };
        let failed = Some(failure.clone());
        let gone = Answer { left: true, failed, ..held_up(&[]) };
        assert_eq!(found(&[1], |_| Some(gone.clone())), Found::Broken(1, failure));
    }
}
