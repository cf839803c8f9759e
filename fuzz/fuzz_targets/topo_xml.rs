//! Descriptions of topologies: any text is a graph or an error, and a graph that is written as XML is read as the same.
#![no_main]

use dure_topology::Graph;
use libfuzzer_sys::fuzz_target;

/// Larger graphs are read, but no routes are looked for: there are as many as the square of the nodes.
const MOST: usize = 64;

fuzz_target!(|text: &str| {
    let Ok((graph, _)) = Graph::read(text) else { return };
    let (again, _) = Graph::read(&graph.to_xml()).expect("what is written can be read");
    assert_eq!(again, graph);
    if graph.nodes().count() > MOST {
        return;
    }
    for (from, _) in graph.nodes() {
        let routes = graph.routes(from);
        for route in graph.nodes().filter_map(|(to, _)| routes.to(to)) {
            assert_eq!(route.nodes.len(), route.links.len() + 1);
        }
    }
});
