//! A connection that is up: the transport, a ring of messages each way, and what went wrong.

use dure::{Error, Result};
use dure_transport::{Event, Peer, Token, Transport};

use crate::log;
use crate::ring::{Inbox, NOBODY, Outbox};

/// A connection that is up.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) net: Box<dyn Transport>,
    pub(crate) peer: Peer,
    pub(crate) outbox: Outbox,
    inbox: Inbox,
    /// Both ends and the wire, for people.
    about: String,
    failure: Option<Error>,
    events: Vec<Event>,
    sent: Vec<Token>,
}

impl Link {
    pub(crate) fn new(
        net: Box<dyn Transport>,
        peer: Peer,
        (inbox, outbox): (Inbox, Outbox),
        about: String,
    ) -> Self {
        let (events, sent) = (Vec::new(), Vec::new());
        Self { net, peer, outbox, inbox, about, failure: None, events, sent }
    }

    /// Both ends and the wire, for people.
    pub(crate) fn about(&self) -> &str {
        &self.about
    }

    /// Moves on without waiting. Returns the tokens of puts whose source may be reused.
    pub(crate) fn turn(&mut self) -> Vec<Token> {
        self.net.poll(&mut self.events);
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Sent(token) if token != NOBODY => self.sent.push(token),
                Event::Sent(_) | Event::Up { .. } => {}
                Event::Lost { error, .. } => {
                    let lost = format!("the {} is lost", self.about);
                    self.fail(Error::remote(lost).because(error));
                }
                Event::Rerouted { route, .. } => {
                    let text = format!("the {} goes on with {route}", self.about);
                    if route.is_degraded() { log::warn(&text) } else { log::info(&text) }
                }
            }
        }
        self.outbox.flush(&mut *self.net, self.peer);
        std::mem::take(&mut self.sent)
    }

    /// The next message of the peer.
    pub(crate) fn hear(&mut self) -> Option<impl AsRef<[u8]> + use<>> {
        self.inbox.next(&mut *self.net)
    }

    /// Sends a message to the peer.
    pub(crate) fn post(&mut self, message: Vec<u8>) {
        self.outbox.post(&mut *self.net, self.peer, message);
    }

    /// Ends the connection, as far as this side goes; the first reason stays.
    pub(crate) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// The peer sent what it may not send.
    pub(crate) fn blame(&mut self, what: &str) {
        self.fail(Error::remote(format!("the {} is given up: {what}", self.about)));
    }

    /// # Errors
    /// Why the connection is no more.
    pub(crate) fn health(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Whether something that was sent gets no further unless this side polls.
    pub(crate) fn is_behind(&self) -> bool {
        !self.outbox.is_empty() || self.net.is_behind()
    }
}
