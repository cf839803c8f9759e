//! Planted flaws are found, with rank and step.

use dure_plan::{
    Algorithm, Collective, Flaw, Rank, Refusal, Shape, Step, Steps, World, find, input, output,
    scratch, verify,
};

/// An algorithm whose steps were tampered with.
struct Tampered<F> {
    by: &'static dyn Algorithm,
    shape: Shape,
    edit: F,
}

impl<F> std::fmt::Debug for Tampered<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.by.fmt(f)
    }
}

impl<F: Fn(u32, &mut Vec<Step>) + Sync> Algorithm for Tampered<F> {
    fn name(&self) -> &str {
        self.by.name()
    }

    fn serves(&self, what: Collective, world: &World) -> Result<(), Refusal> {
        self.by.serves(what, world)
    }

    fn ragged(&self, what: Collective) -> bool {
        self.by.ragged(what)
    }

    fn shape(&self, _: Collective, _: &World) -> Shape {
        self.shape
    }

    fn steps<'w>(&'w self, what: Collective, world: &'w World, me: Rank, lane: u16) -> Steps<'w> {
        let mut steps = self.by.steps(what, world, me, lane).collect();
        (self.edit)(me.0, &mut steps);
        Box::new(steps.into_iter())
    }
}

/// The flaw of an algorithm among 4 ranks on one host after its steps were edited.
fn flaw(what: Collective, name: &str, edit: impl Fn(u32, &mut Vec<Step>) + Sync) -> Flaw {
    let by = find(what, name).expect("it is in the list");
    let world = World::flat(4);
    let shape = by.shape(what, &world);
    verify(what, &world, &Tampered { by, shape, edit }, 2).expect_err("the flaw is found")
}

#[test]
fn receiving_first_is_a_deadlock_of_all() {
    let Flaw::Deadlock(blocked) =
        flaw(Collective::AllReduce, "ring", |_, steps| steps[..2].reverse())
    else {
        panic!("not a deadlock")
    };
    let places: Vec<_> = blocked.iter().map(|at| (at.rank.0, at.index)).collect();
    assert_eq!(places, [(0, 0), (1, 0), (2, 0), (3, 0)]);
}

#[test]
fn too_few_slots_are_a_deadlock_of_those_who_send() {
    // Everybody sends all its messages before it receives one.
    let sends_first = |_: u32, steps: &mut Vec<Step>| {
        steps.sort_by_key(|step| !matches!(step, Step::Send { .. }));
    };
    let by = find(Collective::AllGather, "ring").unwrap();
    let world = World::flat(2);
    let edit = |me: u32, steps: &mut Vec<Step>| {
        steps.insert(0, Step::Send { to: Rank(1 - me), src: input(0, 1) });
        steps.push(Step::Recv { from: Rank(1 - me), dst: output(1 - me, 1) });
        sends_first(me, steps);
    };
    let shape = by.shape(Collective::AllGather, &world);
    let twice = Tampered { by, shape, edit };
    assert!(verify(Collective::AllGather, &world, &twice, 2).is_ok());
    let flaw = verify(Collective::AllGather, &world, &twice, 1).unwrap_err();
    let Flaw::Deadlock(blocked) = &flaw else { panic!("{flaw}") };
    assert_eq!(blocked.len(), 2);
    assert!(flaw.to_string().contains("waits for a slot"), "{flaw}");
}

#[test]
fn a_gather_that_adds_counts_twice() {
    // Step 9 of a ring of 4 is the second receive of the gather: of a chunk that was a partial sum here.
    let flaw = flaw(Collective::AllReduce, "ring", |me, steps| {
        if let (2, Step::Recv { from, dst }) = (me, steps[9]) {
            steps[9] = Step::RecvReduce { from, with: dst, dst };
        }
    });
    let Flaw::CountedTwice { at, of } = flaw else { panic!("{flaw}") };
    assert_eq!((at.rank, at.index), (Rank(2), 9));
    assert!(of.0 < 4);
}

#[test]
fn a_sum_that_is_added_again_counts_twice() {
    // The second round is run twice by ranks 1 and 3.
    let flaw = flaw(Collective::AllReduce, "recursive-doubling", |me, steps| {
        if me % 2 == 1 {
            steps.extend_from_within(2..4);
        }
    });
    let Flaw::CountedTwice { at, .. } = flaw else { panic!("{flaw}") };
    assert!(at.rank == Rank(1) || at.rank == Rank(3), "{at}");
    assert_eq!(at.index, 5);
}

