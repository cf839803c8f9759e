//! Links: one per peer, with an edge per lane in each direction. An edge is an ordered stream of messages; it has slots
//! at the receiver and credits at the sender.
//!
//! Memory of a link at each side (its *inbox*, which the peer writes): for each lane `slots` slots; then for each lane
//! one *grant*, in which the peer says where the messages of the next call may land in its user's memory, and one *mail*,
//! in which it says how many slots it has given back in all (each message says that as well, so that a mail is written
//! only where none goes the other way); at the end a word that says whether the peer can read this process's memory, and
//! one that says whether the peer has withdrawn what this side reads in the peer's memory.
//! Three counters a lane at each side: data, credits, grants. The first message of a connection (its `hello`) carries the
//! key of the inbox and the numbers of the counters.
//!
//! Between coherent peers the stamp of a slot takes the place of the data counter, nothing lands, and a long message stays
//! where it is: the receiver reads it there.

use std::ops::Range;

use dure_device::Memory;
use dure_transport::{
    Card, Flow, Peer, Posted, Put, Region, RemoteRegion, Signal, Span, Token, Transport,
};

use crate::Error;
use crate::slot::{self, Header, Kind, PAYLOAD};

/// Bytes of a grant: a header and a card.
const GRANT: usize = GRANT_HEADER + Card::MAX;
const GRANT_HEADER: usize = 24;

/// How much a link can hold; the same on every rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Lanes for collectives, at least 1. Messages outside collectives have a lane of their own besides.
    pub lanes: u16,
    /// Slots per edge, at least 1.
    pub slots: u32,
    /// Bytes of payload in a slot; a multiple of 64, at least 64.
    pub slot_bytes: u32,
    /// Messages of at least this many bytes land directly in the user's memory where they may.
    pub landing_bytes: u32,
    /// Messages of at least this many bytes to a coherent peer stay where the peer can read them in place.
    pub reading_bytes: u32,
    /// Whether ranks share cores: what counts is the work of all together.
    pub shares_cores: bool,
}

/// Bytes of a mail; a cache line, so that lanes keep apart.
const MAIL: usize = 64;

impl Settings {
    /// Lanes of a link: those of collectives and the one of messages.
    fn edges(&self) -> usize {
        usize::from(self.lanes) + 1
    }

    fn stride(&self) -> usize {
        PAYLOAD + self.slot_bytes as usize
    }

    /// The first slot of a lane.
    fn first(&self, lane: usize) -> Place {
        Place { index: 0, at: lane * self.slots as usize * self.stride() }
    }

    /// The slot after another.
    #[inline]
    fn after(&self, place: Place) -> Place {
        if place.index + 1 < self.slots {
            Place { index: place.index + 1, at: place.at + self.stride() }
        } else {
            Place { index: 0, at: place.at - place.index as usize * self.stride() }
        }
    }

    fn grant_at(&self, lane: usize) -> usize {
        self.edges() * self.slots as usize * self.stride() + lane * GRANT
    }

    fn mail_at(&self, lane: usize) -> usize {
        self.grant_at(self.edges()).next_multiple_of(MAIL) + lane * MAIL
    }

    fn reads_at(&self) -> usize {
        self.mail_at(self.edges())
    }

    fn withdrawn_at(&self) -> usize {
        self.reads_at() + MAIL
    }

    fn inbox_bytes(&self) -> usize {
        self.withdrawn_at() + MAIL
    }

    /// Consumed slots that are given back by a mail when no message has done so: half of them, so that a sender is never
    /// out of slots while the receiver keeps up.
    fn batch(&self) -> u64 {
        u64::from((self.slots / 2).max(1))
    }
}

/// The three counters of one lane of a link, as their owner numbers them.
#[derive(Clone, Copy, Debug)]
struct Counters {
    data: Signal,
    credits: Signal,
    grants: Signal,
}

/// A place in the ring of slots of a lane.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Which slot.
    index: u32,
    /// Where it is in the inbox.
    at: usize,
}

