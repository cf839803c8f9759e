//! Typed calls between ranks that are threads of one process, over shared memory and over TCP.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use dure::config::{AlgorithmRules, Transports, Tune};
use dure::planner::Profile;
use dure::{
    Action, Candidate, Collective, Communicator, Config, Dtype, ErrorKind, Memory, ReduceOp,
    Request, Result, Stream, UniqueId,
};

/// Runs `each` on every rank of a communicator of `size` ranks, each in a thread of its own.
fn ranks(size: u32, config: &Config, each: impl Fn(&Communicator) -> Result<()> + Sync) {
    let communicators = Communicator::init_all(size, config).unwrap();
    std::thread::scope(|scope| {
        for communicator in &communicators {
            let each = &each;
            scope.spawn(move || {
                if let Err(error) = each(communicator) {
                    communicator.abort();
                    panic!("rank {}: {}", communicator.rank(), error.chain());
                }
            });
        }
    });
}

fn transports() -> [Config; 2] {
    ["pool", "tcp"].map(|name| Config::default().transport(Transports::parse(name).unwrap()))
}

/// Element `i` of rank `rank`.
fn value(rank: u32, i: usize) -> i64 {
    i64::from(rank) * 1000 + i64::try_from(i).unwrap()
}

fn values(rank: u32, len: usize) -> Vec<i64> {
    (0..len).map(|i| value(rank, i)).collect()
}

fn sum(size: u32, i: usize) -> i64 {
    (0..size).map(|r| value(r, i)).sum()
}

#[test]
fn every_collective_on_up_to_five_ranks() {
    for config in transports() {
        for size in [1, 2, 3, 5] {
            for count in [0, 1, 1000, 100_000] {
                ranks(size, &config, |c| every_collective(c, count));
            }
        }
    }
}

fn every_collective(c: &Communicator, count: usize) -> Result<()> {
    let (me, size) = (c.rank(), c.size());
    let n = size as usize;
    let mut data = values(me, count);
    c.all_reduce(&mut data, ReduceOp::Sum)?;
    assert!(data.iter().enumerate().all(|(i, v)| *v == sum(size, i)));

    let mut output = vec![0; count];
    c.all_reduce_into(&values(me, count), &mut output, ReduceOp::Max)?;
    assert_eq!(output, values(size - 1, count));

    c.reduce_scatter(&values(me, count * n), &mut output, ReduceOp::Sum)?;
    assert!(output.iter().enumerate().all(|(i, v)| *v == sum(size, i + count * me as usize)));

    let mut all = vec![0; count * n];
    c.all_gather(&values(me, count), &mut all)?;
    assert!(
        all.iter()
            .enumerate()
            .all(|(i, v)| count > 0 && *v == value(u32::try_from(i / count).unwrap(), i % count))
    );

    c.all_to_all(&values(me, count * n), &mut all)?;
    let from = |i: usize| value(u32::try_from(i / count).unwrap(), me as usize * count + i % count);
    assert!(all.iter().enumerate().all(|(i, v)| *v == from(i)));

    for root in [0, size - 1] {
        let mut data = values(me, count);
        c.broadcast(&mut data, root)?;
        assert_eq!(data, values(root, count));
        c.reduce(&values(me, count), Some(&mut output), root, ReduceOp::Sum)?;
        assert!(me != root || output.iter().enumerate().all(|(i, v)| *v == sum(size, i)));
        c.gather(&values(me, count), (me == root).then_some(&mut all[..]), root)?;
        if me == root {
            let block = |i: usize| value(u32::try_from(i / count).unwrap(), i % count);
            assert!(all.iter().enumerate().all(|(i, v)| *v == block(i)));
        }
        c.scatter((me == root).then_some(&values(root, count * n)[..]), &mut output, root)?;
        assert!(output.iter().enumerate().all(|(i, v)| *v == value(root, me as usize * count + i)));
    }
    c.barrier()
}

