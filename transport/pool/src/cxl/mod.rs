//! The transport of memory that several hosts share: a put is a store past the caches, a signal is a store of a line.
//!
//! A *pool* is one or more devices, such as `/dev/dax0.0` over a CXL switch, or files. It has *partitions*, one for each job that
//! uses it at a time; a partition has *members*, one for each process, and each member has an *area* that it alone hands out:
//!
//! ```text
//!   member 0                                   member 1
//!   claim, pulse                               claim, pulse        who has it, and that it lives
//!   area                                       area
//!     board: counters   <--- store a line        board
//!     heap: regions     <--- store past caches   heap              put
//!     table of greetings ---- reads ------->                       connect
//! ```
//!
//! Hosts do not keep each other's caches coherent (CXL 2.0), and nothing that one of them does to a line is atomic for another.
//! So each line has one writer at a time; what is written is in memory before the flag that says so (`view.rs`); and a reader
//! drops its lines before it looks. Regions begin and end with lines. What a rank reads in the pool is a count or is compared,
//! as in the rest of this crate. The devices are not for sale to strangers: whoever can open them can write all of it.
//!
//! There is nothing to sleep on between hosts: who waits looks again after a while, at first soon.

#[cfg(feature = "checker")]
#[expect(unsafe_code, reason = "the made-up caches are memory")]
pub mod emulated;
#[expect(unsafe_code, reason = "the system calls a function of ours")]
mod exit;
mod greet;
#[expect(unsafe_code, reason = "instructions that the language does not have")]
mod isa;
mod layout;
#[expect(unsafe_code, reason = "loads and stores in mapped memory, which are what is measured")]
mod measure;
#[expect(unsafe_code, reason = "maps headers")]
mod open;
mod seat;
#[cfg(test)]
mod tests;
mod timer;
#[expect(unsafe_code, reason = "mapped memory has no owner that the compiler knows")]
mod view;

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dure_device::{Memory, Space};
use dure_transport::proof::random_bytes;
use dure_transport::{
    Caps, Card, Error, Event, Full, Peer, Posted, Put, Region, RemoteRegion, Result, Signal, Span,
    Table, Transport, entry,
};

pub use self::isa::Isa;
pub use self::layout::{Flaw, MOST_DEVICES, Shape};
pub use self::measure::{Figure, Measured, What, measure};
pub use self::open::{Plan, Trouble, create};
pub use self::seat::{Holder, State, members, release};

use self::greet::{Address, Table as Greetings, Tie, table_len};
use self::seat::{NOBODY, Tenancy, board_lines};
use self::timer::Timer;
use crate::CAPS;
use crate::ground::{Estate, Lot};
use crate::heap::footprint;
use crate::link::Counts;
use crate::region::{Import, Key, slot, target, wide};

/// Name of the transport.
const NAME: &str = "cxl";

/// A spinning rank looks whether its peers live once in so many polls: a look is some loads from the pool for each.
const POLLS_PER_LOOK: u32 = 1024;

/// How loads and stores of this host meet those of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coherence {
    /// All members are on one host, or the pool keeps caches coherent between hosts (back-invalidation, CXL 3).
    Hardware,
    /// Caches of different hosts are not coherent: lines are flushed.
    #[default]
    Software,
}

/// How to open a [`Cxl`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The devices of the pool, in any order.
    pub devices: Vec<PathBuf>,
    /// Which partition; the same for all ranks of a job, another for each job.
    pub partition: u32,
    /// Which member of it this process is, unless it is one already.
    pub member: u32,
    /// Of the caches of the hosts that the members are on; the same for all.
    pub coherence: Coherence,
    /// Name of the job, for whoever finds the claims of this process.
    pub job: [u8; 16],
    /// The rank that this object serves.
    pub rank: Peer,
    /// How many ranks there are.
    pub ranks: u32,
    /// A process whose pulse has not beaten for so long is dead. Pulses beat every 100 ms.
    pub patience: Duration,
    /// Whether a member that a dead process has left is taken over.
    pub take_over: bool,
}

