//! A cluster as a cost model sees it: ranks on devices of hosts, ports to the fabric, and levels of groups above them.
//!
//! The fabric is a tree of groups: each port is in a group of level 0 (the ports of one leaf switch), each group of level
//! `k` in a group of level `k + 1`. What a group's switches have upwards is one number, the sum of their links: real
//! fabrics spread their traffic over them. Nothing here grows with the square of anything but a host's own devices.

use std::fmt::{self, Display};

use crate::graph::Source;
use crate::usual;

/// Where ranks are and what joins them.
///
/// All indices are good: whoever makes a cluster sees to it. The highest level, where there are levels, has one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Per rank, where it is.
    pub ranks: Box<[Site]>,
    /// Per host, its kind: an index into `kinds`.
    pub hosts: Box<[u32]>,
    /// The names of hosts, as many as `hosts`; empty where nobody named them.
    pub names: Box<[String]>,
    /// Hosts that differ.
    pub kinds: Box<[HostKind]>,
    /// All ports of all hosts, in the order of hosts.
    pub ports: Box<[Port]>,
    /// The fabric, from the leaves up; empty when one ideal switch joins all ports.
    pub levels: Box<[Level]>,
    /// Pools of memory that several hosts reach.
    pub pools: Box<[Pool]>,
}

/// Where a rank is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// Its host.
    pub host: u32,
    /// Its device, counted on its host: an index into [`HostKind::reach`]'s rows.
    pub device: u32,
    /// The port that is nearest to it: an index into [`Cluster::ports`]; none when its host has no port.
    pub port: Option<u32>,
}

/// Hosts that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct HostKind {
    /// What it is, for people: `8 npu + 8 nic`.
    pub name: String,
    /// Number of devices that ranks can be on.
    pub devices: u32,
    /// Cores of its processors that ranks may use, at least 1.
    pub cores: u32,
    /// Row by row, how device `a` reaches device `b`: `devices * devices` entries.
    pub reach: Box<[Reach]>,
    /// Per device, all that it sends to others of its host at a time, and as much that it receives: GB/s.
    pub device_gb_per_s: Box<[f64]>,
    /// All that goes through the host's memory shares this: GB/s.
    pub memory_gb_per_s: f64,
}

/// How two devices of a host reach each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// NCCL's name of such a path: `LOC` (a device and itself), `NVL`, `PIX`, `PXB`, `PHB`, `SYS`; and `SHM` between
    /// ranks on processors, also of one.
    pub path: &'static str,
    /// Bandwidth in one direction, GB/s.
    pub gb_per_s: f64,
    /// Latency, ns.
    pub latency_ns: f64,
    /// Where the bandwidth comes from.
    pub source: Source,
}

/// A port of a host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Port {
    /// Its host.
    pub host: u32,
    /// Its number on its host: ports of one rail have the same.
    pub rail: u32,
    /// Its group of level 0; 0 when there are no levels.
    pub group: u32,
    /// Bandwidth in one direction, GB/s.
    pub gb_per_s: f64,
    /// Where the bandwidth comes from.
    pub source: Source,
}

/// A level of the fabric.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// What its groups are, for people: `leaf`, `rack`, `pod`.
    pub name: String,
    /// Its groups.
    pub groups: Box<[Group]>,
    /// Time to cross a switch of this level and its cable, ns.
    pub latency_ns: f64,
}

/// What hangs on one switch, or on several that are joined alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name, for people.
    pub name: String,
    /// The group of the next level that it is in; 0 on the highest.
    pub parent: u32,
    /// Bandwidth up, all links together, in one direction, GB/s; infinite on the highest level.
    pub up_gb_per_s: f64,
    /// Where that comes from.
    pub source: Source,
}

/// A CXL pool device.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// The hosts that reach it.
    pub hosts: Box<[u32]>,
    /// Bandwidth of the device, GB/s.
    pub gb_per_s: f64,
    /// Latency of a load, ns.
    pub latency_ns: f64,
    /// Size in bytes.
    pub bytes: u64,
}

