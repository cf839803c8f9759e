//! CXL memory: devices, regions made of them, and the DAX devices that map these.

use std::collections::HashMap;

use super::Places;
use super::pci::Devices;
use super::tree::Tree;
use crate::graph::{Graph, Kind, Link, LinkKind, Node, NodeId, Source};
use crate::speed;

const CXL: &str = "sys/bus/cxl/devices";
const DAX: &str = "sys/bus/dax/devices";

pub(super) fn add(tree: &Tree, graph: &mut Graph, places: &Places, devices: &Devices) {
    let memories = memories(tree, graph, places, devices);
    let regions = regions(tree, graph, places, &memories);
    for name in tree.names(DAX) {
        dax(tree, graph, places, (&name, &regions));
    }
}

/// A number of bytes, which sysfs writes decimal or hexadecimal.
fn bytes(tree: &Tree, path: &str) -> Option<String> {
    let text = tree.text(path)?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => text.parse().ok()?,
    };
    Some(number.to_string())
}

fn memories(
    tree: &Tree,
    graph: &mut Graph,
    places: &Places,
    devices: &Devices,
) -> HashMap<String, NodeId> {
    let mut memories = HashMap::new();
    for (name, _) in tree.numbered(CXL, "mem") {
        let folder = format!("{CXL}/{name}");
        let text = |file: &str| tree.text(&format!("{folder}/{file}"));
        let numa = tree.number::<i64>(&format!("{folder}/numa_node")).filter(|number| *number >= 0);
        let said = [
            ("device_name", Some(name.clone())),
            ("ram", bytes(tree, &format!("{folder}/ram/size"))),
            ("pmem", bytes(tree, &format!("{folder}/pmem/size"))),
            ("serial", text("serial")),
            ("firmware", text("firmware_version")),
        ];
        let said = said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let known = tree.pci(&folder).and_then(|address| devices.get(&address)).copied();
        let id = known.filter(|id| graph.node(*id).kind == Kind::CxlMemory).unwrap_or_else(|| {
            let numa = places.numa(numa);
            let parent = numa.unwrap_or(places.host);
            let id = graph.add(Some(parent), Node::new(Kind::CxlMemory, &*name));
            for near in places.near(numa) {
                let (rate, width) = speed::USUAL_PCIE;
                let (kind, gb_per_s) = (LinkKind::Cxl, speed::pcie(rate, width));
                let (latency_ns, source) = (speed::CXL_NS, Source::Default);
                graph.join(Link { ends: [near, id], kind, gb_per_s, latency_ns, source });
            }
            id
        });
        graph.describe(id, said);
        memories.insert(name, id);
    }
    memories
}

/// Regions, joined with the memories that they are made of.
fn regions(
    tree: &Tree,
    graph: &mut Graph,
    places: &Places,
    memories: &HashMap<String, NodeId>,
) -> HashMap<String, NodeId> {
    let mut regions = HashMap::new();
    for (name, _) in tree.numbered(CXL, "region") {
        let folder = format!("{CXL}/{name}");
        let text = |file: &str| tree.text(&format!("{folder}/{file}"));
        let said = [
            ("size", bytes(tree, &format!("{folder}/size"))),
            ("mode", text("mode")),
            ("interleave_ways", text("interleave_ways")),
            ("interleave_granularity", text("interleave_granularity")),
            ("resource", text("resource")),
            ("uuid", text("uuid")),
        ];
        let mut node = Node::new(Kind::CxlRegion, &*name);
        node.attributes
            .extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let id = graph.add(Some(places.host), node);
        for (target, _) in tree.numbered(&folder, "target") {
            if let Some(memory) =
                text(&target).and_then(|decoder| memory_of(tree, memories, &decoder))
            {
                join_inside(graph, memory, id);
            }
        }
        regions.insert(name, id);
    }
    regions
}

/// The memory that an endpoint's decoder serves: the decoder is in the endpoint, which names its device.
fn memory_of(tree: &Tree, memories: &HashMap<String, NodeId>, decoder: &str) -> Option<NodeId> {
    let place = tree.place(&format!("{CXL}/{decoder}"))?;
    let endpoint = place.iter().rfind(|part| part.starts_with("endpoint"))?;
    let memory = tree.target(&format!("{CXL}/{endpoint}/uport"))?;
    memories.get(&memory).copied()
}

fn dax(
    tree: &Tree,
    graph: &mut Graph,
    places: &Places,
    (name, regions): (&str, &HashMap<String, NodeId>),
) {
    let folder = format!("{DAX}/{name}");
    let text = |file: &str| tree.text(&format!("{folder}/{file}"));
    let said = [
        ("size", bytes(tree, &format!("{folder}/size"))),
        ("align", bytes(tree, &format!("{folder}/align"))),
        ("target_node", text("target_node").filter(|number| number != "-1")),
        ("driver", tree.target(&format!("{folder}/driver"))),
    ];
    let mut node = Node::new(Kind::Dax, name);
    node.attributes
        .extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let place = tree.place(&folder).unwrap_or_default();
    let region = place.iter().find_map(|part| regions.get(part)).copied();
    let numa =
        places.numa(tree.number(&format!("{folder}/numa_node")).filter(|number| *number >= 0));
    let parent = region.or(numa).unwrap_or(places.host);
    let id = graph.add(Some(parent), node);
    match region {
        Some(region) => join_inside(graph, region, id),
        None => places.join(graph, numa, id),
    }
}

fn join_inside(graph: &mut Graph, outer: NodeId, inner: NodeId) {
    let (kind, gb_per_s) = (LinkKind::Inside, speed::LOCAL_GB_PER_S);
    let (latency_ns, source) = (speed::INSIDE_NS, Source::Default);
    graph.join(Link { ends: [outer, inner], kind, gb_per_s, latency_ns, source });
}
