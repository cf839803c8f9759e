//! Routes between nodes: which way data goes, how wide it is, and of which type NCCL calls it.
//!
//! As NCCL does (src/graph/paths.cc, `ncclTopoSetPaths`): of all ways the one of fewest links, and of these the widest.
//! Devices do not forward for others, except an accelerator between two others that it has links of its own to, and
//! hosts do not forward between their ports.

use std::fmt::{self, Display};

use crate::graph::{Graph, Kind, Link, LinkId, LinkKind, Node, NodeId, Source};
use crate::speed;

/// The type of a path, from near to far, as NCCL orders and names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathType {
    /// A device and itself.
    Loc,
    /// Links of accelerators, directly or through their switches.
    Nvl,
    /// Links of accelerators, through another accelerator.
    Nvb,
    /// A link between an accelerator and a processor on one board.
    C2c,
    /// PCIe, through one switch at most.
    Pix,
    /// PCIe, through several switches but not the host bridge.
    Pxb,
    /// A link between accelerator and processor, then PCIe.
    P2c,
    /// To a network adapter through another accelerator that is near it.
    Pxn,
    /// PCIe, through a host bridge.
    Phb,
    /// Through the link between NUMA nodes.
    Sys,
    /// Through the network.
    Net,
    /// There is no path.
    Dis,
}

impl PathType {
    /// NCCL's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loc => "LOC",
            Self::Nvl => "NVL",
            Self::Nvb => "NVB",
            Self::C2c => "C2C",
            Self::Pix => "PIX",
            Self::Pxb => "PXB",
            Self::P2c => "P2C",
            Self::Pxn => "PXN",
            Self::Phb => "PHB",
            Self::Sys => "SYS",
            Self::Net => "NET",
            Self::Dis => "DIS",
        }
    }
}

impl Display for PathType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A way from one node to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The nodes on it, with both ends.
    pub nodes: Box<[NodeId]>,
    /// The links between them, one fewer.
    pub links: Box<[LinkId]>,
    /// Its type.
    pub path: PathType,
    /// Bandwidth of its narrowest part in one direction, GB/s.
    pub gb_per_s: f64,
    /// Latency of all links together, ns.
    pub latency_ns: f64,
    /// Where the bandwidth of its narrowest part comes from.
    pub source: Source,
}

/// The routes from one node to all others.
#[derive(Debug)]
pub struct Routes<'g> {
    graph: &'g Graph,
    from: NodeId,
    /// Per node and side, how it is reached.
    steps: Vec<Option<Step>>,
}

/// How a node is reached.
#[derive(Clone, Copy, Debug)]
struct Step {
    hops: u32,
    gb_per_s: f64,
    source: Source,
    /// The link and the state before; none at the start.
    before: Option<(LinkId, usize)>,
}

/// A node is reached in two ways: before and after the first cable.
const SIDES: usize = 2;

impl Graph {
    /// The route from one node to another; none when nothing joins them. From an accelerator to an adapter or its ports it
    /// may lead through another accelerator (`PXN`) when that is better, as NCCL has it; the way back never does.
    pub fn path(&self, from: NodeId, to: NodeId) -> Option<Route> {
        self.routes(from).to(to)
    }

    /// The routes from a node. Takes time for all nodes and links of the graph.
    pub fn routes(&self, from: NodeId) -> Routes<'_> {
        Routes::search(self, from)
    }

    /// The nodes of some sort from the nearest to the farthest: by type of path, then bandwidth, then latency. Nodes that
    /// cannot be reached are left out.
    pub fn nearest(&self, to: NodeId, of: impl Fn(&Node) -> bool) -> impl Iterator<Item = NodeId> {
        let routes = self.routes(to);
        let wanted = self.nodes().filter(|(id, node)| *id != to && of(node));
        let mut found: Vec<_> =
            wanted.filter_map(|(id, _)| Some((routes.direct(id)?, id))).collect();
        found.sort_by(|(a, first), (b, second)| {
            let near = a.path.cmp(&b.path).then(b.gb_per_s.total_cmp(&a.gb_per_s));
            near.then(a.latency_ns.total_cmp(&b.latency_ns)).then(first.cmp(second))
        });
        found.into_iter().map(|(_, id)| id)
    }

    /// What a link adds to the width of a route. The switches of accelerators share what goes through them: to an
    /// accelerator all its links to them count together.
    fn width(&self, link: &Link) -> f64 {
        let [a, b] = link.ends.map(|end| self.node(end).kind);
        let accelerator = match (link.kind, a, b) {
            (LinkKind::Accelerator, Kind::AcceleratorSwitch, Kind::AcceleratorSwitch) => {
                return f64::INFINITY;
            }
            (LinkKind::Accelerator, Kind::Accelerator, Kind::AcceleratorSwitch) => link.ends[0],
            (LinkKind::Accelerator, Kind::AcceleratorSwitch, Kind::Accelerator) => link.ends[1],
            _ => return link.gb_per_s,
        };
        let to_switches = self.links_of(accelerator).filter(|(link, other)| {
            link.kind == LinkKind::Accelerator && self.node(*other).kind == Kind::AcceleratorSwitch
        });
        to_switches.map(|(link, _)| link.gb_per_s).sum()
    }
}