#[test]
fn blocks_of_different_length() {
    // Bruck's algorithm pads the blocks.
    let padded = Config::default().algo(AlgorithmRules::parse("alltoall:bruck").unwrap());
    for config in transports().into_iter().chain([padded]) {
        ranks(4, &config, |c| {
            let me = c.rank() as usize;
            let counts = [3, 0, 70_000, 5];
            let mut all = vec![0; counts.iter().sum()];
            c.all_gather_v(&values(c.rank(), counts[me]), &mut all, &counts)?;
            let want: Vec<i64> = (0..4).flat_map(|r| values(r, counts[r as usize])).collect();
            assert_eq!(all, want);

            let mut mine = vec![0; counts[me]];
            c.reduce_scatter_v(&values(c.rank(), all.len()), &counts, &mut mine, ReduceOp::Sum)?;
            let start: usize = counts[..me].iter().sum();
            assert!(mine.iter().enumerate().all(|(i, v)| *v == sum(4, start + i)));

            // Rank r sends (r + 1) * (s + 2) elements to rank s; long ones land, short ones do not.
            let len = |r: usize, s: usize| (r + 1) * (s + 2) * if s == 1 { 9000 } else { 1 };
            let to: Vec<usize> = (0..4).map(|s| len(me, s)).collect();
            let from: Vec<usize> = (0..4).map(|r| len(r, me)).collect();
            let mut got = vec![0; from.iter().sum()];
            c.all_to_all_v((&values(c.rank(), to.iter().sum()), &to), (&mut got, &from))?;
            let want: Vec<i64> = (0..4)
                .flat_map(|r| {
                    let before: usize = (0..me).map(|s| len(r, s)).sum();
                    values(u32::try_from(r).unwrap(), before + len(r, me)).split_off(before)
                })
                .collect();
            assert_eq!(got, want);

            let root = 2;
            c.gather_v(
                &values(c.rank(), counts[me]),
                (c.rank() == root).then_some((&mut all[..], &counts[..])),
                root,
            )?;
            let input: Vec<i64> = (0..4).flat_map(|r| values(r, counts[r as usize])).collect();
            assert!(c.rank() != root || all == input);
            c.scatter_v((c.rank() == root).then_some((&input[..], &counts[..])), &mut mine, root)?;
            assert_eq!(mine, values(c.rank(), counts[me]));
            Ok(())
        });
    }
}

#[test]
fn groups_of_messages_do_not_wait_for_one_another() {
    for config in transports() {
        ranks(3, &config, |c| {
            let (me, n) = (c.rank(), c.size());
            // More messages, and longer ones, than there are slots; receives come last; one goes to itself.
            let outgoing: Vec<Vec<i64>> =
                (0..n).flat_map(|_| (0..6).map(|k| values(me * 10 + k, 40_000))).collect();
            let mut incoming: Vec<Vec<i64>> = (0..n * 6).map(|_| vec![0; 40_000]).collect();
            c.group(|g| {
                for (i, data) in (0..).zip(&outgoing) {
                    g.send(data, i / 6)?;
                }
                for (i, data) in (0..).zip(&mut incoming) {
                    g.recv(data, i / 6)?;
                }
                Ok(())
            })?;
            for (i, data) in (0..).zip(&incoming) {
                assert!(*data == values((i / 6) * 10 + i % 6, 40_000), "message {i} on rank {me}");
            }
            Ok(())
        });
    }
}

/// A call that was made before takes a shorter way: it must not be taken for another one.
#[test]
fn repeated_calls_are_told_apart() {
    for config in transports() {
        ranks(3, &config, |c| {
            let me = c.rank();
            for round in 0..4 {
                for count in [3, 5] {
                    let mine = |i: usize| value(me, i) + round;
                    let mut data: Vec<i64> = (0..count).map(mine).collect();
                    c.all_reduce(&mut data, ReduceOp::Sum)?;
                    assert!(data.iter().enumerate().all(|(i, v)| *v == sum(3, i) + 3 * round));
                    let mut data: Vec<i64> = (0..count).map(mine).collect();
                    c.all_reduce(&mut data, ReduceOp::Max)?;
                    assert!(data.iter().enumerate().all(|(i, v)| *v == value(2, i) + round));
                    let mut floats = vec![f64::from(me); count];
                    c.all_reduce(&mut floats, ReduceOp::Avg)?;
                    assert_eq!(floats, vec![1.0; count]);
                    for root in 0..3 {
                        let mut data: Vec<i64> = (0..count).map(mine).collect();
                        c.broadcast(&mut data, root)?;
                        assert!(data.iter().enumerate().all(|(i, v)| *v == value(root, i) + round));
                    }
                    // A function of one number on this round, and another one on the next.
                    let op = ReduceOp::custom(1, move |_, inout, _| {
                        inout.fill(u8::try_from(round).unwrap());
                    });
                    let mut bytes = vec![9_u8; count];
                    c.all_reduce(&mut bytes, op)?;
                    assert_eq!(bytes, vec![u8::try_from(round).unwrap(); count]);
                }
                if me == 0 {
                    c.send(&[round], 1)?;
                    c.send(&[round; 2], 1)?;
                } else if me == 1 {
                    let (mut one, mut two) = ([-1], [-1; 2]);
                    c.recv(&mut one, 0)?;
                    c.recv(&mut two, 0)?;
                    assert_eq!((one, two), ([round], [round; 2]));
                }
            }
            Ok(())
        });
    }
}

