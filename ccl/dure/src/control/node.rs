//! The ranks of this process, as the control thread keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use dure_tcp::{Inbox, Kind, Port};

use super::shared::Shared;
use super::thread::{Entry, Name};
use crate::bootstrap::table::Table;
use crate::bootstrap::tree::{News, Tree};
use crate::bootstrap::wire::Failure;
use crate::error::{Error, Result};

/// Number of a connection in this thread.
pub(crate) type Token = u64;

/// One rank of one communicator.
pub(super) struct Node {
    pub(super) name: Name,
    pub(super) shared: Arc<Shared>,
    pub(super) tree: Tree,
    /// Connections to neighbours.
    pub(super) links: BTreeMap<u32, Token>,
}

impl Node {
    pub(super) fn new(entry: &Entry, size: u32) -> Self {
        let (name, shared) = (entry.name, Arc::clone(&entry.shared));
        Self { name, tree: Tree::new(shared.rank, size), shared, links: BTreeMap::new() }
    }

    /// Hands news to the rank. The table is returned when it is among them.
    pub(super) fn tell(&mut self) -> Option<Table> {
        let mut came = None;
        while let Some(news) = self.tree.take_news() {
            match news {
                News::Table(table) => {
                    came = Some(table.clone());
                    self.shared.change(|state| state.table = Some(table));
                }
                News::Gathered { round, all } => self.shared.change(|state| {
                    state.gathered.insert(round, all);
                }),
                News::Left(rank) => self.shared.change(|state| {
                    state.left.insert(rank);
                }),
                News::Raised { by, failure } => self.shared.break_with(self.error(by, failure)),
            }
        }
        came
    }

    fn error(&self, by: u32, failure: Failure) -> Error {
        let rank = self.shared.rank;
        if by == rank { Error::from(failure).on(rank) } else { failure.told(by, rank) }
    }
}

/// Where connections to the ranks of one job arrive.
pub(super) struct Door {
    pub(super) tree: Inbox,
    pub(super) query: Inbox,
}

impl Door {
    pub(super) fn open(entry: &Entry, port: &Arc<Port>) -> Result<Self> {
        let register = |kind| {
            port.register(entry.name, kind)
                .map_err(|source| Error::system("eventfd").because(source))
        };
        Ok(Self { tree: register(Kind::Tree)?, query: register(Kind::Query)? })
    }
}
