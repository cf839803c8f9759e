//! What a host's graph says of it, as a cluster needs it.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use super::{Member, MergeError};
use crate::cluster::{MOST_DEVICES, small};
use crate::fabric::guid;
use crate::{Graph, HostKind, Kind, LinkKind, NodeId, PathType, Pool, Reach, Source, usual};

/// Ports that are so much narrower than a host's widest are for management.
const NARROW: f64 = 1.0 / 4.0;
/// Attributes that name a port or its adapter for good.
const GUIDS: [&str; 5] = ["guid", "port_guid", "node_guid", "GUID", "NodeGUID"];

/// The hosts of a cluster.
pub(super) struct Hosts {
    pub(super) hosts: Vec<Described>,
    pub(super) kinds: Vec<HostKind>,
}

/// A host.
pub(super) struct Described {
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) ports: Vec<HostPort>,
    /// Per device the nearest port; empty when there is none.
    pub(super) nearest: Vec<u32>,
}

/// A port as its host knows it.
pub(super) struct HostPort {
    pub(super) guids: Vec<String>,
    /// Its number on its adapter, from 0.
    pub(super) number: usize,
    pub(super) gb_per_s: f64,
    pub(super) source: Source,
}

/// Where ranks are on their hosts.
pub(super) struct Places {
    /// Per rank.
    pub(super) of: Vec<Place>,
    /// Per host.
    sorts: Vec<Sort>,
}

pub(super) struct Place {
    pub(super) device: u32,
}

/// What the ranks of a host are on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Sort {
    Accelerators,
    /// On its processors, so many.
    Processors(u32),
}

/// Checks where ranks are, and counts the devices of each host.
pub(super) fn places(hosts: &[Graph], members: &[Member]) -> Result<Places, MergeError> {
    let devices: Vec<HashMap<NodeId, u32>> =
        hosts.iter().map(|graph| accelerators(graph).into_iter().zip(0..).collect()).collect();
    let mut sorts: Vec<Option<Sort>> = vec![None; hosts.len()];
    let mut of = Vec::with_capacity(members.len());
    for (rank, member) in (0..).zip(members) {
        let place = member.host as usize;
        let Some(sort) = sorts.get_mut(place) else {
            return Err(MergeError::NoHost { rank, host: member.host, hosts: small(hosts.len()) });
        };
        let device = match (member.device, &mut *sort) {
            (Some(_), Some(Sort::Processors(_))) | (None, Some(Sort::Accelerators)) => {
                return Err(MergeError::Mixed { rank });
            }
            (Some(id), sort) => {
                *sort = Some(Sort::Accelerators);
                *devices[place].get(&id).ok_or(MergeError::NoDevice { rank, device: id.0 })?
            }
            (None, Some(Sort::Processors(count))) => {
                *count += 1;
                *count - 1
            }
            (None, sort @ None) => {
                *sort = Some(Sort::Processors(1));
                0
            }
        };
        of.push(Place { device });
    }
    if of.is_empty() {
        return Err(MergeError::NoRank);
    }
    Ok(Places {
        of,
        sorts: sorts.into_iter().map(|sort| sort.unwrap_or(Sort::Processors(1))).collect(),
    })
}

/// Describes all hosts; those that are alike share a kind.
pub(super) fn describe(hosts: &[Graph], places: &Places) -> Result<Hosts, MergeError> {
    let mut kinds: Vec<HostKind> = Vec::new();
    // What is found out of a graph holds for all that differ in names only.
    let mut known: HashMap<(u64, Sort), (u32, Vec<u32>)> = HashMap::new();
    let mut described = Vec::with_capacity(hosts.len());
    for (graph, sort) in hosts.iter().zip(&places.sorts) {
        let ports = ports(graph);
        let key = (fingerprint(graph), *sort);
        let (kind, nearest) = match known.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                kinds.push(kind(graph, *sort, ports.len())?);
                new.insert((small(kinds.len() - 1), nearest(graph, *sort, &ports)))
            }
        };
        let name = graph
            .nodes()
            .find(|(_, node)| node.kind == Kind::Host)
            .map(|(_, node)| node.name.clone());
        described.push(Described {
            name: name.unwrap_or_default(),
            kind: *kind,
            nearest: nearest.clone(),
            ports: ports.iter().map(|id| port(graph, *id)).collect(),
        });
    }
    Ok(Hosts { hosts: described, kinds })
}

