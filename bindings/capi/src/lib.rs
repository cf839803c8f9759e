//! `libdure.so`: the C interface of Dure. What the functions do is documented where C programmers look, in
//! `include/dure.h`; this crate says how they are called, and what the structures look like. The rest is `dure-c`.

#![deny(unsafe_code)]

#[cfg(test)]
#[path = "../../common/testing/header.rs"]
mod header;
#[allow(unsafe_code, reason = "names of functions that are exported")]
mod names;
#[allow(unsafe_code, reason = "a layout is a promise to those who read it")]
mod settings;

use std::ffi::c_int;

use dure::{Config, Result};
use dure_c::{Interface, code, environment};

use crate::settings::OwnFields;
#[cfg(test)]
use Dure as Tested;

/// The interface of `dure.h`.
enum Dure {}

impl Interface for Dure {
    const PREFIX: &'static str = "dure";
    const VERSION: c_int = parsed(env!("CARGO_PKG_VERSION_MAJOR")) * 10_000
        + parsed(env!("CARGO_PKG_VERSION_MINOR")) * 100
        + parsed(env!("CARGO_PKG_VERSION_PATCH"));
    const DEGRADED: c_int = code::DEGRADED;
    const WINDOW_FLAGS: &'static [(&'static str, c_int)] = &[("WIN_COLL_SYMMETRIC", 1)];
    const JOINS_STREAMS: bool = false;
    type Further = OwnFields;

    fn environment() -> Result<Config> {
        let config = Config::from_env()?;
        environment::log(&config.log)?;
        Ok(config)
    }
}

const fn parsed(digits: &str) -> c_int {
    match c_int::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("the package's version has numbers only"),
    }
}

#[cfg(test)]
mod tests {
    use dure_c::ffi::comm::HOST;
    use dure_c::operation::{BIT_AND, BIT_OR, BIT_XOR};

    use super::header::{expect, int};
    use super::*;

    #[test]
    fn numbers_that_nccl_has_not_are_the_same() {
        expect(&[
            ("@DEVICE_HOST", int(HOST)),
            ("$UnhandledDeviceError", int(code::UNHANDLED_DEVICE_ERROR)),
            ("$Degraded", int(code::DEGRADED)),
            ("$BitAnd", int(BIT_AND)),
            ("$BitOr", int(BIT_OR)),
            ("$BitXor", int(BIT_XOR)),
        ]);
    }
}
