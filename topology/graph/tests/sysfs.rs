//! Discovery of recorded hosts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod sample;

use std::fs;

use dure_topology::{Error, Format, Graph, Kind, Link, LinkKind, Node, NodeId, PathType, Source};

fn discover(name: &str) -> Graph {
    let folder = sample::unpack(name);
    let graph = Graph::discover(folder.path()).unwrap();
    assert_eq!(Graph::read(&graph.to_xml()).unwrap(), (graph.clone(), Format::Dure));
    graph
}

fn find<'g>(graph: &'g Graph, name: &str) -> (NodeId, &'g Node) {
    graph
        .nodes()
        .find(|(_, node)| node.name == name)
        .unwrap_or_else(|| panic!("no {name}: {graph:#?}"))
}

fn names(graph: &Graph, kind: Kind) -> Vec<&str> {
    graph.nodes().filter(|(_, node)| node.kind == kind).map(|(_, node)| &*node.name).collect()
}

fn said<'g>(graph: &'g Graph, name: &str, attribute: &str) -> Option<&'g str> {
    find(graph, name).1.attribute(attribute)
}

fn up<'g>(graph: &'g Graph, name: &str) -> &'g Link {
    graph.link_up(find(graph, name).0).unwrap()
}

fn path(graph: &Graph, from: &str, to: &str) -> PathType {
    graph.path(find(graph, from).0, find(graph, to).0).unwrap().path
}

#[test]
fn the_processors_of_a_host() {
    let graph = discover("npu-host");
    assert_eq!(names(&graph, Kind::Host), ["npu1"]);
    assert_eq!(said(&graph, "npu1", "virtual"), Some("no"));
    assert_eq!(said(&graph, "npu1", "memory"), Some("549755813888"));
    assert_eq!(said(&graph, "npu1", "shm"), Some("274877906944"));
    assert_eq!(said(&graph, "npu1", "cgroup_memory"), None);
    assert_eq!(names(&graph, Kind::Package), ["package 0", "package 1"]);
    assert_eq!(
        (said(&graph, "package 1", "cores"), said(&graph, "package 1", "threads")),
        (Some("2"), Some("4"))
    );
    assert_eq!(names(&graph, Kind::Numa), ["numa 0", "numa 1", "numa 2"]);
    let (numa, _) = find(&graph, "numa 1");
    assert_eq!(graph.node(graph.parent(numa).unwrap()).name, "package 1");
    // Memory alone is in no package.
    assert_eq!(graph.node(graph.parent(find(&graph, "numa 2").0).unwrap()).kind, Kind::Host);
    assert_eq!(said(&graph, "numa 1", "distance"), Some("21 10 24"));
    let sockets: Vec<_> = graph.links().filter(|(_, link)| link.kind == LinkKind::Socket).collect();
    let figures: Vec<_> =
        sockets.iter().map(|(_, link)| (link.gb_per_s, link.latency_ns, link.source)).collect();
    assert_eq!(
        figures,
        [
            (22.0, 110.0, Source::Default),
            (22.0, 40.0, Source::Default),
            (22.0, 140.0, Source::Default)
        ]
    );
    let caches: Vec<_> =
        graph.children(numa).filter(|id| graph.node(*id).kind == Kind::Cache).collect();
    let caches: Vec<_> = caches.into_iter().map(|id| graph.node(id)).collect();
    let about = |node: &Node| {
        let text = |name| node.attribute(name).unwrap_or_default().to_owned();
        format!("{} {} {}{}", node.name, text("size"), text("count"), text("cpulist"))
    };
    let caches: Vec<_> = caches.into_iter().map(about).collect();
    assert_eq!(caches, ["L3 110100480 2-3,6-7", "L2 2097152 2", "L1i 32768 2", "L1d 49152 2"]);
}

