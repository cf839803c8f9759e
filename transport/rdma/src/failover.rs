//! Rails that fail, and that come back.
//!
//! When a queue pair, a port or a device fails, both sides of the pair stop: they fail and end all queue pairs between them,
//! so that nothing can arrive late, and *state* over the side channel which rails they can use, how many messages have
//! counted on each flow, and new queue pairs. A rail is used when both sides can use it. What has not counted is sent again
//! over what is left; over the side channel when nothing is. The same happens when a rail is back.
//!
//! ```text
//!    here                                        peer
//!    a rail fails: stop, drain, count
//!    statement n  ------------------------------>  stop, drain, count
//!                 <------------------------------  statement n
//!    connect, restart the order                    connect, restart the order
//!    ready n      ------------------------------>
//!                 <------------------------------  ready n
//!    send again what has not counted               send again what has not counted
//! ```
//!
//! A port that is down says when it is up again. A rail that failed while its ports were up is *suspect*, and is tried
//! (`probe.rs`).

use std::sync::Arc;
use std::time::Instant;

use dure_transport::{Event, Peer, Posted, Route};

use crate::NAME;
use crate::card::{PORTS, Statement};
use crate::error::Error;
use crate::in_use::InUse;
use crate::join::{Link, Note, Pair, Stage};
use crate::mailbox::{Letter, note};
use crate::probe::Probe;
use crate::region::index;
use crate::transport::Rdma;

/// A completion queue is empty after so many looks at it: it holds no more than they take.
const DRAINS: usize = 64;

/// What a pair knows of its rails, and the change that is under way. Rails are bits, by their place.
#[derive(Debug)]
pub(crate) struct Change {
    /// Rails on which requests failed, and none has passed since.
    pub(crate) suspects: u8,
    /// Rails that this side has said last that it can use.
    told: u8,
    /// Rails that the peer has said last that it can use, and those whose port it has.
    theirs: u8,
    theirs_present: u8,
    /// Changes that have begun.
    number: u32,
    /// Why there is one, or was the last.
    pub(crate) why: String,
    under_way: Option<UnderWay>,
    pub(crate) probes: [Option<Probe>; PORTS],
}

#[derive(Debug)]
struct UnderWay {
    began: Instant,
    /// The peer's statement has come, and this side is ready.
    heard: bool,
    /// The side channel has taken what this side has to say.
    said: bool,
}

impl Change {
    /// All of so many rails work.
    pub(crate) fn new(rails: usize) -> Self {
        let all = u8::try_from((1_u32 << rails) - 1).expect("at most as many rails as ports");
        Self {
            suspects: 0,
            told: all,
            theirs: all,
            theirs_present: all,
            number: 0,
            why: String::new(),
            under_way: None,
            probes: [const { None }; PORTS],
        }
    }

    /// Rails that both sides can use.
    pub(crate) fn usable(&self) -> u8 {
        self.told & self.theirs
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }
}

impl Pair {
    fn bits(&self, mut is: impl FnMut(usize) -> bool) -> u8 {
        (0..self.rails.len()).filter(|rail| is(*rail)).fold(0, |bits, rail| bits | 1 << rail)
    }
}

impl Rdma {
    /// Rails whose port is there.
    pub(crate) fn present(&self, pair: &Pair) -> u8 {
        pair.bits(|rail| self.nics[pair.rails[rail].here].is_usable())
    }

    /// Whether a pair can do without the rails that do not work now.
    fn can_change(&self, pair: &Pair) -> bool {
        let usable = self.present(pair) & !pair.change.suspects;
        self.falls_back || usable & pair.change.theirs != 0
    }

    /// Requests on a rail failed.
    pub(crate) fn rail_failed(
        &mut self,
        peer: Peer,
        rail: usize,
        error: Error,
        events: &mut Vec<Event>,
    ) {
        let Some(pair) = self.pair_mut(peer) else { return };
        if pair.change.suspects & 1 << rail != 0 {
            // Only the first error tells why.
            return;
        }
        pair.change.suspects |= 1 << rail;
        pair.change.why = error.chain();
        let Some(pair) = self.pair(peer) else { return };
        if pair.stage == Stage::Up && self.can_change(pair) {
            self.look = true;
        } else {
            self.give_up(peer, error.into(), Note::GivenUp, events);
        }
    }