impl<'g> Routes<'g> {
    /// Breadth first, one layer of equally many links after the other.
    fn search(graph: &'g Graph, from: NodeId) -> Self {
        let steps = vec![None; graph.nodes().count() * SIDES];
        let mut routes = Self { graph, from, steps };
        // Whoever starts at a switch is in the fabric already, and must not come back to it through a host.
        let in_fabric = graph.node(from).kind == Kind::Switch;
        let start = from.0 as usize * SIDES + usize::from(in_fabric);
        let (gb_per_s, source) = (speed::LOCAL_GB_PER_S, Source::Declared);
        routes.steps[start] = Some(Step { hops: 0, gb_per_s, source, before: None });
        let mut layer = vec![start];
        while !layer.is_empty() {
            let mut next = Vec::new();
            for state in layer {
                routes.relax(state, &mut next);
            }
            layer = next;
        }
        routes
    }

    fn relax(&mut self, state: usize, next: &mut Vec<usize>) {
        let Some(step) = self.steps[state] else { return };
        // Of ways that are as long and as wide, the one by the wider link, as in NCCL, which sorts them.
        let links = self.graph.ids_of(node_of(state));
        let mut links: Vec<_> = links
            .map(|(link, other)| (link, other, self.graph.width(self.graph.link(link))))
            .collect();
        links.sort_by(|(_, _, a), (_, _, b)| b.total_cmp(a));
        for (link, other, width) in links {
            let Some(target) = self.target(state, step, link, other) else { continue };
            let joins = self.graph.link(link);
            let narrower = width < step.gb_per_s || step.before.is_none();
            let (gb_per_s, source) =
                if narrower { (width, joins.source) } else { (step.gb_per_s, step.source) };
            let hops = step.hops + 1;
            let before = Some((link, state));
            match self.steps[target] {
                None => next.push(target),
                Some(known) if known.hops < hops || known.gb_per_s >= gb_per_s => continue,
                Some(_) => {}
            }
            self.steps[target] = Some(Step { hops, gb_per_s, source, before });
        }
    }

    /// The state that a link leads to; none where nothing is forwarded that way.
    fn target(&self, state: usize, step: Step, link: LinkId, other: NodeId) -> Option<usize> {
        let id = node_of(state);
        let kind = |id| self.graph.node(id).kind;
        let before = step.before.map(|(link, state)| (link, node_of(state)));
        if other == id || before.is_some_and(|(_, before)| before == other) {
            return None;
        }
        let link = self.graph.link(link);
        if let Some((arrived, before)) = before {
            let forwards = match kind(id) {
                Kind::Accelerator => {
                    let own = |link: &Link| link.kind == LinkKind::Accelerator;
                    let ends = [kind(before), kind(other)] == [Kind::Accelerator; 2];
                    step.hops == 1 && ends && own(link) && own(self.graph.link(arrived))
                }
                Kind::CxlRegion => [kind(before), kind(other)] != [Kind::CxlMemory; 2],
                Kind::Nic => [kind(before), kind(other)] != [Kind::Port; 2],
                Kind::Pool | Kind::Dax | Kind::Cache | Kind::Other => false,
                _ => true,
            };
            if !forwards {
                return None;
            }
        }
        let mut in_fabric = state % SIDES == 1;
        if link.kind == LinkKind::Cable {
            if in_fabric && kind(id) != Kind::Switch {
                return None;
            }
            in_fabric = true;
        }
        Some(other.0 as usize * SIDES + usize::from(in_fabric))
    }

