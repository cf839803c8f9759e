//! Memory under test, with guards on both sides.

#![allow(
    unsafe_code,
    reason = "the buffers of calls are raw memory: in place, input and output are the same bytes"
)]

use std::marker::PhantomData;
use std::sync::Arc;

use clap::ValueEnum;
use dure::{Communicator, Device, Memory, Registration, Request};
use dure_device::Work;

/// Where the buffers of the calls are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Alloc {
    /// Plain memory of the process.
    Malloc,
    /// Memory that the transports know, from `Communicator::alloc`.
    Dure,
}

/// Bytes before and behind the data that nobody may write.
pub(crate) const GUARD: usize = 64;
const GUARD_BYTE: u8 = 0x5c;
/// What outputs hold before a checked call.
const POISON: u8 = 0xa5;

/// As aligned as the memory of [`Communicator::alloc`].
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "only its address and size are used")] [u8; GUARD]);

/// One piece of memory: a guard, data, and a guard right behind however much data a call has. Where it is a device's, this process
/// writes and reads an image of it, which is copied there before a call and back after it.
pub(crate) struct Arena<'c> {
    memory: Memory,
    keep: Keep<'c>,
    device: Option<OnDevice>,
}

/// Memory of a device, and the device.
struct OnDevice(Arc<dyn Device>, Memory);

/// What keeps the memory.
enum Keep<'c> {
    Lines { _lines: Vec<Line> },
    Registered(&'c Communicator, Option<Registration>),
}

impl<'c> Arena<'c> {
    /// Room for `len` bytes of data, on a device if there is one.
    pub(crate) fn new(
        comm: &'c Communicator,
        (alloc, device): (Alloc, Option<&Arc<dyn Device>>),
        len: usize,
    ) -> dure::Result<Self> {
        let len = len + 2 * GUARD;
        let device = match device {
            None => None,
            Some(device) => {
                let failed = |error| dure::Error::device("no memory for buffers").because(error);
                Some(OnDevice(Arc::clone(device), device.alloc(len).map_err(failed)?))
            }
        };
        match alloc {
            Alloc::Malloc => {
                let count = len.div_ceil(GUARD);
                let mut lines = Vec::new();
                lines.try_reserve_exact(count).map_err(|source| {
                    dure::Error::system(format!("no memory for buffers of {len} bytes"))
                        .because(source)
                })?;
                lines.resize(count, Line([0; GUARD]));
                let memory = Memory::host(lines.as_mut_ptr().cast(), len);
                Ok(Self { memory, keep: Keep::Lines { _lines: lines }, device })
            }
            Alloc::Dure => {
                let (registration, memory) = comm.alloc(len)?;
                Ok(Self { memory, keep: Keep::Registered(comm, Some(registration)), device })
            }
        }
    }

    /// `len` bytes of the data from byte `at`, for a call; `EMPTY` when there are none.
    pub(crate) fn part(&self, at: usize, len: usize) -> Memory {
        let memory = self.device.as_ref().map_or(self.memory, |on| on.1);
        if len == 0 { Memory::EMPTY } else { memory.part(GUARD + at, len) }
    }

    /// Has the device, if there is one, hold what this process has written: `len` bytes of data and the guards.
    pub(crate) fn upload(&mut self, len: usize) -> dure::Result<()> {
        self.transfer(len, Work::copy)
    }

    /// Has this process see what the device holds.
    pub(crate) fn download(&mut self, len: usize) -> dure::Result<()> {
        self.transfer(len, |image, device| Work::copy(device, image))
    }

    fn transfer(
        &mut self,
        len: usize,
        copy: impl Fn(Memory, Memory) -> Work<'static>,
    ) -> dure::Result<()> {
        let Some(OnDevice(device, memory)) = &self.device else { return Ok(()) };
        let failed = |error| dure::Error::device("a buffer cannot be copied").because(error);
        let len = len + 2 * GUARD;
        let mut queue = device.queue().map_err(failed)?;
        // SAFETY: both live in this arena, which is borrowed until the copy is done.
        let ticket = unsafe { queue.submit(&copy(self.memory.part(0, len), memory.part(0, len))) };
        let ticket = ticket.map_err(failed)?;
        while queue.completed().map_err(failed)? < ticket {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The data from byte `at`.
    pub(crate) fn bytes(&self, at: usize, len: usize) -> &[u8] {
        let part = self.memory.part(GUARD + at, len);
        // SAFETY: the part lies in memory that `keep` keeps, which was zeroed when it was allocated. Nobody writes it
        // now: no call is under way, as `Calls` borrows the arenas and waits, and the borrow excludes `bytes_mut`.
        unsafe { std::slice::from_raw_parts(part.ptr.as_ptr(), len) }
    }

    /// The data from byte `at`, to write.
    pub(crate) fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        self.raw_mut(GUARD + at, len)
    }

    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "the exclusive borrow is what makes the slice sound"
    )]
    fn raw_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        let part = self.memory.part(at, len);
        // SAFETY: as for `bytes`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(part.ptr.as_ptr(), len) }
    }

    /// Prepares the memory for a checked call on `len` bytes: poison in the data, guards around it.
    pub(crate) fn poison(&mut self, len: usize) {
        self.raw_mut(0, GUARD).fill(GUARD_BYTE);
        self.raw_mut(GUARD, len).fill(POISON);
        self.raw_mut(GUARD + len, GUARD).fill(GUARD_BYTE);
    }

    /// Bytes of the guards that were written since [`Arena::poison`].
    pub(crate) fn overruns(&mut self, len: usize) -> u64 {
        let changed =
            |guard: &[u8]| guard.iter().filter(|byte| **byte != GUARD_BYTE).count() as u64;
        changed(self.raw_mut(0, GUARD)) + changed(self.raw_mut(GUARD + len, GUARD))
    }
}

impl Drop for Arena<'_> {
    fn drop(&mut self) {
        if let Keep::Registered(comm, registration) = &mut self.keep
            && let Some(registration) = registration.take()
        {
            comm.deregister(registration);
        }
        if let Some(OnDevice(device, memory)) = self.device.take() {
            // SAFETY: no call on it is under way: `Calls` borrows the arenas. A device that is gone frees nothing.
            let _ = unsafe { device.free(memory) };
        }
    }
}

/// A group of calls on arenas, to be made again and again.
pub(crate) struct Calls<'a> {
    comm: &'a Communicator,
    requests: Vec<Request>,
    arenas: PhantomData<&'a mut [u8]>,
}

impl<'a> Calls<'a> {
    /// `requests` names parts of `_arenas` only, which stay borrowed.
    pub(crate) fn new(
        comm: &'a Communicator,
        requests: Vec<Request>,
        _arenas: &'a mut [Arena<'_>; 2],
    ) -> Self {
        Self { comm, requests, arenas: PhantomData }
    }

    /// Makes the calls as one group, and waits until they are done here.
    pub(crate) fn make(&self) -> dure::Result<()> {
        // SAFETY: the arenas are borrowed for longer than this, their bytes are only touched through borrows of the
        // arenas, and `wait` returns when the calls are done, or when the communicator has failed and dropped them.
        let operation = unsafe { self.comm.enqueue(self.requests.clone(), None) }?;
        self.comm.wait(&operation)
    }
}