#[test]
fn what_is_sent_must_not_depend_on_being_in_place() {
    // The first round is run twice: the second time the input is the output only in place.
    let flaw = flaw(Collective::AllReduce, "recursive-doubling", |me, steps| {
        if me >= 2 {
            let round = [steps[0], steps[1]];
            steps.splice(2..2, round);
        }
    });
    let Flaw::InPlace { at, .. } = flaw else { panic!("{flaw}") };
    assert!(at.rank.0 >= 2 && at.index == 2, "{at}");
}

#[test]
fn a_lost_contribution_is_missed() {
    // Rank 3 of a binomial tree neither sends nor is heard.
    let root = Rank(0);
    let flaw = flaw(Collective::Reduce { root }, "binomial", |me, steps| match me {
        3 => steps.clear(),
        2 => {
            steps.remove(0);
            steps[0] = Step::Send { to: root, src: input(0, 1) };
        }
        _ => {}
    });
    let Flaw::Missing { rank, ref of, last: Some(last), .. } = flaw else { panic!("{flaw}") };
    assert_eq!((rank, last.index), (root, 1));
    assert_eq!(of[..], [Rank(3)]);
}

#[test]
fn a_chunk_that_is_never_written_is_missed() {
    let flaw = flaw(Collective::AllGather, "ring", |me, steps| {
        if me == 1 {
            steps.retain(|step| !matches!(step, Step::Copy { .. }));
        }
    });
    let Flaw::Missing { rank, chunk, last: None, .. } = flaw else { panic!("{flaw}") };
    assert_eq!((rank, chunk), (Rank(1), output(1, 1)));
}

