//! From the elements to the graph.

use std::collections::HashMap;

use super::names::{self, GPU, LINKS, NIC, TEXT};
use crate::error::Error;
use crate::graph::{Graph, Kind, Link, LinkKind, Node, NodeId, Source};
use crate::speed;
use crate::xml::element::Element;

/// Reads what `<system>` says outside of `<dure>`.
pub(super) fn read(system: Element<'_>) -> Result<Graph, Error> {
    let mut reader = Reader::default();
    let hosts = reader.hosts(system)?;
    for child in system.children()?.filter(|child| child.name() != names::OWN) {
        let hash = child.optional("host_hash").filter(|_| child.name() == "cpu");
        let host = hosts.iter().find(|(known, _)| *known == hash);
        reader.element(child, host.unwrap_or(&hosts[0]).1)?;
    }
    for (of, element) in std::mem::take(&mut reader.links) {
        reader.link(of, element)?;
    }
    reader.join_pairs();
    reader.join_sockets();
    Ok(reader.graph)
}

#[derive(Default)]
struct Reader<'d> {
    graph: Graph,
    /// The PCI devices of each host by their addresses: of several with one address an accelerator, or the first.
    devices: HashMap<(Option<NodeId>, String), NodeId>,
    /// The NUMA nodes, and the bandwidth between each and others.
    sockets: Vec<(NodeId, f64)>,
    /// Elements that are links, and whose they are. What they lead to may come later.
    links: Vec<(NodeId, Element<'d>)>,
    /// Links of accelerators: most are said by both ends.
    pairs: Vec<Pair>,
    /// Where in `pairs` two nodes are.
    paired: HashMap<[NodeId; 2], usize>,
}

/// What two ends say of the links between them.
struct Pair {
    ends: [NodeId; 2],
    kind: LinkKind,
    /// Bandwidth as the first end and as the second end says.
    said: [f64; 2],
    source: Source,
}

impl<'d> Reader<'d> {
    /// Makes the hosts that the NUMA nodes name, or one.
    fn hosts(&mut self, system: Element<'d>) -> Result<Vec<(Option<&'d str>, NodeId)>, Error> {
        let mut hashes = Vec::new();
        for cpu in system.children()?.filter(|child| child.name() == "cpu") {
            let hash = cpu.optional("host_hash");
            if !hashes.contains(&hash) {
                hashes.push(hash);
            }
        }
        if hashes.is_empty() {
            hashes.push(None);
        }
        let one = hashes.len() == 1;
        let name = |hash: Option<&str>| match hash {
            Some(hash) if !one => format!("host {hash}"),
            _ => "host".to_owned(),
        };
        let mut first = Some(attributes(system, ""));
        let mut make = |hash| {
            let attributes = first.take().unwrap_or_default();
            (hash, self.graph.add(None, Node { kind: Kind::Host, name: name(hash), attributes }))
        };
        Ok(hashes.into_iter().map(&mut make).collect())
    }

    fn element(&mut self, element: Element<'d>, parent: NodeId) -> Result<(), Error> {
        match element.name() {
            "cpu" => self.cpu(element, parent),
            "pci" => self.pci(element, parent),
            "gpu" => {
                let name = format!("gpu {}", element.optional("dev").unwrap_or("?"));
                self.loose(element, parent, Kind::Accelerator, (name, GPU))
            }
            "nic" => self.loose(element, parent, Kind::Nic, ("nic".to_owned(), NIC)),
            "net" => self.net(element, parent),
            name => {
                let node = Node {
                    kind: Kind::Other,
                    name: name.to_owned(),
                    attributes: attributes(element, ""),
                };
                let id = self.graph.add(Some(parent), node);
                if LINKS.contains(&name) {
                    self.links.push((parent, element));
                }
                self.elements(element, id)
            }
        }
    }

    fn elements(&mut self, of: Element<'d>, parent: NodeId) -> Result<(), Error> {
        of.children()?.try_for_each(|child| self.element(child, parent))
    }

    fn cpu(&mut self, element: Element<'d>, parent: NodeId) -> Result<(), Error> {
        let name = format!("numa {}", element.required("numaid")?);
        let word = |attribute| element.optional(attribute).unwrap_or_default();
        let family = element.integer("familyid")?.unwrap_or(0);
        let model = element.integer("modelid")?.unwrap_or(0);
        let node = Node { kind: Kind::Numa, name, attributes: attributes(element, "") };
        let id = self.graph.add(Some(parent), node);
        self.sockets.push((id, speed::socket(word("arch"), word("vendor"), family, model)));
        self.elements(element, id)
    }

