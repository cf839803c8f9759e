//! Whole trees in one thread.

#![allow(clippy::cast_possible_truncation, reason = "ranks of these tests are small")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::shape;
use super::table::Table;
use super::tree::{News, Tree};
use super::wire::tests::member;
use super::wire::{Message, Packed};
use crate::error::Error;

struct Forest {
    trees: Vec<Tree>,
    dead: BTreeSet<u32>,
}

impl Forest {
    fn new(size: u32) -> Self {
        let mut trees: Vec<Tree> = (0..size).map(|rank| Tree::new(rank, size)).collect();
        for rank in 1..size {
            let parent = shape::parent(rank).unwrap();
            assert!(trees[parent as usize].awaits(rank));
            trees[parent as usize].linked(rank);
            trees[rank as usize].linked(parent);
        }
        Self { trees, dead: BTreeSet::new() }
    }

    fn table(&mut self) {
        let members: Vec<_> = (0..self.trees.len() as u32).map(member).collect();
        self.trees[0].table(Table::new(Table::pack(&members)));
    }

    /// Delivers until nothing moves.
    fn settle(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for rank in 0..self.trees.len() {
                while let Some((to, message)) = self.trees[rank].take_message() {
                    moved = true;
                    let from = rank as u32;
                    if !self.dead.contains(&from) && !self.dead.contains(&to) {
                        self.trees[to as usize].received(from, message).unwrap();
                    }
                }
                // Each rank is a process of its own here.
                let tree = &mut self.trees[rank];
                if tree.announced().is_some() && !tree.has_asked() {
                    tree.ask_for_table();
                    moved = true;
                }
            }
        }
    }

    fn kill(&mut self, rank: u32) {
        self.dead.insert(rank);
        let size = self.trees.len() as u32;
        for neighbour in shape::children(rank, size).chain(shape::parent(rank)) {
            self.trees[neighbour as usize].lost(rank, "end of stream");
        }
    }

    fn news(&mut self, rank: u32) -> Vec<News> {
        std::iter::from_fn(|| self.trees[rank as usize].take_news()).collect()
    }

    fn living(&self) -> Vec<u32> {
        (0..self.trees.len() as u32).filter(|rank| !self.dead.contains(rank)).collect()
    }
}

#[test]
fn the_table_reaches_everybody_also_late_children() {
    let mut late = Tree::new(0, 3);
    let table = Table::new(Packed::one(0, b"some"));
    late.table(table.clone());
    late.linked(2);
    let announced = Message::Announced { digest: table.digest() };
    assert_eq!(late.take_message(), Some((2, announced.clone())));
    late.received(2, Message::Wanted).unwrap();
    assert_eq!(late.take_message(), Some((2, Message::Table(table.packed().clone()))));

    // Another rank of the process may have the table: then nobody is asked.
    let mut child = Tree::new(2, 3);
    child.received(0, announced).unwrap();
    assert_eq!(child.announced(), Some(table.digest()));
    child.table(table.clone());
    assert_eq!((child.announced(), child.take_message()), (None, None));
    assert_eq!(child.take_news(), Some(News::Table(table)));

    let mut forest = Forest::new(600);
    forest.table();
    forest.settle();
    for rank in 0..600 {
        let News::Table(table) = &forest.news(rank)[0] else { panic!("rank {rank} has no table") };
        assert_eq!(table.members(600).unwrap().len(), 600);
    }
}

#[test]
fn ten_thousand_ranks_gather_and_learn_of_a_death() {
    let mut forest = Forest::new(10_240);
    let members: Vec<_> = (0..6).map(member).collect();
    forest.trees[0].table(Table::new(Table::pack(&members)));
    forest.settle();
    for rank in 0..10_240_u32 {
        forest.trees[rank as usize].gather(Packed::one(rank, &rank.to_le_bytes()));
    }
    forest.settle();
    for rank in [0, 1, 77, 10_239] {
        let Some(News::Gathered { round: 0, all }) = forest.news(rank).pop() else {
            panic!("rank {rank}")
        };
        assert_eq!(all.complete(10_240).unwrap()[4711], 4711_u32.to_le_bytes());
    }
    forest.kill(5);
    forest.settle();
    for rank in forest.living() {
        let Some(News::Raised { failure, .. }) = forest.news(rank).pop() else {
            panic!("rank {rank}")
        };
        assert_eq!((failure.peer, &failure.what[..24]), (Some(5), "rank 5 (host node5, pid "));
    }
}

