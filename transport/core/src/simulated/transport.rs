//! One rank's end of a simulated network.

use std::os::fd::RawFd;

use dure_device::{Memory, Space};

use super::Shared;
use crate::memory::Bytes;
use crate::{
    Caps, Card, Error, Event, Full, Peer, Posted, Put, Region, RemoteRegion, Result, Signal, Span,
    Transport,
};

/// What a card is for; its first byte.
const ADDRESS: u8 = 1;
const KEY: u8 = 2;

/// One rank's end of a simulated network.
#[derive(Debug)]
pub(super) struct Simulated {
    net: Shared,
    me: u32,
    name: &'static str,
}

impl Simulated {
    pub(super) fn new(net: Shared, me: u32) -> Self {
        let name = net.lock().options.name;
        Self { net, me, name }
    }

    /// A card: its kind, a rank, a region, and the name of the world.
    fn card(&self, kind: u8, rank: u32, region: u32) -> Card {
        let mut bytes = vec![kind];
        bytes.extend(rank.to_le_bytes());
        bytes.extend(region.to_le_bytes());
        bytes.extend(self.name.as_bytes());
        Card(bytes.into())
    }

    /// Rank and region of a card of this world and kind.
    fn parse(&self, kind: u8, card: &Card) -> Result<(u32, u32)> {
        let fields = |card: &Card| {
            let (rank, rest) = card.0.get(1..)?.split_first_chunk()?;
            Some((u32::from_le_bytes(*rank), u32::from_le_bytes(*rest.first_chunk()?)))
        };
        let found = fields(card).filter(|(rank, region)| self.card(kind, *rank, *region) == *card);
        found.ok_or(Error::BadCard { transport: self.name })
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.net.lock().close(self.me);
    }
}

impl Transport for Simulated {
    fn name(&self) -> &'static str {
        self.name
    }

    fn caps(&self, _: Peer) -> Caps {
        let net = self.net.lock();
        let options = &net.options;
        Caps {
            head: options.head,
            gather: options.gather,
            flows: options.flows,
            user_memory: options.user_memory,
            any_source: options.user_memory,
            unattended: options.unattended,
            coherent: options.coherent,
            in_place: options.coherent,
            whole_lines: false,
        }
    }

    fn alloc(&mut self, len: usize) -> Result<(Region, Memory)> {
        Ok(self.net.lock().rank(self.me).alloc(len))
    }

    unsafe fn register(&mut self, memory: Memory) -> Result<Region> {
        let mut net = self.net.lock();
        if !net.options.user_memory || memory.space != Space::Host {
            return Err(Error::Unsupported { transport: self.name, what: "register this memory" });
        }
        // SAFETY: the caller keeps this promise until `release`, after which nothing reads or writes here.
        let bytes = unsafe { Bytes::new(memory) };
        Ok(net.rank(self.me).register(bytes))
    }

    fn settle(&mut self, region: Region) {
        self.net.lock().read_out(self.me, region);
    }

    fn release(&mut self, region: Region) {
        self.settle(region);
        let mut net = self.net.lock();
        net.rank(self.me).release(region);
    }

    fn key(&self, region: Region, _: Peer) -> Option<Card> {
        self.net.lock().rank(self.me).region_len(region).map(|_| self.card(KEY, self.me, region.0))
    }

    fn import(&mut self, of: Peer, key: &Card) -> Result<RemoteRegion> {
        let (rank, region) = self.parse(KEY, key)?;
        if rank != of.0 {
            return Err(Error::BadCard { transport: self.name });
        }
        let mut net = self.net.lock();
        if net.is_lost(self.me, rank) {
            return Err(Error::Closed);
        }
        assert!(net.is_up(self.me, rank), "an import from a peer that is not up");
        let heap = if net.options.window { net.rank(rank).heap(Region(region)) } else { None };
        Ok(net.rank(self.me).import(rank, Region(region), heap))
    }

    fn forget(&mut self, region: RemoteRegion) {
        self.net.lock().rank(self.me).forget(region);
    }

    fn window(&self, region: RemoteRegion) -> Option<Memory> {
        self.net.lock().rank(self.me).imported(region).window()
    }

    fn can_read(&self, of: Peer) -> bool {
        let net = self.net.lock();
        net.options.coherent && net.is_up(self.me, of.0)
    }

    unsafe fn read(&mut self, of: Peer, address: u64, into: Memory) -> Result<()> {
        if !self.can_read(of) {
            return Err(Error::Unsupported { transport: self.name, what: "read memory of a peer" });
        }
        let address = usize::try_from(address).expect("an address of this process");
        // SAFETY: all ranks live in one process, and whoever told the address keeps the memory until it is read.
        unsafe { crate::memory::copy_from_address(address, into) };
        Ok(())
    }

    fn address(&self) -> Card {
        self.card(ADDRESS, self.me, 0)
    }

    fn connect(&mut self, peer: Peer, address: &Card, hello: &Card) -> Result<()> {
        let (rank, _) = self.parse(ADDRESS, address)?;
        let mut net = self.net.lock();
        if rank != peer.0 || rank as usize >= net.ranks.len() {
            return Err(Error::BadCard { transport: self.name });
        }
        net.connect(self.me, rank, hello);
        Ok(())
    }

    fn counter(&mut self, from: Peer) -> Result<Signal> {
        Ok(self.net.lock().rank(self.me).counter(from.0))
    }

    fn put(&mut self, put: &Put<'_>) -> std::result::Result<Posted, Full> {
        let Caps { head, gather, flows, .. } = self.caps(put.to);
        assert!(put.head.len() <= head, "a head of {} bytes", put.head.len());
        assert!(put.body.len() <= gather, "a body of {} spans", put.body.len());
        assert!(put.flow.0 < flows, "flow {} of {flows}", put.flow.0);
        self.net.lock().post(self.me, put)
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        self.net.lock().poll(self.me, events);
    }

    fn arrived(&self, signal: Signal) -> u64 {
        self.net.lock().rank(self.me).arrived(signal)
    }

    fn acquire(&mut self, _: Span) {}

    fn doorbell(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self) -> bool {
        let mut net = self.net.lock();
        let rank = net.rank(self.me);
        rank.inbox.is_empty() && rank.due.is_empty()
    }
}
