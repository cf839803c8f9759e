//! Reductions of any number of sources, in one pass over memory.
//!
//! Two sources are one loop. More are folded in tiles that stay in the first-level cache: each source is read once and
//! the destination written once. The small floating-point types fold in `f32` and are rounded once.

use super::access;
use super::element::Element;
use super::kernel;
use super::ops::{Op, Prod, Sum};
use super::table::{Conversion, Kernels};
use super::worker::{TILE, Worker, tiles};
use crate::{Combine, Custom, Dtype, Memory};

/// Bytes of a tile for functions of the user, whose cost of a call we do not know.
const CUSTOM_TILE: usize = 64 << 10;

/// `dst = srcs[0] by srcs[1] by ...`, for checked work.
///
/// # Safety
/// As for [`Queue::submit`](crate::Queue::submit), and all memory is the CPU's.
pub(super) unsafe fn reduce(
    worker: &mut Worker,
    srcs: &[Memory],
    dst: Memory,
    dtype: Dtype,
    by: &Combine,
) {
    let mut work = Fold { worker, srcs, dst };
    match (srcs, by) {
        // SAFETY: the caller's promise.
        (&[src], _) => unsafe { access::copy(src, dst) },
        // SAFETY: the caller's promise.
        (_, Combine::Custom(function)) => unsafe { work.custom(function, dtype) },
        _ => {
            let kernels = Kernels::of(by, dtype)
                .expect("the work was checked: the operation serves the type");
            match (srcs, by, Conversion::of(dtype)) {
                // SAFETY: the caller's promise, and not both sources are the destination.
                (&[a, b], ..) if a.ptr != b.ptr || a.ptr != dst.ptr => unsafe {
                    work.two(kernels, a, b)
                },
                // SAFETY: the caller's promise.
                (_, Combine::Sum, Some(conversion)) => unsafe {
                    work.widened::<Sum>(conversion, dtype)
                },
                // SAFETY: the caller's promise.
                (_, Combine::Prod, Some(conversion)) => unsafe {
                    work.widened::<Prod>(conversion, dtype)
                },
                // SAFETY: the caller's promise.
                _ => unsafe { work.many(kernels) },
            }
        }
    }
}

/// A reduction of two sources or more.
struct Fold<'a> {
    worker: &'a mut Worker,
    srcs: &'a [Memory],
    dst: Memory,
}

impl Fold<'_> {
    /// Two sources, of which at most one is the destination.
    ///
    /// # Safety
    /// As for [`reduce`].
    unsafe fn two(&self, kernels: Kernels, a: Memory, b: Memory) {
        let width = self.worker.width;
        // SAFETY: the caller's promise; no slice of a source that is the destination is made.
        let dst = unsafe { access::write(self.dst) };
        if a.ptr == self.dst.ptr {
            // SAFETY: the caller's promise; `b` is not the destination.
            (kernels.update)(width, dst, unsafe { access::read(b) });
        } else if b.ptr == self.dst.ptr {
            // SAFETY: the caller's promise; `a` is not the destination.
            (kernels.update)(width, dst, unsafe { access::read(a) });
        } else {
            // SAFETY: the caller's promise.
            let a = unsafe { access::read(a) };
            // SAFETY: the caller's promise.
            (kernels.join)(width, a, unsafe { access::read(b) }, dst);
        }
    }

    /// Any number of sources, each of which may be the destination.
    ///
    /// # Safety
    /// As for [`reduce`].
    unsafe fn many(&mut self, kernels: Kernels) {
        let Worker { width, sum, .. } = &mut *self.worker;
        for (offset, len) in tiles(self.dst.len, TILE) {
            let sum = sum.first(len);
            // SAFETY: the caller's promise; the destination is written only when its tile of each source was read.
            let mut sources =
                self.srcs.iter().map(|src| unsafe { access::read(src.part(offset, len)) });
            let (a, b) = (sources.next(), sources.next());
            let (a, b) = a.zip(b).expect("a fold has two sources or more");
            (kernels.join)(*width, a, b, sum);
            sources.for_each(|src| (kernels.update)(*width, sum, src));
            // SAFETY: the caller's promise; the slices of the sources are gone.
            unsafe { access::write(self.dst.part(offset, len)) }.copy_from_slice(sum);
        }
    }

    /// Any number of sources of a small floating-point type, accumulated in `f32`.
    ///
    /// # Safety
    /// As for [`reduce`].
    unsafe fn widened<O: Op<<f32 as Element>::Value>>(
        &mut self,
        conversion: Conversion,
        dtype: Dtype,
    ) {
        let Worker { width, sum, next } = &mut *self.worker;
        let widened = Dtype::F32.size() / dtype.size();
        for (offset, len) in tiles(self.dst.len, TILE / widened) {
            let (sum, next) = (sum.first(len * widened), next.first(len * widened));
            for (k, src) in self.srcs.iter().enumerate() {
                // SAFETY: the caller's promise; the destination is written only when all sources were read.
                let src = unsafe { access::read(src.part(offset, len)) };
                if k == 0 {
                    (conversion.widen)(*width, sum, src);
                } else {
                    (conversion.widen)(*width, next, src);
                    kernel::update::<f32, O>(*width, sum, next);
                }
            }
            // SAFETY: the caller's promise; the slices of the sources are gone.
            (conversion.narrow)(*width, unsafe { access::write(self.dst.part(offset, len)) }, sum);
        }
    }

    /// A function of the user, which changes the destination in place.
    ///
    /// # Safety
    /// As for [`reduce`].
    unsafe fn custom(&self, Custom(function): &Custom, dtype: Dtype) {
        let (first, later) = self.srcs.split_first().expect("a fold has two sources or more");
        let mut kept = Vec::new();
        for (offset, len) in tiles(self.dst.len, CUSTOM_TILE) {
            let part = |memory: &Memory| memory.part(offset, len);
            if later.iter().any(|src| src.ptr == self.dst.ptr) {
                kept.clear();
                // SAFETY: the caller's promise; the slice is gone before the destination is written.
                kept.extend_from_slice(unsafe { access::read(part(&self.dst)) });
            }
            // SAFETY: the caller's promise.
            unsafe { access::copy(part(first), part(&self.dst)) };
            // SAFETY: the caller's promise; below, only sources that are not the destination are read from memory.
            let dst = unsafe { access::write(part(&self.dst)) };
            for src in later {
                if src.ptr == self.dst.ptr {
                    function(&kept, dst, dtype);
                } else {
                    // SAFETY: the caller's promise.
                    function(unsafe { access::read(part(src)) }, dst, dtype);
                }
            }
        }
    }
}
