//! Bad input is refused by name, and does not panic.

mod common;

use common::{cluster, world};
use dure_plan::{Collective, FilePlan, Rank, find};
use dure_sim::{Call, Constants, Error, Network, Options, cost};
use dure_topology::Cluster;

fn network() -> (Network, Cluster) {
    let cluster = cluster(4, 1, "LOC", [1.0, 1.0], Vec::new());
    (Network::of(&cluster, &Constants::default()).expect("it fits together"), cluster)
}

#[test]
fn calls_that_cannot_be_are_refused_by_name() {
    let (network, cluster) = network();
    let world = world(&cluster, 1);
    let ring = find(Collective::AllReduce, "ring").unwrap();
    let call = Call { what: Collective::AllReduce, world: &world, by: ring, bytes: 64, elem: 4 };
    let fine = Options::default();
    let refused =
        |call: Call<'_>, options: Options| cost(&call, &network, &options).unwrap_err().to_string();
    let none = dure_plan::World { lanes: 0, ..world.clone() };
    let fewer = dure_plan::World::flat(3);
    let binomial = find(Collective::Reduce { root: Rank(0) }, "binomial").unwrap();
    for (got, said) in [
        (refused(call, Options { slots: 0, ..fine }), "slots is 0"),
        (refused(call, Options { slot_bytes: 0, ..fine }), "does not fit a slot of 0 bytes"),
        (refused(Call { elem: 0, ..call }, fine), "size of an element is 0"),
        (refused(Call { bytes: u64::MAX, ..call }, fine), "size is 18446744073709551615"),
        (refused(Call { world: &none, ..call }, fine), "lanes is 0"),
        (refused(Call { world: &fewer, ..call }, fine), "it has 4 ranks, the world 3"),
        (refused(Call { what: Collective::Barrier, ..call }, fine), "ring does not serve barrier"),
        (
            refused(
                Call { what: Collective::Reduce { root: Rank(9) }, by: binomial, ..call },
                fine,
            ),
            "the root is 9",
        ),
        (refused(call, Options { most_edges: 1, ..fine }), "2 edges at one rank"),
        (refused(call, Options { limit_steps: 3, ..fine }), "more than 3 steps"),
    ] {
        assert!(got.contains(said), "{got:?} does not say {said:?}");
    }
}

#[test]
fn a_plan_that_was_not_verified_is_no_danger() {
    let (network, cluster) = network();
    let world = world(&cluster, 1);
    let plan = |steps: &str| {
        let head = "plan 1\nname odd\ncollective all-reduce\nranks 4\nlanes 1\nparts 1\nscratch 0\nrun 1\nragged no\n";
        let others: String = (1..4).map(|rank| format!("\nrank {rank} lane 0\n")).collect();
        FilePlan::parse(&format!("{head}\nrank 0 lane 0\n{steps}\n{others}"))
    };
    let ask = |by: &FilePlan| {
        let call = Call { what: Collective::AllReduce, world: &world, by, bytes: 64, elem: 4 };
        cost(&call, &network, &Options::default()).unwrap_err()
    };
    let waits = ask(&plan("recv 1 out[0]").unwrap());
    assert!(matches!(waits, Error::Stuck { rank: 0, step: 0, .. }), "{waits}");
    let leaves = ask(&plan("send 1 in[0]").unwrap());
    assert!(matches!(leaves, Error::Stuck { .. }), "{leaves}");
    // Either the reader of plans refuses it, or the simulator does.
    for steps in ["recv 77 out[0]", "send 77 in[0]", "copy in[4294967295] out[4294967295]"] {
        if let Ok(by) = plan(steps) {
            let none = ask(&by);
            assert!(matches!(none, Error::Step { rank: 0, .. }), "{steps}: {none}");
        }
    }
}

#[test]
fn clusters_that_do_not_fit_together_are_refused() {
    let (_, fine) = network();
    let refused = |change: &dyn Fn(&mut Cluster)| {
        let mut cluster = fine.clone();
        change(&mut cluster);
        Network::of(&cluster, &Constants::default()).unwrap_err().to_string()
    };
    for (got, said) in [
        (refused(&|c| c.ranks[1].host = 9), "rank 1 is on host 9 of 4"),
        (refused(&|c| c.ranks[1].device = 1), "rank 1 is on device 1 of 1"),
        (refused(&|c| c.ranks[1].port = Some(4)), "rank 1 has a port that is none of 4"),
        (refused(&|c| c.hosts[0] = 1), "a host of kind 1"),
        (refused(&|c| c.ports[0].gb_per_s = f64::NAN), "a port has a bandwidth that is none"),
        (refused(&|c| c.kinds[0].cores = 0), "0 cores"),
        (refused(&|c| c.ranks = Box::new([])), "no ranks"),
    ] {
        assert!(got.contains(said), "{got:?} does not say {said:?}");
    }
}
