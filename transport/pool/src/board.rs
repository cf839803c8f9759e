//! How a segment is laid out: a header, a board of lines, and the heap.
//!
//! ```text
//!   0          header: magic, version, length, lines, process, sample
//!   4096       line 0, line 1, ...: 128 bytes each, one shared word at the start of each
//!   heap       regions
//! ```
//!
//! A line is a counter, a bell, or the stamp of a region. Each has a cache line of its own, because each is written by
//! another agent. The words are only ever accessed as atomics: no region overlaps the board.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use dure_transport::{Error, Result};

use crate::foreign::Sample;
use crate::map::{Map, PAGE};
use crate::signal::{observe, publish};

/// First word of each segment; reads "durepool" in a dump of a little-endian machine.
const MAGIC: u64 = u64::from_le_bytes(*b"durepool");
/// Version of the layout, of the keys and of the greeting.
const VERSION: u64 = 2;
// Where the words of the header lie, in bytes.
const AT_MAGIC: u64 = 0;
const AT_VERSION: u64 = 8;
const AT_LENGTH: u64 = 16;
const AT_LINES: u64 = 24;
/// For whoever reads a dump; nobody relies on it.
const AT_PROCESS: u64 = 32;
/// Where the owner's private memory holds a random number, and the number: a peer that finds it there can read it.
const AT_SAMPLE: u64 = 40;
const AT_NUMBER: u64 = 48;

/// Size of a line: two cache lines, because x86-64 fetches them in pairs (crossbeam pads to as much). A polled counter
/// beside a bell would take the bell's line away from the peer, which needs it at each signal.
pub(crate) const LINE: u64 = 128;

/// A line of somebody's board.
pub(crate) type Line = u32;

/// Lines of a page.
pub(crate) const LINES_OF_PAGE: Line = 32;
const _: () = assert!(PAGE == LINE * 32, "a page is full of lines");

/// A mapped segment, seen through its layout.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    map: Arc<Map>,
    lines: Line,
}

impl Board {
    /// Writes the header of a new segment.
    pub(crate) fn new(map: Map, lines: Line, sample: &Sample) -> Self {
        let board = Self { map: Arc::new(map), lines };
        let header = [
            (AT_VERSION, VERSION),
            (AT_LENGTH, board.map.len()),
            (AT_LINES, u64::from(lines)),
            (AT_PROCESS, u64::from(std::process::id())),
            (AT_SAMPLE, sample.address()),
            (AT_NUMBER, sample.number()),
            (AT_MAGIC, MAGIC),
        ];
        header.into_iter().for_each(|(at, value)| publish(board.word(at), value));
        board
    }

    /// Reads and checks the header of a peer's segment.
    pub(crate) fn join(map: Map) -> Result<Self> {
        let smallest = heap_start(1);
        if map.len() < smallest {
            return Err(Error::Protocol { what: "a segment shorter than its header" });
        }
        let board = Self { map: Arc::new(map), lines: 0 };
        // Each word is read once: the peer may change it between two reads.
        if observe(board.word(AT_MAGIC)) != MAGIC || observe(board.word(AT_VERSION)) != VERSION {
            return Err(Error::Protocol { what: "a segment of another version, or none" });
        }
        if observe(board.word(AT_LENGTH)) != board.map.len() {
            return Err(Error::Protocol { what: "a segment of another length than it says" });
        }
        let lines = Line::try_from(observe(board.word(AT_LINES)))
            .ok()
            .filter(|lines| heap_start(*lines) <= board.map.len())
            .ok_or(Error::Protocol { what: "a segment with more lines than bytes" })?;
        Ok(Self { lines, ..board })
    }

    /// Where its owner says that its private memory holds a number, and that number.
    pub(crate) fn sample(&self) -> (u64, u64) {
        (observe(self.word(AT_SAMPLE)), observe(self.word(AT_NUMBER)))
    }

    /// Whether both are of the same segment.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.map, &other.map)
    }

    /// The mapping.
    pub(crate) fn map(&self) -> &Map {
        &self.map
    }

    /// How many lines the board has.
    pub(crate) fn lines(&self) -> Line {
        self.lines
    }

    /// The word of a line, if the board has that line.
    pub(crate) fn line(&self, line: Line) -> Option<&AtomicU64> {
        (line < self.lines).then(|| self.word(PAGE + u64::from(line) * LINE))
    }

    /// First byte of the heap.
    pub(crate) fn heap(&self) -> u64 {
        heap_start(self.lines)
    }

    /// The words of the header that peers check.
    #[cfg(test)]
    pub(crate) fn header(&self) -> [&AtomicU64; 4] {
        [AT_MAGIC, AT_VERSION, AT_LENGTH, AT_LINES].map(|at| self.word(at))
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        let word = self.map.address(at, 8).cast::<u64>();
        assert!(word.is_aligned(), "words of the board are aligned");
        // SAFETY: `address` checked the range, the mapping lives as long as `self`, and no other access to header or
        // board exists in this process; what other processes do to it cannot be worse than a race of atomics.
        unsafe { AtomicU64::from_ptr(word.as_ptr()) }
    }
}

/// First byte of the heap behind so many lines.
pub(crate) fn heap_start(lines: Line) -> u64 {
    (PAGE + u64::from(lines) * LINE).next_multiple_of(PAGE)
}
