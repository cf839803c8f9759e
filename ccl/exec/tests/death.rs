//! A rank that dies at any moment of a call: the others end with an error or with their result.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use dure_device::{Combine, Dtype, Memory};
use dure_exec::{Call, Error, Executor, Layouts, Plan, Prepared, Settings, Track};
use dure_plan::{Collective, Rank, World, find};
use dure_transport::{Peer, simulated};

const RANKS: u32 = 3;
const ELEMS: usize = 500;

/// Kills rank 0 after the clock has moved `steps` times. False when the call was done before.
fn kill_after(steps: u32, options: &simulated::Options) -> bool {
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
    let by = find(Collective::AllReduce, "ring").unwrap();
    let mut buffers = vec![[1_u32; ELEMS]; 2 * RANKS as usize];
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
