//! Memory of devices that devices of other ranks on the same host read themselves.
//!
//! [`Npu`] is the transport inside a host with regions in devices' memory added. What lies in the host's memory, and every signal,
//! is the inner transport's as before; a region of a device has a key for those peers whose devices reach it, and what they
//! [`Transport::fetch`] of it is memory that their own device copies and reduces from. No byte of it passes through the host.
//!
//! ```text
//!   rank 0                                rank 1
//!   device 0's memory  <--- reads ------  device 1 (imported handle)
//!   slots, signals     <--- the inner transport ---> slots, signals
//! ```
//!
//! **Who reaches whom** is found out when two ranks connect. Each rank's address names its devices: the family, and a handle of a
//! page with bytes that follow from a random number. A rank that has a device of the family imports the page and compares
//! every byte, end to end; what it found goes to the peer with its greeting. A path that does not deliver the page (an IOMMU
//! that blocks it, a switch that redirects it) is refused, with a line in the log, and messages go through slots as to anybody else.
#![deny(unsafe_code)]

mod card;
#[expect(unsafe_code, reason = "the page is written and read by a device's queue")]
mod path;

use std::os::fd::RawFd;
use std::sync::Arc;

use dure_device::{Device, Handle, Memory, Space};
use dure_transport::{
    Caps, Card, Error, Event, Full, Peer, Posted, Put, Region, RemoteRegion, Result, Signal, Span,
    Table, Transport, Way, entry,
};

use crate::card::{Key, Names};
use crate::path::{Page, Verdict};

/// Name of the transport in settings and messages.
pub const NAME: &str = "npu";

/// Regions and imports of devices have this bit; the others are the inner transport's, under its numbers.
const ON_DEVICE: u32 = 1 << 31;

/// Imports that stay when nothing names them any more: buffers come back, and importing is slow on many devices.
const KEPT: usize = 64;

/// A region in a device's memory.
#[derive(Debug)]
struct Own {
    device: usize,
    memory: Memory,
    handle: Handle,
    /// Whether it came from `alloc_in`.
    allocated: bool,
}

/// Memory of a peer's device, in the space of one of ours.
#[derive(Debug)]
struct Import {
    device: usize,
    handle: Handle,
    memory: Memory,
    /// Regions that name it.
    users: u32,
}

/// What is known of a peer.
#[derive(Debug, Default)]
struct Known {
    /// The device of ours that reads each of the peer's.
    ours: Vec<Option<usize>>,
    /// What the peer found of each of ours.
    found: Vec<Verdict>,
}

/// The transport inside a host, with memory of devices.
#[derive(Debug)]
pub struct Npu {
    inner: Box<dyn Transport>,
    devices: Vec<Arc<dyn Device>>,
    pages: Vec<Page>,
    regions: Table<Own>,
    imports: Vec<Import>,
    /// Regions of peers: which import each is a name of.
    names: Table<usize>,
    peers: Vec<Known>,
}

impl Npu {
    /// Adds memory of devices to the transport inside a host. Devices without a family are left out.
    ///
    /// # Errors
    /// [`Error::Failed`] when a device gives no memory for its page.
    pub fn new(inner: Box<dyn Transport>, devices: &[Arc<dyn Device>]) -> Result<Self> {
        let reached = devices.iter().filter(|device| device.family().is_some());
        let devices: Vec<_> = reached.take(card::MOST).cloned().collect();
        let pages = devices.iter().map(Page::new).collect::<Result<_>>()?;
        Ok(Self {
            inner,
            devices,
            pages,
            regions: Table::new(),
            imports: Vec::new(),
            names: Table::new(),
            peers: Vec::new(),
        })
    }

    /// The device whose space this is.
    fn device(&self, space: Space) -> Option<usize> {
        self.devices.iter().position(|device| device.space() == space)
    }

    fn own(&self, region: Region) -> Option<&Own> {
        if region.0 & ON_DEVICE == 0 {
            return None;
        }
        let own = self.regions.get(region.0 & !ON_DEVICE);
        Some(own.expect("a region of this transport that was not released"))
    }

    /// A region of a device's memory.
    fn add(&mut self, device: usize, memory: Memory, allocated: bool) -> Result<Region> {
        let handle = self.devices[device].export(memory).ok_or(Error::Unsupported {
            transport: NAME,
            what: "register memory that its device does not export",
        })?;
        let at = self.regions.insert(Own { device, memory, handle, allocated });
        Ok(Region(at | ON_DEVICE))
    }

