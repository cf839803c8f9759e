//! The formats on CPUs with instructions for them: the same bits by fewer steps.

#![allow(clippy::wildcard_imports, reason = "instructions are known by their prefix")]

use std::arch::x86_64::*;

use super::super::ops::{Prod, Sum};
use super::avx512::{Avx512, WithBf16, WithFp16};
use super::format::{
    Bf16, E4M3, E5M2, F16, HalfArithmetic, NAN8, Packed, SCALED, UPPER, finish_e4m3, finish_e5m2,
    halves_e4m3,
};
use super::unit::Unit;

/// The unit with AVX512-FP16.
type Fp16 = Avx512<WithFp16>;

/// An extension that AVX512-BF16 is a part of: where we ask for AVX512-FP16, we ask for it too.
pub(in crate::host) trait HasBf16: Copy {}
impl HasBf16 for WithBf16 {}
impl HasBf16 for WithFp16 {}

/// bfloat16 by `vcvtne2ps2bf16`.
pub(in crate::host) struct NativeBf16;

impl<Extension: HasBf16> Packed<Avx512<Extension>> for NativeBf16 {
    type Wide = [__m512; 2];

    #[inline(always)]
    fn widen(u: Avx512<Extension>, bits: __m512i) -> [__m512; 2] {
        Bf16::widen(u, bits)
    }

    #[inline(always)]
    fn narrow(u: Avx512<Extension>, values: [__m512; 2]) -> __m512i {
        // SAFETY: the unit proves that the CPU has the instructions.
        match unsafe { narrow_bf16(values) } {
            Some(narrow) => narrow,
            None => Bf16::narrow(u, values),
        }
    }
}

/// Rounds to bfloat16; `None` when there is a subnormal number, which the instruction takes for zero, or a NaN, which
/// it does not make canonical.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn narrow_bf16([even, odd]: [__m512; 2]) -> Option<__m512i> {
    /// Quiet NaN, subnormal, signalling NaN (`vfpclassps`).
    const SPECIAL: i32 = 0x01 | 0x20 | 0x80;
    /// First the even elements, then the odd ones: where each place takes its element from.
    const IN_TURN: [u16; 32] = {
        let mut from = [0; 32];
        let mut i = 0;
        while i < 16 {
            from[2 * i as usize] = i;
            from[2 * i as usize + 1] = i + 16;
            i += 1;
        }
        from
    };
    let special = _mm512_fpclass_ps_mask::<SPECIAL>(even) | _mm512_fpclass_ps_mask::<SPECIAL>(odd);
    if special != 0 {
        return None;
    }
    // SAFETY: both are 64 bytes without a rule about their bits.
    let in_turn = unsafe { std::mem::transmute::<[u16; 32], __m512i>(IN_TURN) };
    let narrow = _mm512_cvtne2ps_pbh(odd, even);
    // SAFETY: as above.
    let narrow = unsafe { std::mem::transmute::<__m512bh, __m512i>(narrow) };
    Some(_mm512_permutexvar_epi16(in_turn, narrow))
}

/// The operation of AVX512-FP16 that `$op` is.
macro_rules! half {
    ($op:ty, ($a:ident, $b:ident), $apply:expr, $scaled:expr) => {
        impl HalfArithmetic for $op {
            #[inline(always)]
            fn apply_half(_: Fp16, a: __m512h, b: __m512h) -> __m512h {
                #[inline]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512fp16")]
                fn apply($a: __m512h, $b: __m512h) -> __m512h {
                    $apply
                }
                // SAFETY: the unit proves that the CPU has the instructions.
                unsafe { apply(a, b) }
            }

            #[inline(always)]
            fn apply_half_scaled(_: Fp16, a: __m512h, b: __m512h) -> __m512h {
                #[inline]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512fp16")]
                fn apply($a: __m512h, $b: __m512h) -> __m512h {
                    $scaled
                }
                // SAFETY: the unit proves that the CPU has the instructions.
                unsafe { apply(a, b) }
            }
        }
    };
}

half!(Sum, (a, b), _mm512_add_ph(a, b), _mm512_add_ph(a, b));
half!(Prod, (a, b), _mm512_mul_ph(a, b), _mm512_mul_ph(a, _mm512_mul_ph(b, splat(UNSCALED))));

/// `1 / SCALED` as binary16.
const UNSCALED: i16 = 0x5c00;
const _: () = assert!(SCALED == 1.0 / 256.0);

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512fp16")]
fn splat(half: i16) -> __m512h {
    _mm512_castsi512_ph(_mm512_set1_epi16(half))
}

