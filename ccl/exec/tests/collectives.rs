//! Every algorithm, run by the executor over the simulated transport: in place and not, on the host and on the software
//! NPU, through slots and landing, with few slots, with delays and reordering by seed. Results must equal the definition.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;

use dure_device::{Combine, Dtype};
use dure_exec::{Call, Layout, Layouts, Plan, Prepared, Settings, Track};
use dure_plan::{Algorithm, Collective, Rank, World, algorithms};
use dure_transport::simulated;

use common::{Job, Setting, base, check, number, value};

/// All algorithms that serve, for all collectives, on one host and on hosts of unequal size.
fn check_all(ranks: impl IntoIterator<Item = u32>, setting: &Setting) {
    for n in ranks {
        for hosts in [1, 3] {
            let host_of =
                (0..n).map(|r| if hosts == 1 { 0 } else { (r * r) % hosts }).collect::<Vec<_>>();
            let mut world = World { lanes: setting.settings.lanes, ..World::flat(n) };
            if hosts > 1 {
                world.host_of = number(&host_of);
            }
            for what in Collective::all(Rank(n / 2)) {
                if setting.in_place && what == Collective::AllToAll {
                    continue;
                }
                for by in algorithms().iter().filter(|by| by.serves(what, &world).is_ok()) {
                    check(*by, what, &world, setting);
                }
            }
        }
    }
}

#[test]
fn through_slots() {
    check_all([1, 2, 3, 4, 5, 8], &base());
}

#[test]
fn through_a_single_slot_in_place() {
    let setting = Setting { in_place: true, ..base() };
    check_all(
        [1, 2, 3, 6, 7],
        &Setting { settings: Settings { slots: 1, ..setting.settings }, ..setting },
    );
}

#[test]
fn landing_in_user_memory() {
    for (seed, in_place) in [(1, false), (2, true)] {
        let options = simulated::Options { seed, user_memory: true, ..Default::default() };
        let settings = Settings { landing_bytes: 64, ..base().settings };
        check_all([2, 3, 4, 5], &Setting { options, settings, in_place, ..base() });
    }
}

#[test]
fn several_lanes_over_a_window() {
    let options = simulated::Options { seed: 3, window: true, ..Default::default() };
    let settings = Settings { lanes: 3, ..base().settings };
    check_all([2, 3, 4, 8], &Setting { options, settings, ..base() });
}

#[test]
fn between_coherent_peers_that_read_each_other() {
    for (seed, in_place, slots, lanes) in [(5, false, 1, 1), (6, true, 2, 1), (7, true, 1, 2)] {
        let options = simulated::Options { seed, ..simulated::Options::coherent() };
        let settings = Settings { slots, lanes, ..base().settings };
        for (count, npu) in [(1, false), (300, false), (300, true)] {
            let (options, ranks) = (options.clone(), if npu { 2..=3 } else { 2..=5 });
            let shared = count == 300 && !npu;
            for shared in [false, shared] {
                let options = options.clone();
                let setting = Setting { options, settings, in_place, npu, shared, count };
                check_all(ranks.clone(), &setting);
            }
        }
    }
}

#[test]
fn between_coherent_peers_that_share_cores_and_read_one_copy_together() {
    for (seed, in_place, lanes) in [(8, false, 1), (9, true, 2)] {
        let options = simulated::Options { seed, ..simulated::Options::coherent() };
        let settings = Settings { slots: 3, lanes, shares_cores: true, ..base().settings };
        for npu in [false, true] {
            let setting = Setting { options: options.clone(), settings, in_place, npu, ..base() };
            check_all(if npu { 3..=3 } else { 3..=5 }, &setting);
        }
    }
}

#[test]
fn on_the_software_npu() {
    for (window, in_place) in [(true, false), (false, true)] {
        let options =
            simulated::Options { seed: 4, window, user_memory: !window, ..Default::default() };
        let settings = Settings { landing_bytes: 64, lanes: 2, ..base().settings };
        check_all([1, 2, 3], &Setting { options, settings, npu: true, in_place, ..base() });
    }
}

#[test]
fn counts_around_the_cuts() {
    for count in [0, 1, 2, 15, 16, 17, 64, 65] {
        check_all([2, 3], &Setting { count, ..base() });
    }
}

#[test]
fn many_seeds_of_delays_and_full_queues() {
    for seed in 10..18 {
        let options =
            simulated::Options { seed, queue: 2, user_memory: seed % 2 == 0, ..Default::default() };
        let settings = Settings { landing_bytes: 128, slots: 3, ..base().settings };
        check_all([4], &Setting { options, settings, ..base() });
    }
}

/// An all-gather of blocks of different length, whose owners know only where their own begins.
fn check_ragged_all_gather(by: &dyn Algorithm, n: u32, setting: &Setting) {
    let lens: Vec<u64> = (0..n).map(|rank| [3, 0, 200, 70, 1][rank as usize % 5]).collect();
    let mut end = 0;
    let blocks: Arc<[_]> = lens.iter().map(|len| (end, end += len).0..end).collect();
    let mut job = Job::new(n, setting);
    let mut outputs = Vec::new();
    for (me, len) in (0..n).zip(&lens) {
        let (src, dst) = (job.buffer(me, *len, false), job.buffer(me, end, false));
        job.write(src, &mut (0..*len).map(|i| value(me, 0, i)).collect::<Vec<_>>());
        job.write(dst, &mut vec![-1.0; usize::try_from(end).unwrap()]);
        let layouts = Layouts {
            elem: 4,
            input: Layout::Ragged(std::iter::once(0..*len).collect()),
            output: Layout::Ragged(Arc::clone(&blocks)),
            whole: Layout::Ragged(Arc::clone(&blocks)),
            ragged: true,
        };
        let plan = Plan::collect(Collective::AllGather, &World::flat(n), by, Rank(me));
        let sum = (Dtype::F32, Combine::Sum);
        let prepared =
            Arc::new(Prepared::new(Arc::new(plan), &layouts, setting.settings, sum).unwrap());
        let call = Call { prepared, input: src, output: dst, digest: 1 };
        // SAFETY: the buffers live as long as the device, which outlives the run below.
        unsafe { job.executors[me as usize].submit(call, Track::Collective) }.unwrap();
        outputs.push(dst);
    }
    job.run().unwrap();
    let want: Vec<f32> =
        (0..n).zip(&lens).flat_map(|(b, len)| (0..*len).map(move |i| value(b, 0, i))).collect();
    for (me, output) in (0..n).zip(outputs) {
        assert!(job.read(output) == want, "rank {me} of {} on {n} ranks, {setting:?}", by.name());
    }
}

#[test]
fn blocks_of_different_length_land_where_they_belong() {
    let what = Collective::AllGather;
    for landing_bytes in [4, 64, u32::MAX] {
        let settings = Settings { landing_bytes, ..base().settings };
        let options = simulated::Options { seed: 6, user_memory: true, ..Default::default() };
        let setting = Setting { settings, options, ..base() };
        for n in 2..=8 {
            let serves =
                |by: &&&dyn Algorithm| by.serves(what, &World::flat(n)).is_ok() && by.ragged(what);
            algorithms()
                .iter()
                .filter(serves)
                .for_each(|by| check_ragged_all_gather(*by, n, &setting));
        }
    }
}
