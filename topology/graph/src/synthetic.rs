//! Clusters that a line of text describes, for predictions about machines that are not there.
//!
//! ```text
//! layout    = { front "/" } items
//! front     = "fattree" { name "=" value } | item of pools, which all hosts reach
//! items     = item { "+" item }
//! item      = number word [ "[" name "=" value { [","] name "=" value } "]" ] [ "*" ( item | "(" items ")" ) ]
//! ```
//!
//! Words, from the outside in: a group (`region`, `zone`, `room`, `row`, `pod`, `rack`, `block`, `group`); `host`;
//! `package`; `numa`; and what stands in them: `npu` (or `gpu`), `nic`, `cpu`. A `pool` stands in a group, whose hosts
//! reach it, or in front. A plural `s` does not matter. There is a rank on each `npu`; on a host without any, on each `cpu`.
//!
//! | word | attributes, with what holds where nothing is said |
//! |---|---|
//! | group | `over` 1: oversubscription of its way up; `gbps`: that way's bandwidth itself, Gb/s; `ns` 300 |
//! | `host` | `cores`: as many as it has `cpu`s, else 64; `gb_per_s` 200: bandwidth of its memory |
//! | `package`, `numa` | `gb_per_s` 22: bandwidth to the others |
//! | `npu` | `gb_per_s`: of links of their own, through a switch that all share (PCIe, 48, when nothing is said); `ns` |
//! | `cpu` | `gb_per_s` 10: of one that copies through shared memory; `ns` 100 |
//! | `nic` | `gbps` 400 |
//! | `pool` | `gb_per_s` 22.5; `ns` 750; `gib` 128; `hosts`: how many hosts reach each of them (all of the group) |
//! | `fattree` | `levels` 2, of switches; `over`: oversubscription from the leaves up (`2`, or `2,1.5`); `radix` 64; `rail` `no`: whether each rail has leaves of its own; `leaf`: hosts of a leaf, or of a set of leaves by rail (as many as the radix allows); `gbps`: speed of its ports; `ns` 300 of each switch |
//!
//! Groups are levels of switches. Without a fabric in front the switches are ideal: as much goes up from a group as
//! its ports can send, and one switch joins all. Behind a `fattree` there may be one level of groups: the hosts of a
//! group then share a leaf. Hosts of which there are several and that have no `nic` get one when there is no pool.

mod fattree;
mod kind;
mod text;

use std::collections::HashMap;

use thiserror::Error;

use self::fattree::FatTree;
use self::kind::Host;
use self::text::{Item, Layout, What};
use crate::cluster::small;
use crate::{Cluster, Group, Level, Pool, Port, Site, Source, usual};

/// Most of anything in a layout: hosts, ranks, ports, groups, pools.
const MOST: u64 = 1 << 20;
/// Most entries of the tables of all kinds of hosts together.
const MOST_REACHES: u64 = 1 << 22;

/// What is wrong with a layout. Columns count characters from 1.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// Something else stands where something should.
    #[error("layout, column {column}: found {found}, expected {allowed}")]
    Unexpected {
        /// Where.
        column: usize,
        /// What stands there.
        found: String,
        /// What could.
        allowed: String,
    },
    /// Too many of something.
    #[error("layout, column {column}: {count} {what}, at most {most}")]
    TooMany {
        /// Where.
        column: usize,
        /// Of what.
        what: &'static str,
        /// How many.
        count: u64,
        /// How many there may be.
        most: u64,
    },
    /// A host has nothing that a rank could be on.
    #[error("layout, column {column}: a host with neither npu nor cpu has no ranks")]
    NoRanks {
        /// Where.
        column: usize,
    },
    /// There is no host.
    #[error("layout: no host")]
    NoHost,
    /// Hosts stand in different numbers of groups.
    #[error(
        "layout, column {column}: a host in {found} groups, others in {others}: all must stand equally deep"
    )]
    Uneven {
        /// Where.
        column: usize,
        /// The groups around this host.
        found: usize,
        /// The groups around those before it.
        others: usize,
    },
    /// Groups in groups behind a fat tree.
    #[error(
        "layout, column {column}: behind a fattree at most one level of groups, whose hosts share a leaf"
    )]
    GroupsInFatTree {
        /// Where.
        column: usize,
    },
    /// Both groups and `leaf` say which hosts share a leaf.
    #[error(
        "layout, column {column}: leaf=, but the groups of the layout say already which hosts share a leaf"
    )]
    Twice {
        /// Where.
        column: usize,
    },
    /// A host has more ports than a leaf.
    #[error(
        "layout, column {column}: a host has {ports} ports, a leaf {down} for hosts: take a larger radix"
    )]
    HostTooWide {
        /// Where.
        column: usize,
        /// Ports of a host.
        ports: u32,
        /// Ports of a leaf that look down.
        down: u32,
    },
    /// The fat tree cannot join all of its leaves.
    #[error(
        "layout, column {column}: the highest switches join {room} of {needed} below them: take more levels or a larger radix"
    )]
    FatTreeTooSmall {
        /// Where.
        column: usize,
        /// How many they join.
        room: u32,
        /// How many there are.
        needed: u32,
    },
}

