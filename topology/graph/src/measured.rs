//! Where what was measured and what is declared contradict each other.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use crate::{Cluster, Reach, Source};

/// Less than this part of what is declared is a contradiction: protocols take a tenth, bad tuning another.
const SLOW: f64 = 0.7;
/// As much as is left of a link that trained at half of its width or speed, as parts of what is declared.
const HALF: std::ops::Range<f64> = 0.35..0.65;
/// So many times what is declared, the description is out of date.
const FAST: f64 = 1.3;
/// So many times better is better, and no noise.
const BETTER: f64 = 1.25;
/// So many times apart, pairs of devices are of two sorts.
const APART: f64 = 1.5;

/// What was measured between two ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The ranks.
    pub ranks: [u32; 2],
    /// The ports that were used, indices into [`Cluster::ports`]; none for each rank's nearest, and inside a host.
    pub ports: Option<[u32; 2]>,
    /// Bandwidth in one direction, GB/s; 0 when it was not measured.
    pub gb_per_s: f64,
    /// Latency of a small message in one direction, ns; 0 when it was not measured.
    pub latency_ns: f64,
}

/// What a contradiction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sort {
    /// A link carries half of what it should, with whomever: it trained at half of its width or speed.
    HalfWidth,
    /// A link carries much less than it should, with whomever.
    Slow,
    /// A link carries more than it should: the description is out of date.
    Fast,
    /// Two ports are slow with each other and not with others: it is the way between them.
    Way,
    /// Another port is nearer to a device than the one that the description says.
    WrongSocket,
    /// Devices that are described as equally near are not: a virtual machine hides its PCIe tree.
    HiddenTree,
}

/// A contradiction, in a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// What it is.
    pub sort: Sort,
    /// The hosts that it is about.
    pub hosts: Box<[u32]>,
    /// The sentence.
    pub text: String,
}

impl Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Compares what was measured with what a cluster declares, in an order that depends on nothing else. Figures that nobody
/// declared (source `default`) cannot be contradicted. Measurements of what the cluster has not are passed over.
pub fn contradictions(cluster: &Cluster, measured: &[Measured]) -> Vec<Contradiction> {
    let pairs = Pairs::of(cluster, measured);
    let mut found = pairs.ports();
    found.extend(pairs.ways());
    found.extend(pairs.sockets());
    found.extend(pairs.inside());
    found
}

/// The best figures of each pair.
#[derive(Clone, Copy, Debug, Default)]
struct Best {
    gb_per_s: f64,
    /// 0 when none was measured.
    latency_ns: f64,
}

impl Best {
    fn add(&mut self, one: &Measured) {
        self.gb_per_s = self.gb_per_s.max(one.gb_per_s);
        if one.latency_ns > 0.0 && (self.latency_ns == 0.0 || one.latency_ns < self.latency_ns) {
            self.latency_ns = one.latency_ns;
        }
    }
}

struct Pairs<'c> {
    cluster: &'c Cluster,
    /// By ports, between hosts.
    between: BTreeMap<[u32; 2], Best>,
    /// By rank and the port of its host that it used.
    through: BTreeMap<(u32, u32), Best>,
    /// By host and devices of it.
    inside: BTreeMap<(u32, [u32; 2]), Best>,
}

impl<'c> Pairs<'c> {
    fn of(cluster: &'c Cluster, measured: &[Measured]) -> Self {
        let mut pairs = Self {
            cluster,
            between: BTreeMap::new(),
            through: BTreeMap::new(),
            inside: BTreeMap::new(),
        };
        for one in measured {
            let [Some(a), Some(b)] = one.ranks.map(|rank| cluster.ranks.get(rank as usize)) else {
                continue;
            };
            if a.host == b.host {
                let devices = [a.device.min(b.device), a.device.max(b.device)];
                pairs.inside.entry((a.host, devices)).or_default().add(one);
                continue;
            }
            let ports = one.ports.map_or([a.port, b.port], |ports| ports.map(Some));
            let [Some(from), Some(to)] = ports else { continue };
            if from.max(to) as usize >= cluster.ports.len() {
                continue;
            }
            pairs.between.entry([from.min(to), from.max(to)]).or_default().add(one);
            for (rank, port) in one.ranks.into_iter().zip([from, to]) {
                pairs.through.entry((rank, port)).or_default().add(one);
            }
        }
        pairs
    }

    fn host(&self, host: u32) -> String {
        self.cluster.names.get(host as usize).cloned().unwrap_or_else(|| format!("host {host}"))
    }

    /// `port 3 of node7`
    fn port(&self, port: u32) -> String {
        let port = self.cluster.ports[port as usize];
        format!("port {} of {}", port.rail, self.host(port.host))
    }

