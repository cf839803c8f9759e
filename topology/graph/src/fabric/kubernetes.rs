//! Kubernetes nodes with their labels, as `kubectl get nodes -o json` (or `yaml`) prints them.
//!
//! Labels that say where a node is, from the node outwards: those of NVIDIA's topograph in its several namings
//! (docs/reference/node-labels.md of NVIDIA/topograph), those of AWS, Google and Oracle, then zone and region.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::build::Builder;
use super::{Format, ReadError, Warning};
use crate::{Graph, NodeId};

/// Labels of one tier each, from the node outwards, with what the tier is called. Of labels with the same name for
/// their tier a node has one.
const TIERS: &[(&str, &str)] = &[
    ("network.topology.nvidia.com/leaf", "leaf"),
    ("network.topology.nvidia.com/block", "leaf"),
    ("topology.kubernetes.io/network-level-1", "leaf"),
    ("topology.k8s.aws/network-node-layer-3", "leaf"),
    ("cloud.google.com/gce-topology-subblock", "leaf"),
    ("oci.oraclecloud.com/host.rack_id", "leaf"),
    ("network.topology.nvidia.com/spine", "spine"),
    ("topology.kubernetes.io/network-level-2", "spine"),
    ("topology.k8s.aws/network-node-layer-2", "spine"),
    ("cloud.google.com/gce-topology-block", "spine"),
    ("oci.oraclecloud.com/host.network_block_id", "spine"),
    ("network.topology.nvidia.com/core", "core"),
    ("network.topology.nvidia.com/datacenter", "core"),
    ("topology.kubernetes.io/network-level-3", "core"),
    ("topology.k8s.aws/network-node-layer-1", "core"),
];
/// The newer labels of topograph: a number for each tier, 0 next to the node.
const NUMBERED: &str = "network.topology.nvidia.com/tier-";
/// Above the switches.
const PLACES: &[(&str, &str)] = &[
    ("topology.kubernetes.io/zone", "zone"),
    ("failure-domain.beta.kubernetes.io/zone", "zone"),
    ("topology.kubernetes.io/region", "region"),
    ("failure-domain.beta.kubernetes.io/region", "region"),
];
/// Which accelerators have links to each other across hosts.
const ACCELERATOR: &[&str] = &[
    "nvidia.com/gpu.clique",
    "network.topology.nvidia.com/accelerator",
    "topology.k8s.aws/ultraserver-id",
    "topology.k8s.aws/capacity-block-id",
];
/// Kubernetes' and the clouds' labels that say nothing of a place are many; what begins so may, and is reported.
const OF_PLACES: &[&str] = &[
    "network.topology.nvidia.com/",
    "topology.kubernetes.io/",
    "topology.k8s.aws/",
    "cloud.google.com/gce-topology",
];

/// A node, or a list of nodes.
#[derive(Deserialize)]
struct Object {
    kind: Option<String>,
    metadata: Option<Metadata>,
    items: Option<Vec<Self>>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, Value>,
}

/// Reads a list of nodes.
pub(super) fn read(text: &str) -> Result<(Graph, Vec<Warning>), ReadError> {
    let broken = |what: String| ReadError::Broken { format: Format::Kubernetes, what };
    let text = text.trim_start();
    let objects = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|error| broken(error.to_string()))?
    } else {
        let object: Object = if text.starts_with('{') {
            serde_json::from_str(text).map_err(|error| broken(error.to_string()))?
        } else {
            serde_saphyr::from_str(text).map_err(|error| broken(error.to_string()))?
        };
        match object.items {
            Some(items) => items,
            None => vec![object],
        }
    };
    let mut builder = Builder::default();
    let mut joined = HashSet::new();
    let mut parents = BTreeMap::new();
    for object in &objects {
        let Some(metadata) = &object.metadata else {
            builder.warn(0, "an object without metadata is left out");
            continue;
        };
        let name = &metadata.name;
        if let Some(kind) = object.kind.as_deref().filter(|kind| *kind != "Node") {
            builder.warn(0, format!("{name} is a {kind} and no Node: left out"));
            continue;
        }
        let host = builder.host(name);
        describe(&mut builder, host, metadata);
        let mut below = host;
        let mut above = place(&metadata.labels);
        if above.is_empty() {
            builder.warn(0, format!("node {name} has no label that says where it is"));
        }
        let path = above.clone();
        for (index, Tier { what, value }) in above.drain(..).enumerate() {
            let switch = tier(&mut builder, index, what, &value, &path[index..]);
            if joined.insert((switch, below)) {
                builder.cable(switch, below, None);
                if let Some(other) = parents.insert(below, switch).filter(|other| *other != switch)
                {
                    let [below, one, two] =
                        [below, other, switch].map(|id| builder.node(id).name.clone());
                    builder.warn(0, format!("{below} is below {one} and {two}"));
                }
            }
            below = switch;
        }
    }
    Ok(builder.finish())
}

#[derive(Clone)]
struct Tier {
    what: String,
    value: String,
}

/// The switch or place of a tier. Zones of two regions may have the same name; they are told apart.
fn tier(
    builder: &mut Builder,
    index: usize,
    what: String,
    value: &str,
    outwards: &[Tier],
) -> NodeId {
    let key = match &*what {
        "zone" => outwards.iter().map(|tier| &*tier.value).collect::<Vec<_>>().join(" in "),
        _ => format!("{what} {value}"),
    };
    let new = !builder.knows(true, &key);
    let id = builder.switch(&key);
    if new {
        value.clone_into(&mut builder.node(id).name);
        builder.note(id, "what", what);
        builder.note(id, "tier", index.to_string());
    }
    id
}

