//! What is said of nodes and links.

use dure_topology::{Graph, Kind, Link, LinkKind, Node, NodeId, Source, device};

use crate::size;

/// A bandwidth, and whether somebody stated it: `63.0 GB/s`, `22.0 GB/s (assumed)`.
pub(super) fn bandwidth(link: &Link) -> String {
    format!("{} GB/s{}", figure(link.gb_per_s), origin(link.source))
}

pub(super) fn origin(source: Source) -> &'static str {
    match source {
        Source::Default => " (assumed)",
        Source::Declared => "",
        Source::Measured => " (measured)",
    }
}

/// A bandwidth with three digits or so.
pub(super) fn figure(gb_per_s: f64) -> String {
    match gb_per_s {
        small if small < 9.995 => format!("{small:.2}"),
        large if large >= 999.5 => format!("{large:.0}"),
        other => format!("{other:.1}"),
    }
}

/// What kind of node it is, for people.
pub(super) fn kind(graph: &Graph, id: NodeId) -> &'static str {
    match graph.node(id).kind {
        Kind::Host => "host",
        Kind::Package => "package",
        Kind::Numa => "NUMA node",
        Kind::Cache => "cache",
        Kind::HostBridge => "host bridge",
        Kind::Bridge => match bridge(graph, id) {
            Bridge::Root => "root port",
            Bridge::Lower => "port",
            Bridge::Switch => "PCIe switch",
        },
        Kind::Accelerator => "accelerator",
        Kind::Nic => "adapter",
        Kind::Port => "port",
        Kind::AcceleratorSwitch => "switch of accelerators",
        Kind::CxlMemory => "CXL memory",
        Kind::CxlRegion => "CXL region",
        Kind::Dax => "DAX device",
        Kind::Pool => "CXL pool",
        Kind::Switch => "switch",
        Kind::Other => "other",
    }
}

/// What a bridge is in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bridge {
    /// The port of a host bridge.
    Root,
    /// A port on the lower side of a switch.
    Lower,
    /// A switch, or the port on its upper side.
    Switch,
}

pub(super) fn bridge(graph: &Graph, id: NodeId) -> Bridge {
    let inside = graph.link_up(id).is_some_and(|link| link.kind == LinkKind::Inside);
    let above = graph.parent(id).map(|parent| graph.node(parent).kind);
    match (inside, above) {
        (true, Some(Kind::HostBridge)) => Bridge::Root,
        (true, _) => Bridge::Lower,
        (false, _) => Bridge::Switch,
    }
}

/// How many nodes there are of some kinds: `2 hosts, 8 accelerators`.
pub(super) fn census(graph: &Graph, kinds: &[Kind]) -> String {
    let counted = kinds.iter().filter_map(|kind| {
        let name = match kind {
            Kind::Host => "host",
            Kind::Package => "package",
            Kind::Numa => "NUMA node",
            Kind::Accelerator => "accelerator",
            Kind::AcceleratorSwitch => "accelerator switch",
            Kind::Nic => "adapter",
            Kind::Port => "port",
            Kind::CxlMemory => "CXL memory device",
            Kind::Switch => "switch",
            _ => "other node",
        };
        let count = graph.nodes().filter(|(_, node)| node.kind == *kind).count();
        let plural = match (count, name.ends_with("ch")) {
            (1, _) => "",
            (_, true) => "es",
            _ => "s",
        };
        (count > 0).then(|| format!("{count} {name}{plural}"))
    });
    counted.collect::<Vec<_>>().join(", ")
}

/// An attribute that is a number of bytes, or of KiB as hwloc has them, for people.
fn bytes(node: &Node, name: &str) -> Option<String> {
    let value = node.attribute(name)?;
    let bytes = match value.strip_suffix("KiB") {
        Some(number) => number.parse::<u64>().ok()?.checked_mul(1024)?,
        None => value.parse().ok()?,
    };
    Some(size::display(bytes))
}

