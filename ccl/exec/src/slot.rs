//! What is in a slot: a line that says whose message it is and where its bytes are, then room for the bytes. And the one
//! place where this crate reads and writes memory that peers touch.
//!
//! ```text
//!   0        32      40       44      48     56      64
//!   | bytes  | freed | digest | bytes | kind | stamp | payload ...
//! ```
//!
//! The stamp is the number of the message on its edge, counted from 1, and is written last: where memory is coherent
//! between the peers it is what the receiver polls, so that a small message is one cache line, flag and data together.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use dure_device::Memory;
use dure_transport::Card;

/// Bytes from the start of a slot to its payload: a cache line, so that the payload is aligned.
pub(crate) const PAYLOAD: usize = 64;
/// Most bytes that fit the line itself, before the header.
pub(crate) const LINE: usize = PAYLOAD - Header::BYTES;

/// Where the bytes of a message are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Behind the header.
    Slot,
    /// In the line, before the header.
    Line,
    /// Where the sender has them: the payload is an offset in a region of the sender's, and the card of the region.
    Region,
    /// Where the sender has them: the line has their address in the sender's process.
    Address,
    /// Where they belong: the sender wrote them to the receiver's output.
    Output,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Slot, Self::Line, Self::Region, Self::Address, Self::Output];
}

/// What stands directly before the payload, so that header and payload are one put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Slots of the other direction that were given back so far.
    pub(crate) freed: u64,
    /// Digest of the call that the message belongs to.
    pub(crate) digest: u32,
    /// Bytes of the message.
    pub(crate) bytes: u32,
    /// Where they are.
    pub(crate) kind: Kind,
    /// Number of the message on its edge, from 1.
    pub(crate) stamp: u64,
}

impl Header {
    pub(crate) const BYTES: usize = 32;
    /// Where it stands in the slot.
    pub(crate) const AT: usize = PAYLOAD - Self::BYTES;

    fn words(self) -> [u64; 4] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        [self.freed, pair(self.digest, self.bytes), self.kind as u64, self.stamp]
    }

    /// The first line of a slot, whose free bytes begin with `front`.
    pub(crate) fn line(self, front: &[u8]) -> [u8; PAYLOAD] {
        let mut line = [0; PAYLOAD];
        line[..front.len()].copy_from_slice(front);
        line[Self::AT..].copy_from_slice(&self.encode());
        line
    }

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.words()) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    /// Reads what [`Header::encode`] wrote; `None` when the kind is none.
    pub(crate) fn decode(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let word = |at: usize| u64::from_le_bytes(bytes.as_chunks::<8>().0[at]);
        #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
        let (digest, bytes) = (word(1) as u32, (word(1) >> 32) as u32);
        let kind = *Kind::ALL.get(usize::try_from(word(2)).ok()?)?;
        Some(Self { freed: word(0), digest, bytes, kind, stamp: word(3) })
    }
}

/// Where the bytes of a message are that its sender keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this address in the sender's process; it is in the line of the slot.
    Address(u64),
    /// In a region; the line says how long what the payload says of it is.
    Region(InRegion),
}

/// A place in a region of the sender's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InRegion {
    /// The offset in the region, and the region's card.
    pub(crate) at: u64,
    pub(crate) card: Card,
    /// The offset of the sender's output in its region, and the region's card; empty when the receiver may not write it.
    pub(crate) output: (u64, Card),
}

