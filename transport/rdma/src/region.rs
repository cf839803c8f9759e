//! The memory that peers may write or puts are sent from, and what is known of the memory of peers.
//!
//! Memory is registered with the devices when a key is asked for or a put needs it, not before: many a buffer is only
//! ever copied from.

use std::sync::{Arc, OnceLock};

use dure_device::{DmaBuf, Memory, Space};
use dure_transport::{Card, Peer, Region, RemoteRegion};

use crate::cache::{Cache, Entry};
use crate::card::Key;
use crate::error::{Error, Result};
use crate::memory::Pages;
use crate::nic::register;
use crate::verbs::{Mr, Pd};

/// Registrations with each port's device, in the order of the ports; `None` of a device that is gone.
#[derive(Debug)]
struct Mrs {
    mrs: Box<[Option<Mr>]>,
    /// Set when a peer may have the key.
    exported: OnceLock<()>,
}

/// One region of this process.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) memory: Memory,
    registered: Option<Arc<Entry<Mrs>>>,
    dma_buf: Option<DmaBuf>,
    /// The same memory as the side channel knows it, where puts may go over that.
    pub(crate) side: Option<Region>,
    /// Spans of puts that read it and are not known to have arrived.
    pub(crate) readers: u32,
    /// Of regions that this transport allocated. Behind the registration, which covers them.
    pages: Option<Pages>,
}

/// The regions of this process.
#[derive(Debug)]
pub(crate) struct Regions {
    slots: Vec<Option<Own>>,
    free: Vec<u32>,
    cache: Cache<Mrs>,
    /// By port; `None` once the device is gone.
    pds: Box<[Option<Arc<Pd>>]>,
    /// Ports whose device was found to be gone, for whoever has to know.
    pub(crate) gone: Vec<(usize, Error)>,
}

impl Regions {
    pub(crate) fn new(pds: Box<[Arc<Pd>]>, kept_bytes: usize) -> Self {
        let pds = pds.into_iter().map(Some).collect();
        let (slots, free, gone) = (Vec::new(), Vec::new(), Vec::new());
        Self { slots, free, cache: Cache::new(kept_bytes), pds, gone }
    }

    pub(crate) fn alloc(&mut self, len: usize) -> Result<(Region, Memory)> {
        let pages = Pages::new(len).map_err(Error::system("mmap"))?;
        let memory = pages.memory();
        Ok((self.add(memory, Some(pages), None), memory))
    }

    /// Host memory of the user; it is registered when it has to be.
    pub(crate) fn host(&mut self, memory: Memory) -> Region {
        self.add(memory, None, None)
    }

    /// Memory of a device, which is registered at once: whoever asks wants to know whether that works.
    pub(crate) fn device(&mut self, memory: Memory, dma_buf: DmaBuf) -> Result<Region> {
        let region = self.add(memory, None, Some(dma_buf));
        match self.registered(region.0) {
            Ok(()) => Ok(region),
            Err(error) => {
                self.release(region);
                Err(error)
            }
        }
    }

