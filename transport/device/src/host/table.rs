//! Which reduction serves which type and operation on which [`Set`].

use super::element::{Element, Ordered};
use super::kernel::{Fold, Small};
use super::ops::{And, Max, Min, Op, Or, Prod, Sum, Xor};
use super::packed::{self, HalfArithmetic, OnUnits};
use super::width::Set;
use crate::{Bf16, Combine, Dtype, F8E4M3, F8E5M2, F16};

/// The reductions of a set, by operation and number of the type.
pub(super) struct Folds([[Option<Fold>; Dtype::ALL.len()]; 7]);

impl Folds {
    /// All that there are for a set.
    pub(super) fn of(set: Set) -> &'static Self {
        match set {
            Set::Plain => const { &Self::on(Set::Plain) },
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => const { &Self::on(Set::Avx2) },
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => const { &Self::on(Set::Avx512) },
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Bf16 => const { &Self::on(Set::Avx512Bf16) },
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Fp16 => const { &Self::on(Set::Avx512Fp16) },
        }
    }

    /// The reduction of `by` on `dtype`; `None` for a function of the user and for what is not defined.
    #[inline(always)]
    pub(super) fn get(&self, by: &Combine, dtype: Dtype) -> Option<&Fold> {
        let operation = match by {
            Combine::Sum => 0,
            Combine::Prod => 1,
            Combine::Min => 2,
            Combine::Max => 3,
            Combine::BitAnd => 4,
            Combine::BitOr => 5,
            Combine::BitXor => 6,
            Combine::Custom(_) => return None,
        };
        self.0[operation][dtype as usize].as_ref()
    }

    const fn on(set: Set) -> Self {
        let mut folds = [[None; Dtype::ALL.len()]; 7];
        let mut number = 0;
        while number < Dtype::ALL.len() {
            let dtype = Dtype::ALL[number];
            folds[0][number] = Some(arithmetic::<Sum>(set, dtype));
            folds[1][number] = Some(arithmetic::<Prod>(set, dtype));
            folds[2][number] = Some(extreme::<Min>(set, dtype));
            folds[3][number] = Some(extreme::<Max>(set, dtype));
            folds[4][number] = bitwise::<And>(set, dtype);
            folds[5][number] = bitwise::<Or>(set, dtype);
            folds[6][number] = bitwise::<Xor>(set, dtype);
            number += 1;
        }
        Self(folds)
    }
}

/// Sum or product: what wraps does so alike with and without a sign.
const fn arithmetic<O>(set: Set, dtype: Dtype) -> Fold
where
    O: Op<u8> + Op<u32> + Op<u64> + Op<f32> + Op<f64> + HalfArithmetic,
{
    match dtype {
        Dtype::Int8 | Dtype::Uint8 => Fold::new::<u8, O>(set),
        Dtype::Int32 | Dtype::Uint32 => Fold::new::<u32, O>(set),
        Dtype::Int64 | Dtype::Uint64 => Fold::new::<u64, O>(set),
        Dtype::F32 => Fold::new::<f32, O>(set),
        Dtype::F64 => Fold::new::<f64, O>(set),
        Dtype::F16 => small::<F16, O>(set),
        Dtype::Bf16 => small::<Bf16, O>(set),
        Dtype::F8E4M3 => small::<F8E4M3, O>(set),
        Dtype::F8E5M2 => small::<F8E5M2, O>(set),
    }
}

/// Sum or product of a small floating-point type.
const fn small<T: Small + OnUnits, O: Op<f32> + HalfArithmetic>(set: Set) -> Fold {
    match packed::fold::<T, O>(set) {
        Some(fold) => fold,
        None => Fold::widened::<T, O>(),
    }
}

/// Minimum or maximum.
const fn extreme<O>(set: Set, dtype: Dtype) -> Fold
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
        Dtype::Int8 => Fold::new::<i8, O>(set),
        Dtype::Uint8 => Fold::new::<u8, O>(set),
        Dtype::Int32 => Fold::new::<i32, O>(set),
        Dtype::Uint32 => Fold::new::<u32, O>(set),
        Dtype::Int64 => Fold::new::<i64, O>(set),
        Dtype::Uint64 => Fold::new::<u64, O>(set),
        Dtype::F16 => Fold::new::<Ordered<F16, O>, O>(set),
        Dtype::F32 => Fold::new::<Ordered<f32, O>, O>(set),
        Dtype::F64 => Fold::new::<Ordered<f64, O>, O>(set),
        Dtype::Bf16 => Fold::new::<Ordered<Bf16, O>, O>(set),
        Dtype::F8E4M3 => Fold::new::<Ordered<F8E4M3, O>, O>(set),
        Dtype::F8E5M2 => Fold::new::<Ordered<F8E5M2, O>, O>(set),
    }
}

/// And, or, exclusive or, on integers: bit by bit, so the loop over bytes serves every size.
const fn bitwise<O: Op<u8>>(set: Set, dtype: Dtype) -> Option<Fold> {
    if dtype.is_float() { None } else { Some(Fold::new::<u8, O>(set)) }
}
