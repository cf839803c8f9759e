//! Where a fabric contradicts itself: what most of its like have and one has not.

use std::collections::{BTreeMap, HashMap};

use super::rails::Rails;
use super::tiers::{Placed, Tiers};
use crate::cluster::small;
use crate::{Graph, LinkKind, NodeId, Source};

/// Sentences for people.
pub(super) fn find(graph: &Graph, tiers: &Tiers, rails: &Rails) -> Vec<String> {
    let mut found = uplinks(graph, tiers);
    found.extend(slow(graph));
    found.extend(hosts(graph, tiers, rails));
    found
}

/// Cables between pairs of switches.
pub(super) fn bundles(graph: &Graph) -> BTreeMap<[NodeId; 2], (u32, f64)> {
    let mut bundles: BTreeMap<[NodeId; 2], (u32, f64)> = BTreeMap::new();
    for (_, link) in graph.links().filter(|(_, link)| link.kind == LinkKind::Cable) {
        let [a, b] = link.ends;
        let bundle = bundles.entry([a.min(b), a.max(b)]).or_default();
        bundle.0 += 1;
        bundle.1 += link.gb_per_s;
    }
    bundles
}

/// Switches with fewer cables to one above them than is usual.
fn uplinks(graph: &Graph, tiers: &Tiers) -> Vec<String> {
    let bundles = bundles(graph);
    let count =
        |a: NodeId, b: NodeId| bundles.get(&[a.min(b), a.max(b)]).map_or(0, |bundle| bundle.0);
    let mut found = Vec::new();
    for (tier, level) in (0..).zip(&tiers.tiers) {
        let of_tier = |tier: u32| tiers.switches.iter().filter(move |switch| switch.tier == tier);
        // The switches above that a switch could have cables to are those of the group that it is in.
        let mut above: HashMap<u32, Vec<NodeId>> = HashMap::new();
        for upper in of_tier(tier + 1) {
            above.entry(upper.group).or_default().push(upper.id);
        }
        let mut usual: BTreeMap<u32, u32> = BTreeMap::new();
        let mut all = Vec::new();
        for switch in of_tier(tier) {
            let parent = level.groups.get(switch.group as usize).map(|group| group.parent);
            let above = parent.and_then(|parent| above.get(&parent)).into_iter().flatten();
            let cables: Vec<(NodeId, u32)> =
                above.map(|upper| (*upper, count(switch.id, *upper))).collect();
            cables.iter().for_each(|(_, cables)| *usual.entry(*cables).or_default() += 1);
            all.push((switch, cables));
        }
        let usual = most(&usual).unwrap_or_default();
        let lines = all.iter().filter_map(|(switch, cables)| lacking(graph, switch, cables, usual));
        let start = found.len();
        found.extend(lines);
        found[start..].sort();
    }
    found
}

/// Says to which switches above it a switch has fewer cables than is usual.
fn lacking(graph: &Graph, switch: &Placed, cables: &[(NodeId, u32)], usual: u32) -> Option<String> {
    let mut lacking: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for (upper, cables) in cables.iter().filter(|(_, cables)| *cables < usual) {
        lacking.entry(*cables).or_default().push(&graph.node(*upper).name);
    }
    if lacking.is_empty() {
        return None;
    }
    let part = |(cables, uppers): (&u32, &Vec<&str>)| {
        let cables = if *cables == 0 { "none".to_owned() } else { format!("only {cables}") };
        format!("{cables} to {}", uppers.join(", "))
    };
    let parts: Vec<String> = lacking.iter().map(part).collect();
    let has: u32 = cables.iter().map(|(_, cables)| cables).sum();
    let all = usual * small(cables.len());
    let name = &graph.node(switch.id).name;
    Some(format!("{name} has {has} cables up where {all} are usual: {}", parts.join("; ")))
}

/// Cables that are slower than most of their kind.
fn slow(graph: &Graph) -> Vec<String> {
    let cables = || {
        graph
            .links()
            .map(|(_, link)| link)
            .filter(|link| link.kind == LinkKind::Cable && link.source != Source::Default)
    };
    let mut speeds: HashMap<u64, u32> = HashMap::new();
    for link in cables() {
        *speeds.entry(link.gb_per_s.to_bits()).or_default() += 1;
    }
    let usual = speeds.iter().max_by_key(|(speed, count)| (**count, **speed));
    let Some(usual) = usual.map(|(speed, _)| f64::from_bits(*speed)) else { return Vec::new() };
    cables()
        .filter(|link| link.gb_per_s < usual)
        .map(|link| {
            let [a, b] = link.ends.map(|end| owner(graph, end));
            format!(
                "a cable between {a} and {b} carries {} GB/s, most carry {usual}",
                link.gb_per_s
            )
        })
        .collect()
}

/// The name of a switch, or of the host of a port.
fn owner(graph: &Graph, id: NodeId) -> &str {
    &graph.node(graph.host(id).unwrap_or(id)).name
}

/// Hosts with fewer ports than most, and hosts with a port on a leaf of another rail.
fn hosts(graph: &Graph, tiers: &Tiers, rails: &Rails) -> Vec<String> {
    let mut of_host: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for (number, end) in tiers.ends.iter().enumerate() {
        of_host.entry(end.host).or_default().push(number);
    }
    let mut widths: BTreeMap<u32, u32> = BTreeMap::new();
    for ends in of_host.values() {
        *widths.entry(small(ends.len())).or_default() += 1;
    }
    let usual = most(&widths).unwrap_or_default();
    let mut found = Vec::new();
    for (width, count) in widths.range(..usual) {
        let mut named = of_host.iter().filter(|(_, ends)| small(ends.len()) == *width);
        let first = named.next().map_or("", |(host, _)| owner(graph, *host));
        let have = if *count == 1 {
            format!("{first} has")
        } else {
            format!("{count} hosts have ({first} first)")
        };
        found.push(format!("{have} {width} ports where {usual} are usual"));
    }
    for (number, place) in &rails.crossed {
        let end = &tiers.ends[*number];
        found.push(format!(
            "a cable of {} is crossed: its port for rail {place} is on {}, which is of rail {}",
            owner(graph, end.host),
            graph.node(end.switch).name,
            rails.of[*number]
        ));
    }
    found
}

/// What is most often counted; of equals the larger.
fn most(counts: &BTreeMap<u32, u32>) -> Option<u32> {
    counts.iter().max_by_key(|(value, count)| (**count, **value)).map(|(value, _)| *value)
}