    /// Per port the most that it carried with anybody.
    fn most(&self) -> BTreeMap<u32, f64> {
        let mut most: BTreeMap<u32, f64> = BTreeMap::new();
        for (ports, best) in &self.between {
            for port in ports {
                let most = most.entry(*port).or_default();
                *most = best.gb_per_s.max(*most);
            }
        }
        most
    }

    /// Ports that are slow, or fast, with whomever.
    fn ports(&self) -> Vec<Contradiction> {
        let mut found = Vec::new();
        for (port, most) in self.most().into_iter().filter(|(_, most)| *most > 0.0) {
            let declared = self.cluster.ports[port as usize];
            if declared.source == Source::Default {
                continue;
            }
            // A partner that is narrower limits what can be seen of a port.
            let partners = self.between.keys().filter(|ports| ports.contains(&port)).flatten();
            let widest = partners
                .filter(|other| **other != port)
                .map(|other| self.cluster.ports[*other as usize].gb_per_s);
            let expected = declared.gb_per_s.min(widest.fold(0.0, f64::max));
            let ratio = most / expected;
            let (sort, why) = match ratio {
                ratio if HALF.contains(&ratio) => {
                    (Sort::HalfWidth, "as a link does that trained at half of its width or speed")
                }
                ratio if ratio < SLOW => (Sort::Slow, "with whomever"),
                ratio if ratio > FAST => (Sort::Fast, "the description is out of date"),
                _ => continue,
            };
            let text = format!(
                "{} carries {} of the {} GB/s that are declared: {why}",
                self.port(port),
                short(most),
                short(expected)
            );
            found.push(Contradiction { sort, hosts: [declared.host].into(), text });
        }
        found
    }

    /// Pairs of ports that are slow with each other, while both are good with others.
    fn ways(&self) -> Vec<Contradiction> {
        let most = self.most();
        let slow = self.between.iter().filter(|([a, b], best)| {
            let [one, other] = [a, b].map(|port| self.cluster.ports[*port as usize]);
            let expected = one.gb_per_s.min(other.gb_per_s);
            let good = |port: &u32| most[port] >= SLOW * expected;
            let declared = one.source.min(other.source) > Source::Default;
            declared && best.gb_per_s > 0.0 && best.gb_per_s < SLOW * expected && good(a) && good(b)
        });
        slow.map(|([a, b], best)| {
            let hosts = [a, b].map(|port| self.cluster.ports[*port as usize].host);
            let text = format!(
                "between {} and {} go {} GB/s, while both carry more with others: it is the way between them{}",
                self.port(*a),
                self.port(*b),
                short(best.gb_per_s),
                self.groups(*a, *b)
            );
            Contradiction { sort: Sort::Way, hosts: hosts.into(), text }
        })
        .collect()
    }

    /// Names of the groups that two ports are in, where they differ.
    fn groups(&self, a: u32, b: u32) -> String {
        let Some(level) = self.cluster.levels.first() else { return String::new() };
        let [one, other] =
            [a, b].map(|port| &level.groups[self.cluster.ports[port as usize].group as usize].name);
        if one == other { format!(", on {one}") } else { format!(", from {one} to {other}") }
    }

    /// Ranks that another port serves better than the one that is declared to be nearest.
    fn sockets(&self) -> Vec<Contradiction> {
        let mut found = Vec::new();
        for (rank, site) in (0..).zip(&self.cluster.ranks) {
            let Some(near) = site.port else { continue };
            let Some(declared) = self.through.get(&(rank, near)) else { continue };
            let better = |best: &Best| {
                let faster = declared.gb_per_s > 0.0 && best.gb_per_s > BETTER * declared.gb_per_s;
                let sooner =
                    best.latency_ns > 0.0 && declared.latency_ns > BETTER * best.latency_ns;
                // Wider ports are faster from anywhere.
                faster || sooner && best.gb_per_s >= declared.gb_per_s / BETTER
            };
            let width = self.cluster.ports[near as usize].gb_per_s;
            let others =
                self.through.range((rank, 0)..=(rank, u32::MAX)).filter(|((_, port), _)| {
                    let port = self.cluster.ports[*port as usize];
                    port.host == site.host && port.gb_per_s <= width * SLOW.recip().min(BETTER)
                });
            let best = others
                .filter(|((_, port), best)| *port != near && better(best))
                .max_by(|(_, a), (_, b)| a.gb_per_s.total_cmp(&b.gb_per_s));
            let Some(((_, port), best)) = best else { continue };
            let text = format!(
                "device {} of {} is better served by {} ({}) than by {} ({}), which is declared to be nearest: the adapter \
                 is on another socket than the description says",
                site.device,
                self.host(site.host),
                self.port(*port),
                figures(best),
                self.port(near),
                figures(declared)
            );
            found.push(Contradiction { sort: Sort::WrongSocket, hosts: [site.host].into(), text });
        }
        found
    }

