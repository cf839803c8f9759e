//! The transport that routes by peer.

use std::os::fd::RawFd;

use dure_device::{Memory, Space};

use crate::doorbell::Doorbells;
use crate::{
    Caps, Card, Error, Event, Full, Peer, Posted, Put, Region, RemoteRegion, Result, Signal, Span,
    Table, Transport, Way,
};

const NAME: &str = "fabric";

/// Bits of a signal's number that belong to the sub-transport; the others say which one it is of.
const SIGNAL_BITS: u32 = 28;

/// A transport made of others, each of which serves some of the peers, such as a pool inside the host and TCP to other
/// hosts. Whoever uses it never learns that there are several.
///
/// Either all ranks of a communicator use a fabric or none does: addresses and the numbers of counters differ from
/// those of the transports inside. Each rank may have its own set of transports, in its own order, as long as both ends
/// of a connection route to transports of one name.
///
/// Memory that is allocated is registered with every transport that takes it, so that it can be written by all peers;
/// so is memory of the user. [`Transport::key`] is `None` for the peers of those which do not take it, and puts to them
/// cannot be sent from it.
#[derive(Debug)]
pub struct Fabric {
    subs: Vec<Box<dyn Transport>>,
    /// Index of the sub-transport, by rank of the peer.
    route: Box<[usize]>,
    /// The sub-transport that allocates.
    allocator: usize,
    /// By number; `None` where a number is free.
    regions: Table<Parts>,
    imports: Table<(usize, RemoteRegion)>,
    /// What several doorbells are one by.
    doorbells: Option<Doorbells>,
    /// Spans of a put as its sub-transport knows them; kept so that a put allocates nothing.
    spans: Vec<Span>,
}

/// What a region is called in each sub-transport that has it.
type Parts = Box<[Option<Region>]>;

impl Fabric {
    /// The address of a fabric over `subs`, for whoever must exchange addresses before the routes are known.
    ///
    /// # Panics
    /// When the addresses of all together are longer than [`Card::MAX`].
    pub fn address_of(subs: &[Box<dyn Transport>]) -> Card {
        card::join(subs.iter().map(|sub| (sub.name(), sub.address())))
    }

    /// A fabric over `subs`, in which `route[p]` is the index of the transport that serves peer `p`. (The own rank is
    /// no peer, but what serves it by its entry may be what allocates.)
    ///
    /// # Errors
    /// [`Error::System`] when the doorbells cannot be made one.
    ///
    /// # Panics
    /// When there are no transports, more than 16, or a route leads to none of them.
    pub fn new(subs: Vec<Box<dyn Transport>>, route: &[usize]) -> Result<Self> {
        assert!(
            !subs.is_empty() && subs.len() <= 1 << (u32::BITS - SIGNAL_BITS),
            "a fabric of {} parts",
            subs.len()
        );
        assert!(
            route.iter().all(|sub| *sub < subs.len()),
            "a route that leads to no transport: {route:?}"
        );
        // Memory of a transport that takes no other must come from it; the others can register what it gives. Where there are
        // several such, from one whose peers have no other way to read what several of them get.
        let needs = |peer, sub: usize| {
            let Caps { user_memory, in_place, coherent, .. } = subs[sub].caps(Peer(peer));
            (!user_memory, in_place && !coherent)
        };
        let needy = (0..).zip(route).map(|(peer, sub)| (needs(peer, *sub), *sub));
        let first_of_most = |best: ((bool, bool), usize), next: ((bool, bool), usize)| {
            if next.0 > best.0 { next } else { best }
        };
        let allocator = needy.reduce(first_of_most).map_or(0, |(_, sub)| sub);
        let doorbells: Option<Vec<RawFd>> = subs.iter().map(|sub| sub.doorbell()).collect();
        let several = doorbells.filter(|all| all.len() > 1);
        // SAFETY: the fabric owns the transports, which own their doorbells, and drops them together with the union.
        let doorbells = several.map(|all| unsafe { Doorbells::new(&all) }).transpose()?;
        let (regions, imports, spans) = (Table::new(), Table::new(), Vec::new());
        Ok(Self { subs, route: route.into(), allocator, regions, imports, doorbells, spans })
    }

