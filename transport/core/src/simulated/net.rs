//! The network itself: clock, agenda, what is on its way, and faults.

use std::collections::BTreeMap;

use super::Options;
use super::random::Random;
use super::rank::{Rank, Source};
use crate::{Card, Error, Event, Full, Peer, Posted, Put, Region, Signal, Token};

/// Something that happens when its time comes.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// The body of a packet is read.
    Read(u64),
    /// Something of rank `from` reaches rank `to`.
    Arrive { from: u32, to: u32, what: Arrival },
}

/// What comes to a rank from a peer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrival {
    /// The connection is up.
    Up,
    /// The connection is lost.
    Lost,
    /// The first half of a packet.
    Half(u64),
    /// The rest of a packet.
    Rest(u64),
}

/// A put on its way.
#[derive(Debug)]
struct Packet {
    from: u32,
    to: u32,
    flow: usize,
    /// Head, and body once it is read.
    data: Vec<u8>,
    /// What is still to be read.
    body: Vec<Source>,
    into: Option<Region>,
    at: u64,
    signal: Option<Signal>,
    /// Given back when the body is read.
    token: Option<Token>,
}

impl Packet {
    fn read(&mut self) {
        for source in self.body.drain(..) {
            self.data.extend(source.read());
        }
    }
}

/// One direction between two ranks.
#[derive(Debug)]
struct Link {
    /// What the sender gave to its connect.
    hello: Option<Card>,
    up: bool,
    lost: bool,
    split: bool,
    /// What a partition holds up.
    held: Vec<Arrival>,
    flows: Vec<Line>,
}

/// One flow of a link.
#[derive(Clone, Debug, Default)]
struct Line {
    on_the_way: usize,
    /// When the last body is read.
    read: u64,
    /// When the last packet arrives.
    arrive: u64,
}

/// All ranks and what is between them.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) options: Options,
    pub(super) ranks: Vec<Rank>,
    random: Random,
    now: u64,
    /// By time, then by order of entry.
    agenda: BTreeMap<(u64, u64), Action>,
    packets: BTreeMap<u64, Packet>,
    /// By sender and receiver.
    links: BTreeMap<(u32, u32), Link>,
    /// Numbers given to entries and packets so far.
    numbers: u64,
}

