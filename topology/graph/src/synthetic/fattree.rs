//! A fat tree in front of a layout's hosts.

use super::text::{Attribute, Item};
use super::{LayoutError, Placed};
use crate::cluster::small;
use crate::{Group, Level, Source, usual};

/// Ports of a switch where nobody says: those of an NDR switch.
const RADIX: u32 = 64;
/// Most ports of a switch.
const MOST_RADIX: u32 = 1 << 16;
/// Most levels of switches.
const MOST_LEVELS: u32 = 8;

/// What a layout says of it.
pub(super) struct FatTree {
    levels: u32,
    /// Oversubscription from the leaves up; 1 where nothing stands.
    over: Vec<f64>,
    radix: u32,
    rail: bool,
    leaf: Option<u32>,
    gb_per_s: Option<f64>,
    latency_ns: f64,
    column: usize,
    leaf_column: Option<usize>,
}

/// The levels, and where each port hangs.
pub(super) struct Grown {
    pub(super) levels: Vec<Level>,
    /// Per port, its leaf.
    pub(super) leaf_of: Vec<u32>,
}

impl FatTree {
    pub(super) fn of(item: &Item<'_>) -> Result<Self, LayoutError> {
        let levels = item.whole("levels")?.unwrap_or(2);
        if levels > MOST_LEVELS {
            let attribute = item.attribute("levels").expect("the default is smaller");
            return Err(attribute.expected("levels from 1 to 8"));
        }
        let over = match item.attribute("over") {
            None => Vec::new(),
            Some(over) => {
                over.value.split(',').map(|part| over.number(part)).collect::<Result<_, _>>()?
            }
        };
        if over.len() >= levels as usize {
            let attribute = item.attribute("over").expect("the default is empty");
            return Err(attribute.expected("a number for each level but the highest, at most"));
        }
        let rail = match item.attribute("rail") {
            None => false,
            Some(Attribute { value: "yes", .. }) => true,
            Some(Attribute { value: "no", .. }) => false,
            Some(attribute) => return Err(attribute.expected("rail=yes or rail=no")),
        };
        let radix = item.whole("radix")?.unwrap_or(RADIX);
        if radix > MOST_RADIX {
            let attribute = item.attribute("radix").expect("the default is smaller");
            return Err(attribute.expected("radix from 1 to 65536"));
        }
        Ok(Self {
            levels,
            over,
            radix,
            rail,
            leaf: item.whole("leaf")?,
            gb_per_s: item.number("gbps")?.map(|gbps| gbps / 8.0),
            latency_ns: item.number("ns")?.unwrap_or(usual::SWITCH_NS),
            column: item.column,
            leaf_column: item.attribute("leaf").map(|attribute| attribute.column),
        })
    }

    /// Hangs the ports of the hosts on leaves, and puts switches above these.
    pub(super) fn grow(&self, placed: &Placed) -> Result<Grown, LayoutError> {
        let most_ports = placed.most_ports().max(1);
        let units = self.units(placed, most_ports)?;
        let count = units.iter().max().map_or(0, |last| last + 1);
        let rails = if self.rail { most_ports } else { 1 };
        let rail_of = |rail: u32| if self.rail { rail } else { 0 };
        let leaf_of: Vec<u32> = placed
            .ports
            .iter()
            .map(|port| units[port.host as usize] * rails + rail_of(port.rail))
            .collect();

        let mut below = vec![0.0; (count * rails) as usize];
        for (port, leaf) in placed.ports.iter().zip(&leaf_of) {
            // What a leaf has upwards is sized for ports of the fabric's speed.
            below[*leaf as usize] += self.gb_per_s.unwrap_or(port.gb_per_s);
        }
        // All leaves have as many links up as the fullest one needs.
        let fullest = below.iter().copied().fold(0.0, f64::max);
        Ok(Grown { levels: self.rise(count * rails, rails, fullest)?, leaf_of })
    }

    /// Per host the unit that it is in: the hosts whose ports share a leaf, or a leaf of each rail.
    fn units(&self, placed: &Placed, most_ports: u32) -> Result<Vec<u32>, LayoutError> {
        if !placed.groups.is_empty() {
            if let Some(column) = self.leaf_column {
                return Err(LayoutError::Twice { column });
            }
            if placed.groups.len() == 1 {
                return Ok(placed.group_of.clone());
            }
            return Err(LayoutError::GroupsInFatTree { column: self.column });
        }
        let hosts = self.leaf.unwrap_or_else(|| {
            let down = self.down();
            if self.rail { down } else { down / most_ports }
        });
        if hosts == 0 {
            return Err(LayoutError::HostTooWide {
                column: self.column,
                ports: most_ports,
                down: self.down(),
            });
        }
        Ok((0..small(placed.group_of.len())).map(|host| host / hosts).collect())
    }

    /// Ports of a leaf that look down: as many as the oversubscription allows.
    fn down(&self) -> u32 {
        if self.levels == 1 {
            return self.radix;
        }
        let over = self.over.first().copied().unwrap_or(1.0);
        let allowed = |down: &u32| f64::from(*down) <= over * f64::from(self.radix - down);
        (0..=self.radix).rev().find(allowed).unwrap_or(0)
    }

    /// The levels above `leaves` leaves that have links up for `below` GB/s each.
    fn rise(&self, leaves: u32, rails: u32, below: f64) -> Result<Vec<Level>, LayoutError> {
        let mut levels = Vec::new();
        let (mut count, mut up) = (leaves, below);
        // How many groups of the level below one group joins: half of a switch's ports look down.
        let mut joined = (self.radix / 2).max(1);
        // All rails of a unit are below the same switches.
        joined = (joined / rails).max(1) * rails;
        for level in 0..self.levels - 1 {
            let last = level + 2 == self.levels;
            let parents = if last { 1 } else { count.div_ceil(joined) };
            up /= self.over.get(level as usize).copied().unwrap_or(1.0);
            levels.push(self.level(
                level,
                count,
                up,
                |group| if last { 0 } else { group / joined },
            ));
            if last {
                self.room(self.radix, count)?;
            }
            up *= f64::from(joined.min(count));
            count = parents;
            joined = (self.radix / 2).max(1);
        }
        if self.levels == 1 {
            self.room(1, count)?;
        }
        levels.push(self.level(self.levels - 1, 1, f64::INFINITY, |_| 0));
        Ok(levels)
    }

    fn room(&self, room: u32, needed: u32) -> Result<(), LayoutError> {
        let column = self.column;
        if needed <= room {
            Ok(())
        } else {
            Err(LayoutError::FatTreeTooSmall { column, room, needed })
        }
    }

    fn level(&self, level: u32, groups: u32, up: f64, parent: impl Fn(u32) -> u32) -> Level {
        let name = match (level, self.levels) {
            (0, 1) => "switch",
            (0, _) => "leaf",
            (_, 2) => "spine",
            (level, levels) if level + 1 == levels => "core",
            (1, 3) => "pod",
            _ => "tier",
        };
        let name = name.to_owned();
        let group = |number: u32| Group {
            name: format!("{name} {number}"),
            parent: parent(number),
            up_gb_per_s: up,
            source: if self.over.is_empty() && self.gb_per_s.is_none() {
                Source::Default
            } else {
                Source::Declared
            },
        };
        Level { groups: (0..groups).map(group).collect(), latency_ns: self.latency_ns, name }
    }
}
