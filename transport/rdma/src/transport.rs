//! The transport itself: its peers, from the first connection to the loss.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_device::{Device, DmaBuf, Memory, Space};
use dure_transport::{
    Caps, Card, Event, Full, Peer, Posted, Put, Region, RemoteRegion, Signal, Span, Token,
    Transport, Way,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use rdma_sys::{ibv_send_wr, ibv_sge, ibv_wc};

use crate::card::{Address, Key, rails};
use crate::error::{Error, Result};
use crate::flow::{Flight, Lane};
use crate::join::{Farewell, Link, Pair};
use crate::nic::{self, GidIndex, Nic};
use crate::queue::{Patience, Queue};
use crate::region::{Regions, Remotes, index};
use crate::stripe::SIGNALS;
use crate::verbs::Qp;
use crate::{NAME, verbs};

/// A spinning rank looks at the side channel and at events of the devices once in so many polls: a look is a system call
/// or more, a poll some tens of nanoseconds, and only the beginning and the end of a peer wait for it.
const POLLS_PER_LOOK: u32 = 1024;
/// Completions taken from a queue at once.
pub(crate) const BATCH: usize = 16;
/// How long a transport that is dropped waits for what it has posted.
const LINGER: Duration = Duration::from_secs(1);

/// When a queue pair that has ended is destroyed: the verb waits for packets that the kernel holds until it has asked three
/// times in vain for the neighbour, a second each.
const BURIED: Duration = Duration::from_secs(5);

/// Longest head of a put: what fits a slot of the bounce buffer.
const HEAD: usize = nic::BOUNCE;

/// What [`open`] needs.
pub struct Options<'a> {
    /// The rank of this side.
    pub me: Peer,
    /// The transport that reaches the same peers, over which queue pairs are agreed upon. Nobody else uses it.
    pub side: Box<dyn Transport>,
    /// Whether a device of this name may be used.
    pub allows: &'a dyn Fn(&str) -> bool,
    /// Which GIDs may be used.
    pub gid_index: GidIndex,
    /// Queue pairs per peer and rail, the same on all ranks; at least 1.
    pub flows: u16,
    /// How patient they are.
    pub patience: Patience,
    /// Bytes of registrations that are kept when nobody uses them; 0 keeps none. Whoever asks for it promises that memory
    /// which took part in a call is not unmapped as long as the transport is there, or that nothing else is mapped there.
    pub kept_bytes: usize,
    /// Devices whose memory may be registered where they export it.
    pub devices: Vec<Arc<dyn Device>>,
    /// Whether puts go over the side channel when no rail is left; the same on all ranks.
    pub falls_back: bool,
}

impl Options<'_> {
    /// Any device and GID, one flow, and nothing that costs memory or another wire.
    pub fn new(me: Peer, side: Box<dyn Transport>) -> Self {
        Self {
            me,
            side,
            allows: &|_| true,
            gid_index: GidIndex::Any,
            flows: 1,
            patience: Patience::default(),
            kept_bytes: 0,
            devices: Vec::new(),
            falls_back: false,
        }
    }
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("me", &self.me)
            .field("flows", &self.flows)
            .finish_non_exhaustive()
    }
}

/// Opens the RDMA transport of one rank of one communicator.
///
/// # Errors
/// [`Error::Library`] and [`Error::NoPort`] when there is no RDMA that this process can use; [`Error::Call`] when a
/// device refuses what is needed.
///
/// # Panics
/// When `options.flows` is 0.
pub fn open(options: Options<'_>) -> Result<Box<dyn Transport>> {
    Ok(Box::new(assemble(options)?))
}

pub(crate) fn assemble(options: Options<'_>) -> Result<Rdma> {
    let nics = nic::open_all(verbs::load()?, options.allows, options.gid_index)?;
    assemble_over(nics, options)
}

/// As [`assemble`], over ports that are open.
pub(crate) fn assemble_over(nics: Vec<Nic>, options: Options<'_>) -> Result<Rdma> {
    let Options { me, side, flows, patience, kept_bytes, devices, falls_back, .. } = options;
    assert!(flows > 0, "a peer has at least one flow");
    let doorbell =
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::system("epoll_create1"))?;
    let rings = nics.iter().flat_map(|nic| [nic.cq.fd(), nic.context.async_fd()]);
    for fd in rings.chain(side.doorbell()) {
        // SAFETY: the descriptor belongs to an object that lives as long as the doorbell.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        doorbell
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))
            .map_err(Error::system("epoll_ctl"))?;
    }
    let pds = nics.iter().map(|nic| Arc::clone(&nic.pd)).collect();
    Ok(Rdma {
        me,
        flows,
        patience,
        devices,
        links: Vec::new(),
        queues: Vec::new(),
        graves: Vec::new(),
        flights: Vec::new(),
        free_flights: Vec::new(),
        regions: RefCell::new(Regions::new(pds, kept_bytes)),
        remotes: Remotes::default(),
        counters: Vec::new(),
        completions: (0..BATCH).map(|_| empty_completion()).collect(),
        requests: Vec::new(),
        entries: Vec::new(),
        told: Vec::new(),
        farewells: Vec::new(),
        falls_back,
        detoured: false,
        polls: 0,
        look: true,
        needs_side: true,
        nics,
        side,
        doorbell,
    })
}