impl Cluster {
    /// The cluster that a line of text describes: `4 host * 2 numa * (4 npu + 2 nic)`,
    /// `64 rack * 4 host * (8 npu + 8 nic)`, `fattree levels=3 over=2 / 1280 host * (8 npu + 8 nic)`,
    /// `6 pool / 3 host * 2 cpu`. `docs/topology.md` has the grammar and what holds where nothing is said.
    ///
    /// # Errors
    ///
    /// What cannot be read or made, with the column where it stands.
    pub fn synthetic(layout: &str) -> Result<Self, LayoutError> {
        let layout = text::read(layout)?;
        let placed = Placed::of(&layout)?;
        let fat_tree = layout.fat_tree.as_ref().map(FatTree::of).transpose()?;
        let grown = fat_tree.map(|tree| tree.grow(&placed)).transpose()?;
        let mut cluster = Self {
            ranks: placed.ranks.into(),
            hosts: placed.hosts.into(),
            names: Box::default(),
            kinds: placed.kinds.into_iter().map(|host| host.kind).collect(),
            ports: placed.ports.into(),
            levels: Box::default(),
            pools: placed.pools.into(),
        };
        match grown {
            Some(grown) => {
                for (port, leaf) in cluster.ports.iter_mut().zip(grown.leaf_of) {
                    port.group = leaf;
                }
                cluster.levels = grown.levels.into();
            }
            None => cluster.levels = ideal(placed.groups, &cluster.ports),
        }
        Ok(cluster)
    }
}

/// The hosts of a layout, each in its place.
#[derive(Default)]
struct Placed {
    kinds: Vec<Host>,
    /// Per host its kind.
    hosts: Vec<u32>,
    /// Per host its innermost group.
    group_of: Vec<u32>,
    ranks: Vec<Site>,
    ports: Vec<Port>,
    pools: Vec<Pool>,
    /// The groups, from the outermost level in.
    groups: Vec<Vec<PlacedGroup>>,
}

struct PlacedGroup {
    word: String,
    parent: u32,
    over: Option<f64>,
    gb_per_s: Option<f64>,
    latency_ns: Option<f64>,
}

impl Placed {
    fn of(layout: &Layout<'_>) -> Result<Self, LayoutError> {
        let mut placer = Placer {
            kind_of: HashMap::new(),
            joined: false,
            placed: Self::default(),
            reaches: 0,
            pooled: 0,
            depth: None,
        };
        let hosts = count(&layout.body, &mut |item| item.what == What::Host)?;
        let pools = count(&layout.body, &mut |item| item.what == What::Pool)?;
        count(&layout.body, &mut |item| matches!(item.what, What::Group(_)))?;
        placer.joined = hosts > 1 && pools == 0 && layout.pools.is_empty();
        placer.add(&layout.body, 0, 0)?;
        placer.pools(&layout.pools, 0)?;
        if placer.placed.hosts.is_empty() {
            return Err(LayoutError::NoHost);
        }
        Ok(placer.placed)
    }

