//! Private memory of a peer's process, read through the kernel (`process_vm_readv`): one copy, where a slot takes two.
//!
//! Whether the kernel allows it depends on users, namespaces and security modules, so it is tried: each rank keeps a
//! random number in its private memory and says in its segment's header where.

use std::io::IoSliceMut;

use dure_device::Memory;
use dure_transport::Result;
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use crate::system;

/// A random number in private memory.
#[derive(Debug)]
pub(crate) struct Sample(Box<u64>);

impl Sample {
    pub(crate) fn new() -> Result<Self> {
        let bytes = dure_transport::proof::random_bytes()?;
        Ok(Self(Box::new(u64::from_le_bytes(bytes))))
    }

    pub(crate) fn address(&self) -> u64 {
        (&raw const *self.0).expose_provenance() as u64
    }

    pub(crate) fn number(&self) -> u64 {
        *self.0
    }
}

/// A process whose memory can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(Pid);

impl Process {
    /// The process, if a sample of its memory can be read: a number and its address.
    pub(crate) fn readable(id: Pid, (address, number): (u64, u64)) -> Option<Self> {
        let process = Self(id);
        let mut found = [0; 8];
        let into = Memory::host(found.as_mut_ptr(), found.len());
        // SAFETY: the array is ours, and outlives the call.
        unsafe { process.read(address, into) }.ok()?;
        (u64::from_ne_bytes(found) == number).then_some(process)
    }

    /// Copies memory of the process.
    ///
    /// # Errors
    /// [`dure_transport::Error::System`] when there is no such memory, or the process has ended.
    ///
    /// # Safety
    /// `into` is host memory that nobody else touches meanwhile.
    pub(crate) unsafe fn read(self, address: u64, into: Memory) -> Result<()> {
        let base = usize::try_from(address).map_err(|_| Errno::EFAULT).map_err(system(CALL))?;
        let mut done = 0;
        while done < into.len {
            let rest = into.part(done, into.len - done);
            // SAFETY: the caller's promise.
            let bytes = unsafe { std::slice::from_raw_parts_mut(rest.ptr.as_ptr(), rest.len) };
            let from = [RemoteIoVec { base: base.wrapping_add(done), len: rest.len }];
            match process_vm_readv(self.0, &mut [IoSliceMut::new(bytes)], &from) {
                Ok(0) => return Err(system(CALL)(Errno::EFAULT)),
                Ok(copied) => done += copied,
                Err(errno) => return Err(system(CALL)(errno)),
            }
        }
        Ok(())
    }
}

const CALL: &str = "process_vm_readv";
