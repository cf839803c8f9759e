//! Two levels: first inside the hosts, then across them, then inside again, so that each byte crosses to another host
//! as rarely as can be. The work across hosts is shared by all ranks of a host: each leads some parts or carries some
//! blocks. Hosts may have different numbers of ranks; with one host, or one rank a host, one of the levels is empty.
//!
//! Karonis et al., Exploiting hierarchy in parallel computer networks to optimize collective operation performance,
//! 2000; the sharing is that of NCCL's rings, one a NIC.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::binomial::{self, Node};
use crate::algorithms::build::{alone, copy, only, pieces, recv, recv_reduce, send, written};
use crate::algorithms::hosts::Hosts;
use crate::algorithms::{doubling, ring, tree};
use crate::step::{Buf, Chunks, Rank, Step, input, output, scratch};

/// All-reduce on two levels: `two-level-ring`, `two-level-tree`, `two-level-doubling`, by what runs across hosts.
#[derive(Debug)]
pub(super) struct TwoLevelAllReduce(pub(super) Across);

/// What runs across hosts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Across {
    Ring,
    Tree,
    Doubling,
}

/// `two-level`: reduce-scatter, all-gather, broadcast, reduce.
#[derive(Debug)]
pub(super) struct TwoLevel;

/// Parts of a group of parts that goes over the trees across hosts.
const TREE_PARTS: u32 = 4;

/// Most chunks of a message inside a host. The whole group at once would be the fewest messages, but as a pass is cut
/// so that the longest message fits a slot, it would make those across hosts short.
const LOCAL_RUN: u32 = 4;

impl Across {
    /// Parts of a group: what one leader of each host works on.
    fn parts(self, hosts: u32) -> u32 {
        match self {
            Self::Ring => hosts,
            Self::Tree => TREE_PARTS,
            Self::Doubling => 1,
        }
    }
}

impl Algorithm for TwoLevelAllReduce {
    fn name(&self) -> &str {
        match self.0 {
            Across::Ring => "two-level-ring",
            Across::Tree => "two-level-tree",
            Across::Doubling => "two-level-doubling",
        }
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, what == Collective::AllReduce)
    }

    fn ragged(&self, _: Collective) -> bool {
        false
    }

    fn shape(&self, _: Collective, world: &World) -> Shape {
        let hosts = &world.host_of;
        let parts = self.0.parts(hosts.count());
        Shape { parts: hosts.widest() * parts, scratch: 0, run: parts.min(LOCAL_RUN) }
    }

    fn steps<'w>(&'w self, what: Collective, world: &'w World, me: Rank, lane: u16) -> Steps<'w> {
        let shape = self.shape(what, world);
        if world.ranks == 1 {
            return alone(what, shape.parts);
        }
        let hosts = Hosts::new(world, me.0);
        let groups = Groups {
            parts: self.0.parts(hosts.count()),
            count: world.host_of.widest(),
            shape,
            lane: lane.into(),
            hosts,
        };
        let mut steps = Vec::new();
        groups.reduce_inside(&mut steps);
        if groups.hosts.count() > 1 {
            groups
                .led_by(groups.hosts.local)
                .for_each(|group| groups.across(&mut steps, self.0, group));
        }
        groups.gather_inside(&mut steps);
        written(steps)
    }
}

/// The parts of an all-reduce in as many groups as the largest host has ranks. Each group has one leader on each host,
/// which moves on by one rank with each group and each lane.
struct Groups {
    hosts: Hosts,
    /// Groups.
    count: u32,
    /// Parts of a group.
    parts: u32,
    shape: Shape,
    lane: u32,
}

impl Groups {
    /// The groups that number `local` of this host leads.
    fn led_by(&self, local: u32) -> impl Iterator<Item = u32> {
        let size = self.hosts.my_size();
        (0..self.count).filter(move |group| (group + self.lane) % size == local)
    }

    /// Most groups that one rank of this host leads.
    fn most_led(&self) -> u32 {
        self.count.div_ceil(self.hosts.my_size())
    }

    /// Groups go inside the host in several messages: for each of the groups that one rank leads, and each piece of a
    /// group, the number of the former and the parts of the latter.
    fn messages(&self) -> impl Iterator<Item = (u32, Chunks)> {
        let group = output(0, self.parts);
        (0..self.most_led()).flat_map(move |message| {
            pieces(group, self.shape.run).map(move |piece| (message, piece))
        })
    }

    /// A piece of a group that number `local` of this host leads.
    fn piece(&self, local: u32, message: u32, piece: Chunks, buf: Buf) -> Option<Chunks> {
        let group = self.led_by(local).nth(message as usize)?;
        Some(Chunks { buf, first: group * self.parts + piece.first, ..piece })
    }

