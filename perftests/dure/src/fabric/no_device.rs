//! In place of `device.rs` where this build has no RDMA: flags that ask for it are refused before any of this is used.

use dure_transport::{Peer, Transport};

use super::row::Counters;
use crate::output::Failure;

/// Which ports are measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    pub(super) devices: Vec<String>,
    pub(super) port: Option<u8>,
    pub(super) gid_index: Option<u32>,
    pub(super) mtu: Option<u32>,
}

/// A port that can be used: there is none.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) device: String,
    pub(super) link: &'static str,
    pub(super) gid: (u8, String),
}

/// A transport that is never opened.
#[derive(Debug)]
pub(super) enum Opened {}

impl Opened {
    #[expect(clippy::needless_pass_by_ref_mut, reason = "as where there is one")]
    pub(super) fn transport(&mut self) -> &mut dyn Transport {
        match *self {}
    }

    pub(super) fn wires(&self, _: Peer) -> Vec<Wire> {
        match *self {}
    }
}

/// Both ends of a connection that is never made.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) mtu: u32,
}

pub(super) fn ends(_: &Wire) -> [String; 2] {
    Default::default()
}

fn not_built(choice: &Choice) -> Failure {
    let Choice { devices, port, gid_index, mtu } = choice;
    tracing::debug!(?devices, ?port, ?gid_index, ?mtu, "no RDMA in this build");
    Failure::Usage(
        "rdma is not offered: this build was made without the feature `verbs`".to_owned(),
    )
}

pub(super) fn ports(choice: &Choice) -> Result<Vec<Port>, Failure> {
    Err(not_built(choice))
}

pub(super) fn open(
    _: Peer,
    _: Box<dyn Transport>,
    _: u16,
    choice: &Choice,
) -> Result<Box<Opened>, Failure> {
    Err(not_built(choice))
}

/// Counters of no ports.
#[derive(Debug, Default)]
pub(super) struct Before;

impl Before {
    pub(super) fn read(_: &[Port]) -> Self {
        Self
    }

    pub(super) fn after(&self) -> Counters {
        Counters::default()
    }
}