impl Place {
    /// By what a header says that they are there.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Address(_) => Kind::Address,
            Self::Region(_) => Kind::Region,
        }
    }

    /// The first word of the slot, and the payload.
    fn parts(&self) -> (u64, Vec<u8>) {
        match self {
            Self::Address(at) => (*at, Vec::new()),
            Self::Region(place) => {
                let encoded = place.encode();
                (encoded.len() as u64, encoded)
            }
        }
    }

    /// All of a slot that holds it: the line with the header, and the payload.
    pub(crate) fn message(&self, header: Header) -> ([u8; PAYLOAD], Vec<u8>) {
        let (word, payload) = self.parts();
        (header.line(&word.to_le_bytes()), payload)
    }

    /// Writes it to a slot; false when the slot is too short.
    ///
    /// # Safety
    /// As for [`write`].
    #[allow(unsafe_code, reason = "as for `read`")]
    pub(crate) unsafe fn write(&self, slot: Memory) -> bool {
        let (word, payload) = self.parts();
        if payload.len() > slot.len - PAYLOAD {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe { write(slot.part(PAYLOAD, payload.len()), &payload) };
        // SAFETY: the caller's promise.
        unsafe { write(slot.part(0, 8), &word.to_le_bytes()) };
        true
    }
}

impl InRegion {
    /// Of the bytes and of the output: the place, the length of the card, the card.
    fn encode(&self) -> Vec<u8> {
        let part = |at: u64, card: &Card| {
            [&at.to_le_bytes()[..], &(card.0.len() as u64).to_le_bytes(), &card.0].concat()
        };
        [part(self.at, &self.card), part(self.output.0, &self.output.1)].concat()
    }

    /// Reads what [`InRegion::encode`] wrote; `None` when a card does not end.
    fn decode(bytes: &[u8]) -> Option<Self> {
        fn part(bytes: &[u8]) -> Option<(u64, Card, &[u8])> {
            let (at, rest) = bytes.split_first_chunk()?;
            let (len, rest) = rest.split_first_chunk()?;
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            let (card, rest) = rest.split_at_checked(len)?;
            Some((u64::from_le_bytes(*at), Card(card.into()), rest))
        }
        let (at, card, rest) = part(bytes)?;
        let (output_at, output_card, _) = part(rest)?;
        Some(Self { at, card, output: (output_at, output_card) })
    }
}

/// What the line of a slot says of a message that its sender keeps: its address, or the length of what the payload says.
///
/// # Safety
/// As for [`read`].
#[allow(unsafe_code, reason = "as for `read`")]
pub(crate) unsafe fn word(slot: Memory) -> u64 {
    // SAFETY: the caller's promise.
    u64::from_le_bytes(unsafe { read(slot.part(0, 8)) })
}

/// The place of a message that is in a region of its sender's; `None` when the slot does not say one.
///
/// # Safety
/// As for [`read`].
#[allow(unsafe_code, reason = "as for `read`")]
pub(crate) unsafe fn in_region(slot: Memory) -> Option<InRegion> {
    // SAFETY: the caller's promise.
    let len = usize::try_from(unsafe { word(slot) }).ok()?;
    if len > slot.len - PAYLOAD {
        return None;
    }
    // SAFETY: the caller's promise; the length was checked.
    InRegion::decode(&unsafe { copied(slot.part(PAYLOAD, len)) })
}

/// Copies the first `N` bytes of memory that a peer has written.
///
/// # Safety
/// `memory` is host memory of the transport, alive, and its writer has signalled these bytes and does not write them
/// again before it gets a credit, which the caller has not given yet.
#[allow(
    unsafe_code,
    reason = "slots are written by another agent: they are read through a pointer, not a reference"
)]
pub(crate) unsafe fn read<const N: usize>(memory: Memory) -> [u8; N] {
    assert!(memory.len >= N, "a slot is as long as what is read from it");
    // SAFETY: the caller promises that the bytes are mapped and that nobody writes them; the length was checked.
    unsafe { memory.ptr.as_ptr().cast::<[u8; N]>().read_unaligned() }
}

/// Copies all bytes of memory that a peer has written.
///
/// # Safety
/// As for [`read`].
#[allow(unsafe_code, reason = "as for `read`")]
unsafe fn copied(memory: Memory) -> Vec<u8> {
    let mut bytes = vec![0; memory.len];
    // SAFETY: the caller's promise; the vector is new, and as long.
    unsafe { memory.ptr.as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), memory.len) };
    bytes
}

