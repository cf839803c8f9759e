//! What the C interfaces of Dure have in common: all but names, numbers and layouts. `libdure.so` (`bindings/capi`) and
//! `libnccl.so.2` (`bindings/nccl`) each say what theirs are by an [`Interface`], and export the functions.
//!
//! ```text
//!   C program -> names       of one interface: dureAllReduce, ncclAllReduce         (bindings/capi, bindings/nccl)
//!             -> ffi/        raw arguments: pointers checked, numbers read         (the only unsafe code)
//!             -> boundary    no panic leaves; an error becomes a code and a text
//!             -> group       calls that wait for the end of a group
//!             -> comm        what hangs on a handle: communicator, operations, registrations
//!             -> dure        the facade, which does the work
//! ```

#![deny(unsafe_code)]

mod boundary;
pub mod code;
pub mod comm;
pub mod config;
pub mod environment;
mod exports;
mod family;
#[allow(unsafe_code, reason = "arguments from C are raw memory")]
pub mod ffi;
mod group;
mod handle;
mod interface;
mod number;
pub mod operation;
mod thread;

pub use self::boundary::guard;
pub use self::interface::Interface;
