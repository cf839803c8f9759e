//! What no algorithm can beat on a network: how long news take to reach everybody, and how long the bytes that must cross
//! a cut take to cross it. No plan is looked at.
//!
//! Latency: a rank that knows something can tell another every `o` seconds, who knows it `L + 2 o` later (Karp et al.,
//! Optimal broadcast and summation in the LogP model, 1993). In every collective all must hear of one, or one of all.
//!
//! Cuts: what a set of ranks must send or get, over what it can (for all-gather and reduce-scatter the bound that
//! ForestColl attains, Zhao et al., 2024). The sets are those of the tree: ranks, hosts, groups of each level. Where hosts
//! reach pools of memory, their adapters are ways out too; the pools' devices are no cut.
//! All-reduce also must move each byte 2 (P - 1) times between P such sets, to all that they can get together (Patarasuk
//! and Yuan, 2009).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dure_plan::{Collective, Rank};

use crate::constants::Wire;
use crate::cost::Cost;
use crate::network::Network;

/// A lower bound of the time of a collective.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// The larger of the two, seconds.
    pub seconds: f64,
    /// How long news take, seconds.
    pub latency: f64,
    /// How long the bytes take to cross the narrowest cut, seconds.
    pub cut: f64,
    /// The narrowest cut, for people: `what a rank receives`, `what leaves a group of level 0`.
    pub narrowest: &'static str,
}

impl Cost {
    /// How much of the time no algorithm could avoid: between 0 and 1.
    pub fn fraction_of(&self, bound: &Bound) -> f64 {
        if self.seconds > 0.0 { bound.seconds / self.seconds } else { 1.0 }
    }
}

/// The bound of a collective on `bytes` bytes of the whole vector, as nccl-tests counts it.
pub fn bound(what: Collective, bytes: u64, network: &Network) -> Bound {
    let (mut cut, mut narrowest) = (0.0, "none");
    let need = Need { what, ranks: f64::from(network.ranks()), bytes: bytes as f64 };
    for (names, sets) in partitions(network, what.root()) {
        let crossing = need.crossing(&sets);
        for (seconds, name) in crossing.into_iter().zip(names) {
            if seconds > cut {
                (cut, narrowest) = (seconds, name);
            }
        }
    }
    let latency = latency(network);
    Bound { seconds: cut.max(latency), latency, cut, narrowest }
}

/// Ranks that a cut leaves together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Set {
    ranks: f64,
    has_root: bool,
    /// What can leave and enter them, bytes a second.
    out: f64,
    into: f64,
}

/// What a collective must move.
struct Need {
    what: Collective,
    ranks: f64,
    bytes: f64,
}

impl Need {
    /// Bytes that must leave and enter a set.
    fn of(&self, set: &Set) -> (f64, f64) {
        let (others, block) = (self.ranks - set.ranks, self.bytes / self.ranks);
        let all = if others > 0.0 { self.bytes } else { 0.0 };
        let own = if others > 0.0 { block * set.ranks } else { 0.0 };
        let from_root =
            |root: f64, other: f64| if set.has_root { (root, 0.0) } else { (0.0, other) };
        let swapped = |(a, b): (f64, f64)| (b, a);
        match self.what {
            Collective::AllReduce => (all, all),
            Collective::AllGather => (own, block * others),
            Collective::ReduceScatter => (block * others, own),
            Collective::AllToAll => (set.ranks * others * block, set.ranks * others * block),
            Collective::Broadcast { .. } => from_root(all, all),
            Collective::Reduce { .. } => swapped(from_root(all, all)),
            Collective::Scatter { .. } => from_root(block * others, own),
            Collective::Gather { .. } => swapped(from_root(block * others, own)),
            Collective::Barrier => (0.0, 0.0),
        }
    }

