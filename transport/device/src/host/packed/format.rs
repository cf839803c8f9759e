//! The small floating-point formats in vectors: how they become `f32`, exactly, and how `f32` is rounded to them, to
//! nearest and to even in a tie. The bits are those of the conversions of single numbers in `small.rs`.
//!
//! Neighbours that share a word of the vector are taken apart and put together by shifts: the even ones and the odd ones
//! make vectors of their own, and nothing moves between the places of a vector but where binary16 is converted. As in
//! `small.rs`, subnormal numbers do not depend on the caller's treatment of them: the conversions of binary16 ignore
//! it.

use std::arch::x86_64::__m512h;

use super::super::ops::{Prod, Sum};
use super::avx512::{Avx512, WithFp16};
use super::unit::Unit;
use crate::small::NAN_F32;

/// How the elements of a type lie in a vector, and what they are as `f32`.
pub(in crate::host) trait Packed<U: Unit> {
    /// The elements of one vector, as `f32`, in an order of the type's choice.
    type Wide: Wide<U>;

    /// The values, exactly.
    fn widen(u: U, bits: U::Bits) -> Self::Wide;

    /// Rounds. NaN becomes the canonical NaN.
    fn narrow(u: U, values: Self::Wide) -> U::Bits;

    /// `a op b`, rounded once.
    #[inline(always)]
    fn join<O: HalfArithmetic>(u: U, a: U::Bits, b: U::Bits) -> U::Bits {
        Self::narrow(u, Self::Wide::join::<O>(u, Self::widen(u, a), Self::widen(u, b)))
    }
}

/// The floats of one vector of a small type.
pub(in crate::host) trait Wide<U: Unit>: Copy {
    /// `a op b`.
    fn join<O: Arithmetic>(u: U, a: Self, b: Self) -> Self;
    /// This value everywhere.
    fn splat(u: U, value: f32) -> Self;
}

/// Two vectors of floats.
type Two<U> = [<U as Unit>::Floats; 2];

impl<U: Unit> Wide<U> for Two<U> {
    #[inline(always)]
    fn join<O: Arithmetic>(u: U, a: Self, b: Self) -> Self {
        [O::apply(u, a[0], b[0]), O::apply(u, a[1], b[1])]
    }

    #[inline(always)]
    fn splat(u: U, value: f32) -> Self {
        [u.splat_float(value); 2]
    }
}

/// Four, as the even elements and the odd ones.
#[derive(Clone, Copy)]
pub(in crate::host) struct Four<U: Unit> {
    even: Two<U>,
    odd: Two<U>,
}

impl<U: Unit> Wide<U> for Four<U> {
    #[inline(always)]
    fn join<O: Arithmetic>(u: U, a: Self, b: Self) -> Self {
        let (even, odd) = (Wide::join::<O>(u, a.even, b.even), Wide::join::<O>(u, a.odd, b.odd));
        Self { even, odd }
    }

    #[inline(always)]
    fn splat(u: U, value: f32) -> Self {
        Self { even: Wide::splat(u, value), odd: Wide::splat(u, value) }
    }
}

/// An operation on vectors of `f32`.
pub(in crate::host) trait Arithmetic {
    /// `a op b`.
    fn apply<U: Unit>(u: U, a: U::Floats, b: U::Floats) -> U::Floats;
}

/// An operation that is the same in binary16.
pub(in crate::host) trait HalfArithmetic: Arithmetic {
    /// `a op b`.
    fn apply_half(u: Avx512<WithFp16>, a: __m512h, b: __m512h) -> __m512h;
    /// `a op b` times [`SCALED`], of `a` and `b` times [`SCALED`].
    fn apply_half_scaled(u: Avx512<WithFp16>, a: __m512h, b: __m512h) -> __m512h;
}

/// Division, for scaling.
pub(in crate::host) struct Quotient;

impl Arithmetic for Sum {
    #[inline(always)]
    fn apply<U: Unit>(u: U, a: U::Floats, b: U::Floats) -> U::Floats {
        u.add(a, b)
    }
}

impl Arithmetic for Prod {
    #[inline(always)]
    fn apply<U: Unit>(u: U, a: U::Floats, b: U::Floats) -> U::Floats {
        u.mul(a, b)
    }
}

