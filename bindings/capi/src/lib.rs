//! `libdure.so`: the C interface of Dure. What the functions do is documented where C programmers look, in
//! `include/dure.h`; this crate only carries calls over.
//!
//! ```text
//!   C program -> ffi/        raw arguments: pointers checked, numbers read         (the only unsafe code)
//!             -> boundary    no panic leaves; an error becomes a code and a text
//!             -> group       calls that wait for dureGroupEnd
//!             -> comm        what hangs on a handle: communicator, operations, registrations
//!             -> dure        the facade, which does the work
//! ```

#![deny(unsafe_code)]

mod boundary;
mod code;
mod comm;
mod config;
mod environment;
mod family;
#[allow(unsafe_code, reason = "arguments from C are raw memory")]
mod ffi;
mod group;
mod handle;
mod number;
mod operation;
mod thread;
