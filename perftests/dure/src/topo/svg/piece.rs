//! What is drawn of a graph: frames in frames, and in them trees of boxes.

use std::collections::HashMap;

use dure_topology::{Graph, Kind, LinkKind, NodeId, Source, speed};

use super::super::words::{self, Bridge};

/// Longest lines in a box, in the title of a frame, and in that of a host, in letters.
const IN_BOX: usize = 17;
const IN_FRAME: usize = 34;
const IN_HOST: usize = 100;

/// A part of the picture.
#[derive(Debug)]
pub(super) enum Piece {
    Frame(Frame),
    Tree(Block),
}

/// A host, package or NUMA node with what is in it, side by side.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) id: NodeId,
    pub(super) class: &'static str,
    pub(super) title: Vec<String>,
    pub(super) pieces: Vec<Piece>,
}

/// A box with what hangs below it.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) id: NodeId,
    pub(super) class: &'static str,
    pub(super) lines: Vec<String>,
    /// Bandwidth of the link above it, and whether anybody stated it.
    pub(super) link: Option<(String, bool)>,
    pub(super) below: Vec<Self>,
}

/// Finds the pieces of a graph.
pub(super) struct Pieces<'g> {
    graph: &'g Graph,
    /// Host bridges that stand beside their NUMA node in the graph.
    moved: HashMap<NodeId, Vec<NodeId>>,
    /// How many of each kind have been drawn.
    pub(super) drawn: HashMap<Kind, usize>,
}

