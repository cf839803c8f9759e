//! Packages, NUMA nodes and caches.

use std::collections::{BTreeMap, BTreeSet};

use super::limits::{field, kilobytes};
use super::tree::Tree;
use super::{Places, list};
use crate::device;
use crate::graph::{Graph, Kind, Node, NodeId};
use crate::speed;

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";

/// What `/proc/cpuinfo` says of the processor, under NCCL's names.
struct Processor {
    arch: String,
    said: Vec<(String, String)>,
}

impl Processor {
    fn read(tree: &Tree) -> Self {
        let text = tree.text("proc/cpuinfo").unwrap_or_default();
        let mut said = Vec::new();
        let keys = [
            ("vendor", "vendor_id"),
            ("familyid", "cpu family"),
            ("modelid", "model"),
            ("model_name", "model name"),
        ];
        for (name, key) in keys {
            if let Some(value) = field(&text, key) {
                said.push((name.to_owned(), value));
            }
        }
        let arch = match () {
            () if field(&text, "vendor_id").is_some() => "x86_64",
            () if field(&text, "CPU implementer").is_some() => "arm64",
            () if field(&text, "cpu").is_some_and(|name| name.starts_with("POWER")) => "ppc64",
            () => "",
        };
        Self { arch: arch.to_owned(), said }
    }

    fn word(&self, wanted: &str) -> &str {
        self.said.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value)
    }

    /// Bandwidth between NUMA nodes, GB/s.
    fn gb_per_s(&self) -> f64 {
        let number = |name| self.word(name).parse().unwrap_or(0);
        speed::socket(&self.arch, self.word("vendor"), number("familyid"), number("modelid"))
    }
}

/// A processor as the kernel numbers them.
struct Cpu {
    number: u32,
    package: Option<u32>,
    /// The processors that share its core.
    core: Option<String>,
}

pub(super) fn add(tree: &Tree, graph: &mut Graph, host: NodeId) -> Places {
    let processor = Processor::read(tree);
    let online = tree.text(&format!("{CPUS}/online")).map(|text| list(&text));
    let cpus: Vec<_> = tree
        .numbered(CPUS, "cpu")
        .into_iter()
        .filter(|(_, number)| online.as_ref().is_none_or(|online| online.contains(number)))
        .map(|(name, number)| {
            let topology = format!("{CPUS}/{name}/topology");
            let core = tree.text(&format!("{topology}/core_cpus_list"));
            let core = core.or_else(|| tree.text(&format!("{topology}/thread_siblings_list")));
            Cpu { number, package: tree.number(&format!("{topology}/physical_package_id")), core }
        })
        .collect();
    let packages = packages(graph, host, &processor, &cpus);
    let numas = numas(tree, graph, host, &processor, (&cpus, &packages));
    caches(tree, graph, &cpus, |cpu: &Cpu| {
        let numa = numas.iter().find(|(_, _, members)| members.contains(&cpu.number));
        let package = cpu.package.and_then(|package| packages.get(&package));
        *numa.map(|(_, id, _)| id).or(package).unwrap_or(&host)
    });
    let distances: Vec<Vec<f64>> =
        numas.iter().map(|(number, _, _)| distances(tree, *number)).collect();
    let ids: Vec<_> = numas.iter().map(|(_, id, _)| *id).collect();
    // A node's row has an entry for each node that is online, in order.
    device::join_numas(graph, &ids, processor.gb_per_s(), |a, b| distances[a].get(b).copied());
    Places { host, numas: numas.into_iter().map(|(number, id, _)| (number, id)).collect() }
}

fn packages(
    graph: &mut Graph,
    host: NodeId,
    processor: &Processor,
    cpus: &[Cpu],
) -> BTreeMap<u32, NodeId> {
    let mut members = BTreeMap::<u32, Vec<&Cpu>>::new();
    for cpu in cpus {
        if let Some(package) = cpu.package {
            members.entry(package).or_default().push(cpu);
        }
    }
    let mut add = |(number, cpus): (u32, Vec<&Cpu>)| {
        let cores: BTreeSet<_> = cpus.iter().filter_map(|cpu| cpu.core.as_ref()).collect();
        let mut node = Node::new(Kind::Package, format!("package {number}"));
        node.attributes.clone_from(&processor.said);
        if !cores.is_empty() {
            node = node.with("cores", cores.len().to_string());
        }
        (number, graph.add(Some(host), node.with("threads", cpus.len().to_string())))
    };
    members.into_iter().map(&mut add).collect()
}

