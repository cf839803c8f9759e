//! Every algorithm, run by the executor over the simulated transport: in place and not, on the host and on the software
//! NPU, through slots and landing, with few slots, with delays and reordering by seed. Results must equal the definition.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use dure_device::{Combine, Device, Dtype, Memory, Work};
use dure_exec::{Call, Executor, Layout, Layouts, Plan, Prepared, Settings, Track};
use dure_plan::{Algorithm, Blocks, Collective, Rank, World, algorithms};
use dure_transport::simulated;

/// What is varied.
#[derive(Clone, Debug)]
struct Setting {
    settings: Settings,
    options: simulated::Options,
    in_place: bool,
    npu: bool,
    /// Buffers are the transport's, which peers can reach.
    shared: bool,
    count: u64,
}

/// The ranks of a simulated job, and the device that their buffers are on.
struct Job {
    clock: simulated::World,
    executors: Vec<Executor>,
    device: Arc<dyn Device>,
}

fn device(setting: &Setting) -> Arc<dyn Device> {
    if setting.npu {
        let options = dure_device::software::Options {
            lazy: Some(setting.options.seed),
            ..Default::default()
        };
        dure_device::software::open(options).unwrap()
    } else {
        dure_device::host::host()
    }
}

impl Job {
    fn new(ranks: u32, setting: &Setting) -> Self {
        let (clock, nets) = simulated::World::new(ranks, &setting.options);
        let addresses: Box<[_]> = nets.iter().map(|net| net.address()).collect();
        let device = device(setting);
        let host = dure_device::host::host();
        let executors = nets
            .into_iter()
            .map(|net| {
                let mut queues = vec![(host.space(), host.queue().unwrap())];
                if setting.npu {
                    queues.push((device.space(), device.queue().unwrap()));
                }
                Executor::new(net, addresses.clone(), setting.settings, queues)
            })
            .collect();
        Self { clock, executors, device }
    }

    fn buffer(&mut self, me: u32, elems: u64, shared: bool) -> Memory {
        let len = usize::try_from(elems * 4).unwrap();
        if len == 0 {
            Memory::EMPTY
        } else if shared {
            self.executors[me as usize].alloc(len).unwrap().1
        } else {
            self.device.alloc(len).unwrap()
        }
    }

    fn copy(&self, src: Memory, dst: Memory) {
        let mut queue = self.device.queue().unwrap();
        // SAFETY: the test's own buffers, waited for below.
        let ticket = unsafe { queue.submit(&Work::copy(src, dst)) }.unwrap();
        while queue.completed().unwrap() < ticket {
            std::thread::yield_now();
        }
    }

    fn write(&self, memory: Memory, values: &mut [f32]) {
        if !values.is_empty() {
            self.copy(Memory::host(values.as_mut_ptr().cast(), size_of_val(values)), memory);
        }
    }

    fn read(&self, memory: Memory) -> Vec<f32> {
        let mut values = vec![0f32; memory.len / 4];
        if !values.is_empty() {
            self.copy(memory, Memory::host(values.as_mut_ptr().cast(), memory.len));
        }
        values
    }

    /// Polls all ranks until all are idle; the clock moves when nobody does.
    fn run(&mut self) {
        let mut idle_rounds = 0;
        while !self.executors.iter().all(Executor::is_idle) {
            let moved =
                self.executors.iter_mut().filter_map(|e| e.poll().unwrap().then_some(())).count()
                    > 0;
            if moved || self.clock.step() {
                idle_rounds = 0;
            } else {
                // Only the software NPU's thread can be at work now.
                idle_rounds += 1;
                std::thread::yield_now();
                assert!(idle_rounds < 1_000_000, "nothing moves: {:?}", self.waiting());
            }
        }
    }

    fn waiting(&self) -> Vec<Vec<String>> {
        self.executors.iter().map(|e| e.waiting().map(|w| w.to_string()).collect()).collect()
    }
}

/// Element `i` of block `block` of rank `rank`'s input: small integers, so that sums are exact.
fn value(rank: u32, block: u32, i: u64) -> f32 {
    ((u64::from(rank) * 7 + u64::from(block) * 3 + i) % 13) as f32
}

