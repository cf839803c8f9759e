//! Every algorithm is proved: all numbers of ranks up to 64, with 1 and 2 slots, several layouts, roots and lanes.

use proptest::prelude::*;

use dure_plan::{Algorithm, Collective, Ordered, Rank, World, algorithms, verify};

fn prove(what: Collective, world: &World, by: &dyn Algorithm, slots: u32) {
    if by.serves(what, world).is_err() {
        return;
    }
    if let Err(flaw) = verify(what, world, by, slots) {
        panic!("{} as {what} on {world:?} with {slots} slots: {flaw}", by.name());
    }
}

fn prove_all(world: &World, slots: &[u32]) {
    let n = world.ranks;
    let mut roots = vec![0, n / 2, n - 1];
    roots.dedup();
    for by in algorithms() {
        for &root in &roots {
            for what in Collective::all(Rank(root)) {
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
        ranks: u32::try_from(host_of.len()).expect("tests have few ranks"),
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

/// Those whose proof is quadratic in the number of ranks or worse.
fn is_heavy(by: &dyn Algorithm, what: Collective) -> bool {
    let light = matches!(
        what,
        Collective::Broadcast { .. } | Collective::Reduce { .. } | Collective::Barrier
    );
    let few_steps = ["recursive-doubling", "double-binary-tree", "binomial", "linear"];
    !light && !few_steps.contains(&by.name())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn with_many_ranks(n in 65..=1024_u32, root in 0..1024_u32, slots in 1..=4_u32, host in 1..=16_u32) {
        let host_of = (0..n).map(|rank| rank / host).collect();
        let world = World { ranks: n, host_of, lanes: 1 };
        for by in algorithms() {
            for what in Collective::all(Rank(root % n)).into_iter().filter(|what| !is_heavy(*by, *what)) {
                prove(what, &world, *by, slots);
            }
        }
    }

    #[test]
    fn with_any_placement(
        sizes in prop::collection::vec(1..=9_u32, 1..=12), seed in any::<u64>(), lanes in 1..=4_u16,
    ) {
        // Deals the places out by a linear congruence, then numbers the hosts as they first appear.
        let mut places: Vec<u32> = (0..).zip(&sizes).flat_map(|(host, &size)| vec![host; size as usize]).collect();
        let mut state = seed;
        for i in (1..places.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            places.swap(i, usize::try_from(state >> 33).expect("31 bits fit") % (i + 1));
        }
        let mut first: Vec<u32> = Vec::new();
        for host in &mut places {
            let at = first.iter().position(|seen| seen == host).unwrap_or(first.len());
            if at == first.len() {
                first.push(*host);
            }
            *host = u32::try_from(at).expect("hosts are few");
        }
        let ranks = u32::try_from(places.len()).expect("tests have few ranks");
        let world = World { ranks, host_of: places.into(), lanes };
        prove_all(&world, &[1]);
    }
}

#[test]
fn on_hosts_of_eight() {
    let world = World { ranks: 100, host_of: (0..100).map(|rank| rank / 8).collect(), lanes: 1 };
    prove_all(&world, &[1]);
}

#[test]
fn in_another_order_of_ranks() {
    let mut served = std::collections::BTreeSet::new();
    for sizes in [vec![2, 2], vec![3, 1, 4, 2], vec![1, 1, 1, 1, 1], vec![4, 4]] {
        for mut world in layouts(&sizes) {
            world.lanes = 2;
            let n = world.ranks;
            // Backwards, and in a stride.
            let stride =
                (2..n).find(|k| (1..=*k).all(|d| d == 1 || k % d > 0 || n % d > 0)).unwrap_or(1);
            for order in
                [(0..n).rev().collect(), (0..n).map(|k| (k * stride + 1) % n).collect::<Vec<_>>()]
            {
                for by in algorithms() {
                    let ordered = Ordered::new(*by, &world, &order);
                    for what in Collective::all(Rank(n / 2)) {
                        if ordered.serves(what, &world).is_ok() {
                            served.insert((by.name(), what.name()));
                            prove(what, &world, &ordered, 1);
                        }
                    }
                }
            }
        }
    }
    for name in ["all-reduce", "reduce-scatter", "all-gather"] {
        assert!(served.contains(&("ring", name)), "{served:?}");
    }
    assert!(
        served.contains(&("chain", "broadcast"))
            && served.contains(&("two-level-tree", "all-reduce"))
    );
    assert!(!served.contains(&("bruck", "all-gather")), "its messages are several blocks");
}
