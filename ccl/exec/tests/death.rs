//! A rank that dies at any moment of a call: the others end with an error or with their result. A rank that leaves when it
//! is done takes nothing with it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use dure_device::{Combine, Dtype, Memory};
use dure_exec::{Call, Error, Executor, Layouts, Plan, Prepared, Settings, Track};
use dure_plan::{Collective, Rank, World, find};
use dure_transport::{Peer, simulated};

const RANKS: u32 = 3;
const ELEMS: usize = 500;

/// Every rank with its all-reduce under way, and the clock of their world. The buffers must outlive them.
fn start(
    options: &simulated::Options,
    by: &str,
    buffers: &mut [[u32; ELEMS]],
) -> (simulated::World, Vec<Option<Executor>>) {
    let (clock, nets) = simulated::World::new(RANKS, options);
    let addresses: Box<[_]> = nets.iter().map(|net| net.address()).collect();
    let settings = Settings {
        lanes: 1,
        slots: 2,
        slot_bytes: 64,
        landing_bytes: u32::MAX,
        reading_bytes: 64,
        shares_cores: false,
    };
    let host = dure_device::host::host();
    let by = find(Collective::AllReduce, by).unwrap();
    let mut memory = buffers
        .iter_mut()
        .map(|buffer| Memory::host(buffer.as_mut_ptr().cast(), size_of_val(buffer)));
    let mut ranks: Vec<Option<Executor>> = Vec::new();
    for (rank, net) in (0..).zip(nets) {
        let queues = vec![(host.space(), host.queue().unwrap())];
        let mut executor = Executor::new(net, addresses.clone(), settings, queues);
        let plan = Plan::collect(Collective::AllReduce, &World::flat(RANKS), by, Rank(rank));
        let elems = u64::try_from(ELEMS).unwrap();
        let layouts = Layouts::even(Collective::AllReduce, (RANKS, Rank(rank)), 4, elems);
        let sum = (Dtype::Uint32, Combine::Sum);
        let prepared = Prepared::new(Arc::new(plan), &layouts, settings, sum).unwrap();
        let call = Call {
            prepared: Arc::new(prepared),
            input: memory.next().unwrap(),
            output: memory.next().unwrap(),
            digest: 1,
        };
        // SAFETY: the buffers outlive the executors, and nobody looks at them before.
        unsafe { executor.submit(call, Track::Collective) }.unwrap();
        ranks.push(Some(executor));
    }
    (clock, ranks)
}

/// Kills rank 0 after the clock has moved `steps` times. False when the call was done before.
fn kill_after(steps: u32, options: &simulated::Options) -> bool {
    let mut buffers = vec![[1_u32; ELEMS]; 2 * RANKS as usize];
    let (clock, mut ranks) = start(options, "ring", &mut buffers);
    let mut moves = 0;
    let mut quiet = 0;
    while quiet < 3 {
        let mut moved = false;
        for executor in &mut ranks {
            match executor.as_mut().map(Executor::poll) {
                Some(Ok(more)) => moved |= more,
                // A rank that fails leaves.
                Some(Err(Error::Lost { .. })) => (*executor, moved) = (None, true),
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        quiet = if moved { 0 } else { quiet + 1 };
        if !moved && clock.step() {
            (moves, quiet) = (moves + 1, 0);
            if moves == steps {
                clock.kill(Peer(0));
                ranks[0] = None;
            }
        }
    }
    moves > steps
}

#[test]
fn a_rank_that_dies_at_any_moment_is_an_error_of_the_others() {
    for (seed, user_memory, queue) in [(1, false, 1), (2, true, 1), (3, false, 8)] {
        let options = simulated::Options { seed, user_memory, queue, ..Default::default() };
        assert!((1..).take_while(|steps| kill_after(*steps, &options)).count() > 100);
    }
}

/// Rank 0 gives up once `polls` polls were made by all ranks in turn, and its caller uses its buffers for something else. What the
/// others end with is an error, or right. False when the call was done before.
fn give_up_after(polls: u32, options: &simulated::Options, by: &str) -> bool {
    let mut buffers = vec![[1_u32; ELEMS]; 2 * RANKS as usize];
    let (clock, mut ranks) = start(options, by, &mut buffers);
    let (mut made, mut moved) = (0, false);
    for at in (0..RANKS as usize).cycle() {
        if at == 0 && !std::mem::take(&mut moved) {
            clock.step();
        }
        let executor = ranks[at].as_mut().unwrap();
        if !executor.is_idle() {
            moved |= executor.poll().unwrap();
            made += 1;
        }
        if ranks[0].as_ref().unwrap().is_idle() {
            return false;
        }
        if made == polls {
            break;
        }
    }
    ranks[0].as_mut().unwrap().withdraw();
    for buffer in &mut buffers[..2] {
        // SAFETY: the buffer is the test's; whoever looks at it from now on does not expect anything in it.
        unsafe { std::ptr::write_volatile(buffer, [9; ELEMS]) };
    }
    finish_without_rank_0(&clock, ranks, &buffers);
    true
}

/// The others go on until nothing moves any more.
fn finish_without_rank_0(
    clock: &simulated::World,
    mut ranks: Vec<Option<Executor>>,
    buffers: &[[u32; ELEMS]],
) {
    let mut quiet = 0;
    while quiet < 3 {
        let mut moved = false;
        for (rank, output) in ranks.iter_mut().zip(buffers.chunks(2)).skip(1) {
            let Some(executor) = rank else { continue };
            let Ok(more) = executor.poll() else {
                *rank = None;
                continue;
            };
            moved |= more;
            assert!(!executor.is_idle() || output[1] == [RANKS; ELEMS], "{:?}", output[1]);
        }
        quiet = if moved || clock.step() { 0 } else { quiet + 1 };
    }
}

#[test]
fn a_rank_that_gives_up_spoils_no_result() {
    for seed in 0..3 {
        let coherent = seed % 2 == 0;
        let options = simulated::Options {
            seed,
            coherent,
            window: coherent,
            unattended: coherent,
            user_memory: true,
            ..Default::default()
        };
        for by in ["ring", "one-shot", "two-shot", "recursive-doubling"] {
            let moments = (1..).take_while(|polls| give_up_after(*polls, &options, by)).count();
            assert!(moments > 3, "{by}: {moments}");
        }
    }
}

#[test]
fn a_rank_that_leaves_when_it_is_done_takes_nothing_with_it() {
    for seed in 0..200 {
        let coherent = seed % 2 == 0;
        let options = simulated::Options {
            seed,
            coherent,
            window: coherent,
            unattended: coherent,
            user_memory: seed % 3 == 0,
            ..Default::default()
        };
        for by in ["ring", "one-shot", "two-shot", "recursive-doubling"] {
            let mut buffers = vec![[1_u32; ELEMS]; 2 * RANKS as usize];
            let (clock, mut ranks) = start(&options, by, &mut buffers);
            while ranks.iter().any(Option::is_some) {
                let mut moved = false;
                for (at, rank) in ranks.iter_mut().enumerate() {
                    let Some(executor) = rank else { continue };
                    let more = executor.poll();
                    moved |= more
                        .unwrap_or_else(|error| panic!("{by}, seed {seed}, rank {at}: {error}"));
                    if executor.is_idle() {
                        *rank = None;
                    }
                }
                assert!(
                    moved || clock.step() || ranks.iter().all(Option::is_none),
                    "{by}, seed {seed}"
                );
            }
            assert!(buffers.iter().skip(1).step_by(2).all(|sum| *sum == [RANKS; ELEMS]), "{by}");
        }
    }
}