impl Pool {
    /// A device of which nothing is known but who reaches it; published figures stand for its own.
    pub fn usual(name: String, hosts: Box<[u32]>) -> Self {
        let (gb_per_s, latency_ns, bytes) =
            (usual::POOL_GB_PER_S, usual::POOL_NS, usual::POOL_BYTES);
        Self { name, hosts, gb_per_s, latency_ns, bytes }
    }
}

/// Most devices of a host: how each reaches each is a table.
pub(crate) const MOST_DEVICES: u32 = 1024;

impl Cluster {
    /// `ranks` ranks on the processors of one host, of which they may use `cores` cores. At least one of both.
    pub fn local(ranks: u32, cores: u32) -> Self {
        Self::of_processors(&vec![0; ranks.max(1) as usize], &[cores], None)
    }

    /// Ranks on the processors of hosts that one ideal switch joins: per rank its host, per host the cores that its ranks
    /// may use. Each host has one port, of `gb_per_s` GB/s or, where nobody knows, what is usual.
    ///
    /// # Panics
    /// When a rank is on a host that is not there.
    pub fn of_processors(host_of: &[u32], cores: &[u32], gb_per_s: Option<f64>) -> Self {
        let mut so_far = vec![0; cores.len()];
        let several = cores.len() > 1;
        let site = |host: &u32| {
            let device = so_far[*host as usize];
            so_far[*host as usize] += 1;
            Site { host: *host, device: device % MOST_DEVICES, port: several.then_some(*host) }
        };
        let ranks = host_of.iter().map(site).collect();
        let mut kinds: Vec<HostKind> = Vec::new();
        let hosts = cores.iter().zip(&so_far).map(|(cores, ranks)| {
            let (cores, devices) = ((*cores).max(1), (*ranks).clamp(1, MOST_DEVICES));
            let known =
                kinds.iter().position(|kind| (kind.cores, kind.devices) == (cores, devices));
            small(known.unwrap_or_else(|| {
                kinds.push(HostKind::of_processors(format!("{devices} cpu"), devices, cores));
                kinds.len() - 1
            }))
        });
        let hosts: Box<[u32]> = hosts.collect();
        let port = |host| Port {
            host,
            rail: 0,
            group: 0,
            gb_per_s: gb_per_s.unwrap_or(usual::PORT_GBPS / 8.0),
            source: if gb_per_s.is_some() { Source::Declared } else { Source::Default },
        };
        let ports = (0..small(hosts.len())).filter(|_| several).map(port).collect();
        Self {
            ranks,
            names: Box::default(),
            kinds: kinds.into(),
            ports,
            hosts,
            levels: Box::default(),
            pools: Box::default(),
        }
    }

    /// Number of ranks.
    pub fn size(&self) -> u32 {
        small(self.ranks.len())
    }

