//! XML of NCCL and RCCL: what is read, what is refused, and that what is written is the same graph.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod shared;

use dure_topology::{Error, Format, Graph, Kind, Link, LinkKind, Node, NodeId, Source};
use proptest::prelude::*;

fn read(text: &str) -> Graph {
    Graph::read(text).unwrap_or_else(|error| panic!("{error}: {text}")).0
}

/// Writes a graph and reads it again.
fn again(graph: &Graph) -> Graph {
    read(&graph.to_xml())
}

fn count(graph: &Graph, kind: Kind) -> usize {
    graph.nodes().filter(|(_, node)| node.kind == kind).count()
}

fn find<'g>(graph: &'g Graph, name: &str) -> (NodeId, &'g Node) {
    graph.nodes().find(|(_, node)| node.name == name).unwrap()
}

#[test]
fn files_survive_in_their_own_elements() {
    let mut files = 0;
    for (name, text) in shared::files("nccl") {
        if name == "azure-ncv4-graph.xml" {
            continue;
        }
        let (graph, format) = Graph::read(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(format, Format::Nccl, "{name}");
        let written = graph.to_xml();
        assert!(!written.contains("<dure"), "{name}: {written}");
        assert_eq!(read(&written), graph, "{name}");
        // Every element but what contains everything and what is part of a device is a node.
        let document = roxmltree::Document::parse(&text).unwrap();
        for element in document.descendants().filter(roxmltree::Node::is_element) {
            let attributes = element.attributes().len();
            let found = |(_, node): (_, &Node)| {
                element.attributes().all(|attribute| {
                    ["", "gpu.", "nic."].iter().any(|prefix| {
                        node.attribute(&format!("{prefix}{}", attribute.name()))
                            == Some(attribute.value())
                    })
                })
            };
            assert!(attributes == 0 || graph.nodes().any(found), "{name}: {element:?} is lost");
        }
        files += 1;
    }
    assert!(files == 8 || !shared::is_there());
}

#[test]
fn a_result_is_no_topology() {
    let Some(text) = shared::file("nccl/azure-ncv4-graph.xml") else { return };
    let error = Graph::read(&text).unwrap_err();
    assert!(matches!(error, Error::Result { line: 1 }), "{error}");
    assert!(error.to_string().contains("<graphs> file is a result"), "{error}");
}

#[test]
fn an_nvidia_node() {
    let Some(text) = shared::file("nccl/oci-H100-topology-kubernetes.xml") else { return };
    let graph = read(&text);
    assert_eq!(count(&graph, Kind::Numa), 2);
    assert_eq!(count(&graph, Kind::Accelerator), 8);
    assert_eq!(count(&graph, Kind::AcceleratorSwitch), 4);
    assert_eq!((count(&graph, Kind::Nic), count(&graph, Kind::Port)), (8, 16));
    let (gpu, node) = find(&graph, "0000:0f:00.0");
    assert_eq!(node.attribute("gpu.sm"), Some("90"));
    let links = graph.links_of(gpu).filter(|(link, _)| link.kind == LinkKind::Accelerator);
    let total: f64 = links.map(|(link, _)| link.gb_per_s).sum();
    assert!((total - 18.0 * 20.6).abs() < 1e-9, "{total}");
    let up = graph.link_up(gpu).unwrap();
    assert_eq!((up.kind, up.source), (LinkKind::Pcie, Source::Declared));
    assert!((up.gb_per_s - 63.015).abs() < 0.001);
    let (port, _) = find(&graph, "mlx5_18");
    assert!((graph.link_up(port).unwrap().gb_per_s - 25.0).abs() < 1e-9);
}

#[test]
fn an_amd_node() {
    let Some(text) = shared::file("nccl/rccl-topo_8p_940.xml") else { return };
    let graph = read(&text);
    let xgmi: Vec<_> =
        graph.links().filter(|(_, link)| link.kind == LinkKind::Accelerator).collect();
    // All pairs of 8, each said by both ends, once.
    assert_eq!(xgmi.len(), 28);
    assert!(xgmi.iter().all(|(_, link)| link.gb_per_s == 48.0 && link.source == Source::Declared));
}

#[test]
fn what_is_unknown_is_kept() {
    let text = r#"<system version="2" made="by hand">
  <cpu numaid="0" arch="x86_64"><novelty a="1"><inner>some
text</inner></novelty>
    <pci busid="0000:01:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="8" colour="&lt;red&#10;">
      <gpu dev="0" sm="90" taste="sweet"><c2c count="10" bw="44712"/><nvlink target="0000:09:00.0" count="2" tclass="0x030200"/></gpu>
    </pci>
    <nic><net name="eth0" speed="-0"/></nic>
  </cpu>
  <cpu numaid="1"/>
  <later/>
</system>"#;
    let graph = read(text);
    assert_eq!(find(&graph, "host").1.attribute("made"), Some("by hand"));
    assert_eq!(find(&graph, "inner").1.attribute("#text"), Some("some\ntext"));
    let (gpu, node) = find(&graph, "0000:01:00.0");
    assert_eq!(node.attribute("colour"), Some("<red\n"));
    assert_eq!(node.attribute("gpu.taste"), Some("sweet"));
    let coherent = graph.links_of(gpu).find(|(link, _)| link.kind == LinkKind::Coherent).unwrap();
    assert!((coherent.0.gb_per_s - 447.12).abs() < 1e-9);
    assert_eq!(graph.node(coherent.1).name, "numa 0");
    let written = graph.to_xml();
    assert!(!written.contains("<dure"), "{written}");
    assert_eq!(read(&written), graph);
}

#[test]
fn wrong_files_are_refused_by_element_and_line() {
    let wrong = [
        ("<system/>", "line 1: <system> has no attribute version"),
        ("\n<system version=\"3\"/>", "line 1: <system> is of version \"3\"; known: 1, 2"),
        ("<system version=\"1\">\n<cpu/></system>", "line 2: <cpu> has no attribute numaid"),
        (
            "<system version=\"1\"><cpu numaid=\"0\">\n\n<pci/></cpu></system>",
            "line 3: <pci> has no attribute busid",
        ),
        (
            "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"x\" link_speed=\"fast\"/></cpu></system>",
            "line 1: link_speed=\"fast\" of <pci>; expected a rate such as 16.0 GT/s PCIe, or nothing",
        ),
        (
            "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"x\" link_width=\"-1\"/></cpu></system>",
            "line 1: link_width=\"-1\" of <pci>; expected a whole number of at least 0",
        ),
        (
            "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"x\"><gpu><nvlink target=\"y\"/></gpu></pci></cpu></system>",
            "line 1: <nvlink> has no attribute count",
        ),
        (
            "<plan/>",
            "line 1: <plan> describes no topology; known are <system> of NCCL and <topology> of hwloc",
        ),
        (
            "<system version=\"1\"><dure version=\"2\"/></system>",
            "line 1: <dure> is of version \"2\"; known: 1",
        ),
        (
            "<system version=\"1\"><dure version=\"1\"><thing/></dure></system>",
            "line 1: <thing> in <dure>; known: host, package,",
        ),
        (
            "<system version=\"1\"><dure version=\"1\"><host id=\"0\" name=\"\"/><host id=\"1\" in=\"1\" name=\"\"/></dure></system>",
            "line 1: in=\"1\" of <host>; expected a node that stands before",
        ),
        ("", "neither XML of NCCL, RCCL, hwloc or dure, nor a description of a fabric"),
        ("<system version=\"1\">", "the XML is broken"),
    ];
    for (text, message) in wrong {
        let error = Graph::read(text).expect_err(text).to_string();
        assert!(error.starts_with(message), "{text}: {error}");
    }
    let deep =
        format!("<system version=\"1\">{}{}</system>", "<a>".repeat(200), "</a>".repeat(200));
    assert!(matches!(Graph::read(&deep), Err(Error::Deep { most: 128, .. })));
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let mut graph = Graph::new();
    let host = graph.add(None, Node::new(Kind::Host, "a"));
    let numa = graph.add(Some(host), Node::new(Kind::Numa, "numa 0").with("numaid", "0"));
    graph.add(Some(numa), Node::new(Kind::Cache, "L3"));
    let text = graph.to_xml();
    assert_eq!(Graph::read(&text).unwrap(), (graph, Format::Dure));
    let changed = text.replacen("numaid=\"0\"", "numaid=\"1\"", 1);
    assert_ne!(changed, text);
    assert!(matches!(Graph::read(&changed), Err(Error::Contradiction { line: 3 })));
}

/// Names as sources have them, and anything.
fn words() -> impl Strategy<Value = String> {
    const USUAL: &[&str] = &[
        "version",
        "1",
        "busid",
        "class",
        "gpu.dev",
        "numaid",
        "name",
        "0x030200",
        "0x020000",
        "0000:01:00.0",
        "link_speed",
        "#text",
        "nvlink",
        "target",
        "count",
        "gpu.#text",
    ];
    prop_oneof![prop::sample::select(USUAL).prop_map(str::to_owned), any::<String>()]
}

fn kinds() -> impl Strategy<Value = Kind> {
    use Kind::*;
    prop::sample::select(
        &[
            Host,
            Package,
            Numa,
            Cache,
            HostBridge,
            Bridge,
            Accelerator,
            Nic,
            Port,
            AcceleratorSwitch,
            CxlMemory,
            CxlRegion,
            Dax,
            Pool,
            Switch,
            Other,
        ][..],
    )
}

fn link_kinds() -> impl Strategy<Value = LinkKind> {
    use LinkKind::*;
    prop::sample::select(&[Inside, Pcie, Cxl, Socket, Accelerator, Coherent, Cable][..])
}

prop_compose! {
    fn nodes()(kind in kinds(), name in words(), attributes in prop::collection::vec((words(), words()), 0..4),
               parent: Option<prop::sample::Index>) -> (Node, Option<prop::sample::Index>) {
        (Node { kind, name, attributes }, parent)
    }
}

prop_compose! {
    fn graphs()(nodes in prop::collection::vec(nodes(), 1..20),
                links in prop::collection::vec((any::<[prop::sample::Index; 2]>(), link_kinds(), 0f64.., 0f64..1e9), 0..20))
                -> Graph {
        let mut graph = Graph::new();
        let mut size = 0;
        for (node, parent) in nodes {
            let parent = parent.filter(|_| size > 0).map(|index| NodeId(u32::try_from(index.index(size)).unwrap()));
            graph.add(parent, node);
            size += 1;
        }
        for (ends, kind, gb_per_s, latency_ns) in links {
            let ends = ends.map(|end| NodeId(u32::try_from(end.index(size)).unwrap()));
            graph.join(Link { ends, kind, gb_per_s, latency_ns, source: Source::Measured });
        }
        graph
    }
}

proptest! {
    #[test]
    fn any_graph_is_the_same_again(graph in graphs()) {
        prop_assert_eq!(again(&graph), graph);
    }

    #[test]
    fn any_text_is_a_graph_or_an_error(text: String) {
        let _ = Graph::read(&text);
        let _ = Graph::read(&format!("<system version=\"1\">{text}</system>"));
    }
}

#[test]
fn fabrics_are_the_same_again() {
    let mut files = 0;
    for (name, text) in shared::files("fabric") {
        let (graph, format) = Graph::read(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(matches!(format, Format::Fabric(_)), "{name}");
        assert_eq!(Graph::read(&graph.to_xml()).unwrap(), (graph, Format::Dure), "{name}");
        files += 1;
    }
    assert!(files == 5 || !shared::is_there());
}

#[test]
fn an_empty_graph_is_the_same_again() {
    assert_eq!(again(&Graph::new()), Graph::new());
}
