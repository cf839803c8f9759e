//! 10,240 ranks in 1,280 hosts of 8, three-level fat tree with half the bandwidth above the leaves. `cargo run --release
//! -p dure-sim --example scale` prints all of it.

use dure_plan::{Collective, World, algorithms, find};
use dure_sim::{Call, Constants, Cost, Error, How, Network, Options, bound, cost};
use dure_topology::Cluster;

const LAYOUT: &str = "fattree levels=3 over=2 / 1280 host * (8 npu[gb_per_s=300] + 8 nic)";

struct Scale {
    network: Network,
    world: World,
}

impl Scale {
    fn new() -> Self {
        let cluster = Cluster::synthetic(LAYOUT).expect("the layout is right");
        let network = Network::of(&cluster, &Constants::default()).expect("it fits together");
        let world = World { ranks: 10_240, host_of: cluster.host_of().into(), lanes: 1 };
        Self { network, world }
    }

    fn cost(&self, what: Collective, name: &str, bytes: u64) -> Result<Cost, Error> {
        let by = find(what, name).expect("it is known");
        let call = Call { what, world: &self.world, by, bytes, elem: 4 };
        cost(&call, &self.network, &Options::default())
    }
}

#[test]
fn every_all_to_all_is_predicted_or_refused() {
    let scale = Scale::new();
    let what = Collective::AllToAll;
    for bytes in [1 << 10, 1 << 20, 1 << 28] {
        let bound = bound(what, bytes, &scale.network);
        for by in algorithms().iter().filter(|by| by.serves(what, &scale.world).is_ok()) {
            match scale.cost(what, by.name(), bytes) {
                Ok(cost) => {
                    assert_eq!(cost.how, How::Representative, "{by:?}");
                    let fraction = cost.fraction_of(&bound);
                    assert!((1e-4..1.0).contains(&fraction), "{by:?}: {fraction} of {bound:?}");
                    assert!((cost.parts.sum() / cost.seconds - 1.0).abs() < 1e-9, "{cost:?}");
                }
                Err(error) => {
                    assert!(["pairwise", "all-pairs"].contains(&by.name()), "{error}");
                    let text = error.to_string();
                    let said = ["10239 edges", "40.0 GiB of slots", "two-level, bruck have fewer"];
                    assert!(said.iter().all(|part| text.contains(part)), "{text}");
                }
            }
        }
    }
}

#[test]
fn a_ring_has_one_host_for_all_and_a_tree_is_simulated_rank_by_rank() {
    let scale = Scale::new();
    let what = Collective::AllReduce;
    let ring = scale.cost(what, "ring", 1 << 20).unwrap();
    let doubling = scale.cost(what, "recursive-doubling", 1 << 10).unwrap();
    assert_eq!((ring.how, doubling.how), (How::Representative, How::Exact));
    assert_eq!((ring.steps, ring.edges, doubling.edges), (4 * 10_239 * 10_240, 2, 14));
    // Two messages for each of the others, from memory to memory.
    assert!(ring.seconds > 2.0 * 10_239.0 * 1e-6, "{ring:?}");
    let [sum, bound] = [doubling.seconds, bound(what, 1 << 10, &scale.network).seconds];
    assert!(bound < sum && sum < 10.0 * bound, "{sum} and {bound}");
}

/// Whoever asks, and however often: all ranks must choose alike.
#[test]
fn the_same_question_has_the_same_answer() {
    let ask = |name| Scale::new().cost(Collective::AllReduce, name, 1 << 20).unwrap();
    for name in ["ring", "halving-doubling"] {
        assert_eq!(ask(name), ask(name));
    }
}

#[test]
fn a_small_budget_is_kept() {
    let scale = Scale::new();
    let by = find(Collective::AllReduce, "recursive-doubling").unwrap();
    let call =
        Call { what: Collective::AllReduce, world: &scale.world, by, bytes: 1 << 28, elem: 4 };
    let ask =
        |limit_steps| cost(&call, &scale.network, &Options { limit_steps, ..Options::default() });
    let few = ask(1_000_000).unwrap();
    assert_eq!((few.simulated_passes, few.passes), (3, 256));
    let more = ask(5_000_000).unwrap();
    assert!((few.seconds / more.seconds - 1.0).abs() < 0.1, "{} and {}", few.seconds, more.seconds);
    let none = ask(500_000).unwrap_err();
    assert!(matches!(none, Error::TooManySteps { limit: 500_000, .. }), "{none}");
}
