//! Memory of a pool as this process sees it, and the discipline by which hosts that do not keep each other's caches
//! coherent share it.
//!
//! Whoever writes stores past the caches, or writes back, and fences before the flag. Whoever reads drops its lines of the
//! flag before each look, and its lines of the bytes before it reads them: also those that it has never touched, because a
//! prefetcher may have.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use dure_device::Memory;
use dure_transport::{Error, Result};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

#[cfg(feature = "checker")]
use super::emulated::Cache;
use super::isa::{Isa, LINE};
use super::layout::{Layout, META};
use super::open::Opened;
use crate::region::wide;
use crate::system;

/// How loads and stores of this process meet those of other hosts.
#[derive(Clone, Debug)]
pub(super) enum Caches {
    /// They are coherent: one host, or a pool that keeps caches coherent between hosts.
    Coherent,
    /// They are not: lines are flushed.
    Flushed(Isa),
    /// They are not, and are made up.
    #[cfg(feature = "checker")]
    Emulated(Cache),
}

/// The pool's first pages, with its header, and behind them the areas of all members of a partition, one after the other, as
/// one range of addresses: where they are on devices does not show.
#[derive(Debug)]
pub(super) struct View {
    base: NonNull<u8>,
    len: usize,
    caches: Caches,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for View {}

// SAFETY: what is in it is shared with other hosts anyway, and accessed as they access it: through raw pointers and atomics,
// by whoever the transport's contract lets.
unsafe impl Sync for View {}

impl View {
    /// Maps the head of the first device and a partition of all of them.
    pub(super) fn map(
        devices: &[Opened],
        layout: &Layout,
        partition: u32,
        caches: Caches,
    ) -> Result<Self> {
        let view = Self::reserve(layout.view_len(), caches)?;
        for piece in layout.pieces(partition) {
            let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
            let at = view.memory(piece.at, piece.len);
            let (address, len) = (at.ptr.addr(), at.len.try_into().expect("pieces are not empty"));
            let offset =
                i64::try_from(piece.offset).map_err(|_| Errno::EFBIG).map_err(system("mmap"))?;
            // SAFETY: the range is ours: it was reserved, and nothing is in it.
            unsafe { mmap(Some(address), len, access, flags, &devices[piece.device].file, offset) }
                .map_err(system("mmap"))?;
        }
        Ok(view)
    }

    /// Addresses that hold zeros, private to this view.
    pub(super) fn reserve(len: u64, caches: Caches) -> Result<Self> {
        // Mappings of devices have addresses that are multiples of their pages: one page more than is used.
        let room =
            len.checked_add(META).and_then(|room| usize::try_from(room).ok()?.try_into().ok());
        let room = room.ok_or(Error::Protocol { what: "a pool without a possible length" })?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: the kernel chooses an address range that is free.
        let start = unsafe { mmap_anonymous(None, room, access, flags) }.map_err(system("mmap"))?;
        // A core dump would otherwise hold the whole pool.
        // SAFETY: the range was mapped just now; the advice changes nothing but core dumps.
        unsafe { madvise(start, room.get(), MmapAdvise::MADV_DONTDUMP) }
            .map_err(system("madvise"))?;
        let align = usize::try_from(META).expect("an address space has it");
        let skew = start.addr().get().next_multiple_of(align) - start.addr().get();
        let len = usize::try_from(len).expect("it was mapped just now");
        if skew > 0 {
            // SAFETY: the first bytes of the range that was mapped just now.
            unsafe { munmap(start, skew) }.map_err(system("munmap"))?;
        }
        // SAFETY: the range is as much longer than `len` as the start can be moved.
        let base = unsafe { start.byte_add(skew) }.cast::<u8>();
        // SAFETY: inside the range, as above.
        let behind = unsafe { base.add(len) };
        let rest = room.get() - skew - len;
        if rest > 0 {
            // SAFETY: the last bytes of the range that was mapped just now.
            unsafe { munmap(behind.cast(), rest) }.map_err(system("munmap"))?;
        }
        Ok(Self { base, len, caches })
    }

    /// Whether caches are coherent, so that bytes may be read and written by whatever means.
    pub(super) fn is_coherent(&self) -> bool {
        matches!(self.caches, Caches::Coherent)
    }

    #[cfg(feature = "checker")]
    pub(super) fn emulated(&self) -> Option<&Cache> {
        match &self.caches {
            Caches::Emulated(cache) => Some(cache),
            Caches::Coherent | Caches::Flushed(_) => None,
        }
    }

    /// The bytes from `at`, counted from the start of the view.
    ///
    /// # Panics
    /// When they are not inside it.
    pub(super) fn memory(&self, at: u64, len: u64) -> Memory {
        let inside = at.checked_add(len).is_some_and(|end| end <= wide(self.len));
        assert!(inside, "{len} bytes at {at} of a view of {}", self.len);
        let [at, len] = [at, len].map(|n| usize::try_from(n).expect("inside a mapping"));
        // SAFETY: it was just checked that the offset is inside the mapping.
        Memory::host(unsafe { self.base.as_ptr().add(at) }, len)
    }

    /// Writes bytes into the pool. Others can read them after the next [`View::publish`] or [`View::fence`].
    pub(super) fn write(&self, at: u64, bytes: &[u8]) {
        self.copy(at, Memory::host(bytes.as_ptr().cast_mut(), bytes.len()));
    }

