//! What all runs of an executor share: the transport, the links, the device queues and the memory in flight.

use std::ops::Range;
use std::sync::Arc;

use dure_device::{Memory, Queue, Space, Work};
use dure_transport::{Card, Event as News, Peer, Put, Region, Span, Token, Transport};

use crate::Error;
use crate::clock::Clock;
use crate::detours::Detours;
use crate::lent::Lent;
use crate::link::{Link, Settings};
use crate::recorder::{Event, Recorder};
use crate::slot::{self, InRegion, Kind};

/// The region that some memory is part of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cover {
    pub(crate) region: Region,
    /// First byte of the memory in the region.
    pub(crate) offset: u64,
}

/// A source that is still read: by the transport, or by a peer in place.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) until: Until,
    /// Whom the message is for.
    pub(crate) to: u32,
    /// The run that it is a message of.
    pub(crate) run: u64,
    /// Where its bytes are: here, or in a staging buffer.
    pub(crate) memory: Vec<Memory>,
    pub(crate) staging: Option<usize>,
}

/// When a source is read no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// When the transport gives this token back.
    Sent(Token),
    /// When the peer gives back the slot of this number that told it where the source is.
    Freed { lane: usize, slot: u64 },
}

/// Memory of the transport's that messages are sent from when it cannot send from where they are.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) region: Region,
    pub(crate) memory: Memory,
    /// Messages that use it.
    users: u32,
}

/// Scratch of one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scratch {
    pub(crate) region: Region,
    pub(crate) memory: Memory,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) net: Box<dyn Transport>,
    pub(crate) settings: Settings,
    addresses: Box<[Card]>,
    /// By rank of the peer; `None` where no call needed it yet.
    pub(crate) links: Box<[Option<Box<Link>>]>,
    pub(crate) queues: Vec<(Space, Box<dyn Queue>)>,
    /// The queue of the host, whose work is done when it was submitted.
    pub(crate) host: usize,
    /// The last ticket of each queue.
    tickets: Vec<u64>,
    /// By queue, then by lane: that of a device lies in its own memory where peers can read it there, or else in the host's.
    scratch: Vec<Vec<Option<Scratch>>>,
    staging: Vec<Staging>,
    held: Vec<Held>,
    pub(crate) lent: Lent,
    /// Peers and lanes that a mail is owed to, whatever the messages say that have gone there since.
    owed: Vec<(u32, usize)>,
    /// Peers and lanes to which messages were published since the bells were rung.
    unrung: Vec<(u32, usize)>,
    next_token: u64,
    events: Vec<News>,
    pub(crate) detours: Arc<Detours>,
    pub(crate) recorders: Vec<Recorder>,
    /// Room for the segments of the current step.
    pub(crate) segments: Vec<Range<u64>>,
    /// Room for the operands of a reduction.
    pub(crate) operands: Vec<Memory>,
    /// Room for a message that is sent as one head.
    pub(crate) head: Vec<u8>,
}

impl Machine {
    pub(crate) fn new(
        net: Box<dyn Transport>,
        addresses: Box<[Card]>,
        settings: Settings,
        queues: Vec<(Space, Box<dyn Queue>)>,
    ) -> Self {
        let lanes = usize::from(settings.lanes) + 1;
        let clock = Clock::start();
        let recorder = if addresses.len() > 1 { Recorder::new } else { Recorder::none };
        Self {
            net,
            settings,
            links: addresses.iter().map(|_| None).collect(),
            addresses,
            tickets: vec![0; queues.len()],
            host: position(&queues, Space::Host),
            scratch: queues.iter().map(|_| vec![None; lanes]).collect(),
            queues,
            staging: Vec::new(),
            held: Vec::new(),
            lent: Lent::default(),
            owed: Vec::new(),
            unrung: Vec::new(),
            next_token: 0,
            events: Vec::new(),
            detours: Arc::default(),
            recorders: (0..lanes).map(|_| recorder(clock)).collect(),
            segments: Vec::new(),
            operands: Vec::new(),
            head: Vec::new(),
        }
    }

    /// Notes that a call begins on a lane.
    #[inline]
    pub(crate) fn begin(&mut self, lane: usize, call: u32) {
        let event = Event { call, step: Event::BEGIN, peer: u32::MAX, ..Event::default() };
        self.recorders[lane].record(event);
    }

    /// Hands memory that peers read often to the transport. No call may be under way.
    #[inline]
    pub(crate) fn lend(&mut self) {
        if let Some(memory) = self.lent.take_due() {
            self.net.lend(memory);
        }
    }

