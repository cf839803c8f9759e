//! Messages to a peer: a ring of slots in its memory, and a counter that says how many there are. The sender never has more than
//! [`SLOTS`] messages in it that the owner has not read: each one side or the other waits for, and there are no more of those.

use std::collections::VecDeque;

use dure_device::Memory;
use dure_transport::{
    Card, Error, Flow, Full, Peer, Put, Region, RemoteRegion, Result, Signal, Span, Token,
    Transport,
};

use crate::message::Greeting;

/// Messages that a ring holds.
pub(crate) const SLOTS: usize = 256;
/// Bytes of a slot: an offer with the longest key. Every transport copies so many when it takes a put.
const SLOT: usize = 192;
/// Where a flush writes, which nobody reads: behind the slots.
pub(crate) const BEHIND: u64 = (SLOTS * SLOT) as u64;
/// Bytes of a ring, with a line for flushes.
const LEN: usize = SLOTS * SLOT + 64;

/// Comes back for puts that nobody waits for.
pub(crate) const NOBODY: Token = Token(u64::MAX);

/// The only flow: the order of all that a side puts.
pub(crate) const FLOW: Flow = Flow(0);

/// A put of a head alone to a peer.
pub(crate) fn put(to: Peer, into: RemoteRegion, at: u64) -> Put<'static> {
    Put { to, flow: FLOW, head: &[], body: &[], into: Some(into), at, signal: None, token: NOBODY }
}

/// The ring of this side.
#[derive(Debug)]
pub(crate) struct Inbox {
    region: Region,
    memory: Memory,
    signal: Signal,
    read: u64,
}

impl Inbox {
    pub(crate) fn new(net: &mut dyn Transport, peer: Peer) -> Result<Self> {
        let (region, memory) = net.alloc_for(peer, LEN)?;
        Ok(Self { region, memory, signal: net.counter(peer)?, read: 0 })
    }

    /// What the peer needs to write to it.
    pub(crate) fn greeting(&self, net: &dyn Transport, peer: Peer) -> Result<Vec<u8>> {
        let key = net.key(self.region, peer).ok_or_else(|| Error::Exhausted {
            transport: net.name(),
            what: "memory that a peer may write".to_owned(),
        })?;
        Ok(Greeting { signal: self.signal.0, key }.encode())
    }

    /// The next message, copied out, if it is there.
    pub(crate) fn next(&mut self, net: &mut dyn Transport) -> Option<[u8; SLOT]> {
        if net.arrived(self.signal) <= self.read {
            return None;
        }
        let at = slot(self.read);
        self.read += 1;
        net.acquire(Span { region: self.region, offset: at as u64, len: SLOT as u64 });
        let from = self.memory.part(at, SLOT);
        let mut message = [0; SLOT];
        // SAFETY: `part` checked the bounds of memory that the transport keeps; the counter says that the peer has written this
        // slot, which it does not again before it hears of what this side does with it.
        unsafe { from.ptr.as_ptr().copy_to_nonoverlapping(message.as_mut_ptr(), SLOT) };
        Some(message)
    }
}

/// The peer's ring.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) into: RemoteRegion,
    signal: Signal,
    sent: u64,
    /// What the transport had no room for.
    waiting: VecDeque<Vec<u8>>,
}

impl Outbox {
    pub(crate) fn open(net: &mut dyn Transport, peer: Peer, greeting: &[u8]) -> Result<Self> {
        let greeting = Greeting::decode(greeting);
        let Greeting { signal, key } =
            greeting.ok_or(Error::Protocol { what: "a greeting that makes no sense" })?;
        let into = net.import(peer, &Card(key.0))?;
        Ok(Self { into, signal: Signal(signal), sent: 0, waiting: VecDeque::new() })
    }

    /// Whether all messages are on their way.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends a message, as soon as there is room.
    pub(crate) fn post(&mut self, net: &mut dyn Transport, peer: Peer, message: Vec<u8>) {
        self.waiting.push_back(message);
        self.flush(net, peer);
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self, net: &mut dyn Transport, peer: Peer) {
        while let Some(message) = self.waiting.front() {
            let place = put(peer, self.into, slot(self.sent) as u64);
            let message = Put { head: message, signal: Some(self.signal), ..place };
            if net.put(&message) == Err(Full) {
                return;
            }
            self.sent += 1;
            self.waiting.pop_front();
        }
    }
}

/// First byte of the slot of a message.
fn slot(message: u64) -> usize {
    let place = message % SLOTS as u64;
    usize::try_from(place).expect("a remainder is small") * SLOT
}
