//! The transport itself: its peers, from the first connection to the loss.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use dure_device::{Memory, Space};
use dure_transport::proof::Key;
use dure_transport::{
    Caps, Card, Error, Event, Full, Peer, Posted, Put, Region, RemoteRegion, Result, Signal, Span,
    Transport,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags};

use crate::driver::{Drive, Driver};
use crate::frame::{Header, NO_SIGNAL};
use crate::join::{Desk, Joined, Joining, watch};
use crate::memory::Bytes;
use crate::polling::Polling;
use crate::port::{Inbox, Port};
use crate::preamble::Kind;
use crate::prove::broken;
use crate::receive::Counter;
use crate::region::{Remote, Remotes, index};
use crate::send::{GATHER, HEAD};
use crate::socket::tune;
use crate::strangers::Strangers;
use crate::timer::Timer;
use crate::traffic::{FlowId, Heard, Traffic};
use crate::uring::Ring;
use crate::{NAME, address};

/// With so many peers, a ring is faster than asking: 8 ranks on 2 cores made the all-reduce of 8 B in 145 us instead of
/// 195, 4 ranks in 32 instead of 46; 2 ranks with a core each lost half a microsecond of 5.
const MANY: usize = 3;
/// Connections taken from the inbox in one poll.
const ACCEPTS: usize = 16;
/// How often the other flows of a lost peer are read again for what arrived before the loss.
const LAST_READS: usize = 64;

/// What [`open`] needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The rank of this side.
    pub me: Peer,
    /// Of this rank of this communicator: connections that name it are this transport's. Peers learn it from the
    /// address.
    pub id: [u8; 16],
    /// The secret that peers have to prove.
    pub key: Key,
    /// Where peers that dial arrive.
    pub port: Arc<Port>,
    /// Where peers should dial, the best first; 16 at most.
    pub addresses: Vec<SocketAddr>,
    /// Connections per peer, the same on all ranks; at least 1.
    pub flows: u16,
    /// How bytes are moved between sockets and memory; each rank may have its own way.
    pub driver: Driver,
}

/// Opens the TCP transport of one rank of one communicator.
///
/// # Errors
/// [`Error::System`] when the process has no descriptor left.
///
/// # Panics
/// When `options.flows` is 0.
pub fn open(options: Options) -> Result<Box<dyn Transport>> {
    assert!(options.flows > 0, "a peer has at least one flow");
    let system = |call| move |errno: nix::Error| Error::System { call, source: errno.into() };
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(system("epoll_create1"))?;
    let timer = Timer::new().map_err(|source| Error::System { call: "timerfd_create", source })?;
    let inbox = options.port.register(options.id, Kind::Data)?;
    watch(&epoll, &timer)?;
    watch(&epoll, &inbox.doorbell())?;
    let strangers = Strangers::new()?;
    watch(&epoll, &strangers.doorbell())?;
    let mut tcp = Tcp {
        options,
        epoll,
        timer,
        inbox,
        port_watched: false,
        settled: false,
        traffic: Traffic::new(),
        driver: Box::<Polling>::default(),
        remotes: Remotes::default(),
        links: Vec::new(),
        joining: Vec::new(),
        strangers,
        restless: false,
    };
    if tcp.options.driver == Driver::IoUring {
        tcp.take_ring();
    }
    Ok(Box::new(tcp))
}

#[derive(Debug)]
struct Tcp {
    options: Options,
    /// The doorbell: all sockets, and what else may have to be looked at.
    epoll: Epoll,
    timer: Timer,
    inbox: Inbox,
    port_watched: bool,
    /// Nobody joins, and nothing is left to be done about that.
    settled: bool,
    traffic: Traffic,
    driver: Box<dyn Drive>,
    remotes: Remotes,
    /// By rank.
    links: Vec<Link>,
    /// Ranks whose link is being made.
    joining: Vec<Peer>,
    strangers: Strangers,
    /// Something can go on without any descriptor becoming readable.
    restless: bool,
}

/// What there is of a peer.
#[derive(Debug, Default)]
enum Link {
    #[default]
    None,
    Joining(Box<Joining>),
    /// With the number of its first flow.
    Up(FlowId),
    /// Lost before this side called `connect`; told when it does.
    Failed(Error),
    Lost,
}