    /// Each group goes to its leader on this host.
    fn reduce_inside(&self, steps: &mut Vec<Step>) {
        for (message, piece) in self.messages() {
            for (to, _) in self.hosts.locals() {
                let give = self.piece(to, message, piece, Buf::Input);
                steps.extend(give.map(|src| send(self.hosts.neighbour(to), src)));
            }
            let Some(sum) = self.piece(self.hosts.local, message, piece, Buf::Output) else {
                continue;
            };
            let mut so_far = Chunks { buf: Buf::Input, ..sum };
            for (_, from) in self.hosts.locals() {
                steps.push(recv_reduce(self.hosts.neighbour(from), so_far, sum));
                so_far = sum;
            }
        }
    }

    /// The leaders of a group reduce it among themselves.
    fn across(&self, steps: &mut Vec<Step>, by: Across, group: u32) {
        let (n, me) = (self.hosts.count(), self.hosts.mine);
        let rank_of = |host| self.hosts.rank(host, group + self.lane);
        let own = if self.hosts.my_size() == 1 { Buf::Input } else { Buf::Output };
        let first = group * self.parts;
        match by {
            Across::Ring => {
                steps.extend(ring::all_reduce(ring::Place::new(n, me, rank_of), first, own))
            }
            Across::Tree => {
                let trees = tree::Trees::new(n, (group + self.lane) % n, rank_of, me);
                let chunks = first..first + self.parts;
                trees.run(
                    steps,
                    &tree::Job { chunks, way: tree::Way::Both, own, data: Buf::Output },
                );
            }
            Across::Doubling => {
                let own = Chunks { buf: own, first, len: 1 };
                doubling::all_reduce(steps, (n, me), rank_of, own, output(first, 1));
            }
        }
    }

    /// The leaders tell the other ranks of this host.
    fn gather_inside(&self, steps: &mut Vec<Step>) {
        for (message, piece) in self.messages() {
            if let Some(sum) = self.piece(self.hosts.local, message, piece, Buf::Output) {
                steps
                    .extend(self.hosts.locals().map(|(to, _)| send(self.hosts.neighbour(to), sum)));
            }
            for (_, from) in self.hosts.locals() {
                let take = self.piece(from, message, piece, Buf::Output);
                steps.extend(take.map(|dst| recv(self.hosts.neighbour(from), dst)));
            }
        }
    }
}

impl Algorithm for TwoLevel {
    fn name(&self) -> &str {
        "two-level"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        use Collective::{AllGather, Broadcast, Reduce, ReduceScatter};
        only(
            self,
            what,
            matches!(what, AllGather | Broadcast { .. } | Reduce { .. } | ReduceScatter),
        )
    }

    fn ragged(&self, what: Collective) -> bool {
        what == Collective::AllGather
    }

    fn shape(&self, what: Collective, world: &World) -> Shape {
        let scratch = match what {
            Collective::ReduceScatter => world.ranks,
            Collective::Reduce { .. } => 1,
            _ => 0,
        };
        Shape { parts: 1, scratch, run: 1 }
    }

    fn steps<'w>(&'w self, what: Collective, world: &'w World, me: Rank, lane: u16) -> Steps<'w> {
        if world.ranks == 1 {
            return alone(what, 1);
        }
        let hosts = Hosts::new(world, me.0);
        let mut steps = Vec::new();
        match what {
            Collective::ReduceScatter => reduce_scatter(&mut steps, &hosts, me.0),
            Collective::AllGather => all_gather(&mut steps, &hosts, me.0),
            Collective::Broadcast { root } => {
                broadcast(&mut steps, &Leaders::new(world, root.0, hosts, lane))
            }
            other => {
                let root = other.root().expect("of these only reduce is left").0;
                reduce(&mut steps, &Leaders::new(world, root, hosts, lane));
            }
        }
        written(steps)
    }
}

/// The blocks that number `local` of this host carries: those of the ranks with the same number on other hosts, counted
/// modulo the size of this one, and at last its own.
fn carried(hosts: &Hosts, local: u32) -> Vec<u32> {
    let size = hosts.my_size();
    let number = |host| {
        (local..hosts.size(host)).step_by(size as usize).map(move |index| hosts.rank(host, index))
    };
    let mut blocks: Vec<u32> = hosts.others().flat_map(|(host, _)| number(host)).collect();
    blocks.push(hosts.neighbour(local));
    blocks
}

fn all_carried(hosts: &Hosts) -> (Vec<Vec<u32>>, u32) {
    let lists: Vec<Vec<u32>> = (0..hosts.my_size()).map(|local| carried(hosts, local)).collect();
    let most = lists.iter().map(Vec::len).max().unwrap_or(0);
    (lists, u32::try_from(most).expect("there are no more blocks than ranks"))
}

/// The ranks of a host whose blocks this rank carries.
fn owners(hosts: &Hosts, host: u32) -> impl Iterator<Item = u32> {
    hosts.on(host).iter().copied().skip(hosts.local as usize).step_by(hosts.my_size() as usize)
}

