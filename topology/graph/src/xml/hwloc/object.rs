//! `<object>`s as nodes.

use std::collections::HashMap;

use super::name;
use crate::device;
use crate::error::Error;
use crate::graph::{Graph, Kind, Link, LinkKind, Node, NodeId, Source};
use crate::speed;
use crate::xml::element::Element;

/// Nodes by the type of their object and its number: hwloc's own, and the operating system's.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) own: HashMap<(String, u64), NodeId>,
    pub(super) system: HashMap<(String, u64), NodeId>,
}

#[derive(Default)]
pub(super) struct Reader {
    pub(super) graph: Graph,
    pub(super) numbers: Numbers,
}

/// The name and value of an `<info>`.
pub(super) fn info(element: Element<'_>) -> Result<(String, String), Error> {
    let value = element.optional("value").unwrap_or_default();
    Ok((element.required("name")?.to_owned(), value.to_owned()))
}

impl Reader {
    pub(super) fn object(
        &mut self,
        element: Element<'_>,
        parent: Option<NodeId>,
    ) -> Result<(), Error> {
        if element.name() != "object" {
            return self.other(element, parent);
        }
        let said = element.required("type")?;
        let mut node = Node::new(Kind::Other, "");
        node.attributes
            .extend(element.attributes().map(|(name, value)| (name.to_owned(), value.to_owned())));
        for child in element.children()?.filter(|child| child.name() == "info") {
            node.attributes.push(info(child)?);
        }
        let speed = element.figure("pci_link_speed")?.filter(|gb_per_s| *gb_per_s > 0.0);
        if said.starts_with("PCI") || said == "Bridge" {
            identify(element, &mut node)?;
        }
        if said == "NUMANode" {
            let index = element.integer("os_index")?.unwrap_or_default();
            node.attributes.push(("numaid".to_owned(), index.to_string()));
        }
        node.kind = self.kind(element, said, &node, parent);
        node.name = name(element, said, &node);
        if let Some(parent) = parent.filter(|parent| self.is_name_of(*parent, &node)) {
            return self.fold(element, said, node, parent);
        }
        let kind = node.kind;
        let id = self.graph.add(parent, node);
        self.number(element, said, id)?;
        match (kind, parent) {
            (Kind::Port | Kind::Dax, Some(parent)) => self.join_inside(parent, id),
            (Kind::HostBridge, _) => {}
            _ if !said.starts_with("PCI") && said != "Bridge" => {}
            (_, Some(parent)) => device::join(&mut self.graph, parent, id, speed),
            _ => {}
        }
        self.children(element, id)
    }

    fn children(&mut self, of: Element<'_>, id: NodeId) -> Result<(), Error> {
        for child in of.children()?.filter(|child| child.name() != "info") {
            self.object(child, Some(id))?;
        }
        Ok(())
    }

    /// Any other element, with what is in it.
    pub(super) fn other(
        &mut self,
        element: Element<'_>,
        parent: Option<NodeId>,
    ) -> Result<(), Error> {
        let mut node = Node::new(Kind::Other, element.name());
        node.attributes
            .extend(element.attributes().map(|(name, value)| (name.to_owned(), value.to_owned())));
        if let Some(text) = element.text() {
            node.attributes.push(("#text".to_owned(), text));
        }
        for child in element.children()?.filter(|child| child.name() == "info") {
            node.attributes.push(info(child)?);
        }
        let id = self.graph.add(parent, node);
        let mut rest = element.children()?.filter(|child| child.name() != "info");
        rest.try_for_each(|child| self.other(child, Some(id)))
    }

    fn number(&mut self, element: Element<'_>, said: &str, id: NodeId) -> Result<(), Error> {
        if let Some(index) = element.integer("gp_index")? {
            self.numbers.own.insert((said.to_owned(), index.into()), id);
        }
        if let Some(index) = element.integer("os_index")? {
            self.numbers.system.insert((said.to_owned(), index.into()), id);
        }
        Ok(())
    }

