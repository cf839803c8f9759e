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

/// Hosts with 3, 1, 4 and 2 ranks, say, and the same ranks dealt out in turn.
fn layouts(sizes: &[u32]) -> [World; 2] {
    let block: Vec<u32> =
        (0..).zip(sizes).flat_map(|(host, &size)| vec![host; size as usize]).collect();
    let most = sizes.iter().copied().max().unwrap_or(0);
    let turn = (0..most)
        .flat_map(|i| (0..).zip(sizes).filter(move |(_, size)| i < **size).map(|(host, _)| host));
    [block, turn.collect()].map(|host_of| World {
        ranks: u32::try_from(host_of.len()).unwrap(),
        host_of: host_of.into(),
        lanes: 1,
    })
}

#[test]
fn on_several_hosts_with_several_lanes() {
    let even = (1..=5).flat_map(|hosts| (1..=5).map(move |size| vec![size; hosts]));
    let uneven =
        [vec![3, 1, 4, 2], vec![1, 8], vec![5, 1, 1], vec![2, 7, 3], vec![1, 1, 1, 6], vec![8; 8]];
    for sizes in even.chain(uneven) {
        for mut world in layouts(&sizes) {
            for lanes in 1..=3 {
                world.lanes = lanes;
                prove_all(&world, &[1, 2]);
            }
        }
    }
}