/// Each block is reduced at its carrier on each host; its owner adds these sums up.
fn reduce_scatter(steps: &mut Vec<Step>, hosts: &Hosts, me: u32) {
    let (lists, most) = all_carried(hosts);
    let sum = |block: u32| if block == me { output(0, 1) } else { scratch(block, 1) };
    for message in 0..most as usize {
        for (to, _) in hosts.locals() {
            let block = lists[to as usize].get(message);
            steps.extend(block.map(|&block| send(hosts.neighbour(to), input(block, 1))));
        }
        let Some(&block) = lists[hosts.local as usize].get(message) else { continue };
        let mut so_far = input(block, 1);
        for (_, from) in hosts.locals() {
            steps.push(recv_reduce(hosts.neighbour(from), so_far, sum(block)));
            so_far = sum(block);
        }
    }
    let reduced = |block: u32| if hosts.my_size() == 1 { input(block, 1) } else { sum(block) };
    for (next, _) in hosts.others() {
        steps.extend(owners(hosts, next).map(|owner| send(owner, reduced(owner))));
    }
    let mut so_far = reduced(me);
    for (_, prev) in hosts.others() {
        steps.push(recv_reduce(hosts.rank(prev, hosts.local), so_far, output(0, 1)));
        so_far = output(0, 1);
    }
}

/// Each block goes to its carrier on each other host, who passes it on there.
fn all_gather(steps: &mut Vec<Step>, hosts: &Hosts, me: u32) {
    steps.extend(hosts.others().map(|(next, _)| send(hosts.rank(next, hosts.local), input(0, 1))));
    steps.push(copy(input(0, 1), output(me, 1)));
    for (_, prev) in hosts.others() {
        steps.extend(owners(hosts, prev).map(|owner| recv(owner, output(owner, 1))));
    }
    let (lists, most) = all_carried(hosts);
    for message in 0..most as usize {
        if let Some(&block) = lists[hosts.local as usize].get(message) {
            steps.extend(hosts.locals().map(|(to, _)| send(hosts.neighbour(to), output(block, 1))));
        }
        for (_, from) in hosts.locals() {
            let block = lists[from as usize].get(message);
            steps.extend(block.map(|&block| recv(hosts.neighbour(from), output(block, 1))));
        }
    }
}

/// One leader on each host: the root on its own, and on the others one that moves on with the lane.
struct Leaders {
    hosts: Hosts,
    is_root: bool,
    root_host: u32,
    /// The leader's number on each host.
    numbers: Vec<u32>,
}

impl Leaders {
    fn new(world: &World, root: u32, hosts: Hosts, lane: u16) -> Self {
        let at = Hosts::new(world, root);
        let number =
            |host| if host == at.mine { at.local } else { u32::from(lane) % hosts.size(host) };
        let numbers = (0..hosts.count()).map(number).collect();
        let is_root = (at.mine, at.local) == (hosts.mine, hosts.local);
        Self { is_root, root_host: at.mine, numbers, hosts }
    }

    fn leads(&self) -> bool {
        self.numbers[self.hosts.mine as usize] == self.hosts.local
    }

    /// The tree inside this host, below its leader.
    fn inside(&self) -> (Node, impl Fn(u32) -> u32) {
        let (size, leader) = (self.hosts.my_size(), self.numbers[self.hosts.mine as usize]);
        let node = Node::new(size, (self.hosts.local + size - leader) % size);
        (node, move |v| self.hosts.neighbour(v + leader))
    }

    /// The tree of the leaders, below the root.
    fn across(&self) -> (Node, impl Fn(u32) -> u32) {
        let count = self.hosts.count();
        let node = Node::new(count, (self.hosts.mine + count - self.root_host) % count);
        let rank_of = move |v: u32| {
            let host = (v + self.root_host) % count;
            self.hosts.rank(host, self.numbers[host as usize])
        };
        (node, rank_of)
    }
}

fn broadcast(steps: &mut Vec<Step>, leaders: &Leaders) {
    let data = if leaders.is_root { input(0, 1) } else { output(0, 1) };
    if leaders.leads() {
        let (node, rank_of) = leaders.across();
        binomial::broadcast(steps, node, rank_of, data);
    }
    let (node, rank_of) = leaders.inside();
    binomial::broadcast(steps, node, rank_of, data);
    if leaders.is_root {
        steps.push(copy(input(0, 1), output(0, 1)));
    }
}

fn reduce(steps: &mut Vec<Step>, leaders: &Leaders) {
    let sum = if leaders.is_root { output(0, 1) } else { scratch(0, 1) };
    let (node, rank_of) = leaders.inside();
    binomial::reduce(steps, node, rank_of, input(0, 1), sum);
    if leaders.leads() {
        let (node, rank_of) = leaders.across();
        let own = if leaders.hosts.my_size() == 1 { input(0, 1) } else { sum };
        binomial::reduce(steps, node, rank_of, own, sum);
    }
}
