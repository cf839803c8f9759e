//! Which switch of a fabric is how high, and which of them form groups.
//!
//! A switch next to hosts is a leaf; how high another is, its source says (`tier`), or its distance to the leaves does. A
//! group of some height is what stays joined when all higher switches are taken away: each leaf by itself, the leaves and
//! spines of one pod, and so on.

use std::collections::{BTreeMap, HashMap};

use crate::cluster::small;
use crate::{Graph, Kind, LinkKind, NodeId, Source};

/// A switch with hosts is a leaf if at least this part of its cables leads to hosts: management hosts also hang on spines.
const LEAF: f64 = 1.0 / 8.0;

/// The heights and groups of a fabric's switches.
pub(crate) struct Tiers {
    /// From the leaves up; the last one has one group.
    pub(crate) tiers: Vec<Tier>,
    /// The ends of cables at hosts; those of one host in the order of its adapters.
    pub(crate) ends: Vec<End>,
    /// The switches that a host can reach, in the order of the graph.
    pub(crate) switches: Vec<Placed>,
    /// What was not as one would expect, for people.
    pub(crate) notes: Vec<String>,
}

pub(crate) struct Tier {
    pub(crate) name: String,
    pub(crate) groups: Vec<TierGroup>,
}

pub(crate) struct TierGroup {
    pub(crate) name: String,
    pub(crate) parent: u32,
    /// Bandwidth up, all cables together, GB/s.
    pub(crate) up_gb_per_s: f64,
    /// Cables up.
    pub(crate) cables: u32,
    pub(crate) source: Source,
}

/// A switch with its place.
pub(crate) struct Placed {
    pub(crate) id: NodeId,
    /// Its height, 0 for a leaf.
    pub(crate) tier: u32,
    /// Its group of its tier; 0 above the tiers that matter.
    pub(crate) group: u32,
}

/// Where a host's port is cabled to a switch.
#[derive(Clone, Copy)]
pub(crate) struct End {
    /// The port, or the adapter or host where there is nothing finer.
    pub(crate) node: NodeId,
    /// The host that it is in; itself where nobody names one.
    pub(crate) host: NodeId,
    pub(crate) switch: NodeId,
    /// Its group of the lowest tier.
    pub(crate) group: u32,
    pub(crate) gb_per_s: f64,
    pub(crate) source: Source,
}

/// A cable between switches, by their numbers.
struct Cable {
    ends: [usize; 2],
    gb_per_s: f64,
    source: Source,
    count: u32,
}

/// Switches by number, while tiers are found. After those of the graph come pretended leaves: where hosts hang on a higher
/// switch, they are a leaf of their own below it.
struct Finder<'g> {
    graph: &'g Graph,
    switches: Vec<NodeId>,
    numbers: HashMap<NodeId, usize>,
    cables: Vec<Cable>,
    ends: Vec<End>,
    tier_of: Vec<Option<u32>>,
    /// Per switch the number of its leaf: itself, or the one that is pretended.
    leaf_of: Vec<usize>,
    notes: Vec<String>,
}

impl Tiers {
    /// The tiers of a fabric; none when no host hangs on a switch.
    pub(crate) fn of(graph: &Graph) -> Option<Self> {
        let mut finder = Finder::new(graph);
        if finder.ends.is_empty() {
            return None;
        }
        finder.heights();
        finder.pretend_leaves();
        let mut tiers = finder.tiers();
        let placed = |(number, id): (usize, &NodeId)| {
            let tier = finder.tier_of[number]?;
            let found = tiers.get(tier as usize);
            let group = found.and_then(|found| found.group_of.get(number).copied().flatten());
            Some(Placed { id: *id, tier, group: group.unwrap_or_default() })
        };
        let switches = finder.switches.iter().enumerate().filter_map(placed).collect();
        let leaves = tiers.remove(0);
        for end in &mut finder.ends {
            let leaf = finder.leaf_of[finder.numbers[&end.switch]];
            end.group = leaves.group_of[leaf].expect("a switch with hosts is in a group");
        }
        let tiers = std::iter::once(leaves).chain(tiers).map(|found| found.tier).collect();
        Some(Self { tiers, ends: finder.ends, switches, notes: finder.notes })
    }
}

/// A tier, and per switch its group.
struct Found {
    tier: Tier,
    group_of: Vec<Option<u32>>,
}

