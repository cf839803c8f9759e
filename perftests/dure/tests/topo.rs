//! `dure topo`, as operators use it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

#[path = "../../../topology/graph/tests/sample/mod.rs"]
mod sample;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Runs the program and gives its status, standard output and standard error.
fn dure(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dure")).arg("topo").args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What `show` answers, which must work.
fn show(from: &Path, format: &str) -> String {
    let (status, out, error) =
        dure(&["show", "--from", from.to_str().unwrap(), "--format", format]);
    assert_eq!((status, &*error), (0, ""), "{}", from.display());
    out
}

/// Descriptions of real machines; none, which is said, where they are not beside the checkout.
fn files() -> Vec<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/topologies");
    let mut files = Vec::new();
    for folder in ["nccl", "hwloc", "fabric"] {
        match fs::read_dir(shared.join(folder)) {
            Ok(entries) => files.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => eprintln!("skipped: there is no {}", shared.join(folder).display()),
        }
    }
    files.retain(|file| !file.ends_with("azure-ncv4-graph.xml"));
    files.sort();
    files
}

#[test]
fn a_host_as_text() {
    let host = sample::unpack("npu-host");
    let text = show(host.path(), "text");
    for line in [
        "  npu1: Example NPU server, no virtual machine, Linux 6.8.0, 512 GiB, /dev/shm 256 GiB",
        "      numa 0: cpus 0-1,4-5, 256 GiB, distances 10 21 14",
        "        L3 105 MiB cpus 0-1,4-5, 2 x L2 2 MiB, 2 x L1i 32 KiB, 2 x L1d 48 KiB",
        "                accelerator 0000:18:00.0: Rebellions [1eff:2030], RBLN-CR03, rbln0, 144 GiB  <- 63.0 GB/s PCIe 32.0 GT/s x16",
        "                adapter 0000:9c:00.0: Mellanox [15b3:1021]  <- 31.5 GB/s PCIe 32.0 GT/s x8 of x16",
        "                  port mlx5_1: Ethernet, ACTIVE, interface eth0  <- 50.0 GB/s",
        "      DAX device dax0.0: 128 GiB, NUMA node 2, mapped as /dev/dax0.0",
        "  numa 0 - 2 x socket 22.0 GB/s (assumed) - numa 1, numa 2",
        "rails, by order of the adapters, to be confirmed by the fabric: 0 mlx5_0, 1 mlx5_1",
        "  a0 0000:18:00.0   LOC        PIX 63.0   SYS ~22.0  SYS ~22.0",
        "  a2 0000:9a:00.0   SYS ~22.0  PIX 31.5",
    ] {
        assert!(text.lines().any(|known| known == line), "{line:?} is not in:\n{text}");
    }
}

#[test]
fn what_rbln_stat_printed_is_read_beside_the_files() {
    let host = sample::unpack("npu-host");
    let json = r#"{"devices": [{"group_id": "2", "pci": {"bus_id": "0000:18:00.0"}}]}"#;
    fs::write(host.path().join("rbln-stat.json"), json).unwrap();
    assert!(show(host.path(), "text").contains("rbln0, 144 GiB, group 2  <-"));
}

#[test]
fn a_host_of_a_pool() {
    let host = sample::unpack("pool-host");
    let text = show(host.path(), "text");
    for line in [
        "                CXL memory 0000:37:00.0: Samsung [144d:a2c0], mem0, 128 GiB RAM  <- 63.0 GB/s CXL 32.0 GT/s x16",
        "    CXL region region0: 128 GiB, ram, over 1 devices",
        "      DAX device dax0.0: 128 GiB, NUMA node 2, mapped as /dev/dax0.0",
        "      DAX device dax1.0: 64 GiB, NUMA node 3, memory of the system",
        "        DAX device dax2.0: 16 GiB, NUMA node 4, mapped as /dev/dax2.0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line:?} is not in:\n{text}");
    }
    let svg = show(host.path(), "svg");
    for words in ["mem1", "region1", "dax1.0", "dax2.0"] {
        assert!(svg.contains(words), "{words:?} is not in:\n{svg}");
    }
}

#[test]
fn this_host_is_the_default() {
    let (status, out, _) = dure(&["show"]);
    assert_eq!(status, 0);
    assert!(out.starts_with("this host: 1 host"), "{out}");
}

