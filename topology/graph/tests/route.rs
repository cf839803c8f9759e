//! Types and widths of paths.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod shared;

use dure_topology::{Graph, Kind, Link, LinkKind, Node, NodeId, PathType, Route, Source};

fn read(text: &str) -> Graph {
    Graph::read(text).unwrap().0
}

fn find(graph: &Graph, name: &str) -> NodeId {
    graph.nodes().find(|(_, node)| node.name == name).unwrap_or_else(|| panic!("no {name}")).0
}

fn path(graph: &Graph, from: &str, to: &str) -> Route {
    let route = graph.path(find(graph, from), find(graph, to)).unwrap();
    assert_eq!(route.nodes.len(), route.links.len() + 1);
    for (ends, link) in route.nodes.windows(2).zip(&route.links) {
        let mut joined = graph.link(*link).ends;
        joined.sort();
        let mut ends = [ends[0], ends[1]];
        ends.sort();
        assert_eq!(joined, ends);
    }
    route
}

fn accelerators(graph: &Graph) -> Vec<NodeId> {
    graph.nodes().filter(|(_, node)| node.kind == Kind::Accelerator).map(|(id, _)| id).collect()
}

/// Two switches below one processor, one below another: four accelerators, of which the first three have links.
const TWO_SOCKETS: &str = r#"<system version="1">
  <cpu numaid="0" arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="143">
    <pci busid="0000:01:00.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="16">
      <pci busid="0000:02:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="16">
        <gpu dev="0" sm="90"><nvlink target="0000:05:00.0" count="6" tclass="0x030200"/></gpu>
      </pci>
      <pci busid="0000:03:00.0" class="0x020700" link_speed="16.0 GT/s PCIe" link_width="16">
        <nic><net name="mlx5_0" speed="200000"/></nic>
      </pci>
      <pci busid="0000:04:00.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="8">
        <pci busid="0000:05:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="16">
          <gpu dev="1" sm="90">
            <nvlink target="0000:02:00.0" count="6" tclass="0x030200"/>
            <nvlink target="0000:07:00.0" count="4" tclass="0x030200"/>
          </gpu>
        </pci>
      </pci>
    </pci>
  </cpu>
  <cpu numaid="1" arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="143">
    <pci busid="0000:07:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="16">
      <gpu dev="2" sm="90"><nvlink target="0000:05:00.0" count="4" tclass="0x030200"/></gpu>
    </pci>
    <pci busid="0000:08:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="16">
      <gpu dev="3" sm="90"><c2c count="1" bw="400000"/></gpu>
    </pci>
    <pci busid="0000:09:00.0" class="0x020700"><nic><net name="mlx5_1" speed="400000"/></nic></pci>
  </cpu>
</system>"#;

#[test]
fn each_type_of_path_inside_a_host() {
    let graph = read(TWO_SOCKETS);
    let expect = |from, to, path_type, gb_per_s: f64| {
        let route = path(&graph, from, to);
        assert_eq!(route.path, path_type, "{from} {to}");
        assert!((route.gb_per_s - gb_per_s).abs() < 0.01, "{from} {to}: {}", route.gb_per_s);
    };
    expect("0000:02:00.0", "0000:02:00.0", PathType::Loc, 5000.0);
    expect("0000:02:00.0", "0000:05:00.0", PathType::Nvl, 6.0 * 20.6);
    expect("0000:02:00.0", "0000:07:00.0", PathType::Nvb, 4.0 * 20.6);
    expect("0000:02:00.0", "0000:03:00.0", PathType::Pix, 31.51);
    expect("0000:02:00.0", "mlx5_0", PathType::Pix, 25.0);
    expect("0000:05:00.0", "0000:03:00.0", PathType::Pxb, 31.51);
    expect("0000:02:00.0", "numa 0", PathType::Phb, 63.02);
    expect("0000:02:00.0", "numa 1", PathType::Sys, 22.0);
    expect("0000:02:00.0", "0000:08:00.0", PathType::Sys, 22.0);
    expect("0000:08:00.0", "numa 1", PathType::C2c, 400.0);
    expect("0000:08:00.0", "0000:09:00.0", PathType::P2c, 15.75);
    expect("numa 0", "numa 1", PathType::Sys, 22.0);
    // Two links away from the adapter's own accelerator there is no relay.
    expect("0000:07:00.0", "mlx5_0", PathType::Sys, 22.0);
    assert_eq!(path(&graph, "numa 0", "numa 1").source, Source::Default);
    assert_eq!(path(&graph, "0000:02:00.0", "mlx5_0").source, Source::Declared);
}