impl Tcp {
    fn link(&mut self, peer: Peer) -> &mut Link {
        let at = index(peer.0);
        if at >= self.links.len() {
            self.links.resize_with(at + 1, Link::default);
        }
        &mut self.links[at]
    }

    /// The numbers of a peer's flows, when it is up.
    fn flows(&self, peer: Peer) -> impl Iterator<Item = FlowId> + use<> {
        let first = match self.links.get(index(peer.0)) {
            Some(Link::Up(first)) => Some(first.0),
            _ => None,
        };
        let count = u32::from(self.options.flows);
        first.into_iter().flat_map(move |first| (first..first + count).map(FlowId))
    }

    /// Makes the connections that are not up yet go on.
    fn join(&mut self, events: &mut Vec<Event>) {
        let quiet = self.joining.is_empty() && self.strangers.is_empty() && self.inbox.is_empty();
        if quiet && self.settled {
            return;
        }
        self.settled = quiet;
        if self.port_watched {
            self.options.port.turn();
        }
        self.take_incoming();
        for peer in std::mem::take(&mut self.joining) {
            self.join_one(peer, events);
        }
        self.watch_port();
        let retries = self.joining.iter().filter_map(|peer| match &self.links[index(peer.0)] {
            Link::Joining(joining) => joining.next_retry(),
            _ => None,
        });
        self.timer.set(self.strangers.next_deadline().into_iter().chain(retries).min());
    }

    /// Lets accepted connections prove themselves, and seats those that did.
    fn take_incoming(&mut self) {
        for _ in 0..ACCEPTS {
            let Some(incoming) = self.inbox.try_take() else { break };
            self.strangers.add(incoming.stream);
        }
        let Options { key, me, .. } = &self.options;
        for (claim, stream) in self.strangers.step(key, me.0) {
            self.seat(Peer(claim.rank), claim.flow, stream);
        }
    }

    /// Takes a proven connection. One that makes no sense is closed: a peer that is up or lost does not come back.
    fn seat(&mut self, peer: Peer, flow: u16, stream: TcpStream) {
        let flows = self.options.flows;
        if peer >= self.options.me || flow >= flows || watch(&self.epoll, &stream).is_err() {
            return;
        }
        tune(&stream);
        let link = self.link(peer);
        if matches!(link, Link::None) {
            *link = Link::Joining(Box::new(Joining::new(flows)));
            self.joining.push(peer);
        }
        if let Link::Joining(joining) = self.link(peer) {
            joining.seat(flow, stream);
        }
    }

    fn join_one(&mut self, peer: Peer, events: &mut Vec<Event>) {
        let Link::Joining(mut joining) = std::mem::take(self.link(peer)) else { return };
        let joined = joining.step(self.desk(peer));
        let link = match joined
            .and_then(|joined| joined.map(|joined| self.begin(peer, joined)).transpose())
        {
            Ok(None) => {
                self.joining.push(peer);
                Link::Joining(joining)
            }
            Ok(Some((first, hello))) => {
                events.push(Event::Up { peer, hello });
                Link::Up(first)
            }
            Err(error) if joining.is_connecting() => {
                events.push(Event::Lost { peer, error });
                Link::Lost
            }
            Err(error) => Link::Failed(error),
        };
        *self.link(peer) = link;
    }

