//! The one interface between the executor and a wire: **put, then signal**.
//!
//! A [`Transport`] moves bytes into a peer's memory and then bumps a counter there. RDMA verbs, TCP, a memory pool and
//! an NPU's copy engine all do this natively or cheaply. There is no `send`, no `recv`, no `wait` and no `flush`:
//! *signal* is a put of nothing, *wait* is [`Transport::arrived`] in a loop that the executor owns, *send and receive*
//! are built once above it (dure-exec), *flush* and cache invalidation are [`Transport::acquire`].
//!
//! **The contract.** When `arrived(s)` counts a put, the bytes of that put, and of every put posted before it to the
//! same peer on the same flow, are readable after `acquire`. Nothing is promised about anything else. In particular:
//!
//! - A put that is accepted may still be lost with its connection, also when its poster drops its transport right after
//!   posting it: whoever must know that it arrived waits for an answer.
//! - The bytes of a put may land in any order and in pieces before its signal counts.
//! - Puts of a peer may land before its [`Event::Up`] is reported here, if that side came up first.
//! - Once [`Event::Lost`] is reported, nothing more of that peer is counted. Counters keep what they have.
//!
//! [`conformance`] checks the contract, and each transport runs that suite.
//!
//! Nothing here blocks and nothing spawns.

#![deny(unsafe_code)]

pub mod conformance;
#[expect(unsafe_code, reason = "borrows the descriptors that transports name by number")]
mod doorbell;
#[expect(unsafe_code, reason = "hands registered memory on to the transports inside")]
mod fabric;
#[expect(unsafe_code, reason = "copies into and out of memory that peers write")]
mod memory;
pub mod proof;
pub mod simulated;
mod table;

use std::fmt::{self, Debug};
use std::os::fd::RawFd;
use std::time::Duration;

use dure_device::{Memory, Space};

pub use crate::fabric::Fabric;
pub use crate::table::{Table, entry};

/// A rank as a transport sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer(pub u32);

/// Memory of this process that peers may write, or that puts may be sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region(pub u32);

/// Memory of a peer that this process may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RemoteRegion(pub u32);

/// A counter. Made by its owner with [`Transport::counter`]; the number travels to the peer, who names it in its puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal(pub u32);

/// A domain of order: puts to one peer on one flow are ordered, others are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flow(pub u16);

/// A number that the poster of a put chooses, and gets back when the source may be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// An address, a key or a greeting: opaque outside the transport or the executor that made it. At most
/// [`Card::MAX`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card(pub Box<[u8]>);

impl Card {
    /// Longest card that any transport may make, and must carry.
    pub const MAX: usize = 1024;

    /// Most bytes of a greeting on its way: the card, and what a transport around another puts before it.
    pub const MOST_ON_THE_WAY: usize = Self::MAX + 16;
}

/// Bytes of a registered or allocated region of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The region.
    pub region: Region,
    /// First byte, counted from the region's start.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
}

/// One put: `head`, then the bytes of `body` in order, land in `into` from byte `at`; then `signal` is bumped by one.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// To whom.
    pub to: Peer,
    /// In which order domain; below [`Caps::flows`].
    pub flow: Flow,
    /// Bytes that are copied before `put` returns; at most [`Caps::head`] long.
    pub head: &'a [u8],
    /// What follows the head; at most [`Caps::gather`] spans. It may not change until the put is done.
    pub body: &'a [Span],
    /// The peer's memory; not looked at when head and body are empty (a pure signal).
    pub into: Option<RemoteRegion>,
    /// First byte written, counted from the remote region's start.
    pub at: u64,
    /// The counter at the peer that is bumped after the bytes.
    pub signal: Option<Signal>,
    /// Comes back in [`Event::Sent`] when `put` returned [`Posted::Pending`].
    pub token: Token,
}

/// What became of a put that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// The body may be reused at once; no event will come.
    Done,
    /// The body must stay as it is until [`Event::Sent`] with the put's token.
    Pending,
}

