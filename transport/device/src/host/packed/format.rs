//! The small floating-point formats in vectors: how they become `f32`, exactly, and how `f32` is rounded to them, to
//! nearest and to even in a tie. The bits are those of the conversions of single numbers in `small.rs`.
//!
//! Neighbours that share a word of the vector are taken apart and put together by shifts: the even ones and the odd ones
//! make vectors of their own, and nothing moves between the places of a vector but where binary16 is converted. As in
//! `small.rs`, subnormal numbers do not depend on the caller's treatment of them: the conversions of binary16 ignore
//! it.

use std::arch::x86_64::{
    __m512i, _mm512_add_ph, _mm512_castph_si512, _mm512_castsi512_ph, _mm512_mul_ph,
};

use super::super::ops::{Prod, Sum};
use super::avx512::Avx512;
use super::extension::WithFp16;
use super::unit::Unit;
use crate::{Bf16, F8E4M3, F8E5M2, F16};

/// How the elements of a type lie in a vector, and what they are as `f32`.
pub(in crate::host) trait Packed<U: Unit> {
    /// The elements of one vector, as `f32`, in an order of the type's choice.
    type Wide: Wide<U>;

    /// What [`Packed::widen`] multiplies the values by, a power of two.
    const SCALE: f32 = 1.0;

    /// The values, exactly, times [`Packed::SCALE`].
    fn widen(u: U, bits: U::Bits) -> Self::Wide;

    /// Rounds values times [`Packed::SCALE`]. NaN becomes the canonical NaN.
    fn narrow(u: U, values: Self::Wide) -> U::Bits;

    /// `a op b`, rounded once.
    fn join<O: HalfArithmetic>(u: U, a: U::Bits, b: U::Bits) -> U::Bits;
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

/// An [`Arithmetic`] that can be done in binary16 too.
pub(in crate::host) trait HalfArithmetic: Arithmetic {
    /// Whether `a` and `b` times a power of two give the result times that.
    const LINEAR: bool;
    /// `a op b` of words that are binary16.
    fn apply_half(u: Avx512<WithFp16>, a: __m512i, b: __m512i) -> __m512i;
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

/// Sum and product in binary16.
macro_rules! half_arithmetic {
    ($op:ty, $linear:literal, $instruction:ident) => {
        impl HalfArithmetic for $op {
            const LINEAR: bool = $linear;

            #[inline(always)]
            fn apply_half(_: Avx512<WithFp16>, a: __m512i, b: __m512i) -> __m512i {
                #[inline]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512fp16")]
                fn apply(a: __m512i, b: __m512i) -> __m512i {
                    let c = $instruction(_mm512_castsi512_ph(a), _mm512_castsi512_ph(b));
                    _mm512_castph_si512(c)
                }
                // SAFETY: the unit proves that the CPU has the instructions.
                unsafe { apply(a, b) }
            }
        }
    };
}

half_arithmetic!(Sum, true, _mm512_add_ph);
half_arithmetic!(Prod, false, _mm512_mul_ph);

/// The upper half of an `f32`.
impl<U: Unit> Packed<U> for Bf16 {
    type Wide = Two<U>;

    #[inline(always)]
    fn widen(u: U, bits: U::Bits) -> Two<U> {
        [u.floats_of(u.left32(bits, 16)), u.floats_of(u.and(bits, u.splat(0xffff_0000)))]
    }

    #[inline(always)]
    fn narrow(u: U, values: Two<U>) -> U::Bits {
        u.narrow_bf16(values)
    }

    #[inline(always)]
    fn join<O: HalfArithmetic>(u: U, a: U::Bits, b: U::Bits) -> U::Bits {
        u.narrow_bf16(Wide::join::<O>(u, Self::widen(u, a), Self::widen(u, b)))
    }
}

impl<U: Unit> Packed<U> for F16 {
    type Wide = Two<U>;

    #[inline(always)]
    fn widen(u: U, bits: U::Bits) -> Two<U> {
        u.widen_half(bits)
    }

    #[inline(always)]
    fn narrow(u: U, values: Two<U>) -> U::Bits {
        canonical_half(u, u.narrow_half(values))
    }

