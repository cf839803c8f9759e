//! Links: one per peer, with an edge per lane in each direction. An edge is an ordered stream of messages; it has slots
//! at the receiver and credits at the sender.
//!
//! Memory of a link at each side (its *inbox*, which the peer writes): for each lane `slots` slots, then for each lane
//! one *grant*, in which the peer says where the messages of the next call may land in its user's memory. Three counters
//! a lane at each side: data, credits, grants. The first message of a connection (its `hello`) carries the key of the
//! inbox and the numbers of the counters.

use dure_device::Memory;
use dure_transport::{Card, Peer, Put, Region, RemoteRegion, Signal, Span, Token, Transport};

use crate::Error;
use crate::slot::{self, PAYLOAD};

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
}

impl Settings {
    /// Lanes of a link: those of collectives and the one of messages.
    fn edges(&self) -> usize {
        usize::from(self.lanes) + 1
    }

    fn stride(&self) -> usize {
        PAYLOAD + self.slot_bytes as usize
    }

    fn slot_at(&self, lane: usize, index: u64) -> usize {
        let slot =
            usize::try_from(index % u64::from(self.slots)).expect("fewer slots than addresses");
        (lane * self.slots as usize + slot) * self.stride()
    }

    fn grant_at(&self, lane: usize) -> usize {
        self.edges() * self.slots as usize * self.stride() + lane * GRANT
    }

    fn inbox_bytes(&self) -> usize {
        self.grant_at(self.edges())
    }

