//! Pictures of simulated runs.

mod common;

use std::collections::BTreeMap;

use common::{cluster, world};
use dure_plan::{Collective, find};
use dure_sim::{Call, Constants, Network, Options, Timeline, timeline};
use serde_json::Value;

fn ring(hosts: u32, most: usize) -> Timeline {
    let cluster = cluster(hosts, 1, "LOC", [1.0, 10.0], Vec::new());
    let network = Network::of(&cluster, &Constants::default()).expect("it fits together");
    let (world, what) = (world(&cluster, 2), Collective::AllReduce);
    let by = find(what, "ring").expect("it is known");
    let call = Call { what, world: &world, by, bytes: 1 << 16, elem: 4 };
    timeline(&call, &network, &Options::default(), most).expect("it is short")
}

#[test]
fn the_trace_has_every_step_in_order_and_ends_when_the_call_does() {
    let timeline = ring(4, 64);
    let events: Vec<Value> = serde_json::from_str(&timeline.trace()).unwrap();
    // Four ranks on two lanes: the begin of the call, and twelve steps of a ring of four.
    assert_eq!(events.len(), 4 * 2 * (1 + 12));
    let mut ends = BTreeMap::new();
    for event in &events {
        let number = |key: &str| event[key].as_f64().unwrap();
        let end = ends.entry((event["pid"].as_u64(), event["tid"].as_u64())).or_insert(0.0);
        assert!((number("ts") - *end).abs() < 2e-3, "{event} begins when the one before ends");
        *end = number("ts") + number("dur");
    }
    let last = ends.values().copied().fold(0.0, f64::max);
    assert!((last - timeline.cost.seconds * 1e6).abs() < 2e-3);
}

#[test]
fn the_picture_is_well_formed_and_shows_a_sample_of_many_ranks() {
    let picture = ring(4, 64).svg();
    let tree = roxmltree::Document::parse(&picture).unwrap();
    let texts = tree.descendants().filter(|node| node.has_tag_name("text"));
    let names: Vec<&str> = texts.filter_map(|node| node.text()).collect();
    assert!(names.contains(&"rank 3.1") && names.contains(&"receive"), "{names:?}");
    let lines = tree.descendants().filter(|node| node.attribute("stroke") == Some("#555"));
    assert_eq!(lines.count(), 4 * 2 * 6, "a line for each message");
    assert_eq!(ring(100, 10).ranks(), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
}
