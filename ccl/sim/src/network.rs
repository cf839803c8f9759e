//! The cluster and the constants together: which way a message takes, what it shares it with, and what it costs.

use dure_plan::Rank;
use dure_topology::{Cluster, HostKind, Source};

use crate::constants::{Compute, Constants, Wire};
use crate::error::Error;
use crate::pools::{Pools, Stripes};

/// What joins the ranks of a cluster. Routes are found in as many steps as the fabric has levels; nothing is kept by pair.
///
/// Shared resources are *links*: each serves one message after the other. They are the ports (both directions), what a
/// group of the fabric has up and down, the accelerators' own links, the memory of hosts, and where there are pools of
/// memory that hosts share, their devices and the adapters by which hosts write and read them.
#[derive(Clone, Debug)]
pub struct Network {
    constants: Constants,
    places: Box<[Place]>,
    kinds: Box<[HostKind]>,
    /// Per port, seconds a byte.
    ports: Box<[f64]>,
    /// Per port and level, the group that it is in; as many as `levels` for each port.
    groups_of: Box<[u32]>,
    levels: Box<[Level]>,
    /// Per host, seconds a byte of its memory.
    memory: Box<[f64]>,
    pools: Pools,
    /// First link of each family.
    first: Families,
    cores: u32,
    links: u32,
}

/// Where a rank is.
#[derive(Clone, Copy, Debug)]
struct Place {
    host: u32,
    kind: u32,
    device: u32,
    port: Option<u32>,
    core: u32,
    /// Seconds a byte of the rank's own link to the others of its host.
    own: f64,
    accelerator: bool,
}

#[derive(Clone, Debug)]
struct Level {
    /// Seconds a byte of what each group has up.
    up: Box<[f64]>,
    latency: f64,
    /// Its first link: up and down of each group in turn.
    first: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Families {
    devices: u32,
    memory: u32,
}

/// A link that a message crosses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Its number.
    pub link: u32,
    /// Time for which a byte occupies it, seconds.
    pub per_byte: f64,
}

/// The way of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// What it costs: the wire of its class, with the latency of this way and the time a byte of its slowest link.
    pub wire: Wire,
    /// Whether it leaves the host.
    pub between: bool,
    /// The links that it crosses, in order. Those that are never the narrowest part of anything are left out.
    pub stages: Vec<Stage>,
    /// The first stage is a port, which the gap of the wire occupies too.
    pub leaves_by_port: bool,
    /// How it lies in pools, if it goes through them. Then the stages are the sender's adapter, the devices that are
    /// written, the same ones that are read, and the receiver's adapter; of each device's, only the bytes on it count.
    pub stripes: Option<Stripes>,
}

/// Seconds a byte.
pub(crate) fn per_byte(gb_per_s: f64) -> f64 {
    1e-9 / gb_per_s
}

/// Whether all of these are bandwidths: above nothing, and perhaps infinite.
fn bandwidths<'a>(mut of: impl Iterator<Item = &'a f64>) -> bool {
    of.all(|gb_per_s| *gb_per_s > 0.0)
}

impl Network {
    /// The network of a cluster.
    ///
    /// # Errors
    /// [`Error::Cluster`] says what does not fit together, [`Error::Profile`] which constant is no cost.
    pub fn of(cluster: &Cluster, constants: &Constants) -> Result<Self, Error> {
        constants.check()?;
        check(cluster)?;
        let depth = cluster.levels.len();
        let ports = u32::try_from(cluster.ports.len())
            .map_err(|_| Error::Cluster("it has 2^32 ports or more".to_owned()))?;
        let mut links = 2 * ports;
        let levels: Box<[Level]> = cluster
            .levels
            .iter()
            .map(|level| {
                let up = level.groups.iter().map(|group| per_byte(group.up_gb_per_s)).collect();
                let first = links;
                links += 2 * count(level.groups.len());
                Level { up, latency: level.latency_ns * 1e-9, first }
            })
            .collect();
        let first = Families { devices: links, memory: links + 2 * count(cluster.ranks.len()) };
        let mut groups_of = Vec::with_capacity(cluster.ports.len() * depth);
        for port in &cluster.ports {
            let mut group = port.group;
            for level in &cluster.levels {
                groups_of.push(group);
                group = level.groups[group as usize].parent;
            }
        }
        let kind_of = |host: &u32| &cluster.kinds[*host as usize];
        let behind = first.memory + count(cluster.hosts.len());
        let (places, cores) = places(cluster);
        Ok(Self {
            constants: *constants,
            places,
            kinds: cluster.kinds.clone(),
            ports: cluster.ports.iter().map(|port| per_byte(port.gb_per_s)).collect(),
            groups_of: groups_of.into(),
            levels,
            memory: cluster
                .hosts
                .iter()
                .map(|host| per_byte(kind_of(host).memory_gb_per_s))
                .collect(),
            pools: Pools::of(cluster, behind),
            first,
            cores,
            links: behind + count(Pools::links_of(cluster)),
        })
    }

