//! The root: where the ranks of a job meet, as a state machine.
//!
//! Ranks check in; when all have come and agree, each is told its place in the tree and the meeting is over. The first
//! contradiction ends it too, and so does the moment when the first rank runs out of patience. Whoever came is told
//! why, and so is whoever comes later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::shape;
use super::table::Table;
use super::wire::{self, CheckIn, Failure, Foreign, Member, Verdict};
use crate::error::{Error, ErrorKind};

/// Refused connections that are remembered for messages. More say nothing more.
const REFUSALS: usize = 16;
/// Missing ranks that a message lists by number.
const LISTED: usize = 32;
/// How long a meeting that failed waits for late-comers, so that they hear why too.
const GRACE: Duration = Duration::from_secs(2);

/// Number of a connection, chosen by whoever drives the machine.
pub(crate) type Connection = u64;

/// A rank that came.
#[derive(Debug)]
struct Guest {
    connection: Connection,
    from: SocketAddr,
    check_in: CheckIn,
}

/// How the meeting ended: what late-comers are told.
#[derive(Debug)]
enum Over {
    Complete(Failure),
    Failed(Failure),
}

/// The meeting of one job.
#[derive(Debug, Default)]
pub(crate) struct Root {
    guests: BTreeMap<u32, Guest>,
    /// What all guests agree on. The guests' own are empty: ten thousand copies would say the same.
    agreed: BTreeMap<String, String>,
    /// By the rank that the other side said it was.
    refusals: BTreeSet<(u32, String)>,
    deadline: Option<Instant>,
    over: Option<Over>,
    answers: VecDeque<(Connection, Verdict)>,
    /// Ranks that were told that the meeting failed.
    told: BTreeSet<u32>,
    /// What rank 0 is told of a failure, and when at the latest. The root lives in its process, which may end once it
    /// knows: everybody else is told before.
    held: Option<(Connection, Verdict, Instant)>,
}

impl Root {
    /// A rank says who it is, in a message of [`CheckIn::encode`].
    pub(crate) fn check_in(
        &mut self,
        connection: Connection,
        from: SocketAddr,
        message: &[u8],
        now: Instant,
    ) {
        let mut check_in = match CheckIn::decode(message) {
            Ok(check_in) => check_in,
            Err(foreign) => {
                let failure = unlike(from, &foreign);
                self.answers.push_back((connection, Verdict::Refused(failure.clone())));
                if self.over.is_none() {
                    self.end(failure, now);
                }
                return;
            }
        };
        let rank = check_in.member.rank;
        match &self.over {
            Some(Over::Failed(failure)) => {
                let failure = failure.clone();
                return self.refuse(rank, connection, failure, now);
            }
            Some(Over::Complete(failure)) => {
                let twice = self.twice(from, &check_in.member);
                let verdict = Verdict::Complete(twice.unwrap_or_else(|| failure.clone()));
                return self.answers.push_back((connection, verdict));
            }
            None => {}
        }
        let patience = Duration::from_millis(check_in.patience);
        let deadline = now.checked_add(patience).unwrap_or(now);
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
        match self.contradiction(from, &check_in) {
            Some(failure) => {
                self.end(failure.clone(), now);
                self.refuse(rank, connection, failure, now);
            }
            None => {
                self.agreed = std::mem::take(&mut check_in.agreed);
                self.guests.insert(rank, Guest { connection, from, check_in });
                self.complete();
            }
        }
    }

    /// What is wrong with a rank that comes now.
    fn contradiction(&self, from: SocketAddr, new: &CheckIn) -> Option<Failure> {
        let member = &new.member;
        let usage =
            |what| Some(Failure { kind: ErrorKind::InvalidUsage, what, peer: Some(member.rank) });
        if member.rank >= new.size {
            return usage(format!(
                "{} says that the job has {} ranks",
                member.describe(),
                new.size
            ));
        }
        if let Some(failure) = self.twice(from, member) {
            return Some(failure);
        }
        let Guest { check_in: old, .. } = self.guests.values().next()?;
        let (us, them) = (old.member.describe(), member.describe());
        if old.size != new.size {
            return usage(format!(
                "{us} says that the job has {} ranks, {them} says {}",
                old.size, new.size
            ));
        }
        let keys: BTreeSet<&String> = self.agreed.keys().chain(new.agreed.keys()).collect();
        let value = |agreed: &BTreeMap<String, String>, key| {
            agreed.get(key).cloned().unwrap_or_else(|| "not set".to_owned())
        };
        let different = |key: &&String| self.agreed.get(*key) != new.agreed.get(*key);
        let differences: Vec<String> = keys
            .into_iter()
            .filter(different)
            .map(|key| {
                let (ours, theirs) = (value(&self.agreed, key), value(&new.agreed, key));
                format!("{key} is {ours} on {us} and {theirs} on {them}")
            })
            .collect();
        if differences.is_empty() {
            None
        } else {
            usage(format!("the ranks differ: {}", differences.join("; ")))
        }
    }

