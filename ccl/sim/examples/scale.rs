//! What every algorithm would take on 10,240 ranks in 1,280 hosts of 8, three-level fat tree with half the bandwidth
//! above the leaves, and how long it takes to find out. `cargo run --release -p dure-sim --example scale [COLLECTIVE]`

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::time::Instant;

use dure_plan::{Collective, World, algorithms};
use dure_sim::{Call, Constants, Network, Options, bound, cost};
use dure_topology::Cluster;

const LAYOUT: &str = "fattree levels=3 over=2 / 1280 host * (8 npu[gb_per_s=300] + 8 nic)";

fn main() -> Result<(), Box<dyn Error>> {
    let only = std::env::args().nth(1);
    let begin = Instant::now();
    let cluster = Cluster::synthetic(LAYOUT)?;
    let network = Network::of(&cluster, &Constants::default())?;
    println!("{cluster}: {:.1} ms\n", begin.elapsed().as_secs_f64() * 1e3);
    let world = World { ranks: cluster.size(), host_of: cluster.host_of().into(), lanes: 1 };
    for what in [
        Collective::AllReduce,
        Collective::AllToAll,
        Collective::ReduceScatter,
        Collective::AllGather,
    ] {
        if only.as_ref().is_some_and(|only| only != what.name()) {
            continue;
        }
        for bytes in [1 << 10, 1 << 20, 1 << 28] {
            let begin = Instant::now();
            let bound = bound(what, bytes, &network);
            println!(
                "{what}, {bytes} bytes; bound {:.1} us ({})",
                bound.seconds * 1e6,
                if bound.cut > bound.latency { bound.narrowest } else { "latency" }
            );
            for by in algorithms().iter().filter(|by| by.serves(what, &world).is_ok()) {
                let begin = Instant::now();
                let call = Call { what, world: &world, by: *by, bytes, elem: 4 };
                let got = cost(&call, &network, &Options::default());
                let took = begin.elapsed().as_secs_f64();
                match got {
                    Ok(cost) => println!(
                        "  {:20} {:12.1} us, {:5.1} % of the bound, {:?}, {} of {} passes, {} edges, {} steps: {took:.2} s",
                        by.name(),
                        cost.seconds * 1e6,
                        100.0 * cost.fraction_of(&bound),
                        cost.how,
                        cost.simulated_passes,
                        cost.passes,
                        cost.edges,
                        cost.steps
                    ),
                    Err(error) => println!("  {:22} {error}: {took:.2} s", by.name()),
                }
            }
            println!("  all: {:.1} s", begin.elapsed().as_secs_f64());
        }
    }
    Ok(())
}