    #[inline(always)]
    fn join<O: HalfArithmetic>(u: U, a: U::Bits, b: U::Bits) -> U::Bits {
        canonical_half(u, u.join_half::<O>(a, b))
    }
}

/// Words that are binary16, with every NaN the canonical one.
#[inline(always)]
fn canonical_half<U: Unit>(u: U, halves: U::Bits) -> U::Bits {
    let (magnitude, nan) = (u.and(halves, u.splat16(0x7fff)), u.splat16(0x7fff));
    u.where_above16(magnitude, u.splat16(0x7c00), nan, halves)
}

/// The upper half of each word.
const UPPER: u32 = 0xff00_ff00;

/// The canonical NaN of both 8-bit formats; all bits but the signs.
const NAN8: u32 = 0x7f7f_7f7f;

/// The upper half of a binary16.
impl<U: Unit> Packed<U> for F8E5M2 {
    type Wide = Four<U>;

    #[inline(always)]
    fn widen(u: U, bits: U::Bits) -> Four<U> {
        let [even, odd] = halves_e5m2(u, bits);
        Four { even: u.widen_half(even), odd: u.widen_half(odd) }
    }

    #[inline(always)]
    fn narrow(u: U, Four { even, odd }: Four<U>) -> U::Bits {
        finish_e5m2(u, E5M2.to_halves(u, even), E5M2.to_halves(u, odd))
    }

    #[inline(always)]
    fn join<O: HalfArithmetic>(u: U, a: U::Bits, b: U::Bits) -> U::Bits {
        let ([a_even, a_odd], [b_even, b_odd]) = (halves_e5m2(u, a), halves_e5m2(u, b));
        let (even, odd) = (u.join_half::<O>(a_even, b_even), u.join_half::<O>(a_odd, b_odd));
        finish_e5m2(u, E5M2.round_halves(u, even), E5M2.round_halves(u, odd))
    }
}

/// Numbers of E5M2 as binary16: the even ones and the odd ones.
#[inline(always)]
fn halves_e5m2<U: Unit>(u: U, bits: U::Bits) -> [U::Bits; 2] {
    [u.left16(bits, 8), u.and(bits, u.splat(UPPER))]
}

/// The opposite. NaN becomes the canonical NaN.
#[inline(always)]
fn finish_e5m2<U: Unit>(u: U, even: U::Bits, odd: U::Bits) -> U::Bits {
    let bytes = u.select(u.splat(UPPER), odd, u.right16(even, 8));
    // Numbers end at 0x7b: what is above is NaN, and four more make it negative.
    let above = u.add8(u.and(bytes, u.splat(NAN8)), u.splat(0x0404_0404));
    u.where_negative8(above, u.splat(NAN8), bytes)
}

/// In the place of a binary16's exponent and mantissa it is that number over 256, the difference of the biases, subnormal
/// numbers too. There are no infinities.
impl<U: Unit> Packed<U> for F8E4M3 {
    type Wide = Four<U>;

    const SCALE: f32 = 1.0 / 256.0;

    #[inline(always)]
    fn widen(u: U, bits: U::Bits) -> Four<U> {
        let [even, odd] = halves_e4m3(u, bits);
        Four { even: widen_e4m3(u, even), odd: widen_e4m3(u, odd) }
    }

    #[inline(always)]
    fn narrow(u: U, Four { even, odd }: Four<U>) -> U::Bits {
        finish_e4m3(u, E4M3.to_halves(u, even), E4M3.to_halves(u, odd), u.splat(0))
    }

