//! A peer that is not up yet, and how it comes up.
//!
//! Each side makes its queue pairs and gives their numbers to the side channel as its greeting. When that is up, both have
//! proven that they belong to the job, each knows the other's offer, and brings its queue pairs to RTS. Then it writes its
//! own greeting into the other's memory over the side channel: whoever has it knows that the other side can receive.

use std::ops::Range;

use dure_transport::{Card, Event, Peer, Region};

use crate::card::{
    Address, Notes, Offer, PortCard, QUEUES, QueueNumbers, Rail, WHY, clipped, list, rails,
};
use crate::error::{Error, Result};
use crate::failover::Change;
use crate::flow::Lane;
use crate::in_use::InUse;
use crate::mailbox::{CONTROL, Letter, Mailbox, note};
use crate::queue::{Ends, Queue};
use crate::region::index;
use crate::transport::Rdma;

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
    /// All that there are, in use or not.
    pub(crate) rails: Box<[Rail]>,
    pub(crate) in_use: InUse,
    /// Places of the queue pairs: flow by flow, in each rail by rail.
    pub(crate) queues: Range<usize>,
    pub(crate) lanes: Box<[Lane]>,
    pub(crate) mailbox: Mailbox,
    /// By which the peer speaks.
    pub(crate) ours: Notes,
    /// By which this side speaks, once the peer has offered.
    pub(crate) theirs: Option<Notes>,
    pub(crate) change: Change,
}

