//! Differences of two graphs.

use std::collections::{BTreeMap, BTreeSet};

use dure_topology::{Format, Graph, Kind, LinkKind, Node, NodeId, PathType, Source};

use super::super::load::Description;
use super::super::matrix::Matrix;
use super::super::words;
use super::pairs::Pairs;

/// What each machine has of its own, what changes from boot to boot, and what the bandwidth of a link says already.
const OWN: [&str; 27] = [
    "address",
    "busid",
    "cpus_allowed",
    "current_link_speed",
    "dev",
    "gp_index",
    "gpu.dev",
    "gpu.rank",
    "guid",
    "host_hash",
    "id",
    "interface",
    "lid",
    "link_speed",
    "link_width",
    "name",
    "node_guid",
    "os.gp_index",
    "os.id",
    "pci_busid",
    "port_guid",
    "render_node",
    "resource",
    "serial",
    "speed",
    "sys_image_guid",
    "uuid",
];

/// How two descriptions differ.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// In sentences.
    pub(super) differences: Vec<String>,
    /// What one of them says nothing of.
    pub(super) notes: Vec<String>,
}

/// Two descriptions, with their names.
struct Both<'d> {
    a: &'d Graph,
    b: &'d Graph,
    names: [&'d str; 2],
    pairs: Pairs,
    /// Whether both are of one format, so that what one says the other would say too.
    alike: bool,
    /// Figures that differ by less than this part are the same.
    within: f64,
}

impl Comparison {
    pub(super) fn of((a, b): (&Description, &Description), within: f64) -> Self {
        let pairs = Pairs::of(&a.graph, &b.graph);
        // Own XML says of a host what its files say.
        let sort =
            |description: &Description| description.format.filter(|format| *format != Format::Dure);
        let alike = sort(a) == sort(b);
        let short = [a.short(), b.short()];
        let names = if short[0] == short[1] { [&*a.name, &*b.name] } else { short };
        let both = Both { a: &a.graph, b: &b.graph, names, pairs, alike, within };
        let mut found = Self::default();
        let unsaid = both.unsaid(&mut found.notes);
        both.presence(&unsaid, &mut found.differences);
        for (a, b) in &both.pairs.all {
            both.node(*a, *b, &mut found.differences);
        }
        both.links(&mut found);
        both.paths(&mut found.differences);
        found
    }
}

