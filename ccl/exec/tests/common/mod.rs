//! Ranks of a job, cranked by one thread, and collectives run by them, whose results must equal the definition.

#![allow(dead_code, reason = "each test uses some of it")]
#![allow(unreachable_pub, reason = "a module of several tests")]

use std::sync::Arc;

use dure_device::{Combine, Device, Dtype, Memory, Work};
use dure_exec::{Call, Executor, Layouts, Plan, Prepared, Settings, Track};
use dure_plan::{Algorithm, Blocks, Collective, HostMap, Rank, World};
use dure_transport::{Transport, simulated};

/// What is varied.
#[derive(Clone, Debug)]
pub struct Setting {
    pub settings: Settings,
    pub options: simulated::Options,
    pub in_place: bool,
    pub npu: bool,
    /// Buffers are the transport's, which peers can reach.
    pub shared: bool,
    pub count: u64,
}

/// The ranks of a job in one thread, and the device that their buffers are on.
pub struct Job {
    /// Lets time pass; false when nothing happened.
    clock: Box<dyn FnMut() -> bool>,
    pub executors: Vec<Executor>,
    device: Arc<dyn Device>,
    /// Rounds without a move after which nothing moves any more.
    pub patience: u32,
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
    pub fn new(ranks: u32, setting: &Setting) -> Self {
        let (clock, nets) = simulated::World::new(ranks, &setting.options);
        Self::over(nets, Box::new(move || clock.step()), setting)
    }

    /// Ranks over these transports.
    pub fn over(
        nets: Vec<Box<dyn Transport>>,
        clock: Box<dyn FnMut() -> bool>,
        setting: &Setting,
    ) -> Self {
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
        Self { clock, executors, device, patience: 1_000_000 }
    }

    pub fn buffer(&mut self, me: u32, elems: u64, shared: bool) -> Memory {
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

    pub fn write(&self, memory: Memory, values: &mut [f32]) {
        if !values.is_empty() {
            self.copy(Memory::host(values.as_mut_ptr().cast(), size_of_val(values)), memory);
        }
    }

    pub fn read(&self, memory: Memory) -> Vec<f32> {
        let mut values = vec![0f32; memory.len / 4];
        if !values.is_empty() {
            self.copy(memory, Memory::host(values.as_mut_ptr().cast(), memory.len));
        }
        values
    }

    /// Polls all ranks until all are idle; the clock moves when nobody does.
    ///
    /// # Errors
    /// What a rank says, or what all wait for when nothing moves.
    pub fn run(&mut self) -> Result<(), String> {
        let mut idle_rounds = 0;
        while !self.executors.iter().all(Executor::is_idle) {
            let mut moved = false;
            for executor in &mut self.executors {
                moved |= executor.poll().map_err(|error| format!("{error:?}"))?;
            }
            if moved || (self.clock)() {
                idle_rounds = 0;
            } else {
                // Only the software NPU's thread can be at work now.
                idle_rounds += 1;
                std::thread::yield_now();
                if idle_rounds == self.patience {
                    return Err(format!("nothing moves: {:?}", self.waiting()));
                }
            }
        }
        Ok(())
    }

    fn waiting(&self) -> Vec<Vec<String>> {
        self.executors.iter().map(|e| e.waiting().map(|w| w.to_string()).collect()).collect()
    }
}

/// Element `i` of block `block` of rank `rank`'s input: small integers, so that sums are exact.
pub fn value(rank: u32, block: u32, i: u64) -> f32 {
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

/// Runs a collective twice, so that slots, credits and counters are used again.
///
/// # Panics
/// When a rank fails, nothing moves, or a result is wrong.
pub fn check(by: &dyn Algorithm, what: Collective, world: &World, setting: &Setting) {
    let mut job = Job::new(world.ranks, setting);
    if let Err(wrong) = check_in(&mut job, by, (what, world), setting) {
        panic!("{wrong} in {} {what} on {} ranks, {setting:?}", by.name(), world.ranks);
    }
}

/// The same in a job.
///
/// # Errors
/// What is wrong.
pub fn check_in(
    job: &mut Job,
    by: &dyn Algorithm,
    (what, world): (Collective, &World),
    setting: &Setting,
) -> Result<(), String> {
    let n = world.ranks;
    for round in 0..2u32 {
        let mut outputs = Vec::new();
        for me in 0..n {
            let (src, dst) = buffers(job, what, (n, me), setting);
            let layouts = Layouts::even(what, (n, Rank(me)), 4, setting.count);
            let plan = Arc::new(Plan::collect(what, world, by, Rank(me)));
            let sum = (Dtype::F32, Combine::Sum);
            let prepared = Arc::new(Prepared::new(plan, &layouts, setting.settings, sum).unwrap());
            let call = Call { prepared, input: src, output: dst, digest: 1 + round };
            // SAFETY: the buffers live as long as the device, which outlives the run below.
            unsafe { job.executors[me as usize].submit(call, Track::Collective) }
                .map_err(|error| format!("{error:?}"))?;
            outputs.push(dst);
        }
        job.run()?;
        for me in 0..n {
            if let Some(want) = expected(what, n, me, setting.count) {
                let got = job.read(outputs[me as usize]);
                if let Some(i) = got.iter().zip(&want).position(|(g, w)| g != w) {
                    return Err(format!("rank {me}, element {i}: {} for {}", got[i], want[i]));
                }
            }
        }
    }
    Ok(())
}

/// Input and output of a rank, of which the input has its values.
fn buffers(
    job: &mut Job,
    what: Collective,
    (n, me): (u32, u32),
    setting: &Setting,
) -> (Memory, Memory) {
    let Blocks { input, output } = what.blocks(n, Rank(me));
    let (input, output) = (u64::from(input) * setting.count, u64::from(output) * setting.count);
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
    (src, dst)
}

pub fn base() -> Setting {
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

/// Hosts numbered in the order in which they first appear.
pub fn number(hosts: &[u32]) -> HostMap {
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
