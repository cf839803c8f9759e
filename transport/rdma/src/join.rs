//! A peer that is not up yet, and how it comes up.
//!
//! Each side makes its queue pairs and gives their numbers to the side channel as its greeting. When that is up, both have
//! proven that they belong to the job, each knows the other's offer, and brings its queue pairs to RTS. Then it writes its
//! own greeting into the other's memory over the side channel: whoever has it knows that the other side can receive.

use std::ops::Range;

use dure_device::Memory;
use dure_transport::proof::random_bytes;
use dure_transport::{Card, Event, Flow, Peer, Put, Region, RemoteRegion, Signal, Span, Token};

use crate::NAME;
use crate::card::{Address, Offer, PortCard, QUEUES, Rail, rails};
use crate::error::{Error, Result};
use crate::memory;
use crate::nic::Nic;
use crate::queue::{Ends, Queue};
use crate::region::index;
use crate::stripe::Order;
use crate::transport::Rdma;

/// Bytes of a greeting as it travels: its length in two bytes, then the greeting.
const GREETING: usize = 2 + Card::MAX;
/// Where the own greeting lies, behind the place for the peer's.
const OWN: usize = GREETING.next_multiple_of(64);
/// How often a note to the peer is tried again when the side channel is full.
const NOTES: usize = 1000;

/// What a peer did whose write was refused.
pub(crate) const NOT_EXPOSED: &str = "a put into memory that is not, or no longer, exposed to it";

/// What there is of a peer.
#[derive(Debug, Default)]
pub(crate) enum Link {
    #[default]
    None,
    There(Box<Pair>),
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The side channel is not up.
    Dialling,
    /// The peer's greeting has not come.
    Greeting,
    Up,
}

/// Both ends of a pair of ranks.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) stage: Stage,
    pub(crate) there: Vec<PortCard>,
    pub(crate) rails: Box<[Rail]>,
    /// Of each rail, in Mb/s.
    pub(crate) bandwidths: Box<[u64]>,
    /// Places of the queue pairs.
    pub(crate) queues: Range<usize>,
    /// Of each flow.
    pub(crate) orders: Box<[Order]>,
    /// Region of the side channel for both greetings.
    greetings: (Region, Memory),
    /// Length of the own one with its length.
    own_len: usize,
    greeted: Signal,
    given_up: Signal,
    blamed: Signal,
    /// What the peer offered, once it is known.
    theirs: Option<Offer>,
}

impl Pair {
    /// The rail whose queue pair carries what a flow does not stripe.
    #[inline]
    pub(crate) fn home(&self, flow: u16) -> usize {
        usize::from(flow) % self.rails.len()
    }
}

/// A note to the peer over the side channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// This side gave the connection up.
    GivenUp,
    /// The peer's device refused a write of this side.
    Blamed,
}

impl Rdma {
    /// Starts to connect to a peer.
    pub(crate) fn begin(
        &mut self,
        peer: Peer,
        address: &Card,
        hello: &Card,
    ) -> dure_transport::Result<()> {
        assert!(hello.0.len() <= Card::MAX, "a greeting is no longer than a card");
        let address = Address::decode(address)?;
        let first_time = matches!(self.link(peer), Link::None);
        assert!(first_time, "connect is called once per peer, and peer {} is known", peer.0);
        let rails = self.rails_to(peer, &address)?;
        let queues = self.make_queues(peer, &rails)?;
        let begun = self.offer(peer, address, (rails, queues.clone()), hello);
        if begun.is_err() {
            for at in queues {
                let queue = &mut self.queues[at];
                queue.end();
                self.nics[queue.nic].queues.remove(&queue.number);
            }
            *self.link(peer) = Link::Lost;
        }
        self.look = true;
        begun
    }

    fn rails_to(&self, peer: Peer, address: &Address) -> Result<Box<[Rail]>> {
        let own = self.own_address();
        let mut found = rails(&own.ports, &address.ports, self.me < peer);
        found.truncate((QUEUES / usize::from(self.flows)).max(1));
        if found.is_empty() {
            let list = |ports: &[PortCard]| {
                let port = |port: &PortCard| {
                    let gids: Vec<_> = port.gids.iter().map(ToString::to_string).collect();
                    format!("{} port {} [{}]", port.device, port.number, gids.join(", "))
                };
                ports.iter().map(port).collect::<Vec<_>>().join(", ")
            };
            let why =
                format!("here {}; rank {} has {}", list(&own.ports), peer.0, list(&address.ports));
            return Err(Error::NoWay { why });
        }
        Ok(found.into())
    }

