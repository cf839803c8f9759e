//! What a flow has sent, until it is known to have arrived: whatever a failed rail has swallowed is sent again.
//!
//! A sender keeps its messages in order. It forgets the first when the devices have acknowledged all its parts; then it
//! has counted at the peer, as all before it have. After a failure the peer says how many have counted, and the
//! rest is sent over other rails (`failover.rs`).

use std::collections::VecDeque;

use dure_transport::{Flow, Peer, Put, RemoteRegion, Signal, Span, Token};

use crate::stripe::Order;

/// A message that is not known to have arrived, and what it takes to send it again.
#[derive(Debug)]
pub(crate) struct Flight {
    to: Peer,
    flow: Flow,
    /// Requests that have to complete.
    pub(crate) parts: usize,
    /// It has arrived when so many messages of its flow have counted.
    ordinal: u64,
    /// Who waits for it.
    pub(crate) token: Option<Token>,
    /// Bytes that were copied before `put` returned and that are not in the bounce buffer.
    pub(crate) copied: Vec<u8>,
    /// A slot of the bounce buffer of a port, and how many bytes it holds.
    pub(crate) bounce: Option<(usize, u16, usize)>,
    /// What follows these bytes.
    pub(crate) spans: Vec<Span>,
    pub(crate) into: Option<RemoteRegion>,
    at: u64,
    signal: Option<Signal>,
}

impl Default for Flight {
    fn default() -> Self {
        Self {
            to: Peer(0),
            flow: Flow(0),
            parts: 0,
            ordinal: 0,
            token: None,
            copied: Vec::new(),
            bounce: None,
            spans: Vec::new(),
            into: None,
            at: 0,
            signal: None,
        }
    }
}

impl Flight {
    /// Takes over what a put says. `copied` and `spans` keep their room.
    pub(crate) fn begin(&mut self, put: &Put<'_>, parts: usize) {
        self.copied.clear();
        self.spans.clear();
        (self.to, self.flow) = (put.to, put.flow);
        (self.into, self.at, self.signal) = (put.into, put.at, put.signal);
        (self.parts, self.token, self.bounce) = (parts, None, None);
    }

    /// Whose it is.
    #[inline]
    pub(crate) fn owner(&self) -> (Peer, Flow) {
        (self.to, self.flow)
    }

    /// The put, once more. What was in the bounce buffer must be in `copied`.
    pub(crate) fn put(&self) -> Put<'_> {
        Put {
            to: self.to,
            flow: self.flow,
            head: &self.copied,
            body: &self.spans,
            into: self.into,
            at: self.at,
            signal: self.signal,
            token: self.token.unwrap_or(Token(0)),
        }
    }
}

/// One flow to a peer and from it.
#[derive(Debug)]
pub(crate) struct Lane {
    /// What has arrived.
    pub(crate) order: Order,
    /// Messages with an immediate that were sent since the rails last changed.
    posted: u64,
    /// Places of the flights that went over the rails of now, in order.
    pub(crate) sent: VecDeque<usize>,
    /// Places of the flights that must be sent again before anything else is.
    pub(crate) again: VecDeque<usize>,
}

impl Lane {
    pub(crate) fn new(order: Order) -> Self {
        Self { order, posted: 0, sent: VecDeque::new(), again: VecDeque::new() }
    }

    /// A message is sent; `counts` when it has an immediate. One without has arrived when the next one has.
    #[inline]
    pub(crate) fn push(&mut self, place: usize, flight: &mut Flight, counts: bool) {
        flight.ordinal = self.posted + 1;
        self.posted += u64::from(counts);
        self.sent.push_back(place);
    }

    /// Takes the first message if its parts are acknowledged.
    #[inline]
    pub(crate) fn retire(&mut self, flights: &[Flight]) -> Option<usize> {
        self.sent.pop_front_if(|place| flights[*place].parts == 0)
    }

    /// The rails have failed: all that was sent may have to be sent again, before what was to be already.
    pub(crate) fn stop(&mut self) {
        self.sent.append(&mut self.again);
        self.again = std::mem::take(&mut self.sent);
    }

    /// Takes those of the stopped messages that have counted, when `counted` have since the rails last changed.
    pub(crate) fn arrived(&mut self, counted: u64, flights: &[Flight]) -> Vec<usize> {
        let done = |place: &&usize| flights[**place].ordinal <= counted;
        let count = self.again.iter().take_while(done).count();
        self.again.drain(..count).collect()
    }

    /// Begins anew over other rails. What was stopped is known to be missing.
    pub(crate) fn restart(&mut self, order: Order, flights: &mut [Flight]) {
        self.order = order;
        self.posted = 0;
        for place in &self.again {
            flights[*place].ordinal = u64::MAX;
        }
    }

    /// All that is not known to have arrived.
    pub(crate) fn flights(&self) -> impl Iterator<Item = usize> {
        self.sent.iter().chain(&self.again).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lane on which so many messages were sent, of which those in `silent` have no immediate.
    fn lane(sent: usize, silent: &[usize]) -> (Lane, Vec<Flight>) {
        let mut lane = Lane::new(Order::new(1, 0));
        let mut flights: Vec<Flight> = (0..sent).map(|_| Flight::default()).collect();
        for (place, flight) in flights.iter_mut().enumerate() {
            flight.parts = 1;
            lane.push(place, flight, !silent.contains(&place));
        }
        (lane, flights)
    }

    #[test]
    fn messages_are_forgotten_in_order() {
        let (mut lane, mut flights) = lane(3, &[]);
        flights[1].parts = 0;
        assert_eq!(lane.retire(&flights), None);
        flights[0].parts = 0;
        assert_eq!([lane.retire(&flights), lane.retire(&flights)], [Some(0), Some(1)]);
        assert_eq!(lane.flights().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_the_peer_has_counted_is_not_sent_again() {
        // The second has landed when the third has counted.
        let (mut lane, mut flights) = lane(5, &[1, 4]);
        lane.stop();
        assert_eq!(lane.arrived(1, &flights), [0]);
        assert_eq!(lane.arrived(2, &flights), [1, 2]);
        lane.restart(Order::new(1, 0), &mut flights);
        assert_eq!(lane.flights().collect::<Vec<_>>(), [3, 4]);
        // Another failure, before they were sent again.
        lane.stop();
        assert!(lane.arrived(9, &flights).is_empty());
    }
}