/// Both directions of one lane of a link.
#[derive(Debug)]
struct Edge {
    /// The slots of the next messages out and in.
    next_out: Place,
    next_in: Place,
    /// Messages sent, and those of them that took a slot.
    sent: u64,
    slotted: u64,
    /// Slots that the peer has given back, as far as is known here, and the mails that said so.
    freed: u64,
    mails: u64,
    /// Messages received, and those of them that lay in a slot.
    taken: u64,
    unslotted: u64,
    /// Slots that the peer was told to have back.
    returned: u64,
    /// Grants given and taken.
    granted: u64,
    grants_taken: u64,
}

impl Edge {
    fn new(first: Place) -> Self {
        Self {
            next_out: first,
            next_in: first,
            sent: 0,
            slotted: 0,
            freed: 0,
            mails: 0,
            taken: 0,
            unslotted: 0,
            returned: 0,
            granted: 0,
            grants_taken: 0,
        }
    }
}

#[derive(Debug)]
enum State {
    Connecting,
    Up(Up),
    Lost(Option<dure_transport::Error>),
}

/// The peer's inbox and counters.
#[derive(Debug)]
struct Up {
    outbox: RemoteRegion,
    window: Option<Memory>,
    theirs: Box<[Counters]>,
    /// Whether this process can read the peer's memory; `None` once the peer knows.
    reads: Option<bool>,
}

/// The connection to one peer.
#[derive(Debug)]
pub(crate) struct Link {
    peer: u32,
    settings: Settings,
    /// Whether the peer and this side see each other's stores.
    coherent: bool,
    /// Whether each side can read where they lie what the other has.
    in_place: bool,
    /// Whether the header of a slot, a line, says by itself that its message is there.
    lined: bool,
    /// The order domain of each lane.
    flows: Box<[Flow]>,
    /// Regions of the peer that its messages were read from last.
    sources: Vec<Source>,
    state: State,
    inbox: (Region, Memory),
    ours: Box<[Counters]>,
    edges: Box<[Edge]>,
}

/// What a receiver says about where the messages of a call may land.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Digest of the receiver's call.
    pub(crate) digest: u32,
    /// Where the receiver's output, or the one block of it that this edge fills, begins in the region of the card;
    /// `None`: send through slots.
    pub(crate) base: Option<(u64, Card)>,
}

impl Grant {
    /// Digest, length of the card, base (integers are little endian), room; then the card.
    fn encode(&self) -> Vec<u8> {
        let (base, card) =
            self.base.as_ref().map_or((0, &[][..]), |(base, card)| (*base, &card.0[..]));
        let mut bytes = Vec::with_capacity(GRANT_HEADER + card.len());
        bytes.extend_from_slice(&self.digest.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(card.len()).expect("a card is short").to_le_bytes());
        bytes.extend_from_slice(&base.to_le_bytes());
        bytes.resize(GRANT_HEADER, 0);
        bytes.extend_from_slice(card);
        bytes
    }

    /// Reads what [`Grant::encode`] wrote; `None` when the card is longer than any.
    fn decode(bytes: &[u8; GRANT]) -> Option<Self> {
        let word =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let base = u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes"));
        let card = bytes.get(GRANT_HEADER..GRANT_HEADER + word(4) as usize)?;
        let base = (!card.is_empty()).then(|| (base, Card(card.into())));
        Some(Self { digest: word(0), base })
    }
}

/// Where a message goes: a free slot of a peer, or its user's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) into: RemoteRegion,
    /// First byte of the payload in `into`.
    pub(crate) at: u64,
    /// The memory from there on, where it can be addressed.
    pub(crate) window: Option<Memory>,
    /// The number of the message from 1, when it goes through a slot and needs a header; `None` when it lands.
    pub(crate) stamp: Option<u64>,
    /// The whole slot, where the peer is coherent.
    pub(crate) slot: Option<Memory>,
}

/// A region of the peer that its messages are read from.
#[derive(Debug)]
struct Source {
    card: Card,
    region: RemoteRegion,
}

/// Regions of a peer that are kept: the input and the output of a few calls in turn.
const SOURCES: usize = 8;

/// Longest card of a grant when heads of puts have at most `head` bytes.
pub(crate) fn longest_grant_card(head: usize) -> usize {
    head.saturating_sub(GRANT_HEADER)
}