    /// Makes the queue pairs for a peer, in the state INIT.
    fn make_queues(&mut self, peer: Peer, rails: &[Rail]) -> Result<Range<usize>> {
        let first = self.queues.len();
        for flow in 0..self.flows {
            for (place, rail) in rails.iter().enumerate() {
                let [a, b, c] = random_bytes().map_err(|_| Error::System {
                    call: "read /dev/urandom",
                    source: std::io::Error::last_os_error(),
                })?;
                let packet = u32::from_le_bytes([a, b, c, 0]);
                let nic = &self.nics[rail.here];
                let queue = Queue::new(nic, (rail.here, peer.0), (flow, place), packet)?;
                self.nics[rail.here].queues.insert(queue.number, self.queues.len());
                self.queues.push(queue);
            }
        }
        Ok(first..self.queues.len())
    }

    /// Gives the side channel what the peer needs to know.
    fn offer(
        &mut self,
        peer: Peer,
        address: Address,
        (rails, queues): (Box<[Rail]>, Range<usize>),
        hello: &Card,
    ) -> dure_transport::Result<()> {
        let greetings = self.side.alloc(OWN + GREETING)?;
        let no_key = dure_transport::Error::BadCard { transport: NAME };
        let key = self.side.key(greetings.0, peer).ok_or(no_key)?;
        let len = u16::try_from(hello.0.len()).expect("a greeting is no longer than a card");
        let own = [&len.to_le_bytes(), &hello.0[..]].concat();
        // SAFETY: the memory is new, and the peer does not know it yet.
        unsafe { memory::write(greetings.1.part(OWN, own.len()), &own) };
        let mut counter = || self.side.counter(peer);
        let (greeted, given_up, blamed) = (counter()?, counter()?, counter()?);
        let number = |queue: &Queue| (queue.number, queue.packet);
        let numbers = self.queues[queues.clone()].iter().map(number).collect();
        let offer = Offer { greeting: key, greeted, given_up, blamed, queues: numbers };
        let order = |flow: u16| Order::new(rails.len(), usize::from(flow) % rails.len());
        let pair = Pair {
            stage: Stage::Dialling,
            there: address.ports,
            bandwidths: rails.iter().map(|rail| rail.speed.into()).collect(),
            queues,
            orders: (0..self.flows).map(order).collect(),
            rails,
            greetings,
            own_len: own.len(),
            greeted,
            given_up,
            blamed,
            theirs: None,
        };
        self.side.connect(peer, &address.side, &offer.encode())?;
        *self.link(peer) = Link::There(Box::new(pair));
        Ok(())
    }

    /// Whether some peer is not up yet.
    pub(crate) fn is_joining(&self) -> bool {
        let joins = |link: &Link| matches!(link, Link::There(pair) if pair.stage != Stage::Up);
        self.links.iter().any(joins)
    }

    /// Hears what the side channel and the devices have to say.
    pub(crate) fn listen(&mut self, events: &mut Vec<Event>) {
        let mut heard = Vec::new();
        self.side.poll(&mut heard);
        for event in heard {
            match event {
                Event::Up { peer, hello } => {
                    if let Err(error) = self.meet(peer, &hello) {
                        self.give_up(peer, error.into(), Note::GivenUp, events);
                    }
                }
                Event::Lost { peer, error } => {
                    // What arrived before counts.
                    self.reap(events);
                    self.lose(peer, error, events);
                }
                Event::Sent(_) => {}
            }
        }
        for peer in (0..self.links.len()).map(|at| Peer(u32::try_from(at).expect("a rank"))) {
            self.hear_notes(peer, events);
        }
        self.hear_devices(events);
    }

    /// The side channel to a peer is up, so the peer is proven, and this is its offer.
    fn meet(&mut self, peer: Peer, offer: &Card) -> Result<()> {
        let broken = |_| Error::NoWay { why: "the peer's offer makes no sense".to_owned() };
        let offer = Offer::decode(offer).map_err(broken)?;
        let Some(Link::There(pair)) = self.links.get_mut(index(peer.0)) else { return Ok(()) };
        if offer.queues.len() != pair.queues.len() {
            let (ours, theirs) = (pair.queues.len(), offer.queues.len());
            let why = format!(
                "this side has {ours} queue pairs for rank {}, which has {theirs}: DURE_RDMA_FLOWS differs",
                peer.0
            );
            return Err(Error::NoWay { why });
        }
        for (at, theirs) in pair.queues.clone().zip(&offer.queues) {
            let queue = &mut self.queues[at];
            let rail = pair.rails[queue.rail];
            let here: &Nic = &self.nics[rail.here];
            let there = &pair.there[rail.there];
            let ends = Ends { peer: peer.0, here, there, rail, theirs: *theirs };
            queue.connect(&ends, self.patience)?;
        }
        let import = self.side.import(peer, &offer.greeting);
        let into = import.map_err(|_| Error::NoWay { why: "the peer is gone again".to_owned() })?;
        let (greetings, len) = (pair.greetings.0, pair.own_len);
        let greeted = offer.greeted;
        pair.theirs = Some(offer);
        pair.stage = Stage::Greeting;
        self.greet(peer, (greetings, len), into, greeted);
        Ok(())
    }