    /// The same network with the ranks in another order: rank `k` of it is where rank `order[k]` is here. What an
    /// algorithm costs there is what [`dure_plan::Ordered`] with that order costs here.
    ///
    /// # Errors
    /// [`Error::Cluster`] when `order` does not name every rank once.
    pub fn ordered(&self, order: &[u32]) -> Result<Self, Error> {
        let mut seen = vec![false; self.places.len()];
        for rank in order {
            match seen.get_mut(*rank as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => {
                    return Err(Error::Cluster(format!(
                        "the order names rank {rank} twice, or there is none"
                    )));
                }
            }
        }
        if order.len() != seen.len() {
            return Err(Error::Cluster(format!(
                "the order has {} of {} ranks",
                order.len(),
                seen.len()
            )));
        }
        let places = order.iter().map(|rank| self.places[*rank as usize]).collect();
        Ok(Self { places, ..self.clone() })
    }

    /// Number of ranks.
    pub fn ranks(&self) -> u32 {
        count(self.places.len())
    }

    /// The constants that it was made with.
    pub fn constants(&self) -> &Constants {
        &self.constants
    }

    /// Number of links.
    pub fn links(&self) -> u32 {
        self.links
    }

    /// Number of cores that ranks run on.
    pub fn cores(&self) -> u32 {
        self.cores
    }

    /// The core that drives a rank. Ranks of a host take its cores in turn.
    pub fn core(&self, rank: Rank) -> u32 {
        self.place(rank).core
    }

    /// The host that a rank is on.
    pub fn host(&self, rank: Rank) -> u32 {
        self.place(rank).host
    }

    /// Whether pools of memory join some hosts: messages between those that reach one in common go through it, whatever
    /// ports they have.
    pub fn has_pools(&self) -> bool {
        !self.pools.is_empty()
    }

    /// The pools of memory that hosts share.
    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// What work on its memory costs a rank.
    pub fn compute(&self, rank: Rank) -> &Compute {
        if self.place(rank).accelerator {
            &self.constants.accelerator
        } else {
            &self.constants.processor
        }
    }

    /// Number of hosts.
    pub(crate) fn hosts(&self) -> u32 {
        count(self.memory.len())
    }

    /// The port of a rank.
    pub(crate) fn port(&self, rank: Rank) -> Option<u32> {
        self.place(rank).port
    }

    /// Number of ports.
    pub(crate) fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// Number of levels of the fabric.
    pub(crate) fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Number of groups of a level.
    pub(crate) fn groups(&self, level: usize) -> usize {
        self.levels[level].up.len()
    }

    /// The group of a level that a rank's port is in.
    pub(crate) fn group_of(&self, rank: Rank, level: usize) -> Option<u32> {
        Some(self.group(self.place(rank).port?, level))
    }

    /// What a group has up, bytes a second.
    pub(crate) fn up(&self, level: usize, group: usize) -> f64 {
        1.0 / self.levels[level].up[group]
    }

    /// The wire of messages of a rank inside its host.
    pub(crate) fn inside_wire(&self, rank: Rank) -> &Wire {
        if self.place(rank).accelerator { &self.constants.device } else { &self.constants.inside }
    }

