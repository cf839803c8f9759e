//! The shared-memory transport: put is a copy, signal is a store.
//!
//! Each process owns one segment: an anonymous file (memfd) that is sealed in size, and that its peers on the same host
//! map too, once. All pools of the process, one a communicator and rank, have their parts of it. Nothing is named in
//! `/dev/shm` or elsewhere, so nothing is left behind and no limit of a container's `/dev/shm` applies.
//!
//! ```text
//!   rank 0                              rank 1
//!   own segment  <-- mapped by both --> import of rank 0's
//!     header                              copy bytes      put, head and body
//!     board: counters, bells  <---------- store counter   put, signal
//!     heap: regions                       exchange bell   asleep? then one byte on the socket
//! ```
//!
//! The segment's descriptor travels over a Unix socket once both sides have proven that they belong to the job. The
//! socket stays open: its end is how the death of a peer is noticed, and it wakes a peer that sleeps.
//!
//! A peer that has the descriptor can write the whole segment, and free parts of it, at any time: that is what sharing
//! memory means. So what is read from a segment is a count or is compared, and is never used as an index, a length or
//! an address; what a rank must rely on, it keeps in its own memory.
//!
//! On hosts whose caches are coherent there is nothing to do in [`Transport::acquire`]: the Acquire load of the counter
//! has done it. How puts are published, and why no wake-up is lost, is in `docs/memory-model.md`.
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "the words of the board are atomics in mapped memory")]
mod board;
pub mod cxl;
mod doorbell;
#[expect(unsafe_code, reason = "memory of a peer's process is read by address")]
mod foreign;
#[cfg(fuzzing)]
pub mod fuzzing;
mod ground;
mod heap;
mod home;
#[expect(unsafe_code, reason = "pages are gathered by address")]
mod huge;
mod link;
mod lobby;
#[expect(unsafe_code, reason = "mapped memory has no owner that the compiler knows")]
mod map;
mod region;
mod signal;
mod site;
mod socket;
mod sync;
#[cfg(test)]
#[expect(unsafe_code, reason = "looks into the memory of regions")]
mod tests;

#[cfg(feature = "checker")]
pub use cxl::emulated;

use std::os::fd::RawFd;
use std::sync::Arc;

use dure_device::Memory;
use dure_transport::proof::Key as JobKey;
use dure_transport::{
    Caps, Card, Error, Event, Full, Peer, Posted, Put, Region, RemoteRegion, Result, Signal, Span,
    Table, Transport, entry,
};
use nix::errno::Errno;

use crate::board::Line;
use crate::doorbell::Source;
use crate::foreign::Process;
use crate::heap::footprint;
use crate::home::Home;
use crate::link::{Link, Remote, Tie};
use crate::lobby::{Greeting, Lobby};
use crate::region::{Import, Key, Own, slot, wide};
use crate::site::Site;
use crate::socket::Name;

/// Name of the transport.
const NAME: &str = "pool";

/// A spinning rank looks at its sockets once in so many polls: a look is a system call of some 300 ns, a poll is a few
/// nanoseconds, and nothing but the end of a peer waits for it.
const POLLS_PER_LOOK: u32 = 1024;

/// What coherent memory can do. Head, gather and flows have no natural bound; the numbers are what nobody exceeds.
const CAPS: Caps = Caps {
    head: 4096,
    gather: 1024,
    flows: 1024,
    user_memory: false,
    any_source: false,
    unattended: true,
    coherent: true,
    in_place: true,
    whole_lines: false,
};

/// How to open a [`Pool`].
#[derive(Debug)]
pub struct Options {
    /// The rank that this object serves.
    pub rank: Peer,
    /// The key that peers must know.
    pub key: JobKey,
    /// `None`: the part that is needed of the segment that the pools of this process share, 64 GiB of addresses, or less
    /// where the system refuses so much. Otherwise this pool has a segment of its own, of so many bytes, which bounds its
    /// regions together. No size is used up: pages exist when they are touched.
    pub capacity: Option<u64>,
    /// Whether memory that peers read often may be put on huge pages.
    pub huge_pages: bool,
}