impl Options {
    /// Of one of so many ranks, the member of its number in the first partition, whose caches are not coherent with others'.
    pub fn new(devices: Vec<PathBuf>, rank: Peer, ranks: u32) -> Self {
        Self {
            devices,
            partition: 0,
            member: rank.0,
            coherence: Coherence::Software,
            job: [0; 16],
            rank,
            ranks,
            patience: Duration::from_secs(5),
            take_over: false,
        }
    }
}

/// The partition that a rank uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The pool.
    pub pool: u64,
    /// Its partition.
    pub partition: u32,
    /// How many devices the pool has, as the rank says.
    pub devices: u64,
}

/// The transport of one rank through a pool. What it allocates, and the windows it gives, end with it.
#[derive(Debug)]
pub struct Cxl {
    seat: Arc<Tenancy>,
    me: Peer,
    greetings: Greetings,
    /// What was taken of the area.
    lot: Lot,
    regions: Table<Own>,
    imports: Table<Import>,
    links: Vec<Link>,
    /// Peers that `connect` was called for and that are not up.
    wanted: Vec<Peer>,
    counters: Vec<Counter>,
    events: Vec<Event>,
    timer: Timer,
    polls: u32,
}

/// A region of ours.
#[derive(Debug)]
struct Own {
    memory: Memory,
    /// What peers need to know; `None` of memory that is not the pool's, from which puts are sent.
    key: Option<Key>,
    /// Whether it came from `alloc`: its bytes go back to the heap when it ends.
    allocated: bool,
}

/// A counter of ours.
#[derive(Debug)]
struct Counter {
    line: u32,
    /// What [`Transport::arm`] last saw there.
    seen: u64,
}

/// What is known of a peer.
#[derive(Debug, Default)]
enum Link {
    /// `connect` was not called.
    #[default]
    Unknown,
    Connecting(Tie),
    Up(Tie, Counts),
    /// It may still write here, if it was ever to be met.
    Lost(Option<Tie>),
}

impl Link {
    fn tie(&self) -> Option<&Tie> {
        match self {
            Self::Unknown => None,
            Self::Connecting(tie) | Self::Up(tie, _) => Some(tie),
            Self::Lost(tie) => tie.as_ref(),
        }
    }
}

/// Why a peer is lost.
#[derive(Debug, thiserror::Error)]
enum Loss {
    #[error("the pulse of its process, member {member} of the pool, has stopped: nothing for {:.1} s", silence.as_secs_f64())]
    Silent { member: u32, silence: Duration },
    #[error(
        "another process has taken this process's member {member} of the pool: members of a partition must be numbered apart"
    )]
    Ousted { member: u32 },
}

impl Loss {
    fn error(self) -> Error {
        Error::Failed { transport: NAME, source: Box::new(self) }
    }
}

impl Cxl {
    /// Claims the process's member of the pool, unless it has one, and is ready to meet peers.
    ///
    /// # Errors
    /// [`Error::Failed`] with [`Trouble`], or because the member is another process's; [`Error::Exhausted`] when the pool has no
    /// such partition or member, or no room; [`Error::System`].
    pub fn open(options: &Options) -> Result<Self> {
        Self::at(Tenancy::take(options)?, options.rank, options.ranks)
    }

    fn at(seat: Arc<Tenancy>, me: Peer, ranks: u32) -> Result<Self> {
        let timer = Timer::new()?;
        let len = table_len(ranks);
        let full =
            || Error::Exhausted { transport: NAME, what: format!("greetings of {ranks} ranks") };
        let mut lot = Lot::new();
        let table = lot.take(&**seat, len).ok_or_else(full)?;
        let nonce = u64::from_le_bytes(random_bytes()?).max(NOBODY + 1);
        Ok(Self {
            greetings: Greetings::open(&seat, table, ranks, nonce),
            seat,
            me,
            lot,
            regions: Table::new(),
            imports: Table::new(),
            links: Vec::new(),
            wanted: Vec::new(),
            counters: Vec::new(),
            events: Vec::new(),
            timer,
            polls: 0,
        })
    }

    /// Where the rank behind an address of this transport is; `None` when it is no such address. Ranks of equal places reach one
    /// another.
    pub fn place(address: &Card) -> Option<Place> {
        let Address { pool, partition, devices, .. } = Address::parse(address).ok()?;
        Some(Place { pool, partition, devices })
    }

