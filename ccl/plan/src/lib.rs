//! Collective algorithms as data.
//!
//! An [`Algorithm`] is a function from a rank to an iterator of [`Step`]s over numbered chunks: no bytes, no clock, no
//! wires. One executor runs it (dure-exec), one verifier proves it ([`verify`]), one text form reads and writes it, one
//! renderer draws it. Nothing else in the library knows what a ring is.
//!
//! # Buffers, blocks, parts, chunks
//!
//! A buffer is a number of *blocks* (fixed by the collective, see [`Collective::blocks`]); each block is cut into
//! `parts` *parts* ([`Shape::parts`]); a *chunk* is one part of one block, numbered `block * parts + part`. A long
//! block is run in *passes*: each pass covers a piece of every block, and cuts that piece into parts. A plan never
//! sees passes or bytes.

#![forbid(unsafe_code)]

mod algorithm;
mod algorithms;
mod check;
mod choose;
mod draw;
mod flaw;
mod memory;
mod parse;
mod schedule;
mod shapes;
mod step;
mod text;
mod timeline;
mod verify;

pub use crate::algorithm::{Algorithm, Blocks, Collective, Refusal, Shape, Steps, World};
pub use crate::algorithms::{algorithms, find};
pub use crate::choose::{Choice, choose};
pub use crate::draw::draw;
pub use crate::flaw::{Flaw, Place};
pub use crate::parse::ParseError;
pub use crate::step::{Buf, Chunks, Rank, Sources, Step, input, output, scratch};
pub use crate::text::{FilePlan, to_text};
pub use crate::verify::{Proof, verify};
