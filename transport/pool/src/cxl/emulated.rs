//! A pool in one process whose members have caches of their own, made up: what finds a missing flush, fence or invalidation,
//! where real memory of one host would hide it.
//!
//! Each member sees its own copy of the pool. A line gets from memory to the copy when it is looked at and is not there, or when
//! a prefetcher takes it, at random, and goes stale then. What is stored past the caches waits in a queue, which drains line
//! by line in any order, in part at random and wholly at a fence. What is written through pointers is dirty in the copy until it
//! is written back, or evicted at random. A line that two members write is reported, because the caches of one would overwrite
//! what the other wrote.
//!
//! All of it follows from a seed. A [`Plant`] breaks the discipline in one place, to show that the checker notices.

#![allow(clippy::disallowed_types, reason = "the members of a checker take turns")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dure_device::Memory;
use dure_transport::{Peer, Result};

use super::layout::{Layout, META, Shape};
use super::seat::{Seat, Tenancy};
use super::view::{Caches, View};
use super::{Cxl, Options};
use crate::region::wide;

const LINE: u64 = 64;
const BYTES: usize = 64;

/// A fault in the discipline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// What is put stays in the cache of its writer.
    MissingWriteBack,
    /// A reader believes what its cache has.
    MissingInvalidate,
    /// A reader drops what it has read, and not what it is about to read.
    InvalidateAfterRead,
    /// A flag is stored before the bytes that it speaks of are in memory.
    FlagBeforeData,
    /// Counters of two peers share a line.
    TwoWritersInOneLine,
    /// A claim is made by comparing and swapping, and believed.
    CompareAndSwap,
    /// A reader drops only lines that it has read before, though a prefetcher may have taken others.
    StalePrefetchedLine,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::MissingWriteBack,
        Self::MissingInvalidate,
        Self::InvalidateAfterRead,
        Self::FlagBeforeData,
        Self::TwoWritersInOneLine,
        Self::CompareAndSwap,
        Self::StalePrefetchedLine,
    ];
}

/// A pool of one process, with a made-up cache for each member.
#[derive(Clone, Debug)]
pub struct Emulated {
    state: Arc<Mutex<State>>,
    layout: Layout,
}

impl Emulated {
    /// A pool of so many members, whose areas have 2 MiB each.
    ///
    /// # Panics
    /// When there are no members, or thousands.
    pub fn new(members: u32, seed: u64, plant: Option<Plant>) -> Self {
        let bytes = META * (1 + u64::from(members));
        let shape = Shape { id: seed, devices: 1, bytes, granule: META, members, partitions: 1 };
        let layout = Layout::new(shape).expect("a pool of some members");
        let len = usize::try_from(layout.view_len()).expect("a small pool");
        let state = State {
            memory: vec![0; len],
            writers: BTreeMap::new(),
            caches: Vec::new(),
            random: seed.wrapping_mul(2) | 1,
            plant,
            flaws: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), layout }
    }

    /// The transport of a rank that is alone in its process, the member of its number, of a communicator of all members.
    ///
    /// # Errors
    /// As [`Cxl::open`].
    pub fn open(&self, rank: u32) -> Result<Cxl> {
        let options = self.options(rank);
        let seat = Tenancy::claim(self.view()?, self.layout, &options)?;
        Cxl::at(Arc::new(seat), options.rank, options.ranks)
    }

    /// Whether two processes that claim one member at the same time both believe in the end that they have it.
    ///
    /// # Errors
    /// As [`Cxl::open`].
    pub fn both_believe_their_claim(&self) -> Result<bool> {
        let options = self.options(0);
        let views = [self.view()?, self.view()?];
        for view in &views {
            Seat::check(view, &self.layout, &options)?;
        }
        let [a, b] = views.map(|view| Seat::sit(view, self.layout, &options));
        let seats = [a?, b?];
        seats.iter().for_each(|seat| seat.beat());
        Ok(seats.iter().all(|seat| !seat.is_ousted()))
    }

    /// What was done that no pool allows, whatever came of it.
    pub fn flaws(&self) -> Vec<String> {
        lock(&self.state).flaws.clone()
    }

    fn options(&self, rank: u32) -> Options {
        // No pulse beats here.
        let patience = Duration::from_secs(1 << 20);
        Options { patience, ..Options::new(Vec::new(), Peer(rank), self.layout.shape.members) }
    }

    fn view(&self) -> Result<View> {
        let mut state = lock(&self.state);
        let cache = Cache { state: Arc::clone(&self.state), me: state.caches.len() };
        state.caches.push(Lines::default());
        View::reserve(self.layout.view_len(), Caches::Emulated(cache))
    }
}

