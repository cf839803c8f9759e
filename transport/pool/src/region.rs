//! Regions of the own segment, imports of peers' regions, and the key that travels between them.

use dure_transport::{Card, Error, Peer, Put, Result, Table};

use crate::board::{Board, Line};

/// What a peer needs to write a region. Numbers are little-endian; 28 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// First byte, counted from the start of the segment.
    pub(crate) at: u64,
    /// Length in bytes.
    pub(crate) len: u64,
    /// What the stamp's line holds as long as the region lives.
    pub(crate) stamp: u64,
    /// Line of the stamp.
    pub(crate) line: Line,
}

impl Key {
    pub(crate) fn card(&self) -> Card {
        let numbers = [self.at, self.len, self.stamp].map(u64::to_le_bytes);
        let mut card = numbers.concat();
        card.extend(self.line.to_le_bytes());
        Card(card.into())
    }

    pub(crate) fn parse(card: &Card, transport: &'static str) -> Result<Self> {
        let bad = || Error::BadCard { transport };
        let (numbers, rest) = card.0.as_chunks::<8>();
        let &[at, len, stamp] = numbers else { return Err(bad()) };
        let line = Line::from_le_bytes(rest.try_into().map_err(|_| bad())?);
        let [at, len, stamp] = [at, len, stamp].map(u64::from_le_bytes);
        Ok(Self { at, len, stamp, line })
    }

    /// Refuses a key that names anything but heap of this segment.
    pub(crate) fn check(&self, board: &Board) -> Result<()> {
        let end = self.at.checked_add(self.len);
        let inside = self.at >= board.heap() && end.is_some_and(|end| end <= board.map().len());
        if !inside {
            return Err(Error::Protocol { what: "a key of a region outside its segment" });
        }
        if !self.is_current(board) {
            return Err(Error::Protocol { what: "a key of a region that was released" });
        }
        Ok(())
    }

    /// Whether the region still lives, as far as its owner has said.
    pub(crate) fn is_current(&self, board: &Board) -> bool {
        board.line(self.line).is_some_and(|word| crate::signal::observe(word) == self.stamp)
    }
}

/// A region of the own segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) key: Key,
    /// Whether it came from `alloc`: its bytes go back to the heap when it ends.
    pub(crate) allocated: bool,
}

/// A region of a peer's segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Import {
    pub(crate) of: Peer,
    pub(crate) key: Key,
}

/// The region that the bytes of a put go into, which has room for them; `None` when there are none.
///
/// # Errors
/// [`Error::Protocol`] when they go past its end.
pub(crate) fn target<'i>(imports: &'i Table<Import>, put: &Put<'_>) -> Result<Option<&'i Key>> {
    let body = put.body.iter().try_fold(0_u64, |sum, span| sum.checked_add(span.len));
    let len = body.and_then(|body| body.checked_add(wide(put.head.len())));
    if len == Some(0) {
        return Ok(None);
    }
    let into = put.into.expect("a put of bytes names where they go");
    let import = imports.get(into.0).expect("a put goes into what was imported");
    assert_eq!(import.of, put.to, "a put goes to the peer whose region it names");
    let end = len.and_then(|len| put.at.checked_add(len));
    if end.is_none_or(|end| end > import.key.len) {
        return Err(Error::Protocol { what: "a put past the end of its region" });
    }
    Ok(Some(&import.key))
}

/// A number of ours as an index.
pub(crate) const fn slot(index: u32) -> usize {
    const { assert!(usize::BITS >= u32::BITS, "32 bits fit an address") };
    index as usize
}

/// A length of ours as it travels.
pub(crate) fn wide(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits 64 bits")
}