#[test]
fn the_devices_of_a_host() {
    let graph = discover("npu-host");
    assert_eq!(
        names(&graph, Kind::HostBridge),
        ["pci0000:15", "pci0000:37", "pci0000:97", "pci0000:b7"]
    );
    let npus = names(&graph, Kind::Accelerator);
    assert_eq!(npus, ["0000:18:00.0", "0000:19:00.0", "0000:9a:00.0", "0000:9b:00.0"]);
    assert_eq!(said(&graph, npus[2], "device_name"), Some("rbln2"));
    assert_eq!(said(&graph, npus[2], "model"), Some("RBLN-CR03"));
    // One is idle and runs its link slowly: what it can do counts, and both are kept.
    assert_eq!(said(&graph, npus[1], "current_link_speed"), Some("2.5 GT/s PCIe"));
    let link = up(&graph, npus[1]);
    assert_eq!((link.kind, link.source), (LinkKind::Pcie, Source::Declared));
    assert!((link.gb_per_s - 63.015).abs() < 0.001);
    // Ports of one switch are joined inside of it.
    assert_eq!(up(&graph, "0000:17:01.0").kind, LinkKind::Inside);
    assert_eq!(up(&graph, "0000:16:00.0").kind, LinkKind::Pcie);
    assert_eq!(up(&graph, "0000:15:01.0").kind, LinkKind::Inside);
    assert_eq!(path(&graph, npus[0], npus[1]), PathType::Pix);
    assert_eq!(path(&graph, npus[0], npus[2]), PathType::Sys);
    assert_eq!(path(&graph, npus[0], "mlx5_0"), PathType::Pix);
    assert_eq!(path(&graph, npus[0], "numa 0"), PathType::Phb);
    // The console's bridge is not there, as nothing of use is below it.
    assert!(!graph.nodes().any(|(_, node)| node.name.contains("1c.0")));
}

#[test]
fn the_ports_of_a_host() {
    let graph = discover("npu-host");
    assert_eq!(names(&graph, Kind::Nic), ["0000:1a:00.0", "0000:9c:00.0"]);
    assert_eq!(names(&graph, Kind::Port), ["mlx5_0", "mlx5_1"]);
    assert_eq!(said(&graph, "mlx5_0", "port_guid"), Some("0xa088c20300aa0000"));
    assert_eq!(said(&graph, "mlx5_1", "port_guid"), None);
    assert_eq!(said(&graph, "mlx5_1", "node_guid"), Some("0xa088c20300aa0001"));
    assert_eq!(said(&graph, "mlx5_0", "interface"), Some("ib0"));
    assert_eq!(said(&graph, "mlx5_1", "interface"), Some("eth0"));
    assert_eq!(
        (up(&graph, "mlx5_0").gb_per_s, up(&graph, "mlx5_0").source),
        (50.0, Source::Declared)
    );
    // The second adapter's link is of half its width.
    assert!((up(&graph, "0000:9c:00.0").gb_per_s - 31.508).abs() < 0.001);
    assert_eq!(said(&graph, "0000:9c:00.0", "max_link_width"), Some("16"));
    let rails = graph.rails(find(&graph, "npu1").0);
    let rails: Vec<_> =
        rails.iter().map(|rail| (&*graph.node(rail.port).name, rail.number, rail.source)).collect();
    assert_eq!(rails, [("mlx5_0", 0, Source::Default), ("mlx5_1", 1, Source::Default)]);
    let near = graph.nearest(find(&graph, "0000:9b:00.0").0, |node| node.kind == Kind::Port);
    assert_eq!(near.map(|id| &*graph.node(id).name).collect::<Vec<_>>(), ["mlx5_1", "mlx5_0"]);
}

/// The fields are those that Rebellions' own programs read; the values are made up.
#[test]
fn what_rbln_stat_says_of_npus() {
    let mut graph = discover("npu-host");
    let json = r#"{"KMD_version": "3.1.0", "devices": [
        {"group_id": "2", "npu": 1, "name": "RBLN-CR03", "sid": "00000000225091240", "uuid": "1a2b", "device": "rbln1",
         "status": "Normal", "pci": {"dev": "2030", "bus_id": "0000:19:00.0", "numa_node": "0", "link_speed": "32.0GT/s", "link_width": "16"}},
        {"group_id": "0", "npu": 2, "name": "RBLN-CR03", "sid": "3", "device": "rbln2", "pci": {"bus_id": "0000:9A:00.0"}},
        {"group_id": "0", "npu": 9, "pci": {"bus_id": "0000:ff:00.0"}}
    ]}"#;
    assert_eq!(graph.describe_rebellions(json).unwrap(), 2);
    assert_eq!(said(&graph, "0000:19:00.0", "rsd_group"), Some("2"));
    assert_eq!(said(&graph, "0000:19:00.0", "serial"), Some("00000000225091240"));
    assert_eq!(said(&graph, "0000:9a:00.0", "rsd_group"), None);
    // As the driver's files have it.
    assert_eq!(said(&graph, "0000:9a:00.0", "driver_version"), Some("2.0.1"));
    assert!(graph.describe_rebellions("rbln-stat: no device").is_err());
}

