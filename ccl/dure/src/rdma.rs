//! RDMA, where this build has it.

#[cfg(feature = "verbs")]
pub(crate) use self::built::{open, reaches};
#[cfg(not(feature = "verbs"))]
pub(crate) use self::left_out::{open, reaches};

#[cfg(feature = "verbs")]
mod built {
    use std::sync::Arc;

    use dure_device::Device;
    use dure_rdma::{GidIndex, Options, Patience};
    use dure_transport::{Peer, Transport};

    use crate::config::Config;
    use crate::error::{Error, Result};
    use crate::net::DEFAULT_FLOWS;

    pub(crate) use dure_rdma::reaches;

    /// Opens the RDMA transport, whose queue pairs are agreed upon over `side`.
    pub(crate) fn open(
        rank: u32,
        config: &Config,
        side: Box<dyn Transport>,
        devices: &[Arc<dyn Device>],
    ) -> Result<Box<dyn Transport>> {
        let flows = config.rdma_flows.unwrap_or(DEFAULT_FLOWS);
        // Each takes six bytes of a card.
        let flows = u16::try_from(flows).ok().filter(|flows| *flows <= MOST_FLOWS);
        let flows = flows.ok_or_else(|| {
            Error::invalid_argument(format!(
                "too many DURE_RDMA_FLOWS (allowed: 1 to {MOST_FLOWS})"
            ))
        })?;
        let options = Options {
            me: Peer(rank),
            side,
            allows: &|name| config.hca.as_ref().is_none_or(|hca| hca.allows(name)),
            gid_index: config.gid_index.map_or(GidIndex::Any, GidIndex::At),
            flows,
            patience: Patience::default(),
            kept_bytes: config.rdma_cache.unwrap_or(0),
            devices: devices.to_vec(),
            falls_back: config.transport.allows(crate::net::TCP),
        };
        dure_rdma::open(options).map_err(|error| {
            Error::system("the rdma transport cannot be opened").on(rank).because(error)
        })
    }

    const MOST_FLOWS: u16 = 64;
}

#[cfg(not(feature = "verbs"))]
mod left_out {
    use std::sync::Arc;

    use dure_device::Device;
    use dure_transport::{Card, Transport};

    use crate::config::Config;
    use crate::error::{Error, Result};

    pub(crate) fn open(
        rank: u32,
        _: &Config,
        _: Box<dyn Transport>,
        _: &[Arc<dyn Device>],
    ) -> Result<Box<dyn Transport>> {
        Err(Error::unsupported("no RDMA: this build was made without the feature `verbs`").on(rank))
    }

    pub(crate) fn reaches(_: &Card, _: &Card) -> bool {
        false
    }
}