    /// What does not fit inside of hosts.
    fn inside(&self) -> Vec<Contradiction> {
        let mut by_host: BTreeMap<u32, Vec<([u32; 2], Best)>> = BTreeMap::new();
        for ((host, devices), best) in &self.inside {
            by_host.entry(*host).or_default().push((*devices, *best));
        }
        let mut found = Vec::new();
        for (host, pairs) in by_host {
            match self.hidden(host, &pairs) {
                Some(hidden) => found.push(hidden),
                None => found.extend(pairs.iter().filter_map(|pair| self.slow_inside(host, pair))),
            }
        }
        found
    }

    fn slow_inside(&self, host: u32, (devices, best): &([u32; 2], Best)) -> Option<Contradiction> {
        let reach = self.reach(host, *devices);
        let ratio = best.gb_per_s / reach.gb_per_s;
        if devices[0] == devices[1] || reach.source == Source::Default || best.gb_per_s == 0.0 {
            return None;
        }
        let (sort, why) = match ratio {
            ratio if HALF.contains(&ratio) => {
                (Sort::HalfWidth, ", as over a link at half of its width or speed")
            }
            ratio if ratio < SLOW => (Sort::Slow, ""),
            ratio if ratio > FAST => (Sort::Fast, ": the description is out of date"),
            _ => return None,
        };
        let text = format!(
            "between devices {} and {} of {} go {} GB/s where {} are declared ({}){why}",
            devices[0],
            devices[1],
            self.host(host),
            short(best.gb_per_s),
            short(reach.gb_per_s),
            reach.path
        );
        Some(Contradiction { sort, hosts: [host].into(), text })
    }

    fn reach(&self, host: u32, [a, b]: [u32; 2]) -> &Reach {
        self.cluster.kind(host).reach(a, b)
    }

    /// A host whose devices are described as equally near, and are of two sorts by what was measured.
    fn hidden(&self, host: u32, pairs: &[([u32; 2], Best)]) -> Option<Contradiction> {
        let pairs: Vec<&([u32; 2], Best)> = pairs.iter().filter(|([a, b], _)| a != b).collect();
        let first = self.reach(host, pairs.first()?.0);
        let alike = |reach: &Reach| (reach.path, reach.gb_per_s) == (first.path, first.gb_per_s);
        if pairs.len() < 3 || !pairs.iter().all(|(devices, _)| alike(self.reach(host, *devices))) {
            return None;
        }
        // Nearness grows with bandwidth and falls with latency, whichever tells the pairs better apart.
        let bandwidth: Vec<f64> = pairs.iter().map(|(_, best)| best.gb_per_s).collect();
        let nearness: Vec<f64> = pairs.iter().map(|(_, best)| best.latency_ns.recip()).collect();
        let [(spread, values), other] =
            [bandwidth, nearness].map(|values| (spread(&values), values));
        let (spread, values) = if other.0 > spread { other } else { (spread, values) };
        if spread < APART {
            return None;
        }
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let near = pairs.iter().zip(&values).filter(|(_, value)| **value > least * spread.sqrt());
        let groups =
            groups(self.cluster.kind(host).devices, near.map(|((devices, _), _)| *devices));
        let text = format!(
            "{} describes its devices as equally near ({}), but they are in groups: {}; a virtual machine may hide the PCIe \
             tree",
            self.host(host),
            first.path,
            groups.join(", ")
        );
        Some(Contradiction { sort: Sort::HiddenTree, hosts: [host].into(), text })
    }
}

/// The largest over the smallest; 1 where one was not measured.
fn spread(values: &[f64]) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    if least > 0.0 && most.is_finite() { most / least } else { 1.0 }
}

/// Devices that are joined by near pairs: `0 1 2 3`.
fn groups(devices: u32, near: impl Iterator<Item = [u32; 2]>) -> Vec<String> {
    let mut group_of: Vec<u32> = (0..devices).collect();
    for [a, b] in near {
        let (one, other) = (group_of[a as usize], group_of[b as usize]);
        for group in group_of.iter_mut().filter(|group| **group == one.max(other)) {
            *group = one.min(other);
        }
    }
    let mut groups: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (device, group) in group_of.iter().enumerate() {
        groups.entry(*group).or_default().push(device.to_string());
    }
    groups.into_values().map(|devices| devices.join(" ")).collect()
}

fn figures(best: &Best) -> String {
    let bandwidth = (best.gb_per_s > 0.0).then(|| format!("{} GB/s", short(best.gb_per_s)));
    let latency = (best.latency_ns > 0.0).then(|| format!("{} us", short(best.latency_ns / 1e3)));
    bandwidth.into_iter().chain(latency).collect::<Vec<_>>().join(", ")
}

/// Two digits after the point, at most.
fn short(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