impl Both<'_> {
    /// Kinds of nodes that one description has none of, where they are of different formats.
    fn unsaid(&self, notes: &mut Vec<String>) -> BTreeSet<Kind> {
        let kinds =
            |graph: &Graph| -> BTreeSet<_> { graph.nodes().map(|(_, node)| node.kind).collect() };
        let (first, second) = (kinds(self.a), kinds(self.b));
        let mut unsaid = BTreeSet::new();
        // Whatever does not say `accelerator` has none.
        let told = [Kind::Host, Kind::Numa, Kind::Accelerator, Kind::Nic];
        for (has, lacks, name) in
            [(&second, &first, self.names[0]), (&first, &second, self.names[1])]
        {
            let missing = has.difference(lacks).filter(|kind| !self.alike && !told.contains(kind));
            let missing: Vec<_> = missing.copied().collect();
            if !missing.is_empty() {
                let kinds: Vec<_> = missing.iter().map(|kind| plural(*kind)).collect();
                notes.push(format!("{name} says nothing of {}", kinds.join(", ")));
            }
            unsaid.extend(missing);
        }
        // Without host bridges only switches are told, and not the ports of bridges.
        if unsaid.contains(&Kind::HostBridge) {
            notes.push("bridges, of which one of the two shows switches only".to_owned());
            unsaid.insert(Kind::Bridge);
        }
        unsaid
    }

    /// Nodes of one graph that the other has not.
    fn presence(&self, unsaid: &BTreeSet<Kind>, out: &mut Vec<String>) {
        let [a, b] = self.names;
        let mut tell = |graph: &Graph, id: NodeId, [has, lacks]: [&str; 2]| {
            if !unsaid.contains(&graph.node(id).kind) {
                out.push(format!("{} is in {has} and not in {lacks}", name(graph, id)));
            }
        };
        for (id, _) in self.a.nodes().filter(|(id, _)| self.pairs.second(*id).is_none()) {
            tell(self.a, id, [a, b]);
        }
        for (id, _) in self.b.nodes().filter(|(id, _)| !self.pairs.has_second(*id)) {
            tell(self.b, id, [b, a]);
        }
    }

    fn node(&self, a: NodeId, b: NodeId, out: &mut Vec<String>) {
        let [in_a, in_b] = self.names;
        let (first, second) = (self.a.node(a), self.b.node(b));
        let is = name(self.a, a);
        if first.name != second.name && first.kind != Kind::Host {
            out.push(format!("{is} in {in_a} is {} in {in_b}", second.name));
        }
        let at = [self.numa(self.a, a), self.numa(self.b, b)];
        if let [Some(at_a), Some(at_b)] = at
            && self.pairs.second(at_a) != Some(at_b)
        {
            let (at_a, at_b) = (&self.a.node(at_a).name, &self.b.node(at_b).name);
            out.push(format!("{is} is at {at_a} in {in_a}, at {at_b} in {in_b}"));
        }
        self.attributes(&is, first, second, out);
        self.link_up(&is, (a, b), out);
    }

    /// The NUMA node around a device.
    fn numa(&self, graph: &Graph, id: NodeId) -> Option<NodeId> {
        graph.ancestors(id).find(|around| graph.node(*around).kind == Kind::Numa)
    }

    fn attributes(&self, is: &str, a: &Node, b: &Node, out: &mut Vec<String>) {
        let [in_a, in_b] = self.names;
        for name in names_of(a).into_iter().filter(|name| !OWN.contains(name)) {
            let first = values(a, name);
            match Some(values(b, name)).filter(|values| !values.is_empty()) {
                Some(second) if self.same(&first, &second) => {}
                Some(second) => {
                    out.push(format!("{is}: {name} is {first} in {in_a}, {second} in {in_b}"))
                }
                None if self.alike => {
                    out.push(format!("{is}: {name} is {first} in {in_a}, and {in_b} does not say"))
                }
                None => {}
            }
        }
        let new = |name: &str| a.attribute(name).is_none() && !OWN.contains(&name);
        for name in names_of(b).into_iter().filter(|name| self.alike && new(name)) {
            let second = values(b, name);
            out.push(format!("{is}: {name} is {second} in {in_b}, and {in_a} does not say"));
        }
    }

    /// Whether two values are the same, or figures that differ by little.
    fn same(&self, a: &str, b: &str) -> bool {
        let number = |text: &str| text.parse::<f64>().ok();
        a == b || number(a).zip(number(b)).is_some_and(|(a, b)| self.near(a, b))
    }

    fn near(&self, a: f64, b: f64) -> bool {
        a == b || (a - b).abs() <= self.within * a.abs().max(b.abs())
    }

    /// The link to what contains a node, where both say something.
    fn link_up(&self, is: &str, (a, b): (NodeId, NodeId), out: &mut Vec<String>) {
        let [in_a, in_b] = self.names;
        let (Some(first), Some(second)) = (self.a.link_up(a), self.b.link_up(b)) else { return };
        let says = |graph: &Graph, id: NodeId, gb_per_s: f64| {
            let rate =
                words::pcie(graph.node(id)).map_or_else(String::new, |rate| format!(" ({rate})"));
            format!("{} GB/s{rate}", words::figure(gb_per_s))
        };
        let (one, two) = (says(self.a, a, first.gb_per_s), says(self.b, b, second.gb_per_s));
        match (first.source == Source::Default, second.source == Source::Default) {
            (false, false) if self.near(first.gb_per_s, second.gb_per_s) => {}
            (false, false) => {
                out.push(format!("{is}: its link has {one} in {in_a}, {two} in {in_b}"))
            }
            (false, true) if self.alike => {
                out.push(format!("{is}: its link has {one} in {in_a}, and {in_b} does not say"))
            }
            (true, false) if self.alike => {
                out.push(format!("{is}: its link has {two} in {in_b}, and {in_a} does not say"))
            }
            _ => {}
        }
    }

    /// Links between nodes that do not contain each other: between accelerators, and cables.
    fn links(&self, found: &mut Comparison) {
        let [in_a, in_b] = self.names;
        let first = across(self.a, |id| self.pairs.second(id));
        let second = across(self.b, |id| self.pairs.has_second(id).then_some(id));
        let kinds =
            |links: &Across| -> BTreeSet<_> { links.keys().map(|(kind, _)| *kind).collect() };
        let (kinds_a, kinds_b) = (kinds(&first), kinds(&second));
        let mut unsaid = BTreeSet::new();
        if !self.alike {
            unsaid.extend(kinds_a.symmetric_difference(&kinds_b).copied());
            for kind in &unsaid {
                let lacks = if kinds_a.contains(kind) { in_b } else { in_a };
                found.notes.push(format!("{lacks} says nothing of links of kind {kind}"));
            }
        }
        let keys: BTreeSet<_> = first.keys().chain(second.keys()).collect();
        for key in keys.into_iter().filter(|(kind, _)| !unsaid.contains(kind)) {
            let (kind, [from, to]) = key;
            let ends = format!("{} - {}", name(self.b, *from), name(self.b, *to));
            let says = |gb_per_s: f64| format!("{} GB/s", words::figure(gb_per_s));
            let sentence = match (first.get(key), second.get(key)) {
                (Some(a), Some(b)) if self.near(*a, *b) => continue,
                (Some(a), Some(b)) => format!("{} in {in_a}, {} in {in_b}", says(*a), says(*b)),
                (Some(a), None) => format!("{} in {in_a}, and not in {in_b}", says(*a)),
                (None, Some(b)) => format!("{} in {in_b}, and not in {in_a}", says(*b)),
                (None, None) => continue,
            };
            found.differences.push(format!("{ends}: link of kind {kind} with {sentence}"));
        }
    }

    /// Paths from accelerators that are of another type.
    fn paths(&self, out: &mut Vec<String>) {
        let [in_a, in_b] = self.names;
        let mut changed = BTreeMap::<(NodeId, PathType, PathType), Vec<&str>>::new();
        let second = self.b.nodes().filter(|(_, node)| node.kind == Kind::Accelerator);
        let second: BTreeMap<_, _> = second.map(|(id, _)| (id, self.b.routes(id))).collect();
        for (from, to, route) in Matrix::of(self.a).paths() {
            let (Some(from_b), Some(to_b)) = (self.pairs.second(from), self.pairs.second(to))
            else {
                continue;
            };
            let path = |route: Option<dure_topology::Route>| {
                route.map_or(PathType::Dis, |route| route.path)
            };
            let other = second.get(&from_b).and_then(|routes| routes.to(to_b));
            let (path, other) = (path(route), path(other));
            if path != other {
                changed.entry((from, path, other)).or_default().push(&self.a.node(to).name);
            }
        }
        for ((from, path, other), to) in changed {
            let from = name(self.a, from);
            out.push(format!(
                "{from} reaches {} by {path} in {in_a}, by {other} in {in_b}",
                to.join(", ")
            ));
        }
    }
}

