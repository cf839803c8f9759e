//! Clusters from what hosts and fabrics say of themselves.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use dure_topology::fabric::{self, Reading};
use dure_topology::{
    Cluster, Graph, Kind, Link, LinkKind, Member, MergeError, Node, NodeId, Source,
};

fn join(graph: &mut Graph, ends: [NodeId; 2], kind: LinkKind, gb_per_s: f64) {
    graph.join(Link { ends, kind, gb_per_s, latency_ns: 100.0, source: Source::Declared });
}

/// A host of two NUMA nodes with two accelerators and one adapter each; GUIDs count up from the host's number.
fn host(name: &str, number: u32) -> Graph {
    let mut graph = Graph::new();
    let host = graph.add(None, Node::new(Kind::Host, name));
    let mut numas = Vec::new();
    for numa in 0..2 {
        let node = graph.add(Some(host), Node::new(Kind::Numa, format!("numa {numa}")));
        join(&mut graph, [host, node], LinkKind::Inside, 5_000.0);
        numas.push(node);
        let bridge = graph.add(Some(node), Node::new(Kind::HostBridge, format!("bridge {numa}")));
        join(&mut graph, [node, bridge], LinkKind::Inside, 5_000.0);
        for device in 0..2 {
            let device =
                graph.add(Some(bridge), Node::new(Kind::Accelerator, format!("npu {device}")));
            join(&mut graph, [bridge, device], LinkKind::Pcie, 48.0);
        }
        let nic = graph.add(Some(bridge), Node::new(Kind::Nic, format!("mlx5_{numa}")));
        join(&mut graph, [bridge, nic], LinkKind::Pcie, 48.0);
        let guid = format!("0x{:016x}", 0x100 + 16 * number + numa);
        let port = graph.add(Some(nic), Node::new(Kind::Port, "1").with("port_guid", guid));
        join(&mut graph, [nic, port], LinkKind::Inside, 50.0);
    }
    join(&mut graph, [numas[0], numas[1]], LinkKind::Socket, 22.0);
    graph
}

/// A rank on each accelerator of each host.
fn members(hosts: &[Graph]) -> Vec<Member> {
    let of_host = |(host, graph): (u32, &Graph)| {
        let devices: Vec<NodeId> = graph
            .nodes()
            .filter(|(_, node)| node.kind == Kind::Accelerator)
            .map(|(id, _)| id)
            .collect();
        devices.into_iter().map(move |device| Member { host, device: Some(device) })
    };
    (0..).zip(hosts).flat_map(of_host).collect()
}

/// Hosts with a port on each of two leaves, by GUIDs as [`host`] has them; hosts of number 4 and more on a second pair.
fn dump(hosts: u32) -> Reading {
    let mut text = String::new();
    let guid = |host: u32, leaf: u32| format!("{:016x}", 0x100 + 16 * host + leaf);
    for leaf in 0..4 {
        let id = format!("{:016x}", 1 + leaf);
        text += &format!(
            "switchguid=0x{id}({id})\nSwitch\t64 \"S-{id}\"\t# \"MF0;leaf{leaf}:X/U1\" lid 1\n"
        );
        for host in (0..hosts).filter(|host| host / 4 == leaf / 2) {
            let card = guid(host, leaf % 2);
            text += &format!(
                "[{}]\t\"H-{card}\"[1]({card})\t# \"x{host} mlx5_{}\" lid 1 4xNDR\n",
                host + 1,
                leaf % 2
            );
        }
        text += &format!("[60]\t\"S-{:016x}\"[{leaf}]\t# \"MF0;spine:X/U1\" lid 1 4xNDR\n", 9);
    }
    text += &format!(
        "switchguid=0x{0:016x}({0:016x})\nSwitch\t64 \"S-{0:016x}\"\t# \"MF0;spine:X/U1\" lid 1\n",
        9
    );
    for leaf in 0..4 {
        text += &format!(
            "[{leaf}]\t\"S-{:016x}\"[60]\t# \"MF0;leaf{leaf}:X/U1\" lid 1 4xNDR\n",
            1 + leaf
        );
    }
    for host in 0..hosts {
        for rail in 0..2 {
            let (card, leaf) = (guid(host, rail), host / 4 * 2 + rail);
            text += &format!("caguid=0x{card}\nCa\t1 \"H-{card}\"\t# \"x{host} mlx5_{rail}\"\n");
            text += &format!(
                "[1]({card})\t\"S-{:016x}\"[{}]\t# lid 1 lmc 0 \"leaf\" lid 1 4xNDR\n",
                1 + leaf,
                host + 1
            );
        }
    }
    let reading = fabric::read(&text).unwrap();
    assert_eq!(reading.warnings, []);
    reading
}