    /// A device does not work any more.
    pub(crate) fn lose_nic(&mut self, nic: usize, error: &Error, events: &mut Vec<Event>) {
        if std::mem::replace(&mut self.nics[nic].is_dead, true) {
            return;
        }
        self.regions.get_mut().give_up(nic);
        let device = self.nics[nic].card.device.clone();
        tracing::warn!(target: "dure::net", %error, device, "a device failed");
        for peer in self.peers_over(nic, &format!("{device} failed: {error}")) {
            let can_change = self.pair(peer).is_some_and(|pair| self.can_change(pair));
            if !can_change {
                let event = "a failed device";
                let error = Error::Event { event, wire: device.clone() };
                self.give_up(peer, error.into(), Note::GivenUp, events);
            }
        }
    }

    /// A port of a device has come up or gone down.
    pub(crate) fn hear_port(&mut self, nic: usize, number: usize) {
        let context = Arc::clone(&self.nics[nic].context);
        for at in 0..self.nics.len() {
            let nic = &mut self.nics[at];
            if !nic.is_port(&context, number) {
                continue;
            }
            let is_up = nic.is_active();
            if nic.up_since.is_some() == is_up {
                continue;
            }
            nic.up_since = is_up.then(Instant::now);
            nic.was_down = true;
            let state = if is_up { "up again" } else { "down" };
            let why = format!("{} port {} is {state}", nic.card.device, nic.card.number);
            let peers = self.peers_over(at, &why);
            if is_up {
                peers.into_iter().for_each(|peer| self.trust(peer, at));
            }
        }
    }

    /// A port is up again: what failed on it before is no reason any more to do without.
    fn trust(&mut self, peer: Peer, nic: usize) {
        let Some(Link::There(pair)) = self.links.get_mut(index(peer.0)) else { return };
        for (place, rail) in pair.rails.iter().enumerate().filter(|(_, rail)| rail.here == nic) {
            pair.change.suspects &= !(1 << place);
            // Whoever is next on the way is known by the time it is used.
            rail.neighbour(&self.nics, &pair.there);
        }
    }

    /// The peers to whom a rail goes over a port, who are told why that changes.
    fn peers_over(&mut self, nic: usize, why: &str) -> Vec<Peer> {
        self.look = true;
        let mut peers = Vec::new();
        for (rank, link) in (0..).zip(&mut self.links) {
            let Link::There(pair) = link else { continue };
            if pair.rails.iter().any(|rail| rail.here == nic) {
                why.clone_into(&mut pair.change.why);
                peers.push(Peer(rank));
            }
        }
        peers
    }

    /// Begins what has to begin, and moves on what has begun.
    pub(crate) fn drive_change(&mut self, peer: Peer, events: &mut Vec<Event>) {
        while self.step(peer, events) {}
        if self.pair(peer).is_some_and(|pair| !pair.change.is_under_way()) {
            self.probe(peer);
            self.send_again(peer, events);
        }
    }

    /// One step of a change; false when there is none to take.
    fn step(&mut self, peer: Peer, events: &mut Vec<Event>) -> bool {
        let Some(pair) = self.pair(peer).filter(|pair| pair.stage == Stage::Up) else {
            return false;
        };
        let (change, notes) = (&pair.change, pair.ours);
        let stated = self.side.arrived(notes.stated);
        let number = u64::from(change.number);
        let Some(under_way) = &change.under_way else {
            let usable = self.present(pair) & !change.suspects;
            let wanted = usable != change.told && self.can_change(pair);
            if wanted || stated > number {
                self.begin_change(peer, events);
            }
            return wanted || stated > number;
        };
        if !under_way.said {
            return self.say(peer);
        }
        if !under_way.heard {
            let heard = stated >= number;
            if heard {
                self.hear_statement(peer, events);
            }
            return heard;
        }
        if self.side.arrived(notes.ready) >= number {
            self.end_change(peer, events);
            return true;
        }
        // What was agreed upon has failed at the peer already.
        if stated > number {
            self.begin_change(peer, events);
        }
        stated > number
    }

