//! Copies and reductions in one pass over memory: each source is read once, each destination written once.

use std::ptr;

use super::access;
use super::kernel::{Fold, source};
use super::output::Output;
use super::strip::{STRIP, Strip, aligned_strips, strips};
use crate::{Custom, Dtype, Memory, Stores};

/// Bytes that are written to a second destination at a time while they are in the first-level cache: a quarter of it.
const TWICE: usize = 8 << 10;

/// Bytes given to a function of the user at a time: we do not know the cost of a call.
const CUSTOM: usize = 64 << 10;

/// `dst` is `src`.
///
/// # Safety
/// As for [`copy`].
#[inline(always)]
pub(super) unsafe fn copy_cached(src: Memory, dst: Memory) {
    if src.ptr != dst.ptr {
        // SAFETY: the caller's promise; they are disjoint, as they are not the same.
        unsafe { ptr::copy_nonoverlapping(src.ptr.as_ptr(), dst.ptr.as_ptr(), dst.len) };
    }
}

/// Every destination is `src`.
///
/// # Safety
/// As for [`Queue::submit`](crate::Queue::submit), for checked work, and all memory is the CPU's.
pub(super) unsafe fn copy(src: &Memory, out: &Output<'_>) {
    if out.is_plain() {
        // SAFETY: the caller's promise.
        return unsafe { copy_cached(*src, *out.dst) };
    }
    for (at, len) in aligned_strips(out.dst.address(), src.len, TWICE) {
        // SAFETY: the caller's promise.
        unsafe { out.write(src.ptr.as_ptr().wrapping_add(at), at, len) };
    }
    out.finish();
}

/// Folds the `len` bytes from `at` of the sources into those from `dst`.
///
/// # Safety
/// As for [`reduce`].
#[inline(always)]
unsafe fn fold_strip(fold: &Fold, srcs: &[Memory], at: usize, (dst, len): (*mut u8, usize)) {
    match srcs {
        // SAFETY: the caller's promise.
        [a, b] => unsafe { (fold.two)(source(a, at), source(b, at), dst, len) },
        // SAFETY: the caller's promise.
        _ => unsafe { (fold.many)(srcs, at, dst, len) },
    }
}

/// Every destination is the fold of two sources or more.
///
/// # Safety
/// As for [`copy`], and the fold is of the elements and the CPU.
pub(super) unsafe fn reduce(fold: &Fold, srcs: &[Memory], out: &Output<'_>) {
    let dst = out.dst.ptr.as_ptr();
    match out.stores {
        // SAFETY: the caller's promise.
        _ if out.is_plain() => unsafe {
            fold_strip(fold, srcs, 0, (dst, out.dst.len));
        },
        Stores::Cached => {
            for (at, len) in strips(out.dst.len, TWICE) {
                let dst = dst.wrapping_add(at);
                // SAFETY: the caller's promise.
                unsafe { fold_strip(fold, srcs, at, (dst, len)) };
                // SAFETY: the caller's promise; this part of the sources was read.
                unsafe { out.write(dst, at, len) };
            }
        }
        Stores::Streaming => {
            let mut strip = Strip::new();
            let strip = strip.as_mut_ptr();
            for (at, len) in aligned_strips(out.dst.address(), out.dst.len, STRIP) {
                // SAFETY: the caller's promise; a strip is long enough.
                unsafe { fold_strip(fold, srcs, at, (strip, len)) };
                // SAFETY: the caller's promise; this part of the sources was read.
                unsafe { out.write(strip, at, len) };
            }
            out.finish();
        }
    }
}

/// Every destination is the fold of two sources or more by a function of the user, which changes the first destination
/// in place. How it is to be written is no matter: the function reads it again.
///
/// # Safety
/// As for [`copy`].
pub(super) unsafe fn custom(
    Custom(function): &Custom,
    srcs: &[Memory],
    out: &Output<'_>,
    dtype: Dtype,
) {
    let (first, later) = srcs.split_first().expect("a fold has two sources or more");
    let mut kept = Vec::new();
    for (at, len) in strips(out.dst.len, CUSTOM) {
        let part = |memory: &Memory| memory.part(at, len);
        if later.iter().any(|src| src.ptr == out.dst.ptr) {
            kept.clear();
            // SAFETY: the caller's promise; the slice is gone before the destination is written.
            kept.extend_from_slice(unsafe { access::read(part(out.dst)) });
        }
        // SAFETY: the caller's promise.
        unsafe { copy_cached(part(first), part(out.dst)) };
        // SAFETY: the caller's promise; below, only sources that are not the destination are read from memory.
        let dst = unsafe { access::write(part(out.dst)) };
        for src in later {
            if src.ptr == out.dst.ptr {
                function(&kept, dst, dtype);
            } else {
                // SAFETY: the caller's promise.
                function(unsafe { access::read(part(src)) }, dst, dtype);
            }
        }
        let cached = Output { stores: Stores::Cached, ..*out };
        // SAFETY: the caller's promise; this part of the sources was read.
        unsafe { cached.write(part(out.dst).ptr.as_ptr(), at, len) };
    }
}
