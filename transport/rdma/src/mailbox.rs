//! Memory that both sides of a pair write over the side channel: what they have to say that a counter does not.

use dure_device::Memory;
use dure_transport::{
    Card, Flow, Peer, Put, Region, RemoteRegion, Result, Signal, Span, Token, Transport,
};

use crate::card::{Statement, WHY};
use crate::memory;

/// The token of all puts that carry no user's data. The executor's count from 0.
pub(crate) const CONTROL: Token = Token(u64::MAX);

/// What lies where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letter {
    /// What a peer gave to `connect`.
    Greeting,
    /// The statement with this number. Before a side makes the next but one, it has the peer's next, which the peer makes
    /// when it has read this one: two places are enough.
    Statement(u32),
    /// Why a peer gave the connection up.
    Reason,
}

/// Bytes of the length in front of a letter.
const LEN: usize = 2;
const STATEMENT: usize = (LEN + Card::MAX).next_multiple_of(64);
const REASON: usize = STATEMENT + 2 * (LEN + Statement::MAX).next_multiple_of(64);
/// Where the own letters lie, behind the places of the peer's.
const OWN: usize = REASON + (LEN + WHY).next_multiple_of(64);

impl Letter {
    /// The first byte of the place, and how many bytes it has.
    fn place(self) -> (usize, usize) {
        match self {
            Self::Greeting => (0, LEN + Card::MAX),
            Self::Statement(number) => {
                let stride = (REASON - STATEMENT) / 2;
                (STATEMENT + (number % 2) as usize * stride, LEN + Statement::MAX)
            }
            Self::Reason => (REASON, LEN + WHY),
        }
    }
}

/// The letters of a pair.
#[derive(Debug)]
pub(crate) struct Mailbox {
    region: Region,
    memory: Memory,
    /// The peer's, once it is known.
    theirs: Option<RemoteRegion>,
}

impl Mailbox {
    /// A mailbox, and what the peer needs to write into it.
    pub(crate) fn new(side: &mut dyn Transport, peer: Peer) -> Result<(Self, Card)> {
        let (region, memory) = side.alloc(2 * OWN)?;
        let refused = dure_transport::Error::BadCard { transport: crate::NAME };
        let key = side.key(region, peer).ok_or(refused)?;
        Ok((Self { region, memory, theirs: None }, key))
    }

    /// Keeps where the peer's is.
    pub(crate) fn open(&mut self, side: &mut dyn Transport, peer: Peer, key: &Card) -> Result<()> {
        self.theirs = Some(side.import(peer, key)?);
        Ok(())
    }

    /// Lays a letter ready, which is not on its way: what it replaces was read.
    pub(crate) fn write(&self, letter: Letter, text: &[u8]) {
        let (at, room) = letter.place();
        assert!(LEN + text.len() <= room, "{letter:?} has {room} bytes");
        let len = u16::try_from(text.len()).expect("places are short").to_le_bytes();
        let own = self.memory.part(OWN + at, room);
        // SAFETY: the own half is this side's, and the caller says that nothing reads this place now.
        unsafe { memory::write(own, &[&len, text].concat()) };
    }

    /// Sends a letter that was laid ready, and bumps the peer's counter behind it. False when the side channel is full.
    pub(crate) fn send(
        &self,
        side: &mut dyn Transport,
        to: Peer,
        letter: Letter,
        signal: Signal,
    ) -> bool {
        let (at, len) = letter.place();
        let span = Span { region: self.region, offset: (OWN + at) as u64, len: len as u64 };
        let body = &[span];
        side.put(&Put { body, into: self.theirs, at: at as u64, ..note(to, signal) }).is_ok()
    }

    /// A letter of the peer that its counter said is there; `None` when its length makes no sense.
    pub(crate) fn read(&self, side: &mut dyn Transport, letter: Letter) -> Option<Vec<u8>> {
        let (at, len) = letter.place();
        side.acquire(Span { region: self.region, offset: at as u64, len: len as u64 });
        // SAFETY: the peer has signalled that it is written, and writes this place again only after it was read.
        let bytes = unsafe { memory::read(self.memory.part(at, len)) };
        let text = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        bytes.get(LEN..LEN + text).map(<[u8]>::to_vec)
    }
}

/// A put that only bumps a counter.
pub(crate) fn note(to: Peer, signal: Signal) -> Put<'static> {
    Put {
        to,
        flow: Flow(0),
        head: &[],
        body: &[],
        into: None,
        at: 0,
        signal: Some(signal),
        token: CONTROL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_apart() {
        let letters =
            [Letter::Greeting, Letter::Statement(0), Letter::Statement(7), Letter::Reason];
        let places = letters.map(Letter::place);
        for ((at, len), (next, _)) in places.iter().zip(&places[1..]) {
            assert!(at + len <= *next);
        }
        assert!(places[3].0 + places[3].1 <= OWN);
        assert_eq!(Letter::Statement(2).place(), Letter::Statement(4).place());
    }
}
