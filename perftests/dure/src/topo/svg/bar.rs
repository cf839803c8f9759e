//! What joins devices across their trees: switches of accelerators, links between these, regions of CXL memory.

use std::collections::{BTreeMap, BTreeSet};

use dure_topology::{Graph, Kind, LinkKind, NodeId};

use super::super::words;

/// A line below the trees that devices have legs to.
#[derive(Debug)]
pub(super) struct Bar {
    /// A thick one is a thing, a thin one a link.
    pub(super) class: &'static str,
    pub(super) label: String,
    /// What has a leg to it, and the figure at the leg.
    pub(super) members: Vec<(NodeId, String)>,
}

/// All bars of a host, those that reach least far first.
pub(super) fn of(graph: &Graph, host: NodeId) -> Vec<Bar> {
    let mut bars = accelerators(graph, host);
    bars.extend(regions(graph, host));
    bars
}

fn is_in(graph: &Graph, host: NodeId, id: NodeId) -> bool {
    graph.host(id) == Some(host)
}

/// Bandwidth between nodes joined by links of accelerators.
fn joined(graph: &Graph, host: NodeId) -> BTreeMap<NodeId, BTreeMap<NodeId, f64>> {
    let mut joined = BTreeMap::<_, BTreeMap<_, f64>>::new();
    for (_, link) in graph.links() {
        let [a, b] = link.ends;
        if link.kind == LinkKind::Accelerator
            && a != b
            && is_in(graph, host, a)
            && is_in(graph, host, b)
        {
            *joined.entry(a).or_default().entry(b).or_default() += link.gb_per_s;
            *joined.entry(b).or_default().entry(a).or_default() += link.gb_per_s;
        }
    }
    joined
}

fn accelerators(graph: &Graph, host: NodeId) -> Vec<Bar> {
    let joined = joined(graph, host);
    let mut bars = Vec::new();
    let mut seen = BTreeSet::new();
    for start in joined.keys() {
        if !seen.insert(*start) {
            continue;
        }
        let mut group = vec![*start];
        let mut at = 0;
        while let Some(id) = group.get(at).copied() {
            group.extend(joined[&id].keys().filter(|other| seen.insert(**other)));
            at += 1;
        }
        group.sort();
        bars.extend(together(graph, &group, &joined));
    }
    // Short ones near the devices, so that few legs cross others.
    bars.sort_by_key(|bar| (bar.members.len() != 2, span(&bar.members)));
    bars
}

fn span(members: &[(NodeId, String)]) -> u32 {
    let ids = || members.iter().map(|(id, _)| id.0);
    ids().max().unwrap_or(0) - ids().min().unwrap_or(0)
}

/// The bars of nodes that reach each other: one for what is joined through switches or each with each, otherwise one
/// for each link.
fn together(
    graph: &Graph,
    group: &[NodeId],
    joined: &BTreeMap<NodeId, BTreeMap<NodeId, f64>>,
) -> Vec<Bar> {
    let is_switch = |id: &&NodeId| graph.node(**id).kind == Kind::AcceleratorSwitch;
    let switches = group.iter().filter(is_switch).count();
    let devices: Vec<_> = group.iter().filter(|id| !is_switch(id)).copied().collect();
    if switches > 0 {
        let total = |id: NodeId| joined[&id].values().sum::<f64>();
        let members = devices.into_iter().map(|id| (id, words::figure(total(id)))).collect();
        let label =
            if switches == 1 { "switch".to_owned() } else { format!("{switches} switches") };
        return vec![Bar { class: "w", label: format!("{label} of accelerators"), members }];
    }
    let pairs =
        devices.iter().flat_map(|a| devices.iter().filter(move |b| a < b).map(move |b| (*a, *b)));
    let figures: Vec<_> = pairs.map(|(a, b)| joined[&a].get(&b).copied()).collect();
    if devices.len() > 2 && figures.iter().all(|figure| figure.is_some() && *figure == figures[0]) {
        let each = words::figure(figures[0].unwrap_or_default());
        let members = devices.into_iter().map(|id| (id, String::new())).collect();
        return vec![Bar { class: "w", label: format!("each with each {each}"), members }];
    }
    let links =
        devices.iter().flat_map(|a| joined[a].iter().map(move |(b, figure)| (*a, *b, *figure)));
    let bar = |(a, b, figure): (NodeId, NodeId, f64)| Bar {
        class: "l",
        label: words::figure(figure),
        members: vec![(a, String::new()), (b, String::new())],
    };
    links.filter(|(a, b, _)| a < b).map(bar).collect()
}

fn regions(graph: &Graph, host: NodeId) -> Vec<Bar> {
    let regions =
        graph.nodes().filter(|(id, node)| node.kind == Kind::CxlRegion && is_in(graph, host, *id));
    let bar = |(id, node): (NodeId, &dure_topology::Node)| {
        let memories = graph.links_of(id).map(|(_, other)| other);
        let members = memories.filter(|other| graph.node(*other).kind == Kind::CxlMemory);
        let mapped = graph.children(id).map(|child| graph.node(child));
        let mapped = mapped.filter(|node| node.kind == Kind::Dax).map(|node| node.name.clone());
        let label =
            [vec![node.name.clone()], words::about(node), mapped.collect()].concat().join(", ");
        Bar { class: "g", label, members: members.map(|id| (id, String::new())).collect() }
    };
    regions.map(bar).filter(|bar| !bar.members.is_empty()).collect()
}