    /// Lets the transport move, and handles what happened. True when something did.
    pub(crate) fn poll(&mut self) -> Result<bool, Error> {
        self.net.poll(&mut self.events);
        let mut moved = !self.events.is_empty();
        if moved {
            self.attend()?;
        }
        if !self.owed.is_empty() {
            let mut owed = std::mem::take(&mut self.owed);
            owed.retain(|(peer, lane)| {
                let (link, net) = self.link_and_net(*peer);
                !link.mail(net, *lane)
            });
            self.owed = owed;
        }
        if !self.held.is_empty() {
            moved |= self.settle();
        }
        Ok(moved)
    }

    /// Handles what the transport said.
    fn attend(&mut self) -> Result<(), Error> {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                News::Up { peer, hello } => {
                    let (link, net) = self.link_and_net(peer.0);
                    link.up(net, &hello)?;
                    link.tell_reads(net);
                }
                News::Lost { peer, error } => {
                    if let Some(link) = &mut self.links[peer.0 as usize] {
                        link.lose(error);
                    }
                }
                News::Rerouted { peer, route } => self.detours.set(peer.0, route),
                News::Sent(token) => self.release(token),
            }
        }
        self.events = events;
        Ok(())
    }

    /// Forgets the sources that peers have read, and those of peers that are gone: one that was done with them may have left
    /// before its word of that came. True when there were some.
    fn settle(&mut self) -> bool {
        let mut index = 0;
        let mut moved = false;
        while let Some(held) = self.held.get(index) {
            if let Until::Freed { lane, slot } = held.until {
                let to = held.to;
                let (link, net) = self.link_and_net(to);
                if link.is_freed(net, lane, slot) || link.is_lost() {
                    self.let_go(index);
                    moved = true;
                    continue;
                }
            }
            index += 1;
        }
        moved
    }

    /// Starts to connect to a peer, if that was not done.
    pub(crate) fn connect(&mut self, peer: u32) -> Result<(), Error> {
        let at = peer as usize;
        if self.links[at].is_none() {
            let link = Link::open(&mut *self.net, peer, &self.addresses[at], self.settings)?;
            self.links[at] = Some(Box::new(link));
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn link(&mut self, peer: u32) -> &mut Link {
        self.link_and_net(peer).0
    }

    #[inline]
    pub(crate) fn link_and_net(&mut self, peer: u32) -> (&mut Link, &mut dyn Transport) {
        let link = self.links[peer as usize].as_deref_mut();
        (link.expect("a run connects to its peers when it starts"), &mut *self.net)
    }

    /// Publishes a message to a coherent peer, given its slot, its bytes, the digest of its call, and where the bytes are.
    /// Returns the number of its slot. A peer that sleeps wakes when the bells are rung.
    #[inline]
    #[allow(unsafe_code, reason = "writes into the peer's slot")]
    pub(crate) fn publish(
        &mut self,
        to: u32,
        lane: usize,
        (slot, bytes, digest, kind): (Memory, u64, u32, Kind),
    ) -> u64 {
        let link = self.link(to);
        let bytes = u32::try_from(bytes).expect("a message fits a slot");
        let header = link.header(lane, digest, bytes, kind);
        // SAFETY: the slot is free, and a window on it is alive as long as the link.
        unsafe { slot::publish(slot, header) };
        let number = link.sent(lane, true);
        self.unrung.push((to, lane));
        number
    }

    /// Wakes the peers that messages were published to. (Each bell waits until all stores before it are seen: so they are
    /// rung when there is nothing else to do.)
    #[inline]
    pub(crate) fn ring(&mut self) {
        if self.unrung.is_empty() {
            return;
        }
        let mut unrung = std::mem::take(&mut self.unrung);
        unrung.retain(|(to, lane)| {
            let token = self.next_token();
            let (link, net) = self.link_and_net(*to);
            let put = Put {
                to: Peer(*to),
                flow: link.flow(*lane),
                head: &[],
                body: &[],
                into: None,
                at: 0,
                signal: link.data_signal(*lane),
                token,
            };
            net.put(&put).is_err()
        });
        self.unrung = unrung;
    }

    /// The slot of the next message of a peer was read, or its message landed elsewhere. The peer gets the slot back
    /// `now` when it waits for that, or else when it is due.
    #[inline]
    pub(crate) fn take(&mut self, peer: u32, lane: usize, in_slot: bool, now: bool) {
        let (link, net) = self.link_and_net(peer);
        link.take(lane, in_slot);
        if link.is_mail_due(lane, now)
            && (link.can_mail_wait(lane) || !link.mail(net, lane))
            && !self.owed.contains(&(peer, lane))
        {
            self.owed.push((peer, lane));
        }
    }

    /// The slot of a message was read whose bytes the peer keeps: it waits for the slot.
    ///
    /// # Errors
    /// [`Error::Lost`] when the peer did not keep them so long.
    pub(crate) fn take_kept(&mut self, peer: u32, lane: usize) -> Result<(), Error> {
        let (link, net) = self.link_and_net(peer);
        link.stands(net)?;
        self.take(peer, lane, true, true);
        Ok(())
    }

    /// Tells the peers that what they still read here stands no more.
    pub(crate) fn withdraw(&mut self) {
        self.links.iter().flatten().for_each(|link| link.withdraw(&mut *self.net));
        slot::before_later_stores();
    }

    /// The queue that works in a space.
    pub(crate) fn queue_of(&self, space: Space) -> usize {
        if space == Space::Host { self.host } else { position(&self.queues, space) }
    }

    /// Gives work to a device.
    ///
    /// # Safety
    /// As [`Queue::submit`].
    #[inline]
    #[allow(unsafe_code, reason = "the one place where work is given to devices")]
    pub(crate) unsafe fn submit(&mut self, queue: usize, work: &Work<'_>) -> Result<u64, Error> {
        // SAFETY: the caller promises what the queue asks for.
        let ticket = unsafe { self.queues[queue].1.submit(work) }?;
        self.tickets[queue] = ticket;
        Ok(ticket)
    }

    /// Whether the devices have done all work that was given to them, or are gone.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut queues = self.queues.iter_mut().zip(&self.tickets);
        queues.all(|((_, queue), ticket)| queue.completed().map_or(true, |done| done >= *ticket))
    }

    /// Makes `memory` known to the transport, where the transport can use it at no cost.
    ///
    /// # Safety
    /// As [`Transport::register`].
    #[allow(
        unsafe_code,
        reason = "the one place where memory of the user is given to the transport"
    )]
    pub(crate) unsafe fn register(&mut self, memory: Memory) -> Option<Region> {
        // SAFETY: the caller promises what the transport asks for.
        unsafe { self.net.register(memory) }.ok()
    }

    /// The space that a queue's device shares with peers' devices; the host's otherwise.
    pub(crate) fn shared_space(&self, queue: usize) -> Space {
        let space = self.queues[queue].0;
        if space != Space::Host && self.net.reaches(space) { space } else { Space::Host }
    }

    /// Memory of the transport's in a space.
    fn alloc_in(
        &mut self,
        space: Space,
        len: usize,
        what: &'static str,
    ) -> Result<(Region, Memory), Error> {
        let got = match space {
            Space::Host => self.net.alloc(len),
            Space::Device(_) => self.net.alloc_in(space, len),
        };
        got.map_err(|source| Error::NoMemory { what, source })
    }

    /// Makes sure that a lane has at least `bytes` bytes of scratch for calls of a queue.
    pub(crate) fn need_scratch(
        &mut self,
        queue: usize,
        lane: usize,
        bytes: u64,
    ) -> Result<(), Error> {
        let bytes = usize::try_from(bytes).expect("scratch is a few slots long");
        if bytes == 0 || self.scratch[queue][lane].is_some_and(|s| s.memory.len >= bytes) {
            return Ok(());
        }
        if let Some(old) = self.scratch[queue][lane].take() {
            self.net.release(old.region);
        }
        let space = self.shared_space(queue);
        let (region, memory) = self.alloc_in(space, bytes, "the scratch of a lane")?;
        self.scratch[queue][lane] = Some(Scratch { region, memory });
        Ok(())
    }

    /// The scratch of a lane for calls of a queue.
    #[inline]
    pub(crate) fn scratch(&self, queue: usize, lane: usize) -> Option<Scratch> {
        self.scratch[queue][lane]
    }

    /// All scratch and staging.
    pub(crate) fn memory(&self) -> impl Iterator<Item = Memory> {
        let scratch = self.scratch.iter().flatten().flatten().map(|scratch| scratch.memory);
        scratch.chain(self.staging.iter().map(|staging| staging.memory))
    }

    /// A free staging buffer of a slot's size on the host; `None` when all are in flight.
    pub(crate) fn stage(&mut self) -> Result<Option<usize>, Error> {
        self.stage_in(Space::Host)
    }

    /// The same in some space.
    pub(crate) fn stage_in(&mut self, space: Space) -> Result<Option<usize>, Error> {
        let there = |staging: &Staging| staging.memory.space == space;
        if let Some(index) = self.staging.iter().position(|s| s.users == 0 && there(s)) {
            self.staging[index].users = 1;
            return Ok(Some(index));
        }
        let most = self.settings.slots as usize * self.recorders.len();
        if self.staging.iter().filter(|staging| there(staging)).count() >= most {
            return Ok(None);
        }
        let len = self.settings.slot_bytes as usize;
        let (region, memory) = self.alloc_in(space, len, "a staging buffer")?;
        self.staging.push(Staging { region, memory, users: 1 });
        Ok(Some(self.staging.len() - 1))
    }

    /// A free staging buffer, if every lane finds one besides: a run that waits for one must not wait for readers.
    pub(crate) fn stage_for_readers(&mut self) -> Result<Option<usize>, Error> {
        let used = self.staging.iter().filter(|s| s.users > 0).count();
        let spare = (self.settings.slots as usize - 1) * self.recorders.len();
        if used < spare { self.stage() } else { Ok(None) }
    }

    pub(crate) fn staging(&self, index: usize) -> &Staging {
        &self.staging[index]
    }

    /// The first `bytes` bytes of a staging buffer, as the transport names them.
    pub(crate) fn staged(&self, index: usize, bytes: u64) -> Span {
        Span { region: self.staging[index].region, offset: 0, len: bytes }
    }

    /// Another message is in a staging buffer.
    pub(crate) fn share_staging(&mut self, index: usize) {
        self.staging[index].users += 1;
    }

    /// A message is in a staging buffer no more.
    pub(crate) fn unstage(&mut self, index: usize) {
        self.staging[index].users -= 1;
    }

    pub(crate) fn next_token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Remembers that a source is still read.
    pub(crate) fn hold(&mut self, held: Held) {
        self.held.push(held);
    }

    fn release(&mut self, token: Token) {
        if let Some(index) = self.held.iter().position(|h| h.until == Until::Sent(token)) {
            self.let_go(index);
        }
    }

    /// A source is read no more.
    fn let_go(&mut self, index: usize) {
        if let Some(staging) = self.held.swap_remove(index).staging {
            self.unstage(staging);
        }
    }

    /// A peer for whom something of a run is still read.
    pub(crate) fn reader_of_run(&self, run: u64) -> Option<u32> {
        self.held.iter().find(|h| h.run == run).map(|h| h.to)
    }

    /// A peer for whom a staging buffer is still read.
    pub(crate) fn reader_of_staging(&self) -> Option<u32> {
        self.held.iter().find(|h| h.staging.is_some()).map(|h| h.to)
    }

    /// Whether anything at all is still read.
    #[inline]
    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// A peer for whom some of this memory is still read.
    pub(crate) fn reader(&self, memory: Memory) -> Option<u32> {
        let reads = |held: &&Held| held.memory.iter().any(|m| m.overlaps(memory));
        self.held.iter().find(reads).map(|held| held.to)
    }

    /// Reads the header of a message that has arrived.
    #[allow(unsafe_code, reason = "reads what the peer has signalled")]
    pub(crate) fn header(memory: Memory) -> Option<slot::Header> {
        let at = memory.part(slot::Header::AT, slot::Header::BYTES);
        // SAFETY: the message has arrived, and its slot is given back only after the header was read.
        slot::Header::decode(unsafe { slot::read(at) })
    }

    /// Reads the first word of a slot whose message its sender keeps: the address of the message, or how long what the payload says
    /// of its region is.
    #[allow(unsafe_code, reason = "reads what the peer has signalled")]
    pub(crate) fn word(slot: Memory) -> u64 {
        // SAFETY: as for `header`.
        unsafe { slot::word(slot) }
    }

    /// Reads in which region, and where, a message is that its sender keeps.
    #[allow(unsafe_code, reason = "reads what the peer has signalled")]
    pub(crate) fn in_region(slot: Memory) -> Option<InRegion> {
        // SAFETY: as for `header`.
        unsafe { slot::in_region(slot) }
    }
}

fn position(queues: &[(Space, Box<dyn Queue>)], space: Space) -> usize {
    queues.iter().position(|(s, _)| *s == space).expect("every space has its queue")
}
