//! Sums, products and scaling of the small floating-point types in vectors, on units that convert binary16: what the
//! compiler does not find in a plain loop.
//!
//! [`format`] says how each type becomes `f32` and back, in terms of the few instructions of a [`unit::Unit`];
//! [`native`] uses what only some CPUs have; [`lines`] has the loops. Here is which of them serves which [`Set`].

mod avx2;
mod avx512;
mod format;
mod lines;
mod native;
mod unit;

use self::avx2::Avx2;
use self::avx512::{Avx512, WithBf16, WithFp16};
pub(super) use self::format::HalfArithmetic;
use self::format::Packed;
pub(super) use self::lines::By;
use self::native::{NativeBf16, NativeE4M3, NativeE5M2, NativeF16};
use super::kernel::Fold;
use super::width::Set;
use crate::{Bf16, F8E4M3, F8E5M2, F16, Memory};

/// `dst[i] = src[i]` scaled, of `len` bytes: `scale(src, dst, len, by)`. `dst` may be `src`.
///
/// # Safety
/// The CPU may read the source and write the destination, and nobody else touches them meanwhile.
pub(super) type Scaling = unsafe fn(*const u8, *mut u8, usize, By);

/// How a type is computed with on each unit.
pub(super) trait OnUnits {
    type Avx2: Packed<Avx2>;
    type Avx512: Packed<Avx512>;
    type WithBf16: Packed<Avx512<WithBf16>>;
    type WithFp16: Packed<Avx512<WithFp16>>;
}

impl OnUnits for Bf16 {
    type Avx2 = format::Bf16;
    type Avx512 = format::Bf16;
    type WithBf16 = NativeBf16;
    type WithFp16 = NativeBf16;
}

/// A type that only AVX512-FP16 has instructions for.
macro_rules! by_halves {
    ($type:ty, $format:ty, $native:ty) => {
        impl OnUnits for $type {
            type Avx2 = $format;
            type Avx512 = $format;
            type WithBf16 = $format;
            type WithFp16 = $native;
        }
    };
}

by_halves!(F16, format::F16, NativeF16);
by_halves!(F8E4M3, format::E4M3, NativeE4M3);
by_halves!(F8E5M2, format::E5M2, NativeE5M2);

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
        Set::Avx2 => Some(on_avx2::fold::<T::Avx2, O>()),
        Set::Avx512 => Some(on_avx512::fold::<T::Avx512, O>()),
        Set::Avx512Bf16 => Some(on_bf16::fold::<T::WithBf16, O>()),
        Set::Avx512Fp16 => Some(on_fp16::fold::<T::WithFp16, O>()),
    }
}

/// Scaling on a set; `None` on the plain one. It may be called only on a CPU that has the set.
pub(super) const fn scale<T: OnUnits>(set: Set) -> Option<Scaling> {
    match set {
        Set::Plain => None,
        Set::Avx2 => Some(on_avx2::scale::<T::Avx2>),
        Set::Avx512 => Some(on_avx512::scale::<T::Avx512>),
        Set::Avx512Bf16 => Some(on_bf16::scale::<T::WithBf16>),
        Set::Avx512Fp16 => Some(on_fp16::scale::<T::WithFp16>),
    }
}