#[test]
fn hosts_without_a_fabric() {
    let hosts = [host("a", 0), host("b", 1)];
    let (cluster, warnings) = Cluster::of(&hosts, &members(&hosts), None).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(cluster.to_string(), "8 ranks on 2 hosts of 4 npu + 2 nic; one ideal switch");
    assert_eq!(*cluster.names, ["a".to_owned(), "b".to_owned()]);
    let kind = &cluster.kinds[0];
    let path = |a, b| (kind.reach(a, b).path, kind.reach(a, b).gb_per_s);
    assert_eq!([path(0, 0).0, path(0, 1).0, path(0, 2).0], ["LOC", "PHB", "SYS"]);
    assert_eq!((path(0, 1).1, path(0, 2).1), (48.0, 22.0));
    let ports: Vec<Option<u32>> = cluster.ranks.iter().map(|site| site.port).collect();
    assert_eq!(ports, [0, 0, 1, 1, 2, 2, 3, 3].map(Some));
}

#[test]
fn adapters_are_found_by_their_guids() {
    let reading = dump(8);
    // The hosts call themselves otherwise than the fabric does, and come in another order.
    let hosts: Vec<Graph> =
        [6, 1, 7, 0].iter().map(|number| host(&format!("h{number}"), *number)).collect();
    let (cluster, warnings) = Cluster::of(&hosts, &members(&hosts), Some(&reading.graph)).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(cluster.to_string(), "16 ranks on 4 hosts of 4 npu + 2 nic; 4 leaf (2:1), 1 spine");
    let leaf = |rank: usize| {
        let port = &cluster.ports[cluster.ranks[rank].port.unwrap() as usize];
        (&*cluster.levels[0].groups[port.group as usize].name, port.rail)
    };
    assert_eq!(
        [leaf(0), leaf(2), leaf(4), leaf(6)],
        [("leaf2", 0), ("leaf3", 1), ("leaf0", 0), ("leaf1", 1)]
    );
    // The second and the fourth host are on the first pair of leaves.
    assert_eq!(cluster.order()[..9], [4, 5, 6, 7, 12, 13, 14, 15, 0]);
}

#[test]
fn adapters_are_found_by_the_names_of_hosts() {
    let reading = fabric::read(
        "switch leaf[1-2] up top 4x400\nhost a,b on leaf1 2x400\nhost c on leaf2 2x400\n",
    )
    .unwrap();
    let hosts = [host("c.example.com", 0), host("A", 1)];
    let (cluster, warnings) = Cluster::of(&hosts, &members(&hosts), Some(&reading.graph)).unwrap();
    assert_eq!(warnings, []);
    let groups: Vec<u32> = cluster.ports.iter().map(|port| port.group).collect();
    assert_eq!(groups, [1, 1, 0, 0]);
}

#[test]
fn what_the_fabric_does_not_know() {
    let reading = dump(4);
    let mut hosts = vec![host("a", 0), host("b", 77)];
    // A third adapter of the first host is in no fabric.
    let nic = hosts[0].add(Some(NodeId(0)), Node::new(Kind::Nic, "mlx5_9"));
    let port =
        hosts[0].add(Some(nic), Node::new(Kind::Port, "1").with("port_guid", "0x00000000deadbeef"));
    join(&mut hosts[0], [NodeId(0), nic], LinkKind::Pcie, 48.0);
    join(&mut hosts[0], [nic, port], LinkKind::Inside, 50.0);
    let (cluster, warnings) = Cluster::of(&hosts, &members(&hosts), Some(&reading.graph)).unwrap();
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings[0].starts_with("1 of the hosts are not in the fabric, b first"),
        "{warnings:?}"
    );
    assert_eq!(warnings[1], "1 of 3 ports of a are not in the fabric: they are not used");
    // The stranger is joined at the top only.
    let port = |rank: usize| cluster.ranks[rank].port.unwrap();
    assert_eq!(cluster.common_level(port(4), port(6)), 0);
    assert_eq!(cluster.common_level(port(0), port(4)), cluster.levels.len() - 1);
    assert_eq!(cluster.kinds.len(), 2);
}

#[test]
fn ranks_on_processors_share_ports() {
    let hosts = [host("a", 0), host("b", 1)];
    let members: Vec<Member> = (0..8).map(|rank| Member { host: rank / 4, device: None }).collect();
    let (cluster, _) = Cluster::of(&hosts, &members, None).unwrap();
    assert_eq!(cluster.to_string(), "8 ranks on 2 hosts of 4 cpu + 2 nic; one ideal switch");
    let ports: Vec<Option<u32>> = cluster.ranks.iter().map(|site| site.port).collect();
    assert_eq!(ports, [0, 0, 1, 1, 2, 2, 3, 3].map(Some));
    assert_eq!(cluster.kinds[0].reach(0, 1).path, "SHM");
}

