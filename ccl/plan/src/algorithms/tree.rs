//! The double binary tree: two binary trees over the same ranks, in which an inner node of one is a leaf of the other.
//! Each carries half of the parts, so that every rank sends and receives about as much as any other, at a depth that
//! grows with the logarithm.
//!
//! Sanders, Speck and Träff, Two-tree algorithms for full bandwidth broadcast, reduction and scan, 2009.

use std::ops::Range;

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, log2_up, only, recv, recv_reduce, send, written};
use crate::step::{Buf, Chunks, Rank, Step, input, output};

/// `double-binary-tree`: all-reduce, broadcast, reduce.
#[derive(Debug)]
pub(super) struct DoubleBinaryTree;

/// Parts of a block: half of them go over each tree, one after the other as in a pipe.
const PARTS: u32 = 8;

impl Algorithm for DoubleBinaryTree {
    fn name(&self) -> &str {
        "double-binary-tree"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        use Collective::{AllReduce, Broadcast, Reduce};
        only(self, what, matches!(what, AllReduce | Broadcast { .. } | Reduce { .. }))
    }

    fn ragged(&self, _: Collective) -> bool {
        false
    }

    fn shape(&self, what: Collective, _: &World) -> Shape {
        let scratch = if matches!(what, Collective::Reduce { .. }) { PARTS } else { 0 };
        Shape { parts: PARTS, scratch, run: 1 }
    }

    fn steps<'w>(
        &'w self,
        what: Collective,
        world: &'w World,
        Rank(me): Rank,
        lane: u16,
    ) -> Steps<'w> {
        let n = world.ranks;
        if n == 1 {
            return alone(what, PARTS);
        }
        let top = u32::from(lane) % n;
        let root = what.root().map_or(top, |Rank(root)| root);
        let trees = Trees::new(n, root, |index| index, me);
        let mut steps = Vec::new();
        let (way, data) = match what {
            Collective::Broadcast { .. } => {
                (Way::Down, if me == root { Buf::Input } else { Buf::Output })
            }
            Collective::Reduce { .. } => {
                (Way::Up, if me == root { Buf::Output } else { Buf::Scratch })
            }
            _ => (Way::Both, Buf::Output),
        };
        trees.run(&mut steps, &Job { chunks: 0..PARTS, way, own: Buf::Input, data });
        if way == Way::Down && me == root {
            steps.push(copy(input(0, PARTS), output(0, PARTS)));
        }
        written(steps)
    }
}

/// A rank's neighbours in one tree.
#[derive(Clone, Debug)]
struct Node {
    parent: Option<u32>,
    children: Vec<u32>,
    /// Links to the root.
    depth: u32,
}

/// Which way a chunk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the root, reduced on the way.
    Up,
    /// From the root.
    Down,
    /// Up, and then down again.
    Both,
}

/// Chunks to move: an even number, of which every other one goes over each tree.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) chunks: Range<u32>,
    pub(super) way: Way,
    /// Where the own contribution is.
    pub(super) own: Buf,
    /// Where the sum is made on the way up, and what is passed on down; every rank but the root gets it first.
    pub(super) data: Buf,
}

/// The timetable by which a rank orders its work for many chunks, in two trees and two directions.
///
/// A pair of chunks leaves the deepest level every `period` units and takes [`Self::LEVEL`] units a level. So a rank
/// near the top of one tree, which gets its first chunk late, has sent several as a leaf of the other by then, and
/// chunks come down while later ones still go up. With the two trees in lockstep each would wait for the other.
///
/// By this timetable a message is received before the next one is sent on the same edge, and sent after all that its
/// sender must have done: the plan has no deadlock, even with one slot. The only edges that carry two kinds of messages
/// lead from A to B where A is a leaf below B in one tree and B a leaf below A in the other. B takes the one at a
/// multiple of [`Self::LEVEL`], A sends the other half a level off (which is why the period is whole levels); A sends
/// the one a quarter before B takes it, and B takes the other an eighth after A sends it.
#[derive(Clone, Copy, Debug)]
struct Timetable {
    /// Levels below the root.
    depth: u32,
    period: u32,
    /// When the root sends the first pair down.
    turn: u32,
}

impl Timetable {
    /// A chunk is received twice and sent once on a level up, and received once and sent twice on a level down.
    const LEVEL: u32 = 8;

    fn new(depth: u32, way: Way) -> Self {
        // A rank has about three steps a pair on a level, and four a pair in each direction.
        match way {
            Way::Both => {
                Self { depth, period: 3 * Self::LEVEL, turn: depth * Self::LEVEL + Self::LEVEL / 2 }
            }
            _ => Self { depth, period: 2 * Self::LEVEL, turn: 0 },
        }
    }

    /// When a node does its work for a pair that goes up.
    fn up(self, pair: u32, node: &Node) -> u32 {
        let level = pair * self.period + Self::LEVEL * (self.depth - node.depth);
        if node.is_leaf() { level + Self::LEVEL - Self::LEVEL / 4 } else { level }
    }

    /// When a node does its work for a pair that comes down.
    fn down(self, pair: u32, node: &Node) -> u32 {
        let level = pair * self.period + self.turn + Self::LEVEL * node.depth;
        if node.is_leaf() { level - Self::LEVEL + Self::LEVEL / 8 } else { level }
    }
}

