//! Where everything stands in the picture of a fabric.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{ODD, RAILS};
use crate::fabric::oddities;
use crate::fabric::rails::Rails;
use crate::fabric::tiers::{Placed, Tiers};
use crate::{Graph, NodeId, Source};

/// Around everything.
pub(super) const MARGIN: f64 = 20.0;
/// Width of a character over the size of its font: 0.602 by itself, but some renderers round it to pixels, 7 at a size of 11.
const CHARACTER: f64 = 0.64;
/// Height of the title and the legend.
const HEAD: f64 = 84.0;
/// Height of a switch's box: two lines of its name and one of its way up.
const SWITCH: f64 = 50.0;
/// Between two rows of switches, with few bundles and with many.
const BETWEEN: [f64; 2] = [90.0, 200.0];
/// With more bundles than these they need more room.
const MANY: usize = 80;
const SMALL: f64 = 11.0;
/// Height of a host's box.
const HOST: f64 = 20.0;
/// A port's dot, and the space to the next.
const DOT: f64 = 7.0;
/// Most rows of hosts below a leaf.
const ROWS: usize = 12;
/// With more hosts than these, they are counted and not drawn.
const MOST_HOSTS: usize = 600;

pub(super) struct Layout {
    pub(super) shapes: Vec<Shape>,
    pub(super) labels: Vec<Label>,
    pub(super) width: f64,
    pub(super) height: f64,
}

pub(super) enum Shape {
    Box { x: f64, y: f64, width: f64, height: f64, fill: &'static str, stroke: &'static str },
    Line { from: [f64; 2], to: [f64; 2], width: f64, colour: &'static str, odd: bool },
}

/// A line of text; `x` is its left end, `y` its base.
pub(super) struct Label {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) size: f64,
    pub(super) text: String,
    pub(super) colour: &'static str,
}

impl Label {
    pub(super) fn new(x: f64, y: f64, size: f64, text: &str) -> Self {
        Self { x, y, size, text: text.to_owned(), colour: "#202020" }
    }

    pub(super) fn width(&self) -> f64 {
        wide(self.text.chars().count(), self.size)
    }
}

fn wide(characters: usize, size: f64) -> f64 {
    // Pictures have fewer than 2^32 characters.
    f64::from(u32::try_from(characters).unwrap_or(u32::MAX)) * CHARACTER * size
}

/// Leaves that share hosts, and these.
struct Unit {
    leaves: Vec<NodeId>,
    hosts: Vec<(NodeId, Vec<&'static str>)>,
    x: f64,
    width: f64,
}

/// The picture in the making.
struct Drawing<'g> {
    graph: &'g Graph,
    tiers: &'g Tiers,
    rails: &'g Rails,
    placed: HashMap<NodeId, &'g Placed>,
    /// Per leaf what its hosts can send, GB/s.
    below: Vec<f64>,
    /// The middle and the width of each switch's box.
    at: HashMap<NodeId, [f64; 2]>,
    /// Per tier the y of its boxes.
    rows: Vec<f64>,
    out: Layout,
}

impl Layout {
    pub(super) fn of(graph: &Graph, tiers: &Tiers, rails: &Rails) -> Self {
        let highest = tiers.switches.iter().map(|switch| switch.tier).max().unwrap_or_default();
        // The rest are cables to hosts, which are not drawn.
        let drawn = oddities::bundles(graph).len().saturating_sub(tiers.ends.len());
        let between = BETWEEN[usize::from(drawn > MANY)];
        let rows: Vec<f64> = (0..=highest)
            .map(|tier| HEAD + f64::from(highest - tier) * (SWITCH + between))
            .collect();
        let out =
            Self { shapes: Vec::new(), labels: Vec::new(), width: 0.0, height: rows[0] + SWITCH };
        let mut below = vec![0.0; tiers.tiers[0].groups.len()];
        for end in &tiers.ends {
            below[end.group as usize] += end.gb_per_s;
        }
        let placed = tiers.switches.iter().map(|switch| (switch.id, switch)).collect();
        let mut drawing =
            Drawing { placed, below, graph, tiers, rails, at: HashMap::new(), rows, out };
        let units = drawing.units();
        let units = drawing.place_leaves(units);
        drawing.place_above();
        drawing.cables();
        for unit in &units {
            drawing.hosts(unit);
        }
        drawing.switches();
        drawing.out
    }
}