/// What the pools of this process share, all its communicators' together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Memory of the process's segment, which its peers on the host map too, in bytes: slots, scratch, what was allocated, and
    /// counters.
    pub segment: u64,
    /// Addresses that the segment takes, in bytes. They cost nothing by themselves.
    pub reserved: u64,
    /// Other processes whose segments are mapped here.
    pub neighbours: usize,
    /// Addresses that those take, in bytes; their memory is those processes'.
    pub neighbours_reserved: u64,
}

/// What the pools of this process share now. All zero when there is no pool.
pub fn usage() -> Usage {
    site::usage()
}

/// The shared-memory transport of one rank. What it allocates, and the windows it gives, end with it.
#[derive(Debug)]
pub struct Pool {
    home: Home,
    regions: Table<Own>,
    imports: Table<Import>,
    lobby: Lobby,
    links: Vec<Link>,
    counters: Vec<Counter>,
    /// Own lines that peers clear when they signal, one for each peer.
    bells: Vec<Line>,
    events: Vec<Event>,
    parked: bool,
    polls: u32,
    huge_pages: bool,
}

/// A counter of ours.
#[derive(Debug)]
struct Counter {
    line: Line,
    /// What [`Transport::arm`] last saw there.
    seen: u64,
}

impl Pool {
    /// Has a part of a segment for a rank, and listens for its peers.
    ///
    /// # Errors
    /// [`Error::System`] when the system refuses a segment or a socket.
    pub fn open(options: Options) -> Result<Self> {
        let site = match options.capacity {
            None => Site::shared()?,
            Some(_) => Site::new(options.capacity)?,
        };
        Self::at(site, options)
    }

    fn at(site: Arc<Site>, options: Options) -> Result<Self> {
        let huge_pages = options.huge_pages;
        let home = Home::new(site, options)?;
        let lobby = Lobby::open(&home)?;
        Ok(Self {
            home,
            regions: Table::new(),
            imports: Table::new(),
            lobby,
            links: Vec::new(),
            counters: Vec::new(),
            bells: Vec::new(),
            events: Vec::new(),
            parked: false,
            polls: 0,
            huge_pages,
        })
    }

    fn add_region(&mut self, at: u64, len: u64, allocated: bool) -> Result<Region> {
        let (line, stamp) = self.home.stamp()?;
        Ok(Region(self.regions.insert(Own { key: Key { at, len, stamp, line }, allocated })))
    }

    fn link(&mut self, peer: Peer) -> &mut Link {
        entry(&mut self.links, peer)
    }

    /// The process of a peer that is up, if its memory can be read.
    fn foreign(&self, peer: Peer) -> Option<Process> {
        match self.links.get(slot(peer.0))? {
            Link::Up(remote) => remote.foreign(),
            Link::Unknown | Link::Connecting | Link::Lost(_) => None,
        }
    }

    fn lose(&mut self, peer: Peer, error: Error) {
        let remote = match std::mem::take(self.link(peer)) {
            Link::Up(remote) => {
                remote.lose(&self.home);
                Some(remote)
            }
            Link::Unknown | Link::Connecting => None,
            // It was reported when it was lost.
            lost @ Link::Lost(_) => return *self.link(peer) = lost,
        };
        *self.link(peer) = Link::Lost(remote);
        self.events.push(Event::Lost { peer, error });
    }

    /// Looks at the sockets.
    fn look(&mut self) {
        self.lobby.redial(&self.home);
        let ready = match self.home.doorbell.ready() {
            Ok(ready) => ready,
            Err(error) => return tracing::warn!(target: "dure::net", ?error, "doorbell"),
        };
        for source in ready {
            match source {
                Source::Listener => self.lobby.accept(&self.home),
                Source::Guest(number) => self.lobby.advance(&self.home, number),
                Source::Peer(peer) => {
                    if let Link::Up(remote) = self.link(peer)
                        && let Err(error) = remote.hush()
                    {
                        self.lose(peer, error);
                    }
                }
                Source::Process(peer) => {
                    if let Link::Up(remote) = self.link(peer) {
                        remote.end();
                    }
                    self.lose(peer, Error::Closed);
                }
            }
        }
        for (peer, outcome) in self.lobby.outcomes() {
            match outcome {
                Ok(mut met) => {
                    let hello = std::mem::take(&mut met.hello);
                    let mut remote = Box::new(Remote::new(met));
                    let watched = remote.watch(&self.home, peer);
                    *self.link(peer) = Link::Up(remote);
                    match watched {
                        Ok(()) => self.events.push(Event::Up { peer, hello }),
                        Err(error) => self.lose(peer, error),
                    }
                }
                Err(error) => self.lose(peer, error),
            }
        }
    }

