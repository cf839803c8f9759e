//! `libnccl.so.2`: Dure under the names of NCCL, for programs that are built against it. `include/nccl.h` and `README.md`
//! say what the functions do; this crate says how they are called, what the structures look like, and what the variables
//! `NCCL_*` mean. The rest is `dure-c`.

#![deny(unsafe_code)]

mod algorithms;
mod environment;
#[cfg(test)]
#[path = "../../common/testing/header.rs"]
mod header;
#[allow(unsafe_code, reason = "names of functions that are exported")]
mod names;
#[allow(unsafe_code, reason = "a layout is a promise to those who read it")]
mod settings;

use std::ffi::c_int;

use dure::{Config, Result};
use dure_c::{Interface, code};

#[cfg(test)]
use self::Nccl as Tested;
use self::settings::OwnFields;

/// The interface of `nccl.h`.
enum Nccl {}

impl Interface for Nccl {
    const PREFIX: &'static str = "nccl";
    /// The version of NCCL whose functions are here.
    const VERSION: c_int = 22_907;
    // NCCL has no word for it. The log has.
    const DEGRADED: c_int = code::SUCCESS;
    const WINDOW_FLAGS: &'static [(&'static str, c_int)] =
        &[("WIN_COLL_SYMMETRIC", 1), ("WIN_STRICT_ORDERING", 2)];
    const JOINS_STREAMS: bool = true;
    type Further = OwnFields;

    fn environment() -> Result<Config> {
        environment::read()
    }
}

#[cfg(test)]
mod tests {
    use dure_c::code;
    use dure_c::ffi::memory::LAST_STATISTIC;

    use super::header::{expect, int};

    #[test]
    fn numbers_that_only_nccl_has_are_the_same() {
        expect(&[
            ("$UnhandledCudaError", int(code::UNHANDLED_DEVICE_ERROR)),
            ("$StatGpuMemTotal", int(LAST_STATISTIC)),
            ("@REVOKE_DEFAULT", 0),
            ("$NumResults", int(code::TIMEOUT + 1)),
        ]);
    }
}
