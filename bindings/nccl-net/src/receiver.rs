//! The receiving end of a connection.

use std::collections::VecDeque;

use dure::{Error, Result};
use dure_transport::{Card, Full, Posted, Put, Span, Token};

use crate::link::Link;
use crate::message::{Offer, Record};
use crate::ring::{BEHIND, SLOTS, put};

/// Most receives of one request.
pub(crate) const GROUP: usize = 8;

/// One receive: where the bytes of one send may go.
#[derive(Clone, Debug)]
pub(crate) struct Receive {
    pub(crate) tag: i32,
    /// Most bytes.
    pub(crate) len: u64,
    /// First byte, from the begin of the registered memory.
    pub(crate) at: u64,
    /// Number of the registration.
    pub(crate) serial: u64,
    pub(crate) key: Card,
}

/// How many bytes each receive of a request got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) count: usize,
    pub(crate) of: [u64; GROUP],
}

/// The receiving end of a connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) link: Link,
    /// Of each offer that the peer has not answered: its request, and which receive of that it is.
    places: Box<[Option<(usize, usize)>]>,
    requests: Box<[Option<Request>]>,
    /// Bytes whose reading by the NIC makes what it wrote before visible; with their requests.
    unread: VecDeque<(usize, Span)>,
}

/// A request that was not reported as done.
#[derive(Debug)]
struct Request {
    sizes: Sizes,
    /// What it still waits for.
    left: usize,
    failure: Option<Error>,
}

impl Receiver {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            link,
            places: (0..SLOTS).map(|_| None).collect(),
            requests: (0..SLOTS).map(|_| None).collect(),
            unread: VecDeque::new(),
        }
    }

    /// Moves on without waiting.
    pub(crate) fn turn(&mut self) {
        for Token(token) in self.link.turn() {
            if let Ok(at) = usize::try_from(token) {
                self.arrived(at);
            }
        }
        while let Some(message) = self.link.hear() {
            let record = Record::decode(message.as_ref());
            let place = record.and_then(|record| usize::try_from(record.place).ok());
            let place = place.and_then(|place| self.places.get_mut(place)).and_then(Option::take);
            let (Some(record), Some((at, part))) = (record, place) else {
                return self.link.blame("an answer to no receive");
            };
            self.receive(record, at, part);
        }
        self.read_back();
    }

    /// Something that a request waits for is there.
    fn arrived(&mut self, at: usize) {
        if let Some(Some(request)) = self.requests.get_mut(at) {
            request.left = request.left.saturating_sub(1);
        }
    }

    fn receive(&mut self, record: Record, at: usize, part: usize) {
        self.arrived(at);
        let about = self.link.about();
        let Some(request) = self.requests[at].as_mut() else { return };
        request.sizes.of[part] = record.len;
        if record.too_long {
            let what = format!(
                "{} bytes were sent, more than the receive takes, on the {about}",
                record.len
            );
            request.failure.get_or_insert_with(|| Error::invalid_usage(what));
        }
    }

    /// A free place for a request.
    fn free(&self) -> Option<usize> {
        self.requests.iter().position(Option::is_none)
    }

    fn begin(&mut self, at: usize, count: usize) {
        let sizes = Sizes { count, of: [0; GROUP] };
        self.requests[at] = Some(Request { sizes, left: count, failure: None });
    }

    /// Offers memory for as many sends as there are receives; `None` when there are too many already: to be tried again.
    ///
    /// # Errors
    /// `Remote` when the peer is lost.
    pub(crate) fn offer(&mut self, receives: &[Receive]) -> Result<Option<usize>> {
        self.turn();
        self.link.health()?;
        let room = self.places.iter().filter(|place| place.is_none()).count();
        let (Some(at), true) = (self.free(), receives.len() <= room) else { return Ok(None) };
        self.begin(at, receives.len());
        for (part, receive) in receives.iter().enumerate() {
            let place = self.places.iter().position(Option::is_none);
            let place = place.expect("it was asked whether there is room");
            self.places[place] = Some((at, part));
            let Receive { tag, len, at, serial, key } = receive.clone();
            let place = u32::try_from(place).expect("there are few places");
            self.link.post(Offer { place, tag, len, at, serial, key }.encode());
        }
        Ok(Some(at))
    }

    /// Has the NIC read these bytes: what it wrote before is in the memory that they are of then (PCI Express Base Specification,
    /// "Transaction Ordering": a read does not pass writes). `None` when there are too many requests: to be tried again.
    ///
    /// # Errors
    /// `Remote` when the peer is lost.
    pub(crate) fn flush(&mut self, spans: &[Span]) -> Result<Option<usize>> {
        self.turn();
        self.link.health()?;
        let Some(at) = self.free() else { return Ok(None) };
        self.begin(at, spans.len());
        self.unread.extend(spans.iter().map(|span| (at, *span)));
        self.read_back();
        Ok(Some(at))
    }

    /// Puts bytes that are to be read to where nobody looks.
    fn read_back(&mut self) {
        while let Some(&(at, span)) = self.unread.front() {
            let place = put(self.link.peer, self.link.outbox.into, BEHIND);
            let put = Put { body: &[span], token: Token(at as u64), ..place };
            match self.link.net.put(&put) {
                Err(Full) => return,
                Ok(Posted::Done) => self.arrived(at),
                Ok(Posted::Pending) => {}
            }
            self.unread.pop_front();
        }
    }

    /// What a request has got, once it is done; it is no more then.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such request, `InvalidUsage` when a send was longer than its receive, `Remote` when the
    /// peer is lost.
    pub(crate) fn test(&mut self, at: usize) -> Result<Option<Sizes>> {
        self.turn();
        let gone = || Error::invalid_argument("request: it has been reported as done already");
        let request = self.requests[at].as_ref().ok_or_else(gone)?;
        if let Some(failure) = &request.failure {
            return Err(failure.clone());
        }
        if request.left > 0 {
            return self.link.health().map(|()| None);
        }
        let sizes = request.sizes;
        self.requests[at] = None;
        Ok(Some(sizes))
    }
}