#[test]
fn a_thousand_hosts_share_a_kind() {
    let hosts: Vec<Graph> = (0..1_000).map(|number| host(&format!("h{number}"), number)).collect();
    let (cluster, _) = Cluster::of(&hosts, &members(&hosts), None).unwrap();
    assert_eq!((cluster.kinds.len(), cluster.size()), (1, 4_000));
}

#[test]
fn pools_that_only_some_hosts_reach() {
    let reading = fabric::read("host a,b,c on s\npool p1 of a,b 30\npool p2 of b,c\n").unwrap();
    let (cluster, _) = Cluster::of_fabric(&reading.graph).unwrap();
    let pools: Vec<_> = cluster
        .pools
        .iter()
        .map(|pool| (&*pool.name, pool.hosts.to_vec(), pool.gb_per_s))
        .collect();
    assert_eq!(pools, [("p1", vec![0, 1], 30.0), ("p2", vec![1, 2], 22.5)]);
    // Hosts say themselves which pools they reach.
    let mut hosts = [host("a", 0), host("b", 1), host("c", 2)];
    for (host, names) in hosts.iter_mut().zip([&["p1"][..], &["p1", "p2"], &["p2"]]) {
        for name in names {
            let pool = host.add(None, Node::new(Kind::Pool, *name).with("size", "64"));
            join(host, [NodeId(0), pool], LinkKind::Cxl, 20.0);
        }
    }
    let (cluster, _) = Cluster::of(&hosts, &members(&hosts), None).unwrap();
    let pools: Vec<_> =
        cluster.pools.iter().map(|pool| (&*pool.name, pool.hosts.to_vec(), pool.bytes)).collect();
    assert_eq!(pools, [("p1", vec![0, 1], 64), ("p2", vec![1, 2], 64)]);
}

#[test]
fn what_makes_no_cluster() {
    let hosts = [host("a", 0)];
    let of = |members: &[Member]| Cluster::of(&hosts, members, None).unwrap_err();
    let member = |host, device: Option<u32>| Member { host, device: device.map(NodeId) };
    assert_eq!(of(&[]), MergeError::NoRank);
    assert_eq!(of(&[member(3, None)]), MergeError::NoHost { rank: 0, host: 3, hosts: 1 });
    assert_eq!(of(&[member(0, Some(0))]), MergeError::NoDevice { rank: 0, device: 0 });
    assert_eq!(of(&[member(0, None), member(0, Some(3))]), MergeError::Mixed { rank: 1 });
    let bare = fabric::read("switch a up b\n").unwrap();
    assert_eq!(Cluster::of_fabric(&bare.graph), Err(MergeError::Bare));
    assert_eq!(Cluster::of(&hosts, &[member(0, None)], Some(&bare.graph)), Err(MergeError::Bare));
    assert_eq!(bare.summary().lines().nth(1), Some("the fabric has no host on any switch"));
    assert!(bare.svg().contains("no host hangs on a switch"));
}

#[test]
fn levels_of_trees() {
    for (text, expected) in [
        // A tree whose lines say who is higher.
        (
            "SwitchName=top Switches=m[1-2]\nSwitchName=m1 Switches=l1,l2\nSwitchName=m2 Switches=l3\nSwitchName=l1 Nodes=a[1-2]\n\
             SwitchName=l2 Nodes=b\nSwitchName=l3 Nodes=c\n",
            "4 ranks on 4 hosts of 1 port; 3 leaf, 2 spine, 1 core",
        ),
        // Login nodes on the highest switch do not make it a leaf.
        (
            "SwitchName=top Switches=l[1-2] Nodes=login[1-2]\nSwitchName=l1 Nodes=a[1-2]\nSwitchName=l2 Nodes=b[1-2]\n",
            "6 ranks on 6 hosts of 1 port; 3 leaf, 1 spine",
        ),
        // Uneven: one leaf hangs higher than the others.
        (
            "SwitchName=top Switches=m,l2\nSwitchName=m Switches=l1,l3\nSwitchName=l1 Nodes=a\nSwitchName=l2 Nodes=b\nSwitchName=l3 Nodes=c\n",
            "3 ranks on 3 hosts of 1 port; 3 leaf, 2 spine, 1 core",
        ),
        // Nothing joins the blocks.
        (
            "BlockName=b1 Nodes=a[1-4]\nBlockName=b2 Nodes=a[5-8]\nBlockSizes=4\n",
            "8 ranks on 8 hosts of 1 port; 2 block, 1 switch",
        ),
        (
            "switch leaf[1-4] up spine[1-2] 2x400\nhost a[1-8] on leaf1 400\nhost b[1-8] on leaf[2-4] 400\n",
            "32 ranks on 16 hosts of 2 kinds; 4 leaf (2:1), 1 spine",
        ),
    ] {
        let reading = fabric::read(text).unwrap();
        let (cluster, _) = Cluster::of_fabric(&reading.graph).unwrap();
        assert_eq!(cluster.to_string(), expected, "{text}");
    }
}