    /// The same with the cores that another description of the same hosts gives them: what ranks may use of them.
    #[must_use]
    pub fn with_cores_of(mut self, other: &Self) -> Self {
        let mut kinds: Vec<HostKind> = Vec::new();
        for (host, number) in (0..).zip(&mut self.hosts) {
            let kind =
                HostKind { cores: other.kind(host).cores, ..self.kinds[*number as usize].clone() };
            let known = kinds.iter().position(|known| *known == kind);
            *number = small(known.unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            }));
        }
        self.kinds = kinds.into();
        self
    }

    /// Whether a host has more ranks than cores for them.
    pub fn is_crowded(&self) -> bool {
        (0..)
            .zip(self.ranks_by_host())
            .any(|(host, ranks)| small(ranks.len()) > self.kind(host).cores)
    }

    /// The kind of a host.
    pub fn kind(&self, host: u32) -> &HostKind {
        &self.kinds[self.hosts[host as usize] as usize]
    }

    /// The ranks of each host, in ascending order.
    pub fn ranks_by_host(&self) -> Box<[Box<[u32]>]> {
        let mut by_host = vec![Vec::new(); self.hosts.len()];
        for (rank, site) in (0..).zip(&self.ranks) {
            by_host[site.host as usize].push(rank);
        }
        by_host.into_iter().map(Vec::into_boxed_slice).collect()
    }

    /// Per rank its host, hosts numbered from 0 in the order in which they first appear: as plans want it.
    pub fn host_of(&self) -> Vec<u32> {
        let mut numbers = vec![None; self.hosts.len()];
        let mut next = 0;
        let mut number = |site: &Site| {
            *numbers[site.host as usize].get_or_insert_with(|| {
                next += 1;
                next - 1
            })
        };
        self.ranks.iter().map(&mut number).collect()
    }

    /// The group of a port on a level.
    pub fn group_of(&self, port: u32, level: usize) -> u32 {
        let group = self.ports[port as usize].group;
        self.levels[..level].iter().fold(group, |group, below| below.groups[group as usize].parent)
    }

    /// The lowest level with a group that both ports are in; 0 when one ideal switch joins all ports.
    pub fn common_level(&self, a: u32, b: u32) -> usize {
        let mut groups = [self.ports[a as usize].group, self.ports[b as usize].group];
        for (number, level) in self.levels.iter().enumerate() {
            if groups[0] == groups[1] {
                return number;
            }
            groups = groups.map(|group| level.groups[group as usize].parent);
        }
        self.levels.len().saturating_sub(1)
    }

    /// Time to cross the fabric from one port to another, ns: up to the lowest common level and down again.
    pub fn crossing_ns(&self, a: u32, b: u32) -> f64 {
        let common = self.common_level(a, b);
        let Some(top) = self.levels.get(common) else { return usual::SWITCH_NS };
        let below = self.levels[..common].iter().map(|level| level.latency_ns);
        top.latency_ns + 2.0 * below.sum::<f64>()
    }

    /// Per group of a level, what comes into it from below over what it has upwards: 2.0 when only half of what its
    /// ports can send has room above. 0 on the highest level, which has nothing above it.
    pub fn oversubscription(&self, level: usize) -> Box<[f64]> {
        let mut below = vec![0.0; self.levels[level].groups.len()];
        if level == 0 {
            for port in &self.ports {
                below[port.group as usize] += port.gb_per_s;
            }
        } else {
            for group in &self.levels[level - 1].groups {
                below[group.parent as usize] += group.up_gb_per_s;
            }
        }
        let groups = &self.levels[level].groups;
        let ratio = |(below, group): (&f64, &Group)| {
            if *below == 0.0 { 0.0 } else { below / group.up_gb_per_s }
        };
        below.iter().zip(groups).map(ratio).collect()
    }

    /// The ranks in an order that follows the fabric: neighbours in it are as near as can be. Hosts are sorted by their
    /// groups from the highest level down, the ranks of a host so that each is followed by the nearest one left.
    ///
    /// A host whose ports are in several groups, as where each rail has switches of its own, counts where its first
    /// port is.
    pub fn order(&self) -> Box<[u32]> {
        let by_host = self.ranks_by_host();
        let places: Vec<Box<[u32]>> = self.kinds.iter().map(HostKind::places).collect();
        let mut order = Vec::with_capacity(self.ranks.len());
        for host in self.hosts_by_group() {
            let start = order.len();
            order.extend_from_slice(&by_host[host as usize]);
            let places = &places[self.hosts[host as usize] as usize];
            order[start..].sort_by_key(|rank: &u32| {
                (places[self.ranks[*rank as usize].device as usize], *rank)
            });
        }
        order.into()
    }

    /// The hosts, sorted by their groups from the highest level down, then by the first pool that they reach.
    fn hosts_by_group(&self) -> Vec<u32> {
        // Each group's place among all groups of its level, in the order of the tree: sorting hosts by the place of
        // their leaf is then sorting them by the whole path.
        let mut places: Vec<u32> = vec![0];
        for level in self.levels.iter().rev() {
            let mut groups: Vec<u32> = (0..small(level.groups.len())).collect();
            groups.sort_by_key(|group| places[level.groups[*group as usize].parent as usize]);
            places = vec![0; groups.len()];
            for (place, group) in (0..).zip(groups) {
                places[group as usize] = place;
            }
        }
        let mut keys = vec![(u32::MAX, u32::MAX); self.hosts.len()];
        for port in self.ports.iter().rev() {
            keys[port.host as usize].0 = places[port.group as usize];
        }
        for (number, pool) in (0..).zip(&self.pools) {
            for host in &pool.hosts {
                let first = &mut keys[*host as usize].1;
                *first = number.min(*first);
            }
        }
        let mut hosts: Vec<u32> = (0..small(self.hosts.len())).collect();
        hosts.sort_by_key(|host| (keys[*host as usize], *host));
        hosts
    }
}