/// A rank's place in both trees. Chunks go over them in pairs: one over each.
#[derive(Clone, Debug)]
pub(super) struct Trees {
    nodes: [Node; 2],
    /// Levels below the root.
    depth: u32,
}

impl Trees {
    /// Of member `me` of `n` members, who are the ranks that `rank_of` tells. The root is above both trees.
    pub(super) fn new(n: u32, root: u32, rank_of: impl Fn(u32) -> u32, me: u32) -> Self {
        let rank_of = |v: u32| rank_of((v + root) % n);
        let nodes = [false, true].map(|second| {
            let twist = Twist { below: n - 1, second };
            let place = twist.place((me + n - root) % n);
            let (parent, children) = in_order(n, place);
            let ancestors = std::iter::successors(Some(place), |place| in_order(n, *place).0);
            Node {
                parent: parent.map(|place| rank_of(twist.node(place))),
                children: children
                    .into_iter()
                    .flatten()
                    .map(|place| rank_of(twist.node(place)))
                    .collect(),
                depth: u32::try_from(ancestors.count() - 1)
                    .expect("a tree is not deeper than it has nodes"),
            }
        });
        Self { nodes, depth: log2_up(n) }
    }

    /// Does a job.
    pub(super) fn run(&self, steps: &mut Vec<Step>, job: &Job) {
        let timetable = Timetable::new(self.depth, job.way);
        let mut work = Vec::new();
        for chunk in job.chunks.clone() {
            let (pair, tree) = ((chunk - job.chunks.start) / 2, (chunk - job.chunks.start) % 2);
            let node = &self.nodes[tree as usize];
            if job.way != Way::Down {
                work.push((timetable.up(pair, node), Way::Up, node, chunk));
            }
            if job.way != Way::Up {
                work.push((timetable.down(pair, node), Way::Down, node, chunk));
            }
        }
        work.sort_by_key(|entry| entry.0);
        for (_, way, node, chunk) in work {
            match way {
                Way::Up => node.reduce(steps, chunk, job.own, job.data),
                _ => node.broadcast(steps, chunk, job.data),
            }
        }
    }
}

impl Node {
    fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    /// One chunk goes up; the sum of this rank's own and its children's is made in `sum`.
    fn reduce(&self, steps: &mut Vec<Step>, first: u32, own: Buf, sum: Buf) {
        let chunk = |buf| Chunks { buf, first, len: 1 };
        let mut so_far = chunk(own);
        for &child in &self.children {
            steps.push(recv_reduce(child, so_far, chunk(sum)));
            so_far = chunk(sum);
        }
        steps.extend(self.parent.map(|parent| send(parent, so_far)));
    }

    /// One chunk comes down.
    fn broadcast(&self, steps: &mut Vec<Step>, first: u32, buf: Buf) {
        let chunk = Chunks { buf, first, len: 1 };
        steps.extend(self.parent.map(|parent| recv(parent, chunk)));
        steps.extend(self.children.iter().map(|&child| send(child, chunk)));
    }
}

/// How the second tree numbers the ranks below the root, 1 to `below`: from the other end if `below` is even, shifted
/// by one if it is odd. Either way even places get odd ranks; the inner nodes are the even places.
#[derive(Clone, Copy)]
struct Twist {
    below: u32,
    second: bool,
}

impl Twist {
    fn place(self, node: u32) -> u32 {
        match (self.second && node != 0, self.below % 2) {
            (false, _) => node,
            (true, 0) => self.below + 1 - node,
            (true, _) => node % self.below + 1,
        }
    }

    fn node(self, place: u32) -> u32 {
        match (self.second && place != 0, self.below % 2) {
            (false, _) => place,
            (true, 0) => self.below + 1 - place,
            (true, _) => (place + self.below - 2) % self.below + 1,
        }
    }
}

/// Parent and children of a place in the binary tree of the places 1 to `n - 1` in order, with place 0 above it: a
/// place with k zeros at its end is k levels above the leaves.
fn in_order(n: u32, place: u32) -> (Option<u32>, [Option<u32>; 2]) {
    if place == 0 {
        return (None, [(n > 1).then(|| 1 << (n - 1).ilog2()), None]);
    }
    let level = 1 << place.trailing_zeros();
    let above = place ^ level | level << 1;
    let parent = if above < n { above } else { place ^ level };
    let mut reach = level / 2;
    let left = (reach > 0).then(|| place - reach);
    while reach > 0 && place + reach >= n {
        reach /= 2;
    }
    (Some(parent), [left, (reach > 0).then(|| place + reach)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_below_the_root_is_inner_in_both_trees() {
        for n in 2..200 {
            for me in 1..n {
                let [a, b] = Trees::new(n, 0, |v| v, me).nodes;
                assert!(a.children.is_empty() || b.children.is_empty(), "rank {me} of {n}");
            }
        }
    }

    #[test]
    fn depth_grows_with_the_logarithm() {
        for n in 2..200 {
            for second in 0..2 {
                let depth = |mut rank: u32| {
                    let parents = std::iter::from_fn(|| {
                        rank = Trees::new(n, 0, |v| v, rank).nodes[second].parent?;
                        Some(rank)
                    });
                    u32::try_from(parents.count()).unwrap()
                };
                assert!((0..n).map(depth).max().unwrap() <= log2_up(n).max(1), "{n}");
            }
        }
    }
}
