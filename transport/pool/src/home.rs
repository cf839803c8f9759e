//! What a rank owns: its segment, where peers find it, and what it sleeps on.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU64;

use dure_transport::proof::Key;
use dure_transport::{Error, Peer, Result};

use crate::board::{Board, Line, heap_start};
use crate::doorbell::Doorbell;
use crate::foreign::Sample;
use crate::map::File;
use crate::signal::publish;
use crate::socket::Name;
use crate::{NAME, Options};

/// Lines of a board: 8 MiB of addresses, of which the pages that are used exist. A communicator of a hundred ranks on
/// one host with sixteen lanes uses a few thousand.
const LINES: Line = 1 << 16;

/// The least heap that is worth a segment, in bytes.
const LEAST_HEAP: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) me: Peer,
    pub(crate) key: Key,
    pub(crate) name: Name,
    pub(crate) board: Board,
    pub(crate) doorbell: Doorbell,
    file: File,
    /// What peers try to read; its address is in the header of the segment.
    _sample: Sample,
    /// Lines from here on were never used.
    fresh: Line,
    /// Lines of stamps whose regions have ended, and what they hold now.
    stamps: Vec<(Line, u64)>,
}

impl Home {
    pub(crate) fn new(options: Options) -> Result<Self> {
        let (file, map) = File::create(options.capacity, heap_start(LINES) + LEAST_HEAP)?;
        let sample = Sample::new()?;
        Ok(Self {
            me: options.rank,
            key: options.key,
            name: Name::random()?,
            board: Board::new(map, LINES, &sample),
            doorbell: Doorbell::new()?,
            file,
            _sample: sample,
            fresh: 0,
            stamps: Vec::new(),
        })
    }

    /// The descriptor of the segment.
    pub(crate) fn segment(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The word of a line that was taken here.
    pub(crate) fn own_line(&self, line: Line) -> &AtomicU64 {
        self.board.line(line).expect("own lines are on the own board")
    }

    /// Makes bytes of the heap zero, and gives their pages back.
    pub(crate) fn discard(&self, at: u64, len: u64) {
        self.file.discard(self.board.map(), at, len);
    }

    /// A line at 0 that nobody has used: peers remember what they counted on a line, so that a counter's or a bell's is
    /// never used again.
    pub(crate) fn fresh_line(&mut self, what: &str) -> Result<Line> {
        if self.fresh == self.board.lines() {
            return Err(Error::Exhausted { transport: NAME, what: what.to_owned() });
        }
        self.fresh += 1;
        Ok(self.fresh - 1)
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
}
