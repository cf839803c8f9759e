//! One rank's place in the control tree, as a state machine.
//!
//! It carries four things: the table of members (down), gathers (up, then down), the first fatal error (everywhere) and
//! goodbyes (everywhere). Whoever drives it hands in what neighbours say and what happens to links, and takes out what
//! is to be sent and what is news.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::shape;
use super::table::{Digest, Table};
use super::wire::{BadMessage, Failure, Message, Packed};
use crate::error::{Error, ErrorKind};

/// Gathers that a rank may be ahead of the oldest incomplete one. A rank that waits for each result is one ahead.
const AHEAD: u64 = 2;

/// News for the rank itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The table of members has come.
    Table(Table),
    /// What all ranks gave to a gather.
    Gathered {
        /// Its number.
        round: u64,
        /// Everybody's bytes.
        all: Packed,
    },
    /// The communicator is broken.
    Raised {
        /// Who says so.
        by: u32,
        /// Why.
        failure: Failure,
    },
    /// A rank said goodbye.
    Left(u32),
}

/// A gather that is under way.
#[derive(Debug, Default)]
struct Round {
    /// Ranks whose part is in: this one and its children.
    from: BTreeSet<u32>,
    parts: Vec<Packed>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tree {
    rank: u32,
    parent: Option<u32>,
    children: BTreeSet<u32>,
    /// Children that never had a link.
    expected: BTreeSet<u32>,
    /// Neighbours that have a link now.
    linked: BTreeSet<u32>,
    table: Option<Table>,
    /// The table that the parent has, while this rank has none.
    announced: Option<Digest>,
    /// Whether the parent was asked for it.
    asked: bool,
    rounds: BTreeMap<u64, Round>,
    /// Gathers to which this rank has given its part.
    given: u64,
    /// Gathers to which all ranks below and this one have given their parts.
    complete: u64,
    raised: Option<(u32, Failure)>,
    left: BTreeSet<u32>,
    out: VecDeque<(u32, Message)>,
    news: VecDeque<News>,
}

impl Tree {
    /// The place of `rank` among `size`. No neighbour is linked yet.
    pub(crate) fn new(rank: u32, size: u32) -> Self {
        Self {
            rank,
            parent: shape::parent(rank),
            children: shape::children(rank, size).collect(),
            expected: shape::children(rank, size).collect(),
            linked: BTreeSet::new(),
            table: None,
            announced: None,
            asked: false,
            rounds: BTreeMap::new(),
            given: 0,
            complete: 0,
            raised: None,
            left: BTreeSet::new(),
            out: VecDeque::new(),
            news: VecDeque::new(),
        }
    }

    /// Whether a link from this rank belongs here: it is a child that never had one.
    pub(crate) fn awaits(&self, child: u32) -> bool {
        self.expected.contains(&child)
    }

    /// A link to a neighbour is up: it learns what it has missed.
    pub(crate) fn linked(&mut self, neighbour: u32) {
        self.linked.insert(neighbour);
        self.expected.remove(&neighbour);
        if let Some(table) = &self.table
            && self.children.contains(&neighbour)
        {
            self.out.push_back((neighbour, Message::Announced { digest: table.digest() }));
        }
        for &rank in &self.left {
            self.out.push_back((neighbour, Message::Left { rank }));
        }
        if let Some((by, failure)) = self.raised.clone() {
            self.out.push_back((neighbour, Message::Raised { by, failure }));
        }
    }

    /// The table of members is here: from the root to rank 0, to all others from the parent or from another rank of the
    /// process. The first counts.
    pub(crate) fn table(&mut self, table: Table) {
        if self.table.is_some() {
            return;
        }
        let children = self.children.intersection(&self.linked);
        let digest = table.digest();
        self.out.extend(children.map(|&child| (child, Message::Announced { digest })));
        self.announced = None;
        self.table = Some(table.clone());
        self.news.push_back(News::Table(table));
    }

    /// The table, once it is here.
    pub(crate) fn known_table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// The digest of the table that this rank has not got yet, and its parent has.
    pub(crate) fn announced(&self) -> Option<Digest> {
        self.announced
    }

    /// Whether the parent was asked for the table.
    pub(crate) fn has_asked(&self) -> bool {
        self.asked
    }

    /// Asks the parent for the table that it announced.
    pub(crate) fn ask_for_table(&mut self) {
        if let (Some(parent), false) = (self.parent, self.asked) {
            self.asked = true;
            self.out.push_back((parent, Message::Wanted));
        }
    }