    /// The address that a transport of this name has in the address of a fabric.
    pub fn part(address: &Card, name: &str) -> Option<Card> {
        let parts = card::split(address)?;
        parts.into_iter().find(|(part, _)| *part == name.as_bytes()).map(|(_, card)| card)
    }

    /// The index of the transport that serves a peer.
    fn of(&self, peer: Peer) -> usize {
        self.route[peer.0 as usize]
    }

    fn parts(&self, region: Region) -> &Parts {
        let entry = self.regions.get(region.0);
        entry.expect("a region of this fabric that was not released")
    }

    /// What a region of one sub-transport alone is called.
    fn only(&self, sub: usize, region: Region) -> Parts {
        let mut parts: Parts = vec![None; self.subs.len()].into();
        parts[sub] = Some(region);
        parts
    }

    /// Calls `act` with each sub-transport that has a region, and with the bytes as it names them.
    #[inline]
    fn each_part(&mut self, bytes: Span, act: impl Fn(&mut dyn Transport, Span)) {
        let entry = self.regions.get(bytes.region.0);
        let parts = entry.expect("a region of this fabric that was not released");
        for (sub, part) in self.subs.iter_mut().zip(parts) {
            if let Some(region) = *part {
                act(&mut **sub, Span { region, ..bytes });
            }
        }
    }

    fn imported(&self, region: RemoteRegion) -> (usize, RemoteRegion) {
        let entry = self.imports.get(region.0);
        *entry.expect("an import of this fabric that was not forgotten")
    }

    /// Ends the parts of a region, that of the transport whose memory it may be last.
    fn end(&mut self, parts: &Parts) {
        let others = (0..self.subs.len()).filter(|sub| *sub != self.allocator);
        for sub in others.chain([self.allocator]) {
            if let Some(region) = parts[sub] {
                self.subs[sub].release(region);
            }
        }
    }
}

/// A signal as its owner's users know it.
fn tag(sub: usize, signal: Signal) -> Result<Signal> {
    if signal.0 >> SIGNAL_BITS != 0 {
        return Err(Error::Exhausted { transport: NAME, what: format!("counter {}", signal.0) });
    }
    let sub = u32::try_from(sub).expect("at most 16 transports");
    Ok(Signal(sub << SIGNAL_BITS | signal.0))
}

/// The index of a signal's transport at its owner, and the signal as that transport knows it.
fn untag(signal: Signal) -> (usize, Signal) {
    ((signal.0 >> SIGNAL_BITS) as usize, Signal(signal.0 & ((1 << SIGNAL_BITS) - 1)))
}

/// The card of several transports: of each, the length of its name in a byte, its name, the length of its card in two
/// bytes (little-endian), its card.
mod card {
    use crate::Card;

    pub(super) fn join<'a>(parts: impl Iterator<Item = (&'a str, Card)>) -> Card {
        let mut bytes = Vec::new();
        for (name, Card(card)) in parts {
            bytes.push(u8::try_from(name.len()).expect("names of transports are short"));
            bytes.extend(name.as_bytes());
            bytes.extend(u16::try_from(card.len()).expect("a card keeps its limit").to_le_bytes());
            bytes.extend(card);
        }
        assert!(
            bytes.len() <= Card::MAX,
            "the addresses of all transports take {} bytes",
            bytes.len()
        );
        Card(bytes.into())
    }

    /// The parts of a card with their names; `None` when it is not one of several transports.
    pub(super) fn split(card: &Card) -> Option<Vec<(&[u8], Card)>> {
        let (mut rest, mut parts) = (&card.0[..], Vec::new());
        while let Some((len, tail)) = rest.split_first() {
            let (name, tail) = tail.split_at_checked(usize::from(*len))?;
            let (len, tail) = tail.split_first_chunk()?;
            let (card, tail) = tail.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            parts.push((name, Card(card.into())));
            rest = tail;
        }
        Some(parts)
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        for parts in std::mem::take(&mut self.regions).iter() {
            self.end(parts);
        }
    }
}

