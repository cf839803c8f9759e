//! Collectives through a pool of memory that three hosts share, beside the same over InfiniBand of 200 Gb/s, and what was
//! published of them. docs/pools.md says what it rests on. `cargo run --release -p dure-sim --example pools`

#![allow(clippy::print_stdout, reason = "a program for people")]

#[path = "../tests/common/published.rs"]
mod published;

use dure_sim::Adapter;
use published::{ALL_REDUCE, BOTH_WAYS, GAINS, ONE_ADAPTER, Published, TWO_SHOT, gain, sizes};

fn main() {
    for (name, adapter) in [
        ("a host writes 33 GB/s and reads 46.2", Adapter::USUAL),
        ("a host writes and reads 46.2 GB/s", BOTH_WAYS),
        ("a host writes and reads 26 GB/s", ONE_ADAPTER),
    ] {
        println!("times as fast as over InfiniBand, where {name}");
        println!(
            "{:<12} {:<10} {:>9} {:>6}  1 MiB to 4 GiB, each twice the one before",
            "", "by", "published", "mean"
        );
        GAINS.iter().chain([&ALL_REDUCE, &TWO_SHOT]).for_each(|of| line(of, adapter));
        println!();
    }
}

fn line(of: &Published, adapter: Adapter) {
    let gains: Vec<f64> = sizes().map(|bytes| gain(of, adapter, bytes)).collect();
    let mean = gains.iter().sum::<f64>() / gains.len() as f64;
    let published = of.gain.map_or_else(|| "-".to_owned(), |gain| format!("{gain:.2}"));
    let each: Vec<String> = gains.iter().map(|gain| format!("{gain:.2}")).collect();
    let (name, each) = (of.what.name(), each.join(" "));
    println!("{name:<12} {:<10} {published:>9} {mean:>6.2}  {each}", of.by_pool);
}