/// Lengths are checked each time, and so is whether an exchange overwrites what it has yet to send.
#[test]
fn the_buffers_of_repeated_calls_are_looked_at() {
    ranks(2, &Config::default(), |c| {
        let me = c.rank();
        let all_to_all = |input: &mut [i64], output: *mut i64, len: usize| {
            let request = Request {
                action: Action::Collective(Collective::AllToAll, 1),
                input: Memory::host(input.as_mut_ptr().cast(), size_of_val(input)),
                output: Memory::host(output.cast(), len * 8),
                dtype: Dtype::Int64,
                op: ReduceOp::Sum,
            };
            // SAFETY: both buffers outlive the call, and nobody else uses them.
            unsafe { c.call(&request) }
        };
        for _ in 0..3 {
            let (mut input, mut output) = ([i64::from(me), 10 + i64::from(me)], [0; 2]);
            all_to_all(&mut input, output.as_mut_ptr(), 2)?;
            let expected = [i64::from(10 * me), i64::from(10 * me) + 1];
            assert_eq!(output, expected);
            let in_place = input.as_mut_ptr();
            all_to_all(&mut input, in_place, 2)?;
            assert_eq!(input, expected);
            let short = all_to_all(&mut input, output.as_mut_ptr(), 1).unwrap_err();
            assert!(short.what.contains("the output has 8 bytes"), "{short}");
        }
        Ok(())
    });
}

