//! Binomial trees: in each round everybody who has the data passes it on, so that the number of those who have it
//! doubles. The other way round, it gathers and reduces.
//!
//! Ranks are numbered relative to the root. The parent of a number is the number without its lowest set bit, so the
//! subtree of v is the interval from v on that is as long as the lowest set bit of v: what a gather collects there is
//! a run. Thakur, Rabenseifner and Gropp, 2005, sections 4.1 and 4.4.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, only, recv, recv_reduce, send, wrapped, written};
use crate::step::{Buf, Chunks, Rank, Step, input, output, scratch};

/// `binomial`: broadcast, reduce, gather, scatter.
#[derive(Debug)]
pub(super) struct Binomial;

impl Algorithm for Binomial {
    fn name(&self) -> &str {
        "binomial"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, what.root().is_some())
    }

    fn ragged(&self, _: Collective) -> bool {
        false
    }

    fn shape(&self, what: Collective, world: &World) -> Shape {
        // The largest subtree below the root.
        let subtree = world.ranks.next_power_of_two() / 2;
        match what {
            Collective::Reduce { .. } => Shape { parts: 1, scratch: 1, run: 1 },
            Collective::Gather { .. } | Collective::Scatter { .. } => {
                Shape { parts: 1, scratch: subtree, run: subtree.max(1) }
            }
            _ => Shape { parts: 1, scratch: 0, run: 1 },
        }
    }

    fn steps<'w>(&'w self, what: Collective, world: &'w World, me: Rank, _: u16) -> Steps<'w> {
        let n = world.ranks;
        let Rank(root) = what.root().expect("binomial serves rooted collectives only");
        if n == 1 {
            return alone(what, 1);
        }
        let node = Node::new(n, (me.0 + n - root) % n);
        let rank_of = |v: u32| (v + root) % n;
        let whole = |buf| Chunks { buf, first: 0, len: 1 };
        let mut steps = Vec::new();
        match what {
            Collective::Broadcast { .. } => {
                broadcast(
                    &mut steps,
                    node,
                    rank_of,
                    whole(if node.v == 0 { Buf::Input } else { Buf::Output }),
                );
                if node.v == 0 {
                    steps.push(copy(whole(Buf::Input), whole(Buf::Output)));
                }
            }
            Collective::Reduce { .. } => {
                let sum = whole(if node.v == 0 { Buf::Output } else { Buf::Scratch });
                reduce(&mut steps, node, rank_of, whole(Buf::Input), sum);
            }
            Collective::Gather { .. } => gather(&mut steps, node, root),
            _ => scatter(&mut steps, node, root),
        }
        written(steps)
    }
}

/// One node of a binomial tree of `n`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    n: u32,
    v: u32,
    /// Distance to the parent, and an upper bound of the size of the subtree.
    reach: u32,
}

impl Node {
    /// Node `v` of a tree of `n`; node 0 is its root.
    pub(super) fn new(n: u32, v: u32) -> Self {
        let reach = if v == 0 { n.next_power_of_two() } else { 1 << v.trailing_zeros() };
        Self { n, v, reach }
    }

    fn parent(self) -> Option<u32> {
        (self.v != 0).then(|| self.v - self.reach)
    }

    /// The children, the smallest subtree first.
    fn children(self) -> impl DoubleEndedIterator<Item = Self> {
        (0..self.reach.ilog2())
            .map(move |k| self.v + (1 << k))
            .filter(move |&v| v < self.n)
            .map(move |v| Self::new(self.n, v))
    }

    /// Nodes in the subtree.
    fn size(self) -> u32 {
        self.reach.min(self.n - self.v)
    }
}

/// Pass `data` on, which every node but the root gets first. The largest subtree comes first: it has the longest way.
pub(super) fn broadcast(
    steps: &mut Vec<Step>,
    node: Node,
    rank_of: impl Fn(u32) -> u32,
    data: Chunks,
) {
    steps.extend(node.parent().map(|parent| recv(rank_of(parent), data)));
    steps.extend(node.children().rev().map(|child| send(rank_of(child.v), data)));
}

/// Reduce `own` and what the children send into `sum`, and send that to the parent. The smallest subtree comes first:
/// it is ready first.
pub(super) fn reduce(
    steps: &mut Vec<Step>,
    node: Node,
    rank_of: impl Fn(u32) -> u32,
    own: Chunks,
    sum: Chunks,
) {
    let mut so_far = own;
    for child in node.children() {
        steps.push(recv_reduce(rank_of(child.v), so_far, sum));
        so_far = sum;
    }
    steps.extend(node.parent().map(|parent| send(rank_of(parent), so_far)));
}

/// Each inner node collects its subtree in the scratch, in the order of the tree; the root puts it where it belongs.
fn gather(steps: &mut Vec<Step>, node: Node, root: u32) {
    let rank_of = |v: u32| (v + root) % node.n;
    let Some(parent) = node.parent() else {
        for child in node.children() {
            let runs = wrapped(Buf::Output, rank_of(child.v), child.size(), node.n);
            steps.extend(runs.map(|dst| recv(rank_of(child.v), dst)));
        }
        steps.push(copy(input(0, 1), output(root, 1)));
        return;
    };
    if node.size() == 1 {
        steps.push(send(rank_of(parent), input(0, 1)));
        return;
    }
    steps.push(copy(input(0, 1), scratch(0, 1)));
    for child in node.children() {
        steps.push(recv(rank_of(child.v), scratch(child.v - node.v, child.size())));
    }
    steps.extend(runs_to(node, root, parent).map(|src| send(rank_of(parent), src)));
}

/// The mirror of [`gather`].
fn scatter(steps: &mut Vec<Step>, node: Node, root: u32) {
    let rank_of = |v: u32| (v + root) % node.n;
    let Some(parent) = node.parent() else {
        for child in node.children().rev() {
            let runs = wrapped(Buf::Input, rank_of(child.v), child.size(), node.n);
            steps.extend(runs.map(|src| send(rank_of(child.v), src)));
        }
        steps.push(copy(input(root, 1), output(0, 1)));
        return;
    };
    if node.size() == 1 {
        steps.push(recv(rank_of(parent), output(0, 1)));
        return;
    }
    steps.extend(runs_to(node, root, parent).map(|dst| recv(rank_of(parent), dst)));
    for child in node.children().rev() {
        steps.push(send(rank_of(child.v), scratch(child.v - node.v, child.size())));
    }
    steps.push(copy(scratch(0, 1), output(0, 1)));
}

/// The subtree of `node` in its scratch, as runs that are runs at the parent too: where the parent is the root, ranks
/// wrap around there.
fn runs_to(node: Node, root: u32, parent: u32) -> impl Iterator<Item = Chunks> {
    let head =
        if parent == 0 { node.size().min(node.n - (node.v + root) % node.n) } else { node.size() };
    [scratch(0, head), scratch(head, node.size() - head)].into_iter().filter(|run| run.len > 0)
}