    fn desk(&self, peer: Peer) -> Desk<'_> {
        let Options { key, me, .. } = &self.options;
        Desk { epoll: &self.epoll, key, me: *me, peer }
    }

    /// Lets a ring move the bytes, where the kernel grants one; decided once.
    fn take_ring(&mut self) {
        let asked = std::mem::replace(&mut self.options.driver, Driver::Poll);
        let ring = match Ring::new(&self.epoll) {
            Ok(ring) => ring,
            Err(error) if asked == Driver::Auto => {
                return tracing::debug!(target: "dure::net", %error, "no io_uring: sockets are polled");
            }
            Err(error) => {
                return tracing::warn!(target: "dure::net", %error, "no io_uring: sockets are polled");
            }
        };
        self.options.driver = Driver::IoUring;
        let mut before = std::mem::replace(&mut self.driver, Box::new(ring));
        for id in self.traffic.ids().collect::<Vec<_>>() {
            before.close(&self.epoll, &mut self.traffic, id);
            if let Err(error) = self.driver.open(&self.epoll, &self.traffic, id) {
                self.traffic.end(id, error);
            }
        }
    }

    /// Lets frames flow to and from a peer.
    fn begin(&mut self, peer: Peer, joined: Joined) -> Result<(FlowId, Card)> {
        let up = self.links.iter().filter(|link| matches!(link, Link::Up(_))).count();
        if self.options.driver == Driver::Auto && up + 1 >= MANY {
            self.take_ring();
        }
        let first = self.traffic.add(peer, joined.streams);
        let flows = (first.0..first.0 + u32::from(self.options.flows)).map(FlowId);
        for id in flows.clone() {
            if let Err(error) = self.driver.open(&self.epoll, &self.traffic, id) {
                flows.for_each(|id| self.end(id));
                return Err(error);
            }
        }
        Ok((first, joined.hello))
    }

    fn end(&mut self, id: FlowId) {
        self.driver.close(&self.epoll, &mut self.traffic, id);
        self.traffic.remove(id);
    }

    /// The port rings this doorbell while a peer that was connected to has to dial.
    fn watch_port(&mut self) {
        let links = &self.links;
        let expects = |peer: &Peer| matches!(&links[index(peer.0)], Link::Joining(joining) if joining.expects());
        let wanted = self.joining.iter().any(expects);
        if wanted == self.port_watched {
            return;
        }
        let port = self.options.port.doorbell();
        let done = if wanted {
            watch(&self.epoll, &port).is_ok()
        } else {
            self.epoll.delete(port).is_ok()
        };
        if done {
            self.port_watched = wanted;
        }
    }

    /// Ends the connection to a peer, one flow of which ended. What arrived on the others before counts.
    fn lose(&mut self, ended: FlowId, error: Error, events: &mut Vec<Event>) {
        // Gone already when another flow of its peer had ended too.
        let Some(flow) = self.traffic.flow_mut(ended) else { return };
        let peer = flow.peer;
        // Why sending failed says more than that nothing comes any more.
        let error = match (error, flow.sending.take_error()) {
            (Error::Closed, Some(cause)) => broken("send", cause),
            (error, _) => error,
        };
        let flows = self.flows(peer);
        *self.link(peer) = Link::Lost;
        for id in flows {
            self.driver.close(&self.epoll, &mut self.traffic, id);
            if id != ended && !matches!(error, Error::Protocol { .. }) {
                let mut reads = 0..LAST_READS;
                while reads.next().is_some() && self.traffic.hear(id) == Heard::Part {}
            }
            self.traffic.remove(id);
        }
        events.push(Event::Lost { peer, error });
    }

    /// The header of the frame of a put.
    fn header(&self, put: &Put<'_>) -> Header {
        let head = u64::try_from(put.head.len()).expect("64 bits hold a length");
        let len = put.body.iter().map(|span| span.len).sum::<u64>() + head;
        let signal = put.signal.map_or(NO_SIGNAL, |signal| signal.0);
        if len == 0 {
            return Header::signal(signal);
        }
        let into = put.into.and_then(|into| self.remotes.get(into));
        let into = into.expect("a put with bytes goes into a region that is imported");
        assert_eq!(into.of, put.to, "a put goes into a region of the peer that it goes to");
        // Whether it fits is the receiver's to check, who cannot trust this side's answer.
        let len = u32::try_from(len).expect("a put is shorter than 4 GiB");
        Header { region: into.number, nonce: into.nonce, offset: put.at, len, signal }
    }
}