impl Link {
    /// Starts to connect to a peer.
    pub(crate) fn open(
        net: &mut dyn Transport,
        peer: u32,
        address: &Card,
        settings: Settings,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Transport { peer, source };
        let inbox = net
            .alloc_for(Peer(peer), settings.inbox_bytes())
            .map_err(|source| Error::NoMemory { what: "the slots of a link", source })?;
        let mut ours = Vec::new();
        for _ in 0..settings.edges() {
            let mut counter = || net.counter(Peer(peer)).map_err(failed);
            ours.push(Counters { data: counter()?, credits: counter()?, grants: counter()? });
        }
        let no_key = || failed(dure_transport::Error::BadCard { transport: net.name() });
        let key = net.key(inbox.0, Peer(peer)).ok_or_else(no_key)?;
        let hello = hello(&key, settings, &ours);
        net.connect(Peer(peer), address, &hello).map_err(failed)?;
        let caps = net.caps(Peer(peer));
        let lanes = 0..settings.lanes + 1;
        Ok(Self {
            peer,
            settings,
            coherent: caps.coherent,
            in_place: caps.in_place,
            lined: caps.whole_lines && !caps.coherent,
            // Lanes share the flows of a connection evenly.
            flows: lanes.clone().map(|lane| Flow(lane % caps.flows)).collect(),
            sources: Vec::new(),
            state: State::Connecting,
            inbox,
            ours: ours.into(),
            edges: lanes.map(|lane| Edge::new(settings.first(lane.into()))).collect(),
        })
    }

    /// The connection is up.
    pub(crate) fn up(&mut self, net: &mut dyn Transport, greeting: &Card) -> Result<(), Error> {
        let (key, theirs) =
            parse_hello(greeting, self.settings).ok_or(Error::Greeting { peer: self.peer })?;
        let outbox = net
            .import(Peer(self.peer), &key)
            .map_err(|source| Error::Transport { peer: self.peer, source })?;
        let window = net.window(outbox);
        debug_assert!(!self.coherent || window.is_some(), "coherent memory is in windows");
        let reads = self.coherent.then(|| net.can_read(Peer(self.peer)));
        self.state = State::Up(Up { outbox, window, theirs, reads });
        Ok(())
    }

    /// The connection is lost.
    pub(crate) fn lose(&mut self, error: dure_transport::Error) {
        self.state = State::Lost(Some(error));
    }

    /// Whether puts can be posted.
    ///
    /// # Errors
    /// [`Error::Lost`], with its cause the first time it is asked.
    #[inline]
    pub(crate) fn ready(&mut self) -> Result<bool, Error> {
        match &mut self.state {
            State::Connecting => Ok(false),
            State::Up(_) => Ok(true),
            State::Lost(error) => Err(Error::Lost {
                peer: self.peer,
                source: error.take().unwrap_or(dure_transport::Error::Closed),
            }),
        }
    }

