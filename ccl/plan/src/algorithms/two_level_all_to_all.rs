//! All-to-all on two levels: one message for each ordered pair of hosts, instead of one for each pair of ranks.
//!
//! For every other host, one rank of a host is the *agent*: it collects what the ranks of its host have for that host,
//! exchanges it with the agent over there, and deals out what came. The agents move on with host and lane, so that the
//! work is shared. Every block is copied a few times more than in a pairwise exchange: this is for small blocks.
//!
//! Träff and Rougier, MPI collectives and datatypes for hierarchical all-to-all communication, 2014.

use std::collections::HashMap;

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, only, recv, send, written};
use crate::algorithms::hosts::Hosts;
use crate::step::{Buf, Chunks, Rank, Step, input, output, scratch};

/// `two-level`: all-to-all.
#[derive(Debug)]
pub(super) struct TwoLevelAllToAll;

impl Algorithm for TwoLevelAllToAll {
    fn name(&self) -> &str {
        "two-level"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, what == Collective::AllToAll)
    }

    fn ragged(&self, _: Collective) -> bool {
        false
    }

    fn shape(&self, _: Collective, world: &World) -> Shape {
        let hosts = Hosts::new(world, 0);
        let sizes: Vec<u32> = (0..hosts.count()).map(|host| hosts.size(host)).collect();
        // What is packed and what is unpacked, and at an agent three times what it exchanges with each of its hosts.
        let most = most_exchanged(&sizes);
        let run = largest_pair(&sizes);
        Shape { parts: 1, scratch: 2 * world.ranks + 3 * most, run }
    }

    fn steps<'w>(
        &'w self,
        what: Collective,
        world: &'w World,
        Rank(me): Rank,
        lane: u16,
    ) -> Steps<'w> {
        if world.ranks == 1 {
            return alone(what, 1);
        }
        let mut exchange = Exchange {
            hosts: Hosts::new(world, me),
            lane: lane.into(),
            free: 0,
            steps: vec![copy(input(me, 1), output(me, 1))],
        };
        let collected = exchange.collect();
        exchange.send_across(&collected);
        exchange.inside();
        let arrived = exchange.receive_across();
        exchange.deal(&arrived);
        written(exchange.steps)
    }
}

/// All hosts but one, in turn, beginning with the next.
fn others(count: u32, host: u32) -> impl Iterator<Item = u32> {
    (1..count).map(move |s| (host + s) % count)
}

/// Most blocks that two hosts have for each other.
fn largest_pair(sizes: &[u32]) -> u32 {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    if let [first, second, ..] = sorted[..] { first * second } else { 1 }
}

/// Most blocks that one agent exchanges. Agent `a` of a host of `size` ranks serves every `size`-th host, beginning
/// with the `a`-th after its own: sums over every `size`-th host are made once for all hosts of that size, so that the
/// work does not grow with the square of the hosts.
fn most_exchanged(sizes: &[u32]) -> u32 {
    let count = sizes.len();
    let at = |place: usize| sizes[place % count];
    let mut sums: HashMap<usize, Vec<u32>> = HashMap::new();
    let exchanged = |(host, &size): (usize, &u32)| {
        let stride = size as usize;
        let sums = sums.entry(stride).or_insert_with(|| {
            let mut sums: Vec<u32> = Vec::with_capacity(2 * count);
            for place in 0..2 * count {
                let before = place.checked_sub(stride).map_or(0, |before| sums[before]);
                sums.push(before + at(place));
            }
            sums
        });
        let served = (0..stride.min(count - 1)).map(|agent| {
            let first = host + 1 + agent;
            let last = first + (count - 2 - agent) / stride * stride;
            sums[last] - first.checked_sub(stride).map_or(0, |before| sums[before])
        });
        size * served.max().unwrap_or(0)
    };
    sizes.iter().enumerate().map(exchanged).max().unwrap_or(0)
}

struct Exchange {
    hosts: Hosts,
    lane: u32,
    /// Scratch chunks in use.
    free: u32,
    steps: Vec<Step>,
}

impl Exchange {
    fn take(&mut self, len: u32) -> Chunks {
        self.free += len;
        scratch(self.free - len, len)
    }

    /// As [`Hosts::locals`], kept apart from what is taken and written on the way.
    fn locals(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        self.hosts.locals().collect::<Vec<_>>().into_iter()
    }

    /// The agent of `host` for `other`: in turn, beginning with the next host.
    fn agent(&self, host: u32, other: u32) -> u32 {
        let count = self.hosts.count();
        ((other + count - host - 1) % count + self.lane) % self.hosts.size(host)
    }

    /// The hosts for which number `local` of this host is the agent, in turn.
    fn served_by(&self, local: u32) -> Vec<u32> {
        let mine = self.hosts.mine;
        others(self.hosts.count(), mine).filter(|&host| self.agent(mine, host) == local).collect()
    }

    /// Number `message` of the hosts that number `local` of this host serves.
    fn served(&self, local: u32, message: u32) -> Option<u32> {
        self.served_by(local).get(message as usize).copied()
    }

    /// Most hosts that one rank of this host serves.
    fn most_served(&self) -> u32 {
        (self.hosts.count() - 1).div_ceil(self.hosts.my_size())
    }

    /// The blocks of the ranks of a host, if they follow one another.
    fn run(&self, host: u32, buf: Buf) -> Option<Chunks> {
        let (first, len) = (self.hosts.rank(host, 0), self.hosts.size(host));
        let last = self.hosts.rank(host, len - 1);
        (last - first + 1 == len).then_some(Chunks { buf, first, len })
    }

