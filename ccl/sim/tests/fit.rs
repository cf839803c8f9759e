//! Constants that are fitted to times predict them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod common;

use common::{cluster, world};
use dure_plan::{Collective, World, find};
use dure_sim::fit::{FitError, MachineError, Timed, fit_constants, predicted};
use dure_sim::{Call, Constants, Options, Wire};
use dure_topology::{Cluster, Source};

const ALGORITHMS: [(Collective, &str); 6] = [
    (Collective::AllReduce, "ring"),
    (Collective::AllReduce, "recursive-doubling"),
    (Collective::AllReduce, "halving-doubling"),
    (Collective::AllGather, "ring"),
    (Collective::AllGather, "bruck"),
    (Collective::AllToAll, "all-pairs"),
];

/// Calls of many sizes, with times that `seconds` gives.
fn calls<'c>(
    (cluster, world): (&'c Cluster, &'c World),
    seconds: impl Fn(&Timed<'c>) -> f64,
) -> Vec<Timed<'c>> {
    let mut calls = Vec::new();
    for (what, name) in ALGORITHMS {
        let by = find(what, name).unwrap();
        for log in (6..27).step_by(4) {
            let call = Call { what, world, by, bytes: 1 << log, elem: 4 };
            let timed = Timed { call, cluster, seconds: 1.0 };
            calls.push(Timed { seconds: seconds(&timed), ..timed });
        }
    }
    calls
}

fn seconds(timed: &Timed<'_>, constants: &Constants) -> f64 {
    predicted(timed, constants, &Options::default()).unwrap().unwrap().seconds
}

#[test]
fn constants_of_another_machine_are_found() {
    let hosts = cluster(16, 1, "LOC", [f64::INFINITY, f64::INFINITY], Vec::new());
    let world = world(&hosts, 1);
    let default = Constants::default();
    let wire = Wire { latency: 4e-6, overhead: 0.6e-6, per_byte: 0.2e-9, ..Wire::RDMA };
    let mut other = Constants { between: Wire { source: Source::Measured, ..wire }, ..default };
    other.processor.reduce_per_byte = 0.3e-9;
    let timed = calls((&hosts, &world), |timed| seconds(timed, &other));
    let fitted = fit_constants(&timed, &default, &Options::default()).unwrap();
    for timed in &timed {
        let ratio = seconds(timed, &fitted) / timed.seconds;
        let (name, bytes) = (timed.call.by.name(), timed.call.bytes);
        assert!((0.85..1.18).contains(&ratio), "{name} of {bytes} bytes: {ratio}\n{fitted:?}");
    }
}

#[test]
fn what_no_call_shows_stays_as_it_is() {
    let hosts = cluster(8, 1, "LOC", [f64::INFINITY, f64::INFINITY], Vec::new());
    let world = world(&hosts, 1);
    let default = Constants::default();
    let timed = calls((&hosts, &world), |timed| 2.0 * seconds(timed, &default));
    let fitted = fit_constants(&timed, &default, &Options::default()).unwrap();
    assert_eq!(fitted.inside, default.inside);
    assert_eq!((fitted.device, fitted.pool), (default.device, default.pool));
    assert_eq!(fitted.between.source, Source::Measured);
    assert_eq!(fitted.between.eager, default.between.eager);
}

#[test]
fn without_a_time_nothing_is_fitted() {
    let default = Constants::default();
    let none = fit_constants(&[], &default, &Options::default());
    assert_eq!(none, Err(MachineError::Fit(FitError::TooFew { given: 0, least: 1 })));
}
