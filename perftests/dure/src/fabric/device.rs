//! RDMA beneath and beside the transport, where this build has it.

use super::row::{Counters, Moved};
use crate::output::Failure;

pub(super) use dure_rdma::fabric::{Choice, Opened, Port, Raw, RawOptions, Request};

use dure_transport::{Peer, Transport};

/// Why there is no RDMA here, or what went wrong with it.
pub(super) fn failed(error: dure_rdma::Error) -> Failure {
    match error {
        dure_rdma::Error::Library { .. } | dure_rdma::Error::NoPort { .. } => {
            Failure::Usage(format!(
                "--transport rdma is not offered here: {error}; without it: --transport tcp, or pool inside a host"
            ))
        }
        error => Failure::Wire { what: "RDMA".to_owned(), source: Box::new(error) },
    }
}

/// The ports that a choice comes to.
pub(super) fn ports(choice: &Choice) -> Result<Vec<Port>, Failure> {
    choice.ports().map_err(failed)
}

pub(super) fn open(
    me: Peer,
    side: Box<dyn Transport>,
    flows: u16,
    choice: &Choice,
) -> Result<Box<Opened>, Failure> {
    Opened::open(me, side, flows, choice).map(Box::new).map_err(failed)
}

/// Counters of ports, read before a row.
#[derive(Debug, Default)]
pub(super) struct Before(Vec<(String, dure_rdma::Counters)>);

impl Before {
    pub(super) fn read(ports: &[Port]) -> Self {
        let read = |port: &Port| {
            (
                format!("{}/{}", port.device, port.number),
                dure_rdma::Counters::read(&port.device, port.number),
            )
        };
        Self(ports.iter().map(read).collect())
    }

    /// What they were, are, and by how much they moved.
    pub(super) fn after(&self) -> Counters {
        let mut counters = Counters::default();
        for (port, before) in &self.0 {
            let moved = before.moved().unwrap_or_default();
            let values = before.values().iter().map(|(name, value)| {
                let by = moved.iter().find(|moved| moved.name == *name).map_or(0, |moved| moved.by);
                (port.clone(), name.clone(), *value, value + by)
            });
            counters.values.extend(values);
            let (traffic, errors): (Vec<_>, Vec<_>) =
                moved.into_iter().partition(dure_rdma::Moved::is_traffic);
            let named = |list: Vec<dure_rdma::Moved>| -> Moved {
                list.into_iter().map(|moved| (format!("{port} {}", moved.name), moved.by)).collect()
            };
            counters.errors.extend(named(errors));
            counters.traffic.extend(named(traffic));
        }
        counters
    }
}

/// Both ends of the first queue pair, in words: for the header.
pub(super) fn ends(wire: &dure_rdma::Wire) -> [String; 2] {
    let end = |number: u32, address: &str| format!("QPN {number:#06x} {address}");
    [end(wire.local_qp, &wire.local_address), end(wire.remote_qp, &wire.remote_address)]
}