    fn own_line(&self, line: u32) -> u64 {
        self.seat.line_at(self.seat.member, line)
    }

    fn add_region(&mut self, at: u64, len: u64, allocated: bool) -> Result<Region> {
        let (line, stamp) = self.lot.stamp(&**self.seat)?;
        let memory = self.seat.view.memory(at, len);
        let key = Some(Key { at, len, stamp, line });
        Ok(Region(self.regions.insert(Own { memory, key, allocated })))
    }

    fn link(&mut self, peer: Peer) -> &mut Link {
        entry(&mut self.links, peer)
    }

    fn lose(&mut self, peer: Peer, error: Error) {
        let tie = match std::mem::take(self.link(peer)) {
            Link::Connecting(tie) | Link::Up(tie, _) => Some(tie),
            Link::Unknown => None,
            // It was reported when it was lost.
            lost @ Link::Lost(_) => return *self.link(peer) = lost,
        };
        if tie.is_some() {
            self.greetings.lose(&self.seat.view, peer);
        }
        *self.link(peer) = Link::Lost(tie);
        self.events.push(Event::Lost { peer, error });
    }

    /// Whether a region that a key names still lives.
    fn is_current(&self, member: u32, key: &Key) -> bool {
        key.line < board_lines(&self.seat.layout)
            && self.seat.view.observe(self.seat.line_at(member, key.line)) == key.stamp
    }

    /// Looks for the greetings of those who were wanted.
    fn meet(&mut self) {
        let view = &self.seat.view;
        let mut met = Vec::new();
        for peer in &self.wanted {
            let Some(Link::Connecting(tie)) = self.links.get(slot(peer.0)) else { continue };
            match tie.greeting(view, self.greetings.address.nonce) {
                Ok(None) if tie.is_closed(view) => met.push((*peer, Err(Error::Closed))),
                Ok(None) => {}
                Ok(Some(hello)) => met.push((*peer, Ok(hello))),
                Err(error) => met.push((*peer, Err(error))),
            }
        }
        for (peer, outcome) in met {
            match outcome {
                Err(error) => self.lose(peer, error),
                Ok(hello) => {
                    if let Link::Connecting(tie) = *self.link(peer) {
                        *self.link(peer) = Link::Up(tie, Counts::default());
                        self.events.push(Event::Up { peer, hello });
                    }
                }
            }
        }
        let links = &self.links;
        self.wanted.retain(|peer| matches!(links[slot(peer.0)], Link::Connecting(_)));
    }

    /// Looks whether the peers live.
    fn look(&mut self) {
        let peers = (0..).map(Peer).zip(&self.links);
        let lost: Vec<_> =
            peers.filter_map(|(peer, link)| Some((peer, self.loss(link)?))).collect();
        for (peer, error) in lost {
            self.lose(peer, error);
        }
    }

    /// Why a peer that is up, or wanted, is lost.
    fn loss(&self, link: &Link) -> Option<Error> {
        let (Link::Connecting(tie) | Link::Up(tie, _)) = link else { return None };
        if self.seat.is_ousted() {
            return Some(Loss::Ousted { member: self.seat.member }.error());
        }
        if tie.is_closed(&self.seat.view) || tie.is_lost(&self.seat.view) {
            return Some(Error::Closed);
        }
        let Address { member, claim, .. } = tie.address;
        let silence = self.seat.silent_for(member)?;
        self.seat.bury(member, claim);
        Some(Loss::Silent { member, silence }.error())
    }

    /// Writes a put into the peer's area.
    fn write(&mut self, put: &Put<'_>) -> Result<()> {
        self.write_bytes(put)?;
        let (Some(signal), Some(Link::Up(tie, counts))) =
            (put.signal, self.links.get_mut(slot(put.to.0)))
        else {
            return Ok(());
        };
        if signal.0 >= board_lines(&self.seat.layout) {
            return Err(Error::Protocol { what: "a counter that is not on the peer's board" });
        }
        let at = self.seat.line_at(tie.address.member, signal.0);
        self.seat.view.publish(at, &[counts.next(signal.0)]);
        Ok(())
    }

