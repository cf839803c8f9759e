//! What drivers say of accelerators: names, models, memory, and the links between them.

use std::collections::HashMap;

use super::limits::field;
use super::pci::Devices;
use super::tree::Tree;
use crate::graph::{Graph, Kind, Link, LinkKind, NodeId, Source};
use crate::speed;

/// Folders of FuriosaAI's and Rebellions' drivers, of AMD's, and of NVIDIA's.
const RNGD: &str = "sys/class/rngd_mgmt";
const REBELLIONS: &str = "sys/class/rebellions";
const KFD: &str = "sys/class/kfd/kfd/topology/nodes";
const NVIDIA: &str = "proc/driver/nvidia/gpus";

/// NPUs of FuriosaAI: the names of their management devices by PCI address.
pub(super) fn of_furiosa(tree: &Tree) -> HashMap<String, String> {
    let names = tree.names(RNGD).into_iter();
    let managers = names.filter(|name| name.starts_with("rngd!npu") && name.ends_with("mgmt"));
    managers
        .filter_map(|name| Some((tree.text(&format!("{RNGD}/{name}/busname"))?, name)))
        .collect()
}

pub(super) fn describe(tree: &Tree, graph: &mut Graph, devices: &Devices) {
    for (address, name) in of_furiosa(tree) {
        let number = name.trim_start_matches("rngd!").trim_end_matches("mgmt").to_owned();
        let text = |file: &str| tree.text(&format!("{RNGD}/{name}/{file}"));
        let said = [
            ("device_name", Some(number)),
            ("model", text("device_type")),
            ("maker", text("platform_type")),
            ("uuid", text("device_uuid")),
            ("firmware", text("fw_version")),
        ];
        say(graph, devices.get(&address), said);
    }
    for (name, _) in tree.numbered(REBELLIONS, "rbln") {
        let folder = format!("{REBELLIONS}/{name}");
        let text = |file: &str| tree.text(&format!("{folder}/{file}"));
        let said = [
            ("device_name", Some(name.clone())),
            ("model", text("card_name")),
            ("memory", text("dram_total")),
            ("driver_version", text("kernel_version")),
        ];
        say(graph, device(tree, devices, &folder), said);
    }
    for address in tree.names(NVIDIA) {
        let text = tree.text(&format!("{NVIDIA}/{address}/information")).unwrap_or_default();
        let minor = field(&text, "Device Minor").map(|minor| format!("nvidia{minor}"));
        let said = [
            ("device_name", minor),
            ("model", field(&text, "Model")),
            ("uuid", field(&text, "GPU UUID")),
        ];
        say(graph, devices.get(&*address), said);
    }
    for (class, word) in [("sys/class/drm", "renderD"), ("sys/class/accel", "accel")] {
        for (name, _) in tree.numbered(class, word) {
            let id = device(tree, devices, &format!("{class}/{name}"));
            let id = id.filter(|id| graph.node(**id).kind == Kind::Accelerator);
            say(graph, id, [("render_node", Some(name))]);
        }
    }
    join_amd(tree, graph, devices);
}

/// The graph's node of the PCI device that a file of a class belongs to.
fn device<'d>(tree: &Tree, devices: &'d Devices, path: &str) -> Option<&'d NodeId> {
    let address = tree.pci(path).or_else(|| tree.pci(&format!("{path}/device")))?;
    devices.get(&address)
}

fn say<const N: usize>(graph: &mut Graph, id: Option<&NodeId>, said: [(&str, Option<String>); N]) {
    let said = said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    if let Some(id) = id {
        graph.describe(*id, said);
    }
}

/// Joins AMD's accelerators as its driver says (include/uapi/linux/kfd_sysfs.h of Linux).
fn join_amd(tree: &Tree, graph: &mut Graph, devices: &Devices) {
    /// xGMI among the types of links.
    const XGMI: u64 = 11;
    let property = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let mut gpus = HashMap::new();
    let nodes = tree.numbered(KFD, "");
    for (name, number) in &nodes {
        let text = tree.text(&format!("{KFD}/{name}/properties")).unwrap_or_default();
        // Processors are nodes too.
        if property(&text, "simd_count").is_none_or(|count| count == 0) {
            continue;
        }
        let (Some(location), domain) = (property(&text, "location_id"), property(&text, "domain"))
        else {
            continue;
        };
        let (bus, slot, function) = (location >> 8 & 0xff, location >> 3 & 0x1f, location & 7);
        let address = format!("{:04x}:{bus:02x}:{slot:02x}.{function}", domain.unwrap_or(0));
        let Some(id) = devices.get(&address) else { continue };
        // 90402 is gfx942: major, minor and stepping, the last in hexadecimal.
        let version = property(&text, "gfx_target_version").filter(|version| *version > 0);
        let version = version.map(|v| format!("gfx{}{}{:x}", v / 10_000, v / 100 % 100, v % 100));
        gpus.insert(u64::from(*number), (*id, version.clone()));
        say(graph, Some(id), [("gpu.gcn", version)]);
    }
    let mut joined = HashMap::<[NodeId; 2], (f64, Source)>::new();
    let mut order = Vec::new();
    for (name, number) in &nodes {
        let Some((from, version)) = gpus.get(&u64::from(*number)) else { continue };
        for (link, _) in tree.numbered(&format!("{KFD}/{name}/io_links"), "") {
            let text =
                tree.text(&format!("{KFD}/{name}/io_links/{link}/properties")).unwrap_or_default();
            let to = property(&text, "node_to").and_then(|to| gpus.get(&to)).map(|(id, _)| *id);
            let Some(to) = to.filter(|to| to != from && property(&text, "type") == Some(XGMI))
            else {
                continue;
            };
            let mb_per_s =
                property(&text, "max_bandwidth").and_then(|value| u32::try_from(value).ok());
            let said = mb_per_s
                .filter(|value| *value > 0)
                .map(|value| (f64::from(value) / 1_000.0, Source::Declared));
            let usual = || (speed::xgmi(version.as_deref().unwrap_or_default()), Source::Default);
            let said = said.unwrap_or_else(usual);
            let ends = [*from.min(&to), *from.max(&to)];
            let known = joined.entry(ends).or_insert_with(|| {
                order.push(ends);
                said
            });
            // Both ends say it; the smaller figure is the safe one.
            if said.0 < known.0 {
                *known = said;
            }
        }
    }
    for ends in order {
        let (gb_per_s, source) = joined[&ends];
        let (kind, latency_ns) = (LinkKind::Accelerator, speed::ACCELERATOR_NS);
        graph.join(Link { ends, kind, gb_per_s, latency_ns, source });
    }
}