/// The cache of one member.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    state: Arc<Mutex<State>>,
    me: usize,
}

#[derive(Debug)]
struct State {
    memory: Vec<u8>,
    /// Who has written a line since it was handed over.
    writers: BTreeMap<u64, usize>,
    caches: Vec<Lines>,
    random: u64,
    plant: Option<Plant>,
    flaws: Vec<String>,
}

/// What a member's cache holds, by the first byte of each line.
#[derive(Debug, Default)]
struct Lines {
    present: BTreeSet<u64>,
    /// What lines of the copy held when they last came from memory or went there; zeros where nothing is noted. Where the copy
    /// holds something else now, it was written through a pointer.
    clean: BTreeMap<u64, [u8; BYTES]>,
    /// Lines that were ever read.
    read: BTreeSet<u64>,
    /// Stores past the cache that are not in memory, in the order of their lines' first.
    queue: Vec<Store>,
    /// Those that only an eviction brings there.
    stuck: Vec<Store>,
    /// Lines that are dropped at the next look.
    late: Vec<u64>,
    /// Ranges that were looked at lately: what a prefetcher takes is near.
    near: Vec<(u64, u64)>,
}

/// Bytes of a line on their way to memory.
#[derive(Clone, Debug)]
struct Store {
    line: u64,
    from: usize,
    bytes: Vec<u8>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("a small pool")
}

fn lines_of(at: u64, len: u64) -> impl Iterator<Item = u64> {
    let first = at - at % LINE;
    (first..at + len).step_by(BYTES)
}

/// The content of a line of a copy.
fn copy_of(view: &View, line: u64) -> [u8; BYTES] {
    let memory = view.memory(line, LINE);
    // SAFETY: the range was checked; all members take turns, so nobody writes it.
    unsafe { memory.ptr.as_ptr().cast::<[u8; BYTES]>().read() }
}

fn set_copy(view: &View, at: u64, bytes: &[u8]) {
    let memory = view.memory(at, wide(bytes.len()));
    // SAFETY: the range was checked, and nothing borrowed lies in a view.
    unsafe { memory.ptr.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

fn bytes_of(memory: Memory) -> Vec<u8> {
    let mut bytes = vec![0; memory.len];
    // SAFETY: whoever gives memory to copy from keeps it alive and writes it not; the vector is new, and as long.
    unsafe { memory.ptr.as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), memory.len) };
    bytes
}

impl Cache {
    pub(super) fn has(&self, plant: Plant) -> bool {
        lock(&self.state).plant == Some(plant)
    }

    /// Stores bytes past the cache.
    pub(super) fn store(&self, view: &View, at: u64, from: Memory) {
        let bytes = bytes_of(from);
        let mut state = lock(&self.state);
        let stores = state.stores(view, self.me, at, &bytes);
        let stuck = state.plant == Some(Plant::MissingWriteBack);
        let lines = &mut state.caches[self.me];
        if stuck { &mut lines.stuck } else { &mut lines.queue }.extend(stores);
        state.stir(view, self.me);
    }

    /// Stores a flag after all that was stored before, unless that is planted.
    pub(super) fn publish(&self, view: &View, at: u64, words: &[u8]) {
        let mut state = lock(&self.state);
        if state.plant != Some(Plant::FlagBeforeData) {
            state.drain(self.me, false);
        }
        for store in state.stores(view, self.me, at, words) {
            state.apply(self.me, &store);
        }
        state.stir(view, self.me);
    }

    /// All that was stored before is in memory.
    pub(super) fn fence(&self) {
        let mut state = lock(&self.state);
        if state.plant != Some(Plant::FlagBeforeData) {
            state.drain(self.me, false);
        }
    }