#[test]
fn the_cxl_memory_of_a_host() {
    let graph = discover("npu-host");
    assert_eq!(names(&graph, Kind::CxlMemory), ["0000:38:00.0", "0000:b8:00.0"]);
    assert_eq!(said(&graph, "0000:38:00.0", "device_name"), Some("mem0"));
    assert_eq!(said(&graph, "0000:38:00.0", "ram"), Some("68719476736"));
    assert_eq!(up(&graph, "0000:38:00.0").kind, LinkKind::Cxl);
    let (region, node) = find(&graph, "region0");
    assert_eq!((node.kind, node.attribute("size")), (Kind::CxlRegion, Some("137438953472")));
    let parts: Vec<_> = graph.links_of(region).map(|(_, other)| graph.node(other).kind).collect();
    assert_eq!(parts, [Kind::CxlMemory, Kind::CxlMemory, Kind::Dax]);
    let (dax, node) = find(&graph, "dax0.0");
    assert_eq!((graph.parent(dax), node.attribute("target_node")), (Some(region), Some("2")));
    let route = graph.path(find(&graph, "numa 0").0, dax).unwrap();
    assert_eq!((route.path, route.links.len()), (PathType::Phb, 5));
    assert!((route.gb_per_s - 31.508).abs() < 0.001);
}

/// A pool's memory behind a switch, memory that the kernel has taken, and memory of no region.
#[test]
fn the_memory_of_a_pool() {
    let graph = discover("pool-host");
    assert_eq!(names(&graph, Kind::CxlMemory), ["0000:37:00.0", "0000:55:00.0"]);
    assert_eq!(said(&graph, "0000:37:00.0", "firmware"), Some("1.2"));
    for (region, dax, driver, bytes) in [
        ("region0", "dax0.0", "device_dax", "137438953472"),
        ("region1", "dax1.0", "kmem", "68719476736"),
    ] {
        let (id, node) = find(&graph, region);
        assert_eq!((node.kind, node.attribute("size")), (Kind::CxlRegion, Some(bytes)));
        assert_eq!(graph.links_of(id).count(), 2, "its memory and its DAX device");
        assert_eq!(graph.parent(find(&graph, dax).0), Some(id));
        assert_eq!(
            (said(&graph, dax, "size"), said(&graph, dax, "driver")),
            (Some(bytes), Some(driver))
        );
    }
    let (aside, node) = find(&graph, "dax2.0");
    assert_eq!(node.attribute("target_node"), Some("4"));
    assert_eq!(graph.node(graph.parent(aside).unwrap()).kind, Kind::Numa);
    // Inside the switch there is no link: what is behind it is one link away from the root port.
    let route = graph.path(find(&graph, "numa 0").0, find(&graph, "dax0.0").0).unwrap();
    assert!((route.gb_per_s - 63.015).abs() < 0.001, "{}", route.gb_per_s);
}

#[test]
fn a_virtual_machine_hides_things() {
    let graph = discover("virtual-machine");
    assert_eq!(
        (said(&graph, "vm", "virtual"), said(&graph, "vm", "hypervisor")),
        (Some("yes"), Some("QEMU"))
    );
    // Nobody gave /dev/shm a size: half of the memory.
    assert_eq!(said(&graph, "vm", "shm"), Some("8589934592"));
    assert_eq!(names(&graph, Kind::Accelerator), ["0000:00:04.0", "0000:00:05.0"]);
    assert_eq!(up(&graph, "0000:00:04.0").source, Source::Default);
    assert_eq!(said(&graph, "0000:00:04.0", "link_speed"), None);
    assert_eq!(said(&graph, "0000:00:04.0", "numa_node"), None);
    // The host bridge may be at either NUMA node, and is joined with both by a guess that says so.
    let (bridge, _) = find(&graph, "pci0000:00");
    assert_eq!(graph.node(graph.parent(bridge).unwrap()).kind, Kind::Host);
    let near: Vec<_> =
        graph.links_of(bridge).filter(|(link, _)| link.kind == LinkKind::Socket).collect();
    assert_eq!(near.len(), 2);
    assert!(near.iter().all(|(link, _)| link.source == Source::Default));
    assert_eq!(path(&graph, "0000:00:04.0", "0000:00:05.0"), PathType::Phb);
    // A port that does not know its speed, and a domain of five digits.
    assert_eq!((up(&graph, "eth0").source, said(&graph, "eth0", "speed")), (Source::Default, None));
    assert_eq!(names(&graph, Kind::Nic), ["0000:00:03.0", "10000:e1:00.0"]);
}

