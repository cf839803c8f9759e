//! What kernels compute with: types of elements and operations on them.
//!
//! Elements are read from arrays of bytes, so buffers need no alignment. Every NaN that arithmetic writes is canonical:
//! which NaN a sum of two has is the compiler's choice, and results are to be bit-equal between all widths and all
//! machines.

use std::marker::PhantomData;

use super::ops::{Max, Min};
use crate::small::{Format, NAN_F32, NAN_F64};
use crate::{Bf16, F8E4M3, F8E5M2, F16};

/// A type of elements in memory.
pub(super) trait Element {
    /// The bytes of one element.
    type Bytes: Copy + 'static;
    /// What it is computed in.
    type Value: Copy;

    /// Reads an element.
    fn read(bytes: Self::Bytes) -> Self::Value;
    /// Rounds and writes an element.
    fn write(value: Self::Value) -> Self::Bytes;
    /// Memory as elements; its length is a multiple of the element size.
    fn cut(memory: &[u8]) -> &[Self::Bytes];
    /// Memory as elements; its length is a multiple of the element size.
    fn cut_mut(memory: &mut [u8]) -> &mut [Self::Bytes];
}

/// An element of `$size` bytes; `$read` and `$write` convert between the bytes and the value.
macro_rules! element {
    ($type:ty, $value:ty, $size:literal, $read:expr, $write:expr) => {
        impl Element for $type {
            type Bytes = [u8; $size];
            type Value = $value;

            #[inline(always)]
            fn read(bytes: Self::Bytes) -> Self::Value {
                $read(bytes)
            }

            #[inline(always)]
            fn write(value: Self::Value) -> Self::Bytes {
                $write(value)
            }

            #[inline(always)]
            fn cut(memory: &[u8]) -> &[Self::Bytes] {
                memory.as_chunks().0
            }

            #[inline(always)]
            fn cut_mut(memory: &mut [u8]) -> &mut [Self::Bytes] {
                memory.as_chunks_mut().0
            }
        }
    };
}

element!(u8, Self, 1, Self::from_ne_bytes, Self::to_ne_bytes);
element!(i8, Self, 1, Self::from_ne_bytes, Self::to_ne_bytes);
element!(u32, Self, 4, Self::from_ne_bytes, Self::to_ne_bytes);
element!(i32, Self, 4, Self::from_ne_bytes, Self::to_ne_bytes);
element!(u64, Self, 8, Self::from_ne_bytes, Self::to_ne_bytes);
element!(i64, Self, 8, Self::from_ne_bytes, Self::to_ne_bytes);
// On the bits: the compiler may not assume anything about them.
element!(f32, Self, 4, Self::from_ne_bytes, |value: Self| {
    if value.is_nan() { NAN_F32 } else { value.to_bits() }.to_ne_bytes()
});
element!(f64, Self, 8, Self::from_ne_bytes, |value: Self| {
    if value.is_nan() { NAN_F64 } else { value.to_bits() }.to_ne_bytes()
});
element!(F16, f32, 2, |b| Self(u16::from_ne_bytes(b)).to_f32(), |v| Self::from_f32(v)
    .0
    .to_ne_bytes());
element!(Bf16, f32, 2, |b| Self(u16::from_ne_bytes(b)).to_f32(), |v| Self::from_f32(v)
    .0
    .to_ne_bytes());
element!(F8E4M3, f32, 1, |b: [u8; 1]| Self(b[0]).to_f32(), |v| [Self::from_f32(v).0]);
element!(F8E5M2, f32, 1, |b: [u8; 1]| Self(b[0]).to_f32(), |v| [Self::from_f32(v).0]);

/// Floating-point numbers of type `T` for the minimum or maximum `O`: each is an integer that orders as the number does
/// (-0 before +0, so that the order of operands never shows), and NaN is the integer that wins.
pub(super) struct Ordered<T, O>(PhantomData<(T, O)>);

/// [`Ordered`] of `$float`, whose bits are `$bits` and whose largest magnitude that is not NaN is `$top`.
macro_rules! ordered {
    ($float:ty, $bits:ty, $size:literal, $top:expr) => {
        ordered!($float, $bits, $size, $top, Min, <$bits>::MIN);
        ordered!($float, $bits, $size, $top, Max, <$bits>::MAX);
    };
    ($float:ty, $bits:ty, $size:literal, $top:expr, $op:ty, $nan:expr) => {
        element!(
            Ordered<$float, $op>,
            $bits,
            $size,
            |bytes| {
                let bits = <$bits>::from_ne_bytes(bytes);
                if bits & <$bits>::MAX > $top { $nan } else { flip_negative!($bits, bits) }
            },
            |value: $bits| flip_negative!($bits, value).to_ne_bytes()
        );
    };
}

/// Turns sign and magnitude into two's complement, and back.
macro_rules! flip_negative {
    ($bits:ty, $value:expr) => {
        $value ^ (($value >> (<$bits>::BITS - 1)) & <$bits>::MAX)
    };
}

/// [`Format::TOP`] of an 8-bit format.
#[expect(clippy::cast_possible_truncation, reason = "a magnitude has seven bits")]
const fn top8<F: Format>() -> i8 {
    F::TOP as i8
}

ordered!(f32, i32, 4, f32::INFINITY.to_bits().cast_signed());
ordered!(f64, i64, 8, f64::INFINITY.to_bits().cast_signed());
ordered!(F16, i16, 2, 0x7c00);
ordered!(Bf16, i16, 2, 0x7f80);
ordered!(F8E4M3, i8, 1, const { top8::<F8E4M3>() });
ordered!(F8E5M2, i8, 1, const { top8::<F8E5M2>() });