#[test]
fn the_first_error_is_told_once_and_kept() {
    let mut forest = Forest::new(20);
    forest.trees[13].raise(&Error::aborted("enough").about(13));
    forest.settle();
    forest.trees[4].raise(&Error::aborted("later"));
    forest.settle();
    for rank in 0..20 {
        let news = forest.news(rank);
        let [News::Raised { by: 13, failure }] = &news[..] else { panic!("{news:?}") };
        assert_eq!(failure.what, "enough");
    }
}

#[test]
fn a_rank_that_said_goodbye_is_not_lost() {
    let mut forest = Forest::new(12);
    forest.trees[1].leave();
    forest.settle();
    forest.kill(1);
    forest.settle();
    for rank in forest.living() {
        assert_eq!(forest.news(rank), [News::Left(1)]);
        assert!(!forest.trees[rank as usize].is_done());
    }
    for rank in forest.living() {
        forest.trees[rank as usize].leave();
    }
    forest.settle();
    assert!(forest.living().iter().all(|&rank| forest.trees[rank as usize].is_done()));
}

#[test]
fn nobody_says_what_it_may_not() {
    let mut tree = Tree::new(1, 20);
    let up = |round| Message::Up { round, part: Packed::default() };
    assert!(tree.received(9, Message::Table(Packed::default())).is_err());
    assert!(tree.received(9, Message::Announced { digest: [0; 32] }).is_err());
    assert!(
        tree.received(0, Message::Wanted).is_err() && tree.received(9, Message::Wanted).is_err()
    );
    // A table comes once, to whoever asked for it.
    tree.received(0, Message::Announced { digest: [0; 32] }).unwrap();
    assert!(tree.received(0, Message::Announced { digest: [0; 32] }).is_err());
    assert!(tree.received(0, Message::Table(Packed::default())).is_err());
    tree.ask_for_table();
    tree.received(0, Message::Table(Packed::default())).unwrap();
    assert!(tree.received(0, Message::Table(Packed::default())).is_err());
    assert!(tree.received(9, Message::Down { round: 0, all: Packed::default() }).is_err());
    assert!(tree.received(0, up(0)).is_err());
    assert!(tree.received(9, up(2)).is_err());
    assert!(tree.received(9, Message::Link { from: 9, to: 1 }).is_err());
    tree.received(9, up(0)).unwrap();
    assert!(tree.received(9, up(0)).is_err());
}

proptest! {
    /// Gathers complete with everybody's part whatever the order in which ranks give theirs, one gather ahead included.
    #[test]
    fn gathers_complete_in_any_order(size in 1..40_u32, seed in any::<u64>(), rounds in 1..4_u64) {
        let mut forest = Forest::new(size);
        let mut given = vec![0; size as usize];
        let mut state = seed | 1;
        while given.iter().any(|&round| round < rounds) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let rank = (state >> 33) as usize % size as usize;
            // A rank gives to a gather when it has the result of the one before.
            if given[rank] < rounds && (given[rank] == 0 || forest.news(rank as u32).len() == 1) {
                let text = format!("{rank} in {}", given[rank]);
                prop_assert_eq!(forest.trees[rank].gather(Packed::one(rank as u32, text.as_bytes())), given[rank]);
                given[rank] += 1;
            }
            forest.settle();
        }
        for rank in 0..size {
            let news = forest.news(rank);
            let [News::Gathered { round, all }] = &news[..] else { panic!("{news:?}") };
            prop_assert_eq!(*round, rounds - 1);
            let parts = all.complete(size).unwrap();
            let last = format!("{} in {round}", size - 1);
            prop_assert_eq!(parts[size as usize - 1], last.as_bytes());
        }
    }
}