    /// Writes the greeting into the peer's memory.
    fn greet(
        &mut self,
        peer: Peer,
        (region, len): (Region, usize),
        into: RemoteRegion,
        greeted: Signal,
    ) {
        let body = [Span { region, offset: OWN as u64, len: len as u64 }];
        let put = Put { body: &body, into: Some(into), signal: Some(greeted), ..nothing(peer) };
        let taken = self.side.put(&put);
        debug_assert!(taken.is_ok(), "a fresh connection takes a first put");
    }

    /// Looks at what a peer has written over the side channel.
    fn hear_notes(&mut self, peer: Peer, events: &mut Vec<Event>) {
        let Some(pair) = self.pair(peer) else { return };
        if self.side.arrived(pair.blamed) > 0 {
            let what = NOT_EXPOSED;
            self.reap(events);
            return self.lose(peer, dure_transport::Error::Protocol { what }, events);
        }
        if self.side.arrived(pair.given_up) > 0 {
            self.reap(events);
            return self.lose(peer, Error::GivenUp.into(), events);
        }
        if pair.stage == Stage::Greeting && self.side.arrived(pair.greeted) > 0 {
            match self.greeting(peer) {
                Some(hello) => events.push(Event::Up { peer, hello }),
                None => {
                    let what = "a greeting longer than a card";
                    let error = dure_transport::Error::Protocol { what };
                    self.give_up(peer, error, Note::GivenUp, events);
                }
            }
        }
    }

    /// The greeting of a peer, which is up with it.
    fn greeting(&mut self, peer: Peer) -> Option<Card> {
        let Some(Link::There(pair)) = self.links.get_mut(index(peer.0)) else { return None };
        let (region, place) = pair.greetings;
        self.side.acquire(Span { region, offset: 0, len: GREETING as u64 });
        // SAFETY: the peer has signalled that it is written.
        let bytes = unsafe { memory::read(place.part(0, GREETING)) };
        let len = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let hello = bytes.get(2..2 + len)?;
        pair.stage = Stage::Up;
        Some(Card(hello.into()))
    }

    /// Ends the connection to a peer, and tells it.
    pub(crate) fn give_up(
        &mut self,
        peer: Peer,
        error: dure_transport::Error,
        note: Note,
        events: &mut Vec<Event>,
    ) {
        let theirs = self.pair(peer).and_then(|pair| pair.theirs.as_ref());
        let signal = theirs.map(|offer| match note {
            Note::GivenUp => offer.given_up,
            Note::Blamed => offer.blamed,
        });
        self.lose(peer, error, events);
        let put = Put { signal, ..nothing(peer) };
        // A peer that does not poll its side channel finds out when it does something.
        for _ in 0..NOTES {
            if signal.is_none() || self.side.put(&put).is_ok() {
                break;
            }
            let mut heard = Vec::new();
            self.side.poll(&mut heard);
            for event in heard {
                if let Event::Lost { peer, error } = event {
                    self.lose(peer, error, events);
                }
            }
        }
    }

    /// A region is released that puts still read: their connections are given up.
    pub(crate) fn give_up_readers(&mut self, region: Region) {
        let reads = |at: &usize| self.flights[*at].reads.contains(&region.0);
        let queue_reads = |queue: &Queue| queue.flights().any(|at| reads(&at));
        let mut peers: Vec<_> = self
            .queues
            .iter()
            .filter(|queue| queue_reads(queue))
            .map(|queue| Peer(queue.peer))
            .collect();
        peers.dedup();
        let mut told = std::mem::take(&mut self.told);
        for peer in peers {
            self.give_up(peer, Error::Released.into(), Note::GivenUp, &mut told);
        }
        self.told.append(&mut told);
    }
}

/// A put of nothing to a peer, to be filled in.
fn nothing(to: Peer) -> Put<'static> {
    Put {
        to,
        flow: Flow(0),
        head: &[],
        body: &[],
        into: None,
        at: 0,
        signal: None,
        token: Token(0),
    }
}
