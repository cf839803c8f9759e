//! The graph: nodes in a tree of what contains what, and links between them.

use std::iter;

/// Number of a node of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Number of a link of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u32);

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A host, real or virtual.
    Host,
    /// A processor package.
    Package,
    /// A NUMA node: cores and the memory that is near them.
    Numa,
    /// A cache.
    Cache,
    /// A PCIe host bridge: the root of a tree of devices.
    HostBridge,
    /// A PCIe bridge, or a port of a PCIe switch.
    Bridge,
    /// An accelerator: GPU or NPU, of any vendor.
    Accelerator,
    /// A network adapter.
    Nic,
    /// A port of a network adapter.
    Port,
    /// A switch between accelerators of one host.
    AcceleratorSwitch,
    /// A CXL memory device.
    CxlMemory,
    /// A region of CXL memory.
    CxlRegion,
    /// A DAX device.
    Dax,
    /// A CXL pool that several hosts reach.
    Pool,
    /// A switch of the fabric.
    Switch,
    /// Something that a description names and this library has no use for; kept, so that nothing is lost.
    Other,
}

/// A node: what it is, what it is called, and all that its source said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its name, for people: `host a1`, `numa 0`, `0000:c1:00.0`, `mlx5_0`.
    pub name: String,
    /// What its source said of it, in the source's words and order.
    pub attributes: Vec<(String, String)>,
}

/// What a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkKind {
    /// Inside a chip or a board: a host and its packages, a package and its NUMA nodes, an adapter and its ports.
    Inside,
    /// PCIe.
    Pcie,
    /// CXL.
    Cxl,
    /// Between packages or NUMA nodes.
    Socket,
    /// Between accelerators, or an accelerator and a switch of them: NVLink, xGMI and their like.
    Accelerator,
    /// Between a processor and an accelerator on one board (NVLink-C2C and its like).
    Coherent,
    /// A cable of the fabric.
    Cable,
}

/// Where a figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Nobody said: what is usual for this kind.
    Default,
    /// The hardware or a file says so.
    Declared,
    /// It was measured.
    Measured,
}

/// A link between two nodes, the same in both directions.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The nodes it joins. For what is inside a host the first contains the second or is nearer to the processor.
    pub ends: [NodeId; 2],
    /// What it is.
    pub kind: LinkKind,
    /// Bandwidth in one direction, GB/s (10^9 bytes a second).
    pub gb_per_s: f64,
    /// Time to cross it, ns.
    pub latency_ns: f64,
    /// Where the bandwidth comes from.
    pub source: Source,
}

/// Nodes and links.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    /// Per node, what contains it.
    parents: Vec<Option<NodeId>>,
    /// Per node, what it contains, one level down.
    contents: Vec<Vec<NodeId>>,
    links: Vec<Link>,
    /// Per node, its links.
    of: Vec<Vec<LinkId>>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node that is contained in `parent`, which is in the graph already.
    pub fn add(&mut self, parent: Option<NodeId>, node: Node) -> NodeId {
        let id =
            NodeId(u32::try_from(self.nodes.len()).expect("a graph has fewer than 2^32 nodes"));
        self.nodes.push(node);
        self.parents.push(parent);
        self.contents.push(Vec::new());
        if let Some(parent) = parent {
            self.contents[parent.0 as usize].push(id);
        }
        self.of.push(Vec::new());
        id
    }

    /// Joins two nodes of the graph. A link from a node to itself is kept; no route uses it.
    pub fn join(&mut self, link: Link) -> LinkId {
        let id =
            LinkId(u32::try_from(self.links.len()).expect("a graph has fewer than 2^32 links"));
        let [first, second] = link.ends;
        self.of[first.0 as usize].push(id);
        if second != first {
            self.of[second.0 as usize].push(id);
        }
        self.links.push(link);
        id
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// What contains a node.
    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.parents[id.0 as usize]
    }

    /// Adds to what the source said of a node.
    pub fn describe(&mut self, id: NodeId, attributes: impl IntoIterator<Item = (String, String)>) {
        self.nodes[id.0 as usize].attributes.extend(attributes);
    }

    /// A link.
    pub fn link(&self, id: LinkId) -> &Link {
        &self.links[id.0 as usize]
    }

    /// All nodes, in the order in which they were added.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0..).map(NodeId).zip(&self.nodes)
    }

    /// All links, in the order in which they were added.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        (0..).map(LinkId).zip(&self.links)
    }

    /// The links of a node, each with the node at its other end.
    pub fn links_of(&self, id: NodeId) -> impl Iterator<Item = (&Link, NodeId)> {
        self.ids_of(id).map(|(id, other)| (self.link(id), other))
    }

    /// The links of a node by number, each with the node at its other end.
    pub(crate) fn ids_of(&self, id: NodeId) -> impl Iterator<Item = (LinkId, NodeId)> {
        self.of[id.0 as usize].iter().map(move |link| {
            let [first, second] = self.link(*link).ends;
            (*link, if first == id { second } else { first })
        })
    }

    /// The nodes that a node contains, one level down, in the order in which they were added.
    pub fn children(&self, of: NodeId) -> impl Iterator<Item = NodeId> {
        self.contents[of.0 as usize].iter().copied()
    }

    /// The nodes that contain a node, from the nearest to the outermost.
    pub fn ancestors(&self, of: NodeId) -> impl Iterator<Item = NodeId> {
        iter::successors(self.parent(of), |id| self.parent(*id))
    }

    /// The nodes that nothing contains.
    pub fn roots(&self) -> impl Iterator<Item = NodeId> {
        self.nodes().map(|(id, _)| id).filter(|id| self.parent(*id).is_none())
    }

    /// The host that a node is in: itself when it is one.
    pub fn host(&self, of: NodeId) -> Option<NodeId> {
        iter::once(of).chain(self.ancestors(of)).find(|id| self.node(*id).kind == Kind::Host)
    }

    /// The link between a node and what contains it.
    pub fn link_up(&self, of: NodeId) -> Option<&Link> {
        let parent = self.parent(of)?;
        self.links_of(of).find(|(_, other)| *other == parent).map(|(link, _)| link)
    }
}

impl Node {
    /// A node without attributes.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into(), attributes: Vec::new() }
    }

    /// The node, of which its source said one thing more.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// What its source said under a name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