    /// A PCI device, together with the `<gpu>` or the `<nic>`s in it.
    fn pci(&mut self, element: Element<'d>, parent: NodeId) -> Result<(), Error> {
        let busid = element.required("busid")?;
        let kind = match () {
            () if element.holds("gpu") => Kind::Accelerator,
            () if element.holds("nic") => Kind::Nic,
            () => names::kind_of_pci(element.optional("class"), element.holds("pci")),
        };
        let mut node = Node { kind, name: busid.to_owned(), attributes: attributes(element, "") };
        let mut left = if kind == Kind::Accelerator { 1 } else { usize::MAX };
        let mut inside = Vec::new();
        for child in element.children()? {
            let prefix = match (kind, child.name()) {
                (Kind::Accelerator, "gpu") if left > 0 => GPU,
                (Kind::Nic, "nic") => NIC,
                _ => {
                    inside.push(child);
                    continue;
                }
            };
            left -= 1;
            node.attributes.extend(attributes(child, prefix));
            inside.extend(child.children()?);
        }
        let id = self.graph.add(Some(parent), node);
        let place = (self.graph.host(id), busid.to_lowercase());
        let known = self.devices.entry(place).or_insert(id);
        if kind == Kind::Accelerator && self.graph.node(*known).kind != kind {
            *known = id;
        }
        let (gb_per_s, source) = pcie(element)?;
        let (kind, latency_ns) = if kind == Kind::CxlMemory {
            (LinkKind::Cxl, speed::CXL_NS)
        } else {
            (LinkKind::Pcie, speed::PCIE_NS)
        };
        self.graph.join(Link { ends: [parent, id], kind, gb_per_s, latency_ns, source });
        inside.into_iter().try_for_each(|child| self.element(child, id))
    }

    /// A `<gpu>` or `<nic>` that is in no `<pci>` of its own.
    fn loose(
        &mut self,
        element: Element<'d>,
        parent: NodeId,
        kind: Kind,
        (name, prefix): (String, &str),
    ) -> Result<(), Error> {
        let node = Node { kind, name, attributes: attributes(element, prefix) };
        let id = self.graph.add(Some(parent), node);
        let (gb_per_s, latency_ns) = (speed::LOCAL_GB_PER_S, speed::PCIE_NS);
        let kind = LinkKind::Pcie;
        self.graph.join(Link {
            ends: [parent, id],
            kind,
            gb_per_s,
            latency_ns,
            source: Source::Default,
        });
        self.elements(element, id)
    }

    fn net(&mut self, element: Element<'d>, parent: NodeId) -> Result<(), Error> {
        let name = element.optional("name").unwrap_or("port").to_owned();
        let node = Node { kind: Kind::Port, name, attributes: attributes(element, "") };
        let id = self.graph.add(Some(parent), node);
        let (gb_per_s, source) = match element.figure("speed")? {
            Some(mbit) if mbit > 0.0 => (mbit / 8_000.0, Source::Declared),
            _ => (speed::USUAL_PORT_GB_PER_S, Source::Default),
        };
        let kind = LinkKind::Inside;
        self.graph.join(Link {
            ends: [parent, id],
            kind,
            gb_per_s,
            latency_ns: speed::INSIDE_NS,
            source,
        });
        self.elements(element, id)
    }

    fn link(&mut self, of: NodeId, element: Element<'d>) -> Result<(), Error> {
        match element.name() {
            "c2c" => {
                let count = element.integer("count")?.unwrap_or(1);
                element.required("bw")?;
                let gb_per_s =
                    element.figure("bw")?.unwrap_or_default() * f64::from(count) / 1_000.0;
                self.pair([of, self.processor(of)], LinkKind::Coherent, gb_per_s, Source::Declared);
            }
            "pcilink" => {
                let target = element.required("target")?.to_lowercase();
                // NCCL takes the two for parts of one switch.
                if let Some(other) = self.devices.get(&(self.graph.host(of), target)) {
                    self.pair(
                        [of, *other],
                        LinkKind::Inside,
                        speed::LOCAL_GB_PER_S,
                        Source::Default,
                    );
                }
            }
            _ => self.accelerator_link(of, element)?,
        }
        Ok(())
    }

    fn accelerator_link(&mut self, of: NodeId, element: Element<'d>) -> Result<(), Error> {
        let target = element.required("target")?;
        element.required("count")?;
        let count = element.integer("count")?.unwrap_or_default();
        let (each, source) = self.one_link(of, element)?;
        let gb_per_s = each * f64::from(count);
        let host = self.graph.host(of);
        let place = (host, target.to_lowercase());
        let known = self.devices.get(&place).copied();
        let class = element.optional("tclass").unwrap_or_default();
        match (known, class) {
            (Some(other), _) => self.pair([of, other], LinkKind::Accelerator, gb_per_s, source),
            (None, "0x068000") => {
                let switch = self.graph.add(host, Node::new(Kind::AcceleratorSwitch, target));
                self.devices.insert(place, switch);
                self.pair([of, switch], LinkKind::Accelerator, gb_per_s, source);
            }
            (None, "0x068001") => {
                self.pair([of, self.processor(of)], LinkKind::Coherent, gb_per_s, source)
            }
            // It leads to an accelerator that is not of this file.
            (None, _) => {}
        }
        Ok(())
    }

