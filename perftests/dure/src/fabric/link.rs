//! Peers that are reached through a transport: memory on both sides, and the counters that both bump.

use std::time::Duration;

use dure_transport::{
    Card, Event, Flow, Full, Peer, Posted, Put, RemoteRegion, Signal, Span, Token,
};

use super::memory::{Area, sleep};
use super::net::{Net, failed};
use super::test::Kind;
use super::wait::{SPIN, Wait};
use super::write::Landing;
use crate::output::{Failure, chain};

/// Counters of a link, each bumped by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bell {
    /// The peer is ready for the next row.
    Ready,
    /// A message of a latency test is there.
    Ping,
    /// All messages of a flow are there.
    Done,
    /// The peer has seen that all flows are done.
    Seen,
}

const BELLS: usize = 4;
/// Token of messages that are measured, and of those that only make load.
const MEASURED: Token = Token(0);
const LOAD: Token = Token(1);
/// Bytes of a message that makes load, and how many are under way.
pub(super) const LOAD_BYTES: u64 = 64 << 10;
const LOAD_DEPTH: u64 = 16;
/// The flow of load; messages that are measured begin at flow 0.
const LOAD_FLOW: Flow = Flow(1);
/// Turns that a side spins before it sleeps where its help is not needed.
const SPINS: u32 = 200;
/// How long a side sleeps before it looks again whether the peer is there.
const NAP: Duration = Duration::from_millis(100);

/// One peer.
#[derive(Debug)]
struct Link {
    peer: Peer,
    /// What is put from here.
    outbox: Area,
    /// What the peer puts into.
    inbox: Area,
    mine: [Signal; BELLS],
    /// How often each of them has been waited for.
    heard: [u64; BELLS],
    /// Known from when the peer is up.
    theirs: Option<([Signal; BELLS], RemoteRegion)>,
}

/// A message that is put again and again.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) size: u64,
    /// The bytes, when they are copied while posting; they are in the outbox too.
    pub(super) copied: Option<Vec<u8>>,
}

/// A transport with its peers.
pub(super) struct Links {
    kind: Kind,
    net: Net,
    patience: Duration,
    /// How long a wait spins.
    spin: Duration,
    links: Vec<Link>,
    events: Vec<Event>,
    /// Measured messages whose source is free again, since the row began; those that make load, and are posted.
    pub(super) freed: u64,
    load: (u64, u64),
}

impl Links {
    pub(super) fn new(kind: Kind, net: Net, patience: Duration) -> Self {
        let (links, events) = (Vec::new(), Vec::new());
        Self { kind, net, patience, spin: SPIN, links, events, freed: 0, load: (0, 0) }
    }

    /// Ranks share cores: who waits may be on the core that the other one needs, so nobody spins.
    pub(super) fn share_cores(&mut self) {
        self.spin = Duration::ZERO;
    }

    pub(super) fn address(&mut self) -> Card {
        self.net.transport().address()
    }

    /// Starts to connect to a peer, with room for messages of so many bytes. Gives its place.
    pub(super) fn begin(
        &mut self,
        peer: u32,
        address: &Card,
        bytes: u64,
    ) -> Result<usize, Failure> {
        let kind = self.kind;
        let failed = |error| failed(kind, error);
        let len = usize::try_from(bytes.max(LOAD_BYTES)).map_err(|_| {
            Failure::Usage(format!("{bytes} bytes are more than this machine addresses"))
        })?;
        let (peer, net) = (Peer(peer), self.net.transport());
        let outbox = Area::new(net, len).map_err(failed)?;
        let inbox = Area::new(net, len).map_err(failed)?;
        let mut mine = [Signal(0); BELLS];
        for signal in &mut mine {
            *signal = net.counter(peer).map_err(failed)?;
        }
        // A region with a key is registered: then a message is sent from where it is, and not from a copy.
        let keys = net.key(outbox.region, peer).and_then(|_| net.key(inbox.region, peer));
        let key = keys.ok_or_else(|| Failure::Failed("allocated memory has no key".to_owned()))?;
        let mut hello: Vec<u8> = mine.iter().flat_map(|signal| signal.0.to_le_bytes()).collect();
        hello.extend(&key.0);
        net.connect(peer, address, &Card(hello.into())).map_err(failed)?;
        self.links.push(Link { peer, outbox, inbox, mine, heard: [0; BELLS], theirs: None });
        Ok(self.links.len() - 1)
    }

