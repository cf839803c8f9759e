//! What frames come from and go to: the flows that are up, the regions, the counters.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;

use dure_transport::{Error, Event, Full, Peer, Posted, Put, Region, Result};

use crate::frame::Header;
use crate::memory::receive;
use crate::prove::broken;
use crate::receive::{Counter, Ground, Receiving};
use crate::region::Regions;
use crate::send::{Frame, Sending};

/// Bytes of the buffer that frames pass through: as much as one system call may bring of small ones.
const BUFFER: usize = 64 << 10;
/// How much of the buffer is used while payloads are large: what comes into it is copied once more, so it should hold
/// the next header and little else.
const LEAN: usize = 512;
/// Most system calls that receive from one flow at a time, so that a fast peer cannot keep the others out.
const CALLS: usize = 16;

/// The number of a flow in this process. No two flows of a transport have the same, also when one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowId(pub(crate) u32);

/// A connection that carries frames.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) peer: Peer,
    pub(crate) stream: TcpStream,
    pub(crate) sending: Sending,
    receiving: Receiving,
}

/// What asking a socket came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing was there.
    Silence,
    /// Something, and nothing else is there now.
    All,
    /// Something, and there may be more.
    Part,
}

/// What frames come from and go to.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) regions: Regions,
    pub(crate) counters: Vec<Counter>,
    /// By number; `None` where a flow is gone.
    flows: Vec<Option<Flow>>,
    /// Flows that ended, and why; their peers are lost when somebody looks here.
    pub(crate) ended: Vec<(FlowId, Error)>,
    buffer: Box<[u8]>,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self {
            regions: Regions::new(),
            counters: Vec::new(),
            flows: Vec::new(),
            ended: Vec::new(),
            buffer: vec![0; BUFFER].into(),
        }
    }

    /// Takes the connections to a peer; returns the number of the first, from which the others count on.
    pub(crate) fn add(&mut self, peer: Peer, streams: Vec<TcpStream>) -> FlowId {
        let first = u32::try_from(self.flows.len()).expect("fewer connections than descriptors");
        self.flows.extend(streams.into_iter().map(|stream| {
            let (sending, receiving) = (Sending::default(), Receiving::default());
            Some(Flow { peer, stream, sending, receiving })
        }));
        FlowId(first)
    }

    /// Closes a connection, unless somebody else still has its file.
    pub(crate) fn remove(&mut self, id: FlowId) {
        self.flows[at(id)] = None;
    }

    pub(crate) fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(at(id))?.as_ref()
    }

    pub(crate) fn flow_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.flows.get_mut(at(id))?.as_mut()
    }

    /// The numbers of all flows that are up.
    pub(crate) fn ids(&self) -> impl Iterator<Item = FlowId> {
        (0..).map(FlowId).zip(&self.flows).filter_map(|(id, flow)| flow.as_ref().map(|_| id))
    }

    /// Appends the frame of a put.
    pub(crate) fn write(&self, header: Header, put: &Put<'_>, to: &mut Vec<u8>) {
        let at = to.len();
        to.resize(at + header.frame_len(), 0);
        frame(&self.regions, header, put).write(&mut to[at..]);
    }

    /// Sends a put, or queues what the socket does not take.
    pub(crate) fn post(
        &mut self,
        id: FlowId,
        header: Header,
        put: &Put<'_>,
    ) -> std::result::Result<Posted, Full> {
        let Some(Some(flow)) = self.flows.get_mut(at(id)) else { return Ok(Posted::Done) };
        flow.sending.post(flow.stream.as_fd(), &frame(&self.regions, header, put))
    }

    /// Queues a put.
    pub(crate) fn queue(
        &mut self,
        id: FlowId,
        header: Header,
        put: &Put<'_>,
    ) -> std::result::Result<Posted, Full> {
        let Some(Some(flow)) = self.flows.get_mut(at(id)) else { return Ok(Posted::Done) };
        flow.sending.queue(&frame(&self.regions, header, put))
    }

    /// Sends what waits; true when nothing waits any more.
    pub(crate) fn flush(&mut self, id: FlowId, events: &mut Vec<Event>) -> bool {
        let Some(flow) = self.flow_mut(id) else { return true };
        flow.sending.flush(flow.stream.as_fd(), events);
        flow.sending.is_idle()
    }

    /// Copies what is still to be sent from a region of this side.
    pub(crate) fn settle(&mut self, region: Region) {
        for flow in self.flows.iter_mut().flatten().filter(|flow| !flow.sending.is_idle()) {
            flow.sending.detach(region);
            if flow.sending.is_broken() {
                // Without the rest of a frame nothing can follow on this connection.
                let _ = flow.stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    /// Reads what a socket has, payloads directly to where they belong. A flow that ended is noted.
    pub(crate) fn hear(&mut self, id: FlowId) -> Heard {
        if self.has_ended(id) {
            return Heard::Silence;
        }
        let heard = self.try_hear(id);
        heard.unwrap_or_else(|error| {
            self.end(id, error);
            Heard::Silence
        })
    }

    fn try_hear(&mut self, id: FlowId) -> Result<Heard> {
        let Some(Some(flow)) = self.flows.get_mut(at(id)) else { return Ok(Heard::Silence) };
        let Flow { peer, stream, sending, receiving } = flow;
        let mut ground =
            Ground { regions: &self.regions, counters: &mut self.counters, peer: *peer };
        let mut heard = Heard::Silence;
        for _ in 0..CALLS {
            let landing = receiving.landing(ground.regions)?;
            let buffer = &mut self.buffer[..if receiving.is_bulk() { LEAN } else { BUFFER }];
            let asked = landing.len() + buffer.len();
            let got = if landing.len() == 0 {
                receive(stream.as_fd(), buffer)
            } else {
                landing.receive(stream.as_fd(), buffer)
            };
            let got = match got {
                Ok(0) => return Err(Error::Closed),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A connection that cannot be sent to is of no use, once what arrived is read.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if sending.is_broken() { Err(Error::Closed) } else { Ok(heard) };
                }
                Err(error) => return Err(broken("recv", error)),
            };
            let landed = got.min(landing.len());
            receiving.landed(landed, &mut ground);
            receiving.feed(&buffer[..got - landed], &mut ground)?;
            heard = if got < asked { Heard::All } else { Heard::Part };
            if heard == Heard::All {
                break;
            }
        }
        Ok(heard)
    }

    /// Whether a flow carries large payloads.
    pub(crate) fn is_bulk(&self, id: FlowId) -> bool {
        self.flow(id).is_some_and(|flow| flow.receiving.is_bulk())
    }

    /// Nothing can be sent on a flow any more.
    pub(crate) fn fail(&mut self, id: FlowId, error: io::Error) {
        if let Some(flow) = self.flow_mut(id) {
            flow.sending.fail(error);
        }
    }

    /// Takes bytes that somebody else received from a flow's socket. A flow that breaks the protocol is noted.
    pub(crate) fn feed(&mut self, id: FlowId, bytes: &[u8]) {
        if self.has_ended(id) {
            return;
        }
        let Some(Some(flow)) = self.flows.get_mut(at(id)) else { return };
        let mut ground =
            Ground { regions: &self.regions, counters: &mut self.counters, peer: flow.peer };
        if let Err(error) = flow.receiving.feed(bytes, &mut ground) {
            self.end(id, error);
        }
    }
}

impl Traffic {
    /// Notes that a flow ended, and why. What it is first said to be counts.
    pub(crate) fn end(&mut self, id: FlowId, error: Error) {
        if !self.has_ended(id) {
            self.ended.push((id, error));
        }
    }

    fn has_ended(&self, id: FlowId) -> bool {
        self.ended.iter().any(|(ended, _)| *ended == id)
    }
}

fn frame<'a>(regions: &'a Regions, header: Header, put: &Put<'a>) -> Frame<'a> {
    let Put { head, body, token, .. } = *put;
    Frame { header, head, body, regions, token }
}

fn at(id: FlowId) -> usize {
    usize::try_from(id.0).expect("a 32-bit number fits")
}
