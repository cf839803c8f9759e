//! Which parts of a segment, or of a member's area in a shared pool, are free, and whose the others are.
//!
//! A *ground* is a board of lines and a heap. A communicator takes ranges of it, its *lot*, and hands them out in smaller parts.
//! What it leaves behind becomes free again when all its peers have left theirs, or are gone: until then they may write there.

use dure_transport::Result;

use crate::board::{LINE, LINES_OF_PAGE, Line};
use crate::heap::Heap;
use crate::map::PAGE;

/// A lot takes at least this much of the heap at once, in bytes, so that what it allocates next is near.
const LEAST_RANGE: u64 = 64 << 10;

/// Bytes of a ground.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) at: u64,
    pub(crate) len: u64,
}

/// What a communicator leaves behind.
#[derive(Debug)]
pub(crate) struct Estate<T> {
    pub(crate) ranges: Vec<Range>,
    /// Peers that may still write there.
    pub(crate) peers: Vec<T>,
}

/// What is free, and what is not yet.
#[derive(Debug)]
pub(crate) struct Ground<T> {
    board: u64,
    border: u64,
    /// Free pages of the board, and free ranges of the heap.
    lines: Heap,
    heap: Heap,
    estates: Vec<Estate<T>>,
}

impl<T> Ground<T> {
    /// A board from `board`, and a heap from `border` to `end`.
    pub(crate) fn new(board: u64, border: u64, end: u64) -> Self {
        let (lines, heap) = (Heap::new(board, border), Heap::new(border, end));
        Self { board, border, lines, heap, estates: Vec::new() }
    }

    /// A range of the heap for at least `len` bytes.
    pub(crate) fn take(&mut self, len: u64) -> Option<Range> {
        let len = len.max(LEAST_RANGE).checked_next_multiple_of(PAGE)?;
        Some(Range { at: self.heap.take(len)?, len })
    }

    /// A page of the board: its first line, and its range.
    pub(crate) fn take_lines(&mut self) -> Option<(Line, Range)> {
        let at = self.lines.take(PAGE)?;
        let first = Line::try_from((at - self.board) / LINE).expect("lines are counted in 32 bits");
        Some((first, Range { at, len: PAGE }))
    }

    /// Takes over what a communicator leaves.
    pub(crate) fn inherit(&mut self, estate: Estate<T>) {
        self.estates.push(estate);
    }

    /// Frees, after `clear`, what no peer writes any more because `is_gone` says so of all.
    pub(crate) fn settle(
        &mut self,
        mut is_gone: impl FnMut(&mut T) -> bool,
        mut clear: impl FnMut(Range),
    ) {
        let Self { border, lines, heap, estates, .. } = self;
        estates.retain_mut(|estate| {
            estate.peers.retain_mut(|peer| !is_gone(peer));
            if !estate.peers.is_empty() {
                return true;
            }
            for range in &estate.ranges {
                clear(*range);
                let free = if range.at < *border { &mut *lines } else { &mut *heap };
                free.give(range.at, range.len);
            }
            false
        });
    }

    #[cfg(test)]
    pub(crate) fn estates(&self) -> usize {
        self.estates.len()
    }
}

/// Who has a ground, and gives lots of it.
pub(crate) trait Owner {
    /// A range of the heap for at least `len` bytes.
    fn take(&self, len: u64) -> Option<Range>;

    /// A page of the board, zeroed: its first line, and its range.
    ///
    /// # Errors
    /// [`dure_transport::Error::Exhausted`] when there is none left for `what`.
    fn take_lines(&self, what: &str) -> Result<(Line, Range)>;
}

/// What one communicator has taken.
#[derive(Debug)]
pub(crate) struct Lot {
    ranges: Vec<Range>,
    /// What is free of the ranges of the heap.
    heap: Heap,
    /// Lines that were never used, of the page of lines that was taken last.
    fresh: std::ops::Range<Line>,
    /// Lines of stamps whose regions have ended, and what they hold now.
    stamps: Vec<(Line, u64)>,
}

impl Lot {
    pub(crate) fn new() -> Self {
        Self { ranges: Vec::new(), heap: Heap::new(0, 0), fresh: 0..0, stamps: Vec::new() }
    }

    /// Takes room for `len` bytes.
    pub(crate) fn take(&mut self, owner: &impl Owner, len: u64) -> Option<u64> {
        if let Some(at) = self.heap.take(len) {
            return Some(at);
        }
        let range = owner.take(len)?;
        self.ranges.push(range);
        self.heap.give(range.at, range.len);
        self.heap.take(len)
    }

    /// Gives back what `take` returned for `len` bytes: for this communicator's next use only.
    pub(crate) fn give(&mut self, at: u64, len: u64) {
        self.heap.give(at, len);
    }

    /// A line at 0 that nobody has used: peers remember what they counted on a line, so that a counter's or a bell's is
    /// never used again before those peers are gone.
    pub(crate) fn fresh_line(&mut self, owner: &impl Owner, what: &str) -> Result<Line> {
        if let Some(line) = self.fresh.next() {
            return Ok(line);
        }
        let (first, range) = owner.take_lines(what)?;
        self.ranges.push(range);
        self.fresh = first + 1..first + LINES_OF_PAGE;
        Ok(first)
    }

    /// A line for the stamp of a region, and the stamp: no key that was ever given out names both.
    pub(crate) fn stamp(&mut self, owner: &impl Owner) -> Result<(Line, u64)> {
        match self.stamps.pop() {
            Some(used) => Ok(used),
            None => Ok((self.fresh_line(owner, "another region")?, 0)),
        }
    }

    /// Ends a stamp. Returns what its line is to hold from here on.
    pub(crate) fn end_stamp(&mut self, line: Line, stamp: u64) -> u64 {
        self.stamps.push((line, stamp + 1));
        stamp + 1
    }

    /// All that was taken, which somebody else inherits.
    pub(crate) fn leave(&mut self) -> Vec<Range> {
        std::mem::take(&mut self.ranges)
    }
}
