//! Reductions and maps as plain loops: every type, operation and width is an instance of one of these bodies, and the
//! compiler makes vector code of it.
//!
//! The loops run over slices, not pointers: that the destination is no source is what lets the compiler do so without
//! looking at the addresses. Hence [`update`] beside [`join`].

use std::slice;

use super::element::Element;
use super::ops::Op;
use super::strip::{STRIP, Strip, strips};
use super::width::{Width, per_width};
use crate::Memory;

/// `dst[i] = srcs[0][i] op srcs[1][i] op ...`, of the `len` bytes from `at` of each source: `fold(srcs, at, dst, len)`.
/// There are two sources or more, and `len` is of whole elements. `dst` may be any of the sources from `at` on.
///
/// # Safety
/// The CPU may read the sources and write `dst`, and nobody else touches them meanwhile. A source that is not the
/// destination does not overlap it.
pub(super) type Fold = unsafe fn(&[Memory], usize, *mut u8, usize);

per_width! {
    /// The [`Fold`] of elements that are computed in their own type.
    pub(super) fn fold<E: Element, O: Op<E::Value>>(
        srcs: &[Memory], at: usize, dst: *mut u8, len: usize
    ) = fold_body::<E, O>;
}

per_width! {
    /// [`map`] on a set.
    fn map_on<E: Element, F: Function<E>>(dst: &mut [u8], f: F) = map_body::<E, F>;
}

/// `dst[i] = f(dst[i])`, of memory of whole elements.
pub(super) fn map<E: Element, F: Fn(E::Value) -> E::Value>(width: Width, dst: &mut [u8], f: F) {
    // SAFETY: a `Width` is made only on a CPU that has its instructions.
    unsafe { map_on::<E, F>(width.0)(dst, f) };
}

/// An [`Element`] computed in `f32`.
pub(super) trait Small: Element<Value = f32> {}
impl<E: Element<Value = f32>> Small for E {}

/// A function from values to values.
trait Function<E: Element>: Fn(E::Value) -> E::Value {}
impl<E: Element, F: Fn(E::Value) -> E::Value> Function<E> for F {}

/// The `len` bytes from `at` of a source.
///
/// # Safety
/// As for [`Fold`]; nobody writes them while the slice lives.
#[inline(always)]
unsafe fn bytes<'a>(src: &Memory, at: usize, len: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(src.ptr.as_ptr().wrapping_add(at), len) }
}

#[inline(always)]
unsafe fn fold_body<E: Element, O: Op<E::Value>>(
    srcs: &[Memory],
    at: usize,
    dst: *mut u8,
    len: usize,
) {
    let is_dst = |src: &Memory| src.ptr.as_ptr().wrapping_add(at) == dst;
    match srcs {
        // SAFETY: the caller's promise, and `b` is not the destination.
        [a, b] if is_dst(a) && !is_dst(b) => unsafe { update_at::<E, O>(dst, b, at, len) },
        // SAFETY: the caller's promise, and `a` is not the destination.
        [a, b] if is_dst(b) && !is_dst(a) => unsafe { update_at::<E, O>(dst, a, at, len) },
        // SAFETY: the caller's promise, and no source is the destination.
        [a, b] if !is_dst(a) => unsafe { join_at::<E, O>(a, b, at, dst, len) },
        _ => {
            let mut kept = Strip::new();
            let aside = srcs.iter().any(is_dst);
            for (from, len) in strips(len, STRIP) {
                let dst = dst.wrapping_add(from);
                let into = if aside { kept.as_mut_ptr() } else { dst };
                // SAFETY: the caller's promise; what is written is no source.
                unsafe { fold_strip::<E, O>(srcs, at + from, into, len) };
                if aside {
                    // SAFETY: the strip of each source was read.
                    unsafe { dst.copy_from_nonoverlapping(into, len) };
                }
            }
        }
    }
}

