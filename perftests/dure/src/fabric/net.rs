//! The transports that can be measured, opened.

use std::net::{IpAddr, SocketAddr};

use dure_pool::Pool;
use dure_tcp::{Driver, Port, PortOptions};
use dure_transport::proof::Key;
use dure_transport::{Peer, Transport};

use super::cxl;
use super::device::{self, Choice, Opened};
use super::test::Kind;
use crate::output::Failure;

/// What names the connections of a measurement.
pub(super) const ID: [u8; 16] = *b"dure fabric test";

/// A transport of one rank.
pub(super) enum Net {
    Plain(Box<dyn Transport>),
    Rdma(Box<Opened>),
}

/// What the flags say of this side's devices.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices {
    pub(super) rdma: Choice,
    pub(super) pool: cxl::Pool,
}

/// Who opens one.
#[derive(Clone, Debug)]
pub(super) struct Me<'a> {
    pub(super) rank: u32,
    pub(super) ranks: u32,
    /// What all ranks know.
    pub(super) key: [u8; 32],
    /// Where this process is reached.
    pub(super) addresses: Vec<IpAddr>,
    /// Flows to each peer.
    pub(super) flows: u16,
    pub(super) devices: &'a Devices,
}

impl Net {
    pub(super) fn open(kind: Kind, me: &Me<'_>) -> Result<Self, Failure> {
        match kind {
            Kind::Tcp => Ok(Self::Plain(tcp(me, me.flows, Driver::Auto)?)),
            Kind::Rdma => {
                // It carries no data, so a system call now and then is all it may cost.
                let side = tcp(me, 1, Driver::Poll)?;
                Ok(Self::Rdma(device::open(Peer(me.rank), side, me.flows, &me.devices.rdma)?))
            }
            Kind::Pool => {
                let (rank, key) = (Peer(me.rank), Key::new(me.key));
                let options = dure_pool::Options { rank, key, capacity: None, huge_pages: true };
                Ok(Self::Plain(Box::new(Pool::open(options).map_err(|e| failed(kind, e))?)))
            }
            Kind::Cxl => Ok(Self::Plain(Box::new(me.devices.pool.open(me.rank, me.ranks)?))),
            Kind::Npu => Err(Failure::Usage("npu is not offered".to_owned())),
        }
    }

    #[inline]
    pub(super) fn transport(&mut self) -> &mut dyn Transport {
        match self {
            Self::Plain(net) => &mut **net,
            Self::Rdma(net) => net.transport(),
        }
    }
}

/// The failure of a transport, with its causes.
pub(super) fn failed(kind: Kind, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Wire { what: format!("the {} transport", kind.name()), source: Box::new(error) }
}

fn tcp(me: &Me<'_>, flows: u16, driver: Driver) -> Result<Box<dyn Transport>, Failure> {
    let opened = Port::bind(PortOptions::default()).map(|port| {
        let number = port.number();
        let addresses = me.addresses.iter().map(|ip| SocketAddr::new(*ip, number)).collect();
        let (me, key) = (Peer(me.rank), Key::new(me.key));
        dure_tcp::Options { me, id: ID, key, port, addresses, flows, driver }
    });
    let options = opened.map_err(|error| failed(Kind::Tcp, error))?;
    dure_tcp::open(options).map_err(|error| failed(Kind::Tcp, error))
}
