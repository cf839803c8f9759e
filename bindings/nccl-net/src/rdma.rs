//! RDMA, where this build has it.

#[cfg(feature = "verbs")]
pub(crate) use self::built::{devices, open, reaches};
#[cfg(not(feature = "verbs"))]
pub(crate) use self::left_out::{devices, open, reaches};

/// A device with ports that can be used.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// Mb/s of all its ports.
    pub(crate) speed: u32,
    /// Number of the first port.
    pub(crate) port: u8,
    /// Whether its driver registers dma-bufs.
    pub(crate) takes_dma_buf: bool,
}

#[cfg(feature = "verbs")]
mod built {
    use std::sync::Arc;

    use dure::{Config, Error, Result};
    use dure_rdma::{GidIndex, Options};
    use dure_transport::{Peer, Transport};

    use super::Found;
    use crate::gpu::Gpus;

    pub(crate) use dure_rdma::reaches;

    fn gid_index(config: &Config) -> GidIndex {
        config.gid_index.map_or(GidIndex::Any, GidIndex::At)
    }

    /// The devices of this host that the settings allow; with why there are none, when there are none.
    pub(crate) fn devices(config: &Config) -> (Vec<Found>, Vec<String>) {
        let mut names: Vec<String> = std::fs::read_dir("/sys/class/infiniband")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| config.hca.as_ref().is_none_or(|hca| hca.allows(name)))
            .collect();
        names.sort();
        let (mut found, mut why) = (Vec::new(), Vec::new());
        for name in names {
            match dure_rdma::ports(&|other| other == name, gid_index(config)) {
                Ok(ports) => found.push(Found {
                    speed: ports.iter().map(|port| port.speed).sum(),
                    port: ports.first().map_or(1, |port| port.number),
                    takes_dma_buf: ports.iter().all(|port| port.takes_dma_buf),
                    name,
                }),
                Err(error) => why.push(error.to_string()),
            }
        }
        (found, why)
    }

    /// Opens the transport over some devices, whose queue pairs are agreed upon over `side`.
    pub(crate) fn open(
        me: Peer,
        config: &Config,
        names: &[String],
        side: Box<dyn Transport>,
        gpus: Arc<Gpus>,
    ) -> Result<Box<dyn Transport>> {
        let options = Options {
            allows: &|name| names.iter().any(|known| known == name),
            gid_index: gid_index(config),
            devices: vec![gpus],
            falls_back: config.transport.allows("tcp"),
            ..Options::new(me, side)
        };
        dure_rdma::open(options)
            .map_err(|error| Error::system("the rdma transport cannot be opened").because(error))
    }
}

#[cfg(not(feature = "verbs"))]
mod left_out {
    use std::sync::Arc;

    use dure::{Config, Error, Result};
    use dure_transport::{Card, Peer, Transport};

    use super::Found;
    use crate::gpu::Gpus;

    pub(crate) fn devices(_: &Config) -> (Vec<Found>, Vec<String>) {
        (Vec::new(), vec!["this build was made without the feature `verbs`".to_owned()])
    }

    pub(crate) fn open(
        _: Peer,
        _: &Config,
        _: &[String],
        _: Box<dyn Transport>,
        _: Arc<Gpus>,
    ) -> Result<Box<dyn Transport>> {
        Err(Error::unsupported("no RDMA: this build was made without the feature `verbs`"))
    }

    pub(crate) fn reaches(_: &Card, _: &Card) -> bool {
        false
    }
}
