//! Network adapters and their ports: RDMA devices, and interfaces that are none.

use std::collections::{HashMap, HashSet};

use super::Places;
use super::pci::Devices;
use super::tree::Tree;
use crate::graph::{Graph, Kind, Link, LinkKind, Node, NodeId, Source};
use crate::speed;

const RDMA: &str = "sys/class/infiniband";
const NET: &str = "sys/class/net";

pub(super) fn add(tree: &Tree, graph: &mut Graph, places: &Places, devices: &Devices) {
    let mut builder = Builder {
        tree,
        graph,
        places,
        devices,
        interfaces: interfaces(tree),
        used: HashSet::new(),
    };
    for name in tree.names(RDMA) {
        builder.rdma(&name);
    }
    for name in tree.names(NET) {
        if !builder.used.contains(&name) {
            builder.interface(&name);
        }
    }
}

/// The interfaces of each PCI device, each with its number on the device.
fn interfaces(tree: &Tree) -> HashMap<String, Vec<(u32, String)>> {
    let mut found = HashMap::<String, Vec<_>>::new();
    for name in tree.names(NET) {
        if let Some(address) = tree.pci(&format!("{NET}/{name}")) {
            let number = tree.number(&format!("{NET}/{name}/dev_port")).unwrap_or(0);
            found.entry(address).or_default().push((number, name));
        }
    }
    found
}

struct Builder<'a> {
    tree: &'a Tree,
    graph: &'a mut Graph,
    places: &'a Places,
    devices: &'a Devices,
    interfaces: HashMap<String, Vec<(u32, String)>>,
    /// Interfaces that belong to a port of an RDMA device.
    used: HashSet<String>,
}

impl Builder<'_> {
    fn rdma(&mut self, name: &str) {
        let folder = format!("{RDMA}/{name}");
        let address = self.tree.pci(&folder);
        let adapter = self.adapter(name, address.as_deref());
        let ports = self.tree.numbered(&format!("{folder}/ports"), "");
        for (_, number) in &ports {
            let label = if ports.len() == 1 { name.to_owned() } else { format!("{name}/{number}") };
            let interface = self.interface_of(name, *number, address.as_deref());
            self.port(adapter, (name, &label), *number, interface);
        }
    }

    /// The interface of a port of an RDMA device.
    fn interface_of(&mut self, name: &str, port: u32, address: Option<&str>) -> Option<String> {
        let said = self.tree.text(&format!("{RDMA}/{name}/ports/{port}/gid_attrs/ndevs/0"));
        // RDMA over an interface without hardware says so itself.
        let said = said.or_else(|| self.tree.text(&format!("{RDMA}/{name}/parent")));
        let found = said.or_else(|| {
            let here = self.interfaces.get(address?)?;
            let counted = here.iter().find(|(number, _)| number + 1 == port);
            let one = || here.first().filter(|_| here.len() == 1);
            counted.or_else(one).map(|(_, name)| name.clone())
        });
        self.used.extend(found.clone());
        found
    }

    fn port(
        &mut self,
        adapter: NodeId,
        (device, label): (&str, &str),
        number: u32,
        interface: Option<String>,
    ) {
        let folder = format!("{RDMA}/{device}/ports/{number}");
        let text = |file: &str| self.tree.text(&format!("{folder}/{file}"));
        let rate = text("rate");
        let mbit = rate.as_deref().and_then(mbit_per_s);
        let port_guid = text("gids/0")
            .and_then(|gid| guid(&gid.split(':').skip(4).collect::<Vec<_>>().join(":")));
        let node_guid =
            self.tree.text(&format!("{RDMA}/{device}/node_guid")).and_then(|text| guid(&text));
        let system =
            self.tree.text(&format!("{RDMA}/{device}/sys_image_guid")).and_then(|text| guid(&text));
        let said = [
            ("name", Some(device.to_owned())),
            ("port", Some(number.to_string())),
            ("speed", mbit.map(|mbit| mbit.to_string())),
            ("link_layer", text("link_layer")),
            ("rate", rate),
            ("state", text("state").map(|state| word(&state))),
            ("lid", text("lid").filter(|lid| lid != "0x0")),
            (
                "port_guid",
                port_guid.filter(|_| text("link_layer").as_deref() == Some("InfiniBand")),
            ),
            ("node_guid", node_guid),
            ("sys_image_guid", system),
        ];
        let mut node = Node::new(Kind::Port, label);
        node.attributes
            .extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        if let Some(interface) = interface {
            node = node.with("interface", &*interface);
            node.attributes.extend(self.about(&interface));
        }
        self.join(adapter, node, mbit);
    }

    /// An interface that belongs to no RDMA device.
    fn interface(&mut self, name: &str) {
        let folder = format!("{NET}/{name}");
        let address = self.tree.pci(&folder);
        if address.is_none() && !self.is_a_way_out(&folder) {
            return;
        }
        let mbit = self.tree.number::<u64>(&format!("{folder}/speed")).filter(|mbit| *mbit > 0);
        let adapter = self.adapter(name, address.as_deref());
        let mut node = Node::new(Kind::Port, name).with("name", name);
        if let Some(mbit) = mbit {
            node = node.with("speed", mbit.to_string());
        }
        node.attributes.extend(self.about(name));
        self.join(adapter, node, mbit);
    }

    /// Whether an interface without hardware is the end of one elsewhere, as a container has it, and no part of a bridge.
    fn is_a_way_out(&self, folder: &str) -> bool {
        let number = |file: &str| self.tree.number::<u64>(&format!("{folder}/{file}"));
        let elsewhere = number("iflink").is_some_and(|link| Some(link) != number("ifindex"));
        elsewhere && !self.tree.exists(&format!("{folder}/master"))
    }

    fn about(&self, interface: &str) -> Vec<(String, String)> {
        let text = |file: &str| self.tree.text(&format!("{NET}/{interface}/{file}"));
        let said =
            [("address", text("address")), ("mtu", text("mtu")), ("operstate", text("operstate"))];
        said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// The node of an adapter: the PCI device's, or one without hardware.
    fn adapter(&mut self, name: &str, address: Option<&str>) -> NodeId {
        let known = address.and_then(|address| self.devices.get(address)).copied();
        if let Some(id) = known.filter(|id| self.graph.node(*id).kind == Kind::Nic) {
            return id;
        }
        let mut node = Node::new(Kind::Nic, name);
        if address.is_none() {
            node = node.with("virtual", "yes");
        }
        let numa = self.places.numa(None);
        let id = self.graph.add(Some(numa.unwrap_or(self.places.host)), node);
        self.places.join(self.graph, numa, id);
        id
    }

    fn join(&mut self, adapter: NodeId, node: Node, mbit: Option<u64>) {
        let id = self.graph.add(Some(adapter), node);
        let figure =
            mbit.and_then(|mbit| u32::try_from(mbit).ok()).map(|mbit| f64::from(mbit) / 8_000.0);
        let (gb_per_s, source) = match figure {
            Some(figure) => (figure, Source::Declared),
            None => (speed::USUAL_PORT_GB_PER_S, Source::Default),
        };
        let (kind, latency_ns) = (LinkKind::Inside, speed::INSIDE_NS);
        self.graph.join(Link { ends: [adapter, id], kind, gb_per_s, latency_ns, source });
    }
}

