//! What a rank owns: its part of the segment, where peers find it, and what it sleeps on.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use dure_transport::proof::Key;
use dure_transport::{Peer, Result};

use crate::Options;
use crate::board::{Board, LINES_OF_PAGE, Line};
use crate::doorbell::Doorbell;
use crate::heap::Heap;
use crate::link::Tie;
use crate::signal::publish;
use crate::site::{Estate, Range, Site};
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
    ranges: Vec<Range>,
    /// What is free of the ranges of the heap.
    heap: Heap,
    /// Lines that were never used, of the page of lines that was taken last.
    fresh: std::ops::Range<Line>,
    /// Lines of stamps whose regions have ended, and what they hold now.
    stamps: Vec<(Line, u64)>,
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
            ranges: Vec::new(),
            heap: Heap::new(0, 0),
            fresh: 0..0,
            stamps: Vec::new(),
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
        if let Some(at) = self.heap.take(len) {
            return Some(at);
        }
        let range = self.site.take(len)?;
        self.ranges.push(range);
        self.heap.give(range.at, range.len);
        self.heap.take(len)
    }

    /// Gives back what `take` returned for `len` bytes, zeroed: for this rank's next use only.
    pub(crate) fn give(&mut self, at: u64, len: u64) {
        self.heap.give(at, len);
    }

    /// Makes bytes of the heap zero, and gives their pages back.
    pub(crate) fn discard(&self, at: u64, len: u64) {
        self.site.discard(at, len);
    }

    /// A line at 0 that nobody has used: peers remember what they counted on a line, so that a counter's or a bell's is
    /// never used again before those peers are gone.
    pub(crate) fn fresh_line(&mut self, what: &str) -> Result<Line> {
        if let Some(line) = self.fresh.next() {
            return Ok(line);
        }
        let (first, range) = self.site.take_lines(what)?;
        self.ranges.push(range);
        self.fresh = first + 1..first + LINES_OF_PAGE;
        Ok(first)
    }

    /// A line for the stamp of a region, and the stamp: no key that was ever given out names both.
    pub(crate) fn stamp(&mut self) -> Result<(Line, u64)> {
        match self.stamps.pop() {
            Some(used) => Ok(used),
            None => Ok((self.fresh_line("another region")?, 0)),
        }
    }

    /// Ends a stamp: keys that name it are refused from here on.
    pub(crate) fn end_stamp(&mut self, line: Line, stamp: u64) {
        publish(self.own_line(line), stamp + 1);
        self.stamps.push((line, stamp + 1));
    }

    /// Leaves everything to the segment, which waits for the end of those peers.
    pub(crate) fn leave(&mut self, peers: Vec<Tie>) {
        let ranges = std::mem::take(&mut self.ranges);
        self.site.inherit(Estate { ranges, peers });
    }
}
