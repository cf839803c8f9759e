//! The memory that peers may write, and what is known of the memory of peers.

use std::hash::{BuildHasher, RandomState};

use dure_device::Memory;
use dure_transport::{Card, Error, Peer, Region, RemoteRegion, Result, Span};

use crate::NAME;
use crate::frame::Header;
use crate::memory::{Bytes, Pages};

/// First bytes of a key.
const KEY_TAG: [u8; 4] = *b"tcpk";
const KEY_LEN: usize = 12;

const NO_SUCH_REGION: &str = "a frame for a region that does not exist";

/// The regions of this process.
#[derive(Debug)]
pub(crate) struct Regions {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Makes nonces that peers cannot guess.
    secret: RandomState,
}

#[derive(Debug, Default)]
struct Slot {
    /// Counts the uses of this number.
    generation: u64,
    entry: Option<Entry>,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    /// Of regions that this transport allocated.
    pages: Option<Pages>,
}

/// Where what is missing of a frame's payload lands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landing {
    number: u32,
    generation: u64,
    rest: Bytes,
}

impl Landing {
    /// Length of what is missing.
    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    /// Without its first `count` bytes, which are where they belong.
    pub(crate) fn skip(self, count: usize) -> Self {
        Self { rest: self.rest.skip(count), ..self }
    }
}

impl Regions {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), secret: RandomState::new() }
    }

    /// A region of this transport's own memory.
    pub(crate) fn alloc(&mut self, len: usize) -> Result<(Region, Memory)> {
        let pages = Pages::new(len).map_err(|source| Error::System { call: "mmap", source })?;
        let memory = pages.memory();
        let region = self.add(Entry { bytes: pages.bytes(), pages: Some(pages) })?;
        Ok((region, memory))
    }

    /// A region of the user's memory.
    pub(crate) fn register(&mut self, bytes: Bytes) -> Result<Region> {
        self.add(Entry { bytes, pages: None })
    }

    fn add(&mut self, entry: Entry) -> Result<Region> {
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                // The largest number is not one: frames without payload have it.
                let number =
                    u32::try_from(self.slots.len()).ok().filter(|number| *number < u32::MAX);
                self.slots.push(Slot::default());
                number.ok_or_else(|| Error::Exhausted {
                    transport: NAME,
                    what: "another region".into(),
                })?
            }
        };
        self.slots[index(number)].entry = Some(entry);
        Ok(Region(number))
    }

    /// Ends a region; its memory is unmapped if it is ours.
    ///
    /// # Panics
    /// When there is no such region.
    pub(crate) fn release(&mut self, region: Region) {
        let slot = &mut self.slots[index(region.0)];
        let entry = slot.entry.take().expect("a region is released once");
        drop(entry.pages);
        slot.generation += 1;
        self.free.push(region.0);
    }

    /// What `to` needs to write into the region.
    pub(crate) fn key(&self, region: Region, to: Peer) -> Option<Card> {
        self.entry(region.0)?;
        let mut card = Vec::with_capacity(KEY_LEN);
        card.extend(KEY_TAG);
        card.extend(region.0.to_le_bytes());
        card.extend(self.nonce(region.0, to).to_le_bytes());
        Some(Card(card.into()))
    }

    /// Bytes of a region of this process.
    ///
    /// # Panics
    /// When there are no such bytes.
    pub(crate) fn span(&self, span: Span) -> Bytes {
        let entry =
            self.entry(span.region.0).expect("a put is sent from a region that is not released");
        let range = (usize::try_from(span.offset), usize::try_from(span.len));
        let (Ok(offset), Ok(len)) = range else { panic!("{span:?} is beyond the address space") };
        entry.bytes.part(offset, len)
    }

    /// Where the payload of a peer's frame lands, if it was allowed to name that.
    pub(crate) fn landing(
        &self,
        header: &Header,
        from: Peer,
    ) -> std::result::Result<Landing, &'static str> {
        let number = header.region;
        let entry = self.entry(number).ok_or(NO_SUCH_REGION)?;
        if header.nonce != self.nonce(number, from) {
            return Err("a frame for a region that was not given to this peer");
        }
        let end =
            header.offset.checked_add(header.len.into()).and_then(|end| usize::try_from(end).ok());
        if end.is_none_or(|end| end > entry.bytes.len()) {
            return Err("a frame that ends outside its region");
        }
        let (offset, len) = (usize::try_from(header.offset), usize::try_from(header.len));
        let rest = entry.bytes.part(offset.expect("below the end"), len.expect("below the end"));
        Ok(Landing { number, generation: self.slots[index(number)].generation, rest })
    }

    /// The bytes of a landing, unless its region was released since.
    pub(crate) fn bytes(&self, landing: &Landing) -> std::result::Result<Bytes, &'static str> {
        let slot = &self.slots[index(landing.number)];
        // Whoever releases a region makes its number one of the next generation.
        if slot.generation == landing.generation { Ok(landing.rest) } else { Err(NO_SUCH_REGION) }
    }

    fn entry(&self, number: u32) -> Option<&Entry> {
        self.slots.get(index(number))?.entry.as_ref()
    }

    /// Different for every use of a number and for every peer, so that a peer can name exactly what it was given.
    #[expect(clippy::cast_possible_truncation, reason = "32 of the 64 bits of a hash")]
    fn nonce(&self, number: u32, to: Peer) -> u32 {
        self.secret.hash_one((number, to.0, self.slots[index(number)].generation)) as u32
    }
}