#[test]
fn xml_of_a_host_is_the_same_host() {
    for name in ["npu-host", "virtual-machine", "container", "pool-host"] {
        let host = sample::unpack(name);
        let file = host.path().join("host.xml");
        let (path, folder) = (file.to_str().unwrap(), host.path().to_str().unwrap());
        assert_eq!(dure(&["show", "--from", folder, "--format", "xml", "-o", path]).0, 0);
        let (status, out, _) = dure(&["diff", folder, path]);
        assert_eq!((status, &*out), (0, "no difference\n"), "{name}");
        assert_eq!(fs::read_to_string(&file).unwrap(), show(&file, "xml"), "{name}");
    }
}

#[test]
fn a_fabric_is_shown_as_one() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("topology.conf");
    fs::write(&file, "SwitchName=leaf0 Nodes=a[0-1]\nSwitchName=leaf1 Nodes=a[2-3]\nSwitchName=spine Switches=leaf[0-1]\n").unwrap();
    let text = show(&file, "text");
    assert!(text.starts_with("Slurm topology.conf: 3 switches, 4 hosts"), "{text}");
    assert!(!text.contains("by order of the adapters"), "{text}");
    assert!(show(&file, "svg").contains("spine"));
    // As XML it is a fabric still.
    let xml = folder.path().join("fabric.xml");
    fs::write(&xml, show(&file, "xml")).unwrap();
    assert!(show(&xml, "text").contains("3 switches, 4 hosts"));
}

