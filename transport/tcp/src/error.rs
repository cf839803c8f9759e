//! What can go wrong with the port and with dialling.

use std::io;
use std::net::SocketAddr;

/// What can go wrong with the port and with dialling.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Every port that the process may listen on is taken.
    #[error("no free port to listen on in {first}-{last}")]
    NoFreePort {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// No address led to the peer.
    #[error("no way to the peer: {}", Tried(.0))]
    Unreachable(Vec<(SocketAddr, io::Error)>),
    /// A system call failed.
    #[error("{call}")]
    System {
        /// Name of the call.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err`: the error of a named system call.
    pub(crate) fn system<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { call, source: source.into() }
    }
}

impl From<Error> for dure_transport::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::System { call, source } => Self::System { call, source },
            Error::Unreachable(tried) => Self::Unreachable { tried: Tried(&tried).to_string() },
            Error::NoFreePort { .. } => {
                Self::Exhausted { transport: crate::NAME, what: error.to_string() }
            }
        }
    }
}

/// Writes each address with what happened there.
struct Tried<'a>(&'a [(SocketAddr, io::Error)]);

impl std::fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("it gave no address");
        }
        for (i, (address, error)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{address} ({error})")?;
        }
        Ok(())
    }
}