/// The pools that hosts say they reach: those of one name are one.
pub(super) fn pools(hosts: &[Graph]) -> Vec<Pool> {
    let mut pools: BTreeMap<String, Pool> = BTreeMap::new();
    for (number, graph) in (0..).zip(hosts) {
        for (id, node) in graph.nodes().filter(|(_, node)| node.kind == Kind::Pool) {
            let name = node.attribute("serial").unwrap_or(&node.name);
            let link =
                graph.links_of(id).map(|(link, _)| link).find(|link| link.kind == LinkKind::Cxl);
            let bytes = node.attribute("size").and_then(|size| size.parse().ok());
            let pool = pools.entry(name.to_owned()).or_insert_with(|| Pool {
                name: node.name.clone(),
                hosts: Box::default(),
                gb_per_s: link.map_or(usual::POOL_GB_PER_S, |link| link.gb_per_s),
                latency_ns: link.map_or(usual::POOL_NS, |link| link.latency_ns),
                bytes: bytes.unwrap_or(usual::POOL_BYTES),
            });
            let mut reached = std::mem::take(&mut pool.hosts).into_vec();
            reached.push(number);
            reached.dedup();
            pool.hosts = reached.into();
        }
    }
    pools.into_values().collect()
}

fn accelerators(graph: &Graph) -> Vec<NodeId> {
    graph.nodes().filter(|(_, node)| node.kind == Kind::Accelerator).map(|(id, _)| id).collect()
}

/// The ports that data can go through: of each adapter its ports, or itself where it names none; without those that are
/// much narrower than the widest.
fn ports(graph: &Graph) -> Vec<NodeId> {
    let has_port = |id| graph.children(id).any(|child| graph.node(child).kind == Kind::Port);
    let all: Vec<NodeId> = graph
        .nodes()
        .filter(|(id, node)| node.kind == Kind::Port || node.kind == Kind::Nic && !has_port(*id))
        .map(|(id, _)| id)
        .collect();
    let width = |id: &NodeId| port(graph, *id).gb_per_s;
    let widest = all.iter().map(width).fold(0.0, f64::max);
    all.into_iter().filter(|id| width(id) >= NARROW * widest).collect()
}

fn port(graph: &Graph, id: NodeId) -> HostPort {
    let link = graph.link_up(id).filter(|_| graph.node(id).kind == Kind::Port);
    let (gb_per_s, source) =
        link.map_or((usual::PORT_GBPS / 8.0, Source::Default), |link| (link.gb_per_s, link.source));
    let parent = graph.parent(id).filter(|parent| graph.node(*parent).kind == Kind::Nic);
    let siblings = parent.into_iter().flat_map(|parent| graph.children(parent));
    let number = siblings
        .filter(|sibling| graph.node(*sibling).kind == Kind::Port)
        .position(|sibling| sibling == id);
    let nodes = [Some(id), parent].into_iter().flatten();
    let guids = nodes
        .flat_map(|id| GUIDS.iter().filter_map(move |name| guid(graph.node(id).attribute(name)?)));
    HostPort { guids: guids.collect(), number: number.unwrap_or_default(), gb_per_s, source }
}

/// What is alike in graphs that differ in names and numbers only.
fn fingerprint(graph: &Graph) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (id, node) in graph.nodes() {
        (node.kind, graph.parent(id)).hash(&mut hasher);
    }
    for (_, link) in graph.links() {
        (link.ends, link.kind, link.source).hash(&mut hasher);
        (link.gb_per_s.to_bits(), link.latency_ns.to_bits()).hash(&mut hasher);
    }
    hasher.finish()
}

fn kind(graph: &Graph, sort: Sort, ports: usize) -> Result<HostKind, MergeError> {
    let devices = accelerators(graph);
    let (count, word) = match sort {
        Sort::Accelerators => (devices.len(), "npu"),
        Sort::Processors(ranks) => (ranks as usize, "cpu"),
    };
    if count > MOST_DEVICES as usize {
        return Err(MergeError::TooMany { count, most: MOST_DEVICES });
    }
    let name = match ports {
        0 => format!("{count} {word}"),
        ports => format!("{count} {word} + {ports} nic"),
    };
    let cores = cores(graph).unwrap_or_else(|| usual::CORES.max(small(count)));
    let mut kind = HostKind::of_processors(name, small(count), cores);
    if sort == Sort::Accelerators {
        kind.reach = devices.iter().flat_map(|from| reaches(graph, *from, &devices)).collect();
        kind.device_gb_per_s = devices.iter().map(|device| injection(graph, *device)).collect();
    }
    Ok(kind)
}