    /// Writes a put into the peer's segment, which is known to be up.
    fn write(&mut self, put: &Put<'_>) -> Result<()> {
        let Some(Link::Up(remote)) = self.links.get_mut(slot(put.to.0)) else { return Ok(()) };
        if put.head.is_empty() && put.body.is_empty() {
            return put.signal.map_or(Ok(()), |signal| remote.bump(signal));
        }
        if let Some(key) = region::target(&self.imports, put)? {
            if !key.is_current(remote.board()) {
                return Err(Error::Protocol { what: "a put into a region that was released" });
            }
            let mut at = key.at + put.at;
            remote.board().map().write(at, put.head);
            at += wide(put.head.len());
            for span in put.body {
                let own = self.regions.get(span.region.0).expect("a span is of an own region");
                let end = span.offset.checked_add(span.len);
                assert!(end.is_some_and(|end| end <= own.key.len), "{span:?} is past its region");
                let from = own.key.at + span.offset;
                remote.board().map().copy(at, self.home.board.map(), from, span.len);
                at += span.len;
            }
        }
        put.signal.map_or(Ok(()), |signal| remote.bump(signal))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let links = std::mem::take(&mut self.links).into_iter().filter_map(|link| match link {
            Link::Up(remote) => Some(remote.part()),
            Link::Lost(remote) => remote.map(|remote| remote.part()),
            Link::Unknown | Link::Connecting => None,
        });
        let peers: Vec<_> = links.chain(self.lobby.close()).collect();
        peers.iter().for_each(Tie::part);
        self.home.leave(peers);
    }
}