impl Pair {
    /// Whether puts have to wait: for the peer, or for those that are sent again.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.change.is_under_way() || self.lanes.iter().any(|lane| !lane.again.is_empty())
    }

    /// The place of a flow's queue pair on a rail.
    #[inline]
    pub(crate) fn queue(&self, flow: u16, rail: usize) -> usize {
        self.queues.start + usize::from(flow) * self.rails.len() + rail
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

/// A note that the side channel has not taken.
#[derive(Debug)]
pub(crate) struct Farewell {
    peer: Peer,
    mailbox: Mailbox,
    note: Note,
    notes: Notes,
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
        for rail in &rails {
            // By the time the peer has answered, the kernel knows the way.
            rail.neighbour(&self.nics, &address.ports);
        }
        let made = self.make_queues(peer, &rails)?;
        let queues = self.place_queues(self.queues.len(), made);
        let begun = self.offer(peer, address, (rails, queues.clone()), hello);
        if begun.is_err() {
            self.end_queues(queues);
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
            let (ours, theirs) = (list(&own.ports), list(&address.ports));
            let why = format!("here {ours}; rank {} has {theirs}", peer.0);
            return Err(Error::NoWay { why });
        }
        Ok(found.into())
    }

    /// Makes the queue pairs for a peer, in the state INIT; of devices that are gone, their stand-ins.
    pub(crate) fn make_queues(&mut self, peer: Peer, rails: &[Rail]) -> Result<Vec<Queue>> {
        let mut made = Vec::new();
        for flow in 0..self.flows {
            for (place, rail) in rails.iter().enumerate() {
                let (whose, which) = ((rail.here, peer.0), (flow, place));
                made.push(self.nics[rail.here].make_queue(whose, which)?);
            }
        }
        Ok(made)
    }

    /// Puts queue pairs in their places: where others have ended, or behind all.
    pub(crate) fn place_queues(&mut self, first: usize, made: Vec<Queue>) -> Range<usize> {
        let places = first..first + made.len();
        for (at, queue) in places.clone().zip(made) {
            if queue.is_alive() {
                self.nics[queue.nic].queues.insert(queue.number, at);
            }
            match self.queues.get_mut(at) {
                Some(place) => *place = queue,
                None => self.queues.push(queue),
            }
        }
        places
    }

    /// What the peer needs to know of some queue pairs.
    pub(crate) fn numbers(&self, queues: Range<usize>) -> Vec<QueueNumbers> {
        self.queues[queues].iter().map(|queue| (queue.number, queue.packet)).collect()
    }

    /// Gives the side channel what the peer needs to know.
    fn offer(
        &mut self,
        peer: Peer,
        address: Address,
        (rails, queues): (Box<[Rail]>, Range<usize>),
        hello: &Card,
    ) -> dure_transport::Result<()> {
        let (mailbox, key) = Mailbox::new(&mut *self.side, peer)?;
        mailbox.write(Letter::Greeting, &hello.0);
        let mut counter = || self.side.counter(peer);
        let ours = Notes {
            greeted: counter()?,
            given_up: counter()?,
            blamed: counter()?,
            stated: counter()?,
            ready: counter()?,
        };
        let offer = Offer { mailbox: key, notes: ours, queues: self.numbers(queues.clone()) };
        let change = Change::new(rails.len());
        let in_use = InUse::new(&rails, change.usable());
        let pair = Pair {
            stage: Stage::Dialling,
            there: address.ports,
            in_use,
            rails,
            queues,
            lanes: (0..self.flows).map(|flow| Lane::new(in_use.order(flow))).collect(),
            mailbox,
            ours,
            theirs: None,
            change,
        };
        self.side.connect(peer, &address.side, &offer.encode())?;
        *self.link(peer) = Link::There(Box::new(pair));
        Ok(())
    }

    /// Whether the side channel has to be heard at each poll: some peer is not up yet, or its rails change, or it has none.
    pub(crate) fn needs_side(&self) -> bool {
        let needs =
            |pair: &Pair| pair.stage != Stage::Up || pair.is_held() || pair.in_use.count() == 0;
        let link_needs = |link: &Link| matches!(link, Link::There(pair) if needs(pair));
        !self.farewells.is_empty() || self.links.iter().any(link_needs)
    }

    /// Hears what the side channel has to say.
    pub(crate) fn hear_side(&mut self, events: &mut Vec<Event>) {
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
                Event::Sent(token) if token != CONTROL => events.push(Event::Sent(token)),
                Event::Sent(_) | Event::Rerouted { .. } => {}
            }
        }
        self.say_farewells();
        self.clear_graves();
        for (nic, error) in std::mem::take(&mut self.regions.get_mut().gone) {
            self.lose_nic(nic, &error, events);
        }
        for peer in (0..self.links.len()).map(|at| Peer(u32::try_from(at).expect("a rank"))) {
            self.hear_notes(peer, events);
            self.drive_change(peer, events);
        }
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
        let opened = pair.mailbox.open(&mut *self.side, peer, &offer.mailbox);
        opened.map_err(|_| Error::NoWay { why: "the peer is gone again".to_owned() })?;
        pair.theirs = Some(offer.notes);
        pair.stage = Stage::Greeting;
        let queues = pair.queues.clone();
        for (at, theirs) in queues.zip(&offer.queues) {
            self.connect_queue(peer, at, *theirs, false)?;
        }
        let Some(Link::There(pair)) = self.links.get(index(peer.0)) else { return Ok(()) };
        let (in_use, queues, greeted) = (pair.in_use, pair.queues.clone(), offer.notes.greeted);
        let taken = pair.mailbox.send(&mut *self.side, peer, Letter::Greeting, greeted);
        debug_assert!(taken, "a fresh connection takes a first put");
        self.take_turns(in_use, queues);
        Ok(())
    }

    /// Tells queue pairs the place of their rail among those in use.
    pub(crate) fn take_turns(&mut self, in_use: InUse, queues: Range<usize>) {
        for queue in &mut self.queues[queues] {
            let turn = (0..in_use.count()).find(|turn| in_use.place(*turn) == queue.rail);
            queue.turn = turn.unwrap_or(0);
        }
    }

    /// Brings a queue pair to RTS, `again` when it was there before.
    pub(crate) fn connect_queue(
        &mut self,
        peer: Peer,
        at: usize,
        theirs: QueueNumbers,
        again: bool,
    ) -> Result<()> {
        let Some(Link::There(pair)) = self.links.get(index(peer.0)) else { return Ok(()) };
        let queue = &mut self.queues[at];
        let rail = pair.rails[queue.rail];
        let (here, there) = (&self.nics[rail.here], &pair.there[rail.there]);
        let ends = Ends { peer: peer.0, here, there, rail, theirs };
        if again {
            queue.reconnect(&ends, self.patience)
        } else {
            queue.connect(&ends, self.patience)
        }
    }

    /// Looks at what a peer has written over the side channel.
    fn hear_notes(&mut self, peer: Peer, events: &mut Vec<Event>) {
        let Some(pair) = self.pair(peer) else { return };
        let (stage, notes) = (pair.stage, pair.ours);
        if self.side.arrived(notes.blamed) > 0 {
            let what = NOT_EXPOSED;
            self.reap(events);
            return self.lose(peer, dure_transport::Error::Protocol { what }, events);
        }
        if self.side.arrived(notes.given_up) > 0 {
            let why = self.letter(peer, Letter::Reason).unwrap_or_default();
            let why = String::from_utf8_lossy(&why).into_owned();
            self.reap(events);
            return self.lose(peer, Error::GivenUp { why }.into(), events);
        }
        if stage == Stage::Greeting && self.side.arrived(notes.greeted) > 0 {
            match self.letter(peer, Letter::Greeting) {
                Some(hello) => {
                    self.pair_mut(peer).expect("it was asked above").stage = Stage::Up;
                    events.push(Event::Up { peer, hello: Card(hello.into()) });
                }
                None => {
                    let what = "a greeting longer than a card";
                    let error = dure_transport::Error::Protocol { what };
                    self.give_up(peer, error, Note::GivenUp, events);
                }
            }
        }
    }

    /// A letter that the peer has signalled.
    pub(crate) fn letter(&mut self, peer: Peer, letter: Letter) -> Option<Vec<u8>> {
        let Some(Link::There(pair)) = self.links.get(index(peer.0)) else { return None };
        pair.mailbox.read(&mut *self.side, letter)
    }

    /// Ends the connection to a peer, and tells it.
    pub(crate) fn give_up(
        &mut self,
        peer: Peer,
        error: dure_transport::Error,
        note: Note,
        events: &mut Vec<Event>,
    ) {
        let Link::There(pair) = std::mem::replace(self.link(peer), Link::Lost) else { return };
        self.end_pair(&pair);
        if let Some(notes) = pair.theirs {
            let mailbox = pair.mailbox;
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let why = cause.unwrap_or_else(|| error.to_string());
            mailbox.write(Letter::Reason, clipped(&why, WHY).as_bytes());
            self.farewells.push(Farewell { peer, mailbox, note, notes });
            self.say_farewells();
        }
        events.push(Event::Lost { peer, error });
    }

    /// The same outside of `poll`, whose next call reports it.
    pub(crate) fn give_up_outside(&mut self, peer: Peer, error: dure_transport::Error) {
        let mut told = std::mem::take(&mut self.told);
        self.give_up(peer, error, Note::GivenUp, &mut told);
        self.told = told;
    }

    /// Tells peers that their connection was given up, as far as the side channel has room. A peer that does not poll it
    /// finds out when it does something.
    pub(crate) fn say_farewells(&mut self) {
        let side = &mut *self.side;
        self.farewells.retain(|Farewell { peer, mailbox, note: what, notes }| match what {
            Note::GivenUp => !mailbox.send(side, *peer, Letter::Reason, notes.given_up),
            Note::Blamed => side.put(&note(*peer, notes.blamed)).is_err(),
        });
    }

    /// A region is released that puts still read: their connections are given up.
    pub(crate) fn give_up_readers(&mut self, region: Region) {
        let reads = |at: usize| self.flights[at].spans.iter().any(|span| span.region == region);
        let peer_reads = |link: &Link| match link {
            Link::There(pair) => pair.lanes.iter().any(|lane| lane.flights().any(reads)),
            _ => false,
        };
        let ranks = (0_u32..).zip(&self.links).filter(|(_, link)| peer_reads(link));
        let peers: Vec<_> = ranks.map(|(rank, _)| Peer(rank)).collect();
        for peer in peers {
            self.give_up_outside(peer, Error::Released.into());
        }
    }
}