impl Arithmetic for Quotient {
    #[inline(always)]
    fn apply<U: Unit>(u: U, a: U::Floats, b: U::Floats) -> U::Floats {
        u.div(a, b)
    }
}

/// bfloat16: the upper half of an `f32`.
pub(in crate::host) struct Bf16;

impl<U: Unit> Packed<U> for Bf16 {
    type Wide = Two<U>;

    #[inline(always)]
    fn widen(u: U, bits: U::Bits) -> Two<U> {
        [u.floats_of(u.left32(bits, 16)), u.floats_of(u.and(bits, u.splat(0xffff_0000)))]
    }

    #[inline(always)]
    fn narrow(u: U, [even, odd]: Two<U>) -> U::Bits {
        let even = u.right32(round_bf16(u, even), 16);
        u.select(u.splat(0xffff_0000), round_bf16(u, odd), even)
    }
}

/// Floats whose upper halves are the bfloat16 nearest to `x`.
#[inline(always)]
fn round_bf16<U: Unit>(u: U, x: U::Floats) -> U::Bits {
    let bits = u.bits_of(x);
    let odd = u.and(u.right32(bits, 16), u.splat(1));
    let rounded = u.add32(u.add32(bits, u.splat(0x7fff)), odd);
    u.where_nan(x, u.splat(NAN_F32), rounded)
}

/// binary16.
pub(in crate::host) struct F16;

impl<U: Unit> Packed<U> for F16 {
    type Wide = Two<U>;

    #[inline(always)]
    fn widen(u: U, bits: U::Bits) -> Two<U> {
        u.widen_half(bits)
    }

    #[inline(always)]
    fn narrow(u: U, [low, high]: Two<U>) -> U::Bits {
        u.narrow_half([canonical(u, low), canonical(u, high)])
    }
}

/// `x` with every NaN the canonical one.
#[inline(always)]
fn canonical<U: Unit>(u: U, x: U::Floats) -> U::Floats {
    u.floats_of(u.where_nan(x, u.splat(NAN_F32), u.bits_of(x)))
}

/// E5M2: the upper half of a binary16.
pub(in crate::host) struct E5M2;

/// The upper half of each word.
pub(super) const UPPER: u32 = 0xff00_ff00;

/// The canonical NaN of both 8-bit formats.
pub(super) const NAN8: u32 = 0x7f7f_7f7f;

impl<U: Unit> Packed<U> for E5M2 {
    type Wide = Four<U>;

    #[inline(always)]
    fn widen(u: U, bits: U::Bits) -> Four<U> {
        let odd = u.widen_half(u.and(bits, u.splat(UPPER)));
        Four { even: u.widen_half(u.left16(bits, 8)), odd }
    }

    #[inline(always)]
    fn narrow(u: U, Four { even, odd }: Four<U>) -> U::Bits {
        finish_e5m2(u, to_halves(u, even, &E5M2_ROUNDING), to_halves(u, odd, &E5M2_ROUNDING))
    }
}

/// Puts numbers of E5M2, as binary16, together.
#[inline(always)]
pub(super) fn finish_e5m2<U: Unit>(u: U, even: U::Bits, odd: U::Bits) -> U::Bits {
    let bytes = u.select(u.splat(UPPER), odd, u.right16(even, 8));
    // Numbers end at 0x7b: what is above is NaN, and four more make it negative.
    let above = u.add8(u.and(bytes, u.splat(0x7f7f_7f7f)), u.splat(0x0404_0404));
    u.where_negative8(above, u.splat(NAN8), bytes)
}

/// E4M3, which has no infinities. Shifted to the place of a binary16's exponent and mantissa it is that number times
/// [`SCALED`], subnormal ones too.
pub(in crate::host) struct E4M3;

/// Two to the difference of the biases of E4M3 and binary16.
pub(super) const SCALED: f32 = 1.0 / 256.0;

impl<U: Unit> Packed<U> for E4M3 {
    type Wide = Four<U>;

    #[inline(always)]
    fn widen(u: U, bits: U::Bits) -> Four<U> {
        let [even, odd] = halves_e4m3(u, bits);
        Four { even: widen_e4m3(u, even), odd: widen_e4m3(u, odd) }
    }

