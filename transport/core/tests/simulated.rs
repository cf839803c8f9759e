//! The simulated transport keeps the contract, in every mode and under many seeds.

use dure_transport::conformance::{PROPERTIES, Pair};
use dure_transport::simulated::{Options, World};

fn pair(options: &Options) -> Pair {
    let (world, ends) = World::new(2, options);
    Pair { ends: ends.try_into().expect("two ranks"), tick: Box::new(move || _ = world.step()) }
}

fn attended() -> Pair {
    pair(&Options::default())
}

dure_transport::conformance_tests!(attended);

#[test]
fn all_properties_hold_in_every_mode_and_under_many_seeds() {
    for seed in 1..20 {
        let options = Options {
            seed,
            flows: 1 + (seed % 4) as u16,
            queue: [1, 4, 64][seed as usize % 3],
            pending: [0, 50, 100][seed as usize % 3],
            gather: 1 + seed as usize % 5,
            user_memory: seed % 2 == 0,
            unattended: seed % 4 < 2,
            window: seed % 8 < 4,
            ..Options::default()
        };
        for (name, property) in
            PROPERTIES.iter().filter(|(name, _)| !name.starts_with("counts_beyond"))
        {
            println!("{name} with {options:?}");
            property(&mut || pair(&options));
        }
    }
}
