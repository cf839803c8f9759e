//! Communicators of the same processes share their pools.

use dure_harness::tell_people;

use crate::over;

const RANKS: u32 = 8;
const COMMUNICATORS: u32 = 100;

/// What a process holds; see the scenario.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    descriptors: u64,
    segments: u64,
    bytes: u64,
    mappings: u64,
}

#[test]
fn a_hundred_communicators_have_one_segment_a_process() {
    // By which each rank talks to all others.
    let cluster = over("pool", RANKS).set("DURE_ALGO", "allreduce:two-shot");
    let report = cluster.run("many", &[&COMMUNICATORS.to_string()]);
    report.expect_well();
    let said = |rank, when: &str| {
        let said = &report.of(rank).said;
        let numbers = said.iter().find_map(|said| said.text.strip_prefix(when)).unwrap();
        let numbers: Vec<u64> = numbers.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let [descriptors, segments, bytes, mappings] = numbers[..] else { panic!("{report}") };
        Holdings { descriptors, segments, bytes, mappings }
    };
    let (mut descriptors, mut bytes, mut mappings) = (0, 0, 0);
    for rank in 0..RANKS {
        let (one, many, few) = (said(rank, "one "), said(rank, "many "), said(rank, "few "));
        for holdings in [one, many, few] {
            // Its own, and that of each other process, once.
            let held = (holdings.segments, holdings.mappings);
            assert_eq!(held, (1, u64::from(RANKS)), "rank {rank}: {holdings:?}");
        }
        // A socket to each of 7 peers and to each neighbour in the tree, of which rank 0 has 7 too; what they are slept on
        // by; where peers call.
        let each = u64::from(COMMUNICATORS);
        assert!(many.descriptors <= one.descriptors + 20 * each, "rank {rank}: {many:?}");
        assert!(many.bytes <= 2 * one.bytes * (each + 1), "rank {rank}: {one:?} {many:?}");
        // The last of them may still be there.
        assert!(few.bytes <= 3 * one.bytes, "rank {rank}: {one:?} {few:?}");
        descriptors += many.descriptors;
        bytes += many.bytes;
        mappings += many.mappings;
    }
    tell_people(&format!(
        "{COMMUNICATORS} more communicators of {RANKS} ranks: {descriptors} descriptors, {mappings} mappings, {bytes} bytes"
    ));
}