/// The progress thread serves all communicators of the process: a panic in the call of one must not end it.
#[test]
fn a_panic_in_the_background_ends_one_communicator_only() {
    let op = || ReduceOp::custom(1, |_, _, _| panic!("a user's mistake"));
    for (op, ends_well) in [(op(), false), (ReduceOp::Sum, true)] {
        let communicators = Communicator::init_all(2, &Config::default()).unwrap();
        let streams = [Stream::new(), Stream::new()];
        let mut data = [1_i32; 2];
        for ((c, stream), data) in communicators.iter().zip(&streams).zip(&mut data) {
            let memory = Memory::host(std::ptr::from_mut(data).cast(), 4);
            let request = Request {
                action: Action::Collective(Collective::AllReduce, 1),
                input: memory,
                output: memory,
                dtype: Dtype::Int32,
                op: op.clone(),
            };
            // SAFETY: the data stays until both streams are idle, and nobody else uses it meanwhile.
            unsafe { stream.enqueue(c, vec![request]) }.unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while !streams.iter().all(Stream::is_idle) {
            assert!(Instant::now() < deadline, "the progress thread is gone");
            std::thread::yield_now();
        }
        for stream in &streams {
            match stream.synchronize() {
                Ok(()) => assert!(ends_well),
                Err(error) => assert!(!ends_well && error.what.contains("panicked"), "{error}"),
            }
        }
    }
}

#[test]
fn tickets_give_buffers_back() {
    ranks(3, &Config::default(), |c| {
        let mut data = c.buffer::<i64>(50_000)?;
        data.copy_from_slice(&values(c.rank(), 50_000));
        let mut block = c.buffer::<i64>(10)?;
        block.copy_from_slice(&values(c.rank(), 10));
        let first = c.start_all_reduce(data, ReduceOp::Sum)?;
        let second = c.start_all_gather(block, c.buffer(30)?)?;
        let data = first.wait()?;
        assert!(data.iter().enumerate().all(|(i, v)| *v == sum(3, i)));
        let (_, all) = second.wait()?;
        assert!(
            all.iter()
                .enumerate()
                .all(|(i, v)| *v == value(u32::try_from(i / 10).unwrap(), i % 10))
        );
        Ok(())
    });
}

#[test]
fn communicators_of_communicators() {
    ranks(4, &Config::default(), |c| {
        let me = c.rank();
        // Odd ranks in reverse order; rank 0 stays out.
        let part = c.split((me != 0).then_some(me % 2), -i32::try_from(me).unwrap())?;
        match &part {
            None => assert_eq!(me, 0),
            Some(part) => {
                assert_eq!(
                    (part.rank(), part.size()),
                    match me {
                        1 => (1, 2),
                        3 => (0, 2),
                        _ => (0, 1),
                    }
                );
                let mut data = [i64::from(me)];
                part.all_reduce(&mut data, ReduceOp::Sum)?;
                assert_eq!(data, [if me % 2 == 1 { 4 } else { 2 }]);
            }
        }
        let copy = c.duplicate()?;
        let mut data = [1];
        copy.all_reduce(&mut data, ReduceOp::Sum)?;
        c.all_reduce(&mut data, ReduceOp::Sum)?;
        assert_eq!(data, [16]);
        if me != 1 {
            let rest = c.shrink(&[1])?;
            let mut data = [i64::from(rest.rank())];
            rest.all_reduce(&mut data, ReduceOp::Sum)?;
            assert_eq!(data, [3]);
        }
        copy.finalize()
    });
}

#[test]
fn new_ranks_come_behind_the_old_ones() {
    let config = Config::default();
    let old = Communicator::init_all(2, &config).unwrap();
    let id = UniqueId::new(&config).unwrap();
    let sum = |c: Communicator, rank: u32| {
        assert_eq!((c.rank(), c.size()), (rank, 4));
        let mut data = [1 << rank];
        c.all_reduce(&mut data, ReduceOp::Sum).unwrap();
        assert_eq!(data, [0b1111]);
        c.finalize().unwrap();
    };
    std::thread::scope(|scope| {
        for c in &old {
            let config = &config;
            scope.spawn(move || {
                let none = c.grow(None, 4, config.clone()).unwrap_err();
                assert!(none.what.starts_with("the ranks gave no id"), "{none}");
                let small = c.grow(Some(id), 2, config.clone()).unwrap_err();
                assert_eq!(small.what, "size 2 adds no rank (allowed: more than 2)");
                let given = (c.rank() == 1).then_some(id);
                sum(c.grow(given, 4, config.clone()).unwrap(), c.rank());
                c.finalize().unwrap();
            });
        }
        for rank in 2..4 {
            let new = Communicator::builder().rank(rank, 4).meet_at(id).config(config.clone());
            scope.spawn(move || sum(new.connect().unwrap(), rank));
        }
    });
}

#[test]
fn a_panic_in_a_users_function_ends_the_communicator_on_all_ranks() {
    let communicators = Communicator::init_all(2, &Config::default()).unwrap();
    std::thread::scope(|scope| {
        for c in &communicators {
            scope.spawn(move || {
                let me = c.rank();
                let op = ReduceOp::custom(1, move |_, _, _| assert_ne!(me, 1, "a user's mistake"));
                let call = || c.all_reduce(&mut [1i32], op);
                let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
                assert_eq!(caught.is_err(), me == 1);
                let error = loop {
                    if let Err(error) = c.barrier() {
                        break error;
                    }
                };
                assert!(error.what.contains("panicked"), "rank {me}: {}", error.chain());
                assert_eq!(c.health().unwrap_err().what, error.what);
            });
        }
    });
}

#[test]
fn the_flight_record_is_written_when_a_call_fails() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::default().trace_file(Some(folder.path().join("flight-")));
    let communicators = Communicator::init_all(2, &config).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            communicators[0].barrier().unwrap();
            communicators[0].all_reduce(&mut [1], ReduceOp::Sum).unwrap_err();
        });
        scope.spawn(|| {
            communicators[1].barrier().unwrap();
            communicators[1].abort();
        });
    });
    let record = std::fs::read_to_string(folder.path().join("flight-0.trace")).unwrap();
    assert!(record.starts_with('[') && record.ends_with("]\n"), "{record}");
    assert!(
        record.contains("\"name\":\"call\"") && record.contains("\"name\":\"step 0\""),
        "{record}"
    );
}

#[test]
fn every_candidate_can_be_pinned_and_gives_the_same() {
    for config in transports() {
        ranks(4, &config, |c| {
            for what in [Collective::AllReduce, Collective::AllGather] {
                let predictions = c.explain(what, 64 << 10).predictions;
                assert!(predictions.len() > 4, "{predictions:?}");
                for candidate in predictions.into_iter().map(|one| one.candidate) {
                    c.pin(Some(&candidate))?;
                    let mut data = values(c.rank(), 2048);
                    let mut all = vec![0; 4 * 2048];
                    match what {
                        Collective::AllReduce => c.all_reduce(&mut data, ReduceOp::Sum)?,
                        _ => c.all_gather(&data, &mut all)?,
                    }
                    let chosen = c.last_choice().unwrap();
                    assert_eq!(chosen, candidate);
                    let right = match what {
                        Collective::AllReduce => (0..2048).all(|i| data[i] == sum(4, i)),
                        _ => (0..4).all(|r| all[r as usize * 2048..][..2048] == values(r, 2048)),
                    };
                    assert!(right, "{what} by {candidate:?}");
                }
            }
            let free = c.pin(None);
            c.barrier()?;
            free
        });
    }
}