impl<'g> Pieces<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        let mut moved = HashMap::<_, Vec<_>>::new();
        for (id, _) in graph.nodes().filter(|(_, node)| node.kind == Kind::HostBridge) {
            let mut near = graph.links_of(id).filter(|(link, other)| {
                link.kind == LinkKind::Inside && graph.node(*other).kind == Kind::Numa
            });
            if let Some((_, numa)) = near.next().filter(|(_, numa)| graph.parent(id) != Some(*numa))
            {
                moved.entry(numa).or_default().push(id);
            }
        }
        Self { graph, moved, drawn: HashMap::new() }
    }

    /// The pieces that a node is.
    pub(super) fn of(&mut self, id: NodeId) -> Vec<Piece> {
        let node = self.graph.node(id);
        let class = match node.kind {
            Kind::Host => "fh",
            Kind::Package => "fp",
            Kind::Numa => "fn",
            _ => return self.blocks(id).into_iter().map(Piece::Tree).collect(),
        };
        self.count(node.kind);
        let beside = self.moved.get(&id).cloned().unwrap_or_default();
        let is_moved = |child: &NodeId| self.moved.values().flatten().any(|moved| moved == child);
        let children: Vec<_> = self.graph.children(id).filter(|child| !is_moved(child)).collect();
        let inside = children.into_iter().chain(beside);
        let pieces = inside.flat_map(|child| self.of(child)).collect();
        vec![Piece::Frame(Frame { id, class, title: self.title(id), pieces })]
    }

    fn count(&mut self, kind: Kind) {
        *self.drawn.entry(kind).or_default() += 1;
    }

    fn title(&self, id: NodeId) -> Vec<String> {
        let node = self.graph.node(id);
        let mut title = vec![node.name.clone()];
        match node.kind {
            Kind::Numa => {
                title.extend(words::processors(node));
                title.extend(words::about(node).into_iter().filter(|text| text.ends_with("iB")));
            }
            Kind::Host => {
                title.extend(Some(words::about(node).join(", ")).filter(|text| !text.is_empty()))
            }
            _ => title.extend(words::about(node)),
        }
        let caches =
            self.graph.children(id).filter(|child| self.graph.node(*child).kind == Kind::Cache);
        let large: Vec<_> =
            caches.filter(|child| self.graph.node(*child).name.starts_with("L3")).collect();
        if let Some(first) = large.first() {
            let size = words::about(self.graph.node(*first)).into_iter().next().unwrap_or_default();
            let times = if large.len() > 1 { format!("{} x ", large.len()) } else { String::new() };
            title.push(format!("{times}L3 {size}"));
        }
        let longest = if node.kind == Kind::Host { IN_HOST } else { IN_FRAME };
        title.iter().flat_map(|line| wrap(line, longest)).collect()
    }

    /// The boxes that a node is: a bridge that is but a port is what is below it.
    fn blocks(&mut self, id: NodeId) -> Vec<Block> {
        let node = self.graph.node(id);
        let class = match node.kind {
            Kind::HostBridge | Kind::Bridge => return self.bridge(id),
            Kind::Accelerator => "a",
            Kind::Nic => "n",
            Kind::CxlMemory | Kind::Dax => "c",
            Kind::Pool => "c",
            _ => return Vec::new(),
        };
        self.count(node.kind);
        let mut lines = vec![node.name.clone()];
        match node.kind {
            Kind::Nic => {
                lines.extend(words::maker(node));
                lines.extend(self.ports(id));
            }
            Kind::Accelerator => {
                lines.extend(words::maker(node));
                lines.extend(words::about(node).into_iter().skip(1).take(3));
                lines.extend(self.coherent(id));
            }
            Kind::CxlMemory => {
                lines.extend(words::maker(node));
                lines.extend(words::about(node).into_iter().skip(1));
            }
            _ => lines.extend(words::about(node)),
        }
        // A name that is said twice is said once.
        lines.dedup();
        let lines = lines.iter().flat_map(|line| wrap(line, IN_BOX)).collect();
        let below: Vec<_> = self.graph.children(id).collect();
        let below = below.into_iter().flat_map(|child| self.blocks(child)).collect();
        vec![Block { id, class, lines, link: self.link(id), below }]
    }

    fn bridge(&mut self, id: NodeId) -> Vec<Block> {
        let node = self.graph.node(id);
        let children: Vec<_> = self.graph.children(id).collect();
        let below: Vec<_> = children.into_iter().flat_map(|child| self.blocks(child)).collect();
        if below.is_empty() {
            return below;
        }
        self.count(node.kind);
        let is_host = node.kind == Kind::HostBridge;
        if !is_host && words::bridge(self.graph, id) != Bridge::Switch {
            return below;
        }
        let (class, what) = if is_host { ("r", "host bridge") } else { ("s", "PCIe switch") };
        let lines = vec![node.name.clone(), what.to_owned()];
        let link = if is_host { None } else { self.link(id) };
        vec![Block { id, class, lines, link, below }]
    }

    /// The ports of an adapter, each with its bandwidth.
    fn ports(&mut self, id: NodeId) -> Vec<String> {
        let ports: Vec<_> = self.graph.children(id).collect();
        let mut lines = Vec::new();
        for port in ports {
            let node = self.graph.node(port);
            if node.kind == Kind::Port {
                self.count(Kind::Port);
                let bandwidth = self.graph.link_up(port).map(|link| {
                    let mark = if link.source == Source::Default { "~" } else { "" };
                    format!(" {mark}{}", words::figure(link.gb_per_s))
                });
                let rail = node.attribute("rail").map(|rail| format!(" rail {rail}"));
                lines.push(format!(
                    "{}{}{}",
                    node.name,
                    bandwidth.unwrap_or_default(),
                    rail.unwrap_or_default()
                ));
            }
        }
        lines
    }

    fn coherent(&self, id: NodeId) -> Option<String> {
        let (link, other) =
            self.graph.links_of(id).find(|(link, _)| link.kind == LinkKind::Coherent)?;
        Some(format!("{} to {}", words::figure(link.gb_per_s), self.graph.node(other).name))
    }

    fn link(&self, id: NodeId) -> Option<(String, bool)> {
        let link = self.graph.link_up(id).filter(|link| link.kind != LinkKind::Inside)?;
        if link.source == Source::Default && link.gb_per_s >= speed::LOCAL_GB_PER_S {
            return None;
        }
        let stated = link.source != Source::Default;
        Some((format!("{}{}", if stated { "" } else { "~" }, words::figure(link.gb_per_s)), stated))
    }
}

/// A text in lines that fit: broken where there is a space, after a hyphen, or where it must be.
fn wrap(text: &str, longest: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive([' ', '-']) {
        let letters = word.trim_end().chars().count();
        let line = lines.last_mut().expect("there is a first line");
        if line.is_empty() || line.chars().count() + letters <= longest {
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    let cut = |line: String| {
        let letters: Vec<char> = line.trim().chars().collect();
        letters.chunks(longest).map(|part| part.iter().collect()).collect::<Vec<String>>()
    };
    lines.into_iter().flat_map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_fit() {
        assert_eq!(wrap("Tesla V100-SXM3-32GB-H", 17), ["Tesla V100-SXM3-", "32GB-H"]);
        assert_eq!(wrap("0000:0f:00.0", 17), ["0000:0f:00.0"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert!(wrap("", 3).is_empty());
    }
}
