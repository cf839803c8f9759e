//! The library itself: its version, and its errors as text.

use std::ffi::{c_char, c_int};

use dure::Error;

use super::pointer::{CommPtr, Out};
use crate::Interface;
use crate::boundary::{boundary, guard, last, show};
use crate::code;

pub fn get_version<I: Interface>(version: Out<c_int>) -> c_int {
    boundary(|| {
        version.place("version")?.set(I::VERSION);
        Ok(())
    })
}

/// The answer of functions that have a name, and nothing behind it.
pub fn unsupported<I: Interface>(name: &str, why: &str) -> c_int {
    fail(Error::unsupported(format!("{} is not supported: {why}", I::function(name))))
}

/// The answer of a call that an interface refuses by itself.
pub fn fail(error: Error) -> c_int {
    boundary(|| Err::<(), _>(error))
}

pub fn get_error_string(result: c_int) -> *const c_char {
    code::text(result).as_ptr()
}

pub fn get_last_error(comm: CommPtr) -> *const c_char {
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

pub fn reset_debug_init() {}