impl<'g> Drawing<'g> {
    /// Leaves that share hosts, sorted by their groups from the top down.
    fn units(&self) -> Vec<Unit> {
        let mut by_host: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        for (number, end) in self.tiers.ends.iter().enumerate() {
            by_host.entry(end.host).or_default().push(number);
        }
        let unit_of = self.sets(&by_host);
        let mut units: BTreeMap<NodeId, Unit> = BTreeMap::new();
        for (leaf, unit) in &unit_of {
            let unit = units.entry(*unit).or_insert_with(|| Unit {
                leaves: vec![],
                hosts: vec![],
                x: 0.0,
                width: 0.0,
            });
            unit.leaves.push(*leaf);
        }
        for (host, ends) in &by_host {
            let colours = ends.iter().map(|end| self.colour_of_end(*end)).collect();
            let of_leaf = ends.iter().find_map(|end| unit_of.get(&self.tiers.ends[*end].switch));
            // Hosts on higher switches only are drawn with the first leaves.
            let unit = of_leaf.or_else(|| unit_of.values().next());
            if let Some(unit) = unit.and_then(|unit| units.get_mut(unit)) {
                unit.hosts.push((*host, colours));
            }
        }
        let mut units: Vec<Unit> = units.into_values().collect();
        let name = |id: &NodeId| natural(&self.graph.node(*id).name);
        for unit in &mut units {
            unit.leaves.sort_by_cached_key(|leaf| (self.rail_of(*leaf), name(leaf)));
            unit.hosts.sort_by_cached_key(|(host, _)| name(host));
        }
        units.sort_by_cached_key(|unit| {
            let mut path = self.path(unit.leaves[0]);
            path.reverse();
            // Leaves are often named by rail first and set last: hosts say better which set comes first.
            let first = unit.hosts.first().map(|(host, _)| name(host));
            (path, first, name(&unit.leaves[0]))
        });
        units
    }

    /// Per leaf the set of leaves that it shares hosts with, known by its first.
    fn sets(&self, by_host: &BTreeMap<NodeId, Vec<usize>>) -> BTreeMap<NodeId, NodeId> {
        let mut unit_of: BTreeMap<NodeId, NodeId> = self
            .tiers
            .switches
            .iter()
            .filter(|switch| switch.tier == 0)
            .map(|switch| (switch.id, switch.id))
            .collect();
        let leaves = |ends: &[usize]| -> BTreeSet<NodeId> {
            ends.iter()
                .map(|end| self.tiers.ends[*end].switch)
                .filter(|leaf| unit_of.contains_key(leaf))
                .collect()
        };
        let joined: BTreeSet<BTreeSet<NodeId>> =
            by_host.values().map(|ends| leaves(ends)).collect();
        for leaves in joined {
            let units: BTreeSet<NodeId> = leaves.iter().map(|leaf| unit_of[leaf]).collect();
            if let Some(first) = units.first() {
                unit_of
                    .values_mut()
                    .filter(|unit| units.contains(unit))
                    .for_each(|unit| *unit = *first);
            }
        }
        unit_of
    }

    /// The groups that a leaf is in, from its parent up.
    fn path(&self, leaf: NodeId) -> Vec<u32> {
        let mut group = self.placed[&leaf].group;
        let mut path = Vec::new();
        for tier in &self.tiers.tiers {
            group = tier.groups.get(group as usize).map_or(0, |group| group.parent);
            path.push(group);
        }
        path
    }

    fn rail_of(&self, leaf: NodeId) -> u32 {
        let rail = self
            .rails
            .of_leaf
            .as_ref()
            .and_then(|rails| rails.get(self.placed[&leaf].group as usize));
        rail.copied().unwrap_or_default()
    }