    /// What a rank can send to and get from the other ranks of its host, bytes a second. Where the cores move the bytes
    /// that is what the receiver's core can read.
    pub(crate) fn inside_rates(&self, rank: Rank) -> (f64, f64) {
        let (wire, compute) = (self.inside_wire(rank), self.compute(rank));
        if wire.shared {
            let least = compute.copy_per_byte.min(compute.reduce_per_byte);
            return (f64::INFINITY, 1.0 / (wire.per_byte + least));
        }
        let own = if wire.source == Source::Measured || !self.place(rank).accelerator {
            wire.per_byte
        } else {
            wire.per_byte.max(self.place(rank).own)
        };
        let rate = 1.0 / own.max(wire.cpu_per_byte);
        (rate, rate)
    }

    /// A wire between hosts that is no slower than any: through the fabric, or through pools where there are some.
    pub(crate) fn least_between(&self) -> Wire {
        let Constants { between, pool, .. } = self.constants;
        if self.pools.is_empty() {
            return between;
        }
        let declared = pool.source != Source::Default;
        let latency = if declared { pool.latency } else { self.pools.least_latency() };
        Wire {
            latency: between.latency.min(latency),
            overhead: between.overhead.min(pool.overhead),
            ..between
        }
    }

    /// What the port of a rank can send to other hosts and get from them, bytes a second; of a rank without one, what
    /// its wire can.
    pub(crate) fn port_rate(&self, rank: Rank) -> f64 {
        let [port, _] = self.ports(rank, rank);
        1.0 / port.map_or(self.constants.between.per_byte, |stage| stage.per_byte)
    }

    fn place(&self, rank: Rank) -> &Place {
        &self.places[rank.0 as usize]
    }

    /// The way from one rank to another.
    pub fn route(&self, from: Rank, to: Rank) -> Route {
        let (a, b) = (self.place(from), self.place(to));
        if a.host == b.host {
            return self.inside((from, a), (to, b));
        }
        let by_pools =
            self.pools.route((a.host, b.host), self.pool_wire(a), &self.constants.adapter);
        by_pools.unwrap_or_else(|| self.between((from, a), (to, b)))
    }

    /// The wire of messages of a rank through pools. An accelerator's own engines move its bytes, to where they belong,
    /// as fast as adapters and devices can.
    fn pool_wire(&self, from: &Place) -> Wire {
        let wire = self.constants.pool;
        if from.accelerator {
            Wire { shared: false, eager: 0, per_byte: 0.0, ..wire }
        } else {
            wire
        }
    }

    /// What the adapter of a rank's host can write to pools and read from them, bytes a second; nothing where it reaches
    /// none.
    pub(crate) fn adapter_rates(&self, rank: Rank) -> (f64, f64) {
        let adapter = &self.constants.adapter;
        if self.pools.has(self.host(rank)) {
            (1.0 / adapter.write_per_byte, 1.0 / adapter.read_per_byte)
        } else {
            (0.0, 0.0)
        }
    }

    fn inside(&self, (from, a): (Rank, &Place), (to, b): (Rank, &Place)) -> Route {
        let kind = &self.kinds[a.kind as usize];
        let reach = &kind.reach[(a.device * kind.devices + b.device) as usize];
        let mut wire = if a.accelerator { self.constants.device } else { self.constants.inside };
        let mut stages = Vec::new();
        if wire.source != Source::Measured {
            wire.latency = wire.latency.max(reach.latency_ns * 1e-9);
        }
        if a.accelerator && !wire.shared {
            if wire.source != Source::Measured {
                wire.per_byte = wire.per_byte.max(per_byte(reach.gb_per_s));
            }
            let device = |rank: Rank, down: u32| self.first.devices + 2 * rank.0 + down;
            push(&mut stages, device(from, 0), a.own.max(wire.per_byte));
            if matches!(reach.path, "PHB" | "SYS" | "NODE") {
                push(&mut stages, self.first.memory + a.host, self.memory[a.host as usize]);
            }
            push(&mut stages, device(to, 1), b.own.max(wire.per_byte));
        } else {
            push(&mut stages, self.first.memory + a.host, self.memory[a.host as usize]);
        }
        Route { wire, between: false, stages, leaves_by_port: false, stripes: None }
    }