    /// Says to the peer what it has to know next; false when the side channel is full.
    fn say(&mut self, peer: Peer) -> bool {
        let Some(Link::There(pair)) = self.links.get_mut(index(peer.0)) else { return false };
        let (Some(notes), Some(under_way)) = (pair.theirs, &mut pair.change.under_way) else {
            return false;
        };
        let side = &mut *self.side;
        under_way.said = if under_way.heard {
            side.put(&note(peer, notes.ready)).is_ok()
        } else {
            pair.mailbox.send(side, peer, Letter::Statement(pair.change.number), notes.stated)
        };
        under_way.said
    }

    /// Stops all traffic with a peer, and lays ready what to state.
    fn begin_change(&mut self, peer: Peer, events: &mut Vec<Event>) {
        let Some(pair) = self.pair_mut(peer) else { return };
        let began = pair.change.under_way.as_ref().map_or_else(Instant::now, |old| old.began);
        pair.change.under_way = Some(UnderWay { began, heard: false, said: false });
        pair.change.number += 1;
        pair.change.probes = [const { None }; PORTS];
        let (queues, rails) = (pair.queues.clone(), pair.rails.clone());
        self.queues[queues.clone()].iter().for_each(crate::queue::Queue::stop);
        // What has arrived is all that will.
        for _ in 0..DRAINS {
            if !self.reap(events) {
                break;
            }
        }
        self.end_queues(queues.clone());
        self.stop_lanes(peer);
        match self.make_queues(peer, &rails) {
            Ok(made) => {
                self.place_queues(queues.start, made);
                self.lay_statement(peer);
            }
            Err(error) => self.give_up(peer, error.into(), Note::GivenUp, events),
        }
    }

    /// Keeps what has not arrived for later. The bounce buffers get their slots back.
    fn stop_lanes(&mut self, peer: Peer) {
        let Some(Link::There(pair)) = self.links.get_mut(index(peer.0)) else { return };
        for lane in &mut pair.lanes {
            lane.stop();
            for place in lane.flights() {
                let flight = &mut self.flights[place];
                if let Some((nic, slot, len)) = flight.bounce.take() {
                    let bounce = &mut self.nics[nic].bounce;
                    // SAFETY: the slot is this flight's, and the queue pair that read it has ended.
                    let bytes = unsafe { crate::memory::read(bounce.memory(slot).part(0, len)) };
                    flight.copied.extend(bytes);
                    bounce.give_back(slot);
                }
            }
        }
    }

    fn lay_statement(&mut self, peer: Peer) {
        let Some(pair) = self.pair(peer) else { return };
        let present = self.present(pair);
        let usable = present & !pair.change.suspects;
        let numbers = self.numbers(pair.queues.clone());
        let Some(pair) = self.pair_mut(peer) else { return };
        let statement = Statement {
            usable,
            present,
            counted: pair.lanes.iter().map(|lane| lane.order.counted()).collect(),
            why: pair.change.why.clone(),
            queues: numbers,
        };
        pair.change.told = usable;
        pair.mailbox.write(Letter::Statement(pair.change.number), &statement.encode());
    }

    /// Both sides have stated: the rails are known, and what has not arrived.
    fn hear_statement(&mut self, peer: Peer, events: &mut Vec<Event>) {
        let Some(number) = self.pair(peer).map(|pair| pair.change.number) else { return };
        let letter = self.letter(peer, Letter::Statement(number)).unwrap_or_default();
        let sound = |statement: &Statement, pair: &Pair| {
            statement.counted.len() == pair.lanes.len()
                && statement.queues.len() == pair.queues.len()
        };
        let statement = Statement::decode(&letter).ok();
        let statement =
            statement.filter(|said| self.pair(peer).is_some_and(|pair| sound(said, pair)));
        let Some(statement) = statement else {
            let what = "a statement that makes no sense";
            let error = dure_transport::Error::Protocol { what };
            return self.give_up(peer, error, Note::GivenUp, events);
        };
        self.forget_arrived(peer, &statement.counted, events);
        let Some(Link::There(pair)) = self.links.get_mut(index(peer.0)) else { return };
        let change = &mut pair.change;
        // Whatever failed on a rail while the peer's port was down is explained.
        change.suspects &= !(statement.present & !change.theirs_present);
        (change.theirs, change.theirs_present) = (statement.usable, statement.present);
        if change.why.is_empty() && !statement.why.is_empty() {
            change.why = format!("rank {} says: {}", peer.0, statement.why);
        }
        let bits = change.usable();
        if bits == 0 && !self.falls_back {
            let why = change.why.clone();
            return self.give_up(peer, Error::NoWay { why }.into(), Note::GivenUp, events);
        }
        if let Some(under_way) = &mut change.under_way {
            (under_way.heard, under_way.said) = (true, false);
        }
        pair.in_use = InUse::new(&pair.rails, bits);
        for (flow, lane) in (0..).zip(&mut pair.lanes) {
            lane.restart(pair.in_use.order(flow), &mut self.flights);
        }
        self.detoured |= bits == 0;
        self.connect_rails(peer, bits, &statement);
    }

