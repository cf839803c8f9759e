//! The transport itself: peers, and the system calls of `put` and `poll`.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use dure_device::{Memory, Space};
use dure_transport::proof::Key;
use dure_transport::{
    Caps, Card, Error, Event, Full, Peer, Posted, Put, Region, RemoteRegion, Result, Signal, Span,
    Transport,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::frame::{Header, NO_SIGNAL};
use crate::join::{Desk, Joined, Joining, OTHER, watch};
use crate::memory::Bytes;
use crate::port::{Inbox, Port};
use crate::preamble::Kind;
use crate::prove::broken;
use crate::receive::{Counter, Ground, Left, Receiving};
use crate::region::{Regions, Remote, Remotes, index};
use crate::send::{Frame, GATHER, HEAD, Piece, Sending};
use crate::socket::tune;
use crate::strangers::Strangers;
use crate::timer::Timer;
use crate::{NAME, address};

/// Up to so many flows each is asked in every poll, with one system call that fails if nothing is there; beyond, one
/// system call asks which of them have something.
const ASK_EACH: usize = 8;
/// Flows that are read in one poll when there are many.
const PER_POLL: usize = 64;
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
    Ok(Box::new(Tcp {
        options,
        epoll,
        timer,
        inbox,
        port_watched: false,
        regions: Regions::new(),
        remotes: Remotes::default(),
        counters: Vec::new(),
        links: Vec::new(),
        joining: Vec::new(),
        up: Vec::new(),
        strangers,
        backlog: Vec::new(),
        restless: false,
    }))
}

#[derive(Debug)]
struct Tcp {
    options: Options,
    /// The doorbell: all sockets, and what else may have to be looked at.
    epoll: Epoll,
    timer: Timer,
    inbox: Inbox,
    port_watched: bool,
    regions: Regions,
    remotes: Remotes,
    counters: Vec<Counter>,
    /// By rank.
    links: Vec<Link>,
    /// Ranks whose link is being made.
    joining: Vec<Peer>,
    /// Ranks whose link is up.
    up: Vec<Peer>,
    strangers: Strangers,
    /// Flows with frames that wait.
    backlog: Vec<(Peer, u16)>,
    /// Something can go on without any descriptor becoming readable.
    restless: bool,
}

/// What there is of a peer.
#[derive(Debug, Default)]
enum Link {
    #[default]
    None,
    Joining(Box<Joining>),
    Up(Vec<Flow>),
    /// Lost before this side called `connect`; told when it does.
    Failed(Error),
    Lost,
}

#[derive(Debug)]
struct Flow {
    stream: TcpStream,
    sending: Sending,
    receiving: Receiving,
    /// Whether the doorbell rings when the socket takes more.
    watches_room: bool,
}

impl Tcp {
    fn link(&mut self, peer: Peer) -> &mut Link {
        let at = index(peer.0);
        if at >= self.links.len() {
            self.links.resize_with(at + 1, Link::default);
        }
        &mut self.links[at]
    }

    fn flow(&mut self, peer: Peer, flow: u16) -> Option<&mut Flow> {
        match self.links.get_mut(index(peer.0))? {
            Link::Up(flows) => flows.get_mut(usize::from(flow)),
            _ => None,
        }
    }

