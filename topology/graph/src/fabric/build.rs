//! Puts a fabric's graph together from lines that come in any order.

use std::collections::HashMap;

use super::Warning;
use crate::{Graph, Kind, Link, LinkKind, Node, NodeId, Source, usual};

/// A graph in the making. Switches and hosts are found by their keys and made when they are first named.
#[derive(Default)]
pub(super) struct Builder {
    nodes: Vec<(Option<NodeId>, Node)>,
    links: Vec<Link>,
    switches: HashMap<String, NodeId>,
    hosts: HashMap<String, NodeId>,
    pub(super) warnings: Vec<Warning>,
}

impl Builder {
    /// Adds a node.
    pub(super) fn add(&mut self, parent: Option<NodeId>, node: Node) -> NodeId {
        let id = NodeId(crate::cluster::small(self.nodes.len()));
        self.nodes.push((parent, node));
        id
    }

    /// The switch of a key, which is its name until somebody says another.
    pub(super) fn switch(&mut self, key: &str) -> NodeId {
        if let Some(id) = self.switches.get(key) {
            return *id;
        }
        let id = self.add(None, Node::new(Kind::Switch, key));
        self.switches.insert(key.to_owned(), id);
        id
    }

    /// The host of a name. A name that is a GUID is an adapter of a host that nobody names.
    pub(super) fn host(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.hosts.get(name) {
            return *id;
        }
        let id = match guid(name) {
            Some(guid) => {
                let mut node = Node::new(Kind::Nic, name);
                node.attributes.push(("guid".to_owned(), guid));
                self.add(None, node)
            }
            None => self.add(None, Node::new(Kind::Host, name)),
        };
        self.hosts.insert(name.to_owned(), id);
        id
    }

    /// Whether there is a switch, or a host, of a name.
    pub(super) fn knows(&self, switch: bool, name: &str) -> bool {
        if switch { self.switches.contains_key(name) } else { self.hosts.contains_key(name) }
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize].1
    }

    /// What a source says of a node.
    pub(super) fn note(&mut self, id: NodeId, name: &str, value: impl Into<String>) {
        self.node(id).attributes.push((name.to_owned(), value.into()));
    }

    /// A cable. `upper` is further from the hosts where the source says so. Bandwidth in GB/s, where known.
    pub(super) fn cable(&mut self, upper: NodeId, lower: NodeId, gb_per_s: Option<f64>) {
        self.join(upper, lower, LinkKind::Cable, gb_per_s);
    }

    /// A link of any kind.
    pub(super) fn join(
        &mut self,
        upper: NodeId,
        lower: NodeId,
        kind: LinkKind,
        gb_per_s: Option<f64>,
    ) {
        let (usual, latency_ns) = match kind {
            LinkKind::Inside => (usual::LOCAL_GB_PER_S, 0.0),
            LinkKind::Cxl => (usual::POOL_GB_PER_S, usual::POOL_NS),
            _ => (usual::PORT_GBPS / 8.0, usual::CABLE_NS),
        };
        self.links.push(Link {
            ends: [upper, lower],
            kind,
            gb_per_s: gb_per_s.unwrap_or(usual),
            latency_ns,
            source: if gb_per_s.is_some() { Source::Declared } else { Source::Default },
        });
    }

    pub(super) fn warn(&mut self, line: usize, what: impl Into<String>) {
        self.warnings.push(Warning { line, what: what.into() });
    }

    /// The graph, and what was not as it should be, by line.
    pub(super) fn finish(mut self) -> (Graph, Vec<Warning>) {
        let mut graph = Graph::new();
        for (parent, node) in self.nodes {
            graph.add(parent, node);
        }
        for link in self.links {
            graph.join(link);
        }
        self.warnings.sort_by_key(|warning| warning.line);
        (graph, self.warnings)
    }
}

/// A GUID in its plain form, 16 hexadecimal digits in small letters, from any of the usual ones: `0x155dfffd33ff7d`,
/// `e09d730300156ff6`, `e09d:7303:0015:6ff6`. A GUID without `0x` has all its 16 digits.
pub(crate) fn guid(text: &str) -> Option<String> {
    let (digits, most) = match text.strip_prefix("0x") {
        Some(digits) => (digits.to_owned(), 12..=16),
        None => (text.replace(':', ""), 16..=16),
    };
    let good =
        most.contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    good.then(|| format!("{:0>16}", digits.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::guid;

    #[test]
    fn forms_of_a_guid() {
        for (text, expected) in [
            ("0x155dfffd33ff7d", Some("00155dfffd33ff7d")),
            ("E09D730300156FF6", Some("e09d730300156ff6")),
            ("e09d:7303:0015:6ff6", Some("e09d730300156ff6")),
            ("155dfffd33ff7d", None),
            ("0xabc", None),
            ("node-1", None),
            ("0x155dfffd33ff7g", None),
        ] {
            assert_eq!(guid(text).as_deref(), expected, "{text}");
        }
    }
}
