//! The planner of a communicator: what its ranks told each other of their hosts, and the files that its settings name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Instant;

use dure_exec::Settings;
use dure_pool::cxl::{MOST_DEVICES, Place};
use dure_sim::{Options, Profile, Wires};
use dure_topology::{Cluster, Graph, Pool};

use super::{Planner, Quarantine};
use crate::bootstrap::wire::Member;
use crate::config::{AlgorithmRules, Config};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::hardware;
use crate::net::{POOL, RDMA, hosts, place};

/// What predicts the times of calls among the members. Collective, when there are several hosts: the first rank of each
/// tells the others what its host is like.
pub(crate) fn planner(
    config: &Config,
    (members, rank): (&[Member], u32),
    control: Option<&Control>,
    settings: Settings,
) -> Result<Arc<Planner>> {
    if members.len() == 1 && config.algo == AlgorithmRules::default() && config.quarantine.is_none()
    {
        return Ok(alone());
    }
    let host_of = hosts(members);
    let fabric = config
        .topo_file
        .as_deref()
        .map(|path| load(path, "topology", |text| Graph::read(text).map(|read| read.0)));
    let told = match control {
        Some(control) if host_of.iter().any(|host| *host > 0) => {
            tell(config, control, (&host_of, rank))?
        }
        _ => Vec::new(),
    };
    // Whatever pools there are, messages go through those that the ranks are members of.
    let cluster = Cluster {
        pools: pools(members, &host_of),
        ..cluster(members, &host_of, &told, fabric.transpose()?.as_ref())
    };
    let allows = |name| config.transport.allows(name);
    let wires = Wires {
        shared_memory: allows(POOL),
        rdma: allows(RDMA) && members.iter().all(|member| member.offer(RDMA).is_some()),
    };
    let profile = match config.profile.as_deref() {
        Some(path) => Arc::new(load(path, "profile", Profile::from_json)?),
        None => Profile::usual(&cluster, wires),
    };
    let quarantine = match config.quarantine.as_deref() {
        Some(path) => load(path, "quarantine", str::parse)?,
        None => Quarantine::default(),
    };
    let options = Options {
        slots: settings.slots,
        slot_bytes: settings.slot_bytes,
        ..super::options(cluster.size())
    };
    tracing::debug!(target: "dure::topo", "{cluster}");
    let planner = Planner::new(&cluster, settings.lanes, profile, options).map_err(|error| {
        Error::internal("the cost model refuses the ranks' layout").because(error)
    })?;
    Ok(Arc::new(planner.restricted(config.algo.clone(), quarantine)))
}

/// The planner of ranks without peers, one for all of them: they have nothing to choose.
fn alone() -> Arc<Planner> {
    static ALONE: LazyLock<Arc<Planner>> = LazyLock::new(|| {
        let planner = Planner::new(&Cluster::local(1, 1), 1, Arc::default(), super::options(1));
        Arc::new(planner.expect("one rank on one host is a cluster"))
    });
    Arc::clone(&ALONE)
}

/// Reads a file that a setting names.
fn load<T, E: Display>(
    path: &Path,
    what: &str,
    read: impl FnOnce(&str) -> std::result::Result<T, E>,
) -> Result<T> {
    let refuse =
        |why: String| Error::invalid_argument(format!("{what} file {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    read(&text).map_err(|error| refuse(error.to_string()))
}

/// The devices of the pools that members of several hosts use.
fn pools(members: &[Member], host_of: &[u32]) -> Box<[Pool]> {
    let mut users: BTreeMap<Place, Vec<u32>> = BTreeMap::new();
    for (member, host) in members.iter().zip(host_of) {
        let hosts = place(member).map(|place| users.entry(place).or_default());
        if let Some(hosts) = hosts.filter(|hosts| !hosts.contains(host)) {
            hosts.push(*host);
        }
    }
    let shared = (0..).zip(users).filter(|(_, (_, hosts))| hosts.len() > 1);
    let devices = shared.flat_map(|(number, (place, hosts))| {
        let devices = place.devices.min(MOST_DEVICES as u64);
        (0..devices).map(move |device| {
            Pool::usual(format!("device {device} of pool {number}"), hosts.clone().into())
        })
    });
    devices.collect()
}

/// What the hosts are like, as XML, by the first rank of each; in the order of hosts.
fn tell(
    config: &Config,
    control: &Control,
    (host_of, rank): (&[u32], u32),
) -> Result<Vec<Vec<u8>>> {
    let mut next = 0;
    let first_of_its_host = |host: &u32| {
        let is_new = *host == next;
        next += u32::from(is_new);
        is_new
    };
    let firsts: Vec<bool> = host_of.iter().map(first_of_its_host).collect();
    let mine = if firsts[rank as usize] { this_host() } else { "" };
    let all = control.all_gather(mine.as_bytes(), Instant::now() + config.timeout)?;
    Ok(all.into_iter().zip(firsts).filter(|(_, first)| *first).map(|(xml, _)| xml).collect())
}

/// This host, as XML; empty when it cannot be looked at.
fn this_host() -> &'static str {
    static XML: OnceLock<String> = OnceLock::new();
    XML.get_or_init(|| match Graph::discover(Path::new("/")) {
        Ok(graph) => graph.to_xml(),
        Err(error) => {
            tracing::warn!(target: "dure::topo", %error, "this host's topology is unknown");
            String::new()
        }
    })
}

/// The cluster of the members. Where a host is not described, its ranks' cores are all that is known.
fn cluster(
    members: &[Member],
    host_of: &[u32],
    told: &[Vec<u8>],
    fabric: Option<&Graph>,
) -> Cluster {
    let plain = hardware::cluster(members, host_of);
    let graphs: Option<Vec<Graph>> =
        told.iter().map(|xml| Some(Graph::read(std::str::from_utf8(xml).ok()?).ok()?.0)).collect();
    let Some(graphs) = graphs.filter(|graphs| !graphs.is_empty()) else { return plain };
    let places: Vec<_> =
        host_of.iter().map(|host| dure_topology::Member { host: *host, device: None }).collect();
    match Cluster::of(&graphs, &places, fabric) {
        Ok((cluster, warnings)) => {
            for warning in warnings {
                tracing::info!(target: "dure::topo", "{}", warning.what);
            }
            cluster.with_cores_of(&plain)
        }
        Err(error) => {
            tracing::warn!(target: "dure::topo", %error, "the hosts' descriptions make no cluster: they count as alike");
            plain
        }
    }
}