    fn twice(&self, from: SocketAddr, member: &Member) -> Option<Failure> {
        let first = self.guests.get(&member.rank)?;
        let process = |member: &Member, from| {
            format!("{from} (host {}, pid {})", member.hostname, member.pid)
        };
        let (a, b) = (process(&first.check_in.member, first.from), process(member, from));
        let what = format!("rank {} came twice: from {a} and from {b}", member.rank);
        Some(Failure { kind: ErrorKind::InvalidUsage, what, peer: Some(member.rank) })
    }

    /// A connection was refused: for the message about the rank that never came.
    pub(crate) fn refused(&mut self, from: SocketAddr, rank: u32, why: &str) {
        if self.over.is_none() && self.refusals.len() < REFUSALS {
            let ip = from.ip();
            tracing::debug!(target: "dure::init", %from, rank, why, "refused a connection");
            let text =
                format!("a connection from {ip} that called itself rank {rank} was refused: {why}");
            self.refusals.insert((rank, text));
        }
    }

    /// A connection closed. A rank that is lost before the job is complete ends the meeting.
    pub(crate) fn lost(&mut self, connection: Connection, now: Instant) {
        let gone = |guest: &&Guest| guest.connection == connection;
        if self.over.is_none()
            && let Some(guest) = self.guests.values().find(gone)
        {
            let member = &guest.check_in.member;
            let what =
                format!("{} came, and was lost before the job was complete", member.describe());
            let peer = Some(member.rank);
            self.end(Failure { kind: ErrorKind::Remote, what, peer }, now);
        }
    }

    /// When [`Root::expire`] has to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let held = self.held.as_ref().map(|(.., until)| *until);
        if self.over.is_none() { self.deadline } else { held }
    }

    /// Time has passed: when some rank runs out of patience, tells all who came which ranks did not.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if self.over.is_some() {
            return self.let_go();
        }
        let size = self.guests.values().next().map_or(0, |guest| guest.check_in.size);
        let missing: Vec<u32> = (0..size).filter(|rank| !self.guests.contains_key(rank)).collect();
        let came = self.guests.len();
        let mut what = format!("{} never came ({came} of {size} did)", list_ranks(&missing));
        for (_, refusal) in self.refusals.iter().filter(|(rank, _)| !self.guests.contains_key(rank))
        {
            what = format!("{what}; {refusal}");
        }
        let peer = missing.first().copied().filter(|_| missing.len() == 1);
        self.end(Failure { kind: ErrorKind::Timeout, what, peer }, now);
    }

    /// The next answer to send.
    pub(crate) fn take_answer(&mut self) -> Option<(Connection, Verdict)> {
        self.answers.pop_front()
    }

    /// Whether the meeting is over. It still answers late-comers.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// When all have come, gives each its place.
    fn complete(&mut self) {
        let size = self.guests.values().next().map_or(0, |guest| guest.check_in.size);
        if self.guests.len() != size as usize {
            return;
        }
        let table = Table::pack(self.guests.values().map(|guest| &guest.check_in.member));
        for (&rank, guest) in &self.guests {
            let verdict = match shape::parent(rank) {
                None => Verdict::Top { table: table.clone() },
                Some(parent) => {
                    let parent = self.guests[&parent].check_in.member.clone();
                    Verdict::Under { parent: Member { offer: Vec::new(), ..parent } }
                }
            };
            self.answers.push_back((guest.connection, verdict));
        }
        let what = format!("the job is complete: all {size} ranks have come");
        self.over =
            Some(Over::Complete(Failure { kind: ErrorKind::InvalidUsage, what, peer: None }));
    }

    /// Ends the meeting for all who came.
    fn end(&mut self, failure: Failure, now: Instant) {
        tracing::warn!(target: "dure::init", error = %Error::from(failure.clone()), "the job does not form");
        let came: Vec<_> =
            self.guests.iter().map(|(rank, guest)| (*rank, guest.connection)).collect();
        for (rank, connection) in came {
            self.refuse(rank, connection, failure.clone(), now);
        }
        self.over = Some(Over::Failed(failure));
        if self.deadline.is_none_or(|deadline| deadline <= now) {
            self.let_go();
        }
    }

    /// Tells a rank that the meeting failed; rank 0 when everybody else knows, or no rank can be waited for any longer.
    fn refuse(&mut self, rank: u32, connection: Connection, failure: Failure, now: Instant) {
        let verdict = Verdict::Refused(failure);
        if rank == 0 && self.held.is_none() {
            let until = self.deadline.map_or(now, |deadline| deadline.min(now + GRACE));
            self.held = Some((connection, verdict, until));
        } else {
            self.answers.push_back((connection, verdict));
            self.told.insert(rank);
        }
        let size = self.guests.values().next().map_or(0, |guest| guest.check_in.size as usize);
        let all_know = self.told.len() + 1 >= size;
        if all_know {
            self.let_go();
        }
    }

    /// Tells rank 0.
    fn let_go(&mut self) {
        self.answers.extend(self.held.take().map(|(connection, verdict, _)| (connection, verdict)));
    }
}