    fn add(&mut self, memory: Memory, pages: Option<Pages>, dma_buf: Option<DmaBuf>) -> Region {
        let own = Own { memory, registered: None, dma_buf, side: None, readers: 0, pages };
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer regions than numbers")
        });
        self.slots[index(number)] = Some(own);
        Region(number)
    }

    /// Notes what the side channel calls a region.
    pub(crate) fn set_side(&mut self, number: u32, side: Option<Region>) {
        let own = self.slots[index(number)].as_mut().expect("a region that was added just now");
        own.side = side;
    }

    /// Ends a region that no work request reads.
    pub(crate) fn release(&mut self, region: Region) {
        let own = self.slots[index(region.0)].take().expect("a region is released once");
        self.free.push(region.0);
        let Own { registered, pages, memory, .. } = own;
        if let Some(entry) = registered {
            let exported = entry.registration.exported.get().is_some();
            let keep = !exported && pages.is_none() && memory.space == Space::Host;
            self.cache.give_back(entry, keep);
        }
    }

    /// A region that is there.
    #[inline]
    pub(crate) fn own(&self, number: u32) -> &Own {
        let own = self.slots.get(index(number)).and_then(Option::as_ref);
        own.expect("a region of this transport that was not released")
    }

    /// One span more or less reads a region.
    pub(crate) fn count_reader(&mut self, number: u32, more: bool) {
        if let Some(own) = self.slots.get_mut(index(number)).and_then(Option::as_mut) {
            own.readers = if more { own.readers + 1 } else { own.readers.saturating_sub(1) };
        }
    }

    /// Whether registrations are kept after their last use.
    #[inline]
    pub(crate) fn keeps(&self) -> bool {
        self.cache.keeps()
    }

    /// Whether a region has been registered already.
    #[inline]
    pub(crate) fn is_registered(&self, number: u32) -> bool {
        self.own(number).registered.is_some()
    }

    /// The registrations of a region, made if need be.
    pub(crate) fn registered(&mut self, number: u32) -> Result<()> {
        self.entry(number).map(drop)
    }

    fn entry(&mut self, number: u32) -> Result<&Entry<Mrs>> {
        if self.own(number).registered.is_none() {
            let entry = self.register(number)?;
            let own = self.slots[index(number)].as_mut().expect("`own` has found it");
            own.registered = Some(entry);
        }
        let entry = self.own(number).registered.as_ref();
        Ok(entry.expect("it was made above"))
    }

    /// Keys for sending from a region that is registered.
    #[inline]
    pub(crate) fn lkey(&self, number: u32, nic: usize) -> u32 {
        let entry = self.own(number).registered.as_ref();
        let entry = entry.expect("what is sent by address is registered");
        // A request with a wrong key fails, as any does on a device that is gone.
        entry.registration.mrs[nic].as_ref().map_or(0, Mr::lkey)
    }

    fn register(&mut self, number: u32) -> Result<Arc<Entry<Mrs>>> {
        let memory = self.own(number).memory;
        if let Some(entry) = self.cache.find(memory) {
            return Ok(entry);
        }
        let mrs = match self.register_with_all(number) {
            // What is kept may be all that is in the way.
            Err(_) if self.cache.clear() => self.register_with_all(number),
            made => made,
        }?;
        Ok(self.cache.add(memory, Mrs { mrs, exported: OnceLock::new() }))
    }

    fn register_with_all(&mut self, number: u32) -> Result<Box<[Option<Mr>]>> {
        let own = self.slots[index(number)].as_ref().expect("`own` has found it");
        let mut mrs = Vec::new();
        for (nic, pd) in self.pds.iter_mut().enumerate() {
            // SAFETY: memory of the user stays mapped until the region is released, pages of this transport until after.
            // A kept registration outlives that, which whoever asked for keeping answers for.
            let made = pd
                .as_ref()
                .map(|pd| unsafe { register(pd, own.memory, own.dma_buf.as_ref()) })
                .transpose();
            match made {
                Ok(mr) => mrs.push(mr),
                Err(error) if error.is_gone() => {
                    *pd = None;
                    self.gone.push((nic, error));
                    mrs.push(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(mrs.into())
    }

    /// Registers nothing more with the device of a port, which is gone.
    pub(crate) fn give_up(&mut self, nic: usize) {
        self.pds[nic] = None;
    }

    /// What a peer needs to write into a region.
    pub(crate) fn key(&mut self, region: Region) -> Result<Key> {
        let memory = self.own(region.0).memory;
        let (address, len) = (memory.address() as u64, memory.len as u64);
        if len == 0 {
            return Ok(Key { address, len, rkeys: vec![0; self.pds.len()], side: Card::default() });
        }
        let Mrs { mrs, exported } = &self.entry(region.0)?.registration;
        exported.get_or_init(|| ());
        let rkeys = mrs.iter().map(|mr| mr.as_ref().map_or(0, Mr::rkey)).collect();
        Ok(Key { address, len, rkeys, side: Card::default() })
    }
}

/// A region of a peer.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) of: Peer,
    pub(crate) key: Key,
    /// The same region as the side channel has imported it.
    pub(crate) side: Option<RemoteRegion>,
    /// Puts that name it and are not known to have arrived: they may have to be sent again.
    users: u32,
    forgotten: bool,
}

/// The regions of peers that were imported.
#[derive(Debug, Default)]
pub(crate) struct Remotes {
    slots: Vec<Option<Remote>>,
    free: Vec<u32>,
}

impl Remotes {
    pub(crate) fn add(&mut self, of: Peer, key: Key, side: Option<RemoteRegion>) -> RemoteRegion {
        let remote = Remote { of, key, side, users: 0, forgotten: false };
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer imports than numbers")
        });
        self.slots[index(number)] = Some(remote);
        RemoteRegion(number)
    }

    /// Ends an import, once no put names it. Gives back what the side channel has to forget.
    pub(crate) fn forget(&mut self, region: RemoteRegion) -> Option<RemoteRegion> {
        let remote = self.find(region);
        assert!(!remote.forgotten, "an import is forgotten once");
        remote.forgotten = true;
        self.end_unused(region)
    }

    /// One put more names an import.
    #[inline]
    pub(crate) fn hold(&mut self, region: RemoteRegion) {
        self.find(region).users += 1;
    }

    /// One put less names an import. Gives back what the side channel has to forget.
    #[inline]
    pub(crate) fn let_go(&mut self, region: RemoteRegion) -> Option<RemoteRegion> {
        let remote = self.find(region);
        remote.users -= 1;
        if remote.forgotten { self.end_unused(region) } else { None }
    }

    fn end_unused(&mut self, region: RemoteRegion) -> Option<RemoteRegion> {
        let slot = &mut self.slots[index(region.0)];
        let ended = slot.take_if(|remote| remote.users == 0)?;
        self.free.push(region.0);
        ended.side
    }

    #[inline]
    fn find(&mut self, region: RemoteRegion) -> &mut Remote {
        let remote = self.slots.get_mut(index(region.0)).and_then(Option::as_mut);
        remote.expect("an import of this transport that was not forgotten")
    }

    #[inline]
    pub(crate) fn get(&self, region: RemoteRegion) -> &Remote {
        let remote = self.slots.get(index(region.0)).and_then(Option::as_ref);
        remote.expect("an import of this transport that was not forgotten")
    }
}

pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).expect("a 32-bit number fits")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::ptr::{NonNull, without_provenance_mut};

    use super::*;
    use crate::verbs::simulated::pd;

    #[test]
    fn an_import_stays_until_no_put_names_it() {
        let mut remotes = Remotes::default();
        let key = Key { address: 0, len: 8, rkeys: vec![1], side: Card::default() };
        let add = |remotes: &mut Remotes, side| {
            remotes.add(Peer(1), key.clone(), Some(RemoteRegion(side)))
        };
        let first = add(&mut remotes, 70);
        remotes.hold(first);
        assert_eq!(remotes.forget(first), None);
        assert_ne!(add(&mut remotes, 71), first);
        assert_eq!(remotes.let_go(first), Some(RemoteRegion(70)));
        assert_eq!(add(&mut remotes, 72), first);
    }

    /// Memory of a device at an address that nobody may dereference, and a descriptor that stands for it.
    fn device_memory() -> (Memory, DmaBuf) {
        let ptr = NonNull::new(without_provenance_mut(0x7000)).unwrap();
        let fd = OwnedFd::from(File::open("/dev/null").unwrap());
        (Memory { ptr, len: 4096, space: Space::Device(3) }, DmaBuf { fd, offset: 64 })
    }

    #[test]
    fn memory_of_a_device_is_registered_by_its_dma_buf() {
        let mut regions = Regions::new([pd(true), pd(true)].into(), 1 << 20);
        let (memory, buffer) = device_memory();
        let fd = buffer.fd.as_raw_fd();
        let region = regions.device(memory, buffer).unwrap();
        let key = regions.key(region).unwrap();
        let side = Card::default();
        assert_eq!(key, Key { address: 0x7000, len: 4096, rkeys: vec![0x7000, 0x7000], side });
        assert_eq!(regions.lkey(region.0, 1), fd.cast_unsigned());
        regions.release(region);
    }

    #[test]
    fn a_device_that_cannot_reach_it_refuses_and_leaves_nothing() {
        let mut regions = Regions::new([pd(true), pd(false)].into(), 1 << 20);
        let (memory, buffer) = device_memory();
        let error = regions.device(memory, buffer).unwrap_err().to_string();
        assert!(error.contains("ibv_reg_dmabuf_mr") && error.contains("cannot reach"), "{error}");
        assert!(regions.slots.iter().all(Option::is_none));
    }
}