/// Whether two ranks reach one another over RDMA, as far as their addresses tell. Each end gets the same answer.
pub fn reaches(here: &Card, there: &Card) -> bool {
    let (Ok(here), Ok(there)) = (Address::decode(here), Address::decode(there)) else {
        return false;
    };
    !rails(&here.ports, &there.ports, true).is_empty()
}

fn empty_completion() -> ibv_wc {
    // SAFETY: a struct of numbers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// A counter that one peer bumps.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) from: Peer,
    pub(crate) value: u64,
}

/// The order of the fields is that in which they end: queue pairs, registrations, devices.
pub(crate) struct Rdma {
    pub(crate) me: Peer,
    pub(crate) flows: u16,
    pub(crate) patience: Patience,
    devices: Vec<Arc<dyn Device>>,
    /// By rank.
    pub(crate) links: Vec<Link>,
    /// Of all peers; those of a pair lie together, flow by flow, in each rail by rail.
    pub(crate) queues: Vec<Queue>,
    /// Queue pairs that have ended, and when.
    graves: Vec<(Instant, Qp)>,
    pub(crate) flights: Vec<Flight>,
    pub(crate) free_flights: Vec<usize>,
    pub(crate) regions: RefCell<Regions>,
    pub(crate) remotes: Remotes,
    /// By number, which is that of a counter of the side channel.
    pub(crate) counters: Vec<Option<Counter>>,
    pub(crate) completions: Box<[ibv_wc]>,
    /// The chain and the gather lists of a put; kept so that a put allocates nothing.
    pub(crate) requests: Vec<ibv_send_wr>,
    pub(crate) entries: Vec<ibv_sge>,
    /// What happened outside of `poll`.
    pub(crate) told: Vec<Event>,
    pub(crate) farewells: Vec<Farewell>,
    pub(crate) falls_back: bool,
    /// Some puts of peers may have come over the side channel.
    pub(crate) detoured: bool,
    polls: u32,
    /// The next poll looks at what is rarely looked at.
    pub(crate) look: bool,
    /// The next poll hears the side channel.
    needs_side: bool,
    pub(crate) nics: Vec<Nic>,
    pub(crate) side: Box<dyn Transport>,
    doorbell: Epoll,
}

// SAFETY: requests and gather lists hold addresses that nobody uses between calls.
unsafe impl Send for Rdma {}

impl fmt::Debug for Rdma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rdma")
            .field("me", &self.me)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

impl Rdma {
    pub(crate) fn link(&mut self, peer: Peer) -> &mut Link {
        let at = index(peer.0);
        if at >= self.links.len() {
            self.links.resize_with(at + 1, Link::default);
        }
        &mut self.links[at]
    }

    /// The pair with a peer that is there or being made.
    pub(crate) fn pair(&self, peer: Peer) -> Option<&Pair> {
        match self.links.get(index(peer.0)) {
            Some(Link::There(pair)) => Some(pair),
            _ => None,
        }
    }

    pub(crate) fn pair_mut(&mut self, peer: Peer) -> Option<&mut Pair> {
        match self.links.get_mut(index(peer.0)) {
            Some(Link::There(pair)) => Some(pair),
            _ => None,
        }
    }

    /// What peers need to know of this rank.
    pub(crate) fn own_address(&self) -> Address {
        let ports = self.nics.iter().map(|nic| nic.card.clone()).collect();
        Address { ports, side: self.side.address() }
    }

    /// The connection to a peer is over, as the peer knows.
    pub(crate) fn lose(
        &mut self,
        peer: Peer,
        error: dure_transport::Error,
        events: &mut Vec<Event>,
    ) {
        let Link::There(pair) = std::mem::replace(self.link(peer), Link::Lost) else { return };
        self.end_pair(&pair);
        events.push(Event::Lost { peer, error });
    }