    fn between(&self, (from, a): (Rank, &Place), (to, b): (Rank, &Place)) -> Route {
        let mut wire = self.constants.between;
        let port = |port: Option<u32>| port.map_or(0.0, |port| self.ports[port as usize]);
        if wire.source != Source::Measured {
            wire.per_byte = wire.per_byte.max(port(a.port)).max(port(b.port));
        }
        let [leave, enter] = self.ports(from, to);
        let mut stages: Vec<Stage> = leave.into_iter().collect();
        let mut down = Vec::new();
        wire.latency += self.fabric(from, to, |link| {
            let (_, is_down, per_byte) = self.fabric_link(link);
            push(if is_down { &mut down } else { &mut stages }, link, per_byte);
        });
        stages.extend(down.into_iter().rev().chain(enter));
        Route { wire, between: true, stages, leaves_by_port: a.port.is_some(), stripes: None }
    }

    /// The ports by which a message leaves and arrives. The first is there however fast it is, for the gap.
    pub(crate) fn ports(&self, from: Rank, to: Rank) -> [Option<Stage>; 2] {
        let wire = &self.constants.between;
        let port = |rank: Rank, down: u32| {
            let port = self.place(rank).port?;
            let per_byte = self.ports[port as usize];
            let measured = wire.source == Source::Measured;
            let per_byte = if measured { wire.per_byte } else { wire.per_byte.max(per_byte) };
            Some(Stage { link: 2 * port + down, per_byte })
        };
        [port(from, 0), port(to, 1).filter(|stage| stage.per_byte > 0.0)]
    }

    /// Names the links that a message crosses above the ports, per level up and down. Returns the time that it takes to
    /// cross the switches, seconds.
    pub(crate) fn fabric(&self, from: Rank, to: Rank, mut cross: impl FnMut(u32)) -> f64 {
        let (Some(from), Some(to)) = (self.place(from).port, self.place(to).port) else {
            return 0.0;
        };
        let mut latency = 0.0;
        for (at, level) in self.levels.iter().enumerate() {
            let (up, down) = (self.group(from, at), self.group(to, at));
            if up == down {
                return latency + level.latency;
            }
            latency += 2.0 * level.latency;
            cross(level.first + 2 * up);
            cross(level.first + 2 * down + 1);
        }
        latency
    }

    /// Level, direction (whether down) and seconds a byte of a link that [`Network::fabric`] named.
    pub(crate) fn fabric_link(&self, link: u32) -> (usize, bool, f64) {
        let level = self.levels.partition_point(|level| level.first <= link) - 1;
        let at = link - self.levels[level].first;
        (level, at % 2 == 1, self.levels[level].up[(at / 2) as usize])
    }

    /// The link up or down of the group of a level that a rank's port is in.
    pub(crate) fn link_of(&self, rank: Rank, level: usize, is_down: bool) -> u32 {
        let port =
            self.place(rank).port.expect("only asked for ranks whose messages cross the fabric");
        self.levels[level].first + 2 * self.group(port, level) + u32::from(is_down)
    }

    /// Whether two ranks are on the same device of hosts of the same kind, with ports of the same speed.
    pub(crate) fn is_alike(&self, a: Rank, b: Rank) -> bool {
        let (a, b) = (self.place(a), self.place(b));
        let speed = |place: &Place| place.port.map(|port| self.ports[port as usize]);
        (a.kind, a.device, speed(a)) == (b.kind, b.device, speed(b))
    }

    /// The group of a level that a port is in.
    fn group(&self, port: u32, level: usize) -> u32 {
        self.groups_of[port as usize * self.levels.len() + level]
    }
}

/// Adds a link, if a byte occupies it at all.
fn push(stages: &mut Vec<Stage>, link: u32, per_byte: f64) {
    if per_byte > 0.0 {
        stages.push(Stage { link, per_byte });
    }
}

pub(crate) fn count(of: usize) -> u32 {
    u32::try_from(of).expect("`check` refuses clusters of 2^32 parts")
}