    fn write_bytes(&self, put: &Put<'_>) -> Result<()> {
        // Whether the region was released is not asked again: a look at memory costs more than the put.
        let Some(key) = target(&self.imports, put)? else { return Ok(()) };
        let view = &self.seat.view;
        let mut at = key.at + put.at;
        view.write(at, put.head);
        at += wide(put.head.len());
        for span in put.body {
            view.copy(at, self.span(span));
            at += span.len;
        }
        if put.signal.is_none() {
            view.fence();
        }
        Ok(())
    }

    /// The memory of an own span.
    fn span(&self, span: &Span) -> Memory {
        let own = self.regions.get(span.region.0).expect("a span is of an own region");
        let end = span.offset.checked_add(span.len);
        assert!(end.is_some_and(|end| end <= wide(own.memory.len)), "{span:?} is past its region");
        let [at, len] = [span.offset, span.len].map(|n| usize::try_from(n).expect("inside memory"));
        own.memory.part(at, len)
    }

    /// Where an own span is in the view, if it is there.
    fn place_of(&self, span: &Span) -> Option<u64> {
        let own = self.regions.get(span.region.0).expect("a span is of an own region");
        Some(own.key?.at + span.offset)
    }
}

impl Drop for Cxl {
    fn drop(&mut self) {
        self.greetings.close(&self.seat.view);
        let peers: Vec<_> = self.links.iter().filter_map(|link| link.tie().copied()).collect();
        peers.iter().for_each(|tie| self.seat.note_writes(tie.address.member, true));
        self.seat.inherit(Estate { ranges: self.lot.leave(), peers });
    }
}