    /// Ends all queue pairs with a peer, and forgets what was under way on them: no token is given back.
    pub(crate) fn end_pair(&mut self, pair: &Pair) {
        self.end_queues(pair.queues.clone());
        for place in pair.lanes.iter().flat_map(Lane::flights) {
            self.free(place);
        }
    }

    pub(crate) fn end_queues(&mut self, queues: Range<usize>) {
        for queue in &mut self.queues[queues] {
            let nic = &mut self.nics[queue.nic];
            nic.outstanding -= queue.reports;
            nic.queues.remove(&queue.number);
            self.graves.extend(queue.end().map(|qp| (Instant::now(), qp)));
        }
    }

    /// Destroys the queue pairs that have ended a while ago.
    pub(crate) fn clear_graves(&mut self) {
        self.graves.retain(|(ended, _)| ended.elapsed() < BURIED);
    }

    /// Frees what a flight held, and gives back its token.
    pub(crate) fn free(&mut self, place: usize) -> Option<Token> {
        let flight = &mut self.flights[place];
        if let Some((nic, slot, _)) = flight.bounce.take() {
            self.nics[nic].bounce.give_back(slot);
        }
        let regions = self.regions.get_mut();
        flight.spans.drain(..).for_each(|span| regions.count_reader(span.region.0, false));
        let unused = flight.into.take().and_then(|into| self.remotes.let_go(into));
        if let Some(side) = unused {
            self.side.forget(side);
        }
        self.free_flights.push(place);
        self.flights[place].token.take()
    }

    /// Memory of one of the devices, as its plug-in exports it.
    fn dma_buf(&self, memory: Memory) -> Option<DmaBuf> {
        let device = self.devices.iter().find(|device| device.space() == memory.space);
        device.and_then(|device| device.dma_buf(memory))
    }

    /// Makes host memory known to the side channel, where puts may go over that.
    ///
    /// # Safety
    /// As [`Transport::register`].
    unsafe fn register_aside(&mut self, region: Region, memory: Memory) {
        if self.falls_back {
            // SAFETY: the caller's promise.
            let side = unsafe { self.side.register(memory) }.ok();
            self.regions.get_mut().set_side(region.0, side);
        }
    }

    /// Whether puts to some peer have to wait.
    fn is_any_held(&self) -> bool {
        let is_held = |link: &Link| matches!(link, Link::There(pair) if pair.is_held());
        self.links.iter().any(is_held)
    }

    /// Waits until all that was posted has arrived, at most until the deadline: whoever drops a transport has posted its
    /// last puts a moment ago.
    fn linger(&mut self) {
        let deadline = Instant::now() + LINGER;
        let mut events = Vec::new();
        while (self.queues.iter().any(Queue::is_busy)
            || self.is_any_held()
            || !self.farewells.is_empty())
            && Instant::now() < deadline
        {
            self.post_markers();
            self.look = true;
            self.poll(&mut events);
            std::thread::yield_now();
        }
    }
}

impl Drop for Rdma {
    fn drop(&mut self) {
        self.linger();
        for queue in &mut self.queues {
            // Before the registrations, which their requests name.
            queue.end();
        }
    }
}

