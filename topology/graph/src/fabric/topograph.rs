//! Models of NVIDIA's topograph: a tree of switches, and groups of nodes that share a domain of accelerator links. Both
//! shapes of its life are read: nodes under `blocks`, and nodes under `switches`, `nodes` and `capacity_blocks`
//! (docs/modeling.md of NVIDIA/topograph).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::build::Builder;
use super::hostlist::expand;
use super::{Format, ReadError, Warning};
use crate::{Graph, NodeId};

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    switches: BTreeMap<String, Option<Switch>>,
    #[serde(default)]
    blocks: Vec<Block>,
    #[serde(default)]
    nodes: BTreeMap<String, Option<Member>>,
    #[serde(default)]
    capacity_blocks: BTreeMap<String, Option<Member>>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Switch {
    #[serde(default, alias = "metadata")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    switches: Vec<String>,
    #[serde(default)]
    nodes: Vec<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Block {
    switch: String,
    #[serde(default)]
    nodes: Vec<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// A node, or a block of them.
#[derive(Deserialize)]
struct Member {
    #[serde(default)]
    nodes: Vec<String>,
    #[serde(default, alias = "annotations")]
    attributes: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Reads a model.
pub(super) fn read(text: &str) -> Result<(Graph, Vec<Warning>), ReadError> {
    let model: Model = serde_saphyr::from_str(text).map_err(|error| ReadError::Broken {
        format: Format::Topograph,
        what: error.to_string(),
    })?;
    let mut builder = Builder::default();
    for (name, switch) in &model.switches {
        let id = builder.switch(name);
        let Some(switch) = switch else { continue };
        for (label, value) in &switch.labels {
            builder.note(id, label, value);
        }
        for child in names(&mut builder, &switch.switches) {
            let child = builder.switch(&child);
            builder.cable(id, child, None);
        }
        attach(&mut builder, id, &switch.nodes, &BTreeMap::new());
        keep(&mut builder, id, &switch.rest);
    }
    for block in &model.blocks {
        let id = builder.switch(&block.switch);
        attach(&mut builder, id, &block.nodes, &block.annotations);
        keep(&mut builder, id, &block.rest);
    }
    for (name, member) in &model.nodes {
        member_of(&mut builder, name, std::slice::from_ref(name), member.as_ref());
    }
    for (name, member) in &model.capacity_blocks {
        let nodes = member.as_ref().map_or(&[][..], |member| &member.nodes);
        member_of(&mut builder, name, nodes, member.as_ref());
    }
    for key in model.rest.keys() {
        builder.warn(0, format!("`{key}` is unknown"));
    }
    Ok(builder.finish())
}

/// Nodes on a switch; `notes` hold for each.
fn attach(
    builder: &mut Builder,
    switch: NodeId,
    nodes: &[String],
    notes: &BTreeMap<String, String>,
) {
    for name in names(builder, nodes) {
        if builder.knows(false, &name) {
            builder.warn(0, format!("node {name} is on two switches"));
        }
        let host = builder.host(&name);
        builder.cable(switch, host, None);
        annotate(builder, host, notes);
    }
}

/// What is said of nodes apart from the switch that they are on.
fn member_of(builder: &mut Builder, of: &str, nodes: &[String], member: Option<&Member>) {
    let Some(member) = member else { return };
    for name in names(builder, nodes) {
        if !builder.knows(false, &name) {
            builder.warn(0, format!("node {name} of {of} is on no switch"));
        }
        let host = builder.host(&name);
        annotate(builder, host, &member.attributes);
        for (key, value) in &member.rest {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            builder.note(host, key, text);
        }
        if of != name {
            builder.note(host, "capacity_block", of);
        }
    }
}

/// Annotations of a host; the domain of its accelerator links is also kept under the name that all readers use.
fn annotate(builder: &mut Builder, host: NodeId, notes: &BTreeMap<String, String>) {
    for (key, value) in notes {
        builder.note(host, key, value);
        if key.starts_with("accelerator.") && key.ends_with("/domain") || key == "nvlink" {
            builder.note(host, "accelerator", value);
        }
    }
}

fn names(builder: &mut Builder, lists: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for list in lists {
        match expand(list) {
            Ok(more) => names.extend(more),
            Err(error) => builder.warn(0, error.to_string()),
        }
    }
    names
}

/// What the reader has no use for.
fn keep(builder: &mut Builder, id: NodeId, rest: &BTreeMap<String, Value>) {
    for (key, value) in rest {
        let name = builder.node(id).name.clone();
        builder.warn(0, format!("{name}: `{key}` is unknown"));
        builder.note(id, key, value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_under_blocks() {
        let text = "switches:\n  top:\n    labels: {region: west}\n    switches: [s1, s2]\n  s1: {}\nblocks:\n\
                    - switch: s1\n  nodes: [\"n[1-2]\", n7]\n  annotations:\n    accelerator.topology.test/domain: nvl1\n\
                    - switch: s2\n  nodes: [m]\n  colour: red\nextra: 1\n";
        let (graph, warnings) = read(text).unwrap();
        assert_eq!((graph.nodes().count(), graph.links().count()), (7, 6));
        let node = |name: &str| graph.nodes().find(|(_, node)| node.name == name).unwrap().1;
        assert_eq!(node("n2").attribute("accelerator"), Some("nvl1"));
        assert_eq!(node("top").attribute("region"), Some("west"));
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["s2: `colour` is unknown", "`extra` is unknown"]);
    }

    #[test]
    fn nodes_under_switches() {
        let text = "switches:\n  core:\n    switches: [leaf]\n  leaf:\n    nodes: [\"n[1-2]\"]\nnodes:\n  n1:\n    capacity_block: cb1\n\
                    capacity_blocks:\n  cb1:\n    nodes: [\"n[1-3]\"]\n    attributes: {nvlink: nvl1}\n  cb2:\n";
        let (graph, warnings) = read(text).unwrap();
        let (_, node) = graph.nodes().find(|(_, node)| node.name == "n1").unwrap();
        assert_eq!(node.attribute("accelerator"), Some("nvl1"));
        assert_eq!(node.attribute("capacity_block"), Some("cb1"));
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["node n3 of cb1 is on no switch"]);
    }
}