impl Transport for Tcp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self, _: Peer) -> Caps {
        Caps {
            head: HEAD,
            gather: GATHER,
            flows: self.options.flows,
            user_memory: true,
            any_source: true,
            unattended: false,
            coherent: false,
            in_place: false,
            whole_lines: false,
        }
    }

    fn alloc(&mut self, len: usize) -> Result<(Region, Memory)> {
        self.traffic.regions.alloc(len)
    }

    #[expect(unsafe_code, reason = "the trait's method is unsafe")]
    unsafe fn register(&mut self, memory: Memory) -> Result<Region> {
        if memory.space != Space::Host {
            return Err(Error::Unsupported {
                transport: NAME,
                what: "register memory of a device",
            });
        }
        // SAFETY: the caller promises it until `release`, which removes every use of the bytes.
        let bytes = unsafe { Bytes::new(memory) };
        self.traffic.regions.register(bytes)
    }

    fn settle(&mut self, region: Region) {
        self.traffic.settle(region);
    }

    fn release(&mut self, region: Region) {
        self.traffic.settle(region);
        self.traffic.regions.release(region);
    }

    fn key(&self, region: Region, to: Peer) -> Option<Card> {
        self.traffic.regions.key(region, to)
    }

    fn import(&mut self, of: Peer, key: &Card) -> Result<RemoteRegion> {
        self.remotes.add(Remote::from_key(of, key)?)
    }

    fn forget(&mut self, region: RemoteRegion) {
        self.remotes.forget(region);
    }

    fn window(&self, _: RemoteRegion) -> Option<Memory> {
        None
    }

    fn address(&self) -> Card {
        address::encode(self.options.id, &self.options.addresses)
    }

    fn connect(&mut self, peer: Peer, address: &Card, hello: &Card) -> Result<()> {
        assert!(hello.0.len() <= Card::MAX, "a greeting is no longer than a card");
        let address = address::decode(address)?;
        if peer == self.options.me {
            return Err(Error::Unsupported { transport: NAME, what: "connect a rank to itself" });
        }
        self.restless = true;
        let mut joining = match std::mem::take(self.link(peer)) {
            Link::None => {
                self.joining.push(peer);
                Box::new(Joining::new(self.options.flows))
            }
            Link::Joining(joining) if !joining.is_connecting() => joining,
            Link::Failed(error) => {
                *self.link(peer) = Link::Lost;
                return Err(error);
            }
            other => panic!("connect is called once per peer, and peer {} is {other:?}", peer.0),
        };
        let begun = joining.connect(self.desk(peer), address, hello);
        *self.link(peer) = if begun.is_ok() { Link::Joining(joining) } else { Link::Lost };
        self.watch_port();
        begun
    }

    fn counter(&mut self, from: Peer) -> Result<Signal> {
        let number =
            u32::try_from(self.traffic.counters.len()).ok().filter(|number| *number < NO_SIGNAL);
        let number = number
            .ok_or_else(|| Error::Exhausted { transport: NAME, what: "another counter".into() })?;
        self.traffic.counters.push(Counter { from, value: 0 });
        Ok(Signal(number))
    }

    fn put(&mut self, put: &Put<'_>) -> std::result::Result<Posted, Full> {
        let header = self.header(put);
        if header == Header::signal(NO_SIGNAL) {
            return Ok(Posted::Done);
        }
        let Some(Link::Up(first)) = self.links.get(index(put.to.0)) else {
            return Ok(Posted::Done);
        };
        assert!(put.flow.0 < self.options.flows, "a put takes a flow that there is");
        let id = FlowId(first.0 + u32::from(put.flow.0));
        self.driver.post(&mut self.traffic, id, header, put)
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        self.restless = false;
        self.join(events);
        self.driver.turn(&self.epoll, &mut self.traffic, events);
        // One by one: what stays in the list is known to have ended, and not read any more.
        while let Some((id, error)) = self.traffic.ended.pop() {
            self.lose(id, error, events);
        }
    }

    fn is_behind(&self) -> bool {
        self.driver.is_behind()
    }

    fn arrived(&self, signal: Signal) -> u64 {
        self.traffic.counters[index(signal.0)].value
    }

    fn acquire(&mut self, _: Span) {}

    fn doorbell(&self) -> Option<RawFd> {
        Some(self.epoll.0.as_raw_fd())
    }

    fn arm(&mut self) -> bool {
        self.driver.arm(&self.epoll, &mut self.traffic) && !self.restless
    }
}

impl Drop for Tcp {
    /// Closing a socket with unread bytes resets the connection, and the peer may lose what was sent last. So the
    /// sending direction is ended first, and what is there is read.
    fn drop(&mut self) {
        for id in self.traffic.ids().collect::<Vec<_>>() {
            if let Some(flow) = self.traffic.flow(id) {
                // It fails when the peer is gone already.
                let _ = flow.stream.shutdown(Shutdown::Write);
            }
            self.driver.close(&self.epoll, &mut self.traffic, id);
            while self.traffic.hear(id) == Heard::Part {}
        }
    }
}
