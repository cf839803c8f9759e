//! What a rank says it waits for.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use dure_device::{Combine, Dtype};
use dure_exec::{Call, Executor, Layouts, Plan, Prepared, Settings, Track};
use dure_plan::{Collective, Rank, World, find};
use dure_transport::simulated;

const RANKS: u32 = 3;
const ELEMS: u32 = 16;

/// Ranks that make a broadcast of rank 0, whose source the others read where it is.
fn broadcasting() -> (simulated::World, Vec<Executor>) {
    let (clock, nets) = simulated::World::new(RANKS, &simulated::Options::coherent());
    let addresses: Box<[_]> = nets.iter().map(|net| net.address()).collect();
    let settings = Settings {
        lanes: 1,
        slots: 2,
        slot_bytes: 128,
        landing_bytes: u32::MAX,
        reading_bytes: 64,
        shares_cores: false,
    };
    let host = dure_device::host::host();
    let what = Collective::Broadcast { root: Rank(0) };
    let by = find(what, "linear").unwrap();
    let rank = |(me, net)| {
        let queues = vec![(host.space(), host.queue().unwrap())];
        let mut executor = Executor::new(net, addresses.clone(), settings, queues);
        let layouts = Layouts::even(what, (RANKS, Rank(me)), 4, ELEMS.into());
        let plan = Arc::new(Plan::collect(what, &World::flat(RANKS), by, Rank(me)));
        let sum = (Dtype::Uint32, Combine::Sum);
        let prepared = Arc::new(Prepared::new(plan, &layouts, settings, sum).unwrap());
        let mut memory = || executor.alloc(4 * ELEMS as usize).unwrap().1;
        let (input, output) = (memory(), memory());
        let call = Call { prepared, input, output, digest: 1 };
        // SAFETY: the buffers are the executor's own.
        unsafe { executor.submit(call, Track::Collective) }.unwrap();
        executor
    };
    (clock, (0..).zip(nets).map(rank).collect())
}

#[test]
fn a_rank_that_has_sent_everything_names_who_has_yet_to_read_it() {
    for stopped in [1, 2] {
        let (clock, mut ranks) = broadcasting();
        // It begins to connect, and does nothing from then on.
        ranks[stopped].poll().unwrap();
        let mut quiet = 0;
        while quiet < 20 {
            let others = ranks.iter_mut().enumerate().filter(|(rank, _)| *rank != stopped);
            let moved = others.filter_map(|(_, rank)| rank.poll().unwrap().then_some(())).count();
            quiet = if moved > 0 || clock.step() { 0 } else { quiet + 1 };
        }
        let waiting: Vec<_> = ranks[0].waiting().collect();
        let [waiting] = waiting[..] else { panic!("{waiting:?}") };
        let peer = u32::try_from(stopped).unwrap();
        assert_eq!((waiting.step, waiting.peer), (None, Some(peer)), "{waiting}");
        assert!(waiting.to_string().contains(&format!("rank {peer}")), "{waiting}");
    }
}
