//! A simulation before its first event: processes, flows, links and cores.

use std::collections::VecDeque;
use std::ops::Range;

use dure_plan::Rank;

use crate::constants::{Compute, Wire};
use crate::engine::NONE;
use crate::message::Queue;
use crate::network::{Network, Route, Stage};
use crate::path::Path;
use crate::pools::Stripes;
use crate::program::{Op, Program};
use crate::sizes::Sizes;

/// A rank on a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) rank: u32,
    pub(crate) lane: u16,
    pub(crate) core: u32,
    /// Its steps: the first, the next, and the one behind the last.
    pub(crate) first: u32,
    pub(crate) at: u32,
    pub(crate) end: u32,
    pub(crate) pass: u32,
    /// When it did its last step.
    pub(crate) time: Path,
    /// Seconds of work so far.
    pub(crate) busy: f64,
    pub(crate) has_begun: bool,
    /// It goes on, on a core that it shares.
    pub(crate) runs: bool,
    /// What it wrote last into pools.
    pub(crate) written: Written,
}

/// Where a process writes into pools. Granules are counted on, from one message to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// The edge of the message that it wrote, if its bytes are still those that it sends.
    pub(crate) edge: Option<u32>,
    /// The granule with which that message began.
    pub(crate) begin: u32,
    /// The granule with which the next one will.
    pub(crate) next: u32,
}

/// An edge, and what is on it.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) from: Rank,
    pub(crate) to: Rank,
    pub(crate) sender: u32,
    pub(crate) receiver: u32,
    /// Rank of the sender: whose messages do not count as others'.
    pub(crate) owner: u32,
    pub(crate) wire: Wire,
    pub(crate) between: bool,
    /// Seconds a byte on the slowest part of the way.
    pub(crate) per_byte: f64,
    /// Its links: a range of [`Setup::stages`].
    pub(crate) stages: Range<usize>,
    /// The gap occupies the first of them.
    pub(crate) gaps: bool,
    /// How its messages lie in pools, if they go through them.
    pub(crate) stripes: Option<Stripes>,
    /// Of these, seconds a byte that the sender writes, and that the slowest device takes.
    pub(crate) write_per_byte: f64,
    pub(crate) device_per_byte: f64,
    /// Nobody but its sender uses the first of them.
    pub(crate) is_alone: bool,
    /// Slots that were never used.
    pub(crate) credits: u32,
    /// Whether slots are used again.
    pub(crate) needs_credits: bool,
    /// Messages that were sent and taken so far.
    pub(crate) sent: u32,
    pub(crate) taken: u32,
    pub(crate) messages: Queue,
    pub(crate) returned: Queue,
    pub(crate) sender_waits: bool,
    pub(crate) receiver_waits: bool,
}

/// A shared resource that carries bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) free: f64,
    /// The only rank that uses it; [`NONE`] when several do.
    pub(crate) owner: u32,
    /// The only process that uses it, and only to begin with.
    process: u32,
    used: bool,
}

/// A core. A rank has it until all its lanes must wait.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    pub(crate) free: f64,
    /// The rank that had it last.
    pub(crate) last: u32,
    /// Only one process runs on it.
    pub(crate) is_alone: bool,
    /// The rank that has it, if several processes may.
    pub(crate) holder: u32,
    /// Lanes of that rank that go on.
    pub(crate) running: u32,
    /// Those that could go on, in the order in which they asked.
    pub(crate) waiting: VecDeque<u32>,
}

/// How all the others load the way of an edge, where a sample stands for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowd {
    /// Seconds of latency that their ways have on average.
    pub(crate) latency: f64,
    /// What they load most, per level of the fabric.
    pub(crate) stages: Vec<Stage>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) ops: &'a [Op],
    pub(crate) sizes: &'a Sizes,
    pub(crate) passes: u32,
    pub(crate) processes: Vec<Process>,
    /// Per process.
    pub(crate) compute: Vec<Compute>,
    pub(crate) flows: Vec<Flow>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) links: Vec<Link>,
    pub(crate) cores: Vec<Core>,
}

