//! What does not depend on times keeps its promises.

use dure_plan::{Collective, Rank, World, algorithms, find, fixed, too_many_edges, verify};

const ROOT: Rank = Rank(0);

const ALL: [Collective; 9] = Collective::all(ROOT);

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

#[test]
fn ragged_exchanges_have_an_algorithm_that_takes_them() {
    for what in ALL {
        let blocks_of_one_owner = matches!(what, Collective::AllGather);
        let expected = what.whole(2) > 1 && !blocks_of_one_owner;
        for deterministic in [false, true] {
            let by = fixed(what, deterministic, true).filter(|by| by.ragged(what));
            assert_eq!(by.is_some(), expected, "{what}");
            for world in worlds() {
                assert!(by.is_none_or(|by| by.serves(what, &world).is_ok()), "{what} on {world:?}");
            }
        }
    }
}

#[test]
fn deterministic_choices_are_uniform_wherever_they_are() {
    for what in ALL.into_iter().filter(|what| what.reduces()) {
        for ragged in [false, true].into_iter().filter(|ragged| !ragged || what.whole(2) > 1) {
            let by = fixed(what, true, ragged).unwrap();
            for world in worlds() {
                let proof = verify(what, &world, by, 1).unwrap();
                assert!(proof.uniform && proof.bit_equal, "{} as {what} on {world:?}", by.name());
            }
        }
    }
    assert!(ALL.iter().all(|what| fixed(*what, false, false).is_none()));
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

#[test]
fn flat_all_to_alls_of_very_many_ranks_are_known() {
    let world = |ranks: u32, each: u32| {
        let host_of = (0..ranks).map(|rank| rank / each).collect();
        World { host_of, ..World::flat(ranks) }
    };
    let peers = |name, world: &World| {
        too_many_edges(Collective::AllToAll, find(Collective::AllToAll, name).unwrap(), world)
    };
    for flat in ["pairwise", "all-pairs"] {
        assert_eq!(peers(flat, &world(10_240, 8)), Some(10_239));
        assert_eq!(peers(flat, &world(2048, 8)), None);
    }
    assert_eq!(peers("two-level", &world(10_240, 8)), None);
    // A host for each rank: on two levels, too, each would talk to all.
    assert_eq!(peers("two-level", &world(10_240, 1)), Some(10_239));
    assert_eq!(peers("bruck", &World::flat(10_240)), None);
}