    /// Ports of the host that has most.
    fn most_ports(&self) -> u32 {
        small(self.kinds.iter().map(|host| host.ports.len()).max().unwrap_or(0))
    }
}

/// How many items of a sort there are once all are written out.
fn count(items: &[Item<'_>], of: &mut dyn FnMut(&Item<'_>) -> bool) -> Result<u64, LayoutError> {
    let mut sum = 0;
    for item in items {
        let inner = count(&item.body, of)? + u64::from(of(item));
        sum += u64::from(item.count) * inner;
        most(item.column, "hosts, groups or pools", sum, MOST)?;
    }
    Ok(sum)
}

/// An error when there are too many of something.
fn most(column: usize, what: &'static str, count: u64, most: u64) -> Result<(), LayoutError> {
    if count <= most { Ok(()) } else { Err(LayoutError::TooMany { column, what, count, most }) }
}

/// Puts hosts into their places, one after the other.
struct Placer {
    kind_of: HashMap<String, u32>,
    /// Whether hosts need a port.
    joined: bool,
    placed: Placed,
    /// Entries of the tables of all kinds.
    reaches: u64,
    /// Hosts of all pools, a host of several as often.
    pooled: u64,
    /// The groups around each host so far.
    depth: Option<usize>,
}

impl Placer {
    fn add(&mut self, items: &[Item<'_>], depth: usize, within: u32) -> Result<(), LayoutError> {
        let first_host = small(self.placed.hosts.len());
        for item in items {
            match item.what {
                What::Host => self.hosts(item, depth, within)?,
                What::Group(word) => self.group(item, word, depth, within)?,
                _ => {}
            }
        }
        let pools = items.iter().filter(|item| item.what == What::Pool);
        for item in pools {
            self.pool(item, first_host)?;
        }
        Ok(())
    }

    fn group(
        &mut self,
        item: &Item<'_>,
        word: &str,
        depth: usize,
        within: u32,
    ) -> Result<(), LayoutError> {
        if self.placed.groups.len() == depth {
            self.placed.groups.push(Vec::new());
        }
        for _ in 0..item.count {
            let number = small(self.placed.groups[depth].len());
            self.placed.groups[depth].push(PlacedGroup {
                word: word.to_owned(),
                parent: within,
                over: item.number("over")?,
                gb_per_s: item.number("gbps")?.map(|gbps| gbps / 8.0),
                latency_ns: item.number("ns")?,
            });
            self.add(&item.body, depth + 1, number)?;
        }
        Ok(())
    }

    fn hosts(&mut self, item: &Item<'_>, depth: usize, within: u32) -> Result<(), LayoutError> {
        let column = item.column;
        let others = *self.depth.get_or_insert(depth);
        if others != depth {
            return Err(LayoutError::Uneven { column, found: depth, others });
        }
        let kind = self.kind(item)?;
        let placed = &mut self.placed;
        let host = &placed.kinds[kind as usize];
        let more = |so_far: usize, each: usize| so_far as u64 + u64::from(item.count) * each as u64;
        let devices = host.kind.devices;
        most(column, "ranks", more(placed.ranks.len(), devices as usize), MOST)?;
        most(column, "ports", more(placed.ports.len(), host.ports.len()), MOST)?;
        for _ in 0..item.count {
            let number = small(placed.hosts.len());
            let first_port = small(placed.ports.len());
            placed.hosts.push(kind);
            placed.group_of.push(within);
            placed.ranks.extend((0..devices).map(|device| Site {
                host: number,
                device,
                port: host.nearest.get(device as usize).map(|port| first_port + port),
            }));
            placed.ports.extend((0..).zip(&host.ports).map(|(rail, (gb_per_s, source))| Port {
                host: number,
                rail,
                group: within,
                gb_per_s: *gb_per_s,
                source: *source,
            }));
        }
        Ok(())
    }

    /// The kind of a host; hosts that are written alike have one.
    fn kind(&mut self, item: &Item<'_>) -> Result<u32, LayoutError> {
        let name = kind::name(item);
        if let Some(kind) = self.kind_of.get(&name) {
            return Ok(*kind);
        }
        let host = Host::of(item, self.joined)?;
        self.reaches += host.kind.reach.len() as u64;
        most(item.column, "pairs of devices in all kinds of hosts", self.reaches, MOST_REACHES)?;
        let number = small(self.placed.kinds.len());
        self.placed.kinds.push(host);
        self.kind_of.insert(name, number);
        Ok(number)
    }

    fn pools(&mut self, items: &[Item<'_>], first_host: u32) -> Result<(), LayoutError> {
        items.iter().try_for_each(|item| self.pool(item, first_host))
    }

    /// Pools of the hosts from `first_host`. Where each reaches only some of them, these follow each other, the pools
    /// start evenly spread over the hosts, and past the last host comes the first.
    fn pool(&mut self, item: &Item<'_>, first_host: u32) -> Result<(), LayoutError> {
        let hosts = small(self.placed.hosts.len()) - first_host;
        let reached = item.whole("hosts")?.unwrap_or(hosts).min(hosts);
        self.pooled += u64::from(item.count) * u64::from(reached.max(1));
        most(item.column, "hosts of all pools", self.pooled, MOST)?;
        let bytes = item.number("gib")?.map(|gib| (gib * f64::from(1 << 30)).round());
        for number in 0..item.count {
            let start = u64::from(number) * u64::from(hosts) / u64::from(item.count);
            let start = u32::try_from(start).expect("it is below the number of hosts");
            let mut reached: Box<[u32]> =
                (start..start + reached).map(|host| first_host + host % hosts).collect();
            reached.sort_unstable();
            self.placed.pools.push(Pool {
                name: format!("pool {}", self.placed.pools.len()),
                hosts: reached,
                gb_per_s: item.number("gb_per_s")?.unwrap_or(usual::POOL_GB_PER_S),
                latency_ns: item.number("ns")?.unwrap_or(usual::POOL_NS),
                bytes: bytes.map_or(usual::POOL_BYTES, whole_bytes),
            });
        }
        Ok(())
    }
}

/// A size as a whole number; what does not fit is the largest one.
fn whole_bytes(bytes: f64) -> u64 {
    // Through text: there is no checked conversion.
    format!("{bytes:.0}").parse().unwrap_or(u64::MAX)
}

/// Groups as levels of ideal switches, and one switch above them; nothing when there are no groups.
fn ideal(groups: Vec<Vec<PlacedGroup>>, ports: &[Port]) -> Box<[Level]> {
    let Some(innermost) = groups.last() else { return Box::default() };
    let mut levels: Vec<Level> = Vec::new();
    let mut below = vec![0.0; innermost.len()];
    for port in ports {
        below[port.group as usize] += port.gb_per_s;
    }
    for (depth, level) in groups.iter().enumerate().rev() {
        let word = level.first().map_or_else(String::new, |group| group.word.clone());
        let latency_ns =
            level.iter().find_map(|group| group.latency_ns).unwrap_or(usual::SWITCH_NS);
        let mut above = vec![0.0; if depth == 0 { 1 } else { groups[depth - 1].len() }];
        let mut made = Vec::with_capacity(level.len());
        for (number, (group, below)) in level.iter().zip(&below).enumerate() {
            let up = group.gb_per_s.unwrap_or_else(|| below / group.over.unwrap_or(1.0));
            above[group.parent as usize] += up;
            made.push(Group {
                name: format!("{} {number}", group.word),
                parent: group.parent,
                up_gb_per_s: up,
                source: match (group.over, group.gb_per_s) {
                    (None, None) => Source::Default,
                    _ => Source::Declared,
                },
            });
        }
        levels.push(Level { name: word, groups: made.into(), latency_ns });
        below = above;
    }
    levels.push(Level::switch());
    levels.into()
}

impl Level {
    /// One switch that joins all.
    pub(crate) fn switch() -> Self {
        let group = Group {
            name: "switch".into(),
            parent: 0,
            up_gb_per_s: f64::INFINITY,
            source: Source::Default,
        };
        Self { name: "switch".into(), groups: [group].into(), latency_ns: usual::SWITCH_NS }
    }
}
