//! The text form: what is written is read back, and what is no plan is refused with line and column.

use dure_plan::{
    Buf, Chunks, Collective, FilePlan, Flaw, Rank, Sources, Step, World, algorithms, find, to_text,
    verify,
};
use proptest::prelude::*;

const PAIR: &str = "plan 1
name pair   # for people
collective all-reduce
ranks 2
lanes 1
parts 1
scratch 0
run 1
ragged no

rank 0 lane 0
send 1 in[0]
recv-reduce 1 in[0] out[0]

rank 1 lane 0
send 0 in[0]
recv-reduce 0 in[0] out[0]
";

#[test]
fn every_algorithm_survives() {
    let world = World { ranks: 5, host_of: [0, 1, 1, 0, 2].into(), lanes: 2 };
    let mut served = 0;
    for by in algorithms() {
        for what in Collective::all(Rank(1)) {
            let Ok(text) = to_text(what, &world, *by) else { continue };
            let plan = FilePlan::parse(&text).unwrap();
            assert_eq!((plan.collective(), plan.world()), (what, world.clone()));
            assert_eq!(to_text(what, &world, &plan).unwrap(), text);
            assert_eq!(verify(what, &world, &plan, 1), verify(what, &world, *by, 1));
            served += 1;
        }
    }
    assert!(served >= algorithms().len());
}

#[test]
fn a_plan_serves_only_what_it_is_for() {
    use dure_plan::Algorithm;

    let plan = FilePlan::parse(PAIR).unwrap();
    assert!(plan.serves(Collective::AllReduce, &World::flat(2)).is_ok());
    assert!(plan.serves(Collective::AllReduce, &World::flat(3)).is_err());
    assert!(plan.serves(Collective::AllGather, &World::flat(2)).is_err());
    let apart = World { host_of: [0, 1].into(), ..World::flat(2) };
    assert!(plan.serves(Collective::AllReduce, &apart).is_ok());
    let bound = PAIR.replace("parts 1", "hosts 0 0\nparts 1");
    let refusal =
        FilePlan::parse(&bound).unwrap().serves(Collective::AllReduce, &apart).unwrap_err();
    assert!(refusal.to_string().contains("another placement"), "{refusal}");
}

#[test]
fn planted_flaws_in_files_are_found() {
    let flaw = |text: &str| {
        let plan = FilePlan::parse(text).unwrap();
        verify(plan.collective(), &plan.world(), &plan, 2).unwrap_err()
    };
    let swap = "recv-reduce 1 in[0] out[0]\nsend 1 in[0]";
    let stuck = PAIR.replace("send 1 in[0]\nrecv-reduce 1 in[0] out[0]", swap);
    let stuck = stuck.replace(
        "send 0 in[0]\nrecv-reduce 0 in[0] out[0]",
        "recv-reduce 0 in[0] out[0]\nsend 0 in[0]",
    );
    assert!(matches!(flaw(&stuck), Flaw::Deadlock(places) if places.len() == 2));
    let lost = PAIR.replace("recv-reduce 0 in[0] out[0]", "recv 0 out[0]");
    let Flaw::Missing { rank, of, last: Some(last), .. } = flaw(&lost) else { panic!() };
    assert_eq!((rank, of, last.index), (Rank(1), vec![Rank(1)], 1));
    let twice =
        PAIR.replace("recv-reduce 0 in[0] out[0]", "recv 0 out[0]\nrecv-reduce 0 in[0] out[0]");
    let twice = twice.replacen("send 1 in[0]\n", "send 1 in[0]\nsend 1 in[0]\n", 1);
    let twice = twice.replace("recv-reduce 0 in[0] out[0]", "recv-reduce 0 out[0] out[0]");
    let Flaw::CountedTwice { at, of } = flaw(&twice) else { panic!() };
    assert_eq!((at.rank, at.index, of), (Rank(1), 2, Rank(0)));
}

