//! Reductions: the built-in ones by number, and those that a communicator's user made.

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, Ordering};

use dure::{Dtype, Error, ReduceOp, Result, Scalar};

use crate::ffi::ScalarAt;

/// Bitwise operations, which NCCL lacks, at the far end of the numbers, so that its own may grow.
pub const BIT_AND: c_int = 0x7fff_fff0;
/// As [`BIT_AND`].
pub const BIT_OR: c_int = 0x7fff_fff1;
/// As [`BIT_AND`].
pub const BIT_XOR: c_int = 0x7fff_fff2;
/// The first number that a user's operation gets.
const FIRST_DYNAMIC: c_int = 5;

/// An operation that the user made.
#[derive(Debug)]
pub(crate) enum Made {
    /// Sum after a multiplication, of elements of one type.
    PreMulSum(Dtype, Factor),
    /// The user's function.
    Custom(ReduceOp),
}

/// Where the factor of a pre-multiplied sum is.
#[derive(Debug)]
pub(crate) enum Factor {
    /// Read when the operation was made.
    Now(Scalar),
    /// Read whenever a call is made.
    EachCall(ScalarAt),
}

/// The operations that were made for one communicator.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    made: HashMap<c_int, Made>,
    /// Custom operations made so far. Ranks make them in the same order, so this tells them apart on the wire.
    customs: u16,
}

impl Operations {
    /// Adds an operation; its number.
    ///
    /// # Errors
    /// `InvalidUsage` when the numbers are used up.
    pub(crate) fn add(&mut self, made: Made) -> Result<c_int> {
        // One counter for the process, so that an operation given to another communicator is recognised.
        static NEXT: AtomicI32 = AtomicI32::new(FIRST_DYNAMIC);
        let take = |next: c_int| (next < BIT_AND).then_some(next + 1);
        let number =
            NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map_err(|_| {
                Error::invalid_usage("two billion reductions were made: no number is left")
            })?;
        self.made.insert(number, made);
        Ok(number)
    }

    /// The next number by which ranks recognise a custom operation.
    ///
    /// # Errors
    /// `InvalidUsage` when the numbers are used up.
    pub(crate) fn next_custom(&mut self) -> Result<u16> {
        let full = || {
            Error::invalid_usage("a communicator has at most 65535 custom reductions in its life")
        };
        self.customs = self.customs.checked_add(1).ok_or_else(full)?;
        Ok(self.customs)
    }

    /// Forgets an operation. Calls that were made with it keep it.
    ///
    /// # Errors
    /// `InvalidArgument` when it is none.
    pub(crate) fn remove(&mut self, number: c_int) -> Result<()> {
        if (0..FIRST_DYNAMIC).contains(&number) || (BIT_AND..=BIT_XOR).contains(&number) {
            return Err(Error::invalid_argument(format!(
                "op {number} is built in and cannot be destroyed"
            )));
        }
        self.made.remove(&number).map(drop).ok_or_else(|| unknown(number))
    }

    /// The operation that a number was given to, for elements of a type.
    ///
    /// # Errors
    /// `InvalidArgument` when there is none, or it is not for this type.
    pub(crate) fn find(&self, number: c_int, dtype: Dtype) -> Result<ReduceOp> {
        match self.made.get(&number).ok_or_else(|| unknown(number))? {
            Made::PreMulSum(its, _) if *its != dtype => {
                let text =
                    format!("op {number} was made for datatype {its} and is used on {dtype}");
                Err(Error::invalid_argument(text))
            }
            Made::PreMulSum(_, Factor::Now(factor)) => Ok(ReduceOp::PreMulSum(*factor)),
            Made::PreMulSum(_, Factor::EachCall(at)) => Ok(ReduceOp::PreMulSum(at.read(dtype))),
            Made::Custom(op) => Ok(op.clone()),
        }
    }
}

/// The operation of a number that all communicators have; `None` when it may be one that was made.
#[inline(always)]
pub(crate) fn built_in(number: c_int, dtype: Dtype) -> Option<Result<ReduceOp>> {
    Some(Ok(match number {
        0 => ReduceOp::Sum,
        1 => ReduceOp::Prod,
        2 => ReduceOp::Max,
        3 => ReduceOp::Min,
        4 => ReduceOp::Avg,
        BIT_AND | BIT_OR | BIT_XOR if dtype.is_float() => {
            return Some(Err(not_on_floats(number, dtype)));
        }
        BIT_AND => ReduceOp::BitAnd,
        BIT_OR => ReduceOp::BitOr,
        BIT_XOR => ReduceOp::BitXor,
        _ => return None,
    }))
}

#[cold]
fn not_on_floats(number: c_int, dtype: Dtype) -> Error {
    Error::invalid_argument(format!(
        "bitwise op {number:#x} is not defined on datatype {dtype} (allowed: integers)"
    ))
}

fn unknown(number: c_int) -> Error {
    Error::invalid_argument(format!(
        "op {number} is none (allowed: 0 to 4, {BIT_AND:#x} to {BIT_XOR:#x}, and what was made for this communicator)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_operations_have_nccls_numbers() {
        let find = |number, dtype| built_in(number, dtype).unwrap();
        let names: Vec<_> = (0..5).map(|number| find(number, Dtype::F32).unwrap().name()).collect();
        assert_eq!(names, ["sum", "prod", "max", "min", "avg"]);
        assert!(find(BIT_OR, Dtype::F32).unwrap_err().what.contains("integers"));
        assert_eq!(find(BIT_OR, Dtype::Int8).unwrap().name(), "bor");
        let none = Operations::default();
        for number in [-1, 5, 0x7fff_fff3] {
            assert!(built_in(number, Dtype::Int8).is_none());
            assert!(
                none.find(number, Dtype::Int8).unwrap_err().what.contains("allowed"),
                "{number}"
            );
        }
    }

    #[test]
    fn made_operations_belong_to_their_communicator_and_type() {
        let (mut ours, theirs) = (Operations::default(), Operations::default());
        let number =
            ours.add(Made::PreMulSum(Dtype::F32, Factor::Now(Scalar::Float(0.5)))).unwrap();
        assert!(number >= FIRST_DYNAMIC);
        assert_eq!(ours.find(number, Dtype::F32).unwrap().name(), "mulsum");
        assert!(
            ours.find(number, Dtype::F64).unwrap_err().what.contains("made for datatype float")
        );
        assert!(theirs.find(number, Dtype::F32).is_err());
        ours.remove(number).unwrap();
        assert!(ours.remove(number).is_err() && ours.find(number, Dtype::F32).is_err());
        assert!(ours.remove(0).unwrap_err().what.contains("built in"));
    }
}