    fn colour_of_leaf(&self, leaf: NodeId) -> &'static str {
        if self.rails.of_leaf.is_some() {
            RAILS[self.rail_of(leaf) as usize % RAILS.len()]
        } else {
            "#505050"
        }
    }

    fn colour_of_end(&self, end: usize) -> &'static str {
        match &self.rails.of_leaf {
            Some(of_leaf) => {
                RAILS[of_leaf[self.tiers.ends[end].group as usize] as usize % RAILS.len()]
            }
            None => "#505050",
        }
    }

    /// The lines of a switch's box.
    fn lines(&self, switch: &Placed) -> Vec<String> {
        let mut lines = two_lines(&self.graph.node(switch.id).name);
        if switch.tier == 0
            && self.tiers.tiers.len() > 1
            && let Some(group) = self.tiers.tiers[0].groups.get(switch.group as usize)
            && group.source > Source::Default
        {
            let below = self.below[switch.group as usize];
            let ratio = (below / group.up_gb_per_s * 100.0).round() / 100.0;
            lines.push(format!("{} up {ratio}:1", group.cables));
        }
        lines
    }

    fn box_width(&self, switch: &Placed) -> f64 {
        let longest =
            self.lines(switch).iter().map(|line| line.chars().count()).max().unwrap_or_default();
        wide(longest, SMALL) + 12.0
    }

    fn place_leaves(&mut self, mut units: Vec<Unit>) -> Vec<Unit> {
        let widths: HashMap<NodeId, f64> =
            self.tiers.switches.iter().map(|switch| (switch.id, self.box_width(switch))).collect();
        let drawn = units.iter().map(|unit| unit.hosts.len()).sum::<usize>() <= MOST_HOSTS;
        let mut x = MARGIN;
        for unit in &mut units {
            let leaves: f64 = unit.leaves.iter().map(|leaf| widths[leaf] + 8.0).sum();
            let columns = if drawn { unit.hosts.len().div_ceil(ROWS) } else { 0 };
            let cell = self.cell(unit);
            let count = wide(counted(unit).chars().count(), SMALL) + 12.0;
            unit.width = leaves.max(wide_columns(columns, cell)).max(count) + 12.0;
            unit.x = x;
            let mut left = x + (unit.width - leaves) / 2.0 + 4.0;
            for leaf in &unit.leaves {
                self.at.insert(*leaf, [left + widths[leaf] / 2.0, widths[leaf]]);
                left += widths[leaf] + 8.0;
            }
            x += unit.width + 16.0;
        }
        self.out.width = x + MARGIN;
        units
    }

    /// Width of a host's box in a unit.
    fn cell(&self, unit: &Unit) -> f64 {
        let names = unit.hosts.iter().map(|(host, ports)| {
            let dots = u32::try_from(ports.len()).unwrap_or(u32::MAX);
            wide(shown(&self.graph.node(*host).name).chars().count(), SMALL)
                + DOT * f64::from(dots)
                + 14.0
        });
        names.fold(0.0, f64::max)
    }

    /// Higher switches: those of one group side by side over what they join.
    fn place_above(&mut self) {
        let highest =
            self.tiers.switches.iter().map(|switch| switch.tier).max().unwrap_or_default();
        let tiers = self.tiers;
        for tier in 1..=highest {
            let mut groups: BTreeMap<u32, Vec<&Placed>> = BTreeMap::new();
            for switch in tiers.switches.iter().filter(|switch| switch.tier == tier) {
                groups.entry(switch.group).or_default().push(switch);
            }
            let mut rows: Vec<(f64, f64, &Placed)> = Vec::new();
            for (group, mut switches) in groups {
                switches.sort_by_cached_key(|switch| natural(&self.graph.node(switch.id).name));
                let [left, right] = self.extent(tier, group);
                let step = (right - left) / wide(switches.len(), 1.0 / CHARACTER);
                for (number, switch) in switches.into_iter().enumerate() {
                    let middle = left + step * (wide(number, 1.0 / CHARACTER) + 0.5);
                    rows.push((middle, self.box_width(switch), switch));
                }
            }
            rows.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut free = MARGIN;
            for (middle, width, switch) in rows {
                let middle = middle.max(free + width / 2.0);
                free = middle + width / 2.0 + 8.0;
                self.at.insert(switch.id, [middle, width]);
                self.out.width = self.out.width.max(free + MARGIN);
            }
        }
    }

    /// From where to where the leaves of a group reach.
    fn extent(&self, tier: u32, group: u32) -> [f64; 2] {
        let mut extent = [f64::INFINITY, 0.0_f64];
        for leaf in self.tiers.switches.iter().filter(|switch| switch.tier == 0) {
            let mut above = leaf.group;
            for tier in self.tiers.tiers.iter().take(tier as usize) {
                above = tier.groups.get(above as usize).map_or(0, |group| group.parent);
            }
            let beyond = tier as usize >= self.tiers.tiers.len();
            if let Some([middle, width]) =
                self.at.get(&leaf.id).filter(|_| beyond || above == group)
            {
                extent = [extent[0].min(middle - width / 2.0), extent[1].max(middle + width / 2.0)];
            }
        }
        if extent[0] > extent[1] { [MARGIN, self.out.width - MARGIN] } else { extent }
    }

    /// The bundles, those that are odd over the others. Their ends are spread over the edge of a box, by where they go.
    fn cables(&mut self) {
        let bundles = oddities::bundles(self.graph);
        let usual = usual_bundle(self.graph, &bundles);
        let (mut lines, mut odd_lines) = (Vec::new(), Vec::new());
        for ([a, b], (count, _)) in &bundles {
            let (Some(a), Some(b)) = (self.placed.get(a), self.placed.get(b)) else { continue };
            let (lower, upper) = if a.tier <= b.tier { (a, b) } else { (b, a) };
            let odd = usual.is_some_and(|usual| *count < usual);
            let colour = match (odd, lower.tier) {
                (true, _) => ODD,
                (false, 0) => self.colour_of_leaf(lower.id),
                (false, _) => "#505050",
            };
            let below = if lower.tier == upper.tier { SWITCH / 2.0 } else { SWITCH };
            let line = Shape::Line {
                from: [self.edge(lower.id, upper.id), self.rows[lower.tier as usize]],
                to: [self.edge(upper.id, lower.id), self.rows[upper.tier as usize] + below],
                width: f64::from((*count).min(6)) * 0.8,
                colour,
                odd,
            };
            if odd { odd_lines.push(line) } else { lines.push(line) }
        }
        self.out.shapes.extend(lines);
        self.out.shapes.extend(odd_lines);
    }

    /// Where on a box's edge a line to another box starts.
    fn edge(&self, of: NodeId, to: NodeId) -> f64 {
        let ([from, width], [to, _]) = (self.at[&of], self.at[&to]);
        from + (to - from) / self.out.width * width * 0.8
    }

    fn switches(&mut self) {
        for switch in &self.tiers.switches {
            let [middle, width] = self.at[&switch.id];
            let y = self.rows[switch.tier as usize];
            let stroke = if switch.tier == 0 { self.colour_of_leaf(switch.id) } else { "#505050" };
            let (x, height) = (middle - width / 2.0, SWITCH);
            self.out.shapes.push(Shape::Box { x, y, width, height, fill: "#FAFAFA", stroke });
            let lines = self.lines(switch);
            let mut base = y + (SWITCH - wide(lines.len(), 14.0 / CHARACTER)) / 2.0 + 11.0;
            for text in lines {
                let left = middle - wide(text.chars().count(), SMALL) / 2.0;
                self.out.labels.push(Label::new(left, base, SMALL, &text));
                base += 14.0;
            }
        }
    }

    fn hosts(&mut self, unit: &Unit) {
        let top = self.rows[0] + SWITCH + 14.0;
        if unit.hosts.is_empty() {
            return;
        }
        let cell = self.cell(unit);
        if self.counts_only() {
            self.out.labels.push(Label::new(unit.x + 6.0, top + 14.0, SMALL, &counted(unit)));
            self.frame(unit, top + 24.0);
            return;
        }
        let fits = (1..).find(|columns| wide_columns(columns + 1, cell) > unit.width - 12.0);
        let columns = fits.unwrap_or(1).min(unit.hosts.len());
        let rows = unit.hosts.len().div_ceil(columns);
        for (number, (host, ports)) in unit.hosts.iter().enumerate() {
            let x = unit.x + 6.0 + wide_columns(number / rows, cell);
            let y = top + wide(number % rows, (HOST + 4.0) / CHARACTER);
            self.out.shapes.push(Shape::Box {
                x,
                y,
                width: cell,
                height: HOST,
                fill: "#FFFFFF",
                stroke: "#B0B0B0",
            });
            let name = shown(&self.graph.node(*host).name);
            self.out.labels.push(Label::new(x + 5.0, y + 14.0, SMALL, &name));
            let mut dot = x + cell - DOT * wide(ports.len(), 1.0 / CHARACTER) - 3.0;
            for fill in ports {
                let side = DOT - 1.0;
                self.out.shapes.push(Shape::Box {
                    x: dot,
                    y: y + 7.0,
                    width: side,
                    height: side,
                    fill,
                    stroke: fill,
                });
                dot += DOT;
            }
        }
        let bottom = top + wide(rows, (HOST + 4.0) / CHARACTER);
        self.out.labels.push(Label::new(unit.x + 6.0, bottom + 12.0, SMALL, &counted(unit)));
        self.frame(unit, bottom + 20.0);
    }

    /// The frame around a unit's leaves and hosts; behind all else.
    fn frame(&mut self, unit: &Unit, bottom: f64) {
        let y = self.rows[0] - 8.0;
        let (x, width, height) = (unit.x, unit.width, bottom - y);
        self.out
            .shapes
            .insert(0, Shape::Box { x, y, width, height, fill: "#F2F4F7", stroke: "#D0D4DA" });
        self.out.height = self.out.height.max(bottom + 8.0);
    }

    fn counts_only(&self) -> bool {
        let hosts: BTreeSet<NodeId> = self.tiers.ends.iter().map(|end| end.host).collect();
        hosts.len() > MOST_HOSTS
    }
}

