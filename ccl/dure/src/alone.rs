//! The transport of a rank that has no peers: it gives memory, and that is all. No segment, no socket, no descriptor.

use std::os::fd::RawFd;

use dure_device::Memory;
use dure_transport::{
    Caps, Card, Error, Event, Full, Peer, Posted, Put, Region, RemoteRegion, Result, Signal, Span,
    Transport,
};

const NAME: &str = "none";
/// What the trait promises of allocated memory.
const ALIGN: usize = 64;

/// No peers. Memory that it allocates ends with it.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    /// By number; `None` where a number is free.
    regions: Vec<Option<Vec<u8>>>,
}

impl Transport for Alone {
    fn name(&self) -> &'static str {
        NAME
    }

    fn caps(&self, _peer: Peer) -> Caps {
        Caps {
            head: ALIGN,
            gather: 1,
            flows: 1,
            user_memory: false,
            any_source: false,
            unattended: true,
            coherent: false,
            in_place: false,
            whole_lines: false,
        }
    }

    fn alloc(&mut self, len: usize) -> Result<(Region, Memory)> {
        let full = || Error::Exhausted { transport: NAME, what: format!("{len} bytes") };
        let room = len.checked_add(ALIGN - 1).ok_or_else(full)?;
        // Zeroed pages of the system's, which cost nothing before they are touched.
        let mut bytes = vec![0; room];
        let start = bytes.as_mut_ptr();
        let memory = Memory::host(start.wrapping_add(start.align_offset(ALIGN)), len);
        let free = self.regions.iter().position(Option::is_none).unwrap_or_else(|| {
            self.regions.push(None);
            self.regions.len() - 1
        });
        self.regions[free] = Some(bytes);
        let number = u32::try_from(free).map_err(|_| full())?;
        Ok((Region(number), memory))
    }

    #[allow(unsafe_code, reason = "the trait declares it so; nothing is done here")]
    unsafe fn register(&mut self, _memory: Memory) -> Result<Region> {
        Err(Error::Unsupported { transport: NAME, what: "register memory" })
    }

    fn release(&mut self, region: Region) {
        let place = self.regions.get_mut(region.0 as usize);
        drop(place.and_then(Option::take).expect("a region is released once"));
    }

    fn key(&self, _region: Region, _to: Peer) -> Option<Card> {
        None
    }

    fn import(&mut self, _of: Peer, _key: &Card) -> Result<RemoteRegion> {
        Err(Error::Closed)
    }

    fn forget(&mut self, _region: RemoteRegion) {
        unreachable!("nothing was imported")
    }

    fn window(&self, _region: RemoteRegion) -> Option<Memory> {
        None
    }

    fn address(&self) -> Card {
        Card::default()
    }

    fn connect(&mut self, _peer: Peer, _address: &Card, _hello: &Card) -> Result<()> {
        Err(Error::Unreachable { tried: "there are no peers".to_owned() })
    }

    fn counter(&mut self, _from: Peer) -> Result<Signal> {
        Err(Error::Exhausted { transport: NAME, what: "a counter".to_owned() })
    }

    fn put(&mut self, _put: &Put<'_>) -> std::result::Result<Posted, Full> {
        unreachable!("no peer was ever up")
    }

    fn poll(&mut self, _events: &mut Vec<Event>) {}

    fn arrived(&self, _signal: Signal) -> u64 {
        0
    }

    fn acquire(&mut self, _bytes: Span) {}

    fn doorbell(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_numbers_are_used_again() {
        let mut alone = Alone::default();
        let (first, memory) = alone.alloc(100).unwrap();
        assert_eq!((memory.len, memory.address() % ALIGN), (100, 0));
        let (second, other) = alone.alloc(1).unwrap();
        assert!(!memory.overlaps(other));
        alone.release(first);
        assert_eq!(alone.alloc(5).unwrap().0, first);
        assert_ne!(first, second);
        assert!(matches!(alone.alloc(usize::MAX), Err(Error::Exhausted { .. })));
    }
}