/// Mb/s of data from `400 Gb/sec (4X NDR)`. Up to QDR the rate counts the line coding, of 8 bits in 10.
fn mbit_per_s(rate: &str) -> Option<u64> {
    let (number, rest) = rate.split_once(" Gb/sec")?;
    // Rates of single lanes have a half: 2.5.
    let tenths = match number.trim().split_once('.') {
        Some((whole, part)) => {
            whole.parse::<u64>().ok()?.checked_mul(10)?.checked_add(part.get(..1)?.parse().ok()?)?
        }
        None => number.trim().parse::<u64>().ok()?.checked_mul(10)?,
    };
    let coded =
        ["SDR", "DDR", "QDR"].iter().any(|name| rest.split([' ', ')']).any(|word| word == *name));
    let mbit = tenths.checked_mul(100)?;
    Some(if coded { mbit / 10 * 8 } else { mbit }).filter(|mbit| *mbit > 0)
}

/// A GUID as `ibnetdiscover` writes it, `0x0c42a10300e59d4c`, from `0c42:a103:00e5:9d4c`.
fn guid(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let is_guid = digits.len() == 16 && digits.bytes().all(|c| c.is_ascii_hexdigit());
    (is_guid && digits.bytes().any(|c| c != b'0')).then(|| format!("0x{digits}"))
}

/// The word in `4: ACTIVE`.
fn word(state: &str) -> String {
    state.split_once(':').map_or(state, |(_, word)| word).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_guids() {
        assert_eq!(mbit_per_s("400 Gb/sec (4X NDR)"), Some(400_000));
        assert_eq!(mbit_per_s("40 Gb/sec (4X QDR)"), Some(32_000));
        assert_eq!(mbit_per_s("2.5 Gb/sec (1X SDR)"), Some(2_000));
        assert_eq!(mbit_per_s("100 Gb/sec (4X EDR)"), Some(100_000));
        for wrong in ["", "x Gb/sec", "0 Gb/sec", "99999999999999999999 Gb/sec", "1. Gb/sec"] {
            assert_eq!(mbit_per_s(wrong), None, "{wrong}");
        }
        assert_eq!(guid("0c42:a103:00e5:9d4c").as_deref(), Some("0x0c42a10300e59d4c"));
        assert_eq!(guid("0000:0000:0000:0000"), None);
        assert_eq!(guid("0c42"), None);
        assert_eq!(word("4: ACTIVE"), "ACTIVE");
    }
}
