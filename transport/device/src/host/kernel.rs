//! Reductions and maps as plain loops: every type, operation and width is an instance of one of these bodies, and the
//! compiler makes vector code of it.

use std::arch::asm;
use std::slice;

use super::element::Element;
use super::ops::Op;
use super::strip::{STRIP, Strip, strips};
use super::width::{Set, Width, per_width};
use crate::Memory;

/// `dst[i] = a[i] op b[i]`, of `len` bytes: `two(a, b, dst, len)`, of whole elements. Both sources may be the
/// destination.
///
/// # Safety
/// The CPU may read the sources and write the destination, and nobody else touches them meanwhile. A source that is not
/// the destination does not overlap it.
pub(super) type Two = unsafe fn(*const u8, *const u8, *mut u8, usize);

/// `dst[i] = srcs[0][i] op srcs[1][i] op ...`, of the `len` bytes from `at` of each source: `many(srcs, at, dst, len)`.
/// There are two sources or more, and `len` is of whole elements. `dst` may be any of the sources from `at` on.
///
/// # Safety
/// As for [`Two`].
pub(super) type Many = unsafe fn(&[Memory], usize, *mut u8, usize);

/// The loops of one operation on one type.
#[derive(Clone, Copy)]
pub(super) struct Fold {
    /// For two sources.
    pub(super) two: Two,
    /// For any number.
    pub(super) many: Many,
}

impl Fold {
    /// For elements that are computed in their own type. It may be called only on a CPU that has the set.
    pub(super) const fn new<E: Element, O: Op<E::Value>>(set: Set) -> Self {
        Self { two: two::<E, O>(set), many: many::<E, O>(set) }
    }

    /// For elements that are computed in `f32` and rounded once.
    pub(super) const fn widened<E: Small, O: Op<f32>>() -> Self {
        Self { two: two::<E, O>(Set::Plain), many: many_widened::<E, O> }
    }
}

per_width! {
    /// [`Two`] on a set.
    fn two<E: Element, O: Op<E::Value>>(
        a: *const u8, b: *const u8, dst: *mut u8, len: usize
    ) = two_body::<E, O>;
}

per_width! {
    /// [`Many`] of elements that are computed in their own type, on a set.
    fn many<E: Element, O: Op<E::Value>>(
        srcs: &[Memory], at: usize, dst: *mut u8, len: usize
    ) = many_body::<E, O>;
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

/// Bytes of a block: as many loads and stores at a time as fill the pipelines on every width.
const BLOCK: usize = 128;

/// Block by block, each read before it is written, so that the compiler need not prove that the destination is no source;
/// then what is left in blocks of powers of two, so that a short message is a few instructions and no loop.
#[inline(always)]
unsafe fn two_body<E: Element, O: Op<E::Value>>(
    a: *const u8,
    b: *const u8,
    dst: *mut u8,
    len: usize,
) {
    let mut at = 0;
    /// One block of each size if its bit is set in the length; an element is no larger than its smallest block.
    macro_rules! blocks {
        ($($bytes:literal as $whole:literal),+) => {
            $(if len & $bytes != 0 && size_of::<E::Bytes>() <= $bytes {
                // SAFETY: the caller's promise.
                unsafe { block::<E, O, $bytes, $whole>(a, b, dst, at) };
                at += $bytes;
            })+
        };
    }
    if len >= 16 {
        while len - at >= BLOCK {
            // SAFETY: the caller's promise.
            unsafe { block::<E, O, BLOCK, BLOCK>(a, b, dst, at) };
            at += BLOCK;
            // SAFETY: no instruction at all. It keeps the compiler from making vectors of elements of different blocks,
            // which it would have to gather.
            unsafe { asm!("", options(nomem, nostack, preserves_flags)) };
        }
        blocks!(64 as 64, 32 as 32, 16 as 16);
    }
    blocks!(8 as 16, 4 as 16, 2 as 16, 1 as 16);
    debug_assert_eq!(at, len, "whole elements");
}

/// The `BYTES` bytes from `at`, computed as the first ones of `WHOLE`.
///
/// # Safety
/// As for [`Two`].
#[inline(always)]
unsafe fn block<E: Element, O: Op<E::Value>, const BYTES: usize, const WHOLE: usize>(
    a: *const u8,
    b: *const u8,
    dst: *mut u8,
    at: usize,
) {
    // SAFETY: the caller's promise.
    let a = unsafe { read::<BYTES, WHOLE>(a.wrapping_add(at)) };
    // SAFETY: the caller's promise.
    let b = unsafe { read::<BYTES, WHOLE>(b.wrapping_add(at)) };
    let mut values = [0; WHOLE];
    for ((value, a), b) in E::cut_mut(&mut values).iter_mut().zip(E::cut(&a)).zip(E::cut(&b)) {
        *value = E::write(O::apply(E::read(*a), E::read(*b)));
    }
    let (values, _) = values.as_chunks::<BYTES>();
    // SAFETY: the caller's promise.
    unsafe { dst.wrapping_add(at).cast::<[u8; BYTES]>().write(values[0]) };
}

/// `BYTES` bytes and zeros.
///
/// # Safety
/// The CPU may read the bytes, and nobody writes them meanwhile.
#[inline(always)]
unsafe fn read<const BYTES: usize, const WHOLE: usize>(from: *const u8) -> [u8; WHOLE] {
    let mut whole = [0; WHOLE];
    // SAFETY: the caller's promise.
    whole.as_chunks_mut::<BYTES>().0[0] = unsafe { from.cast::<[u8; BYTES]>().read() };
    whole
}

/// Strip by strip, so that the values so far stay in the first-level cache; beside the destination if that is a source.
#[inline(always)]
unsafe fn many_body<E: Element, O: Op<E::Value>>(
    srcs: &[Memory],
    at: usize,
    dst: *mut u8,
    len: usize,
) {
    let (first, later) = srcs.split_first().expect("there are two sources or more");
    let aside = later.iter().any(|src| source(src, at) == dst.cast_const());
    let mut kept = Strip::new();
    for (from, len) in strips(len, STRIP) {
        let dst = dst.wrapping_add(from);
        let into = if aside { kept.as_mut_ptr() } else { dst };
        let mut so_far = source(first, at + from);
        for src in later {
            // SAFETY: the caller's promise; the strip is long enough.
            unsafe { two_body::<E, O>(so_far, source(src, at + from), into, len) };
            so_far = into;
        }
        if aside {
            // SAFETY: the caller's promise; this strip of each source was read.
            unsafe { dst.copy_from_nonoverlapping(into, len) };
        }
    }
}

/// The bytes of a source from `at` on.
#[inline(always)]
pub(super) const fn source(src: &Memory, at: usize) -> *const u8 {
    src.ptr.as_ptr().wrapping_add(at).cast_const()
}

/// Elements of a small type that are folded at a time.
const WIDENED: usize = STRIP / size_of::<f32>();

/// [`Many`] of elements that are computed in `f32` and rounded once.
///
/// # Safety
/// As for [`Many`].
unsafe fn many_widened<E: Small, O: Op<f32>>(srcs: &[Memory], at: usize, dst: *mut u8, len: usize) {
    let mut values = [0.0; WIDENED];
    for (from, len) in strips(len, WIDENED * size_of::<E::Bytes>()) {
        for (k, src) in srcs.iter().enumerate() {
            // SAFETY: the caller's promise; the destination is not written while the slice lives.
            let src = E::cut(unsafe { slice::from_raw_parts(source(src, at + from), len) });
            for (value, src) in values.iter_mut().zip(src) {
                *value = if k == 0 { E::read(*src) } else { O::apply(*value, E::read(*src)) };
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