    /// Imports memory of a peer's device, unless it is imported.
    fn take(&mut self, device: usize, key: &Key) -> Result<usize> {
        let same = |import: &Import| {
            (import.device, import.handle, import.memory.len) == (device, key.handle, key.len)
        };
        if let Some(at) = self.imports.iter().position(same) {
            self.imports[at].users += 1;
            return Ok(at);
        }
        let failed = |source| Error::Failed { transport: NAME, source: Box::new(source) };
        let memory = self.devices[device].import(&key.handle, key.len).map_err(failed)?;
        let import = Import { device, handle: key.handle, memory, users: 1 };
        let idle = |import: &Import| import.users == 0;
        match self.imports.iter().position(idle).filter(|_| self.imports.len() >= KEPT) {
            Some(at) => {
                let old = std::mem::replace(&mut self.imports[at], import);
                path::forget(&*self.devices[old.device], old.memory);
                Ok(at)
            }
            None => {
                self.imports.push(import);
                Ok(self.imports.len() - 1)
            }
        }
    }

    /// The import behind a region of a peer's device.
    fn imported(&self, region: RemoteRegion) -> Option<&Import> {
        if region.0 & ON_DEVICE == 0 {
            return None;
        }
        let at = self.names.get(region.0 & !ON_DEVICE);
        Some(&self.imports[*at.expect("an import of this transport that was not forgotten")])
    }

    /// Looks which of a peer's devices ours read, and says so for people. The verdicts, in the order of the peer's devices.
    fn meet(&mut self, peer: Peer, names: &Names) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut ours = Vec::new();
        for name in &names.devices {
            let family = |device: &Arc<dyn Device>| device.family() == Some(&name.family);
            let (device, verdict) = match self.devices.iter().position(family) {
                None => (None, Verdict::Foreign),
                Some(at) => (Some(at), path::read_page(&self.devices[at], name)),
            };
            let (rank, family) = (peer.0, &name.family);
            match verdict {
                Verdict::Reads => {
                    tracing::info!(target: "dure::net", peer = rank, "memory of a {family} is read by the device here");
                }
                Verdict::Foreign => {
                    tracing::info!(target: "dure::net", peer = rank, "memory of a {family} comes through the host: there is none here");
                }
                Verdict::Fails => {
                    tracing::warn!(
                        target: "dure::net", peer = rank,
                        "memory of a {family} comes through the host: the device here did not read a page of it as it was written"
                    );
                }
            }
            ours.push(device.filter(|_| verdict == Verdict::Reads));
            verdicts.push(verdict);
        }
        entry(&mut self.peers, peer).ours = ours;
        verdicts
    }
}

impl Drop for Npu {
    fn drop(&mut self) {
        for import in self.imports.drain(..) {
            path::forget(&*self.devices[import.device], import.memory);
        }
        for own in self.regions.iter().filter(|own| own.allocated) {
            path::free(&*self.devices[own.device], own.memory);
        }
    }
}

impl Transport for Npu {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn caps(&self, peer: Peer) -> Caps {
        self.inner.caps(peer)
    }

    fn alloc(&mut self, len: usize) -> Result<(Region, Memory)> {
        self.inner.alloc(len)
    }

    fn alloc_for(&mut self, peer: Peer, len: usize) -> Result<(Region, Memory)> {
        self.inner.alloc_for(peer, len)
    }

    fn reaches(&self, space: Space) -> bool {
        self.device(space).is_some()
    }

    fn alloc_in(&mut self, space: Space, len: usize) -> Result<(Region, Memory)> {
        let refused =
            Error::Unsupported { transport: NAME, what: "allocate memory of this device" };
        let device = self.device(space).ok_or(refused)?;
        let full = |error: dure_device::Error| Error::Exhausted {
            transport: NAME,
            what: error.to_string(),
        };
        let memory = self.devices[device].alloc(len).map_err(full)?;
        let region = self.add(device, memory, true);
        if region.is_err() {
            path::free(&*self.devices[device], memory);
        }
        Ok((region?, memory))
    }

    fn way(&mut self, memory: Memory, to: Peer) -> Way {
        let Some(at) = self.device(memory.space) else {
            let why = "its plug-in lets no other device reach it".to_owned();
            return Way { is_direct: false, why };
        };
        let family = self.devices[at].family().expect("only devices with a family are kept");
        let found = self.peers.get(to.0 as usize).and_then(|peer| peer.found.get(at));
        let why = match found {
            None => "the ranks are not connected".to_owned(),
            Some(Verdict::Foreign) => format!("the peer has no device of {family}"),
            Some(Verdict::Fails) => {
                format!("the peer's {family} did not read a page of it as it was written")
            }
            Some(Verdict::Reads) => {
                format!("the peer's {family} reads it, and has read a page of it as it was written")
            }
        };
        Way { is_direct: found == Some(&Verdict::Reads), why }
    }