/// Folds a strip that stays in the first-level cache.
///
/// # Safety
/// As for [`Fold`], and `dst` is no source.
#[inline(always)]
unsafe fn fold_strip<E: Element, O: Op<E::Value>>(
    srcs: &[Memory],
    at: usize,
    dst: *mut u8,
    len: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { join_at::<E, O>(&srcs[0], &srcs[1], at, dst, len) };
    for src in &srcs[2..] {
        // SAFETY: the caller's promise.
        unsafe { update_at::<E, O>(dst, src, at, len) };
    }
}

/// # Safety
/// As for [`Fold`], and `dst` is no source.
#[inline(always)]
unsafe fn join_at<E: Element, O: Op<E::Value>>(
    a: &Memory,
    b: &Memory,
    at: usize,
    dst: *mut u8,
    len: usize,
) {
    // SAFETY: the caller's promise.
    let a = unsafe { bytes(a, at, len) };
    // SAFETY: the caller's promise.
    let b = unsafe { bytes(b, at, len) };
    // SAFETY: the caller's promise.
    let dst = unsafe { slice::from_raw_parts_mut(dst, len) };
    join::<E, O>(E::cut(a), E::cut(b), E::cut_mut(dst));
}

/// # Safety
/// As for [`Fold`], and `src` is not the destination.
#[inline(always)]
unsafe fn update_at<E: Element, O: Op<E::Value>>(
    dst: *mut u8,
    src: &Memory,
    at: usize,
    len: usize,
) {
    // SAFETY: the caller's promise.
    let src = unsafe { bytes(src, at, len) };
    // SAFETY: the caller's promise.
    let dst = unsafe { slice::from_raw_parts_mut(dst, len) };
    update::<E, O>(E::cut_mut(dst), E::cut(src));
}

/// `dst[i] = a[i] op b[i]`.
#[inline(always)]
fn join<E: Element, O: Op<E::Value>>(a: &[E::Bytes], b: &[E::Bytes], dst: &mut [E::Bytes]) {
    for ((dst, a), b) in dst.iter_mut().zip(a).zip(b) {
        *dst = E::write(O::apply(E::read(*a), E::read(*b)));
    }
}

/// `dst[i] = dst[i] op src[i]`.
#[inline(always)]
fn update<E: Element, O: Op<E::Value>>(dst: &mut [E::Bytes], src: &[E::Bytes]) {
    for (dst, src) in dst.iter_mut().zip(src) {
        *dst = E::write(O::apply(E::read(*dst), E::read(*src)));
    }
}

/// Elements of a small type that are folded at a time.
const WIDENED: usize = STRIP / size_of::<f32>();

/// The [`Fold`] of a small floating-point type: computed in `f32` and rounded once.
///
/// # Safety
/// As for [`Fold`].
pub(super) unsafe fn fold_widened<E: Small, O: Op<f32>>(
    srcs: &[Memory],
    at: usize,
    dst: *mut u8,
    len: usize,
) {
    let mut values = [0.0; WIDENED];
    for (from, len) in strips(len, WIDENED * size_of::<E::Bytes>()) {
        // SAFETY: the caller's promise; the destination is not written while the slice lives.
        let first = unsafe { bytes(&srcs[0], at + from, len) };
        values.iter_mut().zip(E::cut(first)).for_each(|(value, src)| *value = E::read(*src));
        for src in &srcs[1..] {
            // SAFETY: as above.
            let src = unsafe { bytes(src, at + from, len) };
            for (value, src) in values.iter_mut().zip(E::cut(src)) {
                *value = O::apply(*value, E::read(*src));
            }
        }
        // SAFETY: the caller's promise; the slices of the sources are gone.
        let dst = unsafe { slice::from_raw_parts_mut(dst.wrapping_add(from), len) };
        E::cut_mut(dst).iter_mut().zip(&values).for_each(|(dst, value)| *dst = E::write(*value));
    }
}

#[inline(always)]
unsafe fn map_body<E: Element, F: Function<E>>(dst: &mut [u8], f: F) {
    for dst in E::cut_mut(dst) {
        *dst = E::write(f(E::read(*dst)));
    }
}
