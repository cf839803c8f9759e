//! Layouts on the command line: where ranks are that a prediction is about.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use dure::Config;
use dure_sim::{Profile, Wires};
use dure_topology::fabric::Warning;
use dure_topology::{Cluster, Format, Graph, Kind, Member, MergeError, NodeId};

use crate::output::{Failure, complain};

/// A layout, and what predictions on it rest on.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Layout {
    /// Where ranks are, as "64 rack * 4 host * (8 npu + 8 nic)" or "fattree levels=3 over=2 / 1280 host * (8 npu + 8 nic)",
    /// or a file with that or with a topology.
    #[arg(long, value_name = "TEXT or FILE")]
    layout: Option<String>,
    /// So many ranks on the processors of this host.
    #[arg(long, value_name = "N", conflicts_with = "layout", value_parser = clap::value_parser!(u32).range(1..=4096))]
    local: Option<u32>,
    /// Transports that may be used: pool, npu, cxl, rdma, tcp; with ^ in front all but these.
    #[arg(long, value_name = "LIST")]
    transport: Option<String>,
    /// A profile: what messages and work cost, as measured.
    #[arg(long, value_name = "FILE.json")]
    profile: Option<PathBuf>,
}

impl Layout {
    /// Whether the command line has one.
    pub(crate) fn is_given(&self) -> bool {
        self.layout.is_some() || self.local.is_some()
    }

    /// How many ranks are on this host, if `--local` says it.
    pub(crate) fn local(&self) -> Option<u32> {
        self.local
    }

    /// The list of transports, if it was given.
    pub(crate) fn transport(&self) -> Option<&str> {
        self.transport.as_deref()
    }

    /// The cluster; without its pools where no message may go through them.
    pub(crate) fn cluster(&self) -> Result<Cluster, Failure> {
        let cluster = self.whole()?;
        if self.allows("cxl")? {
            return Ok(cluster);
        }
        Ok(Cluster { pools: Box::default(), ..cluster })
    }

    fn whole(&self) -> Result<Cluster, Failure> {
        match (&self.layout, self.local) {
            (Some(layout), _) => read(layout),
            (None, Some(ranks)) => {
                let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                Ok(Cluster::local(ranks, u32::try_from(cores).unwrap_or(u32::MAX)))
            }
            (None, None) => Err(Failure::Usage(
                "where are the ranks? (--layout TEXT or FILE, or --local N)".to_owned(),
            )),
        }
    }

    /// What predictions rest on: the profile that was given, or what is usual for the transports.
    pub(crate) fn profile(&self, cluster: &Cluster) -> Result<Arc<Profile>, Failure> {
        if let Some(path) = &self.profile {
            let text = fs::read_to_string(path)
                .map_err(|source| Failure::system(path.display().to_string(), source))?;
            let profile = Profile::from_json(&text)
                .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            return Ok(Arc::new(profile));
        }
        let wires = Wires { shared_memory: self.allows("pool")?, rdma: self.allows("rdma")? };
        Ok(Profile::usual(cluster, wires))
    }

    /// Whether a transport may be used.
    fn allows(&self, name: &str) -> Result<bool, Failure> {
        let Config { transport, .. } =
            Config::from_pairs([("DURE_TRANSPORT", self.transport().unwrap_or_default())])?;
        Ok(transport.allows(name))
    }
}

/// A layout, or the file that has one: as text, or as a topology, whose ranks are then on the devices or ports that it has.
fn read(layout: &str) -> Result<Cluster, Failure> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| Failure::Usage(format!("{what}: {error}"));
    let Ok(text) = fs::read_to_string(layout) else {
        return Cluster::synthetic(layout).map_err(|error| wrong("--layout", &error));
    };
    let Ok((graph, format)) = Graph::read(&text) else {
        // Most likely a layout, then: its error says more.
        return Cluster::synthetic(&text).map_err(|error| wrong(layout, &error));
    };
    let cluster = match format {
        Format::Fabric(_) => Cluster::of_fabric(&graph),
        _ => of_host(graph),
    };
    let (cluster, warnings) = cluster.map_err(|error| wrong(layout, &error))?;
    for warning in warnings {
        complain(&format!("{layout}: {}", warning.what));
    }
    Ok(cluster)
}

/// A rank on each accelerator of a host; on one without, one on its processors.
fn of_host(graph: Graph) -> Result<(Cluster, Vec<Warning>), MergeError> {
    let devices: Vec<NodeId> = graph
        .nodes()
        .filter(|(_, node)| node.kind == Kind::Accelerator)
        .map(|(device, _)| device)
        .collect();
    let members: Vec<Member> = if devices.is_empty() {
        vec![Member { host: 0, device: None }]
    } else {
        devices.into_iter().map(|device| Member { host: 0, device: Some(device) }).collect()
    };
    Cluster::of(&[graph], &members, None)
}
