//! hwloc's XML, versions 2 and 3 (hwloc2.dtd).
//!
//! Objects are nodes, with hwloc's attributes and infos; those that are PCI devices get in addition what sysfs and NCCL
//! say of such: `busid`, `class`, `vendor`, `device`. NUMA nodes get `numaid`. What an operating system calls a device
//! (`nvml0`, `mem0`) is kept with the device itself, with the prefix `os.`. Everything else is a node of kind other.

mod distances;
mod object;

use self::distances::Matrix;
use self::object::Reader;
use super::element::Element;
use crate::device;
use crate::error::Error;
use crate::graph::{Graph, Kind, Link, LinkKind, Node, NodeId, Source};
use crate::speed;

/// Reads a `<topology>`.
pub(super) fn read(topology: Element<'_>) -> Result<Graph, Error> {
    let version = topology.required("version")?;
    if !["2.", "3."].iter().any(|known| version.starts_with(known)) {
        let (element, line) = (topology.name().to_owned(), topology.line());
        return Err(Error::Version { element, line, found: version.to_owned(), known: "2.x, 3.x" });
    }
    let Some(machine) = topology.children()?.find(|child| child.name() == "object") else {
        let (element, line) = (topology.name().to_owned(), topology.line());
        return Err(Error::Empty { element, line, wanted: "object" });
    };
    let mut reader = Reader::default();
    reader.object(machine, None)?;
    let mut about = Vec::new();
    let mut matrices = Vec::new();
    for child in topology.children()?.skip_while(|child| child.name() != "object").skip(1) {
        match child.name() {
            "object" => reader.object(child, None)?,
            "info" => about.push(object::info(child)?),
            "support" => about.push(("support".to_owned(), child.required("name")?.to_owned())),
            "distances2" | "distances2hetero" => {
                matrices.push(Matrix::read(child)?);
                reader.other(child, Some(NodeId(0)))?;
            }
            _ => reader.other(child, Some(NodeId(0)))?,
        }
    }
    let Reader { mut graph, numbers } = reader;
    graph.describe(NodeId(0), about);
    join(&mut graph, &numbers, &matrices);
    Ok(graph)
}

/// Joins what the objects and matrices say is joined.
fn join(graph: &mut Graph, numbers: &object::Numbers, matrices: &[Matrix]) {
    let of_kind = |graph: &Graph, kind| -> Vec<NodeId> {
        graph.nodes().filter(|(_, node)| node.kind == kind).map(|(id, _)| id).collect()
    };
    for bridge in of_kind(graph, Kind::HostBridge) {
        let near = near(graph, bridge);
        device::join_bridge(graph, &near, bridge);
    }
    let numas = of_kind(graph, Kind::Numa);
    let gb_per_s = between_packages(graph);
    let latencies = matrices.iter().find(|matrix| matrix.name == "NUMALatency");
    device::join_numas(graph, &numas, gb_per_s, |a, b| {
        latencies?.between(numbers, numas[a], numas[b])
    });
    for matrix in matrices.iter().filter(|matrix| matrix.is_accelerators()) {
        for (ends, mb_per_s) in matrix.pairs(numbers) {
            let (kind, gb_per_s) = (LinkKind::Accelerator, mb_per_s / 1_000.0);
            let (latency_ns, source) = (speed::ACCELERATOR_NS, Source::Declared);
            graph.join(Link { ends, kind, gb_per_s, latency_ns, source });
        }
    }
    join_boards(graph, &of_kind(graph, Kind::AcceleratorSwitch));
}

/// Joins switches of accelerators that nothing joins: hwloc knows no links between switches of two boards. As in NCCL
/// they are no bottleneck.
fn join_boards(graph: &mut Graph, switches: &[NodeId]) {
    let on_board = |graph: &Graph, from: NodeId| {
        let mut found = vec![from];
        let mut at = 0;
        while let Some(id) = found.get(at).copied() {
            for (link, other) in graph.links_of(id) {
                if link.kind == LinkKind::Accelerator && !found.contains(&other) {
                    found.push(other);
                }
            }
            at += 1;
        }
        found
    };
    let in_use =
        |id: &&NodeId| graph.links_of(**id).any(|(link, _)| link.kind == LinkKind::Accelerator);
    let used: Vec<_> = switches.iter().filter(in_use).copied().collect();
    let Some(first) = used.first() else { return };
    let first = on_board(graph, *first);
    let (here, there): (Vec<_>, Vec<_>) = used.into_iter().partition(|id| first.contains(id));
    for (a, b) in here.into_iter().cycle().zip(there) {
        let (kind, gb_per_s) = (LinkKind::Accelerator, speed::LOCAL_GB_PER_S);
        let (latency_ns, source) = (speed::ACCELERATOR_NS, Source::Default);
        graph.join(Link { ends: [a, b], kind, gb_per_s, latency_ns, source });
    }
}

/// The NUMA nodes of the innermost object around a host bridge that has any.
fn near(graph: &Graph, bridge: NodeId) -> Vec<NodeId> {
    graph
        .ancestors(bridge)
        .map(|around| numas_in(graph, around))
        .find(|numas| !numas.is_empty())
        .unwrap_or_default()
}

fn numas_in(graph: &Graph, around: NodeId) -> Vec<NodeId> {
    let mut found = Vec::new();
    let mut left = vec![around];
    while let Some(id) = left.pop() {
        if graph.node(id).kind == Kind::Numa {
            found.push(id);
        }
        left.extend(graph.children(id));
    }
    found.sort();
    found
}

/// Bandwidth between packages, GB/s, by what the packages and the machine say of the processor.
fn between_packages(graph: &Graph) -> f64 {
    let said = |wanted: &str| graph.nodes().find_map(|(_, node)| node.attribute(wanted));
    let number = |wanted| said(wanted).and_then(|text| text.parse().ok()).unwrap_or(0);
    speed::socket(
        said("Architecture").unwrap_or_default(),
        said("CPUVendor").unwrap_or_default(),
        number("CPUFamilyNumber"),
        number("CPUModelNumber"),
    )
}

/// The name of a node as people know it.
fn name(element: Element<'_>, kind: &str, node: &Node) -> String {
    let number = element.optional("os_index").map_or_else(String::new, |index| format!(" {index}"));
    match kind {
        "Machine" => node.attribute("HostName").unwrap_or("host").to_owned(),
        "Package" => format!("package{number}"),
        "NUMANode" => format!("numa{number}"),
        "PU" => format!("pu{number}"),
        "OSDev" => element.optional("name").unwrap_or("device").to_owned(),
        "Bridge" | "PCIDev" => element
            .optional("pci_busid")
            .or_else(|| element.optional("bridge_pci"))
            .unwrap_or("bridge")
            .to_owned(),
        other => match other.strip_suffix("Cache") {
            Some(level) => level.to_owned(),
            None => format!("{}{number}", other.to_lowercase()),
        },
    }
}