    /// As [`View::write`], from memory that nobody writes meanwhile and that may not overlap the target.
    pub(super) fn copy(&self, at: u64, from: Memory) {
        let into = self.memory(at, wide(from.len));
        let (into, source, len) = (into.ptr.as_ptr(), from.ptr.as_ptr().cast_const(), from.len);
        match &self.caches {
            // SAFETY: the target was checked, the source is alive, and they may overlap here.
            Caches::Coherent => unsafe { source.copy_to(into, len) },
            Caches::Flushed(isa)
                if len == LINE
                    && into.addr().is_multiple_of(LINE)
                    && source.addr().is_multiple_of(8) =>
            {
                // SAFETY: the target was checked and is aligned, the source is alive, and they do not overlap.
                unsafe { isa.store_line(into, source) };
            }
            // SAFETY: the target was checked, the source is alive, and they do not overlap.
            Caches::Flushed(isa) => unsafe { isa.store(into, source, len) },
            #[cfg(feature = "checker")]
            Caches::Emulated(cache) => cache.store(self, at, from),
        }
    }

    /// Makes bytes zero, as [`View::write`] does.
    pub(super) fn zero(&self, at: u64, len: u64) {
        #[cfg(feature = "checker")]
        if let Caches::Emulated(cache) = &self.caches {
            return cache.zero(self, at, len);
        }
        static ZEROS: [u8; 4096] = [0; 4096];
        let mut at = at;
        let end = at + len;
        while at < end {
            let part = (end - at).min(wide(ZEROS.len()));
            self.write(at, &ZEROS[..usize::try_from(part).expect("less than a page")]);
            at += part;
        }
        self.fence();
    }

    /// What was written before can be read by others before anything that is written afterwards.
    pub(super) fn fence(&self) {
        match &self.caches {
            Caches::Coherent => std::sync::atomic::fence(Ordering::Release),
            Caches::Flushed(isa) => isa.fence(),
            #[cfg(feature = "checker")]
            Caches::Emulated(cache) => cache.fence(),
        }
    }

    /// Writes a flag, a line of its own that nobody else writes, after all that was written before: `words`, then zeros.
    pub(super) fn publish(&self, at: u64, words: &[u64]) {
        match &self.caches {
            Caches::Coherent => {
                let words = || (at..).step_by(8).zip(words);
                for (place, value) in words().skip(1).chain(words().take(1)) {
                    self.word(place).store(*value, Ordering::Release);
                }
            }
            Caches::Flushed(isa) => {
                let line = line(words);
                let into = self.memory(at, wide(LINE)).ptr.as_ptr();
                isa.fence();
                // SAFETY: the target was checked, and the line is on the stack.
                unsafe { isa.store_line(into, line.0.as_ptr().cast()) };
                isa.fence();
            }
            #[cfg(feature = "checker")]
            Caches::Emulated(cache) => {
                let whole = at.is_multiple_of(wide(LINE)).then(|| line(words).0);
                let words = whole.as_ref().map_or(words, |line| line);
                cache.publish(
                    self,
                    at,
                    &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>(),
                );
            }
        }
    }

    /// The first word of a flag as it is in memory now. What its writer wrote before is there too.
    pub(super) fn observe(&self, at: u64) -> u64 {
        self.drop_lines(at, 8);
        self.peek(at)
    }

    /// A further word of a line that was observed just now.
    pub(super) fn peek(&self, at: u64) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    /// Makes bytes that others have written readable through [`View::memory`].
    pub(super) fn drop_lines(&self, at: u64, len: u64) {
        let memory = self.memory(at, len);
        match &self.caches {
            Caches::Coherent => {}
            // SAFETY: the range was checked.
            Caches::Flushed(isa) => unsafe { isa.drop_lines(memory.ptr.as_ptr(), memory.len) },
            #[cfg(feature = "checker")]
            Caches::Emulated(cache) => cache.drop_lines(self, at, len),
        }
    }

    /// Bytes that others have written.
    pub(super) fn bytes(&self, at: u64, len: u64) -> Vec<u8> {
        self.drop_lines(at, len);
        let memory = self.memory(at, len);
        let mut bytes = vec![0; memory.len];
        // SAFETY: the range was checked; the vector is new, and as long.
        unsafe { memory.ptr.as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), memory.len) };
        bytes
    }

    /// Makes bytes that were written through [`View::memory`] readable by others after the next [`View::publish`].
    pub(super) fn write_back(&self, at: u64, len: u64) {
        let memory = self.memory(at, len);
        match &self.caches {
            Caches::Coherent => {}
            // SAFETY: the range was checked.
            Caches::Flushed(isa) => unsafe { isa.write_back(memory.ptr.as_ptr(), memory.len) },
            #[cfg(feature = "checker")]
            Caches::Emulated(cache) => cache.write_back(self, at, len),
        }
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        let word = self.memory(at, 8).ptr.cast::<u64>();
        assert!(word.is_aligned(), "flags are aligned");
        // SAFETY: the range was checked, the mapping lives as long as `self`, and flags are only ever accessed as atomics or
        // by stores of whole lines, here and elsewhere.
        unsafe { AtomicU64::from_ptr(word.as_ptr()) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `reserve`; `Memory` of it is documented to end with the transport.
        let unmapped = unsafe { munmap(self.base.cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()), "a mapping can be unmapped");
    }
}

/// A whole line of words.
#[repr(align(64))]
struct Line([u64; LINE / 8]);

fn line(words: &[u64]) -> Line {
    let mut line = [0; LINE / 8];
    line[..words.len()].copy_from_slice(words);
    Line(line)
}
