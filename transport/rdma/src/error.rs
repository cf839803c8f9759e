//! What can go wrong, in sentences that say what failed, where, and what to look at.

use std::fmt;
use std::io;

use crate::NAME;
use crate::counters::Moved;
use crate::state::State;
use crate::status::{self, Evidence};

/// What can go wrong with RDMA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no libibverbs that can be used.
    #[error("no RDMA: libibverbs cannot be opened: {why}")]
    Library {
        /// What the loader said.
        why: String,
    },
    /// There is no device, or none that can be used.
    #[error("no RDMA: {}", if .why.is_empty() { "this host has no RDMA device".to_owned() } else { .why.join("; ") })]
    NoPort {
        /// Of each device or port, why not; empty when there is none.
        why: Vec<String>,
    },
    /// A verb failed.
    #[error("{call} of {on} failed{hint}")]
    Call {
        /// Name of the verb.
        call: &'static str,
        /// On what.
        on: String,
        /// What to look at, after a colon; may be empty.
        hint: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A queue pair could not be brought to another state.
    #[error("ibv_modify_qp of {on} to {to} failed: {why}")]
    Transition {
        /// Which queue pair, from where to where.
        on: String,
        /// The state that it was to reach.
        to: State,
        /// The attribute that is missing or wrong.
        why: String,
        /// What the system said.
        source: io::Error,
    },
    /// A work request completed with an error, or the device reported one.
    #[error(transparent)]
    Completion(Box<Completion>),
    /// The device reported that a queue pair failed.
    #[error("the device reports {event} on {wire}")]
    Event {
        /// Name of the event in the header.
        event: &'static str,
        /// Which queue pair, from where to where.
        wire: String,
    },
    /// Nothing that is in both address cards leads from one side to the other.
    #[error("no way over RDMA: {why}")]
    NoWay {
        /// What both sides have.
        why: String,
    },
    /// The peer said over the side channel that it has given the connection up.
    #[error("the peer gave the connection up: {why}")]
    GivenUp {
        /// What it said.
        why: String,
    },
    /// This side gave the connection up: a region was released that a put still read.
    #[error(
        "a region was released while a put to the peer was reading it, so the connection was given up"
    )]
    Released,
    /// No rail is left, and this memory cannot be sent over the side channel.
    #[error("no rail is left, and memory of a device goes over RDMA only")]
    NoDetour,
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
    /// The error and its causes, on one line.
    pub(crate) fn chain(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }

    /// A verb that failed, with what the error number means there.
    pub(crate) fn call(call: &'static str, on: &str, source: io::Error) -> Self {
        let hint = hint(call, source.raw_os_error().unwrap_or(0));
        Self::Call { call, on: on.to_owned(), hint, source }
    }

    /// Whether it says that the device is gone: what verbs answer when it was taken away.
    pub(crate) fn is_gone(&self) -> bool {
        let errno = match self {
            Self::Call { source, .. } | Self::Transition { source, .. } => source.raw_os_error(),
            _ => None,
        };
        matches!(errno, Some(libc::EIO | libc::ENODEV))
    }

    /// For `map_err`: the error of a named system call.
    pub(crate) fn system<E: Into<io::Error>>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { call, source: source.into() }
    }
}

/// What to look at when a verb failed with an error number.
fn hint(call: &str, errno: i32) -> &'static str {
    let registers = call.starts_with("ibv_reg_");
    match errno {
        libc::EACCES | libc::EPERM if call == "ibv_open_device" => {
            ": this process may not open /dev/infiniband/uverbs*; give it the group that owns them, or the container the devices"
        }
        libc::EOPNOTSUPP | libc::EPROTONOSUPPORT if call == "ibv_reg_dmabuf_mr" => {
            ": this device or its driver cannot reach the memory of other devices"
        }
        libc::ENOMEM | libc::EAGAIN if registers => {
            ": the limit of locked memory is too low (ulimit -l; LimitMEMLOCK of systemd), or the device has no room for another region"
        }
        libc::EFAULT if registers => ": the memory is not mapped, or read-only",
        libc::ENOMEM if call.starts_with("ibv_create_") => {
            ": the device has no room for another one, or the limit of locked memory is too low (ulimit -l)"
        }
        libc::EINVAL if call.starts_with("ibv_create_") => ": more was asked than the device has",
        _ => "",
    }
}