    #[inline(always)]
    fn narrow(u: U, Four { even, odd }: Four<U>) -> U::Bits {
        let (even, odd) = (to_halves(u, even, &E4M3_ROUNDING), to_halves(u, odd, &E4M3_ROUNDING));
        finish_e4m3(u, even, odd, u.splat(0))
    }
}

/// The values of what [`halves_e4m3`] gives.
#[inline(always)]
fn widen_e4m3<U: Unit>(u: U, words: U::Bits) -> Two<U> {
    // The NaN is an ordinary number of binary16.
    let magnitudes = u.and(words, u.splat(0x7fff_7fff));
    let words = u.where_above16(magnitudes, u.splat(0x3f00_3f00), u.splat(0x7e00_7e00), words);
    Wide::join::<Prod>(u, u.widen_half(words), Wide::splat(u, 1.0 / SCALED))
}

/// Numbers of E4M3 as binary16, times [`SCALED`]: the even ones and the odd ones.
#[inline(always)]
pub(super) fn halves_e4m3<U: Unit>(u: U, bits: U::Bits) -> [U::Bits; 2] {
    // The sign stays, all else moves down by one.
    let (even, odd) = (u.signed_right16(u.left16(bits, 8), 1), u.signed_right16(bits, 1));
    let mask = u.splat(0xbf80_bf80);
    [u.and(even, mask), u.and(odd, mask)]
}

/// Puts numbers of E4M3, as [`halves_e4m3`] made them, together. Those where `nan` is negative are NaN besides those
/// that are NaN in binary16.
#[inline(always)]
pub(super) fn finish_e4m3<U: Unit>(u: U, even: U::Bits, odd: U::Bits, nan: U::Bits) -> U::Bits {
    let (upper, sign) = (u.splat(UPPER), u.splat(0x8080_8080));
    let magnitudes = u.select(upper, u.left16(odd, 1), u.right16(even, 7));
    let signs = u.select(upper, odd, u.right16(even, 8));
    let bytes = u.select(sign, signs, magnitudes);
    // Only NaN has the highest bit of the exponent, which is now where the sign goes.
    u.where_negative8(u.or(magnitudes, nan), u.splat(NAN8), bytes)
}

/// What a format of less than 11 bits of mantissa rounds to.
struct Rounding {
    /// Bits of the mantissa.
    mantissa: u32,
    /// The smallest normal number, as bits of `f32`.
    smallest: u32,
    /// The largest number. Magnitudes above become it.
    largest: f32,
    /// By what its numbers are multiplied as binary16.
    scale: f32,
}

const E5M2_ROUNDING: Rounding =
    Rounding { mantissa: 2, smallest: (127 - 14) << 23, largest: 57344.0, scale: 1.0 };
const E4M3_ROUNDING: Rounding =
    Rounding { mantissa: 3, smallest: (127 - 6) << 23, largest: 448.0, scale: SCALED };

/// The nearest numbers of a format, as binary16; NaN stays NaN.
#[inline(always)]
fn to_halves<U: Unit>(u: U, [low, high]: Two<U>, to: &Rounding) -> U::Bits {
    let rounded = [round(u, low, to), round(u, high, to)];
    u.narrow_half(Wide::join::<Prod>(u, rounded, Wide::splat(u, to.scale)))
}

/// The nearest numbers of a format; NaN stays NaN.
///
/// Added to 1.5 times the power of two whose last bit is the last bit that the format keeps, a number is rounded by the
/// addition; subtracting that again is exact.
#[inline(always)]
fn round<U: Unit>(u: U, x: U::Floats, to: &Rounding) -> U::Floats {
    let x = u.max(u.splat_float(-to.largest), u.min(u.splat_float(to.largest), x));
    let bits = u.bits_of(x);
    let exponent = u.max32(u.and(bits, u.splat(0x7f80_0000)), u.splat(to.smallest));
    let half_more = ((23 - to.mantissa) << 23) | 0x0040_0000;
    let shift = u.floats_of(u.add32(exponent, u.splat(half_more)));
    let rounded = u.sub(u.add(x, shift), shift);
    // A negative number that becomes zero keeps its sign.
    u.floats_of(u.or(u.bits_of(rounded), u.and(bits, u.splat(0x8000_0000))))
}