    /// A neighbour says something.
    ///
    /// # Errors
    /// [`BadMessage`] when it may not say that: its link is to be closed, and it counts as lost.
    pub(crate) fn received(&mut self, from: u32, message: Message) -> Result<(), BadMessage> {
        let from_parent = self.parent == Some(from);
        match message {
            Message::Announced { digest } if from_parent && self.announced.is_none() => {
                if self.table.is_none() {
                    self.announced = Some(digest);
                }
            }
            Message::Wanted if self.children.contains(&from) => {
                let table = self.table.as_ref().ok_or(BadMessage)?;
                self.out.push_back((from, Message::Table(table.packed().clone())));
            }
            Message::Table(packed) if from_parent && self.asked => {
                let digest = self.announced.ok_or(BadMessage)?;
                self.table(Table::announced(digest, packed));
            }
            Message::Up { round, part } if !from_parent => return self.part(round, from, part),
            Message::Down { round, all } if from_parent => self.down(round, all),
            Message::Raised { by, failure } => self.raise_except(Some(from), by, failure),
            Message::Left { rank } => self.left_except(Some(from), rank),
            _ => return Err(BadMessage),
        }
        Ok(())
    }

    /// A link broke. Unless the neighbour had said goodbye, everybody is told that it is lost.
    pub(crate) fn lost(&mut self, neighbour: u32, why: &str) {
        if !self.linked.remove(&neighbour) || self.left.contains(&neighbour) {
            return;
        }
        let who = self
            .table
            .as_ref()
            .and_then(|table| table.member(neighbour))
            .map_or_else(|| format!("rank {neighbour}"), |member| member.describe());
        let what = format!("{who} died or lost its connection: {why}");
        let failure = Failure { kind: ErrorKind::Remote, what, peer: Some(neighbour) };
        self.raise_except(None, self.rank, failure);
    }

    /// This rank declares the communicator broken.
    pub(crate) fn raise(&mut self, error: &Error) {
        self.raise_except(None, self.rank, error.into());
    }

    /// The first error is passed on, to all but where it comes from; later ones would not change anything.
    fn raise_except(&mut self, from: Option<u32>, by: u32, failure: Failure) {
        if self.raised.is_some() {
            return;
        }
        self.flood(from, &Message::Raised { by, failure: failure.clone() });
        self.raised = Some((by, failure.clone()));
        self.news.push_back(News::Raised { by, failure });
    }

    /// This rank says goodbye. It goes on passing on what others say, as long as it is there.
    pub(crate) fn leave(&mut self) {
        self.left_except(None, self.rank);
    }

    fn left_except(&mut self, from: Option<u32>, rank: u32) {
        if self.left.insert(rank) {
            self.flood(from, &Message::Left { rank });
            self.news.push_back(News::Left(rank));
        }
    }

    /// Whether everybody has said goodbye, or nobody is left to talk to: the links may be closed.
    pub(crate) fn is_done(&self) -> bool {
        self.left.contains(&self.rank)
            && self.linked.iter().all(|neighbour| self.left.contains(neighbour))
    }

    /// This rank gives its part to the next gather: its bytes, or nothing at all where all that matters is that everybody
    /// has come. Its number is returned, and comes back in [`News::Gathered`]. All ranks must gather equally often.
    pub(crate) fn gather(&mut self, part: Packed) -> u64 {
        let round = self.given;
        self.given += 1;
        let part = self.part(round, self.rank, part);
        part.expect("gathers are counted, and only the caller of a finished one starts the next");
        round
    }

    fn part(&mut self, number: u64, from: u32, part: Packed) -> Result<(), BadMessage> {
        // A rank may give to a few gathers before the first of them is complete, not to one that is.
        if number < self.complete || number - self.complete >= AHEAD {
            return Err(BadMessage);
        }
        let round = self.rounds.entry(number).or_default();
        if !round.from.insert(from) {
            return Err(BadMessage);
        }
        round.parts.push(part);
        if round.from.len() == self.children.len() + 1 {
            self.complete += 1;
            let all =
                Packed::join(&self.rounds.remove(&number).expect("it was just looked at").parts);
            match self.parent {
                Some(parent) => {
                    self.out.push_back((parent, Message::Up { round: number, part: all }))
                }
                None => self.down(number, all),
            }
        }
        Ok(())
    }

    fn down(&mut self, round: u64, all: Packed) {
        self.out.extend(
            self.children.iter().map(|&child| (child, Message::Down { round, all: all.clone() })),
        );
        self.news.push_back(News::Gathered { round, all });
    }

    fn flood(&mut self, except: Option<u32>, message: &Message) {
        let others = self.linked.iter().filter(|&&neighbour| Some(neighbour) != except);
        self.out.extend(others.map(|&neighbour| (neighbour, message.clone())));
    }

    /// The next message to send, and to which neighbour. One without a link is lost already: drop it.
    pub(crate) fn take_message(&mut self) -> Option<(u32, Message)> {
        self.out.pop_front()
    }

    /// The next piece of news.
    pub(crate) fn take_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }
}
