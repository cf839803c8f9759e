//! A cluster from what hosts say of themselves and what describes the fabric between them.

mod host;

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use self::host::Described;
use crate::cluster::small;
use crate::fabric::rails::Rails;
use crate::fabric::tiers::{End, Tiers};
use crate::fabric::{Warning, guid};
use crate::{
    Cluster, Graph, Group, HostKind, Kind, Level, LinkKind, NodeId, Pool, Port, Site, Source, usual,
};

/// Where a rank is, by the description of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its host: an index into the descriptions.
    pub host: u32,
    /// Its accelerator in this description; none for a rank on the processors.
    pub device: Option<NodeId>,
}

/// Why hosts and a fabric make no cluster.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeError {
    /// There is no rank.
    #[error("a cluster has one rank at least")]
    NoRank,
    /// A rank is on a host that there is no description of.
    #[error("rank {rank} is on host {host} of {hosts} that are described")]
    NoHost {
        /// The rank.
        rank: u32,
        /// Its host.
        host: u32,
        /// How many there are.
        hosts: u32,
    },
    /// The description of a rank's host has no such accelerator.
    #[error("rank {rank}: node {device} of its host is no accelerator")]
    NoDevice {
        /// The rank.
        rank: u32,
        /// Its device.
        device: u32,
    },
    /// Of a host's ranks some are on accelerators and some on processors.
    #[error("rank {rank}: of a host's ranks either all are on accelerators or none")]
    Mixed {
        /// The first rank that differs from those before it.
        rank: u32,
    },
    /// A host has more devices than a table of all pairs is made for.
    #[error("a host with {count} devices or ranks, at most {most}")]
    TooMany {
        /// How many.
        count: usize,
        /// How many there may be.
        most: u32,
    },
    /// No host hangs on any switch.
    #[error("the fabric has no host on any switch")]
    Bare,
}

impl Cluster {
    /// Merges the descriptions of hosts with that of the fabric between them. Adapters are found in the fabric by their
    /// GUIDs, or where none fits by the host's name. Without a fabric one ideal switch joins all ports.
    ///
    /// Hosts that are alike share a kind. Equal inputs give equal clusters, on every rank.
    ///
    /// # Errors
    ///
    /// A rank is where nothing is described, or the fabric joins no host. What only does not fit is a warning.
    pub fn of(
        hosts: &[Graph],
        members: &[Member],
        fabric: Option<&Graph>,
    ) -> Result<(Self, Vec<Warning>), MergeError> {
        let places = host::places(hosts, members)?;
        let described = host::describe(hosts, &places)?;
        let fabric = fabric.map(|fabric| Fabric::of(fabric).ok_or(MergeError::Bare)).transpose()?;
        let mut merge = Merge {
            warnings: Vec::new(),
            ports: Vec::new(),
            port_of: Vec::new(),
            lost: BTreeMap::new(),
        };
        for (number, host) in (0..).zip(&described.hosts) {
            merge.host(number, host, fabric.as_ref());
        }
        merge.report(&described);
        let ranks = members.iter().zip(&places.of).map(|(member, place)| {
            let host = &described.hosts[member.host as usize];
            let nearest = host.nearest.get(place.device as usize);
            let port = nearest.and_then(|port| merge.port_of[member.host as usize][*port as usize]);
            // A port that the fabric does not know is none: the first that it knows takes its place.
            let port = port
                .or_else(|| merge.port_of[member.host as usize].iter().flatten().next().copied());
            Site { host: member.host, device: place.device, port }
        });
        let mut cluster = Self {
            ranks: ranks.collect(),
            hosts: described.hosts.iter().map(|host| host.kind).collect(),
            names: described.hosts.iter().map(|host| host.name.clone()).collect(),
            kinds: described.kinds.into(),
            ports: merge.ports.into(),
            levels: Box::default(),
            pools: Box::default(),
        };
        let mut pools = host::pools(hosts);
        if let Some(fabric) = &fabric {
            cluster.levels = fabric.levels(&mut cluster.ports);
            let numbers =
                (0..).zip(&cluster.names).map(|(number, name)| (short(name), number)).collect();
            pools.extend(fabric.pools(&numbers));
            merge.warnings.extend(
                fabric.tiers.notes.iter().map(|note| Warning { line: 0, what: note.clone() }),
            );
        }
        cluster.pools = pools.into();
        Ok((cluster, merge.warnings))
    }