#[test]
fn a_container_has_limits() {
    let graph = discover("container");
    // Of all groups around the process the tightest counts.
    assert_eq!(said(&graph, "3f9a", "cgroup_cpus"), Some("1.5"));
    assert_eq!(said(&graph, "3f9a", "cgroup_memory"), Some("1073741824"));
    assert_eq!(said(&graph, "3f9a", "cpus_allowed"), Some("2-3"));
    assert_eq!(said(&graph, "3f9a", "shm"), Some("67108864"));
    // The interface that leads out, and not that of a bridge.
    assert_eq!(names(&graph, Kind::Port), ["eth0"]);
    let port = graph.nodes().find(|(_, node)| node.kind == Kind::Port).unwrap().0;
    assert_eq!(graph.link_up(port).unwrap().gb_per_s, 1.25);
}

#[test]
fn accelerators_by_their_drivers() {
    let graph = discover("container");
    let all = names(&graph, Kind::Accelerator);
    assert_eq!(
        all,
        [
            "0000:41:00.0",
            "0000:42:00.0",
            "0000:61:00.0",
            "0000:81:00.0",
            "0000:82:00.0",
            "0000:83:00.0"
        ]
    );
    assert_eq!(
        (said(&graph, all[1], "device_name"), said(&graph, all[1], "model")),
        (Some("npu1"), Some("RNGD"))
    );
    assert_eq!(said(&graph, all[2], "driver"), Some("xclmgmt"));
    assert_eq!(said(&graph, all[3], "gpu.gcn"), Some("gfx942"));
    let xgmi: Vec<_> = graph
        .links()
        .filter(|(_, link)| link.kind == LinkKind::Accelerator)
        .map(|(_, link)| (link.ends.map(|end| &*graph.node(end).name), link.gb_per_s, link.source))
        .collect();
    let expected = [
        ([all[3], all[4]], 48.0, Source::Default),
        ([all[3], all[5]], 64.0, Source::Declared),
        ([all[4], all[5]], 64.0, Source::Declared),
    ];
    assert_eq!(xgmi, expected);
    assert_eq!(path(&graph, all[3], all[4]), PathType::Nvl);
}

#[test]
fn nccl_finds_its_elements() {
    let text = discover("npu-host").to_xml();
    let document = roxmltree::Document::parse(&text).unwrap();
    let count = |name| {
        let own =
            |node: &roxmltree::Node<'_, '_>| node.ancestors().any(|node| node.has_tag_name("dure"));
        document.descendants().filter(|node| node.has_tag_name(name) && !own(node)).count()
    };
    // A switch is one element, as in NCCL, and its ports and the root ports are none.
    assert_eq!((count("cpu"), count("pci"), count("net")), (3, 8, 2));
    for element in document.descendants().filter(roxmltree::Node::is_element) {
        assert!(element.attributes().len() <= 16, "{element:?}");
    }
}

#[test]
fn any_folder_is_a_host_or_an_error() {
    let folder = tempfile::TempDir::new().unwrap();
    assert!(matches!(Graph::discover(folder.path()), Err(Error::System { .. })));
    assert!(matches!(Graph::discover(&folder.path().join("none")), Err(Error::System { .. })));
    fs::create_dir(folder.path().join("sys")).unwrap();
    let graph = Graph::discover(folder.path()).unwrap();
    assert_eq!((graph.nodes().count(), graph.links().count()), (1, 0));
    // Each file of a host may hold anything, or not be there.
    let host = sample::unpack("npu-host");
    let mut files = vec![host.path().to_owned()];
    let mut at = 0;
    while let Some(path) = files.get(at).cloned() {
        if path.is_dir() && !path.is_symlink() {
            files.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    for (number, file) in files.iter().enumerate().filter(|(_, file)| file.is_file()) {
        let junk: &[u8] =
            [&b"\xff\xfe-1"[..], b"", b"99999999999999999999", b"0-4294967295,: / -", b"0x"]
                [number % 5];
        fs::write(file, junk).unwrap();
        if number % 40 == 0 {
            let graph = Graph::discover(host.path()).unwrap();
            assert_eq!(Graph::read(&graph.to_xml()).unwrap().0, graph);
        }
    }
    let graph = Graph::discover(host.path()).unwrap();
    assert_eq!(Graph::read(&graph.to_xml()).unwrap().0, graph);
}

#[test]
fn this_machine() {
    let graph = Graph::discover(std::path::Path::new("/")).unwrap();
    assert_eq!(names(&graph, Kind::Host).len(), 1);
    assert_eq!(Graph::read(&graph.to_xml()).unwrap().0, graph);
}