    /// Seconds that the sets of a partition need: to send, to get, and all together to get what goes more than once.
    fn crossing(&self, sets: &[Set]) -> [f64; 3] {
        let mut longest = [0.0_f64; 3];
        for set in sets {
            let (leaves, enters) = self.of(set);
            longest[0] = longest[0].max(over(leaves, set.out));
            longest[1] = longest[1].max(over(enters, set.into));
        }
        let times = match self.what {
            Collective::AllReduce => 2.0,
            Collective::Broadcast { .. } | Collective::Reduce { .. } => 1.0,
            _ => 0.0,
        };
        let moved = times * (sets.len() as f64 - 1.0) * self.bytes;
        longest[2] = over(moved, sets.iter().map(|set| set.into).sum());
        longest
    }
}

/// Nothing takes no time, over whatever.
fn over(bytes: f64, rate: f64) -> f64 {
    if bytes > 0.0 { bytes / rate } else { 0.0 }
}

type Names = [&'static str; 3];

const RANKS: Names = ["what a rank sends", "what a rank receives", "what all ranks receive"];
const HOSTS: Names =
    ["what leaves a host by its ports", "what enters a host by its ports", "what enters all hosts"];
const LEVELS: [Names; 4] = [
    [
        "what leaves a group of level 0",
        "what enters a group of level 0",
        "what enters all groups of level 0",
    ],
    [
        "what leaves a group of level 1",
        "what enters a group of level 1",
        "what enters all groups of level 1",
    ],
    [
        "what leaves a group of level 2",
        "what enters a group of level 2",
        "what enters all groups of level 2",
    ],
    ["what leaves a higher group", "what enters a higher group", "what enters all higher groups"],
];

/// The partitions of the ranks into single ones, hosts, and groups of each level, and what each part can send and get.
fn partitions(network: &Network, root: Option<Rank>) -> Vec<(Names, Vec<Set>)> {
    let ranks = || (0..network.ranks()).map(Rank);
    let ends = network.ends(root);
    let mut all = vec![(RANKS, ranks().map(|rank| ends.rank(rank)).collect())];
    let hosts = network.hosts() as usize;
    all.push((HOSTS, ends.grouped(hosts, |rank| Some(network.host(rank)), |_| None)));
    for level in 0..network.levels() {
        let groups = network.groups(level);
        let up = |group: usize| Some(network.up(level, group));
        let sets = ends.grouped(groups, |rank| network.group_of(rank, level), up);
        all.push((LEVELS[level.min(LEVELS.len() - 1)], sets));
    }
    all
}

/// What ranks can send and receive, bytes a second.
struct Ends<'n> {
    network: &'n Network,
    root: Option<Rank>,
    /// Ranks of each host.
    on: Vec<u32>,
}

impl Network {
    fn ends(&self, root: Option<Rank>) -> Ends<'_> {
        let mut on = vec![0; self.hosts() as usize];
        for rank in 0..self.ranks() {
            on[self.host(Rank(rank)) as usize] += 1;
        }
        Ends { network: self, root, on }
    }
}