/// A format whose sums and products of two are computed in binary16. They are rounded once more than `f32` would be,
/// which never shows: a sum or product of two numbers of `p` bits, rounded to at least `2 p + 2` bits, is rounded to `p`
/// as if it had not been (Figueroa, When is double rounding innocuous?, 1995), and binary16 has 11, the others at most 4.
/// The tests try all pairs.
macro_rules! native {
    ($native:ident, $format:ident, $join:ident) => {
        pub(in crate::host) struct $native;

        impl Packed<Fp16> for $native {
            type Wide = <$format as Packed<Fp16>>::Wide;

            #[inline(always)]
            fn widen(u: Fp16, bits: __m512i) -> Self::Wide {
                $format::widen(u, bits)
            }

            #[inline(always)]
            fn narrow(u: Fp16, values: Self::Wide) -> __m512i {
                $format::narrow(u, values)
            }

            #[inline(always)]
            fn join<O: HalfArithmetic>(u: Fp16, a: __m512i, b: __m512i) -> __m512i {
                // SAFETY: the unit proves that the CPU has the instructions.
                unsafe { $join::<O>(u, a, b) }
            }
        }
    };
}

native!(NativeF16, F16, join_f16);
native!(NativeE5M2, E5M2, join_e5m2);
native!(NativeE4M3, E4M3, join_e4m3);

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512fp16")]
fn join_f16<O: HalfArithmetic>(u: Fp16, a: __m512i, b: __m512i) -> __m512i {
    let c = O::apply_half(u, _mm512_castsi512_ph(a), _mm512_castsi512_ph(b));
    let nan = _mm512_cmp_ph_mask::<_CMP_UNORD_Q>(c, c);
    _mm512_mask_mov_epi16(_mm512_castph_si512(c), nan, _mm512_set1_epi16(0x7fff))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512fp16")]
fn join_e5m2<O: HalfArithmetic>(u: Fp16, a: __m512i, b: __m512i) -> __m512i {
    let even = [u.left16(a, 8), u.left16(b, 8)];
    let odd = [u.and(a, u.splat(UPPER)), u.and(b, u.splat(UPPER))];
    let even = O::apply_half(u, _mm512_castsi512_ph(even[0]), _mm512_castsi512_ph(even[1]));
    let odd = O::apply_half(u, _mm512_castsi512_ph(odd[0]), _mm512_castsi512_ph(odd[1]));
    finish_e5m2(u, round(u, even, E5M2_ROUNDING), round(u, odd, E5M2_ROUNDING))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512fp16")]
fn join_e4m3<O: HalfArithmetic>(u: Fp16, a: __m512i, b: __m512i) -> __m512i {
    let magnitudes = [u.and(a, u.splat(NAN8)), u.and(b, u.splat(NAN8))];
    // The NaN has the largest magnitude: one more makes it negative.
    let nan = u.add8(_mm512_max_epu8(magnitudes[0], magnitudes[1]), u.splat(0x0101_0101));
    let ([a_even, a_odd], [b_even, b_odd]) = (halves_e4m3(u, a), halves_e4m3(u, b));
    let even = O::apply_half_scaled(u, _mm512_castsi512_ph(a_even), _mm512_castsi512_ph(b_even));
    let odd = O::apply_half_scaled(u, _mm512_castsi512_ph(a_odd), _mm512_castsi512_ph(b_odd));
    finish_e4m3(u, round(u, even, E4M3_ROUNDING), round(u, odd, E4M3_ROUNDING), nan)
}

/// The largest number of the format, as binary16 (for E4M3 times [`SCALED`]), and the bits of mantissa that it has less.
type Rounding = (i16, i32);

const E5M2_ROUNDING: Rounding = (0x7b00, 8);
const E4M3_ROUNDING: Rounding = (0x3f00, 7);

/// Rounds binary16 to a format, in place. Magnitudes above the largest become it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512fp16")]
fn round(u: Fp16, x: __m512h, (largest, dropped): Rounding) -> __m512i {
    let x = _mm512_max_ph(splat(largest | i16::MIN), _mm512_min_ph(splat(largest), x));
    let bits = _mm512_castph_si512(x);
    let odd = _mm512_and_si512(u.right16(bits, dropped), _mm512_set1_epi16(1));
    let half = _mm512_set1_epi16((1 << (dropped - 1)) - 1);
    _mm512_add_epi16(_mm512_add_epi16(bits, half), odd)
}