fn wide_columns(columns: usize, cell: f64) -> f64 {
    wide(columns, 1.0 / CHARACTER) * (cell + 6.0)
}

fn counted(unit: &Unit) -> String {
    let ports: usize = unit.hosts.iter().map(|(_, ports)| ports.len()).sum();
    format!("{} hosts, {ports} ports", unit.hosts.len())
}

/// What most pairs of joined switches have between them; none where no switches are joined.
pub(super) fn usual_bundle(
    graph: &Graph,
    bundles: &BTreeMap<[NodeId; 2], (u32, f64)>,
) -> Option<u32> {
    let switches =
        |ids: &[NodeId; 2]| ids.iter().all(|id| graph.node(*id).kind == crate::Kind::Switch);
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    for (_, (count, _)) in bundles.iter().filter(|(ids, _)| switches(ids)) {
        *counts.entry(*count).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(count, pairs)| (*pairs, *count)).map(|(count, _)| count)
}

/// A name, cut where it is longer than a box should be.
fn shown(name: &str) -> String {
    if name.chars().count() <= 30 {
        return name.to_owned();
    }
    name.chars().take(29).chain(['\u{2026}']).collect()
}

/// A long name in two lines, broken at the sign that is nearest to its middle.
fn two_lines(name: &str) -> Vec<String> {
    let name = shown(name);
    let count = name.chars().count();
    if count <= 12 {
        return vec![name];
    }
    let breaks =
        name.char_indices().filter(|(_, c)| matches!(c, '-' | '_' | '.' | ' ' | ':' | '/'));
    let middle = name.len() / 2;
    let best = breaks.map(|(at, c)| at + c.len_utf8()).min_by_key(|at| at.abs_diff(middle));
    match best.filter(|at| *at < name.len()) {
        Some(at) => vec![name[..at].to_owned(), name[at..].to_owned()],
        None => vec![name],
    }
}

/// A name for ordering: numbers in it count as numbers.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts: Vec<(String, String)> = vec![Default::default()];
    for c in name.chars() {
        let last = parts.last_mut().expect("there is one always");
        if c.is_ascii_digit() {
            last.1.push(c);
        } else if last.1.is_empty() {
            last.0.push(c);
        } else {
            parts.push((c.to_string(), String::new()));
        }
    }
    parts.into_iter().map(|(text, number)| (text, number.parse().unwrap_or_default())).collect()
}