    /// Consumed slots that are given back with one credit: half of them, so that a sender is never out of slots while
    /// the receiver keeps up, at half the signals.
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

/// Both directions of one lane of a link.
#[derive(Debug, Default)]
struct Edge {
    /// Messages sent, and those of them that took a slot.
    sent: u64,
    slotted: u64,
    /// Messages received, and those of them that lay in a slot.
    taken: u64,
    unslotted: u64,
    /// Credits given back.
    returned: u64,
    /// Grants given and taken.
    granted: u64,
    grants_taken: u64,
}

#[derive(Debug)]
enum State {
    Connecting,
    Up { outbox: RemoteRegion, window: Option<Memory>, theirs: Box<[Counters]> },
    Lost(Option<dure_transport::Error>),
}

/// The connection to one peer.
#[derive(Debug)]
pub(crate) struct Link {
    peer: u32,
    settings: Settings,
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
    /// The number of the message, when it goes through a slot and needs a header; `None` when it lands.
    pub(crate) slot: Option<u64>,
}

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
            .alloc(settings.inbox_bytes())
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
        let edges = (0..settings.edges()).map(|_| Edge::default()).collect();
        Ok(Self { peer, settings, state: State::Connecting, inbox, ours: ours.into(), edges })
    }

    /// The connection is up.
    pub(crate) fn up(&mut self, net: &mut dyn Transport, greeting: &Card) -> Result<(), Error> {
        let (key, theirs) =
            parse_hello(greeting, self.settings).ok_or(Error::Greeting { peer: self.peer })?;
        let outbox = net
            .import(Peer(self.peer), &key)
            .map_err(|source| Error::Transport { peer: self.peer, source })?;
        self.state = State::Up { outbox, window: net.window(outbox), theirs };
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
    pub(crate) fn ready(&mut self) -> Result<bool, Error> {
        match &mut self.state {
            State::Connecting => Ok(false),
            State::Up { .. } => Ok(true),
            State::Lost(error) => Err(Error::Lost {
                peer: self.peer,
                source: error.take().unwrap_or(dure_transport::Error::Closed),
            }),
        }
    }

    fn up_state(&self) -> (RemoteRegion, Option<Memory>, &[Counters]) {
        match &self.state {
            State::Up { outbox, window, theirs } => (*outbox, *window, theirs),
            State::Connecting | State::Lost(_) => unreachable!("asked `ready` before"),
        }
    }

    /// The next free slot of the peer on a lane.
    pub(crate) fn slot(&self, net: &dyn Transport, lane: usize) -> Option<Target> {
        let edge = &self.edges[lane];
        let freed = net.arrived(self.ours[lane].credits) * self.settings.batch();
        if edge.slotted - freed >= u64::from(self.settings.slots) {
            return None;
        }
        let (outbox, window, _) = self.up_state();
        let at = self.settings.slot_at(lane, edge.slotted) + PAYLOAD;
        let window = window.map(|w| w.part(at, self.settings.slot_bytes as usize));
        Some(Target { into: outbox, at: at as u64, window, slot: Some(edge.sent) })
    }

    /// The peer's data counter of a lane.
    pub(crate) fn data_signal(&self, lane: usize) -> Signal {
        self.up_state().2[lane].data
    }

    /// A message was posted; through a slot or not.
    pub(crate) fn sent(&mut self, lane: usize, through_slot: bool) {
        self.edges[lane].sent += 1;
        self.edges[lane].slotted += u64::from(through_slot);
    }

    /// Whether another message from the peer is here.
    pub(crate) fn arrived(&self, net: &dyn Transport, lane: usize) -> bool {
        net.arrived(self.ours[lane].data) > self.edges[lane].taken
    }

    /// The slot that the next message is in, from its first byte.
    pub(crate) fn next_slot(&self, net: &mut dyn Transport, lane: usize) -> Memory {
        let at = self.settings.slot_at(lane, self.edges[lane].unslotted);
        net.acquire(Span {
            region: self.inbox.0,
            offset: at as u64,
            len: self.settings.stride() as u64,
        });
        self.inbox.1.part(at, self.settings.stride())
    }

    /// Number that the next message from the peer must have.
    pub(crate) fn next_index(&self, lane: usize) -> u64 {
        self.edges[lane].taken
    }

    /// The next message was consumed; it lay in a slot or not.
    pub(crate) fn take(&mut self, lane: usize, in_slot: bool) {
        self.edges[lane].taken += 1;
        self.edges[lane].unslotted += u64::from(in_slot);
    }

    /// Gives back the credits that are due on a lane. False when some must be given later: the transport is full, or
    /// messages arrived before the connection was reported to be up.
    pub(crate) fn give_credits(&mut self, net: &mut dyn Transport, lane: usize) -> bool {
        let State::Up { theirs, .. } = &self.state else {
            return matches!(self.state, State::Lost(_));
        };
        let edge = &mut self.edges[lane];
        while edge.unslotted - edge.returned >= self.settings.batch() {
            let put = signal(self.peer, lane, theirs[lane].credits, net);
            if net.put(&put).is_err() {
                return false;
            }
            edge.returned += self.settings.batch();
        }
        true
    }

    /// Tells the peer where the messages of this call may land. False when the transport is full.
    pub(crate) fn grant(&mut self, net: &mut dyn Transport, lane: usize, grant: &Grant) -> bool {
        let (outbox, _, theirs) = self.up_state();
        let head = grant.encode();
        let mut put = signal(self.peer, lane, theirs[lane].grants, net);
        put.head = &head;
        put.into = Some(outbox);
        put.at = self.settings.grant_at(lane) as u64;
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
pub(crate) fn signal(peer: u32, lane: usize, signal: Signal, net: &dyn Transport) -> Put<'static> {
    let to = Peer(peer);
    let flow = flow(lane, net, to);
    Put { to, flow, head: &[], body: &[], into: None, at: 0, signal: Some(signal), token: Token(0) }
}

/// Lanes share the flows of a connection evenly.
pub(crate) fn flow(lane: usize, net: &dyn Transport, to: Peer) -> dure_transport::Flow {
    let lane = u16::try_from(lane).expect("lanes are counted in 16 bits");
    dure_transport::Flow(lane % net.caps(to).flows)
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
