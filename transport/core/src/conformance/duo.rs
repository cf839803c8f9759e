//! Two connected transports, driven by one thread.

use std::ops::Range;
use std::time::Instant;

use dure_device::Memory;

use super::{DEADLINE, Pair};
use crate::doorbell::rings;
use crate::memory::{Bytes, Heap};
use crate::{
    Card, Error, Event, Flow, Peer, Posted, Put, Region, RemoteRegion, Result, Signal, Span, Token,
    Transport,
};

/// What one side was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) hello: Option<Card>,
    pub(super) sent: Vec<Token>,
    pub(super) lost: Option<Error>,
}

/// Two transports, numbered 0 and 1, which are each other's peers of that number.
pub(super) struct Duo {
    ends: [Option<Box<dyn Transport>>; 2],
    tick: Box<dyn FnMut()>,
    /// Memory of the user. Dropped after the transports, where it may be registered.
    own: Vec<Heap>,
    pub(super) told: [Told; 2],
}

/// Memory of one side that the other can write, with a counter for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    side: usize,
    pub(super) room: Room,
    pub(super) remote: RemoteRegion,
    pub(super) signal: Signal,
}

/// A region of one side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) region: Region,
    pub(super) bytes: Bytes,
}

impl Room {
    pub(super) fn span(self, offset: u64, len: usize) -> Span {
        Span { region: self.region, offset, len: len as u64 }
    }
}

/// The peer number of a side.
pub(super) fn peer(side: usize) -> Peer {
    Peer(u32::from(side == 1))
}

/// A put of nothing to a side, to be filled in.
pub(super) fn to(side: usize) -> Put<'static> {
    Put {
        to: peer(side),
        flow: Flow(0),
        head: &[],
        body: &[],
        into: None,
        at: 0,
        signal: None,
        token: Token(0),
    }
}

/// `len` bytes that look like no others: they depend on `seed` and on their place.
pub(super) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..len).map(|_| byte()).collect()
}

impl Duo {
    /// Two ends that are not connected.
    pub(super) fn apart(pair: Pair) -> Self {
        Self {
            ends: pair.ends.map(Some),
            tick: pair.tick,
            own: Vec::new(),
            told: Default::default(),
        }
    }

    /// Two ends that are connected.
    pub(super) fn up(open: &mut dyn FnMut() -> Pair) -> Self {
        let mut duo = Self::apart(open());
        duo.connect([&Card::default(), &Card::default()]);
        duo
    }

    /// Connects the two; each gives its own of `hellos`.
    pub(super) fn connect(&mut self, hellos: [&Card; 2]) {
        let addresses = [0, 1].map(|side| self.end(side).address());
        for side in [0, 1] {
            let done = self.end(side).connect(peer(1 - side), &addresses[1 - side], hellos[side]);
            done.expect("a peer that waits can be connected to");
        }
        self.until("both sides are up", |duo| duo.told.iter().all(|told| told.hello.is_some()));
    }

    pub(super) fn end(&mut self, side: usize) -> &mut dyn Transport {
        self.ends[side].as_deref_mut().expect("this side is still there")
    }

    /// Drops the transport of a side.
    pub(super) fn close(&mut self, side: usize) {
        self.ends[side] = None;
    }

    /// Polls one side and notes what it says.
    pub(super) fn poll(&mut self, side: usize) {
        let Some(end) = self.ends[side].as_deref_mut() else { return };
        let (mut events, told) = (Vec::new(), &mut self.told[side]);
        end.poll(&mut events);
        for event in events {
            match event {
                Event::Up { peer: who, hello } => {
                    assert_eq!(who, peer(1 - side), "the peer that comes up at side {side}");
                    assert!(told.hello.replace(hello).is_none(), "side {side} comes up once");
                }
                Event::Sent(token) => told.sent.push(token),
                Event::Lost { peer: who, error } => {
                    assert_eq!(who, peer(1 - side), "the peer that is lost at side {side}");
                    assert!(told.lost.replace(error).is_none(), "side {side} loses its peer once");
                }
                Event::Rerouted { route, .. } => panic!("side {side} loses no wire: {route}"),
            }
        }
    }

    /// Polls both sides once and lets time go on.
    pub(super) fn turn(&mut self) {
        self.poll(0);
        self.poll(1);
        self.pause();
    }

    /// Lets time go on, polling nobody.
    pub(super) fn pause(&mut self) {
        (self.tick)();
        // A wire inside the kernel, or a thread of the transport, may need this core.
        std::thread::yield_now();
    }

