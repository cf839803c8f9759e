//! From the graph to the elements.

use std::fmt::Write;

use super::names::{self, GPU, LINKS, NIC, TEXT, is_pci};
use crate::graph::{Graph, Kind, LinkKind, Node, NodeId, Source};
use crate::speed;
use crate::xml::escape::{escape, is_name, is_plain};

/// The graph in NCCL's elements, with all attributes; none if some node or name has no place in them.
pub(super) fn all(graph: &Graph) -> Option<String> {
    let view = View { graph, exact: true };
    let system = view.system()?;
    system.is_sound().then(|| system.print())
}

/// What NCCL understands of a graph of one host; of any other graph nothing.
pub(super) fn known(graph: &Graph) -> String {
    let view = View { graph, exact: false };
    view.system().map_or_else(nothing, |system| system.print())
}

/// A file that says nothing.
pub(super) fn nothing() -> String {
    Xml::new("system").with("version", "1").print()
}

/// An element that is to be written.
#[derive(Debug)]
struct Xml {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Self>,
}

impl Xml {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), attributes: Vec::new(), children: Vec::new() }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attributes.push((name.to_owned(), value.into()));
        self
    }

    /// Whether XML can say this.
    fn is_sound(&self) -> bool {
        let plain =
            |(name, value): &(String, String)| (name == TEXT || is_name(name)) && is_plain(value);
        let once = |(at, (name, _)): (usize, &(String, String))| {
            self.attributes[..at].iter().all(|(other, _)| other != name)
        };
        is_name(&self.name)
            && self.attributes.iter().all(plain)
            && self.attributes.iter().enumerate().all(once)
            && self.children.iter().all(Self::is_sound)
    }

    fn print(&self) -> String {
        let mut out = String::new();
        self.print_to(&mut out, 0).expect("a string takes all that is written");
        out
    }

    fn print_to(&self, out: &mut String, indent: usize) -> std::fmt::Result {
        write!(out, "{:indent$}<{}", "", self.name)?;
        let mut text = None;
        for (name, value) in &self.attributes {
            if name == TEXT {
                text = Some(value);
            } else {
                write!(out, " {name}=\"{}\"", escape(value))?;
            }
        }
        // What is outermost is never closed at once: the caller may have more to put in it.
        if self.children.is_empty() && text.is_none() && indent > 0 {
            return out.write_str("/>\n");
        }
        out.write_str(">\n")?;
        if let Some(text) = text {
            writeln!(out, "{:1$}{2}", "", indent + 2, escape(text))?;
        }
        self.children.iter().try_for_each(|child| child.print_to(out, indent + 2))?;
        writeln!(out, "{:indent$}</{}>", "", self.name)
    }
}

/// A graph as it is to be written.
struct View<'g> {
    graph: &'g Graph,
    /// Whether everything is written, or what NCCL knows only.
    exact: bool,
}

