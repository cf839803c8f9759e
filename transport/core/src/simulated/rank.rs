//! What one rank of a simulated network holds: its regions, counters and imports.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dure_device::Memory;

use super::net::Arrival;
use crate::memory::{Bytes, Heap};
use crate::{Event, Region, RemoteRegion, Signal, Span};

/// A region: where its bytes are, and what keeps them there if the transport allocated them.
#[derive(Clone, Debug)]
pub(super) struct Place {
    bytes: Bytes,
    heap: Option<Arc<Heap>>,
}

/// Bytes of a region that a put reads. Holds on to allocated memory.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) region: Region,
    place: Place,
    offset: usize,
    len: usize,
}

impl Source {
    pub(super) fn read(&self) -> Vec<u8> {
        self.place.bytes.read(self.offset, self.len)
    }
}

/// A region of a peer.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) of: u32,
    pub(super) region: Region,
    /// What a window opens on.
    heap: Option<Arc<Heap>>,
}

impl Import {
    pub(super) fn window(&self) -> Option<Memory> {
        self.heap.as_ref().map(|heap| heap.memory())
    }
}

#[derive(Debug)]
struct Counter {
    from: u32,
    count: u64,
}

/// One rank.
#[derive(Debug)]
pub(super) struct Rank {
    pub(super) alive: bool,
    /// How much longer than usual everything from and to it takes.
    pub(super) slow: u64,
    /// What its next poll reports.
    pub(super) inbox: Vec<Event>,
    /// What has come, from whom, and waits for its poll to be taken in.
    pub(super) due: VecDeque<(u32, Arrival)>,
    regions: BTreeMap<u32, Place>,
    counters: Vec<Counter>,
    imports: BTreeMap<u32, Import>,
    /// Regions and imports made so far: a number is never used again, so that a late put does not hit a new region.
    made: u32,
}

impl Rank {
    pub(super) fn new() -> Self {
        Self {
            alive: true,
            slow: 1,
            inbox: Vec::new(),
            due: VecDeque::new(),
            regions: BTreeMap::new(),
            counters: Vec::new(),
            imports: BTreeMap::new(),
            made: 0,
        }
    }

    fn number(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    pub(super) fn alloc(&mut self, len: usize) -> (Region, Memory) {
        let heap = Heap::new(len);
        let memory = heap.memory();
        // SAFETY: the place holds the heap, and whoever is given this memory touches it as the transport's contract
        // says: not while a put that names it is on its way.
        let bytes = unsafe { Bytes::new(memory) };
        let number = self.number();
        self.regions.insert(number, Place { bytes, heap: Some(Arc::new(heap)) });
        (Region(number), memory)
    }

    pub(super) fn register(&mut self, bytes: Bytes) -> Region {
        let number = self.number();
        self.regions.insert(number, Place { bytes, heap: None });
        Region(number)
    }

    pub(super) fn release(&mut self, region: Region) {
        self.regions.remove(&region.0).expect("a region is released once");
    }

    /// Its owner is gone. What was registered goes with him; what was allocated stays, as shared memory does: a peer that
    /// hears only now that the connection is up still opens a window on it.
    pub(super) fn release_registered(&mut self) {
        self.regions.retain(|_, place| place.heap.is_some());
    }

    pub(super) fn region_len(&self, region: Region) -> Option<usize> {
        self.regions.get(&region.0).map(|place| place.bytes.memory().len)
    }

    /// The bytes of a span.
    ///
    /// # Panics
    /// When they are not bytes of a region.
    pub(super) fn source(&self, span: Span) -> Source {
        let place =
            self.regions.get(&span.region.0).expect("a span names a region of this rank").clone();
        let offset = usize::try_from(span.offset).expect("an offset inside a region");
        let len = usize::try_from(span.len).expect("a length inside a region");
        let _inside = place.bytes.memory().part(offset, len);
        Source { region: span.region, place, offset, len }
    }

    /// What is wrong with writing `len` bytes from byte `at` of a region, if anything is.
    pub(super) fn refuses(&self, region: Region, at: u64, len: usize) -> Option<&'static str> {
        let Some(have) = self.region_len(region) else { return Some("a put into no region") };
        match usize::try_from(at).ok().and_then(|at| at.checked_add(len)) {
            Some(end) if end <= have => None,
            _ => Some("a put past the end of a region"),
        }
    }

    /// Writes into a region that did not refuse.
    pub(super) fn write(&self, region: Region, at: usize, bytes: &[u8]) {
        self.regions[&region.0].bytes.write(at, bytes);
    }

    pub(super) fn counter(&mut self, from: u32) -> Signal {
        self.counters.push(Counter { from, count: 0 });
        Signal(u32::try_from(self.counters.len() - 1).expect("fewer counters than numbers"))
    }

    pub(super) fn arrived(&self, signal: Signal) -> u64 {
        self.counters[signal.0 as usize].count
    }

    /// Whether `from` may bump a counter.
    pub(super) fn counts(&self, signal: Signal, from: u32) -> bool {
        self.counters.get(signal.0 as usize).is_some_and(|counter| counter.from == from)
    }

    pub(super) fn bump(&mut self, signal: Signal) {
        self.counters[signal.0 as usize].count += 1;
    }

    pub(super) fn import(
        &mut self,
        of: u32,
        region: Region,
        heap: Option<Arc<Heap>>,
    ) -> RemoteRegion {
        let number = self.number();
        self.imports.insert(number, Import { of, region, heap });
        RemoteRegion(number)
    }

    pub(super) fn imported(&self, region: RemoteRegion) -> &Import {
        self.imports.get(&region.0).expect("a remote region that was imported and not forgotten")
    }

    pub(super) fn forget(&mut self, region: RemoteRegion) {
        self.imports.remove(&region.0).expect("an import is forgotten once");
    }

    /// The allocation behind a region.
    pub(super) fn heap(&self, region: Region) -> Option<Arc<Heap>> {
        self.regions.get(&region.0).and_then(|place| place.heap.clone())
    }
}
