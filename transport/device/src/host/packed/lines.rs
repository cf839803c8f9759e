//! The loops over vectors. What does not fill a vector at the end is loaded and stored in part.

use super::super::kernel::source;
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

/// The body of a [`Two`](super::super::kernel::Two).
///
/// # Safety
/// As for that.
#[inline(always)]
pub(super) unsafe fn two<U: Unit, P: Packed<U>, O: HalfArithmetic>(
    u: U,
    a: *const u8,
    b: *const u8,
    dst: *mut u8,
    len: usize,
) {
    let whole = len / U::BYTES * U::BYTES;
    for from in (0..whole).step_by(U::BYTES) {
        // SAFETY: the caller's promise.
        let a = unsafe { u.load(a.wrapping_add(from)) };
        // SAFETY: the caller's promise.
        let b = unsafe { u.load(b.wrapping_add(from)) };
        // SAFETY: the caller's promise; this part of the sources was read.
        unsafe { u.store(dst.wrapping_add(from), P::join::<O>(u, a, b)) };
    }
    if whole < len {
        // SAFETY: the caller's promise.
        let a = unsafe { u.load_first(a.wrapping_add(whole), len - whole) };
        // SAFETY: the caller's promise.
        let b = unsafe { u.load_first(b.wrapping_add(whole), len - whole) };
        // SAFETY: the caller's promise; this part of the sources was read.
        unsafe { u.store_first(dst.wrapping_add(whole), len - whole, P::join::<O>(u, a, b)) };
    }
}

/// The body of a [`Many`](super::super::kernel::Many).
///
/// # Safety
/// As for that.
#[inline(always)]
pub(super) unsafe fn many<U: Unit, P: Packed<U>, O: HalfArithmetic>(
    u: U,
    srcs: &[Memory],
    at: usize,
    dst: *mut u8,
    len: usize,
) {
    let (first, later) = srcs.split_first().expect("there are two sources or more");
    // A product needs the values themselves; exactly so, as the scale is a power of two.
    let scale = if O::LINEAR { 1.0 } else { P::SCALE };
    for from in (0..len).step_by(U::BYTES) {
        // SAFETY: the caller's promise.
        let bits = unsafe { load(u, source(first, at), from, len) };
        let mut values = times::<U, P>(u, P::widen(u, bits), 1.0 / scale);
        for src in later {
            // SAFETY: the caller's promise.
            let bits = unsafe { load(u, source(src, at), from, len) };
            let next = times::<U, P>(u, P::widen(u, bits), 1.0 / scale);
            values = Wide::join::<O>(u, values, next);
        }
        let narrow = P::narrow(u, times::<U, P>(u, values, scale));
        // SAFETY: the caller's promise; this part of the sources was read.
        unsafe { store(u, dst, from, len, narrow) };
    }
}

/// Values times a factor.
#[inline(always)]
fn times<U: Unit, P: Packed<U>>(u: U, values: P::Wide, factor: f32) -> P::Wide {
    Wide::join::<Prod>(u, values, Wide::splat(u, factor))
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
            By::Times(factor) => times::<U, P>(u, values, factor),
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
