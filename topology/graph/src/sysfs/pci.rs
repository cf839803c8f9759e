//! The tree of PCI devices that matter: accelerators, adapters, CXL memory, and the bridges above them.

use std::collections::HashMap;

use super::Places;
use super::tree::{Tree, is_address};
use crate::device;
use crate::graph::{Graph, Kind, Node, NodeId};
use crate::speed;

const DEVICES: &str = "sys/bus/pci/devices";

/// PCI devices and host bridges of the graph, by address or name.
pub(super) type Devices = HashMap<String, NodeId>;

pub(super) fn add(tree: &Tree, graph: &mut Graph, places: &Places) -> Devices {
    let npus = super::accelerators::of_furiosa(tree);
    let wanted = tree.names(DEVICES).into_iter().filter_map(|address| {
        let kind = kind(tree, &address, &npus)?;
        Some((way(tree, &address), kind))
    });
    let wanted: Vec<_> = wanted.filter(|(_, kind)| *kind != Kind::Bridge).collect();
    // A host bridge does not say where it is; what is below it does.
    let mut numas = HashMap::<&str, i64>::new();
    for (way, _) in &wanted {
        let said =
            way.iter().filter_map(|part| tree.number(&format!("{DEVICES}/{part}/numa_node")));
        if let Some(numa) = said.rev().find(|numa: &i64| *numa >= 0) {
            numas.entry(&way[0]).or_insert(numa);
        }
    }
    let mut builder = Builder { tree, graph, places, devices: Devices::new() };
    for (way, kind) in &wanted {
        let numa = numas.get(&*way[0]).copied();
        let mut above = None;
        for (at, part) in way.iter().enumerate() {
            let kind = if at + 1 == way.len() { *kind } else { Kind::Bridge };
            above = Some(builder.part(part, kind, above, numa));
        }
    }
    builder.devices
}

/// The host bridge, the bridges and the device itself, as far as the tree shows them.
fn way(tree: &Tree, address: &str) -> Vec<String> {
    let place = tree.place(&format!("{DEVICES}/{address}")).unwrap_or_default();
    // A domain can be behind a device of another one: the last host bridge is the device's own.
    let bridge = place.iter().rposition(|part| part.starts_with("pci") && part.contains(':'));
    let below = &place[bridge.map_or(0, |at| at + 1)..];
    let mut way: Vec<String> = bridge.map(|at| place[at].clone()).into_iter().collect();
    way.extend(below.iter().filter(|part| is_address(part)).cloned());
    if way.last().is_none_or(|last| last != address) {
        way.push(address.to_owned());
    }
    way
}

/// What a device is; none for those that do not matter here.
fn kind(tree: &Tree, address: &str, npus: &HashMap<String, String>) -> Option<Kind> {
    let text = |file: &str| tree.text(&format!("{DEVICES}/{address}/{file}")).unwrap_or_default();
    let (class, vendor) = (text("class"), text("vendor"));
    match &*vendor {
        // Rebellions.
        "0x1eff" if !class.starts_with("0x06") => Some(Kind::Accelerator),
        // Cards with Xilinx' runtime, HyperAccel's LPU among them, have a function to manage them, which stands for the
        // card, and one to use them.
        "0x10ee" => {
            let driver = |address: &str| tree.target(&format!("{DEVICES}/{address}/driver"));
            let slot = address.split_once('.').map_or(address, |(slot, _)| slot);
            let managers = tree.names(DEVICES).into_iter();
            let mut managers = managers.filter(|other| {
                other.starts_with(slot) && driver(other).as_deref() == Some("xclmgmt")
            });
            match managers.next() {
                Some(manager) => (manager == address).then_some(Kind::Accelerator),
                None => device::kind(&class, &vendor),
            }
        }
        _ if npus.contains_key(address) => Some(Kind::Accelerator),
        _ => device::kind(&class, &vendor),
    }
}

struct Builder<'a> {
    tree: &'a Tree,
    graph: &'a mut Graph,
    places: &'a Places,
    devices: Devices,
}