/// The transport cannot take the put now: poll, and try again. Nothing of it was taken. It ends: either there is room
/// again once the peer has polled, or the peer is lost and puts to it are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What [`Transport::poll`] has to say.
#[derive(Debug)]
pub enum Event {
    /// The connection to a peer is up, in both directions; `hello` is what the peer gave to its `connect`.
    Up {
        /// The peer.
        peer: Peer,
        /// What the peer gave to its `connect`.
        hello: Card,
    },
    /// The source of a pending put may be reused. Once for each [`Posted::Pending`], for no other put.
    Sent(Token),
    /// The connection to a peer is lost, for good; reported once for each peer that was connected to. Puts to it are
    /// dropped: those that are pending give no token back and read their source no more, later ones are
    /// [`Posted::Done`].
    Lost {
        /// The peer.
        peer: Peer,
        /// Why, as far as this transport knows.
        error: Error,
    },
    /// The wires to a peer are others from here on: some have failed, or are back. No put is lost and none counts
    /// twice.
    Rerouted {
        /// The peer.
        peer: Peer,
        /// What leads to it now.
        route: Route,
    },
}

/// What leads to a peer where wires may fail one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Name of the transport that carries the data: `tcp` when no rail is left.
    pub over: &'static str,
    /// Rails that are in use: pairs of a device here and one of the peer.
    pub rails: usize,
    /// Rails that there were when the peer came up.
    pub rails_at_first: usize,
    /// Why it changed.
    pub why: String,
    /// How long no put to the peer was taken.
    pub pause: Duration,
}

impl Route {
    /// Whether some rails are missing.
    pub fn is_degraded(&self) -> bool {
        self.rails < self.rails_at_first
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { over, rails, rails_at_first, why, pause } = self;
        let ms = pause.as_secs_f64() * 1e3;
        write!(f, "{rails} of {rails_at_first} rails, over {over}: {why} (paused {ms:.1} ms)")
    }
}

/// How messages leave memory of a device towards a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Whether they are read where they lie, so that nothing of them is copied to the host's memory.
    pub is_direct: bool,
    /// What reads them there, or why they are copied: for people.
    pub why: String,
}

