//! Small floating-point types to and from `f32`.

mod reference;

use dure_device::{Bf16, F8E4M3, F8E5M2, F16};
use half::{bf16, f16};
use proptest::prelude::{any, proptest};

use self::reference::{nearest8, number8};

#[test]
fn every_number_widens_to_its_value_and_back() {
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
}

#[test]
fn every_8_bit_number_widens_to_its_value_and_back() {
    for bits in 0..=u8::MAX {
        let e4m3 = F8E4M3(bits).to_f32();
        assert_eq!(number8(bits, 3), (!e4m3.is_nan()).then_some(f64::from(e4m3)), "e4m3 {bits:#x}");
        assert_eq!(F8E4M3::from_f32(e4m3).0, if e4m3.is_nan() { 0x7f } else { bits });
        let e5m2 = F8E5M2(bits).to_f32();
        assert_eq!(number8(bits, 2), e5m2.is_finite().then_some(f64::from(e5m2)), "e5m2 {bits:#x}");
        assert_eq!(e5m2.is_infinite(), bits & 0x7f == 0x7c);
        // Infinity becomes the largest number, one code below.
        let back = if e5m2.is_nan() { 0x7f } else { bits - u8::from(e5m2.is_infinite()) };
        assert_eq!(F8E5M2::from_f32(e5m2).0, back);
        assert_eq!(e4m3.is_sign_negative(), bits & 0x80 != 0, "the sign of {bits:#x}");
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
    assert!(F8E5M2::from_f32(-f32::NAN).to_f32().is_nan());
}

/// Rounds `x` to all types and compares.
fn check(x: f32) {
    if x.is_nan() {
        assert!(F16::from_f32(x).to_f32().is_nan() && Bf16::from_f32(x).to_f32().is_nan());
        assert!(F8E4M3::from_f32(x).to_f32().is_nan() && F8E5M2::from_f32(x).to_f32().is_nan());
        return;
    }
    assert_eq!(F16::from_f32(x).0, f16::from_f32(x).to_bits(), "f16 of {x:e}");
    assert_eq!(Bf16::from_f32(x).0, bf16::from_f32(x).to_bits(), "bf16 of {x:e}");
    assert_eq!(F8E4M3::from_f32(x).0, nearest8(x, 3), "e4m3 of {x:e}");
    assert_eq!(F8E5M2::from_f32(x).0, nearest8(x, 2), "e5m2 of {x:e}");
}

#[test]
fn ties_and_their_neighbours_round_to_even() {
    let numbers = (0..0x7f)
        .flat_map(|b| [F8E4M3(b).to_f32(), F8E5M2(b).to_f32(), F16(u16::from(b)).to_f32()]);
    for x in numbers
        .flat_map(|x| [1.0, 1.0 + 1.0 / 16.0, 1.0 + 1.0 / 8.0, 1.5].map(|f| (x * f).to_bits()))
    {
        [x.saturating_sub(1), x, x + 1].into_iter().for_each(|x| check(f32::from_bits(x)));
    }
}

proptest! {
    #[test]
    fn rounding_is_to_nearest_even(bits in any::<u32>()) {
        check(f32::from_bits(bits));
    }

    #[test]
    fn rounding_is_to_nearest_even_where_the_formats_end(
        exponent in 100u32..146, mantissa in 0u32..1 << 23, keep in 0..23,
    ) {
        check(f32::from_bits((exponent << 23) | (mantissa & (u32::MAX << keep))));
    }
}