    /// What the peer has counted need not be kept.
    fn forget_arrived(&mut self, peer: Peer, counted: &[u64], events: &mut Vec<Event>) {
        let Some(Link::There(pair)) = self.links.get_mut(index(peer.0)) else { return };
        let lanes = pair.lanes.iter_mut().zip(counted);
        let arrived: Vec<_> =
            lanes.flat_map(|(lane, counted)| lane.arrived(*counted, &self.flights)).collect();
        for place in arrived {
            events.extend(self.free(place).map(Event::Sent));
        }
    }

    /// Connects the rails that are used from here on, and notes which are to be tried.
    fn connect_rails(&mut self, peer: Peer, bits: u8, statement: &Statement) {
        let Some(pair) = self.pair(peer) else { return };
        let (in_use, rails, queues) = (pair.in_use, pair.rails.len(), pair.queues.clone());
        for (place, (at, theirs)) in queues.clone().zip(&statement.queues).enumerate() {
            let rail = place % rails;
            if bits & 1 << rail == 0 {
                continue;
            }
            let connected = self.connect_queue(peer, at, *theirs, false);
            if let (Err(error), Some(pair)) = (connected, self.pair_mut(peer)) {
                tracing::warn!(target: "dure::net", error = error.chain(), "a rail is not used");
                pair.change.suspects |= 1 << rail;
                pair.change.why = error.chain();
            }
        }
        self.take_turns(in_use, queues);
        self.note_probes(peer, bits, statement);
    }

    /// Both sides are ready.
    fn end_change(&mut self, peer: Peer, events: &mut Vec<Event>) {
        let over = self.side.name();
        let Some(pair) = self.pair_mut(peer) else { return };
        let Some(under_way) = pair.change.under_way.take() else { return };
        let route = Route {
            over: if pair.in_use.count() == 0 { over } else { NAME },
            rails: pair.in_use.count(),
            rails_at_first: pair.rails.len(),
            why: std::mem::take(&mut pair.change.why),
            pause: under_way.began.elapsed(),
        };
        // A target of its own: who reports the event itself need not log it twice.
        if route.is_degraded() {
            tracing::warn!(target: "dure::net::rails", peer = peer.0, "degraded: {route}");
        } else {
            tracing::info!(target: "dure::net::rails", peer = peer.0, "restored: {route}");
        }
        events.push(Event::Rerouted { peer, route });
    }

    /// Sends what has not arrived over the rails of now, as far as there is room.
    fn send_again(&mut self, peer: Peer, events: &mut Vec<Event>) {
        for flow in 0..usize::from(self.flows) {
            loop {
                let Some(pair) = self.pair_mut(peer) else { return };
                let Some(place) = pair.lanes[flow].again.pop_front() else { break };
                let mut flight = std::mem::take(&mut self.flights[place]);
                let sent = self.send(&flight.put());
                if sent == Ok(Posted::Done) && self.pair(peer).is_some() {
                    events.extend(flight.token.map(Event::Sent));
                }
                if sent.is_ok() {
                    // It has another flight now.
                    flight.token = None;
                }
                self.flights[place] = flight;
                match self.pair_mut(peer).filter(|_| sent.is_err()) {
                    Some(pair) => {
                        pair.lanes[flow].again.push_front(place);
                        break;
                    }
                    None => _ = self.free(place),
                }
            }
        }
    }
}
