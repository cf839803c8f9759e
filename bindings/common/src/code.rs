//! The numbers of `...Result_t`, and what each kind of error is in them.

#![allow(missing_docs, reason = "the headers document the numbers")]

use std::ffi::{CStr, c_int};

use dure::ErrorKind;

pub const SUCCESS: c_int = 0;
pub const UNHANDLED_DEVICE_ERROR: c_int = 1;
pub const SYSTEM_ERROR: c_int = 2;
pub const INTERNAL_ERROR: c_int = 3;
pub const INVALID_ARGUMENT: c_int = 4;
pub const INVALID_USAGE: c_int = 5;
pub const REMOTE_ERROR: c_int = 6;
pub const IN_PROGRESS: c_int = 7;
pub const TIMEOUT: c_int = 8;
pub const DEGRADED: c_int = 9;

/// The code of an error.
///
/// NCCL has no code for two kinds. A communicator that somebody aborted looks to the others as if a member had gone, so
/// `Aborted` is a remote error, as it is to NCCL's peers of a rank that aborts. What this build cannot do should not
/// have been asked of it, so `Unsupported` is invalid usage, as NCCL answers.
pub fn of(kind: ErrorKind) -> c_int {
    match kind {
        ErrorKind::Device => UNHANDLED_DEVICE_ERROR,
        ErrorKind::System => SYSTEM_ERROR,
        ErrorKind::InvalidArgument => INVALID_ARGUMENT,
        ErrorKind::InvalidUsage | ErrorKind::Unsupported => INVALID_USAGE,
        ErrorKind::Remote | ErrorKind::Aborted => REMOTE_ERROR,
        ErrorKind::Timeout => TIMEOUT,
        ErrorKind::Internal => INTERNAL_ERROR,
        // The enum may grow; a kind that this file does not know yet is our omission.
        _ => INTERNAL_ERROR,
    }
}

/// What a code means, in a few words.
pub(crate) fn text(code: c_int) -> &'static CStr {
    match code {
        SUCCESS => c"no error",
        UNHANDLED_DEVICE_ERROR => c"a device failed",
        SYSTEM_ERROR => c"a system call failed",
        INTERNAL_ERROR => c"internal error: please report it",
        INVALID_ARGUMENT => c"invalid argument",
        INVALID_USAGE => c"invalid usage",
        REMOTE_ERROR => c"a peer died, is unreachable, or ended the communicator",
        IN_PROGRESS => c"in progress",
        TIMEOUT => c"the deadline passed",
        DEGRADED => c"it works, but some wires have failed",
        _ => c"unknown result code",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_ncclresults_numbers() {
        for (kind, code) in [
            (ErrorKind::Device, 1),
            (ErrorKind::System, 2),
            (ErrorKind::Internal, 3),
            (ErrorKind::InvalidArgument, 4),
            (ErrorKind::InvalidUsage, 5),
            (ErrorKind::Unsupported, 5),
            (ErrorKind::Remote, 6),
            (ErrorKind::Aborted, 6),
            (ErrorKind::Timeout, 8),
        ] {
            assert_eq!(of(kind), code, "{kind:?}");
        }
    }

    #[test]
    fn every_code_has_a_text_of_its_own() {
        let texts: std::collections::BTreeSet<_> = (-1..11).map(text).collect();
        assert_eq!(texts.len(), 11, "ten codes, and one text for all other numbers");
    }
}