#[test]
fn what_cannot_be_pinned_is_named() {
    ranks(2, &Config::default(), |c| {
        let pin = |algorithm: &str, lanes| Candidate {
            algorithm: algorithm.to_owned(),
            lanes,
            by_fabric: false,
        };
        let error = c.pin(Some(&pin("rign", 1))).unwrap_err();
        assert!(error.what.contains("\"rign\"") && error.what.contains("ring"), "{error}");
        let error = c.pin(Some(&pin("ring", 99))).unwrap_err();
        assert!(error.what.contains("99 lanes (allowed: 1 to"), "{error}");
        Ok(())
    });
}

#[test]
fn ranks_that_pin_differently_are_told() {
    let communicators = Communicator::init_all(2, &Config::default()).unwrap();
    let pin =
        |algorithm: &str| Candidate { algorithm: algorithm.to_owned(), lanes: 1, by_fabric: false };
    let errors: Vec<_> = std::thread::scope(|scope| {
        let each = |c: &'static str, communicator| {
            scope.spawn(move || {
                let communicator: &Communicator = communicator;
                communicator.pin(Some(&pin(c))).unwrap();
                communicator
                    .all_reduce(&mut [0_u8; 8], ReduceOp::Sum)
                    .and_then(|()| communicator.finalize())
            })
        };
        let threads: Vec<_> =
            ["ring", "two-shot"].into_iter().zip(&communicators).map(|(c, r)| each(c, r)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap_err()).collect()
    });
    assert!(errors.iter().all(|error| error.kind == ErrorKind::InvalidUsage), "{errors:?}");
}

#[test]
fn measured_times_move_the_choice_of_all_ranks_alike() {
    for config in transports() {
        let config = config.tune(Tune::Online);
        let (send, receive) = std::sync::mpsc::channel();
        ranks(3, &config, |c| {
            let mut used = std::collections::BTreeSet::new();
            let mut data = vec![1_i64; 512];
            for call in 0..40_u32 {
                data.fill(i64::from(call));
                c.all_reduce(&mut data, ReduceOp::Sum)?;
                assert!(data.iter().all(|v| *v == 3 * i64::from(call)), "call {call}");
                used.insert(c.last_choice().unwrap().to_string());
            }
            let last = c.last_choice();
            for _ in 0..5 {
                c.all_reduce(&mut data, ReduceOp::Sum)?;
                assert_eq!(c.last_choice(), last, "the trial has ended");
            }
            assert!(used.len() > 1, "{used:?}");
            assert_ne!(c.profile().corrections, Profile::default().corrections);
            send.send((last, used)).unwrap();
            Ok(())
        });
        let chosen: Vec<_> = receive.try_iter().collect();
        assert!(chosen.iter().all(|one| *one == chosen[0]), "{chosen:?}");
    }
}

#[test]
fn groups_and_rooted_calls_end_their_trials_too() {
    ranks(4, &Config::default().tune(Tune::Online), |c| {
        let mut sums = [vec![0_i64; 100], vec![0; 3000]];
        for call in 0..50_u32 {
            let value = i64::from(call);
            let [short, long] = &mut sums;
            short.fill(value);
            long.fill(value);
            c.group(|group| {
                group.all_reduce(short, ReduceOp::Sum)?;
                group.all_reduce(long, ReduceOp::Sum)
            })?;
            assert!(sums.iter().flatten().all(|v| *v == 4 * value), "call {call}");
            let mut data = vec![if c.rank() == 2 { value } else { -1 }; 700];
            c.broadcast(&mut data, 2)?;
            assert!(data.iter().all(|v| *v == value), "call {call}");
        }
        c.finalize()
    });
}

#[test]
fn deterministic_mode_tries_nothing() {
    ranks(3, &Config::default().tune(Tune::Online).deterministic(true), |c| {
        let choices: std::collections::BTreeSet<String> = (0..20)
            .map(|_| {
                c.all_reduce(&mut [1.0_f32; 64], ReduceOp::Sum).unwrap();
                c.last_choice().unwrap().to_string()
            })
            .collect();
        assert_eq!(choices.len(), 1, "{choices:?}");
        Ok(())
    });
}
