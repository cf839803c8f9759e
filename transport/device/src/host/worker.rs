//! Who does the work: the width to do it with, and the cache-sized buffers that it needs.

use std::cmp::min;
use std::fmt;

use super::{Width, access, reduce, scale};
use crate::Work;

/// Bytes of a tile: two of them and the lines of the sources fit in 32 KiB of cache.
pub(super) const TILE: usize = 8 << 10;

/// A buffer at the start of a cache line.
#[repr(align(64))]
pub(super) struct Tile([u8; TILE]);

impl Tile {
    /// Its first `len` bytes.
    pub(super) fn first(&mut self, len: usize) -> &mut [u8] {
        &mut self.0[..len]
    }
}

/// Does work, one piece at a time.
pub(crate) struct Worker {
    /// The vector unit.
    pub(super) width: Width,
    /// The values so far of more than two sources.
    pub(super) sum: Box<Tile>,
    /// One source, converted.
    pub(super) next: Box<Tile>,
}

impl Worker {
    /// A worker that uses `width`.
    pub(crate) fn new(width: Width) -> Self {
        Self { width, sum: Box::new(Tile([0; TILE])), next: Box::new(Tile([0; TILE])) }
    }

    /// Does a piece of checked work.
    ///
    /// # Safety
    /// As for [`Queue::submit`](crate::Queue::submit), and all memory is the CPU's.
    pub(crate) unsafe fn perform(&mut self, work: &Work<'_>) {
        match *work {
            // SAFETY: the caller's promise.
            Work::Copy { src, dst, .. } => unsafe { access::copy(src, dst) },
            // SAFETY: the caller's promise.
            Work::Reduce { srcs, dst, dtype, by, .. } => unsafe {
                reduce::reduce(self, srcs, dst, dtype, by)
            },
            // SAFETY: the caller's promise.
            Work::Scale { src, dst, dtype, by } => unsafe {
                scale::scale(self, src, dst, dtype, by)
            },
        }
        if let Some(also) = work.also() {
            // SAFETY: the caller's promise.
            unsafe { access::copy(work.destination(), also) };
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("width", &self.width).finish_non_exhaustive()
    }
}

/// The offset and length of each tile of `len` bytes, at most `tile` at a time.
pub(super) fn tiles(len: usize, tile: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(tile).map(move |offset| (offset, min(tile, len - offset)))
}