impl Transport for Cxl {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self, _peer: Peer) -> Caps {
        let coherent = self.seat.view.is_coherent();
        Caps { any_source: true, coherent, whole_lines: true, ..CAPS }
    }

    fn alloc(&mut self, len: usize) -> Result<(Region, Memory)> {
        let wanted = wide(len);
        let full = || Error::Exhausted { transport: NAME, what: format!("{len} bytes") };
        let size = footprint(wanted).ok_or_else(full)?;
        let at = self.lot.take(&**self.seat, wanted).ok_or_else(full)?;
        self.seat.view.zero(at, size);
        match self.add_region(at, wanted, true) {
            Ok(region) => Ok((region, self.seat.view.memory(at, wanted))),
            Err(error) => {
                self.lot.give(at, wanted);
                Err(error)
            }
        }
    }

    /// What is not memory of [`Transport::alloc`] is in no pool: puts can be sent from it.
    #[expect(unsafe_code, reason = "the trait declares it so; nothing is dereferenced here")]
    unsafe fn register(&mut self, memory: Memory) -> Result<Region> {
        if memory.space != Space::Host {
            return Err(Error::Unsupported { transport: NAME, what: "reach memory of a device" });
        }
        let inside = |own: &&Own| own.allocated && own.memory.contains(memory);
        let holder = self.regions.iter().find(inside).map(|own| (own.memory, own.key));
        match holder {
            Some((whole, Some(key))) => {
                let at = key.at + wide(memory.address() - whole.address());
                self.add_region(at, wide(memory.len), false)
            }
            _ => Ok(Region(self.regions.insert(Own { memory, key: None, allocated: false }))),
        }
    }

    fn release(&mut self, region: Region) {
        let own = self.regions.remove(region.0).expect("a region is released once");
        let Some(Key { at, len, stamp, line }) = own.key else { return };
        let next = self.lot.end_stamp(line, stamp);
        self.seat.view.publish(self.own_line(line), &[next]);
        if own.allocated {
            self.lot.give(at, len);
        }
    }

    fn key(&self, region: Region, _to: Peer) -> Option<Card> {
        self.regions.get(region.0)?.key.map(|key| key.card())
    }

    fn import(&mut self, of: Peer, key: &Card) -> Result<RemoteRegion> {
        let key = Key::parse(key, NAME)?;
        let Link::Up(tie, _) = self.link(of) else { return Err(Error::Closed) };
        let member = tie.address.member;
        let area = self.seat.layout.area(member);
        let heap = area + seat::board_len(&self.seat.layout);
        let end = key.at.checked_add(key.len);
        if key.at < heap || end.is_none_or(|end| end > area + self.seat.layout.area_len()) {
            return Err(Error::Protocol { what: "a key of a region outside its member's area" });
        }
        if !self.is_current(member, &key) {
            return Err(Error::Protocol { what: "a key of a region that was released" });
        }
        Ok(RemoteRegion(self.imports.insert(Import { of, key })))
    }

    fn forget(&mut self, region: RemoteRegion) {
        self.imports.remove(region.0).expect("an import is forgotten once");
    }

    /// Only where caches are coherent: else bytes that are written there by whatever means stay in them.
    fn window(&self, region: RemoteRegion) -> Option<Memory> {
        let key = self.imports.get(region.0)?.key;
        self.seat.view.is_coherent().then(|| self.seat.view.memory(key.at, key.len))
    }

    fn expose(&mut self, bytes: Span) {
        if let Some(at) = self.place_of(&bytes) {
            self.seat.view.write_back(at, bytes.len);
        }
    }

    fn fetch(&mut self, region: RemoteRegion, at: u64, len: u64) -> Option<Memory> {
        let key = self.imports.get(region.0)?.key;
        at.checked_add(len).filter(|end| *end <= key.len)?;
        self.seat.view.drop_lines(key.at + at, len);
        Some(self.seat.view.memory(key.at + at, len))
    }

    fn address(&self) -> Card {
        self.greetings.address.card()
    }

    fn connect(&mut self, peer: Peer, address: &Card, hello: &Card) -> Result<()> {
        assert!(peer != self.me, "a rank does not connect to itself");
        assert!(matches!(self.link(peer), Link::Unknown), "connect is called once per peer");
        let tie = Tie::new(&self.seat, address, self.me)?;
        if hello.0.len() > Card::MAX || u64::from(peer.0) >= self.greetings.address.ranks {
            return Err(Error::BadCard { transport: NAME });
        }
        self.seat.note_writes(tie.address.member, false);
        self.greetings.greet(&self.seat.view, peer, tie.address.nonce, hello);
        *self.link(peer) = Link::Connecting(tie);
        self.wanted.push(peer);
        Ok(())
    }

    fn counter(&mut self, _from: Peer) -> Result<Signal> {
        let line = self.lot.fresh_line(&**self.seat, "another counter")?;
        self.counters.push(Counter { line, seen: 0 });
        Ok(Signal(line))
    }

    /// Always done when it returns. A put that the peer's area has no place for ends the connection.
    fn put(&mut self, put: &Put<'_>) -> std::result::Result<Posted, Full> {
        match self.link(put.to) {
            Link::Up(..) => {
                if let Err(error) = self.write(put) {
                    self.lose(put.to, error);
                }
                Ok(Posted::Done)
            }
            Link::Lost(_) => Ok(Posted::Done),
            Link::Connecting(_) => Err(Full),
            Link::Unknown => panic!("a put to {:?}, to whom connect was not called", put.to),
        }
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        self.polls = self.polls.wrapping_add(1);
        let woken = self.timer.stop();
        if !self.wanted.is_empty() {
            self.meet();
        }
        if woken || self.polls.is_multiple_of(POLLS_PER_LOOK) {
            self.look();
        }
        events.append(&mut self.events);
    }

    fn arrived(&self, signal: Signal) -> u64 {
        self.seat.view.observe(self.own_line(signal.0))
    }

    fn acquire(&mut self, bytes: Span) {
        if let Some(at) = self.place_of(&bytes) {
            self.seat.view.drop_lines(at, bytes.len);
        }
    }

    fn doorbell(&self) -> Option<RawFd> {
        Some(self.timer.descriptor())
    }

    fn arm(&mut self) -> bool {
        if !self.events.is_empty() {
            return false;
        }
        let seat = &self.seat;
        // Every counter is looked at, so that the next call compares with now.
        let changed = self.counters.iter_mut().fold(false, |changed, counter| {
            let now = seat.view.observe(seat.line_at(seat.member, counter.line));
            std::mem::replace(&mut counter.seen, now) != now || changed
        });
        if changed {
            self.timer.shorten();
            return false;
        }
        self.timer.start()
    }
}
