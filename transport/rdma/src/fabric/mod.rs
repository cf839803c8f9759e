//! What a perf test needs besides the trait: which port to measure and what it is, the ends of a connection in words, and
//! verbs that the trait does not have ([`Raw`]: read, send, atomic). And [`ports`], for whoever lists what there is.
//!
//! Collectives need none of this.

mod raw;

use dure_transport::{Peer, Transport};

pub use self::raw::{Progress, Raw, RawOptions, Request};
use crate::error::{Error, Result, Wire};
use crate::gid::Kind;
use crate::nic::{self, GidIndex, Nic};
use crate::transport::{Options, Rdma, assemble_over};
use crate::verbs;

/// Which ports are measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Names of devices; the first that can be used when there are none.
    pub devices: Vec<String>,
    /// Number of the port on each device, from 1; the first that can be used if `None`.
    pub port: Option<u8>,
    /// Index in the port's table of GIDs; the best if `None`.
    pub gid_index: Option<u32>,
    /// Largest path MTU in bytes: 256, 512, 1024, 2048 or 4096; the port's own if `None`, or if that is smaller.
    pub mtu: Option<u32>,
}

/// A port that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the device.
    pub device: String,
    /// Number of the port, from 1.
    pub number: u8,
    /// `Ethernet` or `IB`.
    pub link: &'static str,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Mb/s.
    pub speed: u32,
    /// 0 on Ethernet.
    pub lid: u16,
    /// Index of the GID that is preferred, and the GID.
    pub gid: (u8, String),
    /// Whether the device's driver registers memory by dma-buf.
    pub takes_dma_buf: bool,
}

/// The ports of devices that may be used, at most four: of one device, those that its transport would use.
///
/// # Errors
/// [`Error::Library`] and [`Error::NoPort`] with the reasons.
pub fn ports(allows: &dyn Fn(&str) -> bool, gid_index: GidIndex) -> Result<Vec<Port>> {
    let nics = nic::open_all(verbs::load()?, allows, gid_index)?;
    Ok(nics.iter().map(port_of).collect())
}

impl Choice {
    /// The ports of the choice, opened: one of each device.
    fn open(&self) -> Result<Vec<Nic>> {
        let wanted =
            |name: &str| self.devices.is_empty() || self.devices.iter().any(|known| known == name);
        let gid_index = self.gid_index.map_or(GidIndex::Any, GidIndex::At);
        let mut nics = nic::open_all(verbs::load()?, &wanted, gid_index)?;
        let found: Vec<_> = nics.iter().map(|nic| port_of(nic).to_string()).collect();
        nics.retain(|nic| self.port.is_none_or(|number| number == nic.card.number));
        if nics.is_empty() {
            let number = self.port.unwrap_or(0);
            let why = format!("no port {number} can be used, only {}", found.join(", "));
            return Err(Error::NoPort { why: vec![why] });
        }
        nics.dedup_by(|a, b| a.card.device == b.card.device);
        if self.devices.is_empty() {
            nics.truncate(1);
        }
        for nic in &mut nics {
            nic.card.mtu = self.mtu.map_or(nic.card.mtu, |mtu| nic.card.mtu.min(mtu));
        }
        Ok(nics)
    }

    /// What the choice comes to on this host.
    ///
    /// # Errors
    /// [`Error::Library`] and [`Error::NoPort`] with the reasons.
    pub fn ports(&self) -> Result<Vec<Port>> {
        Ok(self.open()?.iter().map(port_of).collect())
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} port {}", self.device, self.number)
    }
}

fn port_of(nic: &Nic) -> Port {
    let card = &nic.card;
    let index = nic.gid_indices.first().copied().unwrap_or(0);
    let gid = card.gids.first();
    let infiniband = gid.is_some_and(|gid| gid.kind == Kind::InfiniBand);
    Port {
        device: card.device.clone(),
        number: card.number,
        link: if infiniband { "IB" } else { "Ethernet" },
        mtu: card.mtu,
        speed: card.speed,
        lid: card.lid,
        gid: (index, gid.map_or_else(String::new, ToString::to_string)),
        takes_dma_buf: nic::takes_dma_buf(&nic.pd),
    }
}

/// The RDMA transport over chosen ports, which tells where its connections lead.
#[derive(Debug)]
pub struct Opened(Rdma);

impl Opened {
    /// Opens the transport of one rank. `side` is as in [`Options`].
    ///
    /// # Errors
    /// As [`crate::open`].
    ///
    /// # Panics
    /// When `flows` is 0.
    pub fn open(me: Peer, side: Box<dyn Transport>, flows: u16, choice: &Choice) -> Result<Self> {
        // It does not fall back: a figure of TCP would not be one of RDMA.
        let options = Options { flows, ..Options::new(me, side) };
        Ok(Self(assemble_over(choice.open()?, options)?))
    }

    /// The transport.
    pub fn transport(&mut self) -> &mut dyn Transport {
        &mut self.0
    }

    /// Both ends of each queue pair to a peer that is up.
    pub fn wires(&self, peer: Peer) -> Vec<Wire> {
        let queues = self.0.pair(peer).map_or(0..0, |pair| pair.queues.clone());
        self.0.queues[queues].iter().filter_map(|queue| queue.wire.as_deref().cloned()).collect()
    }
}
