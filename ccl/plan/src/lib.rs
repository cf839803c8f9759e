//! Collective algorithms as data.
//!
//! An [`Algorithm`] is a function from a rank to an iterator of [`Step`]s over numbered chunks: no bytes, no clock, no
//! wires. One executor runs it (dure-exec), one verifier proves it ([`verify`]), one text form reads and writes it, one
//! renderer draws it. Nothing else in the library knows what a ring is.
//!
//! ```text
//!  Collective, World
//!         |
//!     Algorithm  -- steps(rank, lane) -->  send 1 in[0]; recv-reduce 3 in[3] out[3]; ...
//!         |                                         |
//!  verify, draw, to_text (all ranks)         dure-exec (one rank, bytes)
//! ```
//!
//! It is not a simulator (no bytes, no seconds), and it does not choose: that takes a cluster and times (dure-sim, dure).
//!
//! ```
//! use dure_plan::{Collective, Rank, World, find, verify};
//!
//! let (what, world) = (Collective::AllReduce, World::flat(4));
//! let ring = find(what, "ring").unwrap();
//! let first = ring.steps(what, &world, Rank(0), 0).next().unwrap();
//! assert_eq!(first.to_string(), "send 1 in[0]");
//! assert!(verify(what, &world, ring, 1).unwrap().bit_equal);
//! ```
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
mod draw;
mod edges;
mod fixed;
mod flaw;
mod host_map;
mod memory;
mod ordered;
mod parse;
mod schedule;
mod shapes;
mod step;
mod text;
mod timeline;
mod verify;

pub use crate::algorithm::{Algorithm, Blocks, Collective, Refusal, Shape, Steps, World};
pub use crate::algorithms::{algorithms, find};
pub use crate::draw::draw;
pub use crate::edges::{MOST_PEERS, too_many_edges};
pub use crate::fixed::fixed;
pub use crate::flaw::{Flaw, Place};
pub use crate::host_map::HostMap;
pub use crate::ordered::Ordered;
pub use crate::parse::ParseError;
pub use crate::step::{Buf, Chunks, Rank, Sources, Step, input, output, scratch};
pub use crate::text::{FilePlan, to_text};
pub use crate::verify::{Proof, verify};