impl Builder<'_> {
    /// A part of the way to a device, which is added when it is new.
    fn part(&mut self, name: &str, kind: Kind, above: Option<NodeId>, numa: Option<i64>) -> NodeId {
        if let Some(id) = self.devices.get(name) {
            return *id;
        }
        let id = match above {
            Some(above) => self.device(name, kind, above),
            None => self.top(name, kind, numa),
        };
        self.devices.insert(name.to_owned(), id);
        id
    }

    /// A host bridge, or a device of which the tree does not show what is above it.
    fn top(&mut self, name: &str, kind: Kind, numa: Option<i64>) -> NodeId {
        let numa = self.places.numa(numa);
        let parent = numa.unwrap_or(self.places.host);
        let node = if is_address(name) {
            self.describe(name, kind)
        } else {
            Node::new(Kind::HostBridge, name)
        };
        let id = self.graph.add(Some(parent), node);
        self.places.join(self.graph, numa, id);
        id
    }

    fn device(&mut self, address: &str, kind: Kind, above: NodeId) -> NodeId {
        let node = self.describe(address, kind);
        let gb_per_s = self.gb_per_s(&node, kind, above);
        let id = self.graph.add(Some(above), node);
        device::join(self.graph, above, id, gb_per_s);
        id
    }

    /// A device with what sysfs says of it, under NCCL's names where it has them.
    fn describe(&self, address: &str, kind: Kind) -> Node {
        let text = |file: &str| self.tree.text(&format!("{DEVICES}/{address}/{file}"));
        let mut node = Node::new(kind, address).with("busid", address);
        for name in ["class", "vendor", "device", "subsystem_vendor", "subsystem_device"] {
            if let Some(value) = text(name) {
                node = node.with(name, value);
            }
        }
        // An accelerator that does nothing runs its link at a low speed.
        let (speed, current, most) =
            ("link_speed", text("current_link_speed"), text("max_link_speed"));
        let is_known = |text: &Option<String>| {
            text.as_deref().is_some_and(|text| matches!(speed::lane_rate(text), Ok(Some(_))))
        };
        let (first, second) =
            if kind == Kind::Accelerator { (&most, &current) } else { (&current, &most) };
        let used = [first, second].into_iter().find(|text| is_known(text));
        let width = [text("current_link_width"), text("max_link_width")].into_iter().flatten();
        let mut width =
            width.filter(|width| width.parse().is_ok_and(|lanes: u32| (1..=32).contains(&lanes)));
        let said = [
            (speed, used.cloned().flatten()),
            ("link_width", width.next()),
            ("current_link_speed", current.clone()),
            ("max_link_speed", most.clone()),
            ("max_link_width", text("max_link_width")),
            ("numa_node", text("numa_node").filter(|number| number != "-1")),
            ("driver", self.tree.target(&format!("{DEVICES}/{address}/driver"))),
            ("physical_function", self.tree.target(&format!("{DEVICES}/{address}/physfn"))),
        ];
        for (name, value) in said {
            if let Some(value) = value {
                node = node.with(name, value);
            }
        }
        node
    }

    /// Bandwidth of the link above a device, GB/s.
    fn gb_per_s(&self, node: &Node, kind: Kind, above: NodeId) -> Option<f64> {
        let physical = node.attribute("physical_function");
        let physical = physical.and_then(|address| self.devices.get(address));
        // A virtual function is on the link of its physical one.
        let on = physical.map_or(node, |id| self.graph.node(*id));
        let rate = |node: &Node, name| speed::lane_rate(node.attribute(name)?).ok().flatten();
        let mut gt_per_s = rate(on, "link_speed")?;
        if kind == Kind::Accelerator {
            // No link is faster than the slower of its ends can be.
            let port = rate(self.graph.node(above), "max_link_speed");
            gt_per_s = gt_per_s.min(port.unwrap_or(f64::INFINITY));
        }
        let width = on.attribute("link_width")?.parse().ok()?;
        Some(speed::pcie(gt_per_s, width))
    }
}
