//! Drawings are complete, closed, bounded, and show where a plan is stuck.

use dure_plan::{Collective, FilePlan, Rank, World, draw, find};

fn svg(what: Collective, name: &str, world: &World) -> String {
    let by = find(what, name).expect("it is in the list");
    draw(what, world, by, 0, 4).expect("it can be drawn")
}

#[test]
fn every_step_and_message_is_there() {
    let svg = svg(Collective::AllReduce, "ring", &World::flat(4));
    assert_eq!(svg.matches("<g class=\"s\">").count(), 24);
    assert_eq!(svg.matches("<g class=\"a\">").count(), 12);
    assert_eq!(svg.matches("<g class=\"r\">").count(), 12);
    assert_eq!(svg.matches("<line class=\"p\"").count(), 24);
    assert!(
        svg.contains("<title>rank 3, step 1, time 2: recv-reduce 2 in[2] out[2]</title>"),
        "{svg}"
    );
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}

#[test]
fn large_plans_are_cut_and_say_so() {
    let svg = svg(Collective::AllReduce, "ring", &World::flat(128));
    assert!(svg.contains("only ranks 0 to 63 of 128 are drawn; only the first 200 of"), "{svg}");
    assert!(svg.len() < 4 << 20, "{} bytes", svg.len());
}

#[test]
fn a_stuck_plan_is_drawn_as_far_as_it_gets() {
    let text = "plan 1
name <stuck>
collective barrier
ranks 2
lanes 1
parts 1
scratch 0
run 1
ragged no
rank 0 lane 0
recv 1 in[0..0]
rank 1 lane 0
recv 0 in[0..0]
";
    assert!(FilePlan::parse(text).is_err(), "a name is no markup");
    let plan = FilePlan::parse(&text.replace("<stuck>", "stuck")).unwrap();
    let svg = draw(Collective::Barrier, &plan.world(), &plan, 0, 1).unwrap();
    assert!(svg.contains("deadlock: 2 ranks wait for ever"), "{svg}");
    assert!(svg.contains("waits for rank 1: recv 1 in[0..0]"), "{svg}");
}

#[test]
fn lanes_are_chosen_and_must_exist() {
    let what = Collective::Broadcast { root: Rank(0) };
    let world = World { ranks: 4, host_of: [0, 0, 1, 1].into(), lanes: 2 };
    let by = find(what, "two-level").unwrap();
    let lanes = [0, 1].map(|lane| draw(what, &world, by, lane, 1).unwrap());
    assert_ne!(lanes[0], lanes[1]);
    assert!(lanes[0].contains("host 1"));
    assert!(draw(what, &world, by, 2, 1).is_err());
}
