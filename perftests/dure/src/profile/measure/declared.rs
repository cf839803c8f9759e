//! Where the samples contradict what the hosts and the fabric declare.

use std::collections::BTreeMap;

use dure_topology::{Cluster, Measured, contradictions};

use super::probe::{SIZES, Sample, Way};

/// The contradictions, in sentences. `links` says whether ranks of different hosts use all that a link gives: TCP is bound
/// by processors, and says nothing of links.
pub(super) fn contradicted(cluster: &Cluster, samples: &[Sample], links: bool) -> Vec<String> {
    let mut measured = inside(cluster, samples);
    if links {
        measured.extend(between(cluster, samples));
    }
    contradictions(cluster, &measured).iter().map(ToString::to_string).collect()
}

fn longest(samples: &[Sample], way: Way) -> impl Iterator<Item = &Sample> {
    let longest = SIZES[SIZES.len() - 1] as u64;
    samples.iter().filter(move |sample| sample.way == way && sample.bytes == longest)
}

/// The pair inside a host that had the host for itself: many at once share its memory.
fn inside<'s>(cluster: &Cluster, samples: &'s [Sample]) -> Vec<Measured> {
    let is_inside = |sample: &&'s Sample| {
        let [a, b] = sample.ranks.map(|rank| cluster.ranks[rank as usize].host);
        a == b
    };
    let alone = longest(samples, Way::Alone).filter(is_inside);
    alone
        .map(|sample| Measured {
            ranks: sample.ranks,
            ports: None,
            gb_per_s: sample.rate(),
            latency_ns: 0.0,
        })
        .collect()
}

/// What pairs of ports carried in each round: the sum of the ranks that used them at once. A port that met several in a
/// round shows its bandwidth with none of them, and is left out of that round.
fn between(cluster: &Cluster, samples: &[Sample]) -> Vec<Measured> {
    let mut rounds: BTreeMap<(u32, [u32; 2]), ([u32; 2], f64)> = BTreeMap::new();
    for sample in longest(samples, Way::Together) {
        let [a, b] = sample.ranks.map(|rank| &cluster.ranks[rank as usize]);
        let ([Some(from), Some(to)], true) = ([a.port, b.port], a.host != b.host) else { continue };
        let round = (sample.ranks[0] ^ sample.ranks[1]).ilog2();
        let sum =
            rounds.entry((round, [from.min(to), from.max(to)])).or_insert((sample.ranks, 0.0));
        sum.1 += sample.rate();
    }
    let mut met: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for (round, ports) in rounds.keys() {
        for port in ports {
            *met.entry((*round, *port)).or_default() += 1;
        }
    }
    let faithful =
        |(round, ports): &(u32, [u32; 2])| ports.iter().all(|port| met[&(*round, *port)] == 1);
    rounds
        .iter()
        .filter(|(key, _)| faithful(key))
        .map(|(_, (ranks, gb_per_s))| Measured {
            ranks: *ranks,
            ports: None,
            gb_per_s: *gb_per_s,
            latency_ns: 0.0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::pairs;
    use super::*;

    /// Every round of `ranks` ranks, by what each pair gets.
    fn rounds(ranks: u32, gb_per_s: impl Fn([u32; 2]) -> f64) -> Vec<Sample> {
        let bytes = SIZES[SIZES.len() - 1] as u64;
        let pairs = (0..pairs::rounds(ranks)).flat_map(|round| pairs::pairs(round, ranks));
        pairs
            .map(|ranks| Sample {
                way: Way::Together,
                ranks,
                bytes,
                seconds: bytes as f64 / 1e9 / gb_per_s(ranks),
            })
            .collect()
    }

    #[test]
    fn ranks_that_share_a_port_add_up() {
        let cluster = Cluster::synthetic("4 host * (2 npu + 1 nic[gbps=200])").unwrap();
        // 25 GB/s by two ranks; host 3's link trained at half of its width.
        let got = rounds(8, |[_, b]| if b >= 6 { 6.0 } else { 12.0 });
        let found = contradicted(&cluster, &got, true);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("port 0 of host 3 carries 12 of the 25 GB/s"), "{found:?}");
        assert_eq!(contradicted(&cluster, &rounds(8, |_| 12.0), true), [""; 0]);
        assert_eq!(contradicted(&cluster, &got, false), [""; 0]);
    }

    #[test]
    fn ports_that_meet_several_at_once_say_nothing() {
        // In round 1 host 1 meets both others, in round 2 each host does; in rounds 0 and 3 two hosts meet.
        let cluster = Cluster::synthetic("3 host * (3 npu + 1 nic[gbps=200])").unwrap();
        let measured = between(&cluster, &rounds(9, |_| 8.0));
        let ranks: Vec<[u32; 2]> = measured.iter().map(|one| one.ranks).collect();
        assert_eq!(ranks, [[2, 3], [0, 8]]);
    }
}
