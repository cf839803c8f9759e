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

/// The bfloat16 nearest to `value`, to even in a tie. NaN becomes the canonical NaN.
#[inline(always)]
pub(crate) fn narrow_bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if bits & !(1 << 31) > INFINITY_F32 { 0x7fff } else { rounded }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::{any, proptest};

    use crate::{Bf16, F8E4M3, F8E5M2, F16};

    /// The value of an 8-bit float with `mantissa` bits of mantissa, from the definition; `None` for what is no number.
    fn value(bits: u8, mantissa: i32) -> Option<f64> {
        let (bias, top) = if mantissa == 3 { (7, 0x7e) } else { (15, 0x7b) };
        let magnitude = bits & 0x7f;
        let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
        let exponent = i32::from(magnitude >> mantissa);
        let fraction = f64::from(magnitude & ((1 << mantissa) - 1)) / 2f64.powi(mantissa);
        let number = if exponent == 0 {
            fraction * 2f64.powi(1 - bias)
        } else {
            (1.0 + fraction) * 2f64.powi(exponent - bias)
        };
        (magnitude <= top).then_some(sign * number)
    }

    /// The nearest number by search over all of them.
    fn nearest(x: f32, mantissa: i32) -> u8 {
        let sign = if x.is_sign_negative() { 0x80 } else { 0 };
        let far = |bits: u8| value(bits, mantissa).map(|v| (v - f64::from(x.abs())).abs());
        let numbers = (0..0x80).filter(|&bits| value(bits, mantissa).is_some());
        let largest = numbers.clone().next_back().expect("there are numbers");
        if value(largest, mantissa).is_some_and(|v| f64::from(x.abs()) > v) {
            return sign | largest;
        }
        let best = numbers.min_by(|&a, &b| {
            far(a).partial_cmp(&far(b)).expect("no NaN").then((a & 1).cmp(&(b & 1)))
        });
        sign | best.expect("there are numbers")
    }

    #[test]
    fn every_small_number_widens_to_its_value_and_back() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (F16(bits).to_f32(), f16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "f16 {bits:#x}"
            );
            assert_eq!(F16::from_f32(ours).0, if ours.is_nan() { 0x7fff } else { bits });
            let (ours, theirs) = (Bf16(bits).to_f32(), bf16::from_bits(bits).to_f32());
            assert!(
                ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(),
                "bf16 {bits:#x}"
            );
            assert_eq!(Bf16::from_f32(ours).0, if ours.is_nan() { 0x7fff } else { bits });
        }
        for bits in 0..=u8::MAX {
            let e4m3 = F8E4M3(bits).to_f32();
            assert_eq!(
                value(bits, 3),
                (!e4m3.is_nan()).then_some(f64::from(e4m3)),
                "e4m3 {bits:#x}"
            );
            assert_eq!(F8E4M3::from_f32(e4m3).0, if e4m3.is_nan() { 0x7f } else { bits });
            let e5m2 = F8E5M2(bits).to_f32();
            assert_eq!(
                value(bits, 2),
                e5m2.is_finite().then_some(f64::from(e5m2)),
                "e5m2 {bits:#x}"
            );
            assert_eq!(e5m2.is_infinite(), bits & 0x7f == 0x7c);
            let back = if e5m2.is_nan() { 0x7f } else { bits - u8::from(e5m2.is_infinite()) };
            assert_eq!(F8E5M2::from_f32(e5m2).0, back);
        }
    }

    #[test]
    fn overflow_and_nan_are_as_documented() {
        assert_eq!(F16::from_f32(65519.996).0, 0x7bff);
        assert_eq!(F16::from_f32(65520.0).0, 0x7c00);
        assert_eq!(Bf16::from_f32(f32::MAX).0, 0x7f80);
        assert_eq!(F8E4M3::from_f32(1e9).to_f32(), 448.0);
        assert_eq!(F8E4M3::from_f32(f32::NEG_INFINITY).to_f32(), -448.0);
        assert_eq!(F8E5M2::from_f32(f32::INFINITY).to_f32(), 57344.0);
        assert!(F8E4M3::from_f32(f32::NAN).to_f32().is_nan());
        assert!(F8E5M2::from_f32(f32::NAN).to_f32().is_nan());
    }

    fn check(x: f32) {
        if x.is_nan() {
            assert!(F16::from_f32(x).to_f32().is_nan() && Bf16::from_f32(x).to_f32().is_nan());
            assert!(F8E4M3::from_f32(x).to_f32().is_nan() && F8E5M2::from_f32(x).to_f32().is_nan());
            return;
        }
        assert_eq!(F16::from_f32(x).0, f16::from_f32(x).to_bits(), "f16 of {x:e}");
        assert_eq!(Bf16::from_f32(x).0, bf16::from_f32(x).to_bits(), "bf16 of {x:e}");
        assert_eq!(F8E4M3::from_f32(x).0, nearest(x, 3), "e4m3 of {x:e}");
        assert_eq!(F8E5M2::from_f32(x).0, nearest(x, 2), "e5m2 of {x:e}");
    }

    #[test]
    fn ties_and_their_neighbours_round_to_even() {
        for bits in (0..0x7f)
            .flat_map(|b| [F8E4M3(b).to_f32(), F8E5M2(b).to_f32(), F16(u16::from(b)).to_f32()])
        {
            for factor in [1.0, 1.0 + 1.0 / 16.0, 1.0 + 1.0 / 8.0, 1.5] {
                let x = (bits * factor).to_bits();
                [x.saturating_sub(1), x, x + 1].into_iter().for_each(|x| check(f32::from_bits(x)));
            }
        }
    }

    proptest! {
        #[test]
        fn rounding_is_to_nearest_even(bits in any::<u32>()) {
            check(f32::from_bits(bits));
        }

        #[test]
        fn rounding_is_to_nearest_even_in_the_small_range(exponent in 100u32..146, mantissa in 0u32..1 << 23, keep in 0..23) {
            check(f32::from_bits((exponent << 23) | (mantissa & (u32::MAX << keep))));
        }
    }
}
