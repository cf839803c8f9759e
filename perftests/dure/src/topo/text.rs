//! The tree as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use dure_topology::{Graph, Kind, Link, LinkKind, Node, NodeId, Source, speed};

use super::matrix::Matrix;
use super::words;

/// What is counted in the first line.
const COUNTED: [Kind; 9] = [
    Kind::Host,
    Kind::Package,
    Kind::Numa,
    Kind::Accelerator,
    Kind::AcceleratorSwitch,
    Kind::Nic,
    Kind::Port,
    Kind::CxlMemory,
    Kind::Switch,
];

/// The tree of what contains what, the links across it, and the paths between devices.
pub(super) fn show(graph: &Graph, origin: &str) -> String {
    let mut text = String::new();
    line(&mut text, 0, &format!("{origin}: {}", words::census(graph, &COUNTED)));
    for root in graph.roots() {
        tree(graph, root, 1, &mut text);
    }
    across(graph, &mut text);
    // Where the switches are known, they say what the rails are.
    if !graph.nodes().any(|(_, node)| node.kind == Kind::Switch) {
        for root in graph.roots() {
            rails(graph, root, &mut text);
        }
    }
    text.push_str(&Matrix::of(graph).to_string());
    text
}

fn line(out: &mut String, depth: usize, text: &str) {
    writeln!(out, "{:1$}{text}", "", 2 * depth).expect("a string takes all that is written");
}

fn tree(graph: &Graph, id: NodeId, depth: usize, out: &mut String) {
    line(out, depth, &label(graph, id));
    let told = graph.children(id).filter(|child| !words::is_link(graph, *child));
    let (cores, rest): (Vec<_>, Vec<_>) = told.partition(|child| is_core(graph, *child));
    if !cores.is_empty() {
        line(out, depth + 1, &caches(graph, &cores));
    }
    for child in rest {
        tree(graph, child, depth + 1, out);
    }
}

/// Whether a node is a cache or core: of these only the numbers are told.
fn is_core(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let kind = node.attribute("type").unwrap_or_default();
    node.kind == Kind::Cache
        || (node.kind == Kind::Other && matches!(kind, "Core" | "PU" | "Group" | "Die"))
}

/// Caches and cores below some nodes: `L3 32 MiB, 2 x L2 1 MiB`.
fn caches(graph: &Graph, below: &[NodeId]) -> String {
    let mut order = Vec::new();
    let mut counts = BTreeMap::<String, u64>::new();
    let mut left: Vec<_> = below.iter().rev().copied().collect();
    while let Some(id) = left.pop() {
        let node = graph.node(id);
        let name = match node.kind {
            Kind::Cache => [vec![node.name.clone()], words::about(node)].concat().join(" "),
            _ => node.attribute("type").unwrap_or_default().to_lowercase(),
        };
        let count = node.attribute("count").and_then(|count| count.parse().ok()).unwrap_or(1);
        if !counts.contains_key(&name) {
            order.push(name.clone());
        }
        *counts.entry(name).or_default() += count;
        let below: Vec<_> = graph.children(id).collect();
        left.extend(below.into_iter().rev());
    }
    let told = order.into_iter().map(|name| match counts[&name] {
        1 => name,
        count => format!("{count} x {name}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A node in one line, with the link to what contains it.
fn label(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let kind = words::kind(graph, id);
    let mut text = match node.kind {
        Kind::Package | Kind::Numa | Kind::Host => node.name.clone(),
        Kind::Other => format!("{} {}", node.name, words::attributes(node)),
        _ => format!("{kind} {}", node.name),
    };
    let about = words::about(node);
    if !about.is_empty() {
        text = format!("{text}: {}", about.join(", "));
    }
    if let Some(says) = graph.link_up(id).and_then(|link| up(node, link)) {
        text = format!("{text}  <- {says}");
    }
    text
}

/// The link to what contains a node, unless it is inside of a chip and says nothing.
fn up(node: &Node, link: &Link) -> Option<String> {
    // As wide as that is what has no limit.
    if link.source == Source::Default && link.gb_per_s >= speed::LOCAL_GB_PER_S {
        return None;
    }
    let bandwidth = words::bandwidth(link);
    match (link.kind, node.kind) {
        (LinkKind::Inside, Kind::Port) => Some(bandwidth),
        (LinkKind::Inside | LinkKind::Socket, _) => None,
        (LinkKind::Pcie | LinkKind::Cxl, _) => {
            let name = words::link(link.kind);
            let rate = words::pcie(node).map_or_else(String::new, |rate| format!(" {rate}"));
            Some(format!("{bandwidth} {name}{rate}"))
        }
        (kind, _) => Some(format!("{bandwidth} {}", words::link(kind))),
    }
}

/// The rails of a host, if there are several.
fn rails(graph: &Graph, host: NodeId, out: &mut String) {
    let rails = graph.rails(host);
    if rails.len() < 2 {
        return;
    }
    let stated = rails.iter().all(|rail| rail.source != Source::Default);
    let source = if stated {
        "as stated"
    } else {
        "by order of the adapters, to be confirmed by the fabric"
    };
    let told = rails.iter().map(|rail| format!("{} {}", rail.number, graph.node(rail.port).name));
    line(out, 0, &format!("rails, {source}: {}", told.collect::<Vec<_>>().join(", ")));
}

/// Links that are not between a node and what contains it.
fn across(graph: &Graph, out: &mut String) {
    // Per node, what it is joined with by alike links.
    let mut order = Vec::new();
    let mut joined = BTreeMap::<(NodeId, String), Vec<&str>>::new();
    for (_, link) in graph.links() {
        let [a, b] = link.ends;
        if graph.parent(b) == Some(a) || graph.parent(a) == Some(b) {
            continue;
        }
        let name = match link.kind {
            LinkKind::Inside => "inside".to_owned(),
            kind => format!("{} {}", words::link(kind), words::bandwidth(link)),
        };
        let key = (a, name);
        if !joined.contains_key(&key) {
            order.push(key.clone());
        }
        joined.entry(key).or_default().push(&graph.node(b).name);
    }
    if order.is_empty() {
        return;
    }
    line(out, 0, "links across the tree");
    for key in order {
        let others = &joined[&key];
        let (from, name) = key;
        let times = if others.len() == 1 { String::new() } else { format!("{} x ", others.len()) };
        line(out, 1, &format!("{} - {times}{name} - {}", graph.node(from).name, others.join(", ")));
    }
}