    /// The cluster of a fabric whose hosts nobody described: a rank on each port of each host. What a host is inside is
    /// then not known; its ports reach each other as accelerators over PCIe do.
    ///
    /// # Errors
    ///
    /// The fabric joins no host.
    pub fn of_fabric(graph: &Graph) -> Result<(Self, Vec<Warning>), MergeError> {
        let fabric = Fabric::of(graph).ok_or(MergeError::Bare)?;
        let mut numbers: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (number, end) in fabric.tiers.ends.iter().enumerate() {
            numbers.entry(end.host).or_default().push(number);
        }
        let mut widths: BTreeMap<usize, u32> = BTreeMap::new();
        let mut cluster = Self {
            ranks: Box::default(),
            hosts: Box::default(),
            names: Box::default(),
            kinds: Box::default(),
            ports: Box::default(),
            levels: Box::default(),
            pools: Box::default(),
        };
        let (mut ranks, mut hosts, mut names, mut kinds, mut ports) =
            (vec![], vec![], vec![], vec![], vec![]);
        for (host, (id, ends)) in (0..).zip(&numbers) {
            let width = small(ends.len());
            if width > crate::cluster::MOST_DEVICES {
                return Err(MergeError::TooMany {
                    count: ends.len(),
                    most: crate::cluster::MOST_DEVICES,
                });
            }
            hosts.push(*widths.entry(ends.len()).or_insert_with(|| {
                kinds.push(HostKind::unknown(width));
                small(kinds.len() - 1)
            }));
            names.push(graph.node(*id).name.clone());
            for (device, number) in (0..).zip(ends) {
                ranks.push(Site { host, device, port: Some(small(ports.len())) });
                ports.push(fabric.port(host, *number));
            }
        }
        cluster.levels = fabric.levels(&mut ports);
        let by_name = (0..).zip(&names).map(|(number, name)| (short(name), number)).collect();
        cluster.pools = fabric.pools(&by_name).into();
        (cluster.ranks, cluster.hosts, cluster.names) = (ranks.into(), hosts.into(), names.into());
        (cluster.kinds, cluster.ports) = (kinds.into(), ports.into());
        let notes = fabric.tiers.notes.into_iter().map(|what| Warning { line: 0, what });
        Ok((cluster, notes.collect()))
    }
}

/// The ports of hosts while they are found in the fabric.
struct Merge {
    warnings: Vec<Warning>,
    ports: Vec<Port>,
    /// Per host and port of it, the port of the cluster; none when the fabric does not know it.
    port_of: Vec<Vec<Option<u32>>>,
    /// Hosts that the fabric does not know, or not wholly: how many ports it lacks of how many.
    lost: BTreeMap<u32, [usize; 2]>,
}

