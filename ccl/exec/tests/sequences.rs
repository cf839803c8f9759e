//! Calls that are submitted one behind the other, over a transport that is often full: nobody waits for a message that
//! only comes behind the one that he waits with.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use dure_device::{Combine, Dtype, Memory};
use dure_exec::{Call, Executor, Layouts, Plan, Prepared, Settings, Track};
use dure_plan::{Collective, Rank, World, find};
use dure_transport::simulated;

const RANKS: u32 = 2;
/// Several passes, as a message fits a slot.
const ELEMS: usize = 100;

/// What a rank broadcasts.
fn values(root: u32) -> Vec<u32> {
    (0..100).map(|at| root << 16 | at).collect()
}

/// A broadcast on one rank, and its buffers.
struct Broadcast {
    root: u32,
    input: Vec<u32>,
    output: Vec<u32>,
}

impl Broadcast {
    fn submit(me: u32, root: u32, digest: u32, executor: &mut Executor) -> Self {
        let what = Collective::Broadcast { root: Rank(root) };
        let elems = u64::try_from(ELEMS).unwrap();
        let layouts = Layouts::even(what, (RANKS, Rank(me)), 4, elems);
        let by = find(what, "linear").unwrap();
        let plan = Arc::new(Plan::collect(what, &World::flat(RANKS), by, Rank(me)));
        let sum = (Dtype::Uint32, Combine::Sum);
        let prepared = Arc::new(Prepared::new(plan, &layouts, executor.settings(), sum).unwrap());
        let mut this = Self { root, input: values(me), output: vec![0; ELEMS] };
        let memory = |b: &mut Vec<u32>| Memory::host(b.as_mut_ptr().cast(), size_of_val(&b[..]));
        let (input, output) = (memory(&mut this.input), memory(&mut this.output));
        let call = Call { prepared, input, output, digest };
        // SAFETY: the vectors outlive the executor, and nobody looks at what is in them before it is dropped.
        unsafe { executor.submit(call, Track::Collective) }.unwrap();
        this
    }
}

/// Has both ranks submit broadcasts of one and of the other, and then runs them.
fn broadcasts_in_turn(settings: Settings, options: &simulated::Options) {
    let (clock, nets) = simulated::World::new(RANKS, options);
    let addresses: Box<[_]> = nets.iter().map(|net| net.address()).collect();
    let host = dure_device::host::host();
    let mut broadcasts = Vec::new();
    let mut ranks = Vec::new();
    for (me, net) in (0..).zip(nets) {
        let queues = vec![(host.space(), host.queue().unwrap())];
        let mut executor = Executor::new(net, addresses.clone(), settings, queues);
        for (digest, root) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
            broadcasts.push(Broadcast::submit(me, root, digest, &mut executor));
        }
        ranks.push(executor);
    }
    let mut quiet = 0;
    while !ranks.iter().all(Executor::is_idle) {
        let moved = ranks.iter_mut().filter_map(|e| e.poll().unwrap().then_some(())).count() > 0;
        quiet = if moved || clock.step() { 0 } else { quiet + 1 };
        let waiting = || ranks.iter().flat_map(Executor::waiting).map(|w| w.to_string());
        assert!(quiet < 100, "{settings:?}, {options:?}: {:?}", waiting().collect::<Vec<_>>());
    }
    drop(ranks);
    for Broadcast { root, output, .. } in broadcasts {
        assert_eq!(output, values(root), "{settings:?}, {options:?}");
    }
}

/// Few slots, short queues, many seeds.
fn check(coherent: bool, reading_bytes: u32) {
    for (slots, queue) in [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (4, 2), (4, 3)] {
        for seed in 0..20 {
            let options = simulated::Options {
                seed,
                queue,
                window: coherent,
                coherent,
                user_memory: false,
                ..Default::default()
            };
            let landing_bytes = u32::MAX;
            let settings = Settings {
                lanes: 1,
                slots,
                slot_bytes: 64,
                landing_bytes,
                reading_bytes,
                shares_cores: false,
            };
            broadcasts_in_turn(settings, &options);
        }
    }
}

#[test]
fn a_full_transport_holds_up_no_slot() {
    check(false, u32::MAX);
    check(true, u32::MAX);
}

#[test]
fn a_full_transport_holds_up_no_source_that_was_read() {
    check(true, 64);
}