/// The names of a node's attributes that have a value, each once.
fn names_of(node: &Node) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, value) in &node.attributes {
        if !value.is_empty() && !names.contains(&&**name) {
            names.push(name);
        }
    }
    names
}

/// What a node says under a name; some names are there several times.
fn values(node: &Node, name: &str) -> String {
    let values = node.attributes.iter().filter(|(known, _)| known == name);
    values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
}

/// Bandwidth of links that are stated, by kind and ends; several between the same ends together.
type Across = BTreeMap<(LinkKind, [NodeId; 2]), f64>;

fn across(graph: &Graph, pair: impl Fn(NodeId) -> Option<NodeId>) -> Across {
    let mut all = Across::new();
    for (_, link) in graph.links() {
        let [a, b] = link.ends;
        let nested = graph.parent(a) == Some(b) || graph.parent(b) == Some(a);
        if nested || link.source == Source::Default {
            continue;
        }
        if let (Some(a), Some(b)) = (pair(a), pair(b)) {
            *all.entry((link.kind, [a.min(b), a.max(b)])).or_default() += link.gb_per_s;
        }
    }
    all
}

fn name(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    match node.kind {
        Kind::Package | Kind::Numa => node.name.clone(),
        Kind::Other => format!("<{}>", node.name),
        _ => format!("{} {}", words::kind(graph, id), node.name),
    }
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Host => "hosts",
        Kind::Package => "packages",
        Kind::Numa => "NUMA nodes",
        Kind::Cache => "caches",
        Kind::HostBridge => "host bridges",
        Kind::Bridge => "bridges",
        Kind::Accelerator => "accelerators",
        Kind::Nic => "adapters",
        Kind::Port => "ports",
        Kind::AcceleratorSwitch => "switches of accelerators",
        Kind::CxlMemory => "CXL memory",
        Kind::CxlRegion => "CXL regions",
        Kind::Dax => "DAX devices",
        Kind::Pool => "CXL pools",
        Kind::Switch => "switches",
        Kind::Other => "what this program has no use for",
    }
}