    /// Makes memory zero that whoever has had it does not write any more.
    pub(super) fn zero(&self, view: &View, at: u64, len: u64) {
        let mut state = lock(&self.state);
        state.drain(self.me, false);
        state.memory[index(at)..index(at + len)].fill(0);
        set_copy(view, at, &vec![0; index(len)]);
        for line in lines_of(at, len) {
            state.writers.remove(&line);
            state.caches[self.me].present.remove(&line);
            state.caches[self.me].clean.remove(&line);
        }
        state.caches[self.me].note_near(at, len);
    }

    /// Drops lines, and takes them from memory, because they are about to be looked at.
    pub(super) fn drop_lines(&self, view: &View, at: u64, len: u64) {
        let mut state = lock(&self.state);
        state.stir(view, self.me);
        for line in std::mem::take(&mut state.caches[self.me].late) {
            state.evict(view, self.me, line);
        }
        for line in lines_of(at, len) {
            state.look(view, self.me, line);
        }
        state.caches[self.me].note_near(at, len);
    }

    /// Writes back what was written through pointers.
    pub(super) fn write_back(&self, view: &View, at: u64, len: u64) {
        let mut state = lock(&self.state);
        if state.plant != Some(Plant::MissingWriteBack) {
            for line in lines_of(at, len) {
                let store = Store { line, from: 0, bytes: copy_of(view, line).to_vec() };
                state.claim_line(self.me, line);
                let lines = &mut state.caches[self.me];
                lines.present.insert(line);
                lines.clean.insert(line, copy_of(view, line));
                lines.queue.push(store);
            }
        }
        state.caches[self.me].note_near(at, len);
        state.stir(view, self.me);
    }

    /// Compares and swaps the first word of a line, as a processor does that knows of its own cache only: true when it has.
    pub(super) fn compare_and_swap(&self, view: &View, at: u64, words: &[u8]) -> bool {
        let mut state = lock(&self.state);
        state.flaws.push(format!("member {} compares and swaps at {at:#x}", self.me));
        state.fetch_if_absent(view, self.me, at);
        let is_free = copy_of(view, at).iter().all(|byte| *byte == 0);
        if is_free {
            let stores = state.stores(view, self.me, at, words);
            state.caches[self.me].queue.extend(stores);
        }
        is_free
    }
}

impl Lines {
    fn note_near(&mut self, at: u64, len: u64) {
        self.near.push((at, len));
        if self.near.len() > 32 {
            self.near.remove(0);
        }
    }

    /// Whether a line of the copy was written through pointers since it came from memory.
    fn is_dirty(&self, view: &View, line: u64) -> bool {
        copy_of(view, line) != self.clean.get(&line).copied().unwrap_or([0; BYTES])
    }
}

impl State {
    /// A number below `limit`, by the seed (xorshift64*).
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn claim_line(&mut self, me: usize, line: u64) {
        let writer = *self.writers.entry(line).or_insert(me);
        if writer != me {
            self.flaws.push(format!("members {writer} and {me} both write the line at {line:#x}"));
        }
    }

    /// The stores of some bytes: whole words past the cache; what is less than a word takes the whole line through it.
    fn stores(&mut self, view: &View, me: usize, at: u64, bytes: &[u8]) -> Vec<Store> {
        let mut stores = Vec::new();
        for line in lines_of(at, wide(bytes.len())) {
            let start = line.max(at);
            let end = (line + LINE).min(at + wide(bytes.len()));
            let part = &bytes[index(start - at)..index(end - at)];
            self.claim_line(me, line);
            let words = start.is_multiple_of(8) && end.is_multiple_of(8);
            if !words {
                self.fetch_if_absent(view, me, line);
            }
            set_copy(view, start, part);
            let whole = copy_of(view, line);
            let lines = &mut self.caches[me];
            lines.clean.insert(line, whole);
            stores.push(if words {
                lines.present.remove(&line);
                Store { line, from: index(start - line), bytes: part.to_vec() }
            } else {
                lines.present.insert(line);
                Store { line, from: 0, bytes: whole.to_vec() }
            });
        }
        stores
    }