    /// Copies the blocks for the ranks of a host into a run.
    fn pack(&mut self, host: u32, to: Chunks) {
        if let Some(run) = self.run(host, Buf::Input) {
            self.steps.push(copy(run, to));
            return;
        }
        let blocks = (to.first..).zip(self.hosts.on(host));
        self.steps.extend(
            blocks.map(|(at, &rank)| copy(input(rank, 1), Chunks { first: at, len: 1, ..to })),
        );
    }

    /// Each agent gets the blocks for its hosts: for each host rows by the rank they come from, of columns by the rank
    /// they go to.
    fn collect(&mut self) -> Vec<(u32, Chunks)> {
        let size = self.hosts.my_size();
        let mut tables = Vec::new();
        for host in self.served_by(self.hosts.local) {
            let table = self.take(size * self.hosts.size(host));
            self.pack(host, row(table, size, self.hosts.local));
            tables.push((host, table));
        }
        for message in 0..self.most_served() {
            for to in self.locals().map(|(to, _)| to) {
                let Some(host) = self.served(to, message) else { continue };
                let src = self.run(host, Buf::Input).unwrap_or_else(|| {
                    let packed = self.take(self.hosts.size(host));
                    self.pack(host, packed);
                    packed
                });
                self.steps.push(send(self.hosts.neighbour(to), src));
            }
            let Some(&(_, table)) = tables.get(message as usize) else { continue };
            for (_, from) in self.locals() {
                self.steps.push(recv(self.hosts.neighbour(from), row(table, size, from)));
            }
        }
        tables
    }

    fn send_across(&mut self, collected: &[(u32, Chunks)]) {
        for &(host, table) in collected {
            let agent = self.hosts.rank(host, self.agent(host, self.hosts.mine));
            self.steps.push(send(agent, table));
        }
    }

    /// Blocks for ranks of the same host go there directly, while those for others are under way.
    fn inside(&mut self) {
        for to in self.locals().map(|(to, _)| self.hosts.neighbour(to)) {
            self.steps.push(send(to, input(to, 1)));
        }
        for from in self.locals().map(|(_, from)| self.hosts.neighbour(from)) {
            self.steps.push(recv(from, output(from, 1)));
        }
    }

    /// The tables of other hosts arrive, and are turned so that a row is for one rank of this host.
    fn receive_across(&mut self) -> Vec<(u32, Chunks)> {
        let size = self.hosts.my_size();
        let mut turned = Vec::new();
        for host in self.served_by(self.hosts.local) {
            let rows = self.hosts.size(host);
            let (table, to) = (self.take(rows * size), self.take(rows * size));
            let agent = self.hosts.rank(host, self.agent(host, self.hosts.mine));
            self.steps.push(recv(agent, table));
            for column in (0..size).filter(|&column| column != self.hosts.local) {
                let chunk = |at: u32| {
                    (row(table, rows, at).first + column, row(to, size, column).first + at)
                };
                let copies =
                    (0..rows).map(chunk).map(|(from, to)| copy(scratch(from, 1), scratch(to, 1)));
                self.steps.extend(copies);
            }
            for (at, &rank) in (0..).zip(self.hosts.on(host)) {
                let own = row(table, rows, at).first + self.hosts.local;
                self.steps.push(copy(scratch(own, 1), output(rank, 1)));
            }
            turned.push((host, to));
        }
        turned
    }

    /// Each agent gives the other ranks of its host what came for them.
    fn deal(&mut self, arrived: &[(u32, Chunks)]) {
        let size = self.hosts.my_size();
        for message in 0..self.most_served() {
            if let Some(&(_, table)) = arrived.get(message as usize) {
                for to in self.locals().map(|(to, _)| to) {
                    self.steps.push(send(self.hosts.neighbour(to), row(table, size, to)));
                }
            }
            for from in self.locals().map(|(_, from)| from) {
                let Some(host) = self.served(from, message) else { continue };
                self.unpack(self.hosts.neighbour(from), host);
            }
        }
    }

    /// Receives the blocks of the ranks of a host from an agent.
    fn unpack(&mut self, agent: u32, host: u32) {
        if let Some(run) = self.run(host, Buf::Output) {
            self.steps.push(recv(agent, run));
            return;
        }
        let packed = self.take(self.hosts.size(host));
        self.steps.push(recv(agent, packed));
        let blocks = (packed.first..).zip(self.hosts.on(host));
        self.steps.extend(blocks.map(|(at, &rank)| copy(scratch(at, 1), output(rank, 1))));
    }
}

/// Row `at` of a table of `rows` rows.
fn row(table: Chunks, rows: u32, at: u32) -> Chunks {
    let len = table.len / rows;
    Chunks { first: table.first + at * len, len, ..table }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_over_strides_are_those_over_hosts(sizes in proptest::collection::vec(1..7_u32, 1..20)) {
            let count = u32::try_from(sizes.len()).unwrap();
            let size = |host: u32| sizes[host as usize];
            let exchanged = |host: u32, agent: u32| -> u32 {
                let served = others(count, host).skip(agent as usize).step_by(size(host) as usize);
                served.map(|other| size(host) * size(other)).sum()
            };
            let agents = (0..count).flat_map(|host| (0..size(host)).map(move |agent| (host, agent)));
            let most = agents.map(|(host, agent)| exchanged(host, agent)).max().unwrap();
            prop_assert_eq!(most_exchanged(&sizes), most);
            let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
            let largest = pairs.filter(|(a, b)| a != b).map(|(a, b)| size(a) * size(b)).max();
            prop_assert_eq!(largest_pair(&sizes), largest.unwrap_or(1));
        }
    }
}
