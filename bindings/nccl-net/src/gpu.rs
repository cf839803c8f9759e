//! Memory of GPUs, which NCCL gives as dma-bufs: known by address while the transport registers it.

#![expect(
    clippy::disallowed_types,
    reason = "locked when memory is registered, not on the data path"
)]

use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use dure_device::{Device, DmaBuf, Error, Memory, Queue, Result, Space};

/// Memory of any GPU: their addresses do not meet.
const SPACE: Space = Space::Device(0);
const NAME: &str = "GPUs of NCCL";

/// The device whose memory it is. It does nothing but say which dma-buf an address is in.
#[derive(Debug, Default)]
pub(crate) struct Gpus {
    given: Mutex<Option<(Memory, OwnedFd, u64)>>,
}

impl Gpus {
    /// Runs `register` on memory that lies at `offset` of a dma-buf, which the transport finds meanwhile.
    ///
    /// # Errors
    /// What `register` says; the system's, when the descriptor is none.
    pub(crate) fn lend<R>(
        &self,
        (at, len): (NonNull<u8>, usize),
        (fd, offset): (BorrowedFd<'_>, u64),
        register: impl FnOnce(Memory) -> R,
    ) -> std::io::Result<R> {
        let memory = Memory { ptr: at, len, space: SPACE };
        *self.given() = Some((memory, fd.try_clone_to_owned()?, offset));
        let registered = register(memory);
        *self.given() = None;
        Ok(registered)
    }

    fn given(&self) -> std::sync::MutexGuard<'_, Option<(Memory, OwnedFd, u64)>> {
        // It is whole after every statement.
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for Gpus {
    fn name(&self) -> &str {
        NAME
    }

    fn space(&self) -> Space {
        SPACE
    }

    fn alloc(&self, len: usize) -> Result<Memory> {
        Err(Error::OutOfMemory { device: NAME.to_owned(), len })
    }

    #[expect(unsafe_code, reason = "the trait declares it so")]
    unsafe fn free(&self, memory: Memory) -> Result<()> {
        Err(Error::NotMine { device: NAME.to_owned(), address: memory.address() })
    }

    fn owns(&self, address: *const u8) -> bool {
        let is_in = |memory: &Memory| {
            (memory.address()..memory.address() + memory.len).contains(&address.addr())
        };
        self.given().as_ref().is_some_and(|(memory, ..)| is_in(memory))
    }

    fn dma_buf(&self, memory: Memory) -> Option<DmaBuf> {
        let given = self.given();
        let (whole, fd, offset) = given.as_ref().filter(|(whole, ..)| whole.contains(memory))?;
        let inside = u64::try_from(memory.address() - whole.address()).ok()?;
        Some(DmaBuf { fd: fd.try_clone().ok()?, offset: offset + inside })
    }

    fn queue(&self) -> Result<Box<dyn Queue>> {
        Err(Error::Gone { device: NAME.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::ptr::without_provenance_mut;

    use super::*;

    #[test]
    fn memory_is_found_while_it_is_registered_and_not_later() {
        let gpus = Gpus::default();
        let file = File::open("/dev/null").unwrap();
        let at = NonNull::new(without_provenance_mut(0x7000)).unwrap();
        let lent = gpus.lend((at, 4096), (file.as_fd(), 64), |memory| {
            assert!(gpus.owns(without_provenance_mut(0x7fff)));
            assert!(!gpus.owns(without_provenance_mut(0x8000)));
            (memory, gpus.dma_buf(memory.part(16, 32)).unwrap().offset)
        });
        let (memory, offset) = lent.unwrap();
        assert_eq!((memory.space, offset), (gpus.space(), 80));
        assert!(gpus.dma_buf(memory).is_none());
    }
}
