//! One host for all, against the simulation of all.

mod common;

use common::{halved, predict};
use dure_plan::Collective;
use dure_sim::{Constants, How, Options};

const SYMMETRIC: [(Collective, &str); 15] = [
    (Collective::AllReduce, "ring"),
    (Collective::AllReduce, "one-shot"),
    (Collective::AllReduce, "two-shot"),
    (Collective::AllReduce, "two-level-ring"),
    (Collective::ReduceScatter, "ring"),
    (Collective::ReduceScatter, "pairwise"),
    (Collective::ReduceScatter, "two-level"),
    (Collective::AllGather, "ring"),
    (Collective::AllGather, "all-pairs"),
    (Collective::AllGather, "neighbor-exchange"),
    (Collective::AllGather, "two-level"),
    (Collective::AllToAll, "pairwise"),
    (Collective::AllToAll, "all-pairs"),
    (Collective::AllToAll, "bruck"),
    (Collective::AllToAll, "two-level"),
];

fn compare(hosts: u32, per_leaf: u32, per_pod: u32, bytes: u64) -> Vec<(String, f64)> {
    let cluster = halved(hosts, per_leaf, per_pod);
    let all = (&cluster, &Constants::default());
    let one = |by| {
        let exact = predict(by, all, bytes, &Options::default()).expect("it serves");
        // Half of what the fewest passes take.
        let limit_steps =
            exact.steps * u64::from(exact.passes.min(3)) / u64::from(exact.passes) / 2;
        let options = Options { limit_steps, ..Options::default() };
        let folded = predict(by, all, bytes, &options).expect("one host stands for all");
        assert_eq!((exact.how, folded.how), (How::Exact, How::Representative), "{by:?}");
        (format!("{} {} {bytes}", by.0, by.1), folded.seconds / exact.seconds)
    };
    SYMMETRIC.into_iter().map(one).collect()
}

#[test]
fn it_is_near_the_simulation_of_all() {
    let sizes: [&[u64]; 3] =
        [&[1 << 15, 1 << 20, 1 << 26], &[1 << 15, 1 << 20, 1 << 26], &[1 << 20]];
    for ((hosts, per_leaf, per_pod), sizes) in
        [(8, 2, 2), (16, 4, 2), (64, 8, 4)].into_iter().zip(sizes)
    {
        for &bytes in sizes {
            for (what, ratio) in compare(hosts, per_leaf, per_pod, bytes) {
                println!("{hosts} hosts, {what}: {ratio:.3}");
                let allowed = if what.contains("neighbor") { 0.13 } else { 0.06 };
                assert!((ratio - 1.0).abs() < allowed, "{hosts} hosts, {what}: {ratio}");
            }
        }
    }
}

/// Where a vector has fewer units of 64 bytes than its plan has parts, most messages are empty and not sent. Which ones
/// differs from rank to rank, so that one host for all counts them all.
#[test]
fn it_is_no_less_where_most_parts_are_empty() {
    for (what, ratio) in compare(16, 4, 2, 1 << 10) {
        println!("{what}: {ratio:.3}");
        let allowed = if what.contains("neighbor") { 0.85 } else { 0.97 };
        assert!((allowed..2.0).contains(&ratio), "{what}: {ratio}");
    }
}