    /// Whether the connection was up or on its way, and is no more.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost(_))
    }

    fn state(&self) -> &Up {
        match &self.state {
            State::Up(up) => up,
            State::Connecting | State::Lost(_) => unreachable!("asked `ready` before"),
        }
    }

    /// Whether both sides see each other's stores.
    pub(crate) fn is_coherent(&self) -> bool {
        self.coherent
    }

    /// Whether messages may stay where the sender has them, for the receiver to read there.
    pub(crate) fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Whether the line with the header of a message is put by itself, after the payload, and nothing is signalled.
    #[inline]
    pub(crate) fn is_lined(&self) -> bool {
        self.lined
    }

    /// The memory that the peer writes.
    pub(crate) fn inbox(&self) -> Memory {
        self.inbox.1
    }

    /// Whether the peer has said that it can read this process's memory.
    #[allow(unsafe_code, reason = "reads what the peer has written")]
    pub(crate) fn is_read(&self) -> bool {
        let word = self.inbox.1.part(self.settings.reads_at(), 8);
        // SAFETY: the inbox is ours, and the peer writes this word once.
        self.coherent && u64::from_le_bytes(unsafe { slot::read(word) }) == 1
    }

    /// The next free slot of the peer on a lane.
    pub(crate) fn slot(&mut self, net: &mut dyn Transport, lane: usize) -> Option<Target> {
        let edge = &self.edges[lane];
        if edge.slotted - edge.freed >= u64::from(self.settings.slots) {
            self.open_mail(net, lane);
            let edge = &self.edges[lane];
            if edge.slotted - edge.freed >= u64::from(self.settings.slots) {
                return None;
            }
        }
        let edge = &self.edges[lane];
        let start = edge.next_out.at;
        let Up { outbox, window, .. } = self.state();
        let slot = window.map(|w| w.part(start, self.settings.stride()));
        Some(Target {
            into: *outbox,
            at: (start + PAYLOAD) as u64,
            window: slot.map(|slot| slot.part(PAYLOAD, self.settings.slot_bytes as usize)),
            stamp: Some(edge.sent + 1),
            slot: slot.filter(|_| self.coherent),
        })
    }

    /// Reads the peer's mail about the slots that it has given back, when there is a new one.
    #[allow(unsafe_code, reason = "reads what the peer has signalled")]
    fn open_mail(&mut self, net: &mut dyn Transport, lane: usize) {
        let mails = net.arrived(self.ours[lane].credits);
        if mails == self.edges[lane].mails {
            return;
        }
        self.edges[lane].mails = mails;
        let at = self.settings.mail_at(lane);
        net.acquire(Span { region: self.inbox.0, offset: at as u64, len: 8 });
        // SAFETY: the mail was signalled; one that is written meanwhile says more, and is as true.
        let freed = u64::from_le_bytes(unsafe { slot::read(self.inbox.1.part(at, 8)) });
        self.hear_of_freed(lane, freed);
    }

    /// The peer says how many slots it has given back.
    #[inline]
    pub(crate) fn hear_of_freed(&mut self, lane: usize, freed: u64) {
        let edge = &mut self.edges[lane];
        // A peer cannot give back more than it got, nor take back what it gave.
        edge.freed = freed.clamp(edge.freed, edge.slotted);
    }

    /// Whether the peer has given back the slot that was taken as number `slot`, counted from 0.
    pub(crate) fn is_freed(&mut self, net: &mut dyn Transport, lane: usize, slot: u64) -> bool {
        if self.edges[lane].freed <= slot {
            self.open_mail(net, lane);
        }
        self.edges[lane].freed > slot
    }

    /// The header of the message that goes into the next slot. The peer learns from it what it has back.
    #[inline]
    pub(crate) fn header(&self, lane: usize, digest: u32, bytes: u32, kind: Kind) -> Header {
        let edge = &self.edges[lane];
        Header { freed: edge.unslotted, digest, bytes, kind, stamp: edge.sent + 1 }
    }

    /// The next slot of a coherent peer that is up, if it is known to be free.
    #[inline]
    pub(crate) fn free_slot(&self, lane: usize) -> Option<Memory> {
        let State::Up(Up { window: Some(window), .. }) = &self.state else { return None };
        let edge = &self.edges[lane];
        let is_free = self.coherent && edge.slotted - edge.freed < u64::from(self.settings.slots);
        is_free.then(|| window.part(edge.next_out.at, self.settings.stride()))
    }

    /// The slot of the next message of a coherent peer, if it has arrived.
    #[inline]
    #[allow(unsafe_code, reason = "reads what the peer has written")]
    pub(crate) fn arrived_slot(&self, lane: usize) -> Option<Memory> {
        let edge = &self.edges[lane];
        let slot = self.inbox.1.part(edge.next_in.at, self.settings.stride());
        // SAFETY: the inbox is ours as long as the link.
        (self.coherent && unsafe { slot::stamp(slot) } == edge.taken + 1).then_some(slot)
    }

    /// Whether the connection is up.
    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// The peer's data counter of a lane; `None` when the peer is not up, or looks at headers.
    #[inline]
    pub(crate) fn data_signal(&self, lane: usize) -> Option<Signal> {
        match &self.state {
            State::Up(up) if !self.lined => Some(up.theirs[lane].data),
            State::Up(_) | State::Connecting | State::Lost(_) => None,
        }
    }

    /// The order domain of a lane.
    pub(crate) fn flow(&self, lane: usize) -> Flow {
        self.flows[lane]
    }

    /// Puts a message into a slot whose header is a line by itself: the payload, of a head and spans, then the line. Returns what
    /// became of the payload, and the number of the slot; `None` when the transport is full.
    pub(crate) fn put_lined(
        &mut self,
        net: &mut dyn Transport,
        (lane, token): (usize, Token),
        target: Target,
        (line, head, body): ([u8; PAYLOAD], &[u8], &[Span]),
    ) -> Option<(Posted, u64)> {
        let put = |head, body, at| Put {
            to: Peer(self.peer),
            flow: self.flows[lane],
            head,
            body,
            into: Some(target.into),
            at,
            signal: None,
            token,
        };
        let mut posted = Posted::Done;
        if !(head.is_empty() && body.is_empty()) {
            posted = net.put(&put(head, body, target.at)).ok()?;
        }
        // Nothing is lost when only this one finds the transport full: the payload is put again then.
        net.put(&put(&line, &[], target.at - PAYLOAD as u64)).ok()?;
        Some((posted, self.sent(lane, true)))
    }

    /// A message was posted; through a slot or not. Returns the number of its slot.
    #[inline]
    pub(crate) fn sent(&mut self, lane: usize, through_slot: bool) -> u64 {
        let edge = &mut self.edges[lane];
        let slot = edge.slotted;
        edge.sent += 1;
        if through_slot {
            edge.slotted += 1;
            edge.next_out = self.settings.after(edge.next_out);
            edge.returned = edge.unslotted;
        }
        slot
    }

    /// Whether another message from the peer is here; it lies in a slot or not.
    #[inline]
    #[allow(unsafe_code, reason = "reads what the peer has written")]
    pub(crate) fn arrived(&self, net: &mut dyn Transport, lane: usize) -> bool {
        let edge = &self.edges[lane];
        if self.coherent || self.lined {
            self.acquire(net, lane, 0..PAYLOAD);
            let slot = self.slot_memory(lane);
            // SAFETY: the inbox is ours as long as the link.
            return unsafe { slot::stamp(slot) } == edge.taken + 1;
        }
        net.arrived(self.ours[lane].data) > edge.taken
    }

    fn slot_memory(&self, lane: usize) -> Memory {
        self.inbox.1.part(self.edges[lane].next_in.at, self.settings.stride())
    }

    /// The slot that the next message is in, from its first byte. It has arrived; its header can be read, and its payload after
    /// [`Link::acquire_payload`].
    pub(crate) fn next_slot(&self, net: &mut dyn Transport, lane: usize) -> Memory {
        if !self.lined {
            self.acquire(net, lane, 0..self.settings.stride());
        }
        self.slot_memory(lane)
    }

    /// Makes the payload of the next message readable, which is so long.
    #[inline]
    pub(crate) fn acquire_payload(&self, net: &mut dyn Transport, lane: usize, len: usize) {
        // Elsewhere all of a slot is acquired at once: it costs nothing by its length.
        if self.lined {
            let end = PAYLOAD.saturating_add(len).min(self.settings.stride());
            self.acquire(net, lane, PAYLOAD..end);
        }
    }

    fn acquire(&self, net: &mut dyn Transport, lane: usize, bytes: Range<usize>) {
        if !self.coherent {
            let offset = (self.edges[lane].next_in.at + bytes.start) as u64;
            net.acquire(Span { region: self.inbox.0, offset, len: bytes.len() as u64 });
        }
    }

    /// Stamp that the next message from the peer must have.
    pub(crate) fn next_stamp(&self, lane: usize) -> u64 {
        self.edges[lane].taken + 1
    }

    /// The next message was consumed; it lay in a slot or not.
    #[inline]
    pub(crate) fn take(&mut self, lane: usize, in_slot: bool) {
        let edge = &mut self.edges[lane];
        edge.taken += 1;
        if in_slot {
            edge.unslotted += 1;
            edge.next_in = self.settings.after(edge.next_in);
        }
    }

    /// Whether the peer must be told by mail which slots it has back: once they are half of all, or at once when it waits
    /// for them (`now`). Until then a message that goes its way may tell it. From then on none may: the peer may be
    /// waiting for these slots before it takes another message.
    #[inline]
    pub(crate) fn is_mail_due(&self, lane: usize, now: bool) -> bool {
        let edge = &self.edges[lane];
        let due = edge.unslotted - edge.returned;
        due > 0 && (now || due >= self.settings.batch())
    }

    /// Whether a mail that is due can wait for the next poll: where it takes a system call, and the peer has slots left.
    #[inline]
    pub(crate) fn can_mail_wait(&self, lane: usize) -> bool {
        let edge = &self.edges[lane];
        !self.coherent && edge.unslotted - edge.returned < u64::from(self.settings.slots)
    }

    /// Tells the peer by mail which slots it has back. False when it must be told later: the transport is full, or
    /// messages arrived before the connection was reported to be up.
    #[inline]
    pub(crate) fn mail(&mut self, net: &mut dyn Transport, lane: usize) -> bool {
        let State::Up(up) = &self.state else { return self.is_lost() };
        let edge = &mut self.edges[lane];
        let put = Put {
            head: &edge.unslotted.to_le_bytes(),
            into: Some(up.outbox),
            at: self.settings.mail_at(lane) as u64,
            ..signal(self.peer, self.flows[lane], up.theirs[lane].credits)
        };
        if net.put(&put).is_err() {
            return false;
        }
        edge.returned = edge.unslotted;
        true
    }

    /// Tells the peer, once, whether this process can read its memory.
    pub(crate) fn tell_reads(&mut self, net: &mut dyn Transport) {
        let State::Up(up) = &mut self.state else { return };
        let Some(reads) = up.reads else { return };
        let put = Put {
            head: &u64::from(reads).to_le_bytes(),
            into: Some(up.outbox),
            at: self.settings.reads_at() as u64,
            signal: None,
            ..signal(self.peer, self.flows[0], up.theirs[0].data)
        };
        if net.put(&put).is_ok() {
            up.reads = None;
        }
    }

    /// Tells a peer that reads messages where this side has them that they stand no more: whoever called may change that memory
    /// from now on, once [`slot::before_later_stores`] was passed.
    #[allow(unsafe_code, reason = "writes into the peer's inbox")]
    pub(crate) fn withdraw(&self, net: &mut dyn Transport) {
        let State::Up(Up { outbox, window, theirs, .. }) = &self.state else { return };
        let at = self.settings.withdrawn_at();
        if let Some(window) = window {
            // SAFETY: a window on the peer's inbox is alive as long as the link; nobody else writes this word.
            unsafe { slot::set(window.part(at, 8)) };
        } else if self.in_place {
            let head = &1_u64.to_le_bytes();
            let (into, at) = (Some(*outbox), at as u64);
            let put = Put {
                head,
                into,
                at,
                signal: None,
                ..signal(self.peer, self.flows[0], theirs[0].data)
            };
            // Whose peers read in place writes at once, and is never full.
            let _ = net.put(&put);
        }
    }

    /// Whether what was read until now in memory of the peer's was what the peer meant.
    ///
    /// # Errors
    /// [`Error::Lost`]: it had ended its call meanwhile, without this side's leave, and may have changed that memory.
    #[allow(unsafe_code, reason = "reads what the peer has written")]
    pub(crate) fn stands(&self, net: &mut dyn Transport) -> Result<(), Error> {
        let at = self.settings.withdrawn_at();
        if !self.coherent {
            net.acquire(Span { region: self.inbox.0, offset: at as u64, len: 8 });
        }
        // SAFETY: the inbox is ours as long as the link.
        if unsafe { slot::is_set(self.inbox.1.part(at, 8)) } {
            return Err(Error::Lost { peer: self.peer, source: dure_transport::Error::Closed });
        }
        Ok(())
    }

    /// The region behind a card of the peer's.
    ///
    /// # Errors
    /// [`Error::Transport`] when the peer has no such region.
    pub(crate) fn source(
        &mut self,
        net: &mut dyn Transport,
        card: Card,
    ) -> Result<RemoteRegion, Error> {
        if let Some(source) = self.sources.iter().find(|source| source.card == card) {
            return Ok(source.region);
        }
        let failed = |source| Error::Transport { peer: self.peer, source };
        let region = net.import(Peer(self.peer), &card).map_err(failed)?;
        if self.sources.len() == SOURCES {
            net.forget(self.sources.remove(0).region);
        }
        self.sources.push(Source { card, region });
        Ok(region)
    }

    /// Tells the peer where the messages of this call may land. False when the transport is full.
    pub(crate) fn grant(&mut self, net: &mut dyn Transport, lane: usize, grant: &Grant) -> bool {
        let Up { outbox, theirs, .. } = self.state();
        let head = grant.encode();
        let put = Put {
            head: &head,
            into: Some(*outbox),
            at: self.settings.grant_at(lane) as u64,
            ..signal(self.peer, self.flows[lane], theirs[lane].grants)
        };
        let posted = net.put(&put).is_ok();
        self.edges[lane].granted += u64::from(posted);
        posted
    }

    /// Takes the peer's next grant, when it is here.
    #[allow(unsafe_code, reason = "reads what the peer has signalled")]
    pub(crate) fn take_grant(
        &mut self,
        net: &mut dyn Transport,
        lane: usize,
    ) -> Result<Option<Grant>, Error> {
        if net.arrived(self.ours[lane].grants) <= self.edges[lane].grants_taken {
            return Ok(None);
        }
        let at = self.settings.grant_at(lane);
        net.acquire(Span { region: self.inbox.0, offset: at as u64, len: GRANT as u64 });
        // SAFETY: the grant was signalled, and the peer writes the next one only after this call's messages came.
        let bytes: [u8; GRANT] = unsafe { slot::read(self.inbox.1.part(at, GRANT)) };
        self.edges[lane].grants_taken += 1;
        Grant::decode(&bytes).ok_or(Error::Greeting { peer: self.peer }).map(Some)
    }
}