/// The output of rank `me` by definition; `None` when it has none.
fn expected(what: Collective, ranks: u32, me: u32, count: u64) -> Option<Vec<f32>> {
    let sum = |block: u32, i: u64| (0..ranks).map(|r| value(r, block, i)).sum::<f32>();
    let all = |f: &dyn Fn(u32, u64) -> f32| {
        (0..ranks).flat_map(|b| (0..count).map(move |i| (b, i))).map(|(b, i)| f(b, i)).collect()
    };
    let one = |f: &dyn Fn(u64) -> f32| (0..count).map(f).collect();
    Some(match what {
        Collective::AllReduce => one(&|i| sum(0, i)),
        Collective::Reduce { root } if root.0 == me => one(&|i| sum(0, i)),
        Collective::ReduceScatter => one(&|i| sum(me, i)),
        Collective::AllGather => all(&|b, i| value(b, 0, i)),
        Collective::Gather { root } if root.0 == me => all(&|b, i| value(b, 0, i)),
        Collective::AllToAll => all(&|b, i| value(b, me, i)),
        Collective::Broadcast { root } => one(&|i| value(root.0, 0, i)),
        Collective::Scatter { root } => one(&|i| value(root.0, me, i)),
        Collective::Reduce { .. } | Collective::Gather { .. } | Collective::Barrier => return None,
    })
}

/// Input and output of a call that is in place: the shorter is this rank's block of the longer.
fn in_place(me: u32, input: u64, output: u64, whole: Memory) -> (Memory, Memory) {
    let bytes = |elems: u64| usize::try_from(elems * 4).unwrap();
    let (long, short) = (input.max(output), input.min(output));
    let own =
        if long > short { whole.part(bytes(short * u64::from(me)), bytes(short)) } else { whole };
    if input >= output { (whole, own) } else { (own, whole) }
}

fn check(by: &dyn Algorithm, what: Collective, world: &World, setting: &Setting) {
    let n = world.ranks;
    let mut job = Job::new(n, setting);
    let name = format!("{} {what} on {n} ranks, {setting:?}", by.name());
    // Twice, so that slots, credits and counters are used again.
    for round in 0..2u32 {
        let mut outputs = Vec::new();
        for me in 0..n {
            let Blocks { input, output } = what.blocks(n, Rank(me));
            let (input, output) =
                (u64::from(input) * setting.count, u64::from(output) * setting.count);
            let (src, dst) = if setting.in_place && input > 0 && output > 0 {
                in_place(me, input, output, job.buffer(me, input.max(output), setting.shared))
            } else {
                (job.buffer(me, input, setting.shared), job.buffer(me, output, setting.shared))
            };
            job.write(dst, &mut vec![-1.0; usize::try_from(output).unwrap()]);
            let mut values: Vec<f32> = (0..input)
                .map(|i| value(me, u32::try_from(i / setting.count).unwrap(), i % setting.count))
                .collect();
            job.write(src, &mut values);
            let layouts = Layouts::even(what, (n, Rank(me)), 4, setting.count);
            let plan = Arc::new(Plan::collect(what, world, by, Rank(me)));
            let sum = (Dtype::F32, Combine::Sum);
            let prepared = Arc::new(Prepared::new(plan, &layouts, setting.settings, sum).unwrap());
            let call = Call { prepared, input: src, output: dst, digest: 1 + round };
            // SAFETY: the buffers live as long as the device, which outlives the run below.
            unsafe { job.executors[me as usize].submit(call, Track::Collective) }.unwrap();
            outputs.push(dst);
        }
        job.run();
        for me in 0..n {
            if let Some(want) = expected(what, n, me, setting.count) {
                let got = job.read(outputs[me as usize]);
                let wrong = got.iter().zip(&want).position(|(g, w)| g != w);
                assert_eq!(
                    wrong,
                    None,
                    "rank {me} of {name}: {:?}",
                    wrong.map(|i| (got[i], want[i]))
                );
            }
        }
    }
}

fn collectives(n: u32) -> Vec<Collective> {
    let root = Rank(n / 2);
    vec![
        Collective::AllReduce,
        Collective::ReduceScatter,
        Collective::AllGather,
        Collective::AllToAll,
        Collective::Broadcast { root },
        Collective::Reduce { root },
        Collective::Gather { root },
        Collective::Scatter { root },
        Collective::Barrier,
    ]
}

fn base() -> Setting {
    Setting {
        settings: Settings {
            lanes: 1,
            slots: 2,
            slot_bytes: 256,
            landing_bytes: u32::MAX,
            reading_bytes: 64,
            shares_cores: false,
        },
        options: simulated::Options::default(),
        in_place: false,
        npu: false,
        shared: false,
        count: 300,
    }
}

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
            for what in collectives(n) {
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

/// Hosts numbered in the order in which they first appear.
fn number(hosts: &[u32]) -> Box<[u32]> {
    let mut seen: Vec<u32> = Vec::new();
    hosts
        .iter()
        .map(|h| {
            let at = seen.iter().position(|s| s == h).unwrap_or_else(|| {
                seen.push(*h);
                seen.len() - 1
            });
            u32::try_from(at).unwrap()
        })
        .collect()
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
    job.run();
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