impl Merge {
    fn host(&mut self, number: u32, host: &Described, fabric: Option<&Fabric<'_>>) {
        let found = fabric.map(|fabric| fabric.find(host));
        let mut port_of = Vec::with_capacity(host.ports.len());
        for (rail, port) in (0..).zip(&host.ports) {
            let made = match (&found, fabric) {
                (Some(found), Some(fabric)) => {
                    found[rail as usize].map(|end| fabric.port(number, end))
                }
                _ => Some(Port {
                    host: number,
                    rail,
                    group: 0,
                    gb_per_s: port.gb_per_s,
                    source: port.source,
                }),
            };
            port_of.push(made.map(|mut made| {
                // What the host knows of its own port is never wider than the port.
                if port.source > Source::Default && port.gb_per_s < made.gb_per_s {
                    made.gb_per_s = port.gb_per_s;
                }
                self.ports.push(made);
                small(self.ports.len() - 1)
            }));
        }
        let lost = port_of.iter().filter(|port| port.is_none()).count();
        if lost > 0 {
            self.lost.insert(number, [lost, port_of.len()]);
        }
        // A host that the fabric does not know at all is joined at the top.
        if let Some(fabric) = fabric.filter(|_| lost == port_of.len()) {
            for (rail, (port, place)) in (0..).zip(host.ports.iter().zip(&mut port_of)) {
                *place = Some(small(self.ports.len()));
                let group = small(fabric.tiers.tiers[0].groups.len());
                self.ports.push(Port {
                    host: number,
                    rail,
                    group,
                    gb_per_s: port.gb_per_s,
                    source: port.source,
                });
            }
        }
        self.port_of.push(port_of);
    }

    fn report(&mut self, described: &host::Hosts) {
        let mut warn = |what: String| self.warnings.push(Warning { line: 0, what });
        let whole = self.lost.iter().filter(|(_, [lost, all])| lost == all);
        let names: Vec<&str> =
            whole.map(|(host, _)| &*described.hosts[*host as usize].name).collect();
        if let Some(first) = names.first() {
            warn(format!(
                "{} of the hosts are not in the fabric, {first} first: taken as joined at its top",
                names.len()
            ));
        }
        let parts = self.lost.iter().filter(|(_, [lost, all])| lost < all);
        for (host, [lost, all]) in parts {
            let name = &described.hosts[*host as usize].name;
            warn(format!(
                "{lost} of {all} ports of {name} are not in the fabric: they are not used"
            ));
        }
    }
}

/// A fabric, ready to look adapters up in it.
struct Fabric<'g> {
    graph: &'g Graph,
    tiers: Tiers,
    rails: Rails,
    /// Ends by the GUIDs of their ports and adapters.
    by_guid: HashMap<String, Vec<usize>>,
    /// Ends by the short names of their hosts.
    by_name: HashMap<String, Vec<usize>>,
}