/// A put of nothing that bumps a counter of the peer.
fn signal(peer: u32, flow: Flow, signal: Signal) -> Put<'static> {
    let to = Peer(peer);
    Put { to, flow, head: &[], body: &[], into: None, at: 0, signal: Some(signal), token: Token(0) }
}

fn hello(key: &Card, settings: Settings, counters: &[Counters]) -> Card {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&settings.slots.to_le_bytes());
    bytes.extend_from_slice(&settings.slot_bytes.to_le_bytes());
    for counter in counters {
        for signal in [counter.data, counter.credits, counter.grants] {
            bytes.extend_from_slice(&signal.0.to_le_bytes());
        }
    }
    bytes.extend_from_slice(&key.0);
    Card(bytes.into())
}

fn parse_hello(card: &Card, settings: Settings) -> Option<(Card, Box<[Counters]>)> {
    let (words, key) = card.0.split_at_checked(4 * (2 + 3 * settings.edges()))?;
    let words: Vec<u32> =
        words.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    if words[..2] != [settings.slots, settings.slot_bytes] {
        return None;
    }
    let counters = words[2..]
        .chunks_exact(3)
        .map(|c| Counters { data: Signal(c[0]), credits: Signal(c[1]), grants: Signal(c[2]) })
        .collect();
    Some((Card(key.into()), counters))
}

/// Entry points for fuzzers: what a peer writes, read as a peer's.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::*;

    /// Reads bytes as the greeting of a peer. What parses is what was made.
    ///
    /// # Panics
    /// When a greeting that parses is not the greeting of what it parsed to.
    pub fn greeting(bytes: &[u8], settings: Settings) {
        let card = Card(bytes.into());
        if let Some((key, counters)) = parse_hello(&card, settings) {
            assert_eq!(hello(&key, settings, &counters), card);
        }
    }

    /// Reads bytes as a grant of a peer; what is missing is zero.
    ///
    /// # Panics
    /// When a grant that was read is another one once written and read again.
    pub fn grant(bytes: &[u8]) {
        let room = |bytes: &[u8]| std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0));
        if let Some(grant) = Grant::decode(&room(bytes)) {
            assert_eq!(Grant::decode(&room(&grant.encode())), Some(grant));
        }
    }
}
