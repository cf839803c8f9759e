//! The TCP transport, and the process's one listening port.
//!
//! A put is one frame: a header of 24 bytes ([`Header`](frame::Header)) and the bytes, which the receiver reads
//! straight into the memory that the header names. A peer has `flows` connections, each an order domain of its own.
//! Nothing here blocks, except [`Dial::wait`], which is for bootstrap code; nothing spawns.
//!
//! What frames mean is code without I/O (`frame`, `send`, `receive`, `traffic`). Who moves their bytes is a [`Driver`]:
//! one asks the sockets, the other is told by the kernel.
//!
//! ```text
//!           Port  -- preamble: id, kind --> Inbox           (bootstrap has its inboxes, each transport one)
//!                                             |
//!    lower rank: Dial ------------------> proof of the key, greetings
//!                                             |
//!      put -> header, head, body -> socket    |    socket -> buffer or region -> counter      (poll)
//! ```
//!
//! ```
//! use dure_tcp::{Driver, Options, Port, PortOptions, open};
//! use dure_transport::Peer;
//! use dure_transport::proof::Key;
//!
//! let port = Port::bind(PortOptions::default())?;
//! let address = format!("127.0.0.1:{}", port.number()).parse()?;
//! let net = open(Options {
//!     me: Peer(0),
//!     id: *b"one communicator",
//!     key: Key::new([7; 32]),
//!     port,
//!     addresses: vec![address],
//!     flows: 2,
//!     driver: Driver::Auto,
//! })?;
//! assert_eq!(net.caps(Peer(1)).flows, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

mod address;
mod dial;
mod driver;
mod error;
pub mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod join;
mod memory;
mod polling;
mod port;
mod preamble;
mod prove;
mod receive;
mod region;
mod send;
mod socket;
mod strangers;
mod timer;
mod traffic;
mod transport;
mod uring;

pub use crate::dial::Dial;
pub use crate::driver::Driver;
pub use crate::error::{Error, Result};
pub use crate::port::{Inbox, Incoming, Port, PortOptions};
pub use crate::preamble::{BadPreamble, Kind, MAGIC, Preamble};
pub use crate::transport::{Options, open};

/// Name of this transport in settings and messages.
const NAME: &str = "tcp";