impl Transport for Fabric {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self, peer: Peer) -> Caps {
        self.subs[self.of(peer)].caps(peer)
    }

    fn alloc(&mut self, len: usize) -> Result<(Region, Memory)> {
        let (region, memory) = self.subs[self.allocator].alloc(len)?;
        let mut parts = self.only(self.allocator, region);
        for (sub, part) in self.subs.iter_mut().zip(&mut parts).filter(|(_, part)| part.is_none()) {
            // SAFETY: the memory stays until its allocator releases it, which `end` has done last, and whoever uses it
            // keeps the rules of memory that was allocated, which are those of memory that was registered.
            *part = unsafe { sub.register(memory) }.ok();
        }
        Ok((Region(self.regions.insert(parts)), memory))
    }

    fn alloc_for(&mut self, peer: Peer, len: usize) -> Result<(Region, Memory)> {
        let sub = self.of(peer);
        let (region, memory) = self.subs[sub].alloc_for(peer, len)?;
        let parts = self.only(sub, region);
        Ok((Region(self.regions.insert(parts)), memory))
    }

    fn reaches(&self, space: Space) -> bool {
        self.subs.iter().any(|sub| sub.reaches(space))
    }

    fn alloc_in(&mut self, space: Space, len: usize) -> Result<(Region, Memory)> {
        let sub = self.subs.iter().position(|sub| sub.reaches(space));
        let refused =
            Error::Unsupported { transport: NAME, what: "allocate memory of this device" };
        let sub = sub.ok_or(refused)?;
        let (region, memory) = self.subs[sub].alloc_in(space, len)?;
        let parts = self.only(sub, region);
        Ok((Region(self.regions.insert(parts)), memory))
    }

    fn way(&mut self, memory: Memory, to: Peer) -> Way {
        let sub = self.of(to);
        self.subs[sub].way(memory, to)
    }

    unsafe fn register(&mut self, memory: Memory) -> Result<Region> {
        let mut refusal = None;
        let mut each = |sub: &mut Box<dyn Transport>| {
            // SAFETY: the caller keeps the promise until `release`, which ends the region in every transport.
            unsafe { sub.register(memory) }.map_err(|error| refusal = Some(error)).ok()
        };
        let parts: Parts = self.subs.iter_mut().map(&mut each).collect();
        match refusal {
            Some(error) if parts.iter().all(Option::is_none) => Err(error),
            _ => Ok(Region(self.regions.insert(parts))),
        }
    }

    fn settle(&mut self, region: Region) {
        let parts = self.parts(region).clone();
        for (sub, part) in self.subs.iter_mut().zip(&parts) {
            part.iter().for_each(|part| sub.settle(*part));
        }
    }

    fn release(&mut self, region: Region) {
        let entry = self.regions.remove(region.0);
        self.end(&entry.expect("a region of this fabric is released once"));
    }

    fn key(&self, region: Region, to: Peer) -> Option<Card> {
        let sub = self.of(to);
        self.parts(region)[sub].and_then(|region| self.subs[sub].key(region, to))
    }

    fn import(&mut self, of: Peer, key: &Card) -> Result<RemoteRegion> {
        let sub = self.of(of);
        let region = self.subs[sub].import(of, key)?;
        Ok(RemoteRegion(self.imports.insert((sub, region))))
    }

    fn forget(&mut self, region: RemoteRegion) {
        let entry = self.imports.remove(region.0);
        let (sub, region) = entry.expect("an import of this fabric is forgotten once");
        self.subs[sub].forget(region);
    }

    fn window(&self, region: RemoteRegion) -> Option<Memory> {
        let (sub, region) = self.imported(region);
        self.subs[sub].window(region)
    }

    fn expose(&mut self, bytes: Span) {
        self.each_part(bytes, |sub, bytes| sub.expose(bytes));
    }

    fn fetch(&mut self, region: RemoteRegion, at: u64, len: u64) -> Option<Memory> {
        let (sub, region) = self.imported(region);
        self.subs[sub].fetch(region, at, len)
    }

    fn can_read(&self, of: Peer) -> bool {
        self.subs[self.of(of)].can_read(of)
    }

    unsafe fn read(&mut self, of: Peer, address: u64, into: Memory) -> Result<()> {
        let sub = self.of(of);
        // SAFETY: the caller's promise.
        unsafe { self.subs[sub].read(of, address, into) }
    }

    fn lend(&mut self, memory: Memory) {
        self.subs.iter_mut().for_each(|sub| sub.lend(memory));
    }

    fn address(&self) -> Card {
        Self::address_of(&self.subs)
    }

    fn connect(&mut self, peer: Peer, address: &Card, hello: &Card) -> Result<()> {
        let sub = self.of(peer);
        let name = self.subs[sub].name();
        let parts = card::split(address).ok_or(Error::BadCard { transport: NAME })?;
        let part = parts.iter().find(|(other, _)| *other == name.as_bytes());
        let (_, address) =
            part.ok_or_else(|| Error::Unreachable { tried: format!("{name}: the peer has none") })?;
        self.subs[sub].connect(peer, address, hello)
    }

    fn counter(&mut self, from: Peer) -> Result<Signal> {
        let sub = self.of(from);
        tag(sub, self.subs[sub].counter(from)?)
    }

    fn put(&mut self, put: &Put<'_>) -> std::result::Result<Posted, Full> {
        let sub = self.of(put.to);
        // The number is the peer's: its tag says where it is there, and means nothing here.
        let signal = put.signal.map(|signal| untag(signal).1);
        if put.head.is_empty() && put.body.is_empty() {
            return self.subs[sub].put(&Put { into: None, signal, ..*put });
        }
        self.spans.clear();
        for span in put.body {
            let entry = self.regions.get(span.region.0);
            let region = entry
                .and_then(|parts| parts[sub])
                .expect("a put from a region that this transport took");
            self.spans.push(Span { region, ..*span });
        }
        let into = put.into.map(|into| {
            let (other, region) = self.imported(into);
            assert_eq!(other, sub, "a put into a region of another peer");
            region
        });
        self.subs[sub].put(&Put { body: &self.spans, into, signal, ..*put })
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        for sub in &mut self.subs {
            sub.poll(events);
        }
    }

    fn is_behind(&self) -> bool {
        self.subs.iter().any(|sub| sub.is_behind())
    }

    fn arrived(&self, signal: Signal) -> u64 {
        let (sub, signal) = untag(signal);
        self.subs[sub].arrived(signal)
    }

    fn acquire(&mut self, bytes: Span) {
        // Peers of any of them may have written there.
        self.each_part(bytes, |sub, bytes| sub.acquire(bytes));
    }

    fn doorbell(&self) -> Option<RawFd> {
        match &self.subs[..] {
            [only] => only.doorbell(),
            _ => self.doorbells.as_ref().map(Doorbells::doorbell),
        }
    }

    fn arm(&mut self) -> bool {
        self.subs.iter_mut().all(|sub| sub.arm())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Card, SIGNAL_BITS, Signal, card, tag, untag};

    #[test]
    fn cards_of_several_transports_come_apart_as_they_were_joined() {
        let parts = [("pool", Card(b"a segment".as_slice().into())), ("tcp", Card::default())];
        let card = card::join(parts.iter().map(|(name, card)| (*name, card.clone())));
        let found = card::split(&card).unwrap();
        let expected: Vec<_> =
            parts.iter().map(|(name, card)| (name.as_bytes(), card.clone())).collect();
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn a_card_of_anything_is_split_into_what_joins_to_it_or_refused(bytes: Vec<u8>) {
            let card = Card(bytes.into());
            let Some(parts) = card::split(&card) else { return Ok(()) };
            let Ok(names) = parts.iter().map(|(name, _)| str::from_utf8(name)).collect::<Result<Vec<_>, _>>() else {
                return Ok(());
            };
            let parts = names.into_iter().zip(&parts).map(|(name, (_, part))| (name, part.clone()));
            prop_assert_eq!(card::join(parts), card);
        }
    }

    #[test]
    fn signals_keep_their_number_and_say_where_they_are() {
        let signal = tag(3, Signal(77)).unwrap();
        assert_eq!(untag(signal), (3, Signal(77)));
        assert!(tag(0, Signal(1 << SIGNAL_BITS)).is_err());
    }
}
