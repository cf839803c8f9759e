//! Everything of a graph, for programs.

use dure_topology::{Graph, Link, Node, NodeId};
use serde::Serialize;

use super::matrix::Matrix;

/// A graph with the paths between its devices.
#[derive(Debug, Serialize)]
pub(super) struct Report<'g> {
    dure_version: &'static str,
    from: &'g str,
    nodes: Vec<JsonNode<'g>>,
    links: Vec<JsonLink>,
    rails: Vec<JsonRail>,
    paths: Vec<JsonPath>,
}

#[derive(Debug, Serialize)]
struct JsonNode<'g> {
    id: u32,
    /// What contains it.
    parent: Option<u32>,
    kind: String,
    name: &'g str,
    /// Names and values: a name can be there twice.
    attributes: &'g [(String, String)],
}

/// A link; a bandwidth without limit is null.
#[derive(Debug, Serialize)]
struct JsonLink {
    ends: [u32; 2],
    kind: String,
    gb_per_s: f64,
    latency_ns: f64,
    source: String,
}

/// A port's rail; its source is `default` when it is by order of the adapters.
#[derive(Debug, Serialize)]
struct JsonRail {
    port: u32,
    rail: u32,
    source: String,
}

/// A path between two devices; without a way it has a type only.
#[derive(Debug, Serialize)]
struct JsonPath {
    from: u32,
    to: u32,
    #[serde(rename = "type")]
    path: &'static str,
    gb_per_s: Option<f64>,
    latency_ns: Option<f64>,
    source: Option<String>,
}

impl<'g> Report<'g> {
    pub(super) fn of(graph: &'g Graph, from: &'g str) -> Self {
        let node = |(NodeId(id), node): (NodeId, &'g Node)| JsonNode {
            id,
            parent: graph.parent(NodeId(id)).map(|parent| parent.0),
            kind: node.kind.to_string(),
            name: &node.name,
            attributes: &node.attributes,
        };
        let link = |link: &Link| JsonLink {
            ends: link.ends.map(|end| end.0),
            kind: link.kind.to_string(),
            gb_per_s: link.gb_per_s,
            latency_ns: link.latency_ns,
            source: link.source.to_string(),
        };
        let rails = graph.roots().flat_map(|root| graph.rails(root)).map(|rail| JsonRail {
            port: rail.port.0,
            rail: rail.number,
            source: rail.source.to_string(),
        });
        let matrix = Matrix::of(graph);
        let paths = matrix.paths().map(|(from, to, route)| JsonPath {
            from: from.0,
            to: to.0,
            path: route.as_ref().map_or("DIS", |route| route.path.name()),
            gb_per_s: route.as_ref().map(|route| route.gb_per_s),
            latency_ns: route.as_ref().map(|route| route.latency_ns),
            source: route.as_ref().map(|route| route.source.to_string()),
        });
        Self {
            dure_version: env!("CARGO_PKG_VERSION"),
            from,
            paths: paths.collect(),
            rails: rails.collect(),
            nodes: graph.nodes().map(node).collect(),
            links: graph.links().map(|(_, one)| link(one)).collect(),
        }
    }
}
