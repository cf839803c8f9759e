//! The checker: all collectives through a pool whose members have made-up caches, by seed; and each fault that can be planted in
//! the discipline of the pool is found.
//!
//! `DURE_CHECKER_SEEDS=10000 cargo test --release -p dure-exec --test pool` tries ten thousand seeds of each collective.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use dure_plan::{Algorithm, Collective, Rank, World, algorithms};
use dure_pool::emulated::{Emulated, Plant};
use dure_transport::Transport;

use common::{Job, Setting, base, check_in};

/// Rounds without a move after which nothing moves any more: stores that are under way drain sooner.
const PATIENCE: u32 = 2_000;

/// What a seed tries of a collective: an algorithm, and how the call is made.
struct Trial {
    by: &'static dyn Algorithm,
    what: Collective,
    world: World,
    setting: Setting,
}

impl Trial {
    /// Everything that is varied follows from the seed; after some hundreds of seeds each combination was there.
    fn new(at: usize, seed: u64) -> Self {
        let mut rest = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        let mut pick = |n: u64| {
            let picked = rest % n;
            rest /= n;
            picked
        };
        let ranks = u32::try_from(2 + pick(4)).unwrap();
        let what = Collective::all(Rank(u32::try_from(pick(ranks.into())).unwrap()))[at];
        let settings = dure_exec::Settings {
            lanes: u16::try_from(1 + pick(2)).unwrap(),
            slots: u32::try_from(1 + pick(3)).unwrap(),
            ..base().settings
        };
        let world = World { lanes: settings.lanes, ..World::flat(ranks) };
        let serving: Vec<_> =
            algorithms().iter().filter(|by| by.serves(what, &world).is_ok()).collect();
        let by = *serving[usize::try_from(pick(serving.len() as u64)).unwrap()];
        let setting = Setting {
            settings,
            in_place: what != Collective::AllToAll && pick(2) == 1,
            shared: pick(2) == 1,
            count: [1, 7, 64, 300][usize::try_from(pick(4)).unwrap()],
            ..base()
        };
        Self { by, what, world, setting }
    }

    /// Runs it through a pool of this seed: what is wrong, if something is.
    fn run(&self, seed: u64, plant: Option<Plant>) -> Option<String> {
        let pool = Emulated::new(self.world.ranks, seed, plant);
        let nets = (0..self.world.ranks)
            .map(|rank| -> Box<dyn Transport> { Box::new(pool.open(rank).unwrap()) })
            .collect();
        let mut job = Job::over(nets, Box::new(|| false), &self.setting);
        job.patience = PATIENCE;
        let wrong = check_in(&mut job, self.by, (self.what, &self.world), &self.setting).err();
        wrong.or_else(|| pool.flaws().into_iter().next())
    }
}

/// How many collectives there are.
const ALL: usize = Collective::all(Rank(0)).len();

/// How many seeds: as many as are asked for, or 200.
#[expect(clippy::disallowed_methods, reason = "a test has no settings of its own")]
fn seeds() -> u64 {
    std::env::var("DURE_CHECKER_SEEDS").map_or(200, |seeds| seeds.parse().unwrap())
}

#[test]
fn collectives_are_right_with_every_seed() {
    let mut runs = 0;
    for seed in 1..=seeds() {
        for at in 0..ALL {
            let trial = Trial::new(at, seed);
            if let Some(wrong) = trial.run(seed, None) {
                panic!(
                    "seed {seed}: {} {}: {wrong}; {:?}",
                    trial.by.name(),
                    trial.what,
                    trial.setting
                );
            }
            runs += 1;
        }
    }
    println!("{runs} collectives of {} seeds", seeds());
}

#[test]
fn every_planted_fault_is_found() {
    for plant in Plant::ALL.into_iter().filter(|plant| *plant != Plant::CompareAndSwap) {
        let found: Vec<_> = (1..=40)
            .flat_map(|seed| (0..ALL).map(move |at| (seed, at)))
            .filter_map(|(seed, at)| Some((seed, Trial::new(at, seed).run(seed, Some(plant))?)))
            .collect();
        let first = found.first().unwrap_or_else(|| panic!("{plant:?} is not found"));
        println!(
            "{plant:?}: found in {} of {} runs, first with seed {}: {}",
            found.len(),
            40 * ALL,
            first.0,
            first.1
        );
    }
}

#[test]
fn a_claim_by_compare_and_swap_is_found_and_ours_is_safe() {
    for seed in 1..=200 {
        assert!(!Emulated::new(2, seed, None).both_believe_their_claim().unwrap(), "seed {seed}");
    }
    let planted = |seed| Emulated::new(2, seed, Some(Plant::CompareAndSwap));
    let found = (1..=40).filter(|seed| planted(*seed).both_believe_their_claim().unwrap()).count();
    assert!(found > 0, "two members swapped the same word, and both believed it");
    let pool = planted(1);
    pool.both_believe_their_claim().unwrap();
    assert!(pool.flaws()[0].contains("compares and swaps"), "{:?}", pool.flaws());
}
