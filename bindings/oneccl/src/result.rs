//! Results, as oneCCL numbers them. Numbers from 6 on differ from NCCL's, and so from those of `dure-c`.

use std::ffi::c_int;

use dure_c::code;

use crate::dispatcher;

const SUCCESS: c_int = 0;
/// `onecclError`: what it is, only the text says.
const ERROR: c_int = 1;
const SYSTEM_ERROR: c_int = 2;
const INTERNAL_ERROR: c_int = 3;
const INVALID_ARGUMENT: c_int = 4;
const INVALID_USAGE: c_int = 5;
const IN_PROGRESS: c_int = 6;
/// `onecclFailureGPU`: the nearest that there is to a device.
const FAILURE_GPU: c_int = 7;
/// The result of a call that `dure-c` made. Of an error, oneCCL is told the text, which `onecclGetLastError` then has.
#[inline(always)]
pub(crate) fn answer(code: c_int) -> c_int {
    if code == code::SUCCESS { SUCCESS } else { otherwise(code) }
}

#[cold]
fn otherwise(code: c_int) -> c_int {
    let result = of(code);
    if result != IN_PROGRESS {
        dispatcher::report_last();
    }
    result
}

/// What a result of `dure-c` is called here. oneCCL has no word for a peer that is gone, nor for a deadline.
pub(crate) fn of(code: c_int) -> c_int {
    match code {
        code::SUCCESS => SUCCESS,
        code::UNHANDLED_DEVICE_ERROR => FAILURE_GPU,
        code::SYSTEM_ERROR => SYSTEM_ERROR,
        code::INVALID_ARGUMENT => INVALID_ARGUMENT,
        code::INVALID_USAGE => INVALID_USAGE,
        code::REMOTE_ERROR | code::TIMEOUT => ERROR,
        code::IN_PROGRESS => IN_PROGRESS,
        _ => INTERNAL_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_onecclss_numbers() {
        for (ours, theirs) in [
            (code::SUCCESS, 0),
            (code::UNHANDLED_DEVICE_ERROR, 7),
            (code::SYSTEM_ERROR, 2),
            (code::INTERNAL_ERROR, 3),
            (code::INVALID_ARGUMENT, 4),
            (code::INVALID_USAGE, 5),
            (code::REMOTE_ERROR, 1),
            (code::IN_PROGRESS, 6),
            (code::TIMEOUT, 1),
        ] {
            assert_eq!(of(ours), theirs, "{ours}");
        }
    }
}
