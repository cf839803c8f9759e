//! The loops over vectors. What does not fill a vector at the end is loaded and stored in part.

use super::super::ops::Prod;
use super::format::{HalfArithmetic, Packed, Quotient, Wide};
use super::unit::Unit;
use crate::Memory;

/// By how much `f32` is scaled.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) enum By {
    /// Multiply.
    Times(f32),
    /// Divide.
    Over(f32),
}

/// The body of a [`Fold`](super::super::kernel::Fold).
///
/// # Safety
/// As for that.
#[inline(always)]
pub(super) unsafe fn fold<U: Unit, P: Packed<U>, O: HalfArithmetic>(
    u: U,
    srcs: &[Memory],
    at: usize,
    dst: *mut u8,
    len: usize,
) {
    let source = |src: &Memory| src.ptr.as_ptr().wrapping_add(at).cast_const();
    let (first, later) = srcs.split_first().expect("a fold has two sources or more");
    let first = source(first);
    if let [second] = later {
        let second = source(second);
        for from in (0..len).step_by(U::BYTES) {
            // SAFETY: the caller's promise.
            let a = unsafe { load(u, first, from, len) };
            // SAFETY: the caller's promise.
            let b = unsafe { load(u, second, from, len) };
            // SAFETY: the caller's promise; this part of the sources was read.
            unsafe { store(u, dst, from, len, P::join::<O>(u, a, b)) };
        }
        return;
    }
    for from in (0..len).step_by(U::BYTES) {
        // SAFETY: the caller's promise.
        let mut values = P::widen(u, unsafe { load(u, first, from, len) });
        for src in later {
            // SAFETY: the caller's promise.
            let next = P::widen(u, unsafe { load(u, source(src), from, len) });
            values = Wide::join::<O>(u, values, next);
        }
        // SAFETY: the caller's promise; this part of the sources was read.
        unsafe { store(u, dst, from, len, P::narrow(u, values)) };
    }
}

/// The body of a [`Scaling`](super::Scaling).
///
/// # Safety
/// As for that.
#[inline(always)]
pub(super) unsafe fn scale<U: Unit, P: Packed<U>>(
    u: U,
    src: *const u8,
    dst: *mut u8,
    len: usize,
    by: By,
) {
    for from in (0..len).step_by(U::BYTES) {
        // SAFETY: the caller's promise.
        let values = P::widen(u, unsafe { load(u, src, from, len) });
        let scaled = match by {
            By::Times(factor) => Wide::join::<Prod>(u, values, Wide::splat(u, factor)),
            By::Over(count) => Wide::join::<Quotient>(u, values, Wide::splat(u, count)),
        };
        // SAFETY: the caller's promise; this part of the source was read.
        unsafe { store(u, dst, from, len, P::narrow(u, scaled)) };
    }
}

/// The vector at `from` of `len` bytes, or what there is of it.
///
/// # Safety
/// The `len` bytes may be read, and `from` is less.
#[inline(always)]
unsafe fn load<U: Unit>(u: U, src: *const u8, from: usize, len: usize) -> U::Bits {
    let src = src.wrapping_add(from);
    if len - from >= U::BYTES {
        // SAFETY: the caller's promise.
        unsafe { u.load(src) }
    } else {
        // SAFETY: the caller's promise.
        unsafe { u.load_first(src, len - from) }
    }
}

/// Writes the vector at `from` of `len` bytes, or what there is of it.
///
/// # Safety
/// The `len` bytes may be written, and `from` is less.
#[inline(always)]
unsafe fn store<U: Unit>(u: U, dst: *mut u8, from: usize, len: usize, bits: U::Bits) {
    let dst = dst.wrapping_add(from);
    if len - from >= U::BYTES {
        // SAFETY: the caller's promise.
        unsafe { u.store(dst, bits) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { u.store_first(dst, len - from, bits) };
    }
}
