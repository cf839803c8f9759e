//! Sums, products and scaling of the small floating-point types in vectors, on units that convert binary16: what the
//! compiler does not find in a plain loop.
//!
//! [`mod@format`] says how each type is computed with, in terms of the few instructions of a [`unit::Unit`], of which
//! [`extension`] replaces some; [`lines`] has the loops. Here is which of them serves which [`Set`].

mod avx2;
mod avx512;
mod extension;
mod format;
mod lines;
mod unit;

use self::avx2::Avx2;
use self::avx512::Avx512;
use self::extension::{WithBf16, WithFp16};
pub(super) use self::format::HalfArithmetic;
use self::format::Packed;
pub(super) use self::lines::By;
use super::kernel::Fold;
use super::width::Set;
use crate::Memory;

/// `dst[i] = src[i]` scaled, of `len` bytes: `scale(src, dst, len, by)`. `dst` may be `src`.
///
/// # Safety
/// The CPU may read the source and write the destination, and nobody else touches them meanwhile.
pub(super) type Scaling = unsafe fn(*const u8, *mut u8, usize, By);

/// A type that all units compute with.
pub(super) trait OnUnits:
    Packed<Avx2> + Packed<Avx512> + Packed<Avx512<WithBf16>> + Packed<Avx512<WithFp16>>
{
}

impl<T> OnUnits for T where
    T: Packed<Avx2> + Packed<Avx512> + Packed<Avx512<WithBf16>> + Packed<Avx512<WithFp16>>
{
}

/// A module of the loops on the unit `$unit`.
macro_rules! on_unit {
    ($name:ident, $unit:ty, $features:literal) => {
        mod $name {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) unsafe fn two<P: Packed<$unit>, O: HalfArithmetic>(
                a: *const u8,
                b: *const u8,
                dst: *mut u8,
                len: usize,
            ) {
                // SAFETY: whoever chose this function knows that the CPU has the features.
                let unit = unsafe { <$unit>::new() };
                // SAFETY: the caller's promise.
                unsafe { lines::two::<$unit, P, O>(unit, a, b, dst, len) };
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn many<P: Packed<$unit>, O: HalfArithmetic>(
                srcs: &[Memory],
                at: usize,
                dst: *mut u8,
                len: usize,
            ) {
                // SAFETY: whoever chose this function knows that the CPU has the features.
                let unit = unsafe { <$unit>::new() };
                // SAFETY: the caller's promise.
                unsafe { lines::many::<$unit, P, O>(unit, srcs, at, dst, len) };
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn scale<P: Packed<$unit>>(
                src: *const u8,
                dst: *mut u8,
                len: usize,
                by: By,
            ) {
                // SAFETY: whoever chose this function knows that the CPU has the features.
                let unit = unsafe { <$unit>::new() };
                // SAFETY: the caller's promise.
                unsafe { lines::scale::<$unit, P>(unit, src, dst, len, by) };
            }

            pub(super) const fn fold<P: Packed<$unit>, O: HalfArithmetic>() -> Fold {
                Fold { two: two::<P, O>, many: many::<P, O> }
            }
        }
    };
}

on_unit!(on_avx2, Avx2, "avx2,f16c");
on_unit!(on_avx512, Avx512, "avx2,f16c,avx512f,avx512bw,avx512vl,avx512dq");
on_unit!(on_bf16, Avx512<WithBf16>, "avx2,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16");
on_unit!(
    on_fp16,
    Avx512<WithFp16>,
    "avx2,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512fp16"
);

/// The reduction on a set; `None` on the plain one. It may be called only on a CPU that has the set.
pub(super) const fn fold<T: OnUnits, O: HalfArithmetic>(set: Set) -> Option<Fold> {
    match set {
        Set::Plain => None,
        Set::Avx2 => Some(on_avx2::fold::<T, O>()),
        Set::Avx512 => Some(on_avx512::fold::<T, O>()),
        Set::Avx512Bf16 => Some(on_bf16::fold::<T, O>()),
        Set::Avx512Fp16 => Some(on_fp16::fold::<T, O>()),
    }
}

/// Scaling on a set; `None` on the plain one. It may be called only on a CPU that has the set.
pub(super) const fn scale<T: OnUnits>(set: Set) -> Option<Scaling> {
    match set {
        Set::Plain => None,
        Set::Avx2 => Some(on_avx2::scale::<T>),
        Set::Avx512 => Some(on_avx512::scale::<T>),
        Set::Avx512Bf16 => Some(on_bf16::scale::<T>),
        Set::Avx512Fp16 => Some(on_fp16::scale::<T>),
    }
}