/// The ranks' places, and how many cores they are on.
fn places(cluster: &Cluster) -> (Box<[Place]>, u32) {
    let mut cores = 0;
    let first_core: Vec<u32> = cluster
        .hosts
        .iter()
        .map(|kind| {
            cores += cluster.kinds[*kind as usize].cores;
            cores - cluster.kinds[*kind as usize].cores
        })
        .collect();
    let on_processors =
        |kind: &HostKind| kind.reach.iter().all(|reach| matches!(reach.path, "SHM" | "LOC"));
    let mut so_far = vec![0; cluster.hosts.len()];
    let places = cluster.ranks.iter().map(|site| {
        let kind = cluster.hosts[site.host as usize];
        let host = &cluster.kinds[kind as usize];
        let index = &mut so_far[site.host as usize];
        let core = first_core[site.host as usize] + *index % host.cores;
        *index += 1;
        Place {
            host: site.host,
            kind,
            device: site.device,
            port: site.port,
            core,
            own: per_byte(host.device_gb_per_s[site.device as usize]),
            accelerator: !on_processors(host),
        }
    });
    (places.collect(), cores)
}

/// Whether all numbers of a cluster lead somewhere.
fn check(cluster: &Cluster) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::Cluster(what));
    let parts: usize = cluster.levels.iter().map(|level| 2 * level.groups.len()).sum();
    let links = parts
        + 2 * (cluster.ports.len() + cluster.ranks.len())
        + cluster.hosts.len()
        + Pools::links_of(cluster);
    if u32::try_from(links).is_err() {
        return wrong(format!("{links} links (allowed: fewer than 2^32)"));
    }
    if cluster.ranks.is_empty() {
        return wrong("it has no ranks (allowed: 1 or more)".to_owned());
    }
    if let Some(kind) = cluster.hosts.iter().find(|kind| **kind as usize >= cluster.kinds.len()) {
        return wrong(format!("a host of kind {kind} (known: {} kinds)", cluster.kinds.len()));
    }
    for kind in &cluster.kinds {
        let devices = kind.devices as usize;
        if kind.reach.len() != devices * devices
            || kind.device_gb_per_s.len() != devices
            || kind.cores == 0
            || devices == 0
        {
            return wrong(format!(
                "{} has {devices} devices, {} cores and {} ways (allowed: 1 or more, 1 or more, the square of devices)",
                kind.name,
                kind.cores,
                kind.reach.len()
            ));
        }
        let reach = kind.reach.iter().map(|reach| &reach.gb_per_s);
        if !bandwidths(reach.chain(&kind.device_gb_per_s).chain([&kind.memory_gb_per_s])) {
            return wrong(format!("{} has a bandwidth that is none (allowed: above 0)", kind.name));
        }
    }
    for (rank, site) in cluster.ranks.iter().enumerate() {
        let Some(kind) = cluster.hosts.get(site.host as usize) else {
            return wrong(format!(
                "rank {rank} is on host {} of {}",
                site.host,
                cluster.hosts.len()
            ));
        };
        let devices = cluster.kinds[*kind as usize].devices;
        if site.device >= devices {
            return wrong(format!("rank {rank} is on device {} of {devices}", site.device));
        }
        if site.port.is_some_and(|port| port as usize >= cluster.ports.len()) {
            return wrong(format!(
                "rank {rank} has a port that is none of {}",
                cluster.ports.len()
            ));
        }
    }
    Pools::check(cluster)?;
    check_fabric(cluster)
}

fn check_fabric(cluster: &Cluster) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::Cluster(what));
    if !bandwidths(cluster.ports.iter().map(|port| &port.gb_per_s)) {
        return wrong("a port has a bandwidth that is none (allowed: above 0)".to_owned());
    }
    let below = |group: u32, level: usize| {
        cluster.levels.get(level).is_none_or(|level| (group as usize) < level.groups.len())
    };
    if let Some(port) = cluster.ports.iter().find(|port| !below(port.group, 0)) {
        return wrong(format!("a port is in group {}, which there is not", port.group));
    }
    for (at, level) in cluster.levels.iter().enumerate() {
        if let Some(group) = level.groups.iter().find(|group| !below(group.parent, at + 1)) {
            return wrong(format!(
                "{} is in a group of level {} that there is not",
                group.name,
                at + 1
            ));
        }
        if !bandwidths(level.groups.iter().map(|group| &group.up_gb_per_s)) {
            return wrong(format!(
                "{} has a bandwidth that is none (allowed: above 0)",
                level.name
            ));
        }
    }
    Ok(())
}