impl From<Error> for dure_transport::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::NoWay { why } => Self::Unreachable { tried: why },
            Error::System { call, source } => Self::System { call, source },
            other => Self::Failed { transport: NAME, source: Box::new(other) },
        }
    }
}

/// Both ends of a queue pair, and the way between.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Rank of the peer.
    pub peer: u32,
    /// Local device and its port.
    pub local: (String, u8),
    /// Local queue pair.
    pub local_qp: u32,
    /// The local address: GID with its index, or LID.
    pub local_address: String,
    /// The peer's device and its port.
    pub remote: (String, u8),
    /// The peer's queue pair.
    pub remote_qp: u32,
    /// The peer's address.
    pub remote_address: String,
    /// The path MTU, in bytes.
    pub mtu: u32,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, local, local_qp, local_address, remote, remote_qp, remote_address, mtu } =
            self;
        write!(
            f,
            "{} port {} QP {local_qp} {local_address} to rank {peer} at {} port {} QP {remote_qp} {remote_address}, path MTU {mtu} B",
            local.0, local.1, remote.0, remote.1
        )
    }
}

/// A work request that completed with an error.
#[derive(Clone, Debug)]
pub struct Completion {
    /// What was asked for, such as `a put`.
    pub what: &'static str,
    /// Between whom.
    pub wire: Wire,
    /// The `ibv_wc_status`.
    pub status: u32,
    /// What the vendor adds; means something to its tools only.
    pub vendor: u32,
    /// Counters of the local port that moved since it was opened, errors first; `None` when they cannot be read.
    pub moved: Option<Vec<Moved>>,
    /// What is known besides.
    pub evidence: Evidence,
}

impl fmt::Display for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = status::explain(self.status);
        write!(
            f,
            "{} failed on {}: {} ({}, vendor code {:#x})",
            self.what, self.wire, known.meaning, known.name, self.vendor
        )?;
        let moved =
            self.moved.as_ref().map(|all| all.iter().map(Moved::to_string).collect::<Vec<_>>());
        match moved.as_deref() {
            None => f.write_str("; its counters cannot be read here")?,
            Some([]) => f.write_str("; none of its counters moved")?,
            Some(moved) => write!(f, "; counters that moved: {}", moved.join(", "))?,
        }
        f.write_str("; likely causes: ")?;
        for (index, cause) in status::causes(self.status, self.evidence).iter().enumerate() {
            write!(f, "{}{}. {cause}", if index == 0 { "" } else { "; " }, index + 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for Completion {}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn wire() -> Wire {
        Wire {
            peer: 7,
            local: ("mlx5_0".to_owned(), 1),
            local_qp: 17,
            local_address: "GID 3 ::ffff:10.1.0.1 (RoCE v2)".to_owned(),
            remote: ("mlx5_2".to_owned(), 1),
            remote_qp: 29,
            remote_address: "GID ::ffff:10.1.0.2 (RoCE v2)".to_owned(),
            mtu: 4096,
        }
    }

    #[test]
    fn a_completion_is_a_sentence() {
        let completion = Completion {
            what: "a put",
            wire: wire(),
            status: 12,
            vendor: 0x81,
            moved: Some(vec![Moved { name: "symbol_error".to_owned(), by: 4 }]),
            evidence: Evidence { acknowledged: true, link_errors: true, large: false },
        };
        let text = completion.to_string();
        for part in [
            "a put failed on mlx5_0 port 1 QP 17 GID 3 ::ffff:10.1.0.1 (RoCE v2) to rank 7 at mlx5_2 port 1 QP 29",
            "path MTU 4096 B",
            "IBV_WC_RETRY_EXC_ERR, vendor code 0x81",
            "counters that moved: symbol_error +4",
            "likely causes: 1. ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn absence_says_why() {
        assert_eq!(
            Error::NoPort { why: Vec::new() }.to_string(),
            "no RDMA: this host has no RDMA device"
        );
        let why = vec!["mlx5_0 port 1 is DOWN".to_owned(), "mlx5_1 is not in DURE_HCA".to_owned()];
        assert!(Error::NoPort { why }.to_string().contains("is DOWN; mlx5_1"));
        let denied =
            Error::call("ibv_open_device", "mlx5_0", io::Error::from_raw_os_error(libc::EACCES));
        assert!(denied.to_string().contains("uverbs"), "{denied}");
    }
}