    fn kind(&self, element: Element<'_>, said: &str, node: &Node, parent: Option<NodeId>) -> Kind {
        let word = |name| node.attribute(name).unwrap_or_default();
        match said {
            "Machine" => Kind::Host,
            "Package" => Kind::Package,
            "NUMANode" => Kind::Numa,
            "Bridge" if word("bridge_type").starts_with('0') => Kind::HostBridge,
            "Bridge" => Kind::Bridge,
            // The class of one that is down reads as 0.
            "PCIDev" if word("subtype") == "NVSwitch" => Kind::AcceleratorSwitch,
            "PCIDev" => device::kind(word("class"), word("vendor")).unwrap_or(Kind::Other),
            "OSDev" if element.optional("name").is_some_and(|name| name.starts_with("dax")) => {
                Kind::Dax
            }
            "OSDev" => {
                let on = parent.map(|parent| self.graph.node(parent).kind);
                if on == Some(Kind::Nic) { Kind::Port } else { Kind::Other }
            }
            cache if cache.ends_with("Cache") && cache.starts_with('L') => Kind::Cache,
            _ => Kind::Other,
        }
    }

    /// Whether a node is but the operating system's name for the first of an accelerator's or memory's devices.
    fn is_name_of(&self, parent: NodeId, node: &Node) -> bool {
        let parent = self.graph.node(parent);
        let named = parent.attributes.iter().any(|(name, _)| name.starts_with("os."));
        let kinds = (parent.kind, node.kind);
        let fits = matches!(kinds, (Kind::Accelerator | Kind::CxlMemory, Kind::Other));
        fits && !named && node.attribute("type") == Some("OSDev")
    }

    /// Keeps an object with what contains it.
    fn fold(
        &mut self,
        element: Element<'_>,
        said: &str,
        node: Node,
        parent: NodeId,
    ) -> Result<(), Error> {
        let attributes =
            node.attributes.into_iter().map(|(name, value)| (format!("os.{name}"), value));
        self.graph.describe(parent, attributes);
        self.number(element, said, parent)?;
        self.children(element, parent)
    }

    fn join_inside(&mut self, parent: NodeId, id: NodeId) {
        let is_port = self.graph.node(id).kind == Kind::Port;
        let gb_per_s = if is_port { speed::USUAL_PORT_GB_PER_S } else { speed::LOCAL_GB_PER_S };
        let (kind, latency_ns, source) = (LinkKind::Inside, speed::INSIDE_NS, Source::Default);
        self.graph.join(Link { ends: [parent, id], kind, gb_per_s, latency_ns, source });
    }
}

/// Adds what sysfs and NCCL say of a PCI device: `pci_type` is `0302 [10de:1db8] [10de:131d] a1 00`.
fn identify(element: Element<'_>, node: &mut Node) -> Result<(), Error> {
    let Some(busid) = element.optional("pci_busid") else { return Ok(()) };
    node.attributes.push(("busid".to_owned(), busid.to_owned()));
    let Some(text) = element.optional("pci_type") else { return Ok(()) };
    let mut words = text.split_whitespace();
    let class =
        words.next().filter(|word| word.len() == 4 && word.bytes().all(|c| c.is_ascii_hexdigit()));
    let pair =
        words.next().and_then(|word| word.strip_prefix('[')?.strip_suffix(']')?.split_once(':'));
    let (Some(class), Some((vendor, device))) = (class, pair) else {
        return Err(element.wrong("pci_type", text, "class [vendor:device], as 0302 [10de:1db8]"));
    };
    node.attributes.push(("class".to_owned(), format!("0x{class}00")));
    node.attributes.push(("vendor".to_owned(), format!("0x{vendor}")));
    node.attributes.push(("device".to_owned(), format!("0x{device}")));
    Ok(())
}
