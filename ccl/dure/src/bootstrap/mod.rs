//! How the ranks of a job find each other, as state machines without input or output.
//!
//! ```text
//!   rank --- check-in ---> root        who I am, what I expect, where I listen, what I offer
//!   rank <-- verdict ----- root        your parent in the tree is there; or: this is wrong
//!   rank --- link -------> parent      stays up for the life of the communicator
//!   rank <-- table ------- parent      who everybody is; flows down from rank 0, once to each process
//! ```
//!
//! The root talks to each rank once and sends the whole table to one of them, so its work grows with the number of
//! ranks and not with its square. [`crate::control`] drives these machines over sockets.

pub(crate) mod noise;
pub(crate) mod root;
pub(crate) mod shape;
pub(crate) mod table;
pub(crate) mod tree;
pub(crate) mod wire;

#[cfg(test)]
mod tree_tests;