impl Transport for Rdma {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self, _: Peer) -> Caps {
        let gather = self.nics.iter().map(|nic| nic.gather).min().unwrap_or(2);
        let gather = gather.min(crate::queue::GATHER).saturating_sub(1).max(1);
        Caps {
            head: HEAD,
            gather: gather as usize,
            flows: self.flows,
            user_memory: true,
            any_source: true,
            unattended: true,
            coherent: false,
            in_place: false,
            whole_lines: false,
        }
    }

    fn alloc(&mut self, len: usize) -> dure_transport::Result<(Region, Memory)> {
        let (region, memory) = self.regions.get_mut().alloc(len)?;
        // SAFETY: the memory is this transport's, which releases both regions together.
        unsafe { self.register_aside(region, memory) };
        Ok((region, memory))
    }

    unsafe fn register(&mut self, memory: Memory) -> dure_transport::Result<Region> {
        let Space::Device(_) = memory.space else {
            let region = self.regions.get_mut().host(memory);
            // SAFETY: the caller's promise, until `release` ends both regions.
            unsafe { self.register_aside(region, memory) };
            return Ok(region);
        };
        let refused = dure_transport::Error::Unsupported {
            transport: NAME,
            what: "register memory of a device that exports no dma-buf",
        };
        let dma_buf = self.dma_buf(memory).ok_or(refused)?;
        match self.regions.get_mut().device(memory, dma_buf) {
            Ok(region) => Ok(region),
            Err(error) => {
                tracing::info!(target: "dure::net", %error, "memory of a device is staged");
                Err(error.into())
            }
        }
    }

    fn way(&mut self, memory: Memory, _: Peer) -> Way {
        let Some(dma_buf) = self.dma_buf(memory) else {
            let why = "its plug-in exports no dma-buf".to_owned();
            return Way { is_direct: false, why };
        };
        match self.regions.get_mut().device(memory, dma_buf) {
            Ok(region) => {
                self.regions.get_mut().release(region);
                let why = "the NIC reads it by its dma-buf, where the buffer is registered";
                Way { is_direct: true, why: why.to_owned() }
            }
            Err(error) => Way { is_direct: false, why: error.chain() },
        }
    }

    fn settle(&mut self, region: Region) {
        if self.regions.get_mut().own(region.0).readers > 0 {
            self.give_up_readers(region);
        }
        if let Some(side) = self.regions.get_mut().own(region.0).side {
            self.side.settle(side);
        }
    }

    fn release(&mut self, region: Region) {
        self.settle(region);
        if let Some(side) = self.regions.get_mut().own(region.0).side {
            self.side.release(side);
        }
        self.regions.get_mut().release(region);
    }

    fn key(&self, region: Region, to: Peer) -> Option<Card> {
        let key = self.regions.borrow_mut().key(region);
        match key {
            Ok(mut key) => {
                let side = self.regions.borrow().own(region.0).side;
                let side = side.and_then(|side| self.side.key(side, to));
                key.side = side.unwrap_or_default();
                Some(key.encode())
            }
            Err(error) => {
                let cause = std::error::Error::source(&error);
                tracing::warn!(target: "dure::net", %error, cause, "memory is staged");
                None
            }
        }
    }

    fn import(&mut self, of: Peer, key: &Card) -> dure_transport::Result<RemoteRegion> {
        let ports =
            self.pair(of).map(|pair| pair.there.len()).ok_or(dure_transport::Error::Closed)?;
        let key = Key::decode(key, ports)?;
        let has_side = self.falls_back && !key.side.0.is_empty();
        let side = if has_side { Some(self.side.import(of, &key.side)?) } else { None };
        Ok(self.remotes.add(of, key, side))
    }

    fn forget(&mut self, region: RemoteRegion) {
        if let Some(side) = self.remotes.forget(region) {
            self.side.forget(side);
        }
    }

    fn window(&self, _: RemoteRegion) -> Option<Memory> {
        None
    }

    fn address(&self) -> Card {
        self.own_address().encode()
    }

    fn connect(&mut self, peer: Peer, address: &Card, hello: &Card) -> dure_transport::Result<()> {
        self.begin(peer, address, hello)
    }

    fn counter(&mut self, from: Peer) -> dure_transport::Result<Signal> {
        let signal = self.side.counter(from)?;
        if signal.0 >= SIGNALS {
            let what = "another counter".to_owned();
            return Err(dure_transport::Error::Exhausted { transport: NAME, what });
        }
        self.counters.resize_with(index(signal.0) + 1, || None);
        self.counters[index(signal.0)] = Some(Counter { from, value: 0 });
        Ok(signal)
    }

    fn put(&mut self, put: &Put<'_>) -> std::result::Result<Posted, Full> {
        self.post(put)
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.told);
        self.reap(events);
        self.polls = self.polls.wrapping_add(1);
        let looks = std::mem::take(&mut self.look)
            || self.polls.is_multiple_of(POLLS_PER_LOOK)
            || !self.regions.get_mut().gone.is_empty();
        if looks {
            self.hear_devices(events);
        }
        if looks || self.needs_side {
            self.hear_side(events);
            self.needs_side = self.needs_side();
        }
    }

    fn is_behind(&self) -> bool {
        self.side.is_behind() || self.needs_side && self.is_any_held()
    }

    fn arrived(&self, signal: Signal) -> u64 {
        let counter = self.counters[index(signal.0)].as_ref();
        let value = counter.map_or(0, |counter| counter.value);
        if self.detoured { value + self.side.arrived(signal) } else { value }
    }

    fn acquire(&mut self, _: Span) {}

    fn doorbell(&self) -> Option<RawFd> {
        Some(self.doorbell.0.as_raw_fd())
    }

    fn arm(&mut self) -> bool {
        self.look = true;
        let mut told = std::mem::take(&mut self.told);
        let found = self.arm_completions(&mut told);
        self.told = told;
        !found && self.told.is_empty() && self.side.arm()
    }
}