    #[inline(always)]
    fn join<O: HalfArithmetic>(u: U, a: U::Bits, b: U::Bits) -> U::Bits {
        // The NaN has the largest magnitude: one more makes it negative.
        let nan = u.max8(u.and(a, u.splat(NAN8)), u.and(b, u.splat(NAN8)));
        let nan = u.add8(nan, u.splat(0x0101_0101));
        let ([a_even, a_odd], [mut b_even, mut b_odd]) = (halves_e4m3(u, a), halves_e4m3(u, b));
        if !O::LINEAR {
            // Their values: 256 is 0x5c00.
            b_even = u.join_half::<Prod>(b_even, u.splat16(0x5c00));
            b_odd = u.join_half::<Prod>(b_odd, u.splat16(0x5c00));
        }
        let (even, odd) = (u.join_half::<O>(a_even, b_even), u.join_half::<O>(a_odd, b_odd));
        finish_e4m3(u, E4M3.round_halves(u, even), E4M3.round_halves(u, odd), nan)
    }
}

/// Numbers of E4M3 as binary16, over 256: the even ones and the odd ones. NaN becomes a number.
#[inline(always)]
fn halves_e4m3<U: Unit>(u: U, bits: U::Bits) -> [U::Bits; 2] {
    // The sign stays, all else moves down by one.
    let (even, odd) = (u.signed_right16(u.left16(bits, 8), 1), u.signed_right16(bits, 1));
    let mask = u.splat16(0xbf80);
    [u.and(even, mask), u.and(odd, mask)]
}

/// What [`halves_e4m3`] gives, as `f32`, and NaN.
#[inline(always)]
fn widen_e4m3<U: Unit>(u: U, halves: U::Bits) -> Two<U> {
    let magnitude = u.and(halves, u.splat16(0x7fff));
    u.widen_half(u.where_above16(magnitude, u.splat16(0x3f00), u.splat16(0x7e00), halves))
}

/// The opposite of [`halves_e4m3`]. What is NaN in binary16 or negative in `nan` becomes NaN.
#[inline(always)]
fn finish_e4m3<U: Unit>(u: U, even: U::Bits, odd: U::Bits, nan: U::Bits) -> U::Bits {
    let (upper, sign) = (u.splat(UPPER), u.splat(!NAN8));
    let magnitudes = u.select(upper, u.left16(odd, 1), u.right16(even, 7));
    let signs = u.select(upper, odd, u.right16(even, 8));
    let bytes = u.select(sign, signs, magnitudes);
    // Of what is left after rounding, only NaN has the highest bit of the exponent, which is now where the sign goes.
    u.where_negative8(u.or(magnitudes, nan), u.splat(NAN8), bytes)
}

/// How numbers are rounded to a format with an exponent as long as that of binary16, or that does not use all of that.
struct Rounding {
    /// Bits of the mantissa.
    mantissa: u32,
    /// The largest number, as binary16. Magnitudes above become it.
    largest: u16,
    /// The same as `f32`.
    largest_float: f32,
}

const E5M2: Rounding = Rounding { mantissa: 2, largest: 0x7b00, largest_float: 57344.0 };

/// Over 256.
const E4M3: Rounding = Rounding { mantissa: 3, largest: 0x3f00, largest_float: 448.0 / 256.0 };

impl Rounding {
    /// Rounds words that are binary16, in place: what the mantissa lacks means nothing afterwards. A NaN stays one, if it
    /// has zeros there.
    #[inline(always)]
    fn round_halves<U: Unit>(&self, u: U, halves: U::Bits) -> U::Bits {
        let dropped = 10 - self.mantissa;
        let clamped = u.clamp_half(halves, self.largest);
        let odd = u.and(u.right16(clamped, dropped), u.splat16(1));
        u.add16(u.add16(clamped, u.splat16((1 << (dropped - 1)) - 1)), odd)
    }

    /// The nearest numbers of the format, as binary16; NaN stays NaN.
    #[inline(always)]
    fn to_halves<U: Unit>(&self, u: U, [low, high]: Two<U>) -> U::Bits {
        u.narrow_half([self.round(u, low), self.round(u, high)])
    }

    /// The nearest numbers of the format; NaN stays NaN.
    ///
    /// Added to 1.5 times the power of two whose last bit is the last bit that the format keeps, a number is rounded by
    /// the addition; subtracting that again is exact.
    #[inline(always)]
    fn round<U: Unit>(&self, u: U, x: U::Floats) -> U::Floats {
        /// The smallest normal number of binary16, as `f32`.
        const SMALLEST: u32 = (127 - 14) << 23;
        let (least, most) = (u.splat_float(-self.largest_float), u.splat_float(self.largest_float));
        let x = u.max(least, u.min(most, x));
        let bits = u.bits_of(x);
        let exponent = u.max32(u.and(bits, u.splat(0x7f80_0000)), u.splat(SMALLEST));
        let half_more = ((23 - self.mantissa) << 23) | 0x0040_0000;
        let shift = u.floats_of(u.add32(exponent, u.splat(half_more)));
        let rounded = u.sub(u.add(x, shift), shift);
        // A negative number that becomes zero keeps its sign.
        u.floats_of(u.or(u.bits_of(rounded), u.and(bits, u.splat(0x8000_0000))))
    }
}