impl Net {
    pub(super) fn new(ranks: u32, options: Options) -> Self {
        Self {
            ranks: (0..ranks).map(|_| Rank::new()).collect(),
            random: Random::new(options.seed),
            options,
            now: 0,
            agenda: BTreeMap::new(),
            packets: BTreeMap::new(),
            links: BTreeMap::new(),
            numbers: 0,
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn rank(&mut self, rank: u32) -> &mut Rank {
        &mut self.ranks[rank as usize]
    }

    fn link(&mut self, from: u32, to: u32) -> &mut Link {
        let flows = usize::from(self.options.flows);
        self.links.entry((from, to)).or_insert_with(|| Link {
            hello: None,
            up: false,
            lost: false,
            split: false,
            held: Vec::new(),
            flows: vec![Line::default(); flows],
        })
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn latency(&mut self, a: u32, b: u32) -> u64 {
        let factor = self.rank(a).slow * self.rank(b).slow;
        self.random.within(&self.options.latency) * factor
    }

    fn at(&mut self, time: u64, action: Action) {
        let number = self.number();
        self.agenda.insert((time, number), action);
    }

    fn arrive(&mut self, time: u64, from: u32, to: u32, what: Arrival) {
        self.at(time, Action::Arrive { from, to, what });
    }

    pub(super) fn step(&mut self) -> bool {
        let Some(&(time, _)) = self.agenda.keys().next() else { return false };
        self.run_until(time);
        true
    }

    pub(super) fn advance(&mut self, nanoseconds: u64) {
        self.run_until(self.now + nanoseconds);
    }

    fn run_until(&mut self, time: u64) {
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= time) {
            let ((now, _), action) = entry.remove_entry();
            self.now = now;
            self.perform(action);
        }
        self.now = time;
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Read(packet) => self.read(packet),
            Action::Arrive { from, to, what } => {
                let link = self.link(from, to);
                if link.split {
                    link.held.push(what);
                } else if self.options.unattended {
                    self.take_in(from, to, what);
                } else {
                    self.rank(to).due.push_back((from, what));
                }
            }
        }
    }

    fn take_in(&mut self, from: u32, to: u32, what: Arrival) {
        match what {
            Arrival::Up => self.come_up(to, from),
            Arrival::Lost => self.lose(to, from, Error::Closed),
            Arrival::Half(packet) => self.land(packet, false),
            Arrival::Rest(packet) => self.land(packet, true),
        }
    }

    /// Starts to connect.
    pub(super) fn connect(&mut self, at: u32, peer: u32, hello: &Card) {
        let previous = self.link(at, peer).hello.replace(hello.clone());
        assert!(previous.is_none(), "a peer is connected to once");
        let when = self.now + self.latency(at, peer);
        if !self.ranks[peer as usize].alive {
            self.arrive(when, peer, at, Arrival::Lost);
        } else if self.link(peer, at).hello.is_some() {
            self.arrive(when, peer, at, Arrival::Up);
            let when = self.now + self.latency(at, peer);
            self.arrive(when, at, peer, Arrival::Up);
        }
    }

    fn come_up(&mut self, at: u32, peer: u32) {
        let hello = self.link(peer, at).hello.clone().expect("both sides connected");
        let link = self.link(at, peer);
        if !link.lost {
            link.up = true;
            self.rank(at).inbox.push(Event::Up { peer: Peer(peer), hello });
        }
    }

    pub(super) fn is_up(&self, at: u32, peer: u32) -> bool {
        self.links.get(&(at, peer)).is_some_and(|link| link.up)
    }

    pub(super) fn is_lost(&self, at: u32, peer: u32) -> bool {
        self.links.get(&(at, peer)).is_some_and(|link| link.lost)
    }

    /// Posts a put of rank `from`, which keeps the caps.
    pub(super) fn post(&mut self, from: u32, put: &Put<'_>) -> Result<Posted, Full> {
        let (to, flow) = (put.to.0, usize::from(put.flow.0));
        if !self.rank(from).alive || self.link(from, to).lost {
            return Ok(Posted::Done);
        }
        assert!(self.link(from, to).up, "a put to a peer that is not up");
        if self.link(from, to).flows[flow].on_the_way >= self.options.queue {
            return Err(Full);
        }
        let rank = self.rank(from);
        let body: Vec<Source> = put.body.iter().map(|span| rank.source(*span)).collect();
        let bytes = put.head.len() as u64 + put.body.iter().map(|span| span.len).sum::<u64>();
        let into = (bytes > 0).then(|| {
            let import = rank.imported(put.into.expect("a put with bytes says where they go"));
            assert_eq!(import.of, to, "a put into the region of another peer");
            import.region
        });
        let data = put.head.to_vec();
        let pending = !body.is_empty() && self.random.chance(self.options.pending);
        let token = pending.then_some(put.token);
        let mut packet =
            Packet { from, to, flow, data, body, into, at: put.at, signal: put.signal, token };
        if !pending {
            packet.read();
        }
        self.send(packet);
        Ok(if pending { Posted::Pending } else { Posted::Done })
    }

    /// Draws when a packet is read and when it arrives, after all before it on its flow.
    fn send(&mut self, packet: Packet) {
        let (from, to, flow) = (packet.from, packet.to, packet.flow);
        let [to_read, to_half, to_whole] = std::array::from_fn(|_| self.latency(from, to));
        let (number, now) = (self.number(), self.now);
        let line = &mut self.link(from, to).flows[flow];
        let read = line.read.max(now + to_read / 2);
        let half = line.arrive.max(read + to_half / 2);
        let whole = half + to_whole / 4;
        (line.read, line.arrive) = (read, whole);
        line.on_the_way += 1;
        self.packets.insert(number, packet);
        self.at(read, Action::Read(number));
        self.arrive(half, from, to, Arrival::Half(number));
        self.arrive(whole, from, to, Arrival::Rest(number));
    }

    fn read(&mut self, number: u64) {
        let Some(packet) = self.packets.get_mut(&number) else { return };
        packet.read();
        let from = packet.from;
        if let Some(token) = packet.token.take() {
            self.rank(from).inbox.push(Event::Sent(token));
        }
    }

    /// Takes in what has come for a rank, and hands out what it is to be told.
    pub(super) fn poll(&mut self, me: u32, events: &mut Vec<Event>) {
        while let Some((from, what)) = self.rank(me).due.pop_front() {
            self.take_in(from, me, what);
        }
        events.append(&mut self.rank(me).inbox);
    }

    /// Lets a packet land: its first half, or the rest and the signal.
    fn land(&mut self, number: u64, rest: bool) {
        let Some(packet) = self.packets.get(&number) else { return };
        let (from, to) = (packet.from, packet.to);
        let rank = &self.ranks[to as usize];
        if !rank.alive || self.is_lost(to, from) {
            self.packets.remove(&number);
            return;
        }
        let refused = packet.into.and_then(|into| rank.refuses(into, packet.at, packet.data.len()));
        let foreign = packet.signal.filter(|signal| !rank.counts(*signal, from));
        if let Some(what) = refused.or_else(|| foreign.map(|_| "a signal that is not its to bump"))
        {
            self.lose(to, from, Error::Protocol { what });
            let when = self.now + self.latency(from, to);
            return self.arrive(when, to, from, Arrival::Lost);
        }
        let half = packet.data.len() / 2;
        let (skip, part) =
            if rest { (half, &packet.data[half..]) } else { (0, &packet.data[..half]) };
        if let Some(into) = packet.into {
            rank.write(into, usize::try_from(packet.at).expect("inside the region") + skip, part);
        }
        if rest {
            let packet = self.packets.remove(&number).expect("looked up above");
            packet.signal.into_iter().for_each(|signal| self.rank(to).bump(signal));
            self.link(from, to).flows[packet.flow].on_the_way -= 1;
        }
    }

    /// Has everything read that a region is still to be read for.
    pub(super) fn read_out(&mut self, from: u32, region: Region) {
        let reads = |packet: &&mut Packet| {
            packet.from == from && packet.body.iter().any(|s| s.region == region)
        };
        self.packets.values_mut().filter(reads).for_each(Packet::read);
    }

    /// `at` loses `peer`, if it has not yet.
    fn lose(&mut self, at: u32, peer: u32, error: Error) {
        let link = self.link(at, peer);
        if std::mem::replace(&mut link.lost, true) {
            return;
        }
        if link.hello.is_some() {
            self.rank(at).inbox.push(Event::Lost { peer: Peer(peer), error });
        }
        // What was posted stays dropped: it would find the connection lost.
        self.packets.retain(|_, packet| (packet.from, packet.to) != (at, peer));
    }

    /// Ends a rank in good order: what it posted is still delivered.
    pub(super) fn close(&mut self, rank: u32) {
        self.packets.values_mut().filter(|packet| packet.from == rank).for_each(Packet::read);
        self.end(rank);
        self.rank(rank).release_registered();
    }

    pub(super) fn kill(&mut self, rank: u32) {
        self.packets.retain(|_, packet| packet.from != rank);
        self.end(rank);
        self.rank(rank).inbox.clear();
    }

    /// No rank hears of this one again but that it is lost.
    fn end(&mut self, rank: u32) {
        if !std::mem::replace(&mut self.rank(rank).alive, false) {
            return;
        }
        let others = u32::try_from(self.ranks.len()).expect("made from a u32");
        for other in (0..others).filter(|other| *other != rank) {
            let last =
                self.link(rank, other).flows.iter().map(|line| line.arrive).max().unwrap_or(0);
            let when = last.max(self.now) + self.latency(rank, other);
            if self.link(other, rank).hello.is_some() {
                self.arrive(when, rank, other, Arrival::Lost);
            }
        }
    }

    pub(super) fn partition(&mut self, a: u32, b: u32) {
        self.link(a, b).split = true;
        self.link(b, a).split = true;
    }

    pub(super) fn heal(&mut self, a: u32, b: u32) {
        for (from, to) in [(a, b), (b, a)] {
            let link = self.link(from, to);
            link.split = false;
            // All that is left on the agenda is later than what was held up: the order of flows is kept.
            for what in std::mem::take(&mut link.held) {
                self.arrive(self.now, from, to, what);
            }
        }
    }

    pub(super) fn slow(&mut self, rank: u32, factor: u64) {
        self.rank(rank).slow = factor;
    }
}