    /// Makes the connections that are not up yet go on.
    fn join(&mut self, events: &mut Vec<Event>) {
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
            Ok(Some((flows, hello))) => {
                self.up.push(peer);
                events.push(Event::Up { peer, hello });
                Link::Up(flows)
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

    /// Lets frames flow to and from a peer.
    fn begin(&self, peer: Peer, joined: Joined) -> Result<(Vec<Flow>, Card)> {
        let mut flows = Vec::with_capacity(joined.streams.len());
        for (flow, stream) in (0..).zip(joined.streams) {
            self.watch_flow(&stream, EpollFlags::EPOLLIN, mark(peer, flow))?;
            let (sending, receiving) = (Sending::default(), Receiving::new());
            flows.push(Flow { stream, sending, receiving, watches_room: false });
        }
        Ok((flows, joined.hello))
    }

    fn watch_flow(&self, stream: &TcpStream, what: EpollFlags, mark: u64) -> Result<()> {
        let done = self.epoll.modify(stream, &mut EpollEvent::new(what, mark));
        done.map_err(|errno| Error::System { call: "epoll_ctl", source: errno.into() })
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

    /// Sends what waits.
    fn flush(&mut self, events: &mut Vec<Event>) {
        let mut backlog = std::mem::take(&mut self.backlog);
        backlog.retain(|(peer, flow)| {
            let Some(Flow { stream, sending, .. }) = self.flow(*peer, *flow) else { return false };
            sending.flush(stream.as_fd(), events);
            if !sending.is_idle() {
                return true;
            }
            self.watch_room(*peer, *flow, false);
            false
        });
        self.backlog = backlog;
    }

    /// Lets the doorbell ring when a flow takes more, or no more. If the kernel refuses, the worst is a late wake-up.
    fn watch_room(&mut self, peer: Peer, number: u16, wanted: bool) {
        let Some(Link::Up(flows)) = self.links.get_mut(index(peer.0)) else { return };
        let flow = &mut flows[usize::from(number)];
        if flow.watches_room != wanted {
            let room = if wanted { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            let mut event = EpollEvent::new(EpollFlags::EPOLLIN | room, mark(peer, number));
            flow.watches_room = self.epoll.modify(&flow.stream, &mut event).is_ok() && wanted;
        }
    }

    /// Reads what is there.
    fn read(&mut self, events: &mut Vec<Event>) {
        let flows = self.options.flows;
        if self.up.len() * usize::from(flows) <= ASK_EACH {
            // From the back, so that a lost peer, which is taken out, does not make the loop skip another.
            for at in (0..self.up.len()).rev() {
                let peer = self.up[at];
                (0..flows).for_each(|flow| self.read_flow(peer, flow, events));
            }
            return;
        }
        let mut ready = [EpollEvent::empty(); PER_POLL];
        let count = self.epoll.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
        for event in ready[..count].iter().filter(|event| event.data() != OTHER) {
            let (peer, flow) = unmark(event.data());
            self.read_flow(peer, flow, events);
        }
    }

    fn read_flow(&mut self, peer: Peer, flow: u16, events: &mut Vec<Event>) {
        if let Err(error) = self.read_some(peer, flow) {
            self.lose(peer, flow, error, events);
        }
    }

    fn read_some(&mut self, peer: Peer, flow: u16) -> Result<Left> {
        let Some(Link::Up(flows)) = self.links.get_mut(index(peer.0)) else {
            return Ok(Left::Nothing);
        };
        let Flow { stream, sending, receiving, .. } = &mut flows[usize::from(flow)];
        let mut ground = Ground { regions: &self.regions, counters: &mut self.counters, peer };
        match receiving.read(stream.as_fd(), &mut ground)? {
            Left::Nothing if sending.is_broken() => Err(Error::Closed),
            left => Ok(left),
        }
    }

    /// Ends the connection to a peer, one flow of which ended. What arrived on the others before counts.
    fn lose(&mut self, peer: Peer, ended: u16, error: Error, events: &mut Vec<Event>) {
        if !matches!(error, Error::Protocol { .. }) {
            for flow in (0..self.options.flows).filter(|flow| *flow != ended) {
                let mut reads = 0..LAST_READS;
                while reads.next().is_some()
                    && matches!(self.read_some(peer, flow), Ok(Left::Perhaps))
                {}
            }
        }
        // Why sending failed says more than that nothing comes any more.
        let cause = self.flow(peer, ended).and_then(|flow| flow.sending.take_error());
        let error = match (error, cause) {
            (Error::Closed, Some(cause)) => broken("send", cause),
            (error, _) => error,
        };
        *self.link(peer) = Link::Lost;
        self.up.retain(|other| *other != peer);
        events.push(Event::Lost { peer, error });
    }

    /// The frame's header, and the pieces of its body in the array.
    fn frame(&self, put: &Put<'_>, pieces: &mut [Piece; GATHER]) -> (Header, usize) {
        let mut count = 0;
        let mut len = u64::try_from(put.head.len()).expect("64 bits hold a length");
        for span in put.body.iter().filter(|span| span.len > 0) {
            pieces[count] = Piece { bytes: self.regions.span(*span), region: span.region };
            count += 1;
            len += span.len;
        }
        let signal = put.signal.map_or(NO_SIGNAL, |signal| signal.0);
        if len == 0 {
            return (Header::signal(signal), 0);
        }
        let into = put.into.and_then(|into| self.remotes.get(into));
        let into = into.expect("a put with bytes goes into a region that is imported");
        assert_eq!(into.of, put.to, "a put goes into a region of the peer that it goes to");
        // Whether it fits is the receiver's to check, who cannot trust this side's answer.
        let len = u32::try_from(len).expect("a put is shorter than 4 GiB");
        (Header { region: into.number, nonce: into.nonce, offset: put.at, len, signal }, count)
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
            unattended: false,
            coherent: false,
        }
    }

    fn alloc(&mut self, len: usize) -> Result<(Region, Memory)> {
        self.regions.alloc(len)
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
        self.regions.register(bytes)
    }

    fn release(&mut self, region: Region) {
        for (peer, flow) in self.backlog.clone() {
            if let Some(flow) = self.flow(peer, flow) {
                flow.sending.detach(region);
                if flow.sending.is_broken() {
                    // Without the rest of a frame nothing can follow on this connection.
                    let _ = flow.stream.shutdown(Shutdown::Both);
                }
            }
        }
        self.regions.release(region);
    }

    fn key(&self, region: Region, to: Peer) -> Option<Card> {
        self.regions.key(region, to)
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
        let number = u32::try_from(self.counters.len()).ok().filter(|number| *number < NO_SIGNAL);
        let number = number
            .ok_or_else(|| Error::Exhausted { transport: NAME, what: "another counter".into() })?;
        self.counters.push(Counter { from, value: 0 });
        Ok(Signal(number))
    }

    fn put(&mut self, put: &Put<'_>) -> std::result::Result<Posted, Full> {
        let mut pieces = [Piece::EMPTY; GATHER];
        let (header, count) = self.frame(put, &mut pieces);
        if header == Header::signal(NO_SIGNAL) {
            return Ok(Posted::Done);
        }
        let Some(flow) = self.flow(put.to, put.flow.0) else { return Ok(Posted::Done) };
        let frame = Frame { header, head: put.head, body: &pieces[..count], token: put.token };
        let was_idle = flow.sending.is_idle();
        let posted = flow.sending.post(flow.stream.as_fd(), &frame)?;
        if was_idle && posted == Posted::Pending {
            self.backlog.push((put.to, put.flow.0));
        }
        Ok(posted)
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        self.restless = false;
        self.join(events);
        self.flush(events);
        self.read(events);
    }

    fn arrived(&self, signal: Signal) -> u64 {
        self.counters[index(signal.0)].value
    }

    fn acquire(&mut self, _: Span) {}

    fn doorbell(&self) -> Option<RawFd> {
        Some(self.epoll.0.as_raw_fd())
    }

    fn arm(&mut self) -> bool {
        if self.restless {
            return false;
        }
        for at in 0..self.backlog.len() {
            let (peer, flow) = self.backlog[at];
            self.watch_room(peer, flow, true);
        }
        true
    }
}

impl Drop for Tcp {
    /// Closing a socket with unread bytes resets the connection, and the peer may lose what was sent last. So the
    /// sending direction is ended first, and what is there is read.
    fn drop(&mut self) {
        for peer in self.up.clone() {
            for flow in 0..self.options.flows {
                if let Some(flow) = self.flow(peer, flow) {
                    // It fails when the peer is gone already.
                    let _ = flow.stream.shutdown(Shutdown::Write);
                }
                while matches!(self.read_some(peer, flow), Ok(Left::Perhaps)) {}
            }
        }
    }
}

/// What epoll says of a flow's socket.
fn mark(peer: Peer, flow: u16) -> u64 {
    u64::from(peer.0) << 16 | u64::from(flow)
}

#[expect(clippy::cast_possible_truncation, reason = "the two parts that `mark` put together")]
fn unmark(mark: u64) -> (Peer, u16) {
    (Peer((mark >> 16) as u32), mark as u16)
}