#[test]
fn a_dropped_send_is_a_deadlock() {
    let root = Rank(0);
    let flaw = flaw(Collective::Broadcast { root }, "chain", |me, steps| {
        if me == 1 {
            steps.truncate(1);
        }
    });
    let Flaw::Deadlock(blocked) = flaw else { panic!("{flaw}") };
    assert_eq!(blocked.iter().map(|at| at.rank.0).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_dropped_receive_leaves_a_message_over() {
    let root = Rank(0);
    let flaw = flaw(Collective::Gather { root }, "linear", |me, steps| {
        if me == 0 {
            steps.remove(2);
            steps.push(Step::Copy { src: input(0, 1), dst: output(2, 1) });
        }
    });
    // The root notices first that it has the wrong data.
    let Flaw::Wrong { at, chunk, .. } = flaw else { panic!("{flaw}") };
    assert_eq!((at.rank, at.index, chunk), (root, 3, output(2, 1)));

    let by = find(Collective::Barrier, "dissemination").unwrap();
    let edit = |me: u32, steps: &mut Vec<Step>| {
        if me == 2 {
            steps.insert(0, Step::Send { to: Rank(3), src: input(0, 0) });
        }
    };
    let shape = by.shape(Collective::Barrier, &World::flat(4));
    let flaw = verify(Collective::Barrier, &World::flat(4), &Tampered { by, shape, edit }, 4);
    let Err(Flaw::Leftover { at }) = flaw else { panic!("{flaw:?}") };
    assert_eq!(at.rank, Rank(2));
}

#[test]
fn a_barrier_that_does_not_hear_of_all_is_none() {
    let flaw = flaw(Collective::Barrier, "dissemination", |_, steps| steps.truncate(2));
    let Flaw::Missing { rank: Rank(me), ref of, .. } = flaw else { panic!("{flaw}") };
    let mut unheard = [Rank((me + 1) % 4), Rank((me + 2) % 4)];
    unheard.sort();
    assert_eq!(of[..], unheard);
    assert!(flaw.to_string().contains("the barrier misses"), "{flaw}");
}

#[test]
fn reading_what_nobody_wrote_is_found() {
    let flaw = flaw(Collective::ReduceScatter, "ring", |me, steps| {
        if let (1, Step::Send { to, .. }) = (me, steps[2]) {
            steps[2] = Step::Send { to, src: scratch(3 - 1, 1) };
        }
    });
    let Flaw::Unset { at, chunk } = flaw else { panic!("{flaw}") };
    assert_eq!((at.rank, at.index, chunk), (Rank(1), 2, scratch(2, 1)));
}

#[test]
fn parts_must_land_where_parts_are_as_long() {
    let flaw = flaw(Collective::AllReduce, "ring", |me, steps| {
        if let (1, Step::Recv { from, dst }) = (me, steps[7]) {
            steps[7] = Step::Recv { from, dst: output((dst.first + 1) % 4, 1) };
        }
    });
    let Flaw::Wrong { at, .. } = flaw else { panic!("{flaw}") };
    assert_eq!((at.rank, at.index), (Rank(1), 7));
}

#[test]
fn messages_must_be_as_long_as_expected() {
    // The last message that rank 3 gets is two blocks.
    let flaw = flaw(Collective::AllGather, "bruck", |me, steps| {
        if let (3, Some(last)) = (me, steps.last_mut())
            && let Step::Recv { dst, .. } = last
        {
            dst.len = 1;
        }
    });
    let Flaw::Mismatch { at, sent, by } = flaw else { panic!("{flaw}") };
    assert_eq!((at.rank, sent), (Rank(3), 2));
    assert!(matches!(by.step, Step::Send { to: Rank(3), .. }));
}

#[test]
fn what_is_right_only_with_separate_buffers_is_found() {
    // Rank 0 stores the root's data before it sends its own.
    let flaw = flaw(Collective::AllReduce, "one-shot", |me, steps| {
        if me == 0 {
            steps.insert(0, Step::Copy { src: input(0, 1), dst: scratch(0, 1) });
            let receive = steps.iter().position(|step| matches!(step, Step::Recv { .. })).unwrap();
            if let Step::Recv { from, .. } = steps[receive] {
                steps[receive] = Step::Recv { from, dst: output(0, 1) };
                let back = Step::Copy { src: output(0, 1), dst: scratch(from.0, 1) };
                steps.insert(receive + 1, back);
            }
        }
    });
    let Flaw::CountedTwice { at, of } = flaw else { panic!("{flaw}") };
    assert_eq!((at.rank, of), (Rank(0), Rank(3)));
}

#[test]
fn rules_for_single_steps() {
    let broken = |step: Step| {
        let edit = move |me: u32, steps: &mut Vec<Step>| {
            if me == 2 {
                steps.insert(1, step);
            }
        };
        let flaw = flaw(Collective::AllGather, "ring", edit);
        let at = match flaw {
            Flaw::Malformed { at, .. } | Flaw::OutOfRange { at, .. } => at,
            other => panic!("{other}"),
        };
        assert_eq!((at.rank, at.index, at.step), (Rank(2), 1, step));
    };
    broken(Step::Send { to: Rank(2), src: input(0, 1) });
    broken(Step::Send { to: Rank(4), src: input(0, 1) });
    broken(Step::Send { to: Rank(1), src: input(1, 1) });
    broken(Step::Send { to: Rank(1), src: output(0, 2) });
    broken(Step::Send { to: Rank(1), src: output(u32::MAX, 2) });
    broken(Step::Recv { from: Rank(1), dst: input(0, 1) });
    broken(Step::Copy { src: output(0, 2), dst: output(1, 2) });
    broken(Step::Copy { src: output(0, 2), dst: output(2, 1) });
    broken(Step::Copy { src: output(0, 1), dst: scratch(0, 1) });
}

#[test]
fn nonsense_is_refused() {
    let ring = find(Collective::AllReduce, "ring").unwrap();
    let prove = |world: &World, slots| verify(Collective::AllReduce, world, ring, slots);
    assert!(matches!(prove(&World::flat(3), 0), Err(Flaw::Unprovable(_))));
    assert!(matches!(prove(&World { lanes: 0, ..World::flat(3) }, 1), Err(Flaw::Unprovable(_))));
    assert!(matches!(prove(&World { ranks: 4, ..World::flat(3) }, 1), Err(Flaw::Unprovable(_))));
    let barrier = verify(Collective::Barrier, &World::flat(3), ring, 1);
    assert!(matches!(barrier, Err(Flaw::Refused(_))));
}