impl<'g> Finder<'g> {
    fn new(graph: &'g Graph) -> Self {
        let is_switch = |id: NodeId| graph.node(id).kind == Kind::Switch;
        let switches: Vec<NodeId> =
            graph.nodes().map(|(id, _)| id).filter(|id| is_switch(*id)).collect();
        let numbers: HashMap<NodeId, usize> = switches.iter().copied().zip(0..).collect();
        let mut cables = Vec::new();
        let mut ends = Vec::new();
        for (_, link) in graph.links().filter(|(_, link)| link.kind == LinkKind::Cable) {
            let [a, b] = link.ends;
            let (switch, node) = match [numbers.get(&a), numbers.get(&b)] {
                [Some(one), Some(other)] => {
                    let (gb_per_s, source) = (link.gb_per_s, link.source);
                    cables.push(Cable { ends: [*one, *other], gb_per_s, source, count: 1 });
                    continue;
                }
                [Some(_), None] => (a, b),
                [None, Some(_)] => (b, a),
                [None, None] => continue,
            };
            if graph.node(node).kind != Kind::Other {
                let (gb_per_s, source) = (link.gb_per_s, link.source);
                let host = graph.host(node).unwrap_or(node);
                ends.push(End { node, host, switch, group: 0, gb_per_s, source });
            }
        }
        // A host's ports in the order of its adapters.
        ends.sort_by_key(|end: &End| (graph.parent(end.node).unwrap_or(end.node), end.node));
        let leaf_of = (0..switches.len()).collect();
        let tier_of = vec![None; switches.len()];
        Self { graph, switches, numbers, cables, ends, tier_of, leaf_of, notes: Vec::new() }
    }

    fn heights(&mut self) {
        let said = |id: &NodeId| self.graph.node(*id).attribute("tier")?.parse().ok();
        let said: Option<Vec<u32>> = self.switches.iter().map(said).collect();
        match said {
            Some(said) => self.tier_of = said.into_iter().map(Some).collect(),
            None => self.measure(),
        }
    }

    /// Heights by distance to the leaves.
    fn measure(&mut self) {
        let mut hosts = vec![0.0; self.switches.len()];
        for end in &self.ends {
            hosts[self.numbers[&end.switch]] += 1.0;
        }
        let mut all = hosts.clone();
        let mut near: Vec<Vec<usize>> = vec![Vec::new(); self.switches.len()];
        for Cable { ends: [a, b], .. } in &self.cables {
            near[*a].push(*b);
            near[*b].push(*a);
            all[*a] += 1.0;
            all[*b] += 1.0;
        }
        let with_hosts = || (0..self.switches.len()).filter(|switch| hosts[*switch] > 0.0);
        let mut layer: Vec<usize> =
            with_hosts().filter(|switch| hosts[*switch] >= LEAF * all[*switch]).collect();
        if layer.is_empty() {
            layer = with_hosts().collect();
        }
        for height in 0.. {
            layer.retain(|switch| self.tier_of[*switch].is_none());
            layer.sort_unstable();
            layer.dedup();
            if layer.is_empty() {
                break;
            }
            for switch in &layer {
                self.tier_of[*switch] = Some(height);
            }
            layer = layer.iter().flat_map(|switch| near[*switch].iter().copied()).collect();
        }
        for (switch, id) in self.switches.iter().enumerate() {
            if self.tier_of[switch].is_none() {
                // Its own hosts, if it has any, are few, and nothing else is joined to it.
                if hosts[switch] > 0.0 {
                    self.tier_of[switch] = Some(0);
                } else {
                    self.notes.push(format!(
                        "the switch {} has no way to a host",
                        self.graph.node(*id).name
                    ));
                }
            }
        }
    }

    fn pretend_leaves(&mut self) {
        for end in &self.ends {
            let switch = self.numbers[&end.switch];
            if self.tier_of[switch] == Some(0) {
                continue;
            }
            if self.leaf_of[switch] == switch {
                let leaf = self.tier_of.len();
                self.leaf_of[switch] = leaf;
                self.tier_of.push(Some(0));
                self.cables.push(Cable {
                    ends: [leaf, switch],
                    gb_per_s: 0.0,
                    source: end.source,
                    count: 0,
                });
                let name = &self.graph.node(end.switch).name;
                self.notes.push(format!("hosts hang on {name}, which is no leaf"));
            }
            let leaf = self.leaf_of[switch];
            let cable = self.cables.iter_mut().rev().find(|cable| cable.ends[0] == leaf);
            let cable = cable.expect("a pretended leaf has a cable");
            cable.gb_per_s += end.gb_per_s;
            cable.count += 1;
        }
    }

    fn name_of(&self, switch: usize) -> String {
        match self.switches.get(switch) {
            Some(id) => self.graph.node(*id).name.clone(),
            None => {
                let on = self.leaf_of.iter().position(|leaf| *leaf == switch);
                format!(
                    "hosts on {}",
                    self.name_of(on.expect("each pretended leaf is of a switch"))
                )
            }
        }
    }

