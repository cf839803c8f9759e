//! Who does the work: the reductions of a width.

use std::fmt;

use super::output::Output;
use super::table::Folds;
use super::{Width, reduce, scale};
use crate::{Combine, Memory, Space, Stores, Work};

/// Does work, one piece at a time.
pub(crate) struct Worker {
    width: Width,
    folds: &'static Folds,
}

impl Worker {
    /// A worker that uses `width`.
    pub(crate) fn new(width: Width) -> Self {
        Self { width, folds: Folds::of(width.0) }
    }

    /// Checks and does what most work is: one source or two and one destination, all the host's, through the cache. False
    /// if it is something else, or wrong. Few instructions, as they are a part of the latency of every message.
    ///
    /// # Safety
    /// As for [`Queue::submit`](crate::Queue::submit).
    #[inline(always)]
    pub(super) unsafe fn perform_simple(&self, work: &Work<'_>) -> bool {
        match *work {
            Work::Copy { src, dst, also: None, stores: Stores::Cached } if fits(src, dst) => {
                // SAFETY: the caller's promise, and the work is sound.
                unsafe { reduce::copy_cached(src, dst) };
                true
            }
            Work::Reduce { srcs: &[a, b], dst, also: None, dtype, by, stores: Stores::Cached }
                if fits(a, dst) && fits(b, dst) && dtype.divides(dst.len) =>
            {
                let Some(fold) = self.folds.get(by, dtype) else { return false };
                let [a, b, into] = [a, b, dst].map(|memory| memory.ptr.as_ptr());
                // SAFETY: the caller's promise, and the work is sound.
                unsafe { (fold.two)(a, b, into, dst.len) };
                true
            }
            _ => false,
        }
    }

    /// Does a piece of checked work.
    ///
    /// # Safety
    /// As for [`Queue::submit`](crate::Queue::submit), and all memory is the CPU's.
    pub(crate) unsafe fn perform(&self, work: &Work<'_>) {
        match *work {
            Work::Copy { ref src, ref dst, ref also, stores } => {
                // SAFETY: the caller's promise.
                unsafe { reduce::copy(src, &Output { dst, also, stores }) };
            }
            Work::Reduce { srcs, ref dst, ref also, dtype, by, stores } => {
                let out = Output { dst, also, stores };
                match (srcs, by) {
                    // SAFETY: the caller's promise.
                    ([src], _) => unsafe { reduce::copy(src, &out) },
                    // SAFETY: the caller's promise.
                    (_, Combine::Custom(function)) => unsafe {
                        reduce::custom(function, srcs, &out, dtype);
                    },
                    _ => {
                        let fold = self.folds.get(by, dtype);
                        let fold = fold.expect("the work was checked: the operation is defined");
                        // SAFETY: the caller's promise; the fold is of a width, which the CPU has.
                        unsafe { reduce::reduce(fold, srcs, &out) };
                    }
                }
            }
            // SAFETY: the caller's promise.
            Work::Scale { src, dst, dtype, by } => unsafe {
                scale::scale(self.width, src, dst, dtype, by);
            },
        }
    }
}

/// Whether both are the host's, of one length, and the same or disjoint. False for no bytes at all.
#[inline(always)]
fn fits(src: Memory, dst: Memory) -> bool {
    // How far the source is ahead, on the circle of all addresses: neither begins inside the other.
    let ahead = src.address().wrapping_sub(dst.address());
    let inside = dst.len.wrapping_sub(1);
    src.space == Space::Host
        && dst.space == Space::Host
        && src.len == dst.len
        && (ahead == 0 || ahead.wrapping_add(inside) >= inside.wrapping_add(dst.len))
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("width", &self.width).finish_non_exhaustive()
    }
}