/// Copies bytes into memory of a peer.
///
/// # Safety
/// `memory` is a window, alive, whose owner reads these bytes only once they are published.
#[allow(unsafe_code, reason = "as for `read`")]
pub(crate) unsafe fn write(memory: Memory, bytes: &[u8]) {
    assert!(memory.len >= bytes.len(), "a slot is as long as what is written to it");
    // SAFETY: the caller promises that the bytes are mapped; the length was checked, and nothing borrowed is a window.
    unsafe { memory.ptr.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

/// Writes the header of a slot of a coherent peer, the stamp last: with it, all that was written before is published.
///
/// # Safety
/// `slot` is a window on a slot that is free, alive.
#[allow(unsafe_code, reason = "as for `read`")]
pub(crate) unsafe fn publish(slot: Memory, header: Header) {
    let [words @ .., stamp] = header.words();
    let mut bytes = [0; Header::BYTES - 8];
    for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    // SAFETY: the caller's promise.
    unsafe { write(slot.part(Header::AT, bytes.len()), &bytes) };
    // SAFETY: the caller's promise.
    unsafe { stamp_of(slot) }.store(stamp.to_le(), Ordering::Release);
}

/// Sets a word of a peer's inbox, at once for all who look there.
///
/// # Safety
/// `word` is a window of 8 aligned bytes, alive, that only atomics access.
#[allow(unsafe_code, reason = "as for `read`")]
pub(crate) unsafe fn set(word: Memory) {
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(word.ptr.as_ptr().cast()) }.store(1, Ordering::Release);
}

/// Whoever sees a later store of this thread also sees what was [`set`] before.
pub(crate) fn before_later_stores() {
    fence(Ordering::SeqCst);
}

/// Whether a word is not zero, looked at after all that this thread has read before.
///
/// # Safety
/// As for [`set`].
#[allow(unsafe_code, reason = "as for `read`")]
pub(crate) unsafe fn is_set(word: Memory) -> bool {
    fence(Ordering::SeqCst);
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(word.ptr.as_ptr().cast()) }.load(Ordering::Acquire) != 0
}

/// The stamp of a slot of a coherent peer, and with it all that was written before.
///
/// # Safety
/// `slot` is memory of a slot, alive.
#[allow(unsafe_code, reason = "as for `read`")]
pub(crate) unsafe fn stamp(slot: Memory) -> u64 {
    // SAFETY: the caller's promise.
    u64::from_le(unsafe { stamp_of(slot) }.load(Ordering::Acquire))
}

/// # Safety
/// As for [`stamp`], as long as the word is used.
#[allow(unsafe_code, reason = "as for `read`")]
unsafe fn stamp_of<'a>(slot: Memory) -> &'a AtomicU64 {
    let word = slot.part(PAYLOAD - 8, 8).ptr.cast::<u64>();
    assert!(word.is_aligned(), "slots are aligned");
    // SAFETY: the word is inside the slot, which the caller keeps; whoever shares it uses it as an atomic.
    unsafe { AtomicU64::from_ptr(word.as_ptr()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_places_are_read_as_they_were_written_and_others_are_refused() {
        for kind in Kind::ALL {
            let header =
                Header { freed: 7, digest: 0x8000_0001, bytes: u32::MAX, kind, stamp: 1 << 40 };
            assert_eq!(Header::decode(header.encode()), Some(header));
        }
        let card = |bytes: &[u8]| Card(bytes.into());
        let output = (7, card(b"another"));
        let place = InRegion { at: 1 << 40, card: card(b"a region"), output };
        let encoded = place.encode();
        assert_eq!(InRegion::decode(&encoded), Some(place));
        assert_eq!(InRegion::decode(&encoded[..20]), None);
        let mut bytes =
            Header { freed: 0, digest: 0, bytes: 0, kind: Kind::Slot, stamp: 1 }.encode();
        bytes[16] = 5;
        assert_eq!(Header::decode(bytes), None);
    }
}
