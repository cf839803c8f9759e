//! The memory that peers may write or puts are sent from, and what is known of the memory of peers.
//!
//! Memory is registered with the devices when a key is asked for or a put needs it, not before: many a buffer is only
//! ever copied from.

use std::sync::{Arc, OnceLock};

use dure_device::{DmaBuf, Memory, Space};
use dure_transport::{Peer, Region, RemoteRegion};

use crate::cache::{Cache, Entry};
use crate::card::Key;
use crate::error::{Error, Result};
use crate::memory::Pages;
use crate::nic::register;
use crate::verbs::{Mr, Pd};

/// Registrations with each port's device, in the order of the ports.
#[derive(Debug)]
struct Mrs {
    mrs: Box<[Mr]>,
    /// Set when a peer may have the key.
    exported: OnceLock<()>,
}

/// One region of this process.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) memory: Memory,
    registered: Option<Arc<Entry<Mrs>>>,
    dma_buf: Option<DmaBuf>,
    /// Work requests that read it and have not completed.
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
    pds: Box<[Arc<Pd>]>,
}

impl Regions {
    pub(crate) fn new(pds: Box<[Arc<Pd>]>, kept_bytes: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), cache: Cache::new(kept_bytes), pds }
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
            Ok(_) => Ok(region),
            Err(error) => {
                self.release(region);
                Err(error)
            }
        }
    }

    fn add(&mut self, memory: Memory, pages: Option<Pages>, dma_buf: Option<DmaBuf>) -> Region {
        let own = Own { memory, registered: None, dma_buf, readers: 0, pages };
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer regions than numbers")
        });
        self.slots[index(number)] = Some(own);
        Region(number)
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

    /// One work request more or less reads a region.
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
    pub(crate) fn registered(&mut self, number: u32) -> Result<&[Mr]> {
        Ok(&self.entry(number)?.registration.mrs)
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
        entry.expect("what is sent by address is registered").registration.mrs[nic].lkey()
    }

    fn register(&mut self, number: u32) -> Result<Arc<Entry<Mrs>>> {
        let own = self.slots[index(number)].as_ref().expect("`own` has found it");
        let memory = own.memory;
        if let Some(entry) = self.cache.find(memory) {
            return Ok(entry);
        }
        let all = |pds: &[Arc<Pd>]| -> Result<Box<[Mr]>> {
            // SAFETY: memory of the user stays mapped until the region is released, pages of this transport until after.
            // A kept registration outlives that, which whoever asked for keeping answers for.
            pds.iter().map(|pd| unsafe { register(pd, memory, own.dma_buf.as_ref()) }).collect()
        };
        let made = match all(&self.pds) {
            // What is kept may be all that is in the way.
            Err(_) if self.cache.clear() => all(&self.pds),
            made => made,
        };
        Ok(self.cache.add(memory, Mrs { mrs: made?, exported: OnceLock::new() }))
    }

    /// What a peer needs to write into a region.
    pub(crate) fn key(&mut self, region: Region) -> Result<Key> {
        let memory = self.own(region.0).memory;
        let (address, len) = (memory.address() as u64, memory.len as u64);
        if len == 0 {
            return Ok(Key { address, len, rkeys: vec![0; self.pds.len()] });
        }
        let Mrs { mrs, exported } = &self.entry(region.0)?.registration;
        exported.get_or_init(|| ());
        let rkeys = mrs.iter().map(Mr::rkey).collect();
        Ok(Key { address, len, rkeys })
    }
}

/// A region of a peer.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) of: Peer,
    pub(crate) key: Key,
}

/// The regions of peers that were imported.
#[derive(Debug, Default)]
pub(crate) struct Remotes {
    slots: Vec<Option<Remote>>,
    free: Vec<u32>,
}

impl Remotes {
    pub(crate) fn add(&mut self, remote: Remote) -> RemoteRegion {
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer imports than numbers")
        });
        self.slots[index(number)] = Some(remote);
        RemoteRegion(number)
    }

    pub(crate) fn forget(&mut self, region: RemoteRegion) {
        self.slots[index(region.0)].take().expect("an import is forgotten once");
        self.free.push(region.0);
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
        assert_eq!(key, Key { address: 0x7000, len: 4096, rkeys: vec![0x7000, 0x7000] });
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