#[test]
fn json_has_everything() {
    let host = sample::unpack("npu-host");
    let report: Value = serde_json::from_str(&show(host.path(), "json")).unwrap();
    let nodes = report["nodes"].as_array().unwrap();
    let npu = nodes.iter().find(|node| node["name"] == "0000:18:00.0").unwrap();
    assert_eq!(npu["kind"], "accelerator");
    assert!(
        npu["attributes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|pair| pair[0] == "model" && pair[1] == "RBLN-CR03")
    );
    // Each of four accelerators to three others and two ports.
    assert_eq!(report["paths"].as_array().unwrap().len(), 4 * 5);
    assert_eq!(report["paths"][0]["type"], "PIX");
    assert_eq!(report["rails"][1]["rail"], 1);
    assert!(report["links"].as_array().unwrap().iter().any(|link| link["source"] == "default"));
}

#[test]
fn hosts_that_differ_are_told_apart() {
    let (a, b) = (sample::unpack("npu-host"), sample::unpack("npu-host"));
    let pci = b.path().join("sys/devices");
    let adapter = pci.join("pci0000:97/0000:97:01.0/0000:98:00.0/0000:99:02.0/0000:9c:00.0");
    fs::write(adapter.join("current_link_width"), "16\n").unwrap();
    fs::write(adapter.join("infiniband/mlx5_1/ports/1/state"), "1: DOWN\n").unwrap();
    fs::remove_file(b.path().join("sys/bus/pci/devices/0000:19:00.0")).unwrap();
    let [a, b] = [&a, &b].map(|folder| folder.path().to_str().unwrap().to_owned());
    let (status, out, _) = dure(&["diff", &a, &b]);
    let short = |path: &str| Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
    let out = out.replace(&short(&a), "A").replace(&short(&b), "B");
    let expected = "port 0000:17:01.0 is in A and not in B\n\
                    accelerator 0000:19:00.0 is in A and not in B\n\
                    adapter 0000:9c:00.0: its link has 31.5 GB/s (32.0 GT/s x8 of x16) in A, 63.0 GB/s (32.0 GT/s x16) in B\n\
                    port mlx5_1: state is ACTIVE in A, DOWN in B\n\
                    4 differences\n";
    assert_eq!((status, &*out), (1, expected));
    // A figure within the given part is the same.
    let (_, out, _) = dure(&["diff", &a, &b, "--within", "60"]);
    assert!(out.ends_with("3 differences\n"), "{out}");
}

#[test]
fn an_adapter_at_the_wrong_socket_is_found() {
    let host = sample::unpack("npu-host");
    let declared = r#"<system version="1">
      <cpu numaid="0"><pci busid="0000:16:00.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="16">
        <pci busid="0000:18:00.0" class="0x120000" link_speed="32.0 GT/s PCIe" link_width="16"/>
        <pci busid="0000:19:00.0" class="0x120000" link_speed="32.0 GT/s PCIe" link_width="16"/></pci></cpu>
      <cpu numaid="1"><pci busid="0000:98:00.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="16">
        <pci busid="0000:9a:00.0" class="0x120000" link_speed="32.0 GT/s PCIe" link_width="16"/>
        <pci busid="0000:9b:00.0" class="0x120000" link_speed="32.0 GT/s PCIe" link_width="16"/>
        <pci busid="0000:1a:00.0" class="0x020700" link_speed="32.0 GT/s PCIe" link_width="16"/>
        <pci busid="0000:9c:00.0" class="0x020000" link_speed="32.0 GT/s PCIe" link_width="8"/></pci></cpu>
      <cpu numaid="2"/>
    </system>"#;
    let file = host.path().join("declared.xml");
    fs::write(&file, declared).unwrap();
    let (status, out, _) = dure(&["diff", file.to_str().unwrap(), host.path().to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(
        out.contains("adapter 0000:1a:00.0 is at numa 1 in declared.xml, at numa 0 in "),
        "{out}"
    );
    assert!(
        out.contains(
            "accelerator 0000:18:00.0 reaches 0000:1a:00.0 by SYS in declared.xml, by PIX in "
        ),
        "{out}"
    );
    assert!(
        out.contains(
            "not compared: declared.xml says nothing of packages, caches, host bridges, ports"
        ),
        "{out}"
    );
}

#[test]
fn wrong_calls_are_refused() {
    let host = sample::unpack("npu-host");
    let folder = host.path().to_str().unwrap();
    let none = host.path().join("none");
    let result = host.path().join("graph.xml");
    fs::write(&result, "<graphs version=\"1\"/>").unwrap();
    let (none, result) = (none.to_str().unwrap(), result.to_str().unwrap());
    for args in [
        vec!["show", "--from", none],
        vec!["show", "--from", result],
        vec!["show", "--from", "/dev"],
        vec!["show", "--from", folder, "--format", "png"],
        vec!["show", "--from", folder, "-o", "/no/such/folder/x"],
        vec!["diff", folder],
        vec!["diff", folder, none],
        vec!["diff", folder, folder, "--within", "-1"],
    ] {
        let (status, out, error) = dure(&args);
        assert_eq!((status, &*out), (2, ""), "{args:?}");
        assert!(!error.is_empty(), "{args:?}");
    }
    assert!(dure(&["show", "--from", result]).2.contains("a <graphs> file is a result"));
}

/// A text of a picture: what it says, and the area that it takes.
struct Label {
    text: String,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// The labels of a picture; the font's letters are all as wide.
fn labels(svg: &str) -> Vec<Label> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    let label = |node: roxmltree::Node<'_, '_>| {
        let number = |name| node.attribute(name).unwrap().parse::<f64>().unwrap();
        let classes: Vec<_> = node.attribute("class").unwrap().split(' ').collect();
        let size = if classes.contains(&"t") { 18.0 } else { 12.0 };
        let text = node.text().unwrap_or_default().to_owned();
        let letters = u32::try_from(text.chars().count()).unwrap();
        let width = f64::from(letters) * 0.6 * size;
        let left = if classes.contains(&"m") { number("x") - width / 2.0 } else { number("x") };
        let (top, bottom) = (number("y") - 0.75 * size, number("y") + 0.2 * size);
        Label { text, left, right: left + width, top, bottom }
    };
    texts.map(label).collect()
}

#[test]
fn no_label_of_a_picture_overlaps_another() {
    let hosts = ["npu-host", "virtual-machine", "container"].map(sample::unpack);
    let mut sources: Vec<_> = hosts.iter().map(|host| host.path().to_owned()).collect();
    sources.extend(
        files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "xml")),
    );
    for from in sources {
        let svg = show(&from, "svg");
        let labels = labels(&svg);
        assert!(labels.len() > 10, "{}", from.display());
        for (number, a) in labels.iter().enumerate() {
            for b in &labels[number + 1..] {
                let apart = a.right <= b.left
                    || b.right <= a.left
                    || a.bottom <= b.top
                    || b.bottom <= a.top;
                assert!(apart, "{}: {:?} and {:?}", from.display(), a.text, b.text);
            }
        }
    }
}

#[test]
fn every_known_file_is_shown() {
    for file in files() {
        for format in ["text", "svg", "json", "xml"] {
            let shown = show(&file, format);
            assert!(!shown.is_empty(), "{} {format}", file.display());
        }
        let again = tempfile::NamedTempFile::new().unwrap();
        fs::write(again.path(), show(&file, "xml")).unwrap();
        let (status, out, _) =
            dure(&["diff", file.to_str().unwrap(), again.path().to_str().unwrap()]);
        assert_eq!((status, &*out), (0, "no difference\n"), "{}", file.display());
    }
}