/// What a peer's key said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) of: Peer,
    pub(crate) number: u32,
    pub(crate) nonce: u32,
}

impl Remote {
    /// Reads what [`Regions::key`] of the peer wrote.
    pub(crate) fn from_key(of: Peer, key: &Card) -> Result<Self> {
        let bad = || Error::BadCard { transport: NAME };
        let bytes: &[u8; KEY_LEN] = key.0.as_ref().try_into().map_err(|_| bad())?;
        if bytes[..4] != KEY_TAG {
            return Err(bad());
        }
        let word = |at: usize| {
            u32::from_le_bytes(*bytes[at..].first_chunk().expect("the field is inside the key"))
        };
        Ok(Self { of, number: word(4), nonce: word(8) })
    }
}

/// The regions of peers that were imported.
#[derive(Debug, Default)]
pub(crate) struct Remotes {
    slots: Vec<Option<Remote>>,
    free: Vec<u32>,
}

impl Remotes {
    pub(crate) fn add(&mut self, remote: Remote) -> Result<RemoteRegion> {
        if let Some(number) = self.free.pop() {
            self.slots[index(number)] = Some(remote);
            return Ok(RemoteRegion(number));
        }
        let number = u32::try_from(self.slots.len())
            .map_err(|_| Error::Exhausted { transport: NAME, what: "another import".into() })?;
        self.slots.push(Some(remote));
        Ok(RemoteRegion(number))
    }

    /// # Panics
    /// When there is no such import.
    pub(crate) fn forget(&mut self, region: RemoteRegion) {
        self.slots[index(region.0)].take().expect("an import is forgotten once");
        self.free.push(region.0);
    }

    pub(crate) fn get(&self, region: RemoteRegion) -> Option<&Remote> {
        self.slots.get(index(region.0))?.as_ref()
    }
}

pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).expect("a 32-bit number fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Peer = Peer(1);
    const B: Peer = Peer(2);

    fn header(regions: &Regions, region: Region, to: Peer) -> Header {
        let remote = Remote::from_key(Peer(0), &regions.key(region, to).unwrap()).unwrap();
        Header { region: remote.number, nonce: remote.nonce, offset: 90, len: 10, signal: 0 }
    }

    #[test]
    fn a_peer_lands_only_in_what_it_was_given() {
        let mut regions = Regions::new();
        let (region, memory) = regions.alloc(100).unwrap();
        let good = header(&regions, region, A);
        assert_eq!(regions.landing(&good, A).unwrap().len(), 10);
        assert_eq!(memory.len, 100);

        assert!(regions.landing(&good, B).unwrap_err().contains("not given"));
        assert!(
            regions
                .landing(&Header { region: 1, ..good }, A)
                .unwrap_err()
                .contains("does not exist")
        );
        assert!(
            regions.landing(&Header { offset: 91, ..good }, A).unwrap_err().contains("outside")
        );
        assert!(
            regions
                .landing(&Header { offset: u64::MAX, ..good }, A)
                .unwrap_err()
                .contains("outside")
        );
    }

    #[test]
    fn a_number_that_is_used_again_has_another_nonce() {
        let mut regions = Regions::new();
        let (first, _) = regions.alloc(100).unwrap();
        let old = header(&regions, first, A);
        regions.release(first);
        assert!(regions.landing(&old, A).is_err());
        assert!(regions.key(first, A).is_none());
        let (second, _) = regions.alloc(100).unwrap();
        assert_eq!(second, first);
        assert!(regions.landing(&old, A).is_err());
        assert!(regions.landing(&header(&regions, second, A), A).is_ok());
    }

    #[test]
    fn a_landing_ends_with_its_region() {
        let mut regions = Regions::new();
        let (region, _) = regions.alloc(100).unwrap();
        let landing = regions.landing(&header(&regions, region, A), A).unwrap().skip(4);
        assert_eq!(regions.bytes(&landing).unwrap().len(), 6);
        regions.release(region);
        assert!(regions.bytes(&landing).is_err());
        // Also when the number is used again.
        regions.alloc(100).unwrap();
        assert!(regions.bytes(&landing).is_err());
    }

    #[test]
    fn other_cards_are_no_keys() {
        for bytes in [&b""[..], b"tcpk", b"poolxxxxxxxx", b"tcpkxxxxxxxxx"] {
            assert!(matches!(
                Remote::from_key(A, &Card(bytes.into())),
                Err(Error::BadCard { transport: NAME })
            ));
        }
    }

    #[test]
    fn imports_are_numbered_and_forgotten() {
        let mut remotes = Remotes::default();
        let remote = Remote { of: A, number: 7, nonce: 8 };
        let first = remotes.add(remote).unwrap();
        let second = remotes.add(Remote { number: 70, ..remote }).unwrap();
        assert_eq!(remotes.get(second).unwrap().number, 70);
        remotes.forget(first);
        assert!(remotes.get(first).is_none());
        assert_eq!(remotes.add(remote).unwrap(), first);
    }
}