impl View<'_> {
    fn system(&self) -> Option<Xml> {
        let hosts: Vec<_> = self.graph.roots().collect();
        let is_host = |id: &NodeId| self.graph.node(*id).kind == Kind::Host;
        if !hosts.iter().all(is_host) || hosts.is_empty() || (!self.exact && hosts.len() > 1) {
            return None;
        }
        let first = self.graph.node(hosts[0]);
        let mut system = Xml::new("system");
        if self.exact {
            system.attributes.clone_from(&first.attributes);
        } else {
            let version =
                first.attribute("version").filter(|version| matches!(*version, "1" | "2"));
            system = system.with("version", version.unwrap_or("1"));
        }
        for host in hosts {
            system.children.extend(self.contents(host)?);
        }
        if !self.exact {
            // A device that is near no known NUMA node has one of NCCL's own, numbered -1.
            let is_cpu = |child: &Xml| child.name == "cpu";
            let (mut cpus, loose): (Vec<_>, Vec<_>) = system.children.into_iter().partition(is_cpu);
            if !loose.is_empty() {
                let mut nowhere = Xml::new("cpu").with("numaid", "-1");
                nowhere.children = loose;
                cpus.push(nowhere);
            }
            system.children = cpus;
        }
        Some(system)
    }

    fn contents(&self, of: NodeId) -> Option<Vec<Xml>> {
        let mut contents = Vec::new();
        for child in self.graph.children(of) {
            contents.extend(self.element(child)?);
        }
        Some(contents)
    }

    /// A node as elements: none, one, or what it contains.
    fn element(&self, id: NodeId) -> Option<Vec<Xml>> {
        let node = self.graph.node(id);
        let one = |xml| Some(vec![xml]);
        match node.kind {
            Kind::Numa => one(self.cpu(id)?),
            Kind::Bridge if self.exact || !self.is_inner(id) => one(self.pci(id)?),
            Kind::Accelerator => one(self.device(id, ("gpu", GPU, names::GPU_KNOWN))?),
            Kind::Nic => one(self.device(id, ("nic", NIC, &[]))?),
            Kind::Port => one(self.filled("net", id, names::NET)?),
            // One that links alone mention is there again when they are read.
            Kind::AcceleratorSwitch if node.attributes.is_empty() => Some(Vec::new()),
            Kind::Other if LINKS.contains(&&*node.name) => {
                one(self.filled(&node.name, id, &["target", "count", "tclass", "bw"])?)
            }
            Kind::AcceleratorSwitch | Kind::CxlMemory if self.exact => one(self.pci(id)?),
            Kind::Other if self.exact && node.attribute("busid") == Some(&node.name) => {
                one(self.pci(id)?)
            }
            Kind::Other if self.exact => one(self.filled(&node.name, id, &[])?),
            _ if self.exact => None,
            Kind::Package | Kind::Cache | Kind::HostBridge | Kind::Bridge => self.contents(id),
            _ => Some(Vec::new()),
        }
    }

    /// Whether a bridge is a root port or a port on the lower side of a switch: NCCL has one node for a switch.
    fn is_inner(&self, id: NodeId) -> bool {
        self.graph.link_up(id).is_some_and(|link| link.kind == LinkKind::Inside)
    }

    fn attributes(&self, node: &Node, known: &[&str]) -> Vec<(String, String)> {
        let wanted = |(name, _): &&(String, String)| self.exact || known.contains(&&**name);
        node.attributes.iter().filter(wanted).cloned().collect()
    }

    fn filled(&self, name: &str, id: NodeId, known: &[&str]) -> Option<Xml> {
        let attributes = self.attributes(self.graph.node(id), known);
        Some(Xml { name: name.to_owned(), attributes, children: self.contents(id)? })
    }

    fn cpu(&self, id: NodeId) -> Option<Xml> {
        let mut cpu = self.filled("cpu", id, names::CPU)?;
        if !self.exact && self.graph.node(id).attribute("numaid").is_none() {
            let before = self
                .graph
                .nodes()
                .filter(|(other, node)| node.kind == Kind::Numa && *other < id)
                .count();
            cpu = cpu.with("numaid", before.to_string());
        }
        Some(cpu)
    }

    fn pci(&self, id: NodeId) -> Option<Xml> {
        let mut pci = self.filled("pci", id, names::PCI)?;
        self.speed(id, &mut pci);
        Some(pci)
    }

    /// Says a PCI device's speed, if its link has one and no attribute says it.
    fn speed(&self, id: NodeId, pci: &mut Xml) {
        let said = pci.attributes.iter().any(|(name, _)| name == "link_speed");
        let link = self.graph.link_up(id).filter(|link| link.source != Source::Default);
        if let Some((rate, width)) =
            link.and_then(|link| rate_and_width(link.gb_per_s)).filter(|_| !said && !self.exact)
        {
            pci.attributes.push(("link_speed".to_owned(), format!("{rate:.1} GT/s PCIe")));
            pci.attributes.push(("link_width".to_owned(), width.to_string()));
        }
    }

    /// An accelerator or adapter: `<pci>` with `<gpu>` or `<nic>`, or these alone.
    fn device(&self, id: NodeId, (name, prefix, known): (&str, &str, &[&str])) -> Option<Xml> {
        let node = self.graph.node(id);
        let mut inner = Xml::new(name);
        let mut outer = Xml::new("pci");
        for (name, value) in &node.attributes {
            if let Some(own) = name.strip_prefix(prefix) {
                if self.exact || known.contains(&own) {
                    inner.attributes.push((own.to_owned(), value.clone()));
                }
            } else if self.exact || names::PCI.contains(&&**name) {
                outer.attributes.push((name.clone(), value.clone()));
            }
        }
        let (devices, parts): (Vec<_>, Vec<_>) =
            self.contents(id)?.into_iter().partition(|child| child.name == "pci" && is_pci(node));
        inner.children = parts;
        if !self.exact
            && node.kind == Kind::Accelerator
            && !inner.children.iter().any(|child| LINKS.contains(&&*child.name))
        {
            inner.children.extend(self.links(id));
        }
        if !is_pci(node) {
            return (outer.attributes.is_empty() || !self.exact).then_some(inner);
        }
        self.speed(id, &mut outer);
        let plain = names::kind_of_pci(node.attribute("class"), !devices.is_empty());
        if plain != node.kind || !inner.attributes.is_empty() || !inner.children.is_empty() {
            outer.children.push(inner);
        }
        outer.children.extend(devices);
        Some(outer)
    }

    /// The links of an accelerator to others of its kind and to switches.
    fn links(&self, id: NodeId) -> impl Iterator<Item = Xml> {
        let links = self.graph.links_of(id).filter(|(link, _)| link.kind == LinkKind::Accelerator);
        let amd = self.graph.node(id).attribute("vendor") == Some("0x1002");
        let (name, each) =
            if amd { ("xgmi", speed::xgmi("942")) } else { ("nvlink", speed::nvlink(0)) };
        links.map(move |(link, other)| {
            let other = self.graph.node(other);
            let class = match other.kind {
                Kind::AcceleratorSwitch => "0x068000",
                _ => other.attribute("class").unwrap_or("0x030200"),
            };
            let count = (link.gb_per_s / each).round().max(1.0);
            let target = other.attribute("busid").unwrap_or(&other.name);
            Xml::new(name)
                .with("target", target)
                .with("count", count.to_string())
                .with("tclass", class)
        })
    }
}

/// The PCIe link of a bandwidth.
fn rate_and_width(gb_per_s: f64) -> Option<(f64, u32)> {
    let rates = [2.5, 5.0, 8.0, 16.0, 32.0, 64.0].into_iter();
    let mut all = rates.flat_map(|rate| [16, 8, 4, 2, 1].map(|width| (rate, width)));
    all.find(|(rate, width)| (speed::pcie(*rate, *width) / gb_per_s - 1.0).abs() < 0.01)
}