    /// The route to a node, as [`Graph::path`] has it.
    pub fn to(&self, to: NodeId) -> Option<Route> {
        let direct = self.direct(to)?;
        let kind = |id| self.graph.node(id).kind;
        let to_network = matches!(kind(to), Kind::Nic | Kind::Port);
        if kind(self.from) != Kind::Accelerator || !to_network || direct.path <= PathType::Pxb {
            return Some(direct);
        }
        Some(self.relayed(to, &direct).unwrap_or(direct))
    }

    /// The route to an adapter through the accelerator that is nearest to it, when that has links of its own to here and
    /// reaches the adapter without the processor.
    fn relayed(&self, to: NodeId, direct: &Route) -> Option<Route> {
        let is_accelerator = |node: &Node| node.kind == Kind::Accelerator;
        let relay =
            self.graph.nearest(to, is_accelerator).next().filter(|relay| *relay != self.from)?;
        let first = self.direct(relay).filter(|first| first.path <= PathType::Nvl)?;
        let second =
            self.graph.routes(relay).direct(to).filter(|second| second.path <= PathType::Pxb)?;
        if second.gb_per_s <= direct.gb_per_s && direct.path <= PathType::Pxn {
            return None;
        }
        let narrow = if first.gb_per_s < second.gb_per_s { &first } else { &second };
        Some(Route {
            path: PathType::Pxn,
            gb_per_s: narrow.gb_per_s,
            source: narrow.source,
            latency_ns: first.latency_ns + second.latency_ns,
            nodes: [&first.nodes[..], &second.nodes[1..]].concat().into(),
            links: [&first.links[..], &second.links[..]].concat().into(),
        })
    }

    /// The route to a node through links and what forwards between them.
    pub(crate) fn direct(&self, to: NodeId) -> Option<Route> {
        let states = (0..SIDES).map(|side| to.0 as usize * SIDES + side);
        let known = states.filter_map(|state| Some((state, self.steps[state]?)));
        // Inside of the host comes first, when both are as long and wide.
        let (mut state, step) = known
            .min_by(|(_, a), (_, b)| a.hops.cmp(&b.hops).then(b.gb_per_s.total_cmp(&a.gb_per_s)))?;
        let (mut nodes, mut links) = (vec![to], Vec::new());
        while let Some((link, before)) = self.steps[state].and_then(|step| step.before) {
            links.push(link);
            nodes.push(node_of(before));
            state = before;
        }
        nodes.reverse();
        links.reverse();
        let latency_ns = links.iter().map(|link| self.graph.link(*link).latency_ns).sum();
        let path = self.graph.path_type(&nodes, &links);
        let Step { gb_per_s, source, .. } = step;
        Some(Route { nodes: nodes.into(), links: links.into(), path, gb_per_s, latency_ns, source })
    }
}

fn node_of(state: usize) -> NodeId {
    NodeId(u32::try_from(state / SIDES).expect("a graph has fewer than 2^32 nodes"))
}

impl Graph {
    /// The type of a way: that of its farthest part.
    fn path_type(&self, nodes: &[NodeId], links: &[LinkId]) -> PathType {
        let links = || links.iter().map(|link| self.link(*link));
        let kind = |id: NodeId| self.node(id).kind;
        let has = |wanted| links().any(|link| link.kind == wanted);
        let pcie = |link: &Link| matches!(link.kind, LinkKind::Pcie | LinkKind::Cxl);
        let between = |link: &Link| match link.kind {
            LinkKind::Inside => PathType::Loc,
            LinkKind::Accelerator => PathType::Nvl,
            LinkKind::Coherent => PathType::C2c,
            LinkKind::Pcie if link.ends.map(kind) == [Kind::Bridge; 2] => PathType::Pxb,
            LinkKind::Pcie | LinkKind::Cxl => PathType::Pix,
            LinkKind::Socket => PathType::Sys,
            LinkKind::Cable => PathType::Net,
        };
        let mut path = links().map(between).max().unwrap_or(PathType::Loc);
        let inner = nodes.get(1..nodes.len().saturating_sub(1)).unwrap_or_default();
        if path == PathType::Nvl && inner.iter().any(|id| kind(*id) == Kind::Accelerator) {
            path = PathType::Nvb;
        }
        let is_processor = |id: &NodeId| {
            matches!(kind(*id), Kind::Numa | Kind::Package | Kind::Host | Kind::HostBridge)
        };
        if path < PathType::Phb && links().any(pcie) && nodes.iter().any(is_processor) {
            path = if has(LinkKind::Coherent) { PathType::P2c } else { PathType::Phb };
        }
        path
    }
}