    fn tiers(&mut self) -> Vec<Found> {
        let highest = self.tier_of.iter().flatten().max().copied().unwrap_or_default();
        let mut sets = Sets::new(self.tier_of.len());
        let mut found: Vec<Found> = Vec::new();
        for height in 0..=highest {
            for Cable { ends: [a, b], .. } in &self.cables {
                if self.tier_of[*a].max(self.tier_of[*b]) == Some(height)
                    && self.tier_of[*a].min(self.tier_of[*b]).is_some()
                {
                    sets.join(*a, *b);
                }
            }
            let tier = self.tier(height, &mut sets);
            link(found.last_mut(), &tier);
            let one = tier.tier.groups.len() == 1;
            found.push(tier);
            if one {
                break;
            }
        }
        let last = found.last_mut().expect("there is one tier at least");
        if last.tier.groups.len() > 1 {
            self.notes.push(format!(
                "nothing joins the {} groups of {}: taken as joined by one switch",
                last.tier.groups.len(),
                last.tier.name
            ));
            let group = TierGroup {
                name: "switch".to_owned(),
                parent: 0,
                up_gb_per_s: f64::INFINITY,
                cables: 0,
                source: Source::Default,
            };
            // What nobody describes lets all through.
            for group in &mut last.tier.groups {
                group.up_gb_per_s = f64::INFINITY;
            }
            let tier = Tier { name: "switch".to_owned(), groups: vec![group] };
            found.push(Found { tier, group_of: Vec::new() });
        } else {
            last.tier.groups[0].up_gb_per_s = f64::INFINITY;
        }
        found
    }

    /// The groups of one height.
    fn tier(&self, height: u32, sets: &mut Sets) -> Found {
        let mut numbers: BTreeMap<usize, u32> = BTreeMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut group_of = vec![None; self.tier_of.len()];
        for switch in (0..self.tier_of.len())
            .filter(|switch| self.tier_of[*switch].is_some_and(|tier| tier <= height))
        {
            let number = *numbers.entry(sets.root(switch)).or_insert_with(|| {
                members.push(Vec::new());
                small(members.len() - 1)
            });
            group_of[switch] = Some(number);
            members[number as usize].push(switch);
        }
        let mut groups: Vec<TierGroup> = members
            .iter()
            .map(|members| {
                let of_height: Vec<usize> = members
                    .iter()
                    .copied()
                    .filter(|switch| self.tier_of[*switch] == Some(height))
                    .collect();
                let named = if of_height.is_empty() { members } else { &of_height };
                let name = match &**named {
                    [one] => self.name_of(*one),
                    several => {
                        format!("{} and {} more", self.name_of(several[0]), several.len() - 1)
                    }
                };
                TierGroup { name, parent: 0, up_gb_per_s: 0.0, cables: 0, source: Source::Declared }
            })
            .collect();
        for cable in &self.cables {
            for (near, far) in [(0, 1), (1, 0)] {
                let above = self.tier_of[cable.ends[far]].is_some_and(|tier| tier > height);
                if let Some(group) = group_of[cable.ends[near]].filter(|_| above) {
                    let group = &mut groups[group as usize];
                    group.up_gb_per_s += cable.gb_per_s;
                    group.cables += cable.count;
                    group.source = group.source.min(cable.source);
                }
            }
        }
        let what = self.switches.iter().zip(&self.tier_of).find_map(|(id, tier)| {
            (*tier == Some(height)).then(|| self.graph.node(*id).attribute("what"))?
        });
        let usual = ["leaf", "spine", "core"].get(height as usize).copied();
        let name = match (what, usual) {
            (Some(name), _) | (None, Some(name)) => name.to_owned(),
            (None, None) => format!("tier {height}"),
        };
        Found { tier: Tier { name, groups }, group_of }
    }
}

/// Says in which groups of a tier those of the tier below are.
fn link(below: Option<&mut Found>, above: &Found) {
    let Some(below) = below else { return };
    for (group, parent) in below.group_of.iter().zip(&above.group_of) {
        if let (Some(group), Some(parent)) = (group, parent) {
            below.tier.groups[*group as usize].parent = *parent;
        }
    }
}

/// Sets that only ever join.
struct Sets(Vec<usize>);

impl Sets {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&mut self, mut of: usize) -> usize {
        while self.0[of] != of {
            self.0[of] = self.0[self.0[of]];
            of = self.0[of];
        }
        of
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}