/// Where labels say that a node is, from the node outwards.
fn place(labels: &BTreeMap<String, String>) -> Vec<Tier> {
    let mut tiers: Vec<Tier> = Vec::new();
    let mut numbered: Vec<(u32, &String)> = labels
        .iter()
        .filter_map(|(label, value)| Some((label.strip_prefix(NUMBERED)?.parse().ok()?, value)))
        .collect();
    numbered.sort_unstable();
    let names = ["leaf", "spine", "core"];
    tiers.extend(numbered.into_iter().map(|(number, value)| {
        Tier {
            what: names
                .get(number as usize)
                .map_or_else(|| format!("tier {number}"), |name| (*name).to_owned()),
            value: value.clone(),
        }
    }));
    for (label, what) in TIERS.iter().chain(PLACES) {
        let known = tiers.iter().any(|tier| tier.what == *what);
        if let Some(value) = labels.get(*label).filter(|_| !known) {
            tiers.push(Tier { what: (*what).to_owned(), value: value.clone() });
        }
    }
    tiers
}

/// Keeps what is said of a node.
fn describe(builder: &mut Builder, host: NodeId, metadata: &Metadata) {
    for (label, value) in &metadata.labels {
        builder.note(host, label, value);
        let known = TIERS.iter().chain(PLACES).any(|(known, _)| known == label)
            || label.starts_with(NUMBERED)
            || ACCELERATOR.contains(&&**label);
        if !known && OF_PLACES.iter().any(|beginning| label.starts_with(beginning)) {
            builder.warn(0, format!("node {}: the label {label} is not used", metadata.name));
        }
    }
    if let Some(domain) = ACCELERATOR.iter().find_map(|label| metadata.labels.get(*label)) {
        builder.note(host, "accelerator", domain);
    }
    for (name, value) in &metadata.annotations {
        builder.note(host, name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> (Vec<String>, Vec<String>) {
        let (graph, warnings) = read(text).unwrap();
        let cables = graph
            .links()
            .map(|(_, link)| link.ends.map(|end| graph.node(end).name.clone()).join("-"));
        (cables.collect(), warnings.iter().map(ToString::to_string).collect())
    }

    fn node(name: &str, labels: &str) -> String {
        format!(r#"{{"kind":"Node","metadata":{{"name":"{name}","labels":{{{labels}}}}}}}"#)
    }

    #[test]
    fn labels_of_topograph() {
        let prefix = "network.topology.nvidia.com";
        let of = |leaf: &str, n: &str| {
            node(
                n,
                &format!(
                    r#""{prefix}/leaf":"{leaf}","{prefix}/spine":"s","{prefix}/accelerator":"nvl1","topology.kubernetes.io/zone":"z""#
                ),
            )
        };
        let list =
            format!(r#"{{"items":[{},{},{}]}}"#, of("l1", "a"), of("l1", "b"), of("l2", "c"));
        let (cables, warnings) = names(&list);
        assert_eq!(cables, ["l1-a", "s-l1", "z-s", "l1-b", "l2-c", "s-l2"]);
        assert_eq!(warnings, [""; 0]);
        let (graph, _) = read(&list).unwrap();
        assert_eq!(graph.nodes().next().unwrap().1.attribute("accelerator"), Some("nvl1"));
    }

    #[test]
    fn older_and_newer_names_of_a_tier() {
        let (cables, _) = names(&node(
            "a",
            r#""network.topology.nvidia.com/block":"b1","network.topology.nvidia.com/datacenter":"d1""#,
        ));
        assert_eq!(cables, ["b1-a", "d1-b1"]);
        let (cables, _) = names(&node(
            "a",
            r#""network.topology.nvidia.com/tier-1":"t1","network.topology.nvidia.com/tier-0":"t0","network.topology.nvidia.com/tier-3":"t3""#,
        ));
        assert_eq!(cables, ["t0-a", "t1-t0", "t3-t1"]);
    }

    #[test]
    fn yaml_and_zones_of_one_name() {
        let of = |name: &str, region: &str| {
            format!(
                "- kind: Node\n  metadata:\n    name: {name}\n    labels:\n      topology.kubernetes.io/zone: z1\n      topology.kubernetes.io/region: {region}\n"
            )
        };
        let text = format!("kind: List\nitems:\n{}{}", of("a", "east"), of("b", "west"));
        assert_eq!(names(&text).0, ["z1-a", "east-z1", "z1-b", "west-z1"]);
    }

    #[test]
    fn what_does_not_fit() {
        let spine = |spine: &str| {
            format!(
                r#""network.topology.nvidia.com/leaf":"l","network.topology.nvidia.com/spine":"{spine}""#
            )
        };
        let list = format!(
            r#"[{},{},{},{{"kind":"Pod","metadata":{{"name":"p"}}}},{}]"#,
            node("a", &spine("s1")),
            node("b", &spine("s2")),
            node("c", r#""colour":"red""#),
            node("d", r#""topology.kubernetes.io/zone":"z","topology.kubernetes.io/shelf":"3""#),
        );
        assert_eq!(
            names(&list).1,
            [
                "l is below s1 and s2",
                "node c has no label that says where it is",
                "p is a Pod and no Node: left out",
                "node d: the label topology.kubernetes.io/shelf is not used",
            ]
        );
        assert!(read("{").unwrap_err().to_string().starts_with("Kubernetes nodes: "));
    }
}
