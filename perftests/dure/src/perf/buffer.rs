//! Memory under test, with guards on both sides.

#![allow(
    unsafe_code,
    reason = "the buffers of calls are raw memory: in place, input and output are the same bytes"
)]

use std::marker::PhantomData;

use clap::ValueEnum;
use dure::{Communicator, Memory, Registration, Request};

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

/// One piece of memory: a guard, data, and a guard right behind however much data a call has.
pub(crate) struct Arena<'c> {
    memory: Memory,
    keep: Keep<'c>,
}

/// What keeps the memory.
enum Keep<'c> {
    Lines { _lines: Vec<Line> },
    Registered(&'c Communicator, Option<Registration>),
}

impl<'c> Arena<'c> {
    /// Room for `len` bytes of data.
    pub(crate) fn new(comm: &'c Communicator, alloc: Alloc, len: usize) -> dure::Result<Self> {
        let len = len + 2 * GUARD;
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
                Ok(Self { memory, keep: Keep::Lines { _lines: lines } })
            }
            Alloc::Dure => {
                let (registration, memory) = comm.alloc(len)?;
                Ok(Self { memory, keep: Keep::Registered(comm, Some(registration)) })
            }
        }
    }

    /// `len` bytes of the data from byte `at`; `EMPTY` when there are none.
    pub(crate) fn part(&self, at: usize, len: usize) -> Memory {
        if len == 0 { Memory::EMPTY } else { self.memory.part(GUARD + at, len) }
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