    #[expect(unsafe_code, reason = "the trait declares it so")]
    unsafe fn register(&mut self, memory: Memory) -> Result<Region> {
        match self.device(memory.space) {
            Some(device) => self.add(device, memory, false),
            // SAFETY: the caller's promise.
            None => unsafe { self.inner.register(memory) },
        }
    }

    fn settle(&mut self, region: Region) {
        if region.0 & ON_DEVICE == 0 {
            self.inner.settle(region);
        }
    }

    fn release(&mut self, region: Region) {
        if region.0 & ON_DEVICE == 0 {
            return self.inner.release(region);
        }
        let own = self.regions.remove(region.0 & !ON_DEVICE);
        let own = own.expect("a region is released once");
        if own.allocated {
            path::free(&*self.devices[own.device], own.memory);
        }
    }

    fn key(&self, region: Region, to: Peer) -> Option<Card> {
        let Some(own) = self.own(region) else { return self.inner.key(region, to) };
        let found = &self.peers.get(to.0 as usize)?.found;
        let device = u8::try_from(own.device).expect("a card names fewer devices");
        let key = Key { device, handle: own.handle, len: own.memory.len };
        (found.get(own.device) == Some(&Verdict::Reads)).then(|| key.encode())
    }

    fn import(&mut self, of: Peer, key: &Card) -> Result<RemoteRegion> {
        let Some(key) = Key::decode(key) else { return self.inner.import(of, key) };
        let ours = entry(&mut self.peers, of).ours.get(usize::from(key.device)).copied().flatten();
        let device =
            ours.ok_or(Error::Protocol { what: "a key of a device that is not read here" })?;
        let at = self.take(device, &key)?;
        Ok(RemoteRegion(self.names.insert(at) | ON_DEVICE))
    }

    fn forget(&mut self, region: RemoteRegion) {
        if region.0 & ON_DEVICE == 0 {
            return self.inner.forget(region);
        }
        let at = self.names.remove(region.0 & !ON_DEVICE);
        self.imports[at.expect("an import is forgotten once")].users -= 1;
    }

    fn window(&self, region: RemoteRegion) -> Option<Memory> {
        if region.0 & ON_DEVICE == 0 { self.inner.window(region) } else { None }
    }

    fn expose(&mut self, bytes: Span) {
        if bytes.region.0 & ON_DEVICE == 0 {
            self.inner.expose(bytes);
        }
    }

    fn fetch(&mut self, region: RemoteRegion, at: u64, len: u64) -> Option<Memory> {
        let Some(import) = self.imported(region) else { return self.inner.fetch(region, at, len) };
        let (at, len) = (usize::try_from(at).ok()?, usize::try_from(len).ok()?);
        (at.checked_add(len)? <= import.memory.len).then(|| import.memory.part(at, len))
    }

    fn can_read(&self, of: Peer) -> bool {
        self.inner.can_read(of)
    }

    #[expect(unsafe_code, reason = "the trait declares it so")]
    unsafe fn read(&mut self, of: Peer, address: u64, into: Memory) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.inner.read(of, address, into) }
    }

    fn lend(&mut self, memory: Memory) {
        self.inner.lend(memory);
    }

    fn address(&self) -> Card {
        Names::encode(&self.inner.address(), self.devices.iter().zip(&self.pages))
    }

    fn connect(&mut self, peer: Peer, address: &Card, hello: &Card) -> Result<()> {
        let names = Names::decode(address).ok_or(Error::BadCard { transport: NAME })?;
        let verdicts = self.meet(peer, &names);
        self.inner.connect(peer, &names.inner, &Verdict::before(&verdicts, hello))
    }

    fn counter(&mut self, from: Peer) -> Result<Signal> {
        self.inner.counter(from)
    }

    fn put(&mut self, put: &Put<'_>) -> std::result::Result<Posted, Full> {
        self.inner.put(put)
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        let before = events.len();
        self.inner.poll(events);
        for event in &mut events[before..] {
            let Event::Up { peer, hello } = event else { continue };
            let peer = *peer;
            if let Some((found, rest)) = Verdict::split(hello) {
                *hello = rest;
                entry(&mut self.peers, peer).found = found;
            } else {
                let error = Error::Protocol { what: "a greeting without a word on devices" };
                *event = Event::Lost { peer, error };
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.inner.is_behind()
    }

    fn arrived(&self, signal: Signal) -> u64 {
        self.inner.arrived(signal)
    }

    fn acquire(&mut self, bytes: Span) {
        if bytes.region.0 & ON_DEVICE == 0 {
            self.inner.acquire(bytes);
        }
    }

    fn doorbell(&self) -> Option<RawFd> {
        self.inner.doorbell()
    }

    fn arm(&mut self) -> bool {
        self.inner.arm()
    }
}