type Numas = Vec<(u32, NodeId, Vec<u32>)>;

fn numas(
    tree: &Tree,
    graph: &mut Graph,
    host: NodeId,
    processor: &Processor,
    (cpus, packages): (&[Cpu], &BTreeMap<u32, NodeId>),
) -> Numas {
    let mut numas = Vec::new();
    for (name, number) in tree.numbered(NODES, "node") {
        let folder = format!("{NODES}/{name}");
        let text = |file: &str| tree.text(&format!("{folder}/{file}"));
        let members = list(&text("cpulist").unwrap_or_default());
        let around: BTreeSet<_> = cpus
            .iter()
            .filter(|cpu| members.contains(&cpu.number))
            .map(|cpu| cpu.package)
            .collect();
        // Memory without processors is in no package, and a node can span several.
        let package = around.first().copied().flatten().filter(|_| around.len() == 1);
        let parent = package.and_then(|package| packages.get(&package)).copied().unwrap_or(host);
        let mut node =
            Node::new(Kind::Numa, format!("numa {number}")).with("numaid", number.to_string());
        let memory = text("meminfo").and_then(|text| {
            let total = text.lines().find_map(|line| line.split_once("MemTotal:"))?.1;
            kilobytes(total.trim())
        });
        let said = [
            ("affinity", text("cpumap")),
            ("arch", Some(processor.arch.clone()).filter(|arch| !arch.is_empty())),
            ("vendor", Some(processor.word("vendor").to_owned()).filter(|word| !word.is_empty())),
            (
                "familyid",
                Some(processor.word("familyid").to_owned()).filter(|word| !word.is_empty()),
            ),
            ("modelid", Some(processor.word("modelid").to_owned()).filter(|word| !word.is_empty())),
            ("cpulist", text("cpulist")),
            ("memory", memory.map(|bytes| bytes.to_string())),
            ("distance", text("distance")),
        ];
        for (name, value) in said {
            if let Some(value) = value {
                node = node.with(name, value);
            }
        }
        numas.push((number, graph.add(Some(parent), node), members));
    }
    numas
}

fn distances(tree: &Tree, number: u32) -> Vec<f64> {
    let text = tree.text(&format!("{NODES}/node{number}/distance")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// A cache: level, letter of its type, size in the kernel's words, and the processors that share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cache {
    level: u32,
    letter: &'static str,
    size: Option<String>,
    shared: String,
}

/// Adds caches: those of the last levels one by one, since sharing them matters; of the others their number.
fn caches(tree: &Tree, graph: &mut Graph, cpus: &[Cpu], place: impl Fn(&Cpu) -> NodeId) {
    let mut found = BTreeMap::<NodeId, BTreeSet<Cache>>::new();
    for cpu in cpus {
        let folder = format!("{CPUS}/cpu{}/cache", cpu.number);
        for (name, _) in tree.numbered(&folder, "index") {
            let text = |file: &str| tree.text(&format!("{folder}/{name}/{file}"));
            let Some(level) = text("level").and_then(|level| level.parse().ok()) else { continue };
            let letter = match text("type").as_deref() {
                Some("Data") => "d",
                Some("Instruction") => "i",
                _ => "",
            };
            let shared = text("shared_cpu_list").unwrap_or_else(|| cpu.number.to_string());
            found.entry(place(cpu)).or_default().insert(Cache {
                level,
                letter,
                size: text("size"),
                shared,
            });
        }
    }
    for (parent, caches) in found {
        let mut alike = BTreeMap::<(u32, &str, Option<String>, Option<String>), u32>::new();
        for Cache { level, letter, size, shared } in caches {
            let alone = (level > 2).then_some(shared);
            *alike.entry((level, letter, size, alone)).or_default() += 1;
        }
        // The largest first, as they are nested.
        for ((level, letter, size, shared), count) in alike.into_iter().rev() {
            let mut node = Node::new(Kind::Cache, format!("L{level}{letter}"));
            if let Some(bytes) =
                size.as_deref().and_then(|size| size.strip_suffix('K')?.parse::<u64>().ok())
            {
                node = node.with("size", (bytes << 10).to_string());
            }
            node = match shared {
                Some(shared) => node.with("cpulist", shared),
                None => node.with("count", count.to_string()),
            };
            graph.add(Some(parent), node);
        }
    }
}
