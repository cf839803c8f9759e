//! XML of hwloc: what is read, and that nothing of it is lost.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod shared;

use dure_topology::{Error, Format, Graph, Kind, LinkKind, Node, NodeId, Source};

fn of_kind(graph: &Graph, kind: Kind) -> Vec<(NodeId, &Node)> {
    graph.nodes().filter(|(_, node)| node.kind == kind).collect()
}

#[test]
fn files_are_read_whole_and_written_as_own_xml() {
    let mut files = 0;
    for (name, text) in shared::files("hwloc") {
        let (graph, format) = Graph::read(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(format, Format::Hwloc);
        let written = graph.to_xml();
        assert_eq!(Graph::read(&written).unwrap(), (graph.clone(), Format::Dure), "{name}");
        // Each attribute's value is with some node, under its name or the name of the info.
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(&text, options).unwrap();
        for element in document.descendants().filter(roxmltree::Node::is_element) {
            let pairs: Vec<_> = match element.tag_name().name() {
                "topology" => continue,
                "info" => {
                    vec![(element.attribute("name").unwrap(), element.attribute("value").unwrap())]
                }
                "support" => vec![("support", element.attribute("name").unwrap())],
                _ => element
                    .attributes()
                    .map(|attribute| (attribute.name(), attribute.value()))
                    .collect(),
            };
            let has = |node: &Node, (name, value): &(&str, &str)| {
                let os = format!("os.{name}");
                node.attributes
                    .iter()
                    .any(|(known, said)| (known == name || *known == os) && said == value)
            };
            let found = graph.nodes().any(|(_, node)| pairs.iter().all(|pair| has(node, pair)));
            assert!(found, "{name}: {element:?} is lost");
        }
        files += 1;
    }
    assert!(files == 2 || !shared::is_there());
}

#[test]
fn sixteen_gpus_and_their_switches() {
    let Some(text) = shared::file("hwloc/nvidiaDGX2.xml") else { return };
    let graph = Graph::read(&text).unwrap().0;
    assert_eq!(of_kind(&graph, Kind::Accelerator).len(), 16);
    assert_eq!(of_kind(&graph, Kind::AcceleratorSwitch).len(), 12);
    assert_eq!(of_kind(&graph, Kind::HostBridge).len(), 4);
    for (gpu, node) in of_kind(&graph, Kind::Accelerator) {
        let links: Vec<_> =
            graph.links_of(gpu).filter(|(link, _)| link.kind == LinkKind::Accelerator).collect();
        assert_eq!(links.len(), 6, "{node:?}");
        assert!(
            links.iter().all(|(link, _)| link.gb_per_s == 25.0 && link.source == Source::Declared)
        );
        assert!(node.attribute("os.name").unwrap().starts_with("nvml"));
        assert!((graph.link_up(gpu).unwrap().gb_per_s - 15.754).abs() < 0.001);
    }
    let trunks = graph
        .links()
        .filter(|(_, link)| link.kind == LinkKind::Accelerator && link.source == Source::Default);
    assert_eq!(trunks.count(), 6);
    let sockets: Vec<_> = graph.links().filter(|(_, link)| link.kind == LinkKind::Socket).collect();
    assert_eq!(sockets.len(), 1);
    assert!((sockets[0].1.latency_ns - 110.0).abs() < 1e-9);
    let bridge = of_kind(&graph, Kind::HostBridge)[0].0;
    let (link, numa) = graph.links_of(bridge).find(|(link, _)| link.ends[1] == bridge).unwrap();
    assert_eq!((link.kind, graph.node(numa).kind), (LinkKind::Inside, Kind::Numa));
}

#[test]
fn cxl_memory_and_dax() {
    let Some(text) = shared::file("hwloc/cxlmem+dax.v2.xml") else { return };
    let graph = Graph::read(&text).unwrap().0;
    let memories = of_kind(&graph, Kind::CxlMemory);
    assert_eq!(memories.len(), 4);
    let names: Vec<_> =
        memories.iter().map(|(_, node)| node.attribute("os.name").unwrap()).collect();
    assert_eq!(names, ["mem2", "mem0", "mem3", "mem1"]);
    assert_eq!(memories[0].1.attribute("os.CXLRAMSize"), Some("262144KiB"));
    assert_eq!(graph.link_up(memories[0].0).unwrap().kind, LinkKind::Cxl);
    let dax = of_kind(&graph, Kind::Dax);
    assert_eq!((dax.len(), dax[0].1.attribute("Size")), (1, Some("1048576KiB")));
    // The console is no accelerator, and the disk no port.
    assert!(of_kind(&graph, Kind::Accelerator).is_empty());
    assert_eq!(of_kind(&graph, Kind::Port).len(), 1);
    assert_eq!(of_kind(&graph, Kind::Host)[0].1.name, "efi");
}

#[test]
fn wrong_files_are_refused() {
    let wrong = [
        ("<topology/>", "line 1: <topology> has no attribute version"),
        (
            "<topology version=\"1.0\"/>",
            "line 1: <topology> is of version \"1.0\"; known: 2.x, 3.x",
        ),
        ("<topology version=\"2.0\"/>", "line 1: <topology> holds no <object>"),
        (
            "<topology version=\"2.0\">\n<object/></topology>",
            "line 2: <object> has no attribute type",
        ),
        (
            "<topology version=\"2.0\"><object type=\"PCIDev\" pci_busid=\"a\" pci_type=\"gpu\"/></topology>",
            "line 1: pci_type=\"gpu\" of <object>",
        ),
        (
            "<topology version=\"2.0\"><object type=\"Machine\"/><distances2><indexes>1 2</indexes></distances2></topology>",
            "line 1: u64values=\"0 values for 2 objects\" of <distances2>; expected a value for each pair",
        ),
    ];
    for (text, message) in wrong {
        let error = Graph::read(text).expect_err(text);
        assert!(error.to_string().starts_with(message), "{text}: {error}");
        assert!(!matches!(error, Error::Xml(_)));
    }
}
