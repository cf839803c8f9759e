//! Conversion of the small floating-point formats to and from `f32`, branch-free, so that a loop over it becomes vector
//! code at every width.
//!
//! No step depends on the processor's treatment of subnormal numbers: only normal numbers matter as operands and
//! results, so a caller that set flush-to-zero gets the same bits. The method is Fabian Giesen's
//! (`float_to_half_fast3_rtne`, public domain), here with the format as a parameter.

use crate::{F8E4M3, F8E5M2, F16};

/// The canonical NaN of `f32`, as CUDA's arithmetic gives it: all ones but the sign.
pub(crate) const NAN_F32: u32 = 0x7fff_ffff;

/// The canonical NaN of `f64`.
pub(crate) const NAN_F64: u64 = 0x7fff_ffff_ffff_ffff;

/// Bits of the infinity of `f32`.
const INFINITY_F32: u32 = 0x7f80_0000;

/// Bits of mantissa in `f32`.
const MANTISSA_F32: u32 = 23;

/// A format of a sign, an exponent and a mantissa with fewer bits than `f32` in both. Its canonical NaN is all ones but
/// the sign.
pub(crate) trait Format {
    /// Bits of the exponent.
    const EXPONENT: u32;
    /// Bits of the mantissa.
    const MANTISSA: u32;
    /// The largest magnitude that is not a NaN: infinity where the format has it.
    const TOP: u32;
    /// Whether [`Format::TOP`] is infinity.
    const INFINITE: bool;
    /// What a magnitude too large becomes.
    const OVERFLOW: u32;

    /// All bits but the sign.
    const MAGNITUDE: u32 = (1 << (Self::EXPONENT + Self::MANTISSA)) - 1;
    /// Difference of the biases, in the place of the exponent of `f32`.
    const REBIAS: u32 = (128 - (1 << (Self::EXPONENT - 1))) << MANTISSA_F32;
    /// Bits of `f32`'s mantissa that the format lacks.
    const DROPPED: u32 = MANTISSA_F32 - Self::MANTISSA;
    /// The smallest normal number of the format, as bits of `f32`.
    const SMALLEST: u32 = Self::REBIAS + (1 << MANTISSA_F32);
}

impl Format for F16 {
    const EXPONENT: u32 = 5;
    const MANTISSA: u32 = 10;
    const TOP: u32 = 0x7c00;
    const INFINITE: bool = true;
    const OVERFLOW: u32 = 0x7c00;
}

impl Format for F8E4M3 {
    const EXPONENT: u32 = 4;
    const MANTISSA: u32 = 3;
    const TOP: u32 = 0x7e;
    const INFINITE: bool = false;
    const OVERFLOW: u32 = 0x7e;
}

impl Format for F8E5M2 {
    const EXPONENT: u32 = 5;
    const MANTISSA: u32 = 2;
    const TOP: u32 = 0x7c;
    const INFINITE: bool = true;
    const OVERFLOW: u32 = 0x7b;
}

/// The value of `bits`, exactly. NaN becomes the canonical NaN with the sign of `bits`.
#[inline(always)]
pub(crate) fn widen<F: Format>(bits: u32) -> f32 {
    let magnitude = bits & F::MAGNITUDE;
    let sign = (bits & !F::MAGNITUDE) << (31 - F::EXPONENT - F::MANTISSA);
    let moved = (magnitude << F::DROPPED) + F::REBIAS;
    // A subnormal `0.m` is read as `1.m` with the smallest exponent, and the one taken off again.
    let subnormal = f32::from_bits(moved + (1 << MANTISSA_F32)) - f32::from_bits(F::SMALLEST);
    let finite = if magnitude >> F::MANTISSA == 0 { subnormal.to_bits() } else { moved };
    let number = if F::INFINITE && magnitude == F::TOP { INFINITY_F32 } else { finite };
    f32::from_bits(sign | if magnitude > F::TOP { NAN_F32 } else { number })
}

/// The number of the format nearest to `value`, to even in a tie. NaN becomes the canonical NaN, without its
/// sign: which operand's sign a sum of NaNs has depends on the compiler.
#[inline(always)]
pub(crate) fn narrow<F: Format>(value: f32) -> u32 {
    let magnitude = value.to_bits() & !(1 << 31);
    let sign = (value.to_bits() & (1 << 31)) >> (31 - F::EXPONENT - F::MANTISSA);
    // Adding this power of two leaves the mantissa of a subnormal in the lowest bits, rounded by the addition.
    let shift = F::REBIAS + ((F::DROPPED + 1) << MANTISSA_F32);
    let subnormal =
        (f32::from_bits(magnitude) + f32::from_bits(shift)).to_bits().wrapping_sub(shift);
    let odd = (magnitude >> F::DROPPED) & 1;
    let half = (1 << (F::DROPPED - 1)) - 1;
    let normal = magnitude.wrapping_sub(F::REBIAS).wrapping_add(half + odd) >> F::DROPPED;
    let rounded = if magnitude < F::SMALLEST { subnormal } else { normal };
    let number = if rounded > F::OVERFLOW { F::OVERFLOW } else { rounded };
    if magnitude > INFINITY_F32 { F::MAGNITUDE } else { sign | number }
}

/// The bits of an `f32` whose upper half is the bfloat16 nearest to `value`, to even in a tie; the lower half means
/// nothing. NaN becomes the canonical NaN.
#[inline(always)]
pub(crate) fn round_bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    if value.is_nan() { NAN_F32 } else { rounded }
}
