//! What the small floating-point formats need of a vector unit.

use super::format::HalfArithmetic;
use crate::small::NAN_F32;

/// A vector unit. A value of the type is the proof that the CPU has it: whoever makes one answers for that.
///
/// Words are 16 bits here. Masks and constants are vectors too, so that one text serves all units.
pub(in crate::host) trait Unit: Copy {
    /// A vector as bits.
    type Bits: Copy;
    /// A vector of `f32`; two of them hold the words of one [`Unit::Bits`].
    type Floats: Copy;
    /// Bytes of a vector.
    const BYTES: usize;

    /// Reads a vector.
    ///
    /// # Safety
    /// The bytes may be read.
    unsafe fn load(self, from: *const u8) -> Self::Bits;
    /// Reads the first `len` bytes, more than none and not all; the others are zero.
    ///
    /// # Safety
    /// These bytes may be read.
    unsafe fn load_first(self, from: *const u8, len: usize) -> Self::Bits;
    /// Writes a vector.
    ///
    /// # Safety
    /// The bytes may be written.
    unsafe fn store(self, to: *mut u8, bits: Self::Bits);
    /// Writes the first `len` bytes, more than none and not all.
    ///
    /// # Safety
    /// These bytes may be written.
    unsafe fn store_first(self, to: *mut u8, len: usize, bits: Self::Bits);

    /// This value in every 32 bits.
    fn splat(self, value: u32) -> Self::Bits;
    /// The floats as bits.
    fn bits_of(self, floats: Self::Floats) -> Self::Bits;
    /// Bits as floats.
    fn floats_of(self, bits: Self::Bits) -> Self::Floats;
    fn and(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn or(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// `yes` where the bits of `mask` are set, `no` where they are not.
    fn select(self, mask: Self::Bits, yes: Self::Bits, no: Self::Bits) -> Self::Bits;
    /// Byte by byte, wrapping.
    fn add8(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// 32 bits by 32 bits, wrapping.
    fn add32(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// The larger byte, without a sign.
    fn max8(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// Word by word, wrapping.
    fn add16(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// The smaller word, without a sign.
    fn min16(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// The larger, 32 bits by 32 bits, with a sign.
    fn max32(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// Words shifted left.
    fn left16(self, a: Self::Bits, by: u32) -> Self::Bits;
    /// Words shifted right, zeros coming in.
    fn right16(self, a: Self::Bits, by: u32) -> Self::Bits;
    /// Words shifted right, the sign coming in.
    fn signed_right16(self, a: Self::Bits, by: u32) -> Self::Bits;
    /// 32 bits shifted left.
    fn left32(self, a: Self::Bits, by: u32) -> Self::Bits;
    /// 32 bits shifted right, zeros coming in.
    fn right32(self, a: Self::Bits, by: u32) -> Self::Bits;
    /// `yes` in the bytes where `test` has its highest bit set, `no` elsewhere.
    fn where_negative8(self, test: Self::Bits, yes: Self::Bits, no: Self::Bits) -> Self::Bits;
    /// `yes` in the words where `a` is larger than `b`, with a sign; `no` elsewhere.
    fn where_above16(
        self,
        a: Self::Bits,
        b: Self::Bits,
        yes: Self::Bits,
        no: Self::Bits,
    ) -> Self::Bits;
    /// `yes` where a float of `test` is NaN, `no` elsewhere.
    fn where_nan(self, test: Self::Floats, yes: Self::Bits, no: Self::Bits) -> Self::Bits;

    /// This value in every place.
    fn splat_float(self, value: f32) -> Self::Floats;
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Words that are binary16, the lower half of the vector first. Subnormal numbers are what they are, however the
    /// caller wants them treated; so in the methods below.
    fn widen_half(self, halves: Self::Bits) -> [Self::Floats; 2];
    /// The opposite: rounds to nearest, to even in a tie. A NaN stays one.
    fn narrow_half(self, floats: [Self::Floats; 2]) -> Self::Bits;

    /// `a op b` of words that are binary16, rounded once. A NaN stays one.
    #[inline(always)]
    fn join_half<O: HalfArithmetic>(self, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        join_half::<Self, O>(self, a, b)
    }

    /// Words that are binary16, magnitudes above the word `largest` becoming it. A NaN stays one.
    #[inline(always)]
    fn clamp_half(self, halves: Self::Bits, largest: u16) -> Self::Bits {
        clamp_half(self, halves, largest)
    }

    /// Words that are the bfloat16 nearest to the floats, to even in a tie; those of the first vector are the even ones.
    /// NaN becomes the canonical NaN.
    #[inline(always)]
    fn narrow_bf16(self, floats: [Self::Floats; 2]) -> Self::Bits {
        narrow_bf16(self, floats)
    }

    /// This value in every word.
    #[inline(always)]
    fn splat16(self, value: u16) -> Self::Bits {
        self.splat((u32::from(value) << 16) | u32::from(value))
    }
}

/// [`Unit::join_half`] in `f32`.
///
/// A sum or product in `f32`, rounded to binary16, is what it is in binary16: rounding a sum or product of numbers of `p`
/// bits to at least `2 p + 2` bits first does not show (Figueroa, When is double rounding innocuous?, 1995).
#[inline(always)]
pub(super) fn join_half<U: Unit, O: HalfArithmetic>(u: U, a: U::Bits, b: U::Bits) -> U::Bits {
    let (a, b) = (u.widen_half(a), u.widen_half(b));
    u.narrow_half([O::apply(u, a[0], b[0]), O::apply(u, a[1], b[1])])
}

/// [`Unit::clamp_half`] on the words.
#[inline(always)]
pub(super) fn clamp_half<U: Unit>(u: U, halves: U::Bits, largest: u16) -> U::Bits {
    let magnitude = u.and(halves, u.splat16(0x7fff));
    let least = u.min16(magnitude, u.splat16(largest));
    let clamped = u.select(u.splat16(0x8000), halves, least);
    u.where_above16(magnitude, u.splat16(0x7c00), halves, clamped)
}

/// [`Unit::narrow_bf16`] on the bits.
#[inline(always)]
pub(super) fn narrow_bf16<U: Unit>(u: U, [even, odd]: [U::Floats; 2]) -> U::Bits {
    let even = u.right32(round_bf16(u, even), 16);
    u.select(u.splat(0xffff_0000), round_bf16(u, odd), even)
}

/// Floats whose upper halves are the bfloat16 nearest to `x`.
#[inline(always)]
fn round_bf16<U: Unit>(u: U, x: U::Floats) -> U::Bits {
    let bits = u.bits_of(x);
    let odd = u.and(u.right32(bits, 16), u.splat(1));
    let rounded = u.add32(u.add32(bits, u.splat(0x7fff)), odd);
    u.where_nan(x, u.splat(NAN_F32), rounded)
}

/// The methods of a [`Unit`] that touch no memory, each by an expression that may use the unit's instructions.
macro_rules! instructions {
    (
        $features:literal;
        $(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty $body:block)*
    ) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $type),*) -> $result {
                #[inline]
                #[target_feature(enable = $features)]
                fn instructions($($arg: $type),*) -> $result $body
                // SAFETY: `self` proves that the CPU has the unit.
                unsafe { instructions($($arg),*) }
            }
        )*
    };
}

pub(super) use instructions;
