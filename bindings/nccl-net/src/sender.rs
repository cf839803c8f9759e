//! The sending end of a connection.

use std::collections::VecDeque;

use dure::{Error, Result};
use dure_transport::{Card, Full, Posted, Put, RemoteRegion, Span, Token};

use crate::link::Link;
use crate::message::{Offer, Record};
use crate::ring::{SLOTS, put};

/// Registrations of the peer that are remembered.
const IMPORTS: usize = 64;

/// The sending end of a connection.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) link: Link,
    /// Receives of the peer that no send has taken, in their order.
    offers: VecDeque<Offer>,
    /// By the number of the registration, the one used last behind all.
    imports: VecDeque<(u64, RemoteRegion)>,
    requests: Box<[Option<Sending>]>,
}

/// A send that has taken an offer.
#[derive(Clone, Copy, Debug)]
struct Sending {
    len: u64,
    /// Its bytes are still read.
    pending: bool,
}

impl Sender {
    pub(crate) fn new(link: Link) -> Self {
        let (offers, imports) = (VecDeque::new(), VecDeque::new());
        Self { link, offers, imports, requests: (0..SLOTS).map(|_| None).collect() }
    }

    /// Moves on without waiting.
    pub(crate) fn turn(&mut self) {
        for Token(token) in self.link.turn() {
            let request = usize::try_from(token).ok().and_then(|at| self.requests.get_mut(at));
            if let Some(Some(sending)) = request {
                sending.pending = false;
            }
        }
        while let Some(message) = self.link.hear() {
            match Offer::decode(message.as_ref()) {
                Some(offer) if self.offers.len() < SLOTS => self.offers.push_back(offer),
                _ => return self.link.blame("a receive that makes no sense"),
            }
        }
    }

    /// Sends `len` bytes to the first receive of this tag; `None` when there is no such receive, or no room: to be tried again.
    ///
    /// # Errors
    /// `Remote` when the peer is lost; `InvalidUsage` when the receive is for fewer bytes, which the peer hears too.
    pub(crate) fn send(&mut self, from: Option<Span>, len: u64, tag: i32) -> Result<Option<usize>> {
        self.turn();
        self.link.health()?;
        let at = self.offers.iter().position(|offer| offer.tag == tag);
        let free = self.requests.iter().position(Option::is_none);
        let (Some(at), Some(index), true) = (at, free, self.link.outbox.is_empty()) else {
            return Ok(None);
        };
        let Offer { place, len: most, at: first, serial, .. } = self.offers[at];
        let too_long = len > most;
        let mut pending = false;
        if let (Some(body), false) = (from, too_long) {
            let into = self.import(serial, at)?;
            let token = Token(index as u64);
            let put = Put { body: &[body], token, ..put(self.link.peer, into, first) };
            match self.link.net.put(&put) {
                Ok(posted) => pending = posted == Posted::Pending,
                Err(Full) => return Ok(None),
            }
        }
        self.offers.remove(at);
        self.link.post(Record { place, too_long, len }.encode());
        if too_long {
            return Err(Error::invalid_usage(format!(
                "{len} bytes are sent (tag {tag}), and the receiver takes {most} at most, on the {}",
                self.link.about()
            )));
        }
        self.requests[index] = Some(Sending { len, pending });
        Ok(Some(index))
    }

    /// The peer's memory that an offer names.
    fn import(&mut self, serial: u64, offer: usize) -> Result<RemoteRegion> {
        let known = self.imports.iter().position(|(known, _)| *known == serial);
        let import = match known.and_then(|at| self.imports.remove(at)) {
            Some((_, import)) => import,
            None => {
                let key: &Card = &self.offers[offer].key;
                let import = self.link.net.import(self.link.peer, key);
                import.map_err(|error| {
                    let about = self.link.about();
                    Error::remote(format!("no way into the receiver's memory, on the {about}"))
                        .because(error)
                })?
            }
        };
        self.imports.push_back((serial, import));
        if self.imports.len() > IMPORTS
            && let Some((_, oldest)) = self.imports.pop_front()
        {
            self.link.net.forget(oldest);
        }
        Ok(import)
    }

    /// How many bytes a request has sent, once it is done; it is no more then.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such request, `Remote` when the peer is lost.
    pub(crate) fn test(&mut self, index: usize) -> Result<Option<u64>> {
        self.turn();
        let gone = || Error::invalid_argument("request: it has been reported as done already");
        let Sending { len, pending } = self.requests[index].ok_or_else(gone)?;
        if pending || self.link.is_behind() {
            // What is lost is never done.
            return self.link.health().map(|()| None);
        }
        self.requests[index] = None;
        Ok(Some(len))
    }
}