/// An attribute in a phrase: `phrase("cpus", "0-3")` is `cpus 0-3`.
fn phrase(node: &Node, word: &str, name: &str) -> Option<String> {
    node.attribute(name).map(|value| format!("{word} {value}"))
}

/// The maker of a device.
pub(super) fn maker(node: &Node) -> Option<String> {
    let by_number = || device::vendor(node.attribute("vendor")?);
    node.attribute("maker").or_else(by_number).map(str::to_owned)
}

/// The maker of a device, and its numbers.
fn device(node: &Node) -> Option<String> {
    let vendor = node.attribute("vendor")?;
    let number = |text: &str| text.trim_start_matches("0x").to_owned();
    let numbers =
        format!("[{}:{}]", number(vendor), number(node.attribute("device").unwrap_or("?")));
    Some(match maker(node) {
        Some(name) => format!("{name} {numbers}"),
        None => numbers,
    })
}

/// The names that drivers have for a device and its model.
pub(super) fn model(node: &Node) -> Vec<String> {
    let names = ["model", "os.GPUModel", "device_name", "os.name"];
    names.iter().filter_map(|name| node.attribute(name)).map(str::to_owned).collect()
}

/// What is worth telling of a node, shortest first that tells it from others.
pub(super) fn about(node: &Node) -> Vec<String> {
    let mut told: Vec<Option<String>> = match node.kind {
        Kind::Host => host(node),
        Kind::Package => vec![
            node.attribute("model_name").or_else(|| node.attribute("CPUModel")).map(str::to_owned),
            node.attribute("cores").map(|count| format!("{count} cores")),
            node.attribute("threads").map(|count| format!("{count} threads")),
        ],
        Kind::Numa => vec![
            processors(node),
            bytes(node, "memory").or_else(|| bytes(node, "local_memory")),
            phrase(node, "distances", "distance"),
        ],
        Kind::Cache => vec![
            bytes(node, "size").or_else(|| bytes(node, "cache_size")),
            phrase(node, "cpus", "cpulist"),
        ],
        Kind::Accelerator => vec![
            device(node),
            bytes(node, "memory"),
            phrase(node, "sm", "gpu.sm"),
            node.attribute("gpu.gcn").map(str::to_owned),
            phrase(node, "rank", "gpu.rank"),
            phrase(node, "function of", "physical_function"),
            phrase(node, "group", "rsd_group"),
        ],
        Kind::Nic => vec![
            device(node),
            phrase(node, "function of", "physical_function"),
            node.attribute("virtual").map(|_| "without hardware".to_owned()),
        ],
        Kind::Port => vec![
            node.attribute("link_layer").map(str::to_owned),
            node.attribute("state").or_else(|| node.attribute("operstate")).map(str::to_owned),
            phrase(node, "interface", "interface"),
            phrase(node, "GUID", "port_guid").or_else(|| phrase(node, "GUID", "guid")),
            phrase(node, "rail", "rail"),
        ],
        Kind::CxlMemory => vec![
            device(node),
            bytes(node, "ram")
                .or_else(|| bytes(node, "os.CXLRAMSize"))
                .map(|size| format!("{size} RAM")),
            bytes(node, "pmem")
                .or_else(|| bytes(node, "os.CXLPMEMSize"))
                .filter(|size| size != "0 B")
                .map(|size| format!("{size} persistent")),
        ],
        Kind::CxlRegion => vec![
            bytes(node, "size"),
            node.attribute("mode").map(str::to_owned),
            node.attribute("interleave_ways").map(|ways| format!("over {ways} devices")),
        ],
        Kind::Dax => vec![
            bytes(node, "size").or_else(|| bytes(node, "Size")),
            phrase(node, "NUMA node", "target_node"),
            node.attribute("driver").map(|driver| match driver {
                "device_dax" => format!("mapped as /dev/{}", node.name),
                "kmem" => "memory of the system".to_owned(),
                _ => format!("driver {driver}"),
            }),
        ],
        Kind::Bridge | Kind::AcceleratorSwitch => vec![device(node)],
        _ => Vec::new(),
    };
    let models = model(node).into_iter().map(Some);
    told.splice(1.min(told.len())..1.min(told.len()), models);
    told.into_iter().flatten().collect()
}