impl<'a> Setup<'a> {
    /// Before the first of `passes` passes, with `slots` slots an edge. `crowd` says how others load the way of an edge.
    pub(crate) fn new(
        program: &'a Program,
        (sizes, passes, slots): (&'a Sizes, u32, u32),
        (network, lanes): (&Network, u16),
        mut crowd: impl FnMut(Rank, Rank) -> Option<Crowd>,
    ) -> Self {
        let mut setup = Self {
            ops: &program.ops,
            sizes,
            passes,
            processes: Vec::new(),
            compute: Vec::new(),
            flows: Vec::with_capacity(program.edges.len()),
            stages: Vec::new(),
            links: vec![Link::UNUSED; network.links() as usize],
            cores: vec![Core::UNUSED; network.cores() as usize],
        };
        setup.add_processes(program, network, lanes);
        for edge in &program.edges {
            let mut route = network.route(edge.from, edge.to);
            if let Some(crowd) = crowd(edge.from, edge.to) {
                route.wire.latency = crowd.latency;
                route.stages = crowd.stages;
            }
            let begin = setup.stages.len();
            let slowest = route.stages.iter().map(|stage| stage.per_byte).fold(0.0, f64::max);
            setup.claim(edge.sender, &route.stages);
            setup.stages.extend(&route.stages);
            let wire = route.wire;
            let per_byte = if wire.shared { 0.0 } else { wire.per_byte.max(wire.cpu_per_byte) };
            let [write, device, read] = by_stripes(&route);
            // Of what lies on several devices, each carries only its own part.
            let slowest = if route.stripes.is_some() { read } else { slowest };
            setup.flows.push(Flow {
                from: edge.from,
                to: edge.to,
                sender: edge.sender,
                receiver: edge.receiver,
                owner: edge.from.0,
                wire,
                between: route.between,
                per_byte: per_byte.max(slowest),
                stages: begin..setup.stages.len(),
                gaps: route.leaves_by_port,
                stripes: route.stripes,
                write_per_byte: write,
                device_per_byte: device,
                is_alone: false,
                credits: slots,
                needs_credits: u64::from(edge.sends) * u64::from(passes) > u64::from(slots),
                sent: 0,
                taken: 0,
                messages: Queue::EMPTY,
                returned: Queue::EMPTY,
                sender_waits: false,
                receiver_waits: false,
            });
        }
        for flow in &mut setup.flows {
            let first = setup.stages.get(flow.stages.start).filter(|_| !flow.stages.is_empty());
            flow.is_alone =
                first.is_some_and(|stage| setup.links[stage.link as usize].process == flow.sender);
        }
        setup
    }

    fn add_processes(&mut self, program: &Program, network: &Network, lanes: u16) {
        let mut first = 0;
        for (at, end) in (0..).zip(&program.ends) {
            let rank = at / u32::from(lanes);
            let lane = u16::try_from(at % u32::from(lanes)).expect("below the number of lanes");
            let core = network.core(Rank(rank));
            self.cores[core as usize].is_alone = self.cores[core as usize].last == NONE;
            self.cores[core as usize].last = rank;
            self.processes.push(Process {
                rank,
                lane,
                core,
                first,
                at: first,
                end: *end,
                pass: 0,
                time: Path::default(),
                busy: 0.0,
                has_begun: false,
                runs: false,
                written: Written { edge: None, begin: at, next: at },
            });
            self.compute.push(*network.compute(Rank(rank)));
            first = *end;
        }
        for core in &mut self.cores {
            core.last = NONE;
        }
    }

    /// Notes who uses the links of a way.
    fn claim(&mut self, sender: u32, stages: &[Stage]) {
        let rank = self.processes[sender as usize].rank;
        for (at, stage) in stages.iter().enumerate() {
            let link = &mut self.links[stage.link as usize];
            let process = if at == 0 { sender } else { NONE };
            if link.used {
                link.owner = if link.owner == rank { rank } else { NONE };
                link.process = if link.process == process { process } else { NONE };
            } else {
                *link = Link { owner: rank, process, used: true, ..*link };
            }
        }
    }
}

/// Of a way through pools, seconds a byte of the sender's adapter, of the slowest device, and of the receiver's adapter.
fn by_stripes(route: &Route) -> [f64; 3] {
    match &*route.stages {
        [write, devices @ .., read] if route.stripes.is_some() => {
            let device = devices.iter().map(|device| device.per_byte).fold(0.0, f64::max);
            [write.per_byte, device, read.per_byte]
        }
        _ => [0.0; 3],
    }
}

impl Link {
    const UNUSED: Self = Self { free: 0.0, owner: NONE, process: NONE, used: false };
}

impl Core {
    const UNUSED: Self = Self {
        free: 0.0,
        last: NONE,
        is_alone: true,
        holder: NONE,
        running: 0,
        waiting: VecDeque::new(),
    };
}
