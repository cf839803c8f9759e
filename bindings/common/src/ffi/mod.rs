//! The entry points, and the types by which arguments come over.
//!
//! An argument of a type of [`mod@pointer`] can only come from C, and its caller promised what the header says about it. That
//! promise is what the unsafe code here rests on; the entry points themselves have none. What they do, the headers say:
//! `dureAllReduce` and `ncclAllReduce` are [`collective::all_reduce`], and so on.

#![allow(clippy::too_many_arguments, reason = "the argument lists are NCCL's")]
#![allow(missing_docs, reason = "the headers document the entry points and their numbers")]

pub mod collective;
pub mod comm;
pub mod config;
pub mod group;
pub mod library;
pub mod memory;
mod message;
pub mod operation;
pub mod pointer;
pub mod ragged;
pub mod stream;

pub(crate) use self::message::{enqueue, enqueue_on};
pub(crate) use self::pointer::{CommPlace, ScalarAt};
