//! The RDMA transport: a put is a write into the peer's memory, its signal is the immediate of that write.
//!
//! Queue pairs are reliable connections; each pair of ranks has some for every *flow* (an order domain) and every *rail* (a
//! port here and a port there that reach one another). The device of the peer writes the bytes without the peer's
//! help, and the number of the counter arrives as a completion that the peer polls.
//!
//! ```text
//!    address card: ports, GIDs, side channel's address        (exchanged when the ranks meet)
//!            |
//!    side channel comes up, both sides proven ---> offers: numbers of queue pairs, first packets
//!            |                                        INIT -> RTR -> RTS
//!    greeting over the side channel ------------> up
//!
//!    put -> inline, bounce buffer or gather list -> WRITE [WITH IMMEDIATE] -> memory of the peer
//!                                                                          -> shared receive queue -> counter  (poll)
//! ```
//!
//! **The side channel** is another transport between the same ranks, such as TCP. It proves to both sides that the other one
//! belongs to the job before a queue pair can be used, carries what they need to know of one another, and its end is how
//! the death of a peer is noticed: an idle reliable connection says nothing of it. Only what a peer was given a key for can be
//! written, by whoever knows that key and the numbers of the connection, of which the first packet's is random. RDMA does not
//! encrypt.
//!
//! libibverbs is opened at run time. Where it, a device, a permission or an active port is missing, [`open`] says so.
//! Nothing here blocks, except that dropping a transport waits for what is under way, at most a second; nothing spawns.

mod aside;
mod cache;
mod card;
mod counters;
mod error;
pub mod fabric;
mod failover;
mod flow;
mod gid;
mod in_use;
mod join;
mod mailbox;
mod memory;
mod neighbour;
mod nic;
mod post;
mod probe;
#[cfg(test)]
mod provoked;
mod queue;
mod reap;
mod region;
#[cfg(test)]
mod rerouted;
mod state;
mod status;
mod stripe;
mod transport;
mod verbs;

pub use crate::counters::{Counters, Moved};
pub use crate::error::{Completion, Error, Result, Wire};
pub use crate::fabric::{Port, ports};
pub use crate::nic::GidIndex;
pub use crate::queue::Patience;
pub use crate::state::State;
pub use crate::status::{Evidence, documentation};
pub use crate::transport::{Options, open, reaches};

/// Name of this transport in settings and messages.
const NAME: &str = "rdma";
