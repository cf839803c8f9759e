//! Data types of elements. The numbers are NCCL's (`ncclDataType_t` of 2.24 and later), so that a C caller's value
//! needs no table.

use std::fmt;

use crate::small;

/// Type of the elements of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dtype {
    /// Signed 8-bit integer.
    Int8 = 0,
    /// Unsigned 8-bit integer.
    Uint8 = 1,
    /// Signed 32-bit integer.
    Int32 = 2,
    /// Unsigned 32-bit integer.
    Uint32 = 3,
    /// Signed 64-bit integer.
    Int64 = 4,
    /// Unsigned 64-bit integer.
    Uint64 = 5,
    /// IEEE 754 binary16.
    F16 = 6,
    /// IEEE 754 binary32.
    F32 = 7,
    /// IEEE 754 binary64.
    F64 = 8,
    /// The upper half of a binary32.
    Bf16 = 9,
    /// OCP 8-bit floating point, 4 bits of exponent, 3 of mantissa, no infinities (E4M3).
    F8E4M3 = 10,
    /// OCP 8-bit floating point, 5 bits of exponent, 2 of mantissa (E5M2).
    F8E5M2 = 11,
}

impl Dtype {
    /// Every type, in the order of the numbers.
    pub const ALL: [Self; 12] = [
        Self::Int8,
        Self::Uint8,
        Self::Int32,
        Self::Uint32,
        Self::Int64,
        Self::Uint64,
        Self::F16,
        Self::F32,
        Self::F64,
        Self::Bf16,
        Self::F8E4M3,
        Self::F8E5M2,
    ];

    /// Size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Int8 | Self::Uint8 | Self::F8E4M3 | Self::F8E5M2 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::Int32 | Self::Uint32 | Self::F32 => 4,
            Self::Int64 | Self::Uint64 | Self::F64 => 8,
        }
    }

    /// Whether `len` bytes are whole elements. A size is a power of two: no division.
    #[inline(always)]
    pub(crate) const fn divides(self, len: usize) -> bool {
        len & (self.size() - 1) == 0
    }

    /// Whether it is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64 | Self::Bf16 | Self::F8E4M3 | Self::F8E5M2)
    }

    /// The type of a number, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Its name in nccl-tests (`-d`): `int8`, `half`, `float`, ...
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Int32 => "int32",
            Self::Uint32 => "uint32",
            Self::Int64 => "int64",
            Self::Uint64 => "uint64",
            Self::F16 => "half",
            Self::F32 => "float",
            Self::F64 => "double",
            Self::Bf16 => "bfloat16",
            Self::F8E4M3 => "f8e4m3",
            Self::F8E5M2 => "f8e5m2",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// IEEE 754 binary16, as its bits (stable Rust has no such type). Numbers too large become infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(pub u16);

/// bfloat16, as its bits. Numbers too large become infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// OCP E4M3, as its bits. Numbers too large and infinities become the largest number, 448, as in CUDA's conversions
/// (`__NV_SATFINITE`), which NCCL uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F8E4M3(pub u8);

/// OCP E5M2, as its bits. Numbers too large and infinities become the largest number, 57344, as in CUDA's conversions
/// (`__NV_SATFINITE`), although the format has infinities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F8E5M2(pub u8);

/// The conversions of one small type: how its bits widen to `f32`, and `f32` narrows to its bits.
macro_rules! conversions {
    ($type:ident, $bits:ty, $widen:expr, $narrow:expr) => {
        impl $type {
            /// The number nearest to `value`, to even in a tie. NaN stays NaN.
            #[inline(always)]
            #[expect(clippy::cast_possible_truncation, reason = "the higher bits are zero")]
            pub fn from_f32(value: f32) -> Self {
                Self($narrow(value) as $bits)
            }

            /// Its value, exactly. NaN stays NaN.
            #[inline(always)]
            pub fn to_f32(self) -> f32 {
                $widen(u32::from(self.0))
            }
        }

        impl From<$type> for f32 {
            #[inline(always)]
            fn from(value: $type) -> Self {
                value.to_f32()
            }
        }
    };
}

conversions!(F16, u16, small::widen::<Self>, small::narrow::<Self>);
conversions!(Bf16, u16, |bits: u32| f32::from_bits(bits << 16), |value| small::round_bf16(value)
    >> 16);
conversions!(F8E4M3, u8, small::widen::<Self>, small::narrow::<Self>);
conversions!(F8E5M2, u8, small::widen::<Self>, small::narrow::<Self>);
