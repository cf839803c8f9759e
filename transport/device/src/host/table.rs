//! Which kernel serves which type and operation.

use super::element::{Element, Ordered};
use super::ops::{And, Max, Min, Op, Or, Prod, Sum, Xor};
use super::pairs::Pairs;
use super::width::Width;
use super::{bf16, half, kernel, pairs};
use crate::{Bf16, Combine, Dtype, F8E4M3, F8E5M2, F16};

/// The two loops of one operation on one type. Memory is of whole elements.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// `dst[i] = a[i] op b[i]`, as `join(width, a, b, dst)`.
    pub(super) join: fn(Width, &[u8], &[u8], &mut [u8]),
    /// `dst[i] = dst[i] op src[i]`, as `update(width, dst, src)`.
    pub(super) update: fn(Width, &mut [u8], &[u8]),
}

/// The conversions of a type that sums are accumulated for in `f32`, as `convert(width, dst, src)`.
#[derive(Clone, Copy)]
pub(super) struct Conversion {
    /// To `f32`.
    pub(super) widen: fn(Width, &mut [u8], &[u8]),
    /// From `f32`.
    pub(super) narrow: fn(Width, &mut [u8], &[u8]),
}

impl Kernels {
    /// The kernels of `by` on `dtype`; `None` for a function of the user and for what is not defined.
    pub(super) fn of(by: &Combine, dtype: Dtype) -> Option<Self> {
        match by {
            Combine::Sum => Some(arithmetic::<Sum>(dtype)),
            Combine::Prod => Some(arithmetic::<Prod>(dtype)),
            Combine::Min => Some(extreme::<Min>(dtype)),
            Combine::Max => Some(extreme::<Max>(dtype)),
            Combine::BitAnd => bitwise::<And>(dtype),
            Combine::BitOr => bitwise::<Or>(dtype),
            Combine::BitXor => bitwise::<Xor>(dtype),
            Combine::Custom(_) => None,
        }
    }

    /// The kernels of an 8-bit type.
    fn paired<E: Pairs<O>, O>() -> Self {
        Self { join: pairs::join::<E, O>, update: pairs::update::<E, O> }
    }

    /// The kernels of one instance.
    fn new<E: Element, O: Op<E::Value>>() -> Self {
        Self { join: kernel::join::<E, O>, update: kernel::update::<E, O> }
    }
}

impl Conversion {
    /// The conversions of `dtype`, if it is one of the small floating-point types.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F16 => Some(Self { widen: half::widen, narrow: half::narrow }),
            Dtype::Bf16 => Some(Self::new::<Bf16>()),
            Dtype::F8E4M3 => Some(Self::new::<F8E4M3>()),
            Dtype::F8E5M2 => Some(Self::new::<F8E5M2>()),
            _ => None,
        }
    }

    /// The conversions of one type.
    fn new<E: Element<Value = f32>>() -> Self {
        Self { widen: kernel::convert::<f32, E>, narrow: kernel::convert::<E, f32> }
    }
}

/// Sum or product: what wraps does so alike with and without a sign.
fn arithmetic<O>(dtype: Dtype) -> Kernels
where
    O: Op<u8> + Op<u32> + Op<u64> + Op<f32> + Op<f64>,
    F8E4M3: Pairs<O>,
    F8E5M2: Pairs<O>,
{
    match dtype {
        Dtype::Int8 | Dtype::Uint8 => Kernels::new::<u8, O>(),
        Dtype::Int32 | Dtype::Uint32 => Kernels::new::<u32, O>(),
        Dtype::Int64 | Dtype::Uint64 => Kernels::new::<u64, O>(),
        Dtype::F16 => Kernels { join: half::join::<O>, update: half::update::<O> },
        Dtype::F32 => Kernels::new::<f32, O>(),
        Dtype::F64 => Kernels::new::<f64, O>(),
        Dtype::Bf16 => Kernels { join: bf16::join::<O>, update: bf16::update::<O> },
        Dtype::F8E4M3 => Kernels::paired::<F8E4M3, O>(),
        Dtype::F8E5M2 => Kernels::paired::<F8E5M2, O>(),
    }
}

/// Minimum or maximum.
fn extreme<O>(dtype: Dtype) -> Kernels
where
    O: Op<u8> + Op<i8> + Op<i16> + Op<u32> + Op<i32> + Op<u64> + Op<i64>,
    Ordered<f32, O>: Element<Value = i32>,
    Ordered<f64, O>: Element<Value = i64>,
    Ordered<F16, O>: Element<Value = i16>,
    Ordered<Bf16, O>: Element<Value = i16>,
    Ordered<F8E4M3, O>: Element<Value = i8>,
    Ordered<F8E5M2, O>: Element<Value = i8>,
{
    match dtype {
        Dtype::Int8 => Kernels::new::<i8, O>(),
        Dtype::Uint8 => Kernels::new::<u8, O>(),
        Dtype::Int32 => Kernels::new::<i32, O>(),
        Dtype::Uint32 => Kernels::new::<u32, O>(),
        Dtype::Int64 => Kernels::new::<i64, O>(),
        Dtype::Uint64 => Kernels::new::<u64, O>(),
        Dtype::F16 => Kernels::new::<Ordered<F16, O>, O>(),
        Dtype::F32 => Kernels::new::<Ordered<f32, O>, O>(),
        Dtype::F64 => Kernels::new::<Ordered<f64, O>, O>(),
        Dtype::Bf16 => Kernels::new::<Ordered<Bf16, O>, O>(),
        Dtype::F8E4M3 => Kernels::new::<Ordered<F8E4M3, O>, O>(),
        Dtype::F8E5M2 => Kernels::new::<Ordered<F8E5M2, O>, O>(),
    }
}

/// And, or, exclusive or, on integers: bit by bit, so the loop over bytes serves every size.
fn bitwise<O: Op<u8>>(dtype: Dtype) -> Option<Kernels> {
    (!dtype.is_float()).then(Kernels::new::<u8, O>)
}