    /// Turns until `done`.
    ///
    /// # Panics
    /// At the deadline, saying that `what` did not come.
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < DEADLINE, "waited in vain: {what}; told {:?}", self.told);
            self.turn();
        }
    }

    /// Posts a put of side `from`, turning while it cannot be taken.
    pub(super) fn post(&mut self, from: usize, put: &Put<'_>) -> Posted {
        let mut posted = None;
        self.until("a put is taken", |duo| {
            posted = duo.end(from).put(put).ok();
            posted.is_some()
        });
        posted.expect("the loop ends when it is")
    }

    /// Posts a put of side `from` and waits until its source may be reused.
    pub(super) fn send(&mut self, from: usize, put: &Put<'_>) {
        let before = self.told[from].sent.len();
        if self.post(from, put) == Posted::Pending {
            self.until("a pending put is sent", |duo| duo.told[from].sent.len() > before);
        }
    }

    /// Memory of a side that nobody else was told of.
    pub(super) fn room(&mut self, side: usize, len: usize) -> Room {
        let (region, memory) = self.end(side).alloc(len).expect("a small region can be allocated");
        assert_eq!(memory.len, len, "length of an allocation");
        // SAFETY: allocated memory stays until its region is released, which the properties do last, and they read or
        // write it only while no put that is on its way names those bytes.
        Room { region, bytes: unsafe { Bytes::new(memory) } }
    }

    /// Memory of a side that holds `bytes`.
    pub(super) fn source(&mut self, side: usize, bytes: &[u8]) -> Room {
        let room = self.room(side, bytes.len());
        room.bytes.write(0, bytes);
        room
    }

    /// Memory of a side that the other can write.
    pub(super) fn target(&mut self, side: usize, len: usize) -> Target {
        let room = self.room(side, len);
        self.expose(side, room)
    }

    /// Memory of the user, which no transport has allocated, that holds `bytes`.
    pub(super) fn own(&mut self, bytes: &[u8]) -> Bytes {
        let heap = Heap::new(bytes.len());
        // SAFETY: it stays until the transports are gone, and the properties look at it only while no put that is on
        // its way names those bytes.
        let own = unsafe { Bytes::new(heap.memory()) };
        self.own.push(heap);
        own.write(0, bytes);
        own
    }

    /// Registers a part of memory of the user.
    pub(super) fn register(&mut self, side: usize, own: Bytes, part: Range<usize>) -> Result<Room> {
        let memory = own.memory().part(part.start, part.len());
        // SAFETY: as in `own`; no references into it are formed.
        let region = unsafe { self.end(side).register(memory) }?;
        // SAFETY: as in `own`.
        Ok(Room { region, bytes: unsafe { Bytes::new(memory) } })
    }

    /// Reads memory of the other side, by its address, into memory of the user of a side.
    pub(super) fn read(&mut self, side: usize, theirs: Memory, ours: Memory) -> Result<()> {
        let address = theirs.ptr.as_ptr().expose_provenance() as u64;
        // SAFETY: memory of the user stays until the transports are gone, and nobody else touches it meanwhile.
        unsafe { self.end(side).read(peer(1 - side), address, ours) }
    }

    /// The peer's memory behind an import of a side, if there is a window to it.
    pub(super) fn window(&mut self, side: usize, region: RemoteRegion) -> Option<Bytes> {
        let memory = self.end(side).window(region)?;
        // SAFETY: properties do not use it after they have forgotten the import, and both sides look at these bytes
        // only when the other has said so.
        Some(unsafe { Bytes::new(memory) })
    }

    /// Whether the doorbell of a side rings, which has one.
    pub(super) fn rings(&mut self, side: usize) -> bool {
        let doorbell = self.end(side).doorbell().expect("a doorbell does not go away");
        // SAFETY: its transport is alive: it was asked just now.
        unsafe { rings(doorbell, 1) }
    }

    /// Makes a region of a side writable by the other.
    pub(super) fn expose(&mut self, side: usize, room: Room) -> Target {
        let key = self
            .end(side)
            .key(room.region, peer(1 - side))
            .expect("a region that can be written has a key");
        let remote =
            self.end(1 - side).import(peer(side), &key).expect("a key of the peer can be imported");
        let signal = self.end(side).counter(peer(1 - side)).expect("there is room for a counter");
        Target { side, room, remote, signal }
    }

    /// Waits until exactly `count` puts have bumped the target's counter.
    pub(super) fn arrive(&mut self, target: &Target, count: u64) {
        let Target { side, signal, .. } = *target;
        self.until("puts arrive", |duo| duo.end(side).arrived(signal) >= count);
        assert_eq!(self.end(side).arrived(signal), count, "no put counts twice");
    }

    /// Bytes of a target that have arrived.
    pub(super) fn arrived_bytes(&mut self, target: &Target, offset: usize, len: usize) -> Vec<u8> {
        self.end(target.side).acquire(target.room.span(offset as u64, len));
        target.room.bytes.read(offset, len)
    }

    /// Waits until a signal of side `from` to the target has arrived, or either side has lost the other: then all that
    /// was posted before on this flow has been dealt with.
    pub(super) fn flush(&mut self, from: usize, signal: Signal) {
        let put = Put { signal: Some(signal), ..to(1 - from) };
        let mut posted = false;
        self.until("a signal arrives, or the connection ends", |duo| {
            posted = posted || duo.end(from).put(&put).is_ok();
            duo.is_lost() || (posted && duo.end(1 - from).arrived(signal) > 0)
        });
    }

    /// Whether either side has lost the other.
    pub(super) fn is_lost(&self) -> bool {
        self.told.iter().any(|told| told.lost.is_some())
    }
}