fn host(node: &Node) -> Vec<Option<String>> {
    let product = [
        node.attribute("maker"),
        node.attribute("product").or_else(|| node.attribute("DMIProductName")),
    ];
    let product: Vec<_> = product.into_iter().flatten().collect();
    let is = match node.attribute("virtual") {
        Some("yes") => Some(match node.attribute("hypervisor") {
            Some(hypervisor) => format!("virtual machine ({hypervisor})"),
            None => "virtual machine".to_owned(),
        }),
        Some("no") => Some("no virtual machine".to_owned()),
        _ => None,
    };
    vec![
        (!product.is_empty()).then(|| product.join(" ")),
        is,
        phrase(node, "Linux", "kernel"),
        bytes(node, "memory"),
        bytes(node, "shm").map(|size| format!("/dev/shm {size}")),
        phrase(node, "limited to processors:", "cgroup_cpus"),
        bytes(node, "cgroup_memory").map(|size| format!("limited to memory: {size}")),
        phrase(node, "may run on cpus", "cpus_allowed"),
    ]
}

/// The processors of a NUMA node: their list, or their number from a mask in hexadecimal.
pub(super) fn processors(node: &Node) -> Option<String> {
    if let Some(list) = node.attribute("cpulist") {
        return Some(format!("cpus {list}"));
    }
    let mask = node.attribute("affinity").or_else(|| node.attribute("cpuset"))?;
    let digits = mask.replace("0x", "");
    let count: u32 = digits.chars().filter_map(|c| c.to_digit(16)).map(u32::count_ones).sum();
    Some(if count == 0 { "no cpus".to_owned() } else { format!("{count} cpus") })
}

/// What a link is, for people.
pub(super) fn link(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Inside => "inside",
        LinkKind::Pcie => "PCIe",
        LinkKind::Cxl => "CXL",
        LinkKind::Socket => "socket",
        LinkKind::Accelerator => "accelerator link",
        LinkKind::Coherent => "coherent link",
        LinkKind::Cable => "cable",
    }
}

/// Whether a node only keeps the words of a link of the graph: an element `<nvlink>` and its like, whose other end is
/// known.
pub(super) fn is_link(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let named = matches!(&*node.name, "nvlink" | "xgmi" | "pcilink" | "c2c");
    let joined = |target: &str| {
        graph.parent(id).is_some_and(|of| {
            graph.links_of(of).any(|(_, other)| graph.node(other).name.eq_ignore_ascii_case(target))
        })
    };
    node.kind == Kind::Other && named && node.attribute("target").is_none_or(joined)
}

/// A node of kind other in one line: its attributes, as far as they fit.
pub(super) fn attributes(node: &Node) -> String {
    /// Longer ones are for programs.
    const LONGEST: usize = 40;
    const MOST: usize = 8;
    let shown = node.attributes.iter().map(|(name, value)| {
        let short: String = value.chars().take(LONGEST).collect();
        let more = if short.len() < value.len() { "..." } else { "" };
        format!("{name}={short}{more}")
    });
    shown.take(MOST).collect::<Vec<_>>().join(" ")
}

/// The rate and width of a PCIe link, where they are known: `32.0 GT/s x16`; and what it could be if that is more.
pub(super) fn pcie(node: &Node) -> Option<String> {
    let rate = node.attribute("link_speed").filter(|text| !text.is_empty())?;
    let rate = rate.trim_end_matches(" PCIe");
    let width = node.attribute("link_width")?;
    let most = node.attribute("max_link_width").filter(|most| *most != width);
    let idle = node.attribute("current_link_speed").map(|text| text.trim_end_matches(" PCIe"));
    let idle =
        idle.filter(|now| *now != rate).map_or_else(String::new, |now| format!(", now at {now}"));
    let most = most.map_or_else(String::new, |most| format!(" of x{most}"));
    Some(format!("{rate} x{width}{most}{idle}"))
}
