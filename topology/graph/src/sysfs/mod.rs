//! Discovers a host from the files of Linux: sysfs, and procfs for what sysfs has not.
//!
//! What is absent is absent. A figure that nobody states is marked [`Source::Default`](crate::Source).

mod accelerators;
mod cxl;
mod limits;
mod network;
mod pci;
mod processors;
mod tree;

use std::path::Path;

use self::tree::Tree;
use crate::device;
use crate::error::Error;
use crate::graph::{Graph, NodeId};

impl Graph {
    /// Discovers the host whose files are below `root`: `/` for this machine, or a folder in which `sys` (and `proc`) of
    /// some machine lie.
    ///
    /// # Errors
    /// `root` cannot be read, or has no folder `sys`.
    pub fn discover(root: &Path) -> Result<Self, Error> {
        let tree = Tree::open(root)?;
        let mut graph = Self::new();
        let host = limits::add(&tree, &mut graph);
        let places = processors::add(&tree, &mut graph, host);
        let devices = pci::add(&tree, &mut graph, &places);
        accelerators::describe(&tree, &mut graph, &devices);
        network::add(&tree, &mut graph, &places, &devices);
        cxl::add(&tree, &mut graph, &places, &devices);
        Ok(graph)
    }
}

/// Where devices of a host are.
#[derive(Debug)]
struct Places {
    host: NodeId,
    /// NUMA nodes by their numbers.
    numas: Vec<(u32, NodeId)>,
}

impl Places {
    /// The NUMA node of a number; the only one when there is but one. sysfs numbers an unknown one -1.
    fn numa(&self, number: Option<i64>) -> Option<NodeId> {
        let known = self.numas.iter().find(|(known, _)| Some(i64::from(*known)) == number);
        match (known, &self.numas[..]) {
            (Some((_, id)), _) | (None, [(_, id)]) => Some(*id),
            _ => None,
        }
    }

    /// What is at a NUMA node, or at an unknown one, hangs on these.
    fn near(&self, numa: Option<NodeId>) -> Vec<NodeId> {
        match numa {
            Some(numa) => vec![numa],
            None if self.numas.is_empty() => vec![self.host],
            None => self.numas.iter().map(|(_, id)| *id).collect(),
        }
    }

    /// Joins what is no PCI device with the processors.
    fn join(&self, graph: &mut Graph, numa: Option<NodeId>, id: NodeId) {
        device::join_bridge(graph, &self.near(numa), id);
    }
}

/// The members of a list such as `0-3,8,10-11`, as the kernel writes lists of processors.
fn list(text: &str) -> Vec<u32> {
    /// More than any kernel is built for.
    const MOST: u32 = 1 << 16;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last < MOST).then_some(first..=last)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn lists_of_processors() {
        assert_eq!(list("0-2,8,10-11"), [0, 1, 2, 8, 10, 11]);
        assert!(list("").is_empty());
        assert!(list("3-1,x,0-99999999").is_empty());
    }
}