    /// Waits until all peers are up.
    pub(super) fn wait_up(&mut self) -> Result<(), Failure> {
        let mut wait = Wait::new(self.patience, self.spin);
        while self.links.iter().any(|link| link.theirs.is_none()) {
            let events = self.poll();
            for event in events {
                self.hear(event)?;
                wait.progress();
            }
            wait.turn("the connection to the other side")?;
        }
        Ok(())
    }

    /// Empties the events into a new list; only while connecting.
    fn poll(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.net.transport().poll(&mut events);
        events
    }

    fn hear(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Sent(token) if token == LOAD => self.load.1 += 1,
            Event::Sent(_) => self.freed += 1,
            Event::Up { peer, hello } => self.up(peer, &hello)?,
            Event::Lost { peer, error } => {
                let why = chain(&error);
                return Err(Failure::Failed(format!("side {} is lost: {why}", peer.0)));
            }
            Event::Rerouted { route, .. } => {
                return Err(Failure::Failed(format!(
                    "wires failed while they were measured: {route}"
                )));
            }
        }
        Ok(())
    }

    fn up(&mut self, peer: Peer, hello: &Card) -> Result<(), Failure> {
        let wrong = || Failure::Failed(format!("the greeting of side {} makes no sense", peer.0));
        let link = self.links.iter_mut().find(|link| link.peer == peer).ok_or_else(wrong)?;
        let (signals, key) = hello.0.split_at_checked(4 * BELLS).ok_or_else(wrong)?;
        let mut theirs = [Signal(0); BELLS];
        for (signal, bytes) in theirs.iter_mut().zip(signals.chunks_exact(4)) {
            *signal = Signal(u32::from_le_bytes(*bytes.first_chunk().ok_or_else(wrong)?));
        }
        let into = self.net.transport().import(peer, &Card(key.into()));
        link.theirs = Some((theirs, into.map_err(|error| failed(self.kind, error))?));
        Ok(())
    }

    /// Moves on.
    #[inline]
    pub(super) fn turn(&mut self) -> Result<(), Failure> {
        let mut events = std::mem::take(&mut self.events);
        self.net.transport().poll(&mut events);
        let heard = events.drain(..).try_for_each(|event| self.hear(event));
        self.events = events;
        heard
    }

    /// Fills the start of what is put to a peer.
    pub(super) fn fill(&mut self, at: usize, bytes: &[u8]) {
        self.links[at].outbox.fill(bytes);
    }

    /// Makes the first bytes of what the peer has put readable.
    #[inline]
    pub(super) fn acquire(&mut self, at: usize, len: u64) {
        let region = self.links[at].inbox.region;
        self.net.transport().acquire(Span { region, offset: 0, len });
    }

    /// The first bytes of what the peer has put.
    pub(super) fn arrived(&mut self, at: usize, len: usize) -> Vec<u8> {
        self.acquire(at, len as u64);
        self.links[at].inbox.bytes(len)
    }

    /// Most bytes that are copied while posting.
    pub(super) fn most_copied(&mut self, at: usize) -> u64 {
        let peer = self.links[at].peer;
        self.net.transport().caps(peer).head as u64
    }

    /// When messages to a peer have landed, as far as this side can tell.
    pub(super) fn landing(&mut self, at: usize) -> Landing {
        let peer = self.links[at].peer;
        let caps = self.net.transport().caps(peer);
        // Where whole lines land one put after the other, a put that was taken is there.
        match (caps.coherent || caps.whole_lines, caps.unattended) {
            (true, _) => Landing::AtOnce,
            (false, true) => Landing::WhenFree,
            (false, false) => Landing::Unknown,
        }
    }

    /// Whether both sides must poll for anything to move.
    fn is_attended(&mut self, at: usize) -> bool {
        let peer = self.links[at].peer;
        !self.net.transport().caps(peer).unattended
    }

    /// Puts a message, with a bell behind it if given. True when its source is free at once.
    #[inline]
    pub(super) fn put(
        &mut self,
        at: usize,
        message: &Message,
        flow: u16,
        bell: Option<Bell>,
    ) -> Result<bool, Failure> {
        let mut wait = Wait::new(self.patience, self.spin);
        loop {
            let link = &self.links[at];
            let (theirs, into) = link.theirs.expect("messages are put to peers that are up");
            let body = [Span { region: link.outbox.region, offset: 0, len: message.size }];
            let put = Put {
                to: link.peer,
                flow: Flow(flow),
                head: message.copied.as_deref().unwrap_or_default(),
                body: if message.copied.is_some() { &[] } else { &body },
                into: Some(into),
                at: 0,
                signal: bell.map(|bell| theirs[bell as usize]),
                token: MEASURED,
            };
            match self.net.transport().put(&put) {
                Ok(posted) => return Ok(posted == Posted::Done),
                Err(Full) => {
                    let before = self.freed;
                    self.turn()?;
                    if self.freed > before {
                        wait.progress()
                    } else {
                        wait.turn("room for a message")?
                    }
                }
            }
        }
    }

    /// Rings a bell of the peer, behind all that was put to it on this flow.
    pub(super) fn ring(&mut self, at: usize, bell: Bell, flow: u16) -> Result<(), Failure> {
        let nothing = Message { size: 0, copied: Some(Vec::new()) };
        self.put(at, &nothing, flow, Some(bell)).map(|_| ())
    }

    /// Whether the peer has rung so many times more than was waited for.
    #[inline]
    pub(super) fn has_rung(&mut self, at: usize, bell: Bell, times: u64) -> bool {
        let link = &self.links[at];
        let (signal, heard) = (link.mine[bell as usize], link.heard[bell as usize]);
        self.net.transport().arrived(signal) >= heard + times
    }

    /// Takes note that the peer has rung so many times.
    #[inline]
    pub(super) fn note(&mut self, at: usize, bell: Bell, times: u64) {
        self.links[at].heard[bell as usize] += times;
    }

    /// Waits until the peer has rung so many times more; sleeps if it takes long and the transport needs no help.
    pub(super) fn expect(&mut self, at: usize, bell: Bell, times: u64) -> Result<(), Failure> {
        let may_sleep = !self.is_attended(at);
        let mut turns = 0;
        loop {
            self.turn()?;
            // Asked after every look: what has been seen rings nobody awake.
            if self.has_rung(at, bell, times) {
                break;
            }
            turns += 1;
            if turns < SPINS {
                std::hint::spin_loop();
            } else if may_sleep {
                sleep(self.net.transport(), NAP);
            } else {
                std::thread::yield_now();
            }
        }
        self.note(at, bell, times);
        Ok(())
    }

    /// Waits until both sides are ready for the next row.
    pub(super) fn meet(&mut self, at: usize) -> Result<(), Failure> {
        self.ring(at, Bell::Ready, 0)?;
        self.expect(at, Bell::Ready, 1)
    }

    /// Keeps load under way: one message more, if there is room.
    #[inline]
    pub(super) fn feed(&mut self, at: usize) {
        let (posted, freed) = self.load;
        if posted - freed >= LOAD_DEPTH {
            return;
        }
        let link = &self.links[at];
        let (_, into) = link.theirs.expect("messages are put to peers that are up");
        let body = [Span { region: link.outbox.region, offset: 0, len: LOAD_BYTES }];
        let put = Put {
            to: link.peer,
            flow: LOAD_FLOW,
            head: &[],
            body: &body,
            into: Some(into),
            at: 0,
            signal: None,
            token: LOAD,
        };
        match self.net.transport().put(&put) {
            Ok(Posted::Done) => self.load = (posted + 1, freed + 1),
            Ok(Posted::Pending) => self.load.0 += 1,
            Err(Full) => {}
        }
    }

    /// Waits until the source of everything that was put is free: `pending` measured messages, and the load.
    pub(super) fn drain(&mut self, pending: u64) -> Result<(), Failure> {
        let mut wait = Wait::new(self.patience, self.spin);
        while self.freed < pending || self.load.1 < self.load.0 {
            let before = (self.freed, self.load.1);
            self.turn()?;
            if before == (self.freed, self.load.1) {
                wait.turn("messages to leave")?;
            } else {
                wait.progress();
            }
        }
        self.freed = 0;
        Ok(())
    }

    pub(super) fn wait(&self) -> Wait {
        Wait::new(self.patience, self.spin)
    }

    /// Both ends of each queue pair to a peer, in words; empty where there are none.
    pub(super) fn ends(&self, at: usize) -> Option<([String; 2], u32)> {
        match &self.net {
            Net::Plain(_) => None,
            Net::Rdma(opened) => {
                let wires = opened.wires(self.links[at].peer);
                wires.first().map(|wire| (super::device::ends(wire), wire.mtu))
            }
        }
    }

    /// Most flows to a peer.
    pub(super) fn most_flows(&mut self, at: usize) -> u16 {
        let peer = self.links[at].peer;
        self.net.transport().caps(peer).flows
    }
}
