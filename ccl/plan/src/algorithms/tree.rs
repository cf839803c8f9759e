//! The double binary tree: two binary trees over the same ranks, in which an inner node of one is a leaf of the other.
//! Each carries half of the parts, so that every rank sends and receives about as much as any other, at a depth that
//! grows with the logarithm.
//!
//! Sanders, Speck and Träff, Two-tree algorithms for full bandwidth broadcast, reduction and scan, 2009.

use std::ops::Range;

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, log2_up, only, recv, recv_reduce, send, written};
use crate::step::{Buf, Chunks, Rank, Step};

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
        let root = what.root().map_or(u32::from(lane) % n, |root| root.0);
        let nodes = trees(n, root, |index| index, me);
        let node = |part| of_part(&nodes, part);
        let mut steps = Vec::new();
        match what {
            Collective::Broadcast { .. } => {
                let data = if me == root { Buf::Input } else { Buf::Output };
                (0..PARTS).for_each(|part| broadcast(&mut steps, node(part), part, data));
                if me == root {
                    let all = |buf| Chunks { buf, first: 0, len: PARTS };
                    steps.push(copy(all(Buf::Input), all(Buf::Output)));
                }
            }
            Collective::Reduce { .. } => {
                let sum = if me == root { Buf::Output } else { Buf::Scratch };
                (0..PARTS).for_each(|part| reduce(&mut steps, node(part), part, Buf::Input, sum));
            }
            _ => all_reduce(&mut steps, &nodes, n, 0..PARTS, Buf::Input),
        }
        written(steps)
    }
}

/// All-reduce of some chunks of the output over the two trees of `n` members; the own contribution is in `own`.
///
/// Both directions overlap: a chunk comes down while later ones still go up. A chunk needs the depth of the tree twice
/// until it is back, and each tree gets every other chunk, so that many go up before the first one comes down.
pub(super) fn all_reduce(
    steps: &mut Vec<Step>,
    nodes: &[Node; 2],
    n: u32,
    chunks: Range<u32>,
    own: Buf,
) {
    let count = chunks.end - chunks.start;
    let ahead = (4 * log2_up(n)).min(count);
    for turn in 0..count + ahead {
        if turn < count {
            reduce(steps, of_part(nodes, turn), chunks.start + turn, own, Buf::Output);
        }
        if turn >= ahead {
            let part = turn - ahead;
            broadcast(steps, of_part(nodes, part), chunks.start + part, Buf::Output);
        }
    }
}

/// A rank's neighbours in one tree.
#[derive(Clone, Debug)]
pub(super) struct Node {
    parent: Option<u32>,
    children: Vec<u32>,
}

/// The place of member `me` in both trees of `n` members, who are the ranks that `rank_of` tells. The root is above
/// both.
pub(super) fn trees(n: u32, root: u32, rank_of: impl Fn(u32) -> u32, me: u32) -> [Node; 2] {
    let rank_of = |v: u32| rank_of((v + root) % n);
    [false, true].map(|second| {
        let twist = Twist { below: n - 1, second };
        let (parent, children) = in_order(n, twist.place((me + n - root) % n));
        Node {
            parent: parent.map(|place| rank_of(twist.node(place))),
            children: children
                .into_iter()
                .flatten()
                .map(|place| rank_of(twist.node(place)))
                .collect(),
        }
    })
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

fn chunk(buf: Buf, first: u32) -> Chunks {
    Chunks { buf, first, len: 1 }
}

/// The node that part `part` meets.
pub(super) fn of_part(nodes: &[Node; 2], part: u32) -> &Node {
    &nodes[usize::from(!part.is_multiple_of(2))]
}

/// Chunk `number` goes up; the sum of this rank's own contribution in `own` and its children's is made in `sum`.
pub(super) fn reduce(steps: &mut Vec<Step>, node: &Node, number: u32, own: Buf, sum: Buf) {
    let mut so_far = chunk(own, number);
    for &child in &node.children {
        steps.push(recv_reduce(child, so_far, chunk(sum, number)));
        so_far = chunk(sum, number);
    }
    steps.extend(node.parent.map(|parent| send(parent, so_far)));
}

/// Chunk `number` comes down; every rank but the root gets it first.
pub(super) fn broadcast(steps: &mut Vec<Step>, node: &Node, number: u32, data: Buf) {
    steps.extend(node.parent.map(|parent| recv(parent, chunk(data, number))));
    steps.extend(node.children.iter().map(|&child| send(child, chunk(data, number))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_below_the_root_is_inner_in_both_trees() {
        for n in 2..200 {
            for me in 1..n {
                let [a, b] = trees(n, 0, |v| v, me);
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
                        rank = trees(n, 0, |v| v, rank)[second].parent?;
                        Some(rank)
                    });
                    u32::try_from(parents.count()).unwrap()
                };
                assert!((0..n).map(depth).max().unwrap() <= log2_up(n).max(1), "{n}");
            }
        }
    }
}