impl<'g> Fabric<'g> {
    fn of(graph: &'g Graph) -> Option<Self> {
        let tiers = Tiers::of(graph)?;
        let rails = Rails::of(graph, &tiers);
        let mut by_guid: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, end) in tiers.ends.iter().enumerate() {
            let nodes = [Some(end.node), graph.parent(end.node)];
            let mut known: Vec<String> = nodes
                .into_iter()
                .flatten()
                .filter_map(|id| guid(graph.node(id).attribute("guid")?))
                .collect();
            known.dedup();
            for guid in known {
                by_guid.entry(guid).or_default().push(number);
            }
            if graph.node(end.host).kind == Kind::Host {
                by_name.entry(short(&graph.node(end.host).name)).or_default().push(number);
            }
        }
        Some(Self { graph, tiers, rails, by_guid, by_name })
    }

    /// Per port of a host the end that it is: by GUID, else by the host's name and the ports' order.
    fn find(&self, host: &Described) -> Vec<Option<usize>> {
        let mut found: Vec<Option<usize>> = vec![None; host.ports.len()];
        for (place, port) in found.iter_mut().zip(&host.ports) {
            let ends = port.guids.iter().find_map(|guid| self.by_guid.get(guid));
            // An adapter has one GUID and several ports: the port's number says which.
            *place = ends.and_then(|ends| ends.get(port.number.min(ends.len() - 1)).copied());
        }
        if found.iter().all(Option::is_none)
            && let Some(ends) = self.by_name.get(&short(&host.name))
        {
            for (place, end) in found.iter_mut().zip(ends) {
                *place = Some(*end);
            }
        }
        found
    }

    fn port(&self, host: u32, end: usize) -> Port {
        let End { group, gb_per_s, source, .. } = self.tiers.ends[end];
        Port { host, rail: self.rails.of[end], group, gb_per_s, source }
    }

    /// The levels. Where a source says nothing of a way up, as much goes up as comes from below. Ports of hosts that are
    /// in no group get groups of their own, one a host, up to the top.
    fn levels(&self, ports: &mut [Port]) -> Box<[Level]> {
        let tiers = &self.tiers.tiers;
        let mut levels: Vec<Level> = tiers
            .iter()
            .map(|tier| Level {
                name: tier.name.clone(),
                groups: tier
                    .groups
                    .iter()
                    .map(|group| Group {
                        name: group.name.clone(),
                        parent: group.parent,
                        up_gb_per_s: group.up_gb_per_s,
                        source: group.source,
                    })
                    .collect(),
                latency_ns: usual::SWITCH_NS,
            })
            .collect();
        strangers(&mut levels, ports);
        let mut below = vec![0.0; levels[0].groups.len()];
        for port in ports {
            below[port.group as usize] += port.gb_per_s;
        }
        for level in 0..levels.len() - 1 {
            let mut above = vec![0.0; levels[level + 1].groups.len()];
            for (group, below) in levels[level].groups.iter_mut().zip(&below) {
                if group.source == Source::Default || group.up_gb_per_s.is_infinite() {
                    group.up_gb_per_s = *below;
                }
                above[group.parent as usize] += group.up_gb_per_s;
            }
            below = above;
        }
        levels.into()
    }

    /// The pools that the fabric's description names, with the hosts of a cluster by their short names.
    fn pools(&self, hosts: &HashMap<String, u32>) -> Vec<Pool> {
        let pools = self.graph.nodes().filter(|(_, node)| node.kind == Kind::Pool);
        pools
            .map(|(id, node)| {
                let links = self.graph.links_of(id).filter(|(link, _)| link.kind == LinkKind::Cxl);
                let mut gb_per_s = usual::POOL_GB_PER_S;
                let mut reached = Vec::new();
                for (link, host) in links {
                    gb_per_s = link.gb_per_s;
                    reached.extend(hosts.get(&short(&self.graph.node(host).name)));
                }
                reached.sort_unstable();
                reached.dedup();
                Pool {
                    name: node.name.clone(),
                    hosts: reached.into(),
                    gb_per_s,
                    latency_ns: usual::POOL_NS,
                    bytes: usual::POOL_BYTES,
                }
            })
            .collect()
    }
}

/// Gives groups to ports that are in none: per host one on each level but the highest.
fn strangers(levels: &mut [Level], ports: &mut [Port]) {
    let known = small(levels[0].groups.len());
    let mut group_of: BTreeMap<u32, u32> = BTreeMap::new();
    for port in ports.iter_mut().filter(|port| port.group >= known) {
        let next = known + small(group_of.len());
        port.group = *group_of.entry(port.host).or_insert(next);
    }
    let last = levels.len() - 1;
    if last == 0 && !group_of.is_empty() {
        // One leaf is all that there is: they are on it.
        ports.iter_mut().filter(|port| port.group >= known).for_each(|port| port.group = 0);
        return;
    }
    for level in 0..last {
        let above = small(levels[level + 1].groups.len());
        let mut groups = std::mem::take(&mut levels[level].groups).into_vec();
        for (number, host) in (0..).zip(group_of.keys()) {
            groups.push(Group {
                name: format!("host {host}"),
                parent: if level + 1 == last { 0 } else { above + number },
                up_gb_per_s: f64::INFINITY,
                source: Source::Default,
            });
        }
        levels[level].groups = groups.into();
    }
}

/// A host's name without its domain, in small letters.
fn short(name: &str) -> String {
    let name = name.strip_prefix("host ").unwrap_or(name);
    name.split_once('.').map_or(name, |(name, _)| name).to_ascii_lowercase()
}

impl HostKind {
    /// A host of which only the number of its ports is known.
    fn unknown(ports: u32) -> Self {
        let mut kind = Self::of_processors(format!("{ports} port"), ports, usual::CORES.max(ports));
        host::over_pcie(&mut kind);
        kind
    }
}
