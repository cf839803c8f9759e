//! Sequences of calls on the executors of a small job, over the simulated transport: ranks make their calls at any
//! time, other calls than the others, or die. Nothing panics, everything ends, and when all ranks made the same calls
//! and nobody died, the results are right.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use dure_device::{Combine, Dtype, Memory};
use dure_exec::{Call, Executor, Layout, Layouts, Plan, Prepared, Settings, Track};
use dure_plan::{Collective, Rank, Step, World, algorithms, input, output};
use dure_transport::{Peer, simulated};
use libfuzzer_sys::fuzz_target;

/// Rounds after which a job that still moves will never end.
const PATIENCE: u32 = 1_000_000;
/// Rounds in which nothing moves after which nothing ever will. What one rank takes in may make room for another that was
/// asked before it, and a short call asks its transport only every few polls.
const QUIET: u32 = 50;

#[derive(Arbitrary, Debug)]
struct Script {
    ranks: u8,
    /// The first rank of the second host.
    split: u8,
    lanes: u8,
    slots: u8,
    slot_bytes: u8,
    landing: bool,
    user_memory: bool,
    window: bool,
    queue: u8,
    seed: u16,
    /// What every rank calls, in this order.
    calls: [What; 3],
    operations: Vec<Operation>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum What {
    Collective { number: u8, algorithm: u8, root: u8, elems: u16 },
    Message { from: u8, to: u8, elems: u16 },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Operation {
    /// The rank makes its next call.
    Call { rank: u8 },
    /// The rank makes a call that the others do not make.
    Stray { rank: u8, what: What },
    /// The rank moves its calls on.
    Poll { rank: u8 },
    /// Time goes on.
    Step,
    /// The rank dies.
    Kill { rank: u8 },
}

fuzz_target!(|script: Script| {
    let mut job = Job::new(&script);
    for operation in script.operations.iter().take(64) {
        job.operate(*operation, &script.calls);
    }
    for rank in 0..job.world.ranks {
        while job.call_next(rank, &script.calls) {}
    }
    job.run();
    if job.undisturbed {
        job.check(&script.calls);
    }
});

/// One rank: its executor until it fails or dies, and how many of the calls it has made.
struct Member {
    executor: Option<Executor>,
    made: usize,
    /// Results of its calls.
    outputs: Vec<Option<Vec<u32>>>,
}

struct Job {
    /// Dropped before the buffers.
    members: Vec<Member>,
    /// Buffers of calls that nobody looks at again.
    buffers: Vec<Vec<u32>>,
    clock: simulated::World,
    world: World,
    undisturbed: bool,
    strays: u32,
}

impl Job {
    fn new(script: &Script) -> Self {
        let ranks = u32::from(script.ranks % 5) + 1;
        let lanes = u16::from(script.lanes % 3) + 1;
        let settings = Settings {
            lanes,
            slots: u32::from(script.slots % 4) + 1,
            slot_bytes: 64 << (script.slot_bytes % 3),
            landing_bytes: if script.landing { 32 } else { u32::MAX },
            reading_bytes: if script.landing { 32 } else { u32::MAX },
            shares_cores: script.landing,
        };
        let options = simulated::Options {
            seed: script.seed.into(),
            user_memory: script.user_memory,
            window: script.window,
            // Coherent peers need windows on all that they register.
            coherent: script.window && !script.user_memory,
            queue: usize::from(script.queue % 8) + 1,
            ..Default::default()
        };
        let (clock, nets) = simulated::World::new(ranks, &options);
        let addresses: Box<[_]> = nets.iter().map(|net| net.address()).collect();
        let host = dure_device::host::host();
        let member = |net| {
            let queues = vec![(host.space(), host.queue().expect("the host has queues"))];
            let executor = Executor::new(net, addresses.clone(), settings, queues);
            Member { executor: Some(executor), made: 0, outputs: Vec::new() }
        };
        let members = nets.into_iter().map(member).collect();
        let split = u32::from(script.split) % ranks;
        let host_of = (0..ranks).map(|rank| u32::from(split > 0 && rank >= split)).collect();
        let world = World { ranks, host_of, lanes };
        Self { members, buffers: Vec::new(), clock, world, undisturbed: true, strays: 0 }
    }

    fn operate(&mut self, operation: Operation, calls: &[What]) {
        let rank = |number: u8| u32::from(number) % self.world.ranks;
        match operation {
            Operation::Call { rank: number } => {
                self.call_next(rank(number), calls);
            }
            Operation::Stray { rank: number, what } => {
                let rank = rank(number);
                self.undisturbed = false;
                self.strays += 1;
                let digest = u32::MAX - self.strays;
                let output = self.call(rank, what, digest);
                self.buffers.extend(output);
            }
            Operation::Poll { rank: number } => {
                self.poll(rank(number));
            }
            Operation::Step => {
                self.clock.step();
            }
            Operation::Kill { rank: number } => {
                let rank = rank(number);
                self.undisturbed = false;
                self.clock.kill(Peer(rank));
                self.members[rank as usize].executor = None;
            }
        }
    }

    /// False when the rank has made all of its calls.
    fn call_next(&mut self, rank: u32, calls: &[What]) -> bool {
        let made = self.members[rank as usize].made;
        let Some(what) = calls.get(made) else { return false };
        self.members[rank as usize].made += 1;
        let output = self.call(rank, *what, u32::try_from(made).expect("few calls"));
        self.members[rank as usize].outputs.push(output);
        true
    }

    /// Makes a call on one rank. Returns the buffer of its result, which is there when the executor is idle.
    fn call(&mut self, rank: u32, what: What, digest: u32) -> Option<Vec<u32>> {
        let ranks = self.world.ranks;
        let (plan, layouts, track) = match what {
            What::Collective { number, algorithm, root, elems } => {
                let what = collective(number, root, ranks);
                let serving: Vec<_> =
                    algorithms().iter().filter(|by| by.serves(what, &self.world).is_ok()).collect();
                let by = serving.get(usize::from(algorithm) % serving.len().max(1))?;
                let plan = Plan::collect(what, &self.world, **by, Rank(rank));
                (
                    plan,
                    Layouts::even(what, (ranks, Rank(rank)), 4, elements(elems)),
                    Track::Collective,
                )
            }
            What::Message { from, to, elems } => message(rank, from, to, elems, ranks)?,
        };
        let mut source: Vec<u32> = (0..layouts.input.extent()).map(|at| value(rank, at)).collect();
        let extent = usize::try_from(layouts.output.extent()).expect("small");
        let mut result = vec![0; extent];
        let memory = |buffer: &mut Vec<u32>| {
            Memory::host(buffer.as_mut_ptr().cast(), size_of_val(&buffer[..]))
        };
        let (input, output) = (memory(&mut source), memory(&mut result));
        self.buffers.push(source);
        if let Some(executor) = &mut self.members[rank as usize].executor {
            let sum = (Dtype::Uint32, Combine::Sum);
            // Where its slots are too small for this call, they are on every rank.
            let prepared =
                Prepared::new(Arc::new(plan), &layouts, executor.settings(), sum).ok()?;
            let call = Call { prepared: Arc::new(prepared), input, output, digest };
            // SAFETY: the buffers live as long as the job, and are not looked at before its executors are idle.
            unsafe { executor.submit(call, track) }.expect("there is memory");
        }
        if extent == 0 { None } else { Some(result) }
    }

    /// Moves one rank on; true when it moved. A rank that fails leaves, as a communicator does.
    fn poll(&mut self, rank: u32) -> bool {
        let executor = &mut self.members[rank as usize].executor;
        match executor.as_mut().map(Executor::poll) {
            None => false,
            Some(Ok(moved)) => moved,
            Some(Err(error)) => {
                assert!(!self.undisturbed, "rank {rank}: {error}");
                *executor = None;
                true
            }
        }
    }

    /// Moves all ranks on for as long as anything moves.
    fn run(&mut self) {
        let mut quiet = 0;
        for _ in 0..PATIENCE {
            let mut moved = false;
            for rank in 0..self.world.ranks {
                moved |= self.poll(rank);
            }
            quiet = if moved || self.clock.step() { 0 } else { quiet + 1 };
            if quiet == QUIET {
                return;
            }
        }
        panic!("ranks move for ever");
    }

    fn check(&mut self, calls: &[What]) {
        for (rank, member) in (0..).zip(&mut self.members) {
            let executor = member.executor.as_ref().expect("nobody failed or died");
            let waiting: Vec<_> = executor.waiting().map(|lane| lane.to_string()).collect();
            assert!(executor.is_idle(), "rank {rank}: {waiting:?}");
            for (what, output) in calls.iter().zip(&member.outputs) {
                if let Some(output) = output {
                    assert_eq!(output, &expected(*what, self.world.ranks, rank), "{what:?}");
                }
            }
        }
    }
}

fn collective(number: u8, root: u8, ranks: u32) -> Collective {
    let root = Rank(u32::from(root) % ranks);
    Collective::all(root)[usize::from(number % 9)]
}

/// Elements of a block: often few, never so many that a run takes long.
fn elements(elems: u16) -> u64 {
    u64::from(elems % 300)
}

fn even(elems: u64, blocks: u32) -> Layout {
    Layout::Even { elems, blocks }
}

/// The part of `rank` in a message; `None` when it has none.
fn message(rank: u32, from: u8, to: u8, elems: u16, ranks: u32) -> Option<(Plan, Layouts, Track)> {
    let (from, to) = (u32::from(from) % ranks, u32::from(to) % ranks);
    let elems = elements(elems);
    let layouts = |input, output| {
        let whole = even(elems, 1);
        Layouts {
            elem: 4,
            input: even(elems, input),
            output: even(elems, output),
            whole,
            ragged: false,
        }
    };
    if from == to {
        None
    } else if rank == from {
        let step = Step::Send { to: Rank(to), src: input(0, 1) };
        Some((Plan::message(step), layouts(1, 0), Track::To(Rank(to))))
    } else if rank == to {
        let step = Step::Recv { from: Rank(from), dst: output(0, 1) };
        Some((Plan::message(step), layouts(0, 1), Track::From(Rank(from))))
    } else {
        None
    }
}

/// Element `at` of a rank's input.
fn value(rank: u32, at: u64) -> u32 {
    let at = u32::try_from(at).expect("small");
    (rank << 16 | at).wrapping_mul(2_654_435_761)
}

/// The output of a rank that has one, by definition.
fn expected(what: What, ranks: u32, rank: u32) -> Vec<u32> {
    let (what, elems) = match what {
        What::Message { from, elems, .. } => {
            return (0..elements(elems)).map(|at| value(u32::from(from) % ranks, at)).collect();
        }
        What::Collective { number, root, elems, .. } => {
            (collective(number, root, ranks), elements(elems))
        }
    };
    let sum = |block: u32| {
        let first = u64::from(block) * elems;
        let at = move |at| (0..ranks).fold(0_u32, |sum, r| sum.wrapping_add(value(r, first + at)));
        (0..elems).map(at).collect()
    };
    let block = |of: u32, block: u32| {
        let first = u64::from(block) * elems;
        (first..first + elems).map(move |at| value(of, at))
    };
    match what {
        Collective::AllReduce | Collective::Reduce { .. } => sum(0),
        Collective::ReduceScatter => sum(rank),
        Collective::AllGather | Collective::Gather { .. } => {
            (0..ranks).flat_map(|of| block(of, 0)).collect()
        }
        Collective::AllToAll => (0..ranks).flat_map(|of| block(of, rank)).collect(),
        Collective::Broadcast { root } => block(root.0, 0).collect(),
        Collective::Scatter { root } => block(root.0, rank).collect(),
        Collective::Barrier => Vec::new(),
    }
}