/// A real file, or nothing where the data is not there.
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn real(name: &str) -> Option<Reading> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/topologies/fabric").join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("skipped: {} is not there", path.display());
    }
    Some(fabric::read(&text?).unwrap())
}

#[test]
fn a_real_fabric() {
    let Some(reading) = real("topograph-ibnetdiscover-example.out") else { return };
    let (cluster, warnings) = Cluster::of_fabric(&reading.graph).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((cluster.size(), cluster.hosts.len(), cluster.levels.len()), (542, 141, 2));
    assert_eq!((cluster.levels[0].groups.len(), cluster.levels[1].groups.len()), (31, 1));
    // 17 ports on a leaf with 15 of the 18 cables that leaves have up.
    let worst = cluster.oversubscription(0).iter().copied().fold(0.0, f64::max);
    assert_eq!(worst, 18.0 / 15.0);
    // Rails: the ports of a leaf are on one, and no host has two ports on one.
    for port in &cluster.ports {
        let mates = cluster.ports.iter().filter(|other| other.group == port.group);
        assert!(mates.clone().all(|other| other.rail == port.rail), "{port:?}");
    }
    let summary = reading.summary();
    for expected in [
        "leaf     31 switches in 31 groups, 700 to 900 GB/s up each, oversubscription 0.89 to 1.2:1",
        "spine    9 switches in 1 group",
        "rails    4, each with leaves of its own: of 109 hosts that have all ports and name them 108 confirm it",
        "B09-P1-IBLEAF-03-07 has 15 cables up where 18 are usual: none to B10-P1-IBSPINE-05; only 1 to B10-P1-IBSPINE-06",
        "a cable of b08-p1-dgx-08-c01 is crossed",
    ] {
        assert!(summary.contains(expected), "{expected}\n{summary}");
    }
}

#[test]
fn a_cyclic_list_of_guids_has_three_levels() {
    let Some(reading) = real("cyclecloud-topology.txt") else { return };
    let (cluster, _) = Cluster::of_fabric(&reading.graph).unwrap();
    assert_eq!(cluster.to_string(), "128 ranks on 128 hosts of 1 port; 40 leaf, 8 spine, 1 core");
}

/// What a text of the picture covers: left, right, top and bottom.
type Area = [f64; 4];

/// The texts of a picture with their areas, in a font of one width.
fn texts(svg: &str) -> Vec<(String, Area)> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let number = |node: &roxmltree::Node<'_, '_>, name: &str| {
        node.attribute(name).unwrap().parse::<f64>().unwrap()
    };
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts
        .map(|node| {
            let text = node.text().unwrap_or_default().to_owned();
            let (x, y, size) = (number(&node, "x"), number(&node, "y"), number(&node, "font-size"));
            let count = u32::try_from(text.chars().count()).unwrap();
            (text, [x, x + f64::from(count) * 0.602 * size, y - 0.8 * size, y + 0.2 * size])
        })
        .collect()
}

#[test]
fn labels_do_not_overlap() {
    let mut pictures: Vec<String> = [
        "switch leaf[1-40] up spine[1-8] 400\nhost n[1-400] on leaf1 400\n",
        "host a on b\n",
        "switch l[1-3] up very-long-name-of-a-switch-that-nobody-would-want[1-9]\nhost h[1-30] on l[1-3]\n",
        "SwitchName=t Switches=a,b\nSwitchName=a Switches=c[1-9]\nSwitchName=b Switches=d\nSwitchName=d Nodes=n\nSwitchName=c1 Nodes=m\nSwitchName=c7 Nodes=k[1-40]\n",
        "switch l[1-200] up s[1-2]\nhost x[1-900] on l1\nhost y on l[2-200]\n",
    ]
    .iter()
    .map(|text| fabric::read(text).unwrap().svg())
    .collect();
    let real_files = [
        "topograph-ibnetdiscover-example.out",
        "cyclecloud-slurm_topology.txt",
        "cyclecloud-topology.txt",
        "topograph-model-medium.yaml",
        "topograph-model-small-tree.yaml",
    ];
    pictures.extend(real_files.iter().filter_map(|name| real(name)).map(|reading| reading.svg()));
    for picture in pictures {
        let texts = texts(&picture);
        assert!(texts.len() > 3);
        for (number, (text, area)) in texts.iter().enumerate() {
            for (other, beside) in &texts[..number] {
                let apart = area[1] <= beside[0]
                    || beside[1] <= area[0]
                    || area[3] <= beside[2]
                    || beside[3] <= area[2];
                assert!(apart, "`{text}` at {area:?} and `{other}` at {beside:?}");
            }
        }
    }
}