/// What can go wrong in a transport.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{call}")]
    System {
        /// Name of the call.
        call: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The peer closed the connection, or died.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer did not prove that it belongs to the job.
    #[error("the peer did not prove that it belongs to this job")]
    NotProven,
    /// The peer sent something that it may not send.
    #[error("the peer broke the protocol: {what}")]
    Protocol {
        /// What it sent.
        what: &'static str,
    },
    /// A card does not hold what a card of this transport holds.
    #[error("not a card of the {transport} transport")]
    BadCard {
        /// Name of the transport.
        transport: &'static str,
    },
    /// None of the peer's addresses could be reached.
    #[error("no way to the peer: {tried}")]
    Unreachable {
        /// Each address and what happened there.
        tried: String,
    },
    /// The transport does not do this; its [`Caps`] say so.
    #[error("the {transport} transport does not {what}")]
    Unsupported {
        /// Name of the transport.
        transport: &'static str,
        /// What was asked.
        what: &'static str,
    },
    /// The wire failed; the cause says what, between whom, and what to look at.
    #[error("the {transport} transport failed")]
    Failed {
        /// Name of the transport.
        transport: &'static str,
        /// What the wire said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no room left for another region or counter.
    #[error("the {transport} transport has no room for {what}")]
    Exhausted {
        /// Name of the transport.
        transport: &'static str,
        /// What was asked for.
        what: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What a transport can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Longest [`Put::head`], in bytes; at least 64.
    pub head: usize,
    /// Most spans in [`Put::body`]; at least 1.
    pub gather: usize,
    /// Flows per peer; at least 1.
    pub flows: u16,
    /// Whether any host memory of the user can be registered, at no cost worth saving: then it need not be staged.
    /// Otherwise `register` refuses it, or gives a region that has no key for this peer.
    pub user_memory: bool,
    /// Whether puts to this peer may be sent from any host memory that is registered, at no cost worth saving, even if it has no
    /// key. True with `user_memory`.
    pub any_source: bool,
    /// Whether puts land while neither side polls.
    pub unattended: bool,
    /// Whether all regions that have a key have a [`Transport::window`], and those of both sides are coherent: an aligned word that the peer stores
    /// there with Release order, and this side loads with Acquire order, publishes what the peer wrote before it, as
    /// between threads. A put is then needed only to wake a peer that sleeps.
    pub coherent: bool,
    /// Whether each side reads what the other has exposed of its regions where it lies, by [`Transport::fetch`]. True where memory
    /// is coherent. Lines of 64 bytes may then have one writer only, unless memory is coherent.
    pub in_place: bool,
    /// Whether an aligned line of 64 bytes that a put writes lands as a whole, after all puts to the peer that were posted before
    /// it, and shows to whoever looks at it after `acquire`, without a signal.
    pub whole_lines: bool,
}

/// A wire. One object serves one rank of one communicator, and is used by one thread at a time.
///
/// Dropping it closes its connections, so that the peers get [`Event::Lost`], and ends its regions and imports as
/// `release` and `forget` do.
pub trait Transport: Send + Debug {
    /// Its name in settings and messages, such as `tcp`.
    fn name(&self) -> &'static str;

    /// What it can do with this peer.
    fn caps(&self, peer: Peer) -> Caps;

    /// Allocates memory that peers may write once they have its key, zeroed, aligned to 64 bytes at least. It is there
    /// until `release`.
    ///
    /// # Errors
    /// [`Error::Exhausted`] or [`Error::System`].
    fn alloc(&mut self, len: usize) -> Result<(Region, Memory)>;

    /// Allocates memory as `alloc` does, for this peer to write; others need not be able to.
    ///
    /// # Errors
    /// As `alloc`.
    fn alloc_for(&mut self, peer: Peer, len: usize) -> Result<(Region, Memory)> {
        let _ = peer;
        self.alloc(len)
    }

    /// Whether memory in this space, a device's, can be a region that some peers read where it lies by their own devices, while
    /// the memory is not copied to the host: `alloc_in` allocates such memory, and `register` takes it at no cost worth saving.
    fn reaches(&self, space: Space) -> bool {
        let _ = space;
        false
    }

    /// Allocates zeroed memory of a device, a region as by `register`, until `release`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless it `reaches` the space; [`Error::Exhausted`].
    fn alloc_in(&mut self, space: Space, len: usize) -> Result<(Region, Memory)> {
        let _ = (space, len);
        Err(Error::Unsupported { transport: self.name(), what: "allocate memory of a device" })
    }

    /// How messages leave this memory of a device towards a peer. What is found out by connecting is known afterwards only.
    fn way(&mut self, memory: Memory, to: Peer) -> Way {
        let _ = (memory, to);
        let why = format!("the {} transport moves memory of the host", self.name());
        Way { is_direct: false, why }
    }

    /// Makes memory of the user a region: puts may be sent from it, and peers that get its key may write it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when this memory cannot be registered here: the caller stages then.
    ///
    /// # Safety
    /// Until `release` returns or the transport is dropped, `memory` stays mapped, and no Rust reference into it is
    /// alive while a peer may write it or a put reads it.
    #[expect(unsafe_code, reason = "only the caller can keep the memory mapped")]
    unsafe fn register(&mut self, memory: Memory) -> Result<Region>;

    /// Reads a region for pending puts no more: the transport takes over what is left to read, or gives up their connection.
    fn settle(&mut self, region: Region) {
        let _ = region;
    }

    /// Ends a region of `alloc` or `register`: its memory is not touched from here on.
    ///
    /// Puts that are pending and still read it are settled as by `settle`. Puts of peers that still name it are dropped with their signals, or end their connection
    /// with [`Error::Protocol`]; only a peer that writes the memory itself (it has a `window`, or the caps say `in_place`)
    /// cannot be kept from it.
    fn release(&mut self, region: Region);

    /// What peer `to` needs to write into a region; `None` when it cannot. It need not be up.
    fn key(&self, region: Region, to: Peer) -> Option<Card>;

    /// Makes a peer's region writable here. The peer must be up.
    ///
    /// # Errors
    /// [`Error::BadCard`], [`Error::Protocol`], [`Error::System`]; [`Error::Closed`] when the peer is lost.
    fn import(&mut self, of: Peer, key: &Card) -> Result<RemoteRegion>;

    /// Ends an import: no put names it afterwards. Those that were posted before may still land.
    fn forget(&mut self, region: RemoteRegion);

    /// The peer's memory itself, where this process can address it: bytes may then be written there by whatever means,
    /// and published by a put with empty head and body on any flow, posted after they were written. It stays mapped
    /// until `forget`, also when the peer releases it or is gone.
    fn window(&self, region: RemoteRegion) -> Option<Memory>;

    /// Makes bytes of an own region readable by peers that [`Transport::fetch`] them once a put has been signalled that was
    /// posted afterwards. Nothing to do where caches are coherent.
    fn expose(&mut self, bytes: Span) {
        let _ = bytes;
    }

    /// The bytes of a peer's region where they lie, as the peer has exposed them; `None` when there are no such bytes, or the
    /// [`Caps`] do not say `in_place`. They are for reading only, and stay mapped as a `window` does; where there is one, they
    /// are a part of it. Bytes of a device are in the space of this side's device that reads them.
    fn fetch(&mut self, region: RemoteRegion, at: u64, len: u64) -> Option<Memory> {
        let [at, len] = [at, len].map(|n| usize::try_from(n).ok());
        let (window, at, len) = (self.window(region)?, at?, len?);
        (at.checked_add(len)? <= window.len).then(|| window.part(at, len))
    }

    /// Whether [`Transport::read`] reaches this peer, which must be up. Each side asks for itself.
    fn can_read(&self, of: Peer) -> bool {
        let _ = of;
        false
    }

    /// Copies host memory of a peer that is up, whatever it is, from `address` in the peer's address space to `into`,
    /// before it returns.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless [`Transport::can_read`]; [`Error::System`] when there is no such memory.
    ///
    /// # Safety
    /// `into` is host memory that nobody else touches meanwhile.
    #[expect(unsafe_code, reason = "writes memory by address")]
    unsafe fn read(&mut self, of: Peer, address: u64, into: Memory) -> Result<()> {
        let _ = (of, address, into);
        Err(Error::Unsupported { transport: self.name(), what: "read memory of a peer" })
    }

    /// Peers read this host memory again and again by [`Transport::read`]; none does now. The transport may take some
    /// milliseconds to make that cheaper. The bytes stay as and where they are, and may be in use.
    fn lend(&mut self, memory: Memory) {
        let _ = memory;
    }

    /// Where peers find this object; what they give to `connect`.
    fn address(&self) -> Card;

    /// Starts to connect to a peer: both sides must. Done when [`Event::Up`] comes, which carries the other side's
    /// `hello`, or failed when [`Event::Lost`] does. Called once per peer.
    ///
    /// # Errors
    /// [`Error::BadCard`], or what the first step of connecting met. No event comes then.
    fn connect(&mut self, peer: Peer, address: &Card, hello: &Card) -> Result<()>;

    /// A new counter, at 0, that `from` (and nobody else) will bump. Its number may travel to `from` in a card.
    ///
    /// # Errors
    /// [`Error::Exhausted`].
    fn counter(&mut self, from: Peer) -> Result<Signal>;

    /// Posts a put to a peer that is up, or was and is lost.
    ///
    /// The peer's side keeps its memory: a put past the end of a remote region or with a signal that is not this
    /// side's to bump is dropped there with its signal, or ends the connection with [`Error::Protocol`]. A transport
    /// whose peers write memory themselves checks on the side that posts, and drops.
    ///
    /// # Errors
    /// [`Full`]: poll and try again.
    ///
    /// # Panics
    /// May panic when the put breaks the caller's part: it exceeds the caps, a span is not inside a region, a region or
    /// import is none of this object's, or the peer was never up.
    fn put(&mut self, put: &Put<'_>) -> std::result::Result<Posted, Full>;

    /// Moves on as far as possible without waiting, and appends what happened to `events`.
    fn poll(&mut self, events: &mut Vec<Event>);

    /// Whether something that was posted gets no further unless this side polls: whoever has nothing left to wait for polls
    /// until it is false.
    fn is_behind(&self) -> bool {
        false
    }

    /// How often a counter was bumped. Never goes down. An acquire load where the counter is in shared memory.
    fn arrived(&self, signal: Signal) -> u64;

    /// Makes arrived bytes of a region readable by whoever reads them next.
    fn acquire(&mut self, bytes: Span);

    /// The descriptor that becomes readable when, after `arm` returned true, something may have happened: an arrival,
    /// an event, or room after [`Full`]. Always the same one, never read by whoever sleeps on it, and it stays readable
    /// until the transport is polled. `None` when there is nothing to sleep on (the simulated transport).
    fn doorbell(&self) -> Option<RawFd>;

    /// Prepares to sleep on `doorbell`: false when something has happened already and the caller must poll instead.
    /// (True is right as well when the doorbell then rings at once.)
    fn arm(&mut self) -> bool;
}