/// Cores, where the packages say how many they have.
fn cores(graph: &Graph) -> Option<u32> {
    let said = |(_, node): (NodeId, &crate::Node)| node.attribute("cores")?.parse::<u32>().ok();
    let cores: u32 = graph.nodes().filter_map(said).sum();
    (cores > 0).then_some(cores)
}

/// How a device reaches all devices of its host.
fn reaches(graph: &Graph, from: NodeId, devices: &[NodeId]) -> Vec<Reach> {
    let routes = graph.routes(from);
    let reach = |to: &NodeId| match routes.to(*to) {
        Some(route) => Reach {
            path: route.path.name(),
            gb_per_s: route.gb_per_s,
            latency_ns: route.latency_ns,
            source: route.source,
        },
        // Nothing that is described joins them; by way of the processor everything can be reached.
        None => Reach {
            path: PathType::Sys.name(),
            gb_per_s: usual::SOCKET_GB_PER_S,
            latency_ns: usual::PCIE_NS + usual::SOCKET_NS,
            source: Source::Default,
        },
    };
    devices.iter().map(reach).collect()
}

/// All that a device can send to others of its host: its own links to accelerators together, or its way to the processor.
fn injection(graph: &Graph, device: NodeId) -> f64 {
    let own = graph.links_of(device).filter(|(link, _)| link.kind == LinkKind::Accelerator);
    let own: f64 = own.map(|(link, _)| link.gb_per_s).sum();
    let up = graph.link_up(device).map_or(usual::PCIE_GB_PER_S, |link| link.gb_per_s);
    if own > 0.0 { own } else { up }
}

/// Per device the nearest port. Devices that are equally near to the same ports share them evenly.
fn nearest(graph: &Graph, sort: Sort, ports: &[NodeId]) -> Vec<u32> {
    if ports.is_empty() {
        return Vec::new();
    }
    let near: Vec<Vec<usize>> = match sort {
        Sort::Processors(ranks) => vec![(0..ports.len()).collect(); ranks as usize],
        Sort::Accelerators => {
            accelerators(graph).iter().map(|device| near(graph, *device, ports)).collect()
        }
    };
    let mut mates: HashMap<&[usize], usize> = HashMap::new();
    for ports in &near {
        *mates.entry(ports).or_default() += 1;
    }
    let mut before: HashMap<&[usize], usize> = HashMap::new();
    near.iter()
        .map(|ports| {
            let place = before.entry(ports).or_default();
            *place += 1;
            small(ports[(*place - 1) * ports.len() / mates[&**ports]])
        })
        .collect()
}

/// The ports that are nearest to a device; all when it reaches none.
fn near(graph: &Graph, device: NodeId, ports: &[NodeId]) -> Vec<usize> {
    let routes = graph.routes(device);
    let found: Vec<_> = ports
        .iter()
        .enumerate()
        .filter_map(|(number, port)| routes.to(*port).map(|route| (number, route)))
        .map(|(number, route)| (number, (route.path, -route.gb_per_s)))
        .collect();
    let best =
        found.iter().map(|(_, key)| *key).min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let Some(best) = best else { return (0..ports.len()).collect() };
    found.into_iter().filter(|(_, key)| *key == best).map(|(number, _)| number).collect()
}

/// Makes devices of a host reach each other as accelerators below one host bridge do.
pub(super) fn over_pcie(kind: &mut HostKind) {
    for (number, reach) in kind.reach.iter_mut().enumerate() {
        let same = number % (kind.devices as usize + 1) == 0;
        *reach = Reach {
            path: if same { PathType::Loc.name() } else { PathType::Phb.name() },
            gb_per_s: if same { usual::LOCAL_GB_PER_S } else { usual::PCIE_GB_PER_S },
            latency_ns: if same { 0.0 } else { usual::PCIE_NS },
            source: Source::Default,
        };
    }
    kind.device_gb_per_s.fill(usual::PCIE_GB_PER_S);
}