/// A rank of another version came.
fn unlike(from: SocketAddr, foreign: &Foreign) -> Failure {
    let Foreign { protocol, version } = foreign;
    let (ours, our_version) = (wire::PROTOCOL, wire::VERSION);
    let what = format!(
        "a rank from {from} speaks protocol {protocol} (version {version}), the root speaks {ours} (version {our_version})"
    );
    Failure { kind: ErrorKind::InvalidUsage, what, peer: None }
}

/// `rank 2`, or `ranks 2, 5`; a long list is cut.
fn list_ranks(ranks: &[u32]) -> String {
    let listed: Vec<String> = ranks.iter().take(LISTED).map(u32::to_string).collect();
    let more = ranks.len().saturating_sub(LISTED);
    let and = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("rank{} {}{and}", if ranks.len() == 1 { "" } else { "s" }, listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::wire::tests::member;

    fn check_in(rank: u32, size: u32) -> CheckIn {
        let agreed = BTreeMap::from([("DURE_SLOTS".to_owned(), "4".to_owned())]);
        CheckIn { member: member(rank), size, agreed, patience: 1000 }
    }

    fn from(rank: u32) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], u16::try_from(4000 + rank).unwrap()))
    }

    fn come(root: &mut Root, check_in: &CheckIn, now: Instant) {
        let rank = check_in.member.rank;
        root.check_in(rank.into(), from(rank), &check_in.encode(), now);
    }

    fn answers(root: &mut Root) -> BTreeMap<Connection, Verdict> {
        std::iter::from_fn(|| root.take_answer()).collect()
    }

    /// Everybody is told the same reason; it is returned.
    fn refusal(root: &mut Root, ranks: &[u64]) -> String {
        let answers = answers(root);
        assert_eq!(answers.keys().copied().collect::<Vec<_>>(), ranks);
        let texts = answers.into_values().map(|verdict| match verdict {
            Verdict::Refused(failure) => failure.what,
            other => panic!("{other:?}"),
        });
        let texts: BTreeSet<String> = texts.collect();
        assert_eq!(texts.len(), 1, "{texts:?}");
        texts.into_iter().next().unwrap()
    }

    #[test]
    fn all_come_and_get_their_places() {
        let (mut root, now) = (Root::default(), Instant::now());
        for rank in (0..10).rev() {
            assert!(!root.is_over());
            come(&mut root, &check_in(rank, 10), now);
        }
        let answers = answers(&mut root);
        let Verdict::Top { table } = &answers[&0] else { panic!("{:?}", answers[&0]) };
        let table = Table::new(table.clone());
        assert_eq!(table.members(10).unwrap()[7], member(7));
        for rank in 1..10 {
            let Verdict::Under { parent } = &answers[&rank] else { panic!("{rank}") };
            assert_eq!(Some(parent.rank), shape::parent(u32::try_from(rank).unwrap()));
        }
        assert_eq!(root.deadline(), None);
        root.check_in(77, from(3), &check_in(3, 10).encode(), now);
        let Some((77, Verdict::Complete(failure))) = root.take_answer() else {
            panic!("no answer")
        };
        assert!(failure.what.starts_with("rank 3 came twice"), "{failure:?}");
    }

    #[test]
    fn missing_ranks_are_named_to_all_who_came() {
        let (mut root, now) = (Root::default(), Instant::now());
        for rank in [0, 1, 3, 4] {
            come(&mut root, &check_in(rank, 6), now);
        }
        root.refused(from(2), 2, "wrong secret");
        root.refused(from(3), 2, "wrong secret");
        root.refused(from(3), 3, "wrong secret, but rank 3 came");
        root.expire(now);
        assert!(!root.is_over());
        root.expire(root.deadline().unwrap());
        let text = refusal(&mut root, &[0, 1, 3, 4]);
        assert_eq!(
            text,
            "ranks 2, 5 never came (4 of 6 did); \
             a connection from 10.0.0.1 that called itself rank 2 was refused: wrong secret"
        );
        come(&mut root, &check_in(5, 6), now);
        assert!(refusal(&mut root, &[5]).starts_with("ranks 2, 5 never came"));
    }

    #[test]
    fn differences_name_rank_key_and_values() {
        let (mut root, now) = (Root::default(), Instant::now());
        come(&mut root, &check_in(0, 3), now);
        let mut other = check_in(2, 3);
        other.agreed.insert("DURE_SLOTS".to_owned(), "8".to_owned());
        come(&mut root, &other, now);
        let text = refusal(&mut root, &[2]);
        let expected = "DURE_SLOTS is 4 on rank 0 (host node0, pid 1000) and 8 on rank 2 (host node2, pid 1002)";
        assert_eq!(text, format!("the ranks differ: {expected}"));
        // Rank 0 hears it last: when all know, the root's process may end.
        come(&mut root, &check_in(1, 3), now);
        assert_eq!(refusal(&mut root, &[0, 1]), text);
        assert_eq!(root.deadline(), None);
    }

    #[test]
    fn other_sizes_doubles_and_losses_end_the_meeting() {
        let now = Instant::now();
        let mut root = Root::default();
        come(&mut root, &check_in(0, 3), now);
        come(&mut root, &check_in(1, 4), now);
        assert!(
            refusal(&mut root, &[1]).contains("has 3 ranks, rank 1 (host node1, pid 1001) says 4")
        );

        let mut root = Root::default();
        come(&mut root, &check_in(0, 3), now);
        come(&mut root, &check_in(1, 3), now);
        root.check_in(9, from(9), &check_in(1, 3).encode(), now);
        let text = refusal(&mut root, &[1, 9]);
        assert!(
            text.starts_with(
                "rank 1 came twice: from 10.0.0.1:4001 (host node1, pid 1001) and from"
            ),
            "{text}"
        );
        // Nobody waits for rank 2 for longer than that.
        root.expire(root.deadline().unwrap());
        assert_eq!(refusal(&mut root, &[0]), text);

        let mut root = Root::default();
        come(&mut root, &check_in(0, 3), now);
        come(&mut root, &check_in(2, 3), now);
        root.lost(2, now);
        assert!(
            refusal(&mut root, &[2])
                .starts_with("rank 2 (host node2, pid 1002) came, and was lost")
        );

        let mut root = Root::default();
        come(&mut root, &check_in(3, 3), now);
        assert!(
            refusal(&mut root, &[3])
                .contains("rank 3 (host node3, pid 1003) says that the job has 3 ranks")
        );
    }

    #[test]
    fn another_version_is_named() {
        let (mut root, now) = (Root::default(), Instant::now());
        let mut message = check_in(0, 2).encode();
        message[0] = 200;
        root.check_in(5, from(0), &message, now);
        assert!(refusal(&mut root, &[5]).contains("speaks protocol 200 (version"));
    }
}