#[test]
fn an_accelerator_near_the_adapter_relays() {
    let graph = read(&TWO_SOCKETS.replace(
        "<gpu dev=\"2\" sm=\"90\">",
        "<gpu dev=\"2\" sm=\"90\"><nvlink target=\"0000:02:00.0\" count=\"2\" tclass=\"0x030200\"/>",
    ));
    let route = path(&graph, "0000:07:00.0", "mlx5_0");
    assert_eq!((route.path, route.gb_per_s), (PathType::Pxn, 25.0));
    let names: Vec<_> = route.nodes.iter().map(|id| &*graph.node(*id).name).collect();
    assert_eq!(names, ["0000:07:00.0", "0000:02:00.0", "0000:01:00.0", "0000:03:00.0", "mlx5_0"]);
    // Never on the way back.
    assert_eq!(path(&graph, "mlx5_0", "0000:07:00.0").path, PathType::Sys);
}

#[test]
fn what_is_near_comes_first() {
    let graph = read(TWO_SOCKETS);
    let near: Vec<_> = graph
        .nearest(find(&graph, "0000:05:00.0"), |node| node.kind == Kind::Port)
        .map(|id| &*graph.node(id).name)
        .collect();
    assert_eq!(near, ["mlx5_0", "mlx5_1"]);
    let near: Vec<_> = graph
        .nearest(find(&graph, "mlx5_1"), |node| node.kind == Kind::Accelerator)
        .map(|id| &*graph.node(id).name)
        .collect();
    assert_eq!(near, ["0000:08:00.0", "0000:07:00.0", "0000:02:00.0", "0000:05:00.0"]);
}

#[test]
fn all_links_to_the_switches_count_together() {
    let Some(text) = shared::file("nccl/oci-H100-topology-kubernetes.xml") else { return };
    let graph = read(&text);
    let gpus = accelerators(&graph);
    for a in &gpus {
        for b in gpus.iter().filter(|b| *b != a) {
            let route = graph.path(*a, *b).unwrap();
            assert_eq!(route.path, PathType::Nvl);
            assert!((route.gb_per_s - 18.0 * 20.6).abs() < 1e-9);
        }
    }
    let route = path(&graph, "0000:0f:00.0", "mlx5_18");
    // One switch at the top and one above each device: NCCL counts three.
    assert_eq!((route.path, route.gb_per_s), (PathType::Pxb, 25.0));
    assert_eq!(path(&graph, "0000:0f:00.0", "mlx5_27").path, PathType::Pxn);
}

#[test]
fn sixteen_accelerators_over_two_boards() {
    let Some(text) = shared::file("hwloc/nvidiaDGX2.xml") else { return };
    let graph = read(&text);
    let gpus = accelerators(&graph);
    let route = graph.path(gpus[0], gpus[15]).unwrap();
    assert_eq!((route.path, route.gb_per_s, route.links.len()), (PathType::Nvl, 150.0, 3));
    let bridges: Vec<_> = gpus.iter().filter_map(|gpu| graph.parent(*gpu)).collect();
    let types = |a: usize, b: usize| graph.path(bridges[a], bridges[b]).unwrap().path;
    // The ports that the cards are in: of one switch, of two below a third, below two host bridges, in two packages.
    assert_eq!(types(0, 1), PathType::Loc);
    assert_eq!(types(0, 2), PathType::Pxb);
    assert_eq!(types(0, 4), PathType::Phb);
    assert_eq!(types(0, 15), PathType::Sys);
}