impl Ends<'_> {
    /// Inside its host; out and in.
    fn inside(&self, rank: Rank) -> (f64, f64) {
        let alone = self.on[self.network.host(rank) as usize] == 1;
        if alone { (0.0, 0.0) } else { self.network.inside_rates(rank) }
    }

    fn rank(&self, rank: Rank) -> Set {
        let (out, into) = self.inside(rank);
        // The rank's core also has to handle the bytes.
        let core = 1.0 / self.network.constants().between.cpu_per_byte;
        let port = if self.on.len() > 1 { self.port_rate(rank).min(core) } else { 0.0 };
        let (write, read) = self.network.adapter_rates(rank);
        Set {
            ranks: 1.0,
            has_root: self.root == Some(rank),
            out: out + port + write,
            into: into + port + read,
        }
    }

    /// The port of a rank, bytes a second; nothing where no message goes that way.
    fn port_rate(&self, rank: Rank) -> f64 {
        if self.network.pools().join_all() { 0.0 } else { self.network.port_rate(rank) }
    }

    /// The ranks by group. A group's links up are its `up`, and otherwise the ports of its ranks; ranks whose host is not
    /// all in the group also reach the rest of it inside the host.
    fn grouped(
        &self,
        groups: usize,
        group_of: impl Fn(Rank) -> Option<u32>,
        up: impl Fn(usize) -> Option<f64>,
    ) -> Vec<Set> {
        let mut sets = vec![Set::default(); groups];
        // Per host, the group of its first rank; ranks that have a port in common count it once.
        let mut group_of_host = vec![None; self.on.len()];
        let mut split = vec![false; self.on.len()];
        let mut counted = vec![false; self.network.port_count()];
        // Per host, the group that its adapter to pools was counted in last.
        let mut adapter_in = vec![None; self.on.len()];
        let ranks = || (0..self.network.ranks()).map(Rank);
        for rank in ranks() {
            let host = self.network.host(rank) as usize;
            let first = *group_of_host[host].get_or_insert_with(|| group_of(rank));
            split[host] |= first != group_of(rank);
        }
        for rank in ranks() {
            let Some(group) = group_of(rank) else { continue };
            let set = &mut sets[group as usize];
            set.ranks += 1.0;
            set.has_root |= self.root == Some(rank);
            if split[self.network.host(rank) as usize] {
                let (out, into) = self.inside(rank);
                set.out += out;
                set.into += into;
            }
            let fresh = self
                .network
                .port(rank)
                .is_none_or(|port| !std::mem::replace(&mut counted[port as usize], true));
            if fresh && up(group as usize).is_none() {
                set.out += self.port_rate(rank);
                set.into += self.port_rate(rank);
            }
            let host = self.network.host(rank) as usize;
            if adapter_in[host].replace(group) != Some(group) {
                let (write, read) = self.network.adapter_rates(rank);
                set.out += write;
                set.into += read;
            }
        }
        for (group, set) in sets.iter_mut().enumerate() {
            if let Some(up) = up(group).filter(|_| !self.network.pools().join_all()) {
                set.out += up;
                set.into += up;
            }
        }
        sets.retain(|set| set.ranks > 0.0);
        sets
    }
}

/// How long news take to reach everybody: inside one large host, and between hosts of which all ranks hear at once.
fn latency(network: &Network) -> f64 {
    let ends = network.ends(None);
    let most = ends.on.iter().copied().max().unwrap_or(1);
    let hosts = network.hosts();
    let costs = network.compute(Rank(0));
    let between = network.least_between();
    let wires: Vec<Wire> = [(most > 1, *network.inside_wire(Rank(0))), (hosts > 1, between)]
        .into_iter()
        .filter_map(|(there, wire)| there.then_some(wire))
        .collect();
    let every = |wire: &Wire| wire.overhead + costs.step;
    let takes = |wire: &Wire| 2.0 * every(wire) + wire.latency;
    let least = |of: &dyn Fn(&Wire) -> f64| wires.iter().map(of).fold(f64::INFINITY, f64::min);
    if wires.is_empty() {
        return costs.call;
    }
    let all = spread(network.ranks(), least(&every), least(&takes));
    let across = spread(hosts, every(&between) / f64::from(most), takes(&between));
    costs.call + all.max(if hosts > 1 { across } else { 0.0 })
}

/// When the last of `members` knows, if whoever knows tells another each `every` seconds, who knows `takes` later.
fn spread(members: u32, every: f64, takes: f64) -> f64 {
    if members <= 1 {
        return 0.0;
    }
    if every <= 0.0 {
        return takes;
    }
    // When each who knows is heard by the next one; times are never negative, so their bits are in their order.
    let mut next = BinaryHeap::from([Reverse(takes.to_bits())]);
    let mut last = 0.0;
    for _ in 1..members {
        let Some(Reverse(heard)) = next.pop() else { break };
        last = f64::from_bits(heard);
        next.push(Reverse((last + every).to_bits()));
        next.push(Reverse((last + takes).to_bits()));
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_double_when_nobody_can_tell_two_at_a_time() {
        assert_eq!(spread(8, 3.0, 3.0), 9.0);
        assert_eq!(spread(9, 3.0, 3.0), 12.0);
        // One can tell three others before the first of them has heard it.
        assert_eq!(spread(4, 1.0, 3.0), 5.0);
        assert_eq!(spread(1000, 0.0, 3.0), 3.0);
    }
}
