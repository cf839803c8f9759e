//! `libnccl-net-dure.so`: Dure's transports as a network plug-in of NCCL, ABI v8 to v12. `README.md` says how it is used.
//!
//! A connection of NCCL leads one way, from a sender to a receiver. Here it is one transport of two ranks: the sender is
//! rank 0, which dials, the receiver rank 1.
//!
//! ```text
//!   NCCL -> names      the tables that NCCL looks up, and the functions in them     (raw arguments; codes of errors)
//!        -> comm       one connection: its memory and its requests
//!        -> sender     isend: memory of ours into memory that the peer has offered
//!           receiver   irecv: offers memory, and hears what has been put there
//!        -> link       a transport that is up, with a ring of messages each way
//!        -> meeting    how it came up: over TCP, and from there to RDMA
//! ```
//!
//! A receive is an *offer*, a message to the sender: where the bytes may go. A send takes the first offer of its tag, puts the
//! bytes there, and then a *record* into the receiver's ring: how many there are. No thread is started: whoever asks for
//! anything moves the connection on.

#![deny(unsafe_code)]

mod abi;
#[expect(unsafe_code, reason = "registers memory of whoever calls")]
mod comm;
mod device;
mod gpu;
mod link;
#[expect(unsafe_code, reason = "calls the function that NCCL logs by")]
mod log;
mod meeting;
mod message;
#[expect(unsafe_code, reason = "arguments from C are raw memory, and names are exported")]
mod names;
mod plugin;
#[expect(unsafe_code, reason = "objects that C holds are raw memory")]
mod raw;
mod rdma;
mod receiver;
#[expect(unsafe_code, reason = "copies messages out of memory that a peer writes")]
mod ring;
mod sender;
#[cfg(test)]
#[expect(unsafe_code, reason = "reads and writes memory of a simulated transport")]
mod simulated;
