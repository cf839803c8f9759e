//! The entry points, and the types by which arguments come over.
//!
//! An argument of a type of [`pointer`] can only come from C, and its caller promised what `dure.h` says about it. That
//! promise is what the unsafe code here rests on; the entry points themselves have none.

#![allow(clippy::too_many_arguments, reason = "the argument lists are NCCL's")]

mod collective;
mod comm;
mod config;
mod group;
#[cfg(test)]
mod header_tests;
mod library;
mod memory;
mod message;
mod operation;
mod pointer;
mod ragged;
mod stream;

pub(crate) use self::message::{enqueue, enqueue_on};
pub(crate) use self::pointer::{CommPlace, ScalarAt};