#[test]
fn links_of_an_amd_node() {
    let Some(text) = shared::file("nccl/rccl-topo_8p_940.xml") else { return };
    let graph = read(&text);
    let gpus = accelerators(&graph);
    let route = graph.path(gpus[0], gpus[7]).unwrap();
    assert_eq!((route.path, route.gb_per_s), (PathType::Nvl, 48.0));
    assert_eq!(path(&graph, "0000:0c:00.0", "mlx5_0").path, PathType::Pxb);
}

/// Two hosts with two rails, a switch each, and a third switch above.
fn fabric() -> Graph {
    let mut graph = Graph::new();
    let leaves =
        ["leaf 0", "leaf 1", "spine"].map(|name| graph.add(None, Node::new(Kind::Switch, name)));
    let cable = |ends, gb_per_s| Link {
        ends,
        kind: LinkKind::Cable,
        gb_per_s,
        latency_ns: 300.0,
        source: Source::Declared,
    };
    let inside = |ends| Link { kind: LinkKind::Inside, latency_ns: 10.0, ..cable(ends, 100.0) };
    for name in ["a", "b"] {
        let host = graph.add(None, Node::new(Kind::Host, name));
        let nic = graph.add(Some(host), Node::new(Kind::Nic, format!("{name} nic")));
        graph.join(inside([host, nic]));
        for (rail, leaf) in leaves.iter().enumerate().take(2) {
            let port = graph.add(Some(nic), Node::new(Kind::Port, format!("{name}{rail}")));
            graph.join(inside([nic, port]));
            graph.join(cable([port, *leaf], 50.0));
        }
    }
    graph.join(cable([leaves[0], leaves[2]], 25.0));
    graph.join(cable([leaves[1], leaves[2]], 25.0));
    graph
}

#[test]
fn hosts_do_not_forward_between_their_ports() {
    let graph = fabric();
    let route = path(&graph, "a0", "b0");
    assert_eq!((route.path, route.gb_per_s, route.links.len()), (PathType::Net, 50.0, 2));
    assert!((route.latency_ns - 600.0).abs() < 1e-9);
    // Through the other host it would be as short, and wider.
    let route = path(&graph, "leaf 0", "leaf 1");
    assert_eq!((route.gb_per_s, route.links.len()), (25.0, 2));
    let route = path(&graph, "a0", "b1");
    assert_eq!((route.gb_per_s, route.links.len()), (25.0, 4));
    assert_eq!(path(&graph, "a", "b").gb_per_s, 50.0);
}

#[test]
fn rails_are_stated_or_by_order() {
    let rails = |text: &str| -> Vec<(String, u32, Source)> {
        let graph = read(text);
        let rails = graph.rails(find(&graph, "host"));
        rails
            .iter()
            .map(|rail| (graph.node(rail.port).name.clone(), rail.number, rail.source))
            .collect()
    };
    let text = r#"<system version="1"><cpu numaid="0">
        <pci busid="1" class="0x020000"><nic><net name="a" speed="400000"/></nic></pci>
        <pci busid="2" class="0x020000"><nic><net name="storage" speed="200000"/></nic></pci>
        <pci busid="3" class="0x020000"><nic><net name="b" speed="400000" port="2"/></nic></pci></cpu></system>"#;
    let by_order = [("a".to_owned(), 0, Source::Default), ("b".to_owned(), 1, Source::Default)];
    assert_eq!(rails(text), by_order);
    let stated = text.replace("port=\"2\"", "rail=\"7\"");
    assert_eq!(rails(&stated), [("b".to_owned(), 7, Source::Declared)]);
    assert_eq!(rails("<system version=\"1\"/>"), []);
}

#[test]
fn what_nothing_joins_has_no_route() {
    let mut graph = Graph::new();
    let a = graph.add(None, Node::new(Kind::Host, "a"));
    let b = graph.add(None, Node::new(Kind::Host, "b"));
    graph.join(Link {
        ends: [a, a],
        kind: LinkKind::Accelerator,
        gb_per_s: 1.0,
        latency_ns: 1.0,
        source: Source::Declared,
    });
    assert_eq!(graph.path(a, b), None);
    assert_eq!(graph.path(a, a).unwrap().path, PathType::Loc);
    assert_eq!(graph.nearest(a, |_| true).count(), 0);
}
