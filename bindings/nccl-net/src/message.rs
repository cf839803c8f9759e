//! What travels: the handle of a receiver, greetings, offers and records. Numbers are little-endian.

use dure_transport::Card;

use crate::abi::HANDLE;

/// First bytes of a handle: the name, and the version of all that is described here.
const MAGIC: [u8; 8] = *b"durenet1";

/// Reads bytes from their start.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn word(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// What [`block`] wrote.
    fn block(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(u16::from_le_bytes(self.array()?));
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<String> {
        self.block().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn card(&mut self) -> Option<Card> {
        self.block().map(|bytes| Card(bytes.into()))
    }
}

/// Appends bytes behind their length.
fn block(to: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("what travels is short");
    to.extend(len.to_le_bytes());
    to.extend(bytes);
}

/// What `listen` gives, and `connect` needs: where the receiver is, and the secret that lets the sender in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) key: [u8; 32],
    pub(crate) address: Card,
}

impl Handle {
    /// Longest address that a handle holds, in bytes.
    pub(crate) const ADDRESS: usize = HANDLE - 8 - 32 - 2;

    pub(crate) fn encode(&self) -> [u8; HANDLE] {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.key);
        block(&mut bytes, &self.address.0);
        let mut handle = [0; HANDLE];
        handle[..bytes.len()].copy_from_slice(&bytes);
        handle
    }

    /// `None` when it is none of ours.
    pub(crate) fn decode(bytes: &[u8; HANDLE]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.array() != Some(MAGIC) {
            return None;
        }
        Some(Self { key: reader.array()?, address: reader.card()? })
    }
}

/// What both sides tell one another when they meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Who it is, for people.
    pub(crate) who: String,
    /// `DURE_TRANSPORT`, which both must have alike.
    pub(crate) transports: String,
    /// Of the ring over TCP.
    pub(crate) greeting: Vec<u8>,
    /// Where it is found over RDMA; empty when it is not.
    pub(crate) rdma: Card,
}

/// Longest description of a side that travels.
const WHO: usize = 160;

impl Hello {
    pub(crate) fn encode(&self) -> Card {
        let mut bytes = Vec::new();
        block(&mut bytes, &self.who.as_bytes()[..self.who.floor_char_boundary(WHO)]);
        block(&mut bytes, self.transports.as_bytes());
        block(&mut bytes, &self.greeting);
        block(&mut bytes, &self.rdma.0);
        Card(bytes.into())
    }

    pub(crate) fn decode(card: &Card) -> Option<Self> {
        let mut reader = Reader(&card.0);
        Some(Self {
            who: reader.text()?,
            transports: reader.text()?,
            greeting: reader.block()?.into(),
            rdma: reader.card()?,
        })
    }
}

/// How the peer's ring is written: by this key, with this counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) signal: u32,
    pub(crate) key: Card,
}

impl Greeting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.signal.to_le_bytes().to_vec();
        block(&mut bytes, &self.key.0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        Some(Self { signal: reader.word()?, key: reader.card()? })
    }
}

/// A receive: where the bytes of one send may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The receiver's number of it, which the record gives back.
    pub(crate) place: u32,
    pub(crate) tag: i32,
    /// Most bytes.
    pub(crate) len: u64,
    /// First byte, from the begin of the registered memory.
    pub(crate) at: u64,
    /// Number of the registration: no two of a connection have the same.
    pub(crate) serial: u64,
    /// The registration's key; empty where there is no memory.
    pub(crate) key: Card,
}

impl Offer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.place.to_le_bytes().to_vec();
        bytes.extend(self.tag.to_le_bytes());
        for long in [self.len, self.at, self.serial] {
            bytes.extend(long.to_le_bytes());
        }
        block(&mut bytes, &self.key.0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        Some(Self {
            place: reader.word()?,
            tag: i32::from_le_bytes(reader.array()?),
            len: reader.long()?,
            at: reader.long()?,
            serial: reader.long()?,
            key: reader.card()?,
        })
    }
}

/// What became of an offer: so many bytes are there; or they were too many, and are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) place: u32,
    pub(crate) too_long: bool,
    pub(crate) len: u64,
}

impl Record {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.place.to_le_bytes().to_vec();
        bytes.extend(u32::from(self.too_long).to_le_bytes());
        bytes.extend(self.len.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (place, too_long) = (reader.word()?, reader.word()? != 0);
        Some(Self { place, too_long, len: reader.long()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(len: usize) -> Card {
        Card((0..len).map(|byte| byte.to_le_bytes()[0]).collect())
    }

    #[test]
    fn what_is_written_is_read() {
        let handle = Handle { key: [7; 32], address: card(Handle::ADDRESS) };
        assert_eq!(Handle::decode(&handle.encode()), Some(handle));
        let who = "host7 (process 42), mlx5_0".to_owned();
        let hello =
            Hello { who, transports: "all".to_owned(), greeting: vec![3; 40], rdma: card(500) };
        assert!(hello.encode().0.len() <= Card::MAX);
        assert_eq!(Hello::decode(&hello.encode()), Some(hello));
        let greeting = Greeting { signal: 3, key: card(80) };
        assert_eq!(Greeting::decode(&greeting.encode()), Some(greeting));
        let offer = Offer { place: 1, tag: -2, len: 3, at: 4, serial: 5, key: card(80) };
        assert_eq!(Offer::decode(&offer.encode()), Some(offer));
        let record = Record { place: 9, too_long: true, len: 1 << 40 };
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }

    #[test]
    fn what_is_cut_or_not_ours_is_refused() {
        assert_eq!(Handle::decode(&[0; HANDLE]), None);
        let mut lies = Handle { key: [0; 32], address: card(4) }.encode();
        lies[40] = 255;
        assert_eq!(Handle::decode(&lies), None);
        let offer = Offer { place: 1, tag: 0, len: 3, at: 4, serial: 5, key: card(30) }.encode();
        for len in 0..offer.len() {
            assert_eq!(Offer::decode(&offer[..len]), None);
        }
    }
}
