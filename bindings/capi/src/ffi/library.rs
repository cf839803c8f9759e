//! The library itself: its version, and its errors as text.

use std::ffi::{c_char, c_int};

use super::pointer::{CommPtr, Out};
use crate::boundary::{boundary, guard, last, show};
use crate::code;

/// Three numbers of the package's version, as NCCL codes its own.
pub(super) const VERSION_CODE: c_int = parsed(env!("CARGO_PKG_VERSION_MAJOR")) * 10_000
    + parsed(env!("CARGO_PKG_VERSION_MINOR")) * 100
    + parsed(env!("CARGO_PKG_VERSION_PATCH"));

const fn parsed(digits: &str) -> c_int {
    match c_int::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("the package's version has numbers only"),
    }
}

#[unsafe(no_mangle)]
extern "C" fn dureGetVersion(version: Out<c_int>) -> c_int {
    boundary(|| {
        version.place("version")?.set(VERSION_CODE);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn dureGetErrorString(result: c_int) -> *const c_char {
    code::text(result).as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn dureGetLastError(comm: CommPtr) -> *const c_char {
    let text = guard(|| {
        if comm.is_null() {
            return Ok(last());
        }
        let comm = comm.get()?;
        // What happened to it in the background counts too.
        comm.health();
        Ok(comm.last_error())
    });
    show(text.unwrap_or_else(|error| crate::boundary::c_text(&error.chain())))
}

#[unsafe(no_mangle)]
extern "C" fn dureResetDebugInit() {}
