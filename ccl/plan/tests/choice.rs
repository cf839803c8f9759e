//! The default choice keeps its promises.

use dure_plan::{Choice, Collective, Rank, World, algorithms, choose, find, verify};

const ROOT: Rank = Rank(0);

const ALL: [Collective; 9] = [
    Collective::AllReduce,
    Collective::ReduceScatter,
    Collective::AllGather,
    Collective::AllToAll,
    Collective::Broadcast { root: ROOT },
    Collective::Reduce { root: ROOT },
    Collective::Gather { root: ROOT },
    Collective::Scatter { root: ROOT },
    Collective::Barrier,
];

fn worlds() -> Vec<World> {
    let mut worlds: Vec<World> = [1, 2, 3, 4, 7, 8, 9, 16, 33].map(World::flat).into();
    for host_of in [vec![0, 1, 2], vec![0, 0, 1, 1], vec![0, 1, 0, 1, 1, 2], vec![0, 0, 0, 1]] {
        let ranks = u32::try_from(host_of.len()).expect("tests have few ranks");
        worlds.push(World { ranks, host_of: host_of.into(), lanes: 1 });
    }
    let lanes = worlds.clone().into_iter().map(|world| World { lanes: 3, ..world });
    worlds.extend(lanes);
    worlds
}

fn sizes() -> impl Iterator<Item = u64> {
    std::iter::once(0).chain((0..40).map(|bits| 1 << bits))
}

#[test]
fn what_is_chosen_serves_and_is_ragged_where_asked() {
    for world in worlds() {
        for what in ALL {
            for (bytes, ragged) in sizes().flat_map(|bytes| [(bytes, false), (bytes, true)]) {
                for (deterministic, wired) in
                    [(false, false), (true, false), (false, true), (true, true)]
                {
                    let options = Choice { deterministic, ragged, wired };
                    let by = choose(what, bytes, &world, options);
                    assert!(
                        by.serves(what, &world).is_ok(),
                        "{} as {what} on {world:?}",
                        by.name()
                    );
                    let blocks = what.whole(world.ranks) > 1;
                    assert!(!(ragged && blocks) || by.ragged(what), "{} as {what}", by.name());
                }
            }
        }
    }
}

#[test]
fn deterministic_choices_are_uniform_and_blind_to_size_and_placement() {
    for what in ALL.into_iter().filter(|what| what.reduces()) {
        for ragged in [false, true].into_iter().filter(|ragged| !ragged || what.whole(2) > 1) {
            let options = Choice { deterministic: true, ragged, ..Choice::default() };
            let first = choose(what, 1, &World::flat(2), options).name();
            for world in worlds() {
                for bytes in sizes() {
                    assert_eq!(choose(what, bytes, &world, options).name(), first);
                }
                let proof = verify(what, &world, find(what, first).unwrap(), 1).unwrap();
                assert!(proof.uniform && proof.bit_equal, "{first} as {what} on {world:?}");
            }
        }
    }
}

#[test]
fn names_are_unique_and_found() {
    for what in ALL {
        let world = World::flat(2);
        let mut names: Vec<_> = algorithms()
            .iter()
            .filter(|by| by.serves(what, &world).is_ok())
            .map(|by| by.name())
            .collect();
        assert!(names.iter().all(|name| find(what, name).is_some_and(|by| by.name() == *name)));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{what}");
        assert!(find(what, "no-such-algorithm").is_none());
    }
}
