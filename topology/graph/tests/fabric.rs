//! Descriptions of real fabrics, and of small ones written here.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::path::Path;

use dure_topology::fabric::{self, Format, ReadError, Reading};
use dure_topology::{Kind, LinkKind};
use proptest::prelude::*;

/// A real file, or nothing where the data is not there.
fn real(name: &str) -> Option<String> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/topologies/fabric").join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("skipped: {} is not there", path.display());
    }
    text
}

fn count(reading: &Reading, kind: Kind) -> usize {
    reading.graph.nodes().filter(|(_, node)| node.kind == kind).count()
}

fn warnings(reading: &Reading) -> Vec<String> {
    reading.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_real_dump_of_ibnetdiscover() {
    let Some(text) = real("topograph-ibnetdiscover-example.out") else { return };
    let reading = fabric::read(&text).unwrap();
    assert_eq!(reading.format, Format::Ibnetdiscover);
    assert_eq!(count(&reading, Kind::Switch), 40);
    // 582 adapters, of which 40 are inside of switches.
    assert_eq!(count(&reading, Kind::Nic), 542);
    assert_eq!(count(&reading, Kind::Other), 40);
    assert_eq!(count(&reading, Kind::Port), 542);
    let graph = &reading.graph;
    // 1,114 links are listed at both ends; 40 of them lead into switches.
    let cables: Vec<f64> = graph
        .links()
        .filter(|(_, link)| link.kind == LinkKind::Cable)
        .map(|(_, link)| link.gb_per_s)
        .collect();
    assert_eq!(cables, [50.0; 1114 - 40]);
    let hosts = |name: &str| {
        graph
            .nodes()
            .filter(|(_, node)| node.kind == Kind::Host && node.name.contains(name))
            .count()
    };
    assert_eq!([hosts("dgx"), hosts("port "), hosts("")], [119, 20, 141]);
    let [warning] = &*warnings(&reading) else { panic!("{:?}", reading.warnings) };
    assert!(warning.contains("72 adapters") && warning.contains("make 20 hosts more"), "{warning}");
}

#[test]
fn real_files_of_slurm_and_topograph() {
    for (name, format, counts, links, tiers) in [
        ("cyclecloud-slurm_topology.txt", Format::Slurm, [6, 16, 0], 21, true),
        // Switches name each other, so that who is higher is not said; nodes are GUIDs.
        ("cyclecloud-topology.txt", Format::Slurm, [49, 0, 128], 176, false),
        ("topograph-model-medium.yaml", Format::Topograph, [7, 8, 0], 14, false),
        ("topograph-model-small-tree.yaml", Format::Topograph, [3, 6, 0], 8, false),
    ] {
        let Some(text) = real(name) else { return };
        let reading = fabric::read(&text).unwrap();
        assert_eq!(reading.format, format, "{name}");
        assert_eq!(
            [Kind::Switch, Kind::Host, Kind::Nic].map(|kind| count(&reading, kind)),
            counts,
            "{name}"
        );
        assert_eq!(reading.graph.links().count(), links, "{name}");
        let switches = reading.graph.nodes().filter(|(_, node)| node.kind == Kind::Switch);
        assert!(
            switches.map(|(_, node)| node.attribute("tier").is_some()).all(|said| said == tiers),
            "{name}"
        );
        assert_eq!(warnings(&reading), [""; 0], "{name}");
    }
}

#[test]
fn the_format_is_known_by_content() {
    for (text, format) in [
        ("# x\nvendid=0x2c9\n", None),
        ("#\n\nSwitchName=a Nodes=b\n", Some(Format::Slurm)),
        ("\u{feff}blockname=a nodes=b\n", Some(Format::Slurm)),
        (
            "---\n- topology: t\n  tree:\n    switches:\n    - switch: a\n      nodes: b\n",
            Some(Format::SlurmYaml),
        ),
        ("switches:\n  a:\n    nodes: [b]\n", Some(Format::Topograph)),
        (r#"{"items":[{"metadata":{"name":"n"}}]}"#, Some(Format::Kubernetes)),
        ("apiVersion: v1\nitems:\n- metadata:\n    name: n\n", Some(Format::Kubernetes)),
        ("# mine\nhost a on b\n", Some(Format::Text)),
    ] {
        match (fabric::read(text), format) {
            (Ok(reading), Some(format)) => assert_eq!(reading.format, format, "{text}"),
            (Err(error), None) => {
                assert_eq!(error, ReadError::Empty { format: Format::Ibnetdiscover })
            }
            (found, _) => panic!("{text}: {found:?}"),
        }
    }
    for text in ["", "hello", "<system/>", "rank 3"] {
        assert_eq!(fabric::read(text), Err(ReadError::Format));
    }
}

/// A dump of two leaves, a spine and hosts with a card on each leaf; `name` tells what a card is called.
fn dump(name: impl Fn(u32, u32) -> String) -> String {
    let mut text = String::new();
    let card = |host: u32, leaf: u32| format!("{:016x}", 0x100 + 16 * host + leaf);
    for leaf in [1, 2] {
        text += &format!("sysimgguid=0x{leaf:016x}\nswitchguid=0x{leaf:016x}({leaf:016x})\n");
        text += &format!(
            "Switch\t65 \"S-{leaf:016x}\"\t\t# \"MF0;leaf{leaf}:MQM9701/U1\" enhanced port 0 lid 7 lmc 0\n"
        );
        for host in 1..=4 {
            let guid = card(host, leaf);
            text += &format!(
                "[{host}]\t\"H-{guid}\"[1]({guid}) \t\t# \"{}\" lid 6 4xNDR\n",
                name(host, leaf)
            );
        }
        text += &format!(
            "[60]\t\"S-{:016x}\"[{leaf}]\t\t# \"MF0;spine:MQM9701/U1\" lid 2 4xNDR\n\n",
            3
        );
    }
    text += &format!(
        "switchguid=0x{0:016x}({0:016x})\nSwitch\t65 \"S-{0:016x}\"\t# \"MF0;spine:X/U1\" enhanced port 0\n",
        3
    );
    for leaf in [1, 2] {
        text += &format!(
            "[{leaf}]\t\"S-{leaf:016x}\"[60]\t\t# \"MF0;leaf{leaf}:MQM9701/U1\" lid 2 4xNDR\n"
        );
    }
    for leaf in [1, 2] {
        for host in 1..=4 {
            let guid = card(host, leaf);
            text +=
                &format!("\ncaguid=0x{guid}\nCa\t1 \"H-{guid}\"\t\t# \"{}\"\n", name(host, leaf));
            text += &format!(
                "[1]({guid}) \t\"S-{leaf:016x}\"[{host}]\t\t# lid 6 lmc 0 \"MF0;leaf{leaf}:MQM9701/U1\" lid 7 4xNDR\n"
            );
        }
    }
    text
}

/// The hosts of a dump, each with its cards.
fn hosts(reading: &Reading) -> Vec<String> {
    let graph = &reading.graph;
    let hosts = graph.nodes().filter(|(_, node)| node.kind == Kind::Host);
    hosts
        .map(|(id, node)| {
            let cards: Vec<&str> = graph.children(id).map(|card| &*graph.node(card).name).collect();
            format!("{}: {}", node.name, cards.join(" "))
        })
        .collect()
}

#[test]
fn cards_find_their_hosts() {
    let named = fabric::read(&dump(|host, leaf| format!("h{host} mlx5_{leaf}"))).unwrap();
    assert_eq!(
        hosts(&named),
        ["h1: mlx5_1 mlx5_2", "h2: mlx5_1 mlx5_2", "h3: mlx5_1 mlx5_2", "h4: mlx5_1 mlx5_2"]
    );
    assert_eq!(warnings(&named), [""; 0]);

    // A host without a name, one with a name on one card only, and cards of two naming schemes.
    let mixed = fabric::read(&dump(|host, leaf| match (host, leaf) {
        (4, _) | (3, 2) => "MT4129 ConnectX7   Mellanox Technologies".to_owned(),
        (2, leaf) => format!("h2 HCA-{leaf}"),
        (host, leaf) => format!("h{host} mlx5_{leaf}"),
    }))
    .unwrap();
    assert_eq!(
        hosts(&mixed),
        [
            "h1: mlx5_1 mlx5_2",
            "h2: HCA-1 HCA-2",
            "h3: 0000000000000132 mlx5_1",
            "port 4 of leaf1: 0000000000000141 0000000000000142",
        ]
    );
    let [warning] = &*warnings(&mixed) else { panic!("{:?}", mixed.warnings) };
    assert!(warning.starts_with("3 adapters do not say of which host they are"), "{warning}");

    // One name for two hosts: it is not used.
    let twice = fabric::read(&dump(|host, leaf| format!("h{} mlx5_{leaf}", host.min(3)))).unwrap();
    assert!(warnings(&twice)[0].starts_with("h3 has several cards of one name"));
    assert_eq!(hosts(&twice).len(), 4);
}

#[test]
fn what_does_not_fit_in_a_dump() {
    let good = dump(|host, leaf| format!("h{host} mlx5_{leaf}"));
    let read = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        warnings(&fabric::read(&good.replacen(from, to, 1)).unwrap())
    };
    for (from, to, expected) in [
        (
            "[60]\t\"S-0000000000000003\"[1]",
            "[61]\t\"S-0000000000000003\"[9]",
            "only one end of a link is listed: port 9 of spine",
        ),
        ("lid 2 4xNDR", "lid 2 4xHDR", "the ends of a link say 4xHDR and 4xNDR"),
        ("lid 6 4xNDR", "lid 6 9xQQQ", "the speed is not said, or not known"),
        ("[1]\t\"H-", "[1]\t\"H", "no port that can be read"),
        ("Switch\t65 \"S-0000000000000003", "Switch\t65 \"S-xyz", "no device that can be read"),
        ("sysimgguid", "Chassis 4", "unknown: `Chassis 4=0x"),
        ("Ca\t1 \"H-0000000000000111\"", "Ca\t1 \"H-0000000000000121\"", "stands in line"),
    ] {
        let found = read(from, to);
        assert!(found.iter().any(|warning| warning.contains(expected)), "{expected}: {found:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_not(
        lines in proptest::collection::vec(
            prop::sample::select(vec![
                "vendid=0x1", "switchguid=0x0000000000000001(0000000000000001)", "Switch\t2 \"S-0000000000000001\" # \"a\"",
                "[1]\t\"S-0000000000000001\"[2] # \"a\" lid 1 4xNDR", "[2]\t\"H-0000000000000002\"[1] # \"b\"", "[", "[1",
                "Ca\t1 \"H-0000000000000002\" # \"h mlx5_0\"", "SwitchName=a Nodes=b[1-3]", "SwitchName=a Switches=a",
                "SwitchName=a Switches=b", "SwitchName=b Switches=a", "BlockName=c Nodes=d", "BlockSizes=1,2,0", "BlockSizes=0,4",
                "- topology: x", "switches:", "  a:", "    nodes: [b]", "{\"items\":[]}", "host a on b", "switch a up a 2x1",
                "pool p of a", "=", "[ext", "\"", "#",
            ]),
            0..8,
        )
    ) {
        let _ = fabric::read(&lines.join("\n"));
    }
}
