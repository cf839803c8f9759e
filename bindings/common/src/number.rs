//! Arguments that are numbers: read strictly, so that an error says what would have been right.

use std::ffi::c_int;

use dure::{Dtype, Error, Result};

/// The type of a number of `...DataType_t`.
///
/// # Errors
/// `InvalidArgument`.
#[inline]
pub(crate) fn dtype(number: c_int) -> Result<Dtype> {
    u32::try_from(number).ok().and_then(Dtype::from_number).ok_or_else(|| no_dtype(number))
}

#[cold]
fn no_dtype(number: c_int) -> Error {
    Error::invalid_argument(format!(
        "datatype {number} is none (allowed: 0 to {})",
        Dtype::ALL.len() - 1
    ))
}

/// A rank of a communicator of `size`.
///
/// # Errors
/// `InvalidArgument`.
pub(crate) fn rank(argument: &str, number: c_int, size: u32) -> Result<u32> {
    u32::try_from(number).ok().filter(|rank| *rank < size).ok_or_else(|| {
        Error::invalid_argument(format!(
            "{argument} {number} is not a rank (allowed: 0 to {})",
            size - 1
        ))
    })
}

/// A number of ranks, from 1.
///
/// # Errors
/// `InvalidArgument`.
pub(crate) fn size(argument: &str, number: c_int) -> Result<u32> {
    u32::try_from(number).ok().filter(|size| *size > 0).ok_or_else(|| {
        Error::invalid_argument(format!(
            "{argument} {number} is not a number of ranks (allowed: 1 or more)"
        ))
    })
}

/// Bytes of `count` elements for each of `blocks` ranks. No memory is longer than the half of the address space.
///
/// # Errors
/// `InvalidArgument`.
#[inline]
pub(crate) fn bytes(argument: &str, count: usize, blocks: u32, dtype: Dtype) -> Result<usize> {
    let total = usize::try_from(blocks)
        .ok()
        .and_then(|blocks| count.checked_mul(blocks)?.checked_mul(dtype.size()));
    total
        .filter(|total| isize::try_from(*total).is_ok())
        .ok_or_else(|| too_many(argument, count, blocks, dtype))
}

#[cold]
fn too_many(argument: &str, count: usize, blocks: u32, dtype: Dtype) -> Error {
    let each = if blocks == 1 { String::new() } else { format!(" for each of {blocks} ranks") };
    Error::invalid_argument(format!(
        "{argument} {count} of {dtype}{each} is more than memory can hold"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_are_refused_with_what_is_allowed() {
        assert_eq!(dtype(7).unwrap(), Dtype::F32);
        assert!(dtype(12).unwrap_err().what.contains("datatype 12 is none (allowed: 0 to 11)"));
        assert!(dtype(-1).unwrap_err().what.contains("allowed"));
        assert_eq!(rank("root", 3, 4).unwrap(), 3);
        assert_eq!(rank("root", 4, 4).unwrap_err().what, "root 4 is not a rank (allowed: 0 to 3)");
        assert_eq!(
            rank("peer", -1, 4).unwrap_err().what,
            "peer -1 is not a rank (allowed: 0 to 3)"
        );
        assert!(size("nranks", 0).unwrap_err().what.starts_with("nranks 0"));
    }

    #[test]
    fn lengths_do_not_overflow() {
        assert_eq!(bytes("count", 3, 2, Dtype::F32).unwrap(), 24);
        let error = bytes("count", usize::MAX / 4, 1, Dtype::F64).unwrap_err();
        assert!(error.what.starts_with("count 4611686018427387903 of double is more"), "{error}");
        assert!(bytes("sendcount", usize::MAX / 2, 4, Dtype::Int8).is_err());
        assert!(bytes("count", usize::MAX / 2 + 1, 1, Dtype::Int8).is_err());
    }
}