#[test]
fn errors_name_line_column_and_what_may_be_there() {
    let error = |from: &str, to: &str| FilePlan::parse(&PAIR.replacen(from, to, 1)).unwrap_err();
    let check = |from: &str, to: &str, line: usize, column: usize, what: &str| {
        let error = error(from, to);
        assert_eq!((error.line, error.column), (line, column), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    check("plan 1", "plan 2", 1, 6, "a format version from 1 to 1");
    check("all-reduce", "all-reduze", 3, 12, "one of all-reduce, reduce-scatter");
    check("ranks 2", "ranks 0", 4, 7, "a number from 1 to");
    check("ranks 2", "ranks -2", 4, 7, "from 1 to");
    check("lanes 1", "lanes 1\nlanes 1", 6, 7, "twice");
    check("ragged no", "ragged maybe", 9, 8, "yes, no");
    check("ragged no", "color red", 9, 1, "none of name, collective");
    check("run 1\n", "", 10, 1, "no line `run`");
    check("ranks 2", "ranks 2\nroot 0", 12, 1, "has no root");
    check("parts 1", "hosts 1 0\nparts 1", 12, 1, "numbered as they first appear");
    check("rank 1 lane 0", "rank 1 lane 1", 15, 13, "a lane from 0 to 0");
    check("rank 1 lane 0", "rank 0 lane 0", 15, 13, "there twice");
    check("\nrank 1 lane 0", "", 17, 1, "a section `rank 1 lane 0`");
    check("send 1 in[0]", "sent 1 in[0]", 12, 1, "one of send, recv, recv-reduce, copy, reduce");
    check("send 1 in[0]", "send 1 inn[0]", 12, 8, "such as `in[3]`");
    check("send 1 in[0]", "send 1 in[2..1]", 12, 8, "such as `in[3]`");
    check("send 1 in[0]", "send 1", 12, 7, "found nothing");
    check("send 1 in[0]", "send 1 in[0] now", 12, 14, "the end of the line");
    check("send 1 in[0]", "reduce out[0] = in[0] scratch[0] scratch[3]", 12, 34, "in a row");
    check("scratch 0", "scratch 0\nscratch 0", 8, 9, "twice");
}

#[test]
fn a_plan_that_nobody_can_keep_is_refused() {
    let error = PAIR.replace("ranks 2", "ranks 16384").replace("parts 1", "parts 1048576");
    assert!(FilePlan::parse(&error).unwrap_err().what.contains("chunks together"));
    let error = PAIR.replace("ranks 2", "ranks 16384").replace("lanes 1", "lanes 64");
    assert!(FilePlan::parse(&error).unwrap_err().what.contains("sections"));
}

#[test]
fn nothing_is_no_plan() {
    for text in ["", "\n\n", "# only a comment", "plan", "plan 1", "plan 1\n#"] {
        assert!(FilePlan::parse(text).is_err(), "{text:?}");
    }
}

fn chunks() -> impl Strategy<Value = Chunks> {
    let buf = prop::sample::select(vec![Buf::Input, Buf::Output, Buf::Scratch]);
    (buf, 0..1000_u32, 0..5_u32).prop_map(|(buf, first, len)| Chunks { buf, first, len })
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || (0..8_u32).prop_map(Rank);
    let message = (peer(), chunks(), chunks(), 0..3).prop_map(|(peer, a, b, kind)| match kind {
        0 => Step::Send { to: peer, src: a },
        1 => Step::Recv { from: peer, dst: a },
        _ => Step::RecvReduce { from: peer, with: a, dst: b },
    });
    let copy = (chunks(), chunks()).prop_map(|(src, dst)| Step::Copy { src, dst });
    let reduce = (chunks(), chunks(), 1..6_u32, 0..6_u32, 0..100_u32).prop_map(
        |(own, dst, groups, at, first)| {
            let own = Chunks { len: dst.len, ..own };
            Step::Reduce { srcs: Sources { first, groups, at: at % groups, own }, dst }
        },
    );
    prop_oneof![message, copy, reduce]
}

proptest! {
    #[test]
    fn any_step_survives(steps in prop::collection::vec(step(), 0..20)) {
        let written: String = steps.iter().map(|step| format!("{step}\n")).collect();
        let text = PAIR.replacen("send 1 in[0]\n", &written, 1);
        let plan = FilePlan::parse(&text).unwrap();
        let again = to_text(plan.collective(), &plan.world(), &plan).unwrap();
        prop_assert!(again.contains(&written), "{again}");
        // Whatever the steps are, proving them ends, and no step makes it panic.
        let _ = verify(plan.collective(), &plan.world(), &plan, 2);
    }

    #[test]
    fn garbage_is_refused_not_feared(
        text in "(plan 1|rank [0-9]|lane|send|recv|reduce|in\\[[0-9]{1,12}|\\.\\.|\\]|[ \n#=-]|é){0,60}",
    ) {
        let _ = FilePlan::parse(&text);
    }

    #[test]
    fn damaged_plans_end_in_an_error_or_a_plan(cut in 0..PAIR.len(), paste in 0..PAIR.len(), len in 0..40_usize) {
        let piece = &PAIR[paste..(paste + len).min(PAIR.len())];
        let text = format!("{}{piece}{}", &PAIR[..cut], &PAIR[cut..]);
        if let Ok(plan) = FilePlan::parse(&text) {
            let _ = verify(plan.collective(), &plan.world(), &plan, 1);
        }
    }
}

#[test]
fn the_text_is_what_people_read() {
    let chain = find(Collective::Broadcast { root: Rank(1) }, "chain").unwrap();
    let text = to_text(Collective::Broadcast { root: Rank(1) }, &World::flat(2), chain).unwrap();
    let expected = "plan 1
name chain
collective broadcast
root 1
ranks 2
lanes 1
parts 1
scratch 0
run 1
ragged no

rank 0 lane 0
recv 1 out[0]

rank 1 lane 0
send 0 in[0]
copy in[0] out[0]
";
    assert_eq!(text, expected);
}