    /// Bandwidth of one link of an accelerator.
    fn one_link(&self, of: NodeId, element: Element<'d>) -> Result<(f64, Source), Error> {
        let node = self.graph.node(of);
        let declared = |known: bool| if known { Source::Declared } else { Source::Default };
        if element.name() == "xgmi" {
            let architecture = node.attribute("gpu.gcn");
            return Ok((
                speed::xgmi(architecture.unwrap_or_default()),
                declared(architecture.is_some()),
            ));
        }
        let generation = node.attribute("gpu.sm").and_then(|sm| sm.parse().ok());
        Ok((speed::nvlink(generation.unwrap_or_default()), declared(generation.is_some())))
    }

    /// The processor that an accelerator is near.
    fn processor(&self, of: NodeId) -> NodeId {
        let mut around = self.graph.ancestors(of);
        around.find(|id| matches!(self.graph.node(*id).kind, Kind::Numa | Kind::Host)).unwrap_or(of)
    }

    fn pair(&mut self, ends: [NodeId; 2], kind: LinkKind, gb_per_s: f64, source: Source) {
        let mut key = ends;
        key.sort();
        let next = self.pairs.len();
        let place = *self.paired.entry(key).or_insert(next);
        if place == next {
            self.pairs.push(Pair { ends, kind, said: [0.0; 2], source });
        }
        let pair = &mut self.pairs[place];
        let side = usize::from(pair.ends[0] != ends[0]);
        pair.said[side] += gb_per_s;
        pair.source = pair.source.min(source);
    }

    /// Of two ends that say different things, the smaller figure is the safe one.
    fn join_pairs(&mut self) {
        for Pair { ends, kind, said: [a, b], source } in std::mem::take(&mut self.pairs) {
            let gb_per_s = if a > 0.0 && b > 0.0 { a.min(b) } else { a.max(b) };
            let latency_ns = match kind {
                LinkKind::Coherent => speed::COHERENT_NS,
                LinkKind::Inside => speed::INSIDE_NS,
                _ => speed::ACCELERATOR_NS,
            };
            self.graph.join(Link { ends, kind, gb_per_s, latency_ns, source });
        }
    }

    /// NCCL takes all NUMA nodes of a host to be joined with each other.
    fn join_sockets(&mut self) {
        for (at, (a, first)) in self.sockets.iter().enumerate() {
            for (b, second) in &self.sockets[at + 1..] {
                if self.graph.host(*a) == self.graph.host(*b) {
                    let (kind, gb_per_s) = (LinkKind::Socket, first.min(*second));
                    let (latency_ns, source) = (speed::SOCKET_NS, Source::Default);
                    self.graph.join(Link { ends: [*a, *b], kind, gb_per_s, latency_ns, source });
                }
            }
        }
    }
}

/// The attributes of an element, and its text, with a prefix before their names.
fn attributes(element: Element<'_>, prefix: &str) -> Vec<(String, String)> {
    let named =
        element.attributes().map(|(name, value)| (format!("{prefix}{name}"), value.to_owned()));
    let text = element.text().map(|text| (format!("{prefix}{TEXT}"), text));
    named.chain(text).collect()
}

/// Bandwidth of the link above a PCI device.
fn pcie(element: Element<'_>) -> Result<(f64, Source), Error> {
    let speed = element.optional("link_speed").unwrap_or_default();
    let expected = "a rate such as 16.0 GT/s PCIe, or nothing";
    let rate =
        speed::lane_rate(speed).map_err(|()| element.wrong("link_speed", speed, expected))?;
    let width = element.integer("link_width")?.filter(|width| *width > 0);
    if width.is_some_and(|width| width > 32) {
        let value = element.optional("link_width").unwrap_or_default();
        return Err(element.wrong("link_width", value, "0 (unknown) to 32"));
    }
    let known = rate.is_some() && width.is_some();
    let (usual_rate, usual_width) = speed::USUAL_PCIE;
    let gb_per_s = speed::pcie(rate.unwrap_or(usual_rate), width.unwrap_or(usual_width));
    Ok((gb_per_s, if known { Source::Declared } else { Source::Default }))
}
