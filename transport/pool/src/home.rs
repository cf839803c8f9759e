//! What a rank owns: its part of the segment, where peers find it, and what it sleeps on.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use dure_transport::proof::Key;
use dure_transport::{Peer, Result};

use crate::Options;
use crate::board::{Board, Line};
use crate::doorbell::Doorbell;
use crate::ground::{Estate, Lot};
use crate::link::Tie;
use crate::signal::publish;
use crate::site::Site;
use crate::socket::Name;

#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) me: Peer,
    pub(crate) key: Key,
    pub(crate) name: Name,
    pub(crate) board: Board,
    pub(crate) doorbell: Doorbell,
    pub(crate) site: Arc<Site>,
    /// What was taken of the segment.
    lot: Lot,
}

impl Home {
    pub(crate) fn new(site: Arc<Site>, options: Options) -> Result<Self> {
        Ok(Self {
            me: options.rank,
            key: options.key,
            name: Name::random()?,
            board: site.board.clone(),
            doorbell: Doorbell::new()?,
            site,
            lot: Lot::new(),
        })
    }

    /// The descriptor of the segment.
    pub(crate) fn segment(&self) -> BorrowedFd<'_> {
        self.site.segment()
    }

    /// The word of a line that was taken here.
    pub(crate) fn own_line(&self, line: Line) -> &AtomicU64 {
        self.board.line(line).expect("own lines are on the own board")
    }

    /// Takes room for `len` bytes, zeroed.
    pub(crate) fn take(&mut self, len: u64) -> Option<u64> {
        self.lot.take(&*self.site, len)
    }

    /// Gives back what `take` returned for `len` bytes, zeroed: for this rank's next use only.
    pub(crate) fn give(&mut self, at: u64, len: u64) {
        self.lot.give(at, len);
    }

    /// Makes bytes of the heap zero, and gives their pages back.
    pub(crate) fn discard(&self, at: u64, len: u64) {
        self.site.discard(at, len);
    }

    /// A line at 0 that nobody has used.
    pub(crate) fn fresh_line(&mut self, what: &str) -> Result<Line> {
        self.lot.fresh_line(&*self.site, what)
    }

    /// A line for the stamp of a region, and the stamp: no key that was ever given out names both.
    pub(crate) fn stamp(&mut self) -> Result<(Line, u64)> {
        self.lot.stamp(&*self.site)
    }

    /// Ends a stamp: keys that name it are refused from here on.
    pub(crate) fn end_stamp(&mut self, line: Line, stamp: u64) {
        let next = self.lot.end_stamp(line, stamp);
        publish(self.own_line(line), next);
    }

    /// Leaves everything to the segment, which waits for the end of those peers.
    pub(crate) fn leave(&mut self, peers: Vec<Tie>) {
        self.site.inherit(Estate { ranges: self.lot.leave(), peers });
    }
}