    fn apply(&mut self, me: usize, store: &Store) {
        // What the same member stored to the line before is in memory before it.
        let earlier: Vec<Store> =
            self.caches[me].queue.extract_if(.., |other| other.line == store.line).collect();
        for store in earlier.iter().chain([store]) {
            self.land(store);
        }
    }

    /// Bytes are in memory.
    fn land(&mut self, store: &Store) {
        let at = index(store.line) + store.from;
        self.memory[at..at + store.bytes.len()].copy_from_slice(&store.bytes);
    }

    /// Brings what a member stored to memory: some of it, or all.
    fn drain(&mut self, me: usize, some: bool) {
        while !self.caches[me].queue.is_empty() {
            if some && self.below(3) == 0 {
                return;
            }
            let len = wide(self.caches[me].queue.len());
            let at = index(self.below(len));
            let line = self.caches[me].queue[at].line;
            let first = self.caches[me].queue.iter().position(|store| store.line == line);
            let store = self.caches[me].queue.remove(first.expect("it was found just now"));
            self.land(&store);
        }
    }

    /// A line is loaded.
    fn look(&mut self, view: &View, me: usize, line: u64) {
        let lines = &self.caches[me];
        let is_believed = match self.plant {
            Some(Plant::MissingInvalidate | Plant::InvalidateAfterRead) => true,
            Some(Plant::StalePrefetchedLine) => !lines.read.contains(&line),
            _ => false,
        };
        if !is_believed {
            self.evict(view, me, line);
        }
        self.fetch_if_absent(view, me, line);
        self.caches[me].read.insert(line);
        if self.plant == Some(Plant::InvalidateAfterRead) {
            self.caches[me].late.push(line);
        }
    }

    /// A line leaves the cache; by way of memory when it is dirty.
    fn evict(&mut self, view: &View, me: usize, line: u64) {
        if self.caches[me].is_dirty(view, line) {
            self.claim_line(me, line);
            let store = Store { line, from: 0, bytes: copy_of(view, line).to_vec() };
            self.apply(me, &store);
            self.caches[me].clean.insert(line, copy_of(view, line));
        }
        self.caches[me].present.remove(&line);
    }

    fn fetch_if_absent(&mut self, view: &View, me: usize, line: u64) {
        let lines = &self.caches[me];
        if lines.present.contains(&line) || lines.is_dirty(view, line) {
            return;
        }
        let at = index(line);
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&self.memory[at..at + BYTES]);
        // What this member has stored itself, it sees.
        for store in lines.queue.iter().filter(|store| store.line == line) {
            bytes[store.from..store.from + store.bytes.len()].copy_from_slice(&store.bytes);
        }
        set_copy(view, line, &bytes);
        let lines = &mut self.caches[me];
        lines.present.insert(line);
        lines.clean.insert(line, bytes);
    }

    /// What happens by itself: stores drain, prefetchers take lines, lines are evicted.
    fn stir(&mut self, view: &View, me: usize) {
        for member in 0..self.caches.len() {
            if self.below(4) == 0 {
                self.drain(member, true);
            }
        }
        if self.below(64) == 0
            && let Some(store) = self.caches[me].stuck.pop()
        {
            self.apply(me, &store);
        }
        for _ in 0..3 {
            let Some(line) = self.some_line(me) else { return };
            self.fetch_if_absent(view, me, line);
        }
        if self.below(8) == 0
            && let Some(line) = self.some_line(me)
            && self.caches[me].present.contains(&line)
        {
            self.evict(view, me, line);
        }
    }

    /// A line near one that a member has looked at.
    fn some_line(&mut self, me: usize) -> Option<u64> {
        let ranges = wide(self.caches[me].near.len());
        if ranges == 0 {
            return None;
        }
        let which = index(self.below(ranges));
        let (at, len) = self.caches[me].near[which];
        let lines = len.div_ceil(LINE) + 4;
        let line = at - at % LINE + LINE * self.below(lines);
        (index(line) + BYTES <= self.memory.len()).then_some(line)
    }
}