impl HostKind {
    /// A host with `devices` ranks on its processors and usual figures.
    pub(crate) fn of_processors(name: String, devices: u32, cores: u32) -> Self {
        let reach = Reach {
            path: "SHM",
            gb_per_s: usual::SHARED_GB_PER_S,
            latency_ns: usual::SHARED_NS,
            source: Source::Default,
        };
        Self {
            name,
            devices,
            cores,
            reach: vec![reach; devices as usize * devices as usize].into(),
            device_gb_per_s: vec![usual::SHARED_GB_PER_S; devices as usize].into(),
            memory_gb_per_s: usual::MEMORY_GB_PER_S,
        }
    }

    /// How device `a` reaches device `b`.
    pub fn reach(&self, a: u32, b: u32) -> &Reach {
        &self.reach[(a * self.devices + b) as usize]
    }

    /// Per device its place in an order in which each device is followed by the nearest one left: by bandwidth, then
    /// by latency, then by number.
    fn places(&self) -> Box<[u32]> {
        let mut left: Vec<u32> = (1..self.devices).collect();
        let mut places = vec![0; self.devices as usize];
        let mut last = 0;
        for place in 1..self.devices {
            let nearness = |device: &u32| {
                let reach = self.reach(last, *device);
                (reach.gb_per_s, -reach.latency_ns)
            };
            let mut best = 0;
            for (index, device) in left.iter().enumerate().skip(1) {
                if nearness(device) > nearness(&left[best]) {
                    best = index;
                }
            }
            last = left.remove(best);
            places[last as usize] = place;
        }
        places.into()
    }
}

impl Display for Cluster {
    /// One line: `10240 ranks on 1280 hosts of 8 npu + 8 nic; 256 leaf (2:1), 8 pod, 1 core`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {}",
            counted(self.ranks.len(), "rank"),
            counted(self.hosts.len(), "host")
        )?;
        match &*self.kinds {
            [kind] => write!(f, " of {}", kind.name)?,
            kinds => write!(f, " of {} kinds", kinds.len())?,
        }
        for (number, level) in self.levels.iter().enumerate() {
            write!(
                f,
                "{} {} {}",
                if number == 0 { ";" } else { "," },
                level.groups.len(),
                level.name
            )?;
            let worst = self.oversubscription(number).iter().copied().fold(0.0, f64::max);
            if worst > 1.0 + 1e-9 {
                write!(f, " ({}:1)", (worst * 100.0).round() / 100.0)?;
            }
        }
        if self.levels.is_empty() && !self.ports.is_empty() {
            f.write_str("; one ideal switch")?;
        }
        if !self.pools.is_empty() {
            write!(f, "; {}", counted(self.pools.len(), "pool"))?;
        }
        Ok(())
    }
}

/// `1 host`, `2 hosts`
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A count of what a cluster has.
pub(crate) fn small(count: usize) -> u32 {
    u32::try_from(count).expect("a cluster has fewer than 2^32 of anything")
}
