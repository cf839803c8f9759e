//! Which node of one graph is which of the other.

use std::collections::{HashMap, HashSet};

use dure_topology::{Graph, Kind, NodeId};

/// Nodes of two graphs that stand for the same thing.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// In the order of the first graph.
    pub(super) all: Vec<(NodeId, NodeId)>,
    to_second: HashMap<NodeId, NodeId>,
    second: HashSet<NodeId>,
}

impl Pairs {
    /// Pairs nodes of the same kind: by name, as devices have addresses; what is left by its place below nodes that are
    /// pairs, as two hosts number their devices differently.
    pub(super) fn of(a: &Graph, b: &Graph) -> Self {
        let mut pairs = Self::default();
        let mut named = HashMap::<(Kind, &str), Vec<NodeId>>::new();
        for (id, node) in b.nodes() {
            named.entry((node.kind, &node.name)).or_default().push(id);
        }
        for (id, node) in a.nodes() {
            let same = named.get(&(node.kind, &*node.name)).into_iter().flatten();
            // Of several with one name the one at the same place, or the next.
            let free: Vec<_> =
                same.copied().filter(|other| !pairs.second.contains(other)).collect();
            let parent = a.parent(id).and_then(|parent| pairs.second(parent));
            let here = free.iter().find(|other| b.parent(**other) == parent);
            if let Some(other) = here.or_else(|| free.first()) {
                pairs.add(id, *other);
            }
        }
        pairs.by_place(a, b);
        pairs.all.sort();
        pairs
    }

    fn by_place(&mut self, a: &Graph, b: &Graph) {
        // Parents come before what they contain.
        for (id, node) in a.nodes() {
            if self.second(id).is_some() {
                continue;
            }
            let around: Vec<_> = match a.parent(id) {
                None => b.roots().collect(),
                Some(parent) => match self.second(parent) {
                    Some(parent) => b.children(parent).collect(),
                    None => continue,
                },
            };
            let is_free =
                |other: &NodeId| b.node(*other).kind == node.kind && !self.second.contains(other);
            if let Some(other) = around.into_iter().find(is_free) {
                self.add(id, other);
            }
        }
    }

    fn add(&mut self, first: NodeId, second: NodeId) {
        self.all.push((first, second));
        self.to_second.insert(first, second);
        self.second.insert(second);
    }

    /// The node of the second graph that a node of the first stands for.
    pub(super) fn second(&self, first: NodeId) -> Option<NodeId> {
        self.to_second.get(&first).copied()
    }

    /// Whether a node of the second graph has one in the first.
    pub(super) fn has_second(&self, second: NodeId) -> bool {
        self.second.contains(&second)
    }
}
