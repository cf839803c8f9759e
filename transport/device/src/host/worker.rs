//! Who does the work: the reductions of a width.

use std::fmt;

use super::output::Output;
use super::table::Folds;
use super::{Width, reduce, scale};
use crate::{Combine, Work};

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

    /// Does a piece of checked work.
    ///
    /// # Safety
    /// As for [`Queue::submit`](crate::Queue::submit), and all memory is the CPU's.
    #[inline(always)]
    pub(crate) unsafe fn perform(&self, work: &Work<'_>) {
        match *work {
            // SAFETY: the caller's promise.
            Work::Copy { src, dst, also, stores } => unsafe {
                reduce::copy(src, Output { dst, also, stores });
            },
            Work::Reduce { srcs, dst, also, dtype, by, stores } => {
                let out = Output { dst, also, stores };
                match (srcs, by) {
                    // SAFETY: the caller's promise.
                    (&[src], _) => unsafe { reduce::copy(src, out) },
                    // SAFETY: the caller's promise.
                    (_, Combine::Custom(function)) => unsafe {
                        reduce::custom(function, srcs, out, dtype);
                    },
                    _ => {
                        let fold = self.folds.get(by, dtype);
                        let fold = fold.expect("the work was checked: the operation is defined");
                        // SAFETY: the caller's promise; the fold is of a width, which the CPU has.
                        unsafe { reduce::reduce(fold, srcs, out) };
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

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("width", &self.width).finish_non_exhaustive()
    }
}