impl Transport for Pool {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self, _peer: Peer) -> Caps {
        CAPS
    }

    fn alloc(&mut self, len: usize) -> Result<(Region, Memory)> {
        let wanted = wide(len);
        let full = || Error::Exhausted { transport: NAME, what: format!("{len} bytes") };
        // Free memory is zero: the file was, and what came back was made so.
        let at = self.home.take(wanted).ok_or_else(full)?;
        match self.add_region(at, wanted, true) {
            Ok(region) => Ok((region, self.home.board.map().memory(at, wanted))),
            Err(error) => {
                self.home.give(at, wanted);
                Err(error)
            }
        }
    }

    /// Serves memory of [`Transport::alloc`] only: other memory is in no segment.
    #[expect(unsafe_code, reason = "the trait declares it so; nothing is dereferenced here")]
    unsafe fn register(&mut self, memory: Memory) -> Result<Region> {
        let map = self.home.board.map();
        let holder = self
            .regions
            .iter()
            .find(|own| own.allocated && map.memory(own.key.at, own.key.len).contains(memory));
        let Some(holder) = holder else {
            return Err(Error::Unsupported {
                transport: NAME,
                what: "register memory that it did not allocate",
            });
        };
        let start = map.memory(holder.key.at, holder.key.len).address();
        let at = holder.key.at + wide(memory.address() - start);
        self.add_region(at, wide(memory.len), false)
    }

    /// From here on peers that still name the region are refused, as far as they ask: a peer that is copying already,
    /// or writes through a window, is not stopped.
    fn release(&mut self, region: Region) {
        let own = self.regions.remove(region.0).expect("a region is released once");
        self.home.end_stamp(own.key.line, own.key.stamp);
        if own.allocated {
            let size = footprint(own.key.len).expect("it was allocated");
            self.home.discard(own.key.at, size);
            self.home.give(own.key.at, own.key.len);
        }
    }

    fn key(&self, region: Region, _to: Peer) -> Option<Card> {
        self.regions.get(region.0).map(|own| own.key.card())
    }

    fn import(&mut self, of: Peer, key: &Card) -> Result<RemoteRegion> {
        let key = Key::parse(key, NAME)?;
        let Link::Up(remote) = self.link(of) else { return Err(Error::Closed) };
        key.check(remote.board())?;
        Ok(RemoteRegion(self.imports.insert(Import { of, key })))
    }

    fn forget(&mut self, region: RemoteRegion) {
        self.imports.remove(region.0).expect("an import is forgotten once");
    }

    fn window(&self, region: RemoteRegion) -> Option<Memory> {
        let Import { of, key } = self.imports.get(region.0)?;
        match self.links.get(slot(of.0))? {
            Link::Up(remote) => Some(remote.board().map().memory(key.at, key.len)),
            Link::Lost(remote) => {
                remote.as_ref().map(|remote| remote.board().map().memory(key.at, key.len))
            }
            Link::Unknown | Link::Connecting => None,
        }
    }

    fn can_read(&self, of: Peer) -> bool {
        self.foreign(of).is_some()
    }

    #[expect(unsafe_code, reason = "the trait declares it so")]
    unsafe fn read(&mut self, of: Peer, address: u64, into: Memory) -> Result<()> {
        let unreadable = Error::Unsupported { transport: NAME, what: "read memory of this peer" };
        // SAFETY: the caller's promise.
        unsafe { self.foreign(of).ok_or(unreadable)?.read(address, into) }
    }

    fn lend(&mut self, memory: Memory) {
        if self.huge_pages
            && huge::are_allowed()
            && let Err(error) = huge::gather(memory)
        {
            let bytes = memory.len;
            tracing::debug!(target: "dure::net", %error, bytes, "a buffer stays on small pages");
        }
    }

    fn address(&self) -> Card {
        self.home.name.card()
    }

    fn connect(&mut self, peer: Peer, address: &Card, hello: &Card) -> Result<()> {
        assert!(peer != self.home.me, "a rank does not connect to itself");
        assert!(matches!(self.link(peer), Link::Unknown), "connect is called once per peer");
        let at = Name::parse(address)?;
        if hello.0.len() > Card::MOST_ON_THE_WAY {
            return Err(Error::BadCard { transport: NAME });
        }
        let bell = self.home.fresh_line("another peer")?;
        self.lobby.want(&self.home, peer, at, Greeting::new(bell, hello))?;
        self.bells.push(bell);
        *self.link(peer) = Link::Connecting;
        Ok(())
    }

    fn counter(&mut self, _from: Peer) -> Result<Signal> {
        let line = self.home.fresh_line("another counter")?;
        self.counters.push(Counter { line, seen: 0 });
        Ok(Signal(line))
    }

    /// Always done when it returns. A put that the peer's segment has no place for ends the connection.
    fn put(&mut self, put: &Put<'_>) -> std::result::Result<Posted, Full> {
        match self.link(put.to) {
            Link::Up(_) => {
                if let Err(error) = self.write(put) {
                    self.lose(put.to, error);
                }
                Ok(Posted::Done)
            }
            Link::Lost(_) => Ok(Posted::Done),
            Link::Connecting => Err(Full),
            Link::Unknown => panic!("a put to {:?}, to whom connect was not called", put.to),
        }
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        self.polls = self.polls.wrapping_add(1);
        let woken = std::mem::take(&mut self.parked);
        if woken {
            for line in &self.bells {
                signal::unpark(self.home.own_line(*line));
            }
        }
        if woken || self.lobby.is_waiting() || self.polls.is_multiple_of(POLLS_PER_LOOK) {
            self.look();
        }
        events.append(&mut self.events);
    }

    fn arrived(&self, signal: Signal) -> u64 {
        signal::observe(self.home.own_line(signal.0))
    }

    /// Nothing: caches are coherent, and `arrived` is an Acquire load.
    fn acquire(&mut self, _bytes: Span) {}

    fn doorbell(&self) -> Option<RawFd> {
        Some(self.home.doorbell.descriptor())
    }

    fn arm(&mut self) -> bool {
        if !self.events.is_empty() || self.lobby.is_restless() {
            return false;
        }
        let (home, counters) = (&self.home, &mut self.counters);
        let armed = signal::arm(self.bells.iter().map(|line| home.own_line(*line)), || {
            // Every counter is looked at, so that the next call compares with now.
            counters.iter_mut().fold(false, |changed, counter| {
                let now = signal::observe(home.own_line(counter.line));
                std::mem::replace(&mut counter.seen, now) != now || changed
            })
        });
        // Armed once is parked until the next poll, whatever a second call says.
        self.parked |= armed;
        armed
    }
}

fn system(call: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::System { call, source: errno.into() }
}
