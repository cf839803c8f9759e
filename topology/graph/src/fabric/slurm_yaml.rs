//! Slurm's topology.yaml (its manual page, Slurm 25.05 and later): the topology that is the cluster's default, or the
//! first that has a shape.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::hostlist::expand;
use super::slurm::Reader;
use super::{Format, ReadError, Warning};
use crate::Graph;

#[derive(Deserialize)]
struct Topology {
    topology: String,
    #[serde(default)]
    cluster_default: bool,
    tree: Option<Tree>,
    block: Option<Blocks>,
    /// `flat`, and what later versions add.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Tree {
    switches: Vec<Switch>,
}

#[derive(Deserialize)]
struct Switch {
    switch: String,
    children: Option<String>,
    nodes: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Blocks {
    #[serde(default)]
    block_sizes: Vec<usize>,
    blocks: Vec<Block>,
}

#[derive(Deserialize)]
struct Block {
    block: String,
    nodes: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Reads a topology.yaml.
pub(super) fn read(text: &str) -> Result<(Graph, Vec<Warning>), ReadError> {
    let broken = |what: String| ReadError::Broken { format: Format::SlurmYaml, what };
    let topologies: Vec<Topology> =
        serde_saphyr::from_str(text).map_err(|error| broken(error.to_string()))?;
    let with_shape = |topology: &&Topology| topology.tree.is_some() || topology.block.is_some();
    let chosen = topologies.iter().filter(with_shape).find(|topology| topology.cluster_default);
    let chosen = chosen.or_else(|| topologies.iter().find(with_shape));
    let Some(chosen) = chosen else {
        return Err(broken("no topology of type tree or block in it".to_owned()));
    };

    let mut reader = Reader::default();
    for topology in &topologies {
        let name = &topology.topology;
        if !std::ptr::eq(topology, chosen) {
            reader
                .builder
                .warn(0, format!("topology {name} is left out: {} is read", chosen.topology));
        }
        for key in topology.rest.keys().filter(|key| *key != "flat") {
            reader.builder.warn(0, format!("topology {name}: `{key}` is unknown"));
        }
    }
    for switch in chosen.tree.iter().flat_map(|tree| &tree.switches) {
        let node = reader.named(0, &switch.switch);
        let children = names(&mut reader, switch.children.as_deref());
        reader.switches(node, &children);
        let nodes = names(&mut reader, switch.nodes.as_deref());
        reader.nodes(0, node, &nodes);
        unknown(&mut reader, &switch.switch, &switch.rest);
    }
    if let Some(blocks) = &chosen.block {
        for block in &blocks.blocks {
            let node = reader.named(0, &block.block);
            reader.builder.note(node, "what", "block");
            let nodes = names(&mut reader, block.nodes.as_deref());
            reader.block(0, node, &nodes);
            unknown(&mut reader, &block.block, &block.rest);
        }
        reader.block_sizes(blocks.block_sizes.clone());
    }
    Ok(reader.finish())
}

fn names(reader: &mut Reader, list: Option<&str>) -> Vec<String> {
    let names = list.map(expand).transpose().unwrap_or_else(|error| {
        reader.builder.warn(0, error.to_string());
        None
    });
    names.unwrap_or_default()
}

fn unknown(reader: &mut Reader, name: &str, rest: &BTreeMap<String, Value>) {
    for key in rest.keys() {
        reader.builder.warn(0, format!("{name}: `{key}` is unknown"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_read() {
        let text = "- topology: one\n  tree:\n    switches:\n    - switch: top\n      nodes: n[1-2]\n\
                    - topology: two\n  cluster_default: true\n  block:\n    block_sizes:\n      - 1\n      - 2\n    blocks:\n\
                    \x20   - block: b1\n      nodes: a\n      size: 3\n    - block: b2\n      nodes: \"0123\"\n\
                    - topology: three\n  flat: true\n";
        let (graph, warnings) = read(text).unwrap();
        let names: Vec<&str> = graph.nodes().map(|(_, node)| &*node.name).collect();
        assert_eq!(names, ["b1", "a", "b2", "0123", "blocks of 2, number 1"]);
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "topology one is left out: two is read",
                "topology three is left out: two is read",
                "b1: `size` is unknown",
            ]
        );
    }

    #[test]
    fn a_tree() {
        let text = "- topology: one\n  cluster_default: True\n  tree:\n    switches:\n    - switch: top\n      children: s[1-2]\n\
                    \x20   - switch: s1\n      nodes: n[01-02]\n    - switch: s2\n      nodes: n03\n";
        let (graph, warnings) = read(text).unwrap();
        assert_eq!((graph.nodes().count(), graph.links().count()), (6, 5));
        assert_eq!(warnings, []);
    }

    #[test]
    fn what_is_no_tree_is_an_error() {
        let flat = read("- topology: one\n  flat: true\n").unwrap_err().to_string();
        assert_eq!(flat, "Slurm topology.yaml: no topology of type tree or block in it");
        assert!(
            read("- topology: [").unwrap_err().to_string().starts_with("Slurm topology.yaml: ")
        );
    }
}
