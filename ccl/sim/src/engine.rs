//! The simulation: events in the order of time, links and cores that serve whoever comes first.
//!
//! A process is a rank on a lane. It runs its steps in order: a send waits for a credit, a receive for its message. What
//! only one process uses (its core, its port) it may use ahead of time, up to where it must wait; everything shared is
//! asked for at its time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dure_plan::Rank;

use crate::message::{Node, count};
use crate::path::Path;
use crate::pools::Stripes;
use crate::program::{Act, Op};
use crate::setup::{Core, Process, Setup, Written};

/// No node, no process.
pub(crate) const NONE: u32 = u32::MAX;

/// Whoever wants to see the steps.
pub(crate) trait Watch {
    /// A step was done.
    fn step(&mut self, seen: &Seen);
}

/// Nobody does.
impl Watch for () {
    #[inline]
    fn step(&mut self, _: &Seen) {}
}

/// A step that was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) rank: u32,
    pub(crate) lane: u16,
    pub(crate) pass: u32,
    /// Number of the step in the rank's plan.
    pub(crate) index: u32,
    pub(crate) act: Act,
    pub(crate) peer: Option<Rank>,
    pub(crate) bytes: u64,
    /// When its work began and ended, seconds.
    pub(crate) span: (f64, f64),
}

/// What a simulation gives.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Per process, when it is done; `None` for one that waits for ever, with the step it waits at.
    pub(crate) ends: Vec<Result<Path, u32>>,
    /// Per pass, when the last process is done with it.
    pub(crate) passes: Vec<Path>,
    /// Per process, seconds of work of its core.
    pub(crate) busy: Vec<f64>,
    /// Bytes sent.
    pub(crate) bytes: u64,
    /// Whether every message was received, by a step that expects as many bytes.
    pub(crate) matched: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    /// Bits of the time, which is never negative: their order is that of the times.
    time: u64,
    /// Of two events at one time, the one that was thought of first comes first.
    sequence: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A process goes on.
    Process(u32),
    /// A message comes to its next link.
    Message(u32),
}

/// The simulation under way.
pub(crate) struct Engine<'a, W> {
    setup: Setup<'a>,
    watch: W,
    nodes: Vec<Node>,
    free: u32,
    events: BinaryHeap<Reverse<Event>>,
    sequence: u64,
    /// Time of the event under way.
    now: f64,
    /// Processes that can go on, whatever the time.
    ready: Vec<u32>,
    passes: Vec<Path>,
    bytes: u64,
    matched: bool,
}

impl<'a, W: Watch> Engine<'a, W> {
    /// Runs the processes of a setup to their ends; none when these are later than `most` seconds, as soon as that is
    /// certain.
    pub(crate) fn run(setup: Setup<'a>, watch: W, most: f64) -> Option<(Outcome, W)> {
        let passes = setup.passes as usize;
        let mut engine = Self {
            setup,
            watch,
            nodes: Vec::new(),
            free: NONE,
            events: BinaryHeap::new(),
            sequence: 0,
            now: 0.0,
            ready: Vec::new(),
            passes: vec![Path::default(); passes],
            bytes: 0,
            matched: true,
        };
        for process in 0..engine.setup.processes.len() {
            engine.at(0.0, What::Process(index(process)));
        }
        while let Some(Reverse(event)) = engine.events.pop() {
            engine.now = f64::from_bits(event.time);
            if engine.now > most {
                return None;
            }
            match event.what {
                What::Process(process) => engine.advance(process),
                What::Message(node) => engine.carry(node),
            }
            while let Some(process) = engine.ready.pop() {
                engine.advance(process);
            }
        }
        Some(engine.finish())
    }

    fn finish(self) -> (Outcome, W) {
        let passes = self.setup.passes;
        let end = |process: &Process| {
            if process.pass == passes { Ok(process.time) } else { Err(process.at - process.first) }
        };
        let empty = self.setup.flows.iter().all(|flow| flow.messages.head == NONE);
        let outcome = Outcome {
            ends: self.setup.processes.iter().map(end).collect(),
            passes: self.passes,
            busy: self.setup.processes.iter().map(|process| process.busy).collect(),
            bytes: self.bytes,
            matched: self.matched && empty,
        };
        (outcome, self.watch)
    }

    fn at(&mut self, time: f64, what: What) {
        self.sequence += 1;
        let event = Event { time: time.to_bits(), sequence: self.sequence, what };
        self.events.push(Reverse(event));
    }

    /// Whether nothing else happens before `time`.
    fn is_next(&self, time: f64) -> bool {
        self.ready.is_empty()
            && self.events.peek().is_none_or(|Reverse(next)| time.to_bits() < next.time)
    }

    /// A process goes on, if its rank has the core or nobody has it.
    fn advance(&mut self, process: u32) {
        let me = process as usize;
        let Process { core: at, rank, .. } = self.setup.processes[me];
        let core = &mut self.setup.cores[at as usize];
        if core.is_alone {
            self.go_on(me);
            return;
        }
        if core.holder != NONE && core.holder != rank {
            core.waiting.push_back(process);
            return;
        }
        core.holder = rank;
        core.running += u32::from(!std::mem::replace(&mut self.setup.processes[me].runs, true));
        if !self.go_on(me) {
            self.setup.processes[me].runs = false;
            self.setup.cores[at as usize].running -= 1;
            self.pass_core_on(at as usize);
        }
    }

    /// When the lanes of the rank that had the core all wait for something else, the next rank has it.
    fn pass_core_on(&mut self, at: usize) {
        let core = &mut self.setup.cores[at];
        if core.running > 0 {
            return;
        }
        let Some(next) = core.waiting.pop_front() else {
            core.holder = NONE;
            return;
        };
        core.holder = self.setup.processes[next as usize].rank;
        let time = core.free.max(self.now);
        self.at(time, What::Process(next));
    }

    /// Runs a process until it is done, must wait, or must let others be first; only in the last case it keeps its core,
    /// and this is true.
    fn go_on(&mut self, me: usize) -> bool {
        if !self.setup.processes[me].has_begun && !self.begin(me) {
            return true;
        }
        loop {
            let Process { at, end, pass, lane, .. } = self.setup.processes[me];
            if pass == self.setup.passes {
                return false;
            }
            if at == end {
                self.end_of_pass(me);
                continue;
            }
            let op = self.setup.ops[at as usize];
            let bytes = self.setup.sizes.bytes(lane, pass, (op.first, op.len));
            if bytes > 0 || op.len == 0 {
                let done = match op.act {
                    Act::Send => self.send(me, op, bytes),
                    Act::Recv | Act::RecvReduce => self.receive(me, op, bytes),
                    Act::Copy | Act::Reduce => self.local(me, op, bytes),
                };
                if !done {
                    return false;
                }
            }
            self.setup.processes[me].at += 1;
            if !self.may_go_on(me) {
                return true;
            }
        }
    }

    /// Whether a process may go on at once. If not, others are first, and it will.
    fn may_go_on(&mut self, me: usize) -> bool {
        let Process { core, time, .. } = &self.setup.processes[me];
        let (core, time) = (*core as usize, time.at);
        let may = self.setup.cores[core].is_alone || self.is_next(time);
        if !may {
            self.at(time, What::Process(index(me)));
        }
        may
    }

    /// The call begins on a rank; its first lane pays for it. Whether it may go on at once.
    fn begin(&mut self, me: usize) -> bool {
        let process = &mut self.setup.processes[me];
        process.has_begun = true;
        if process.lane > 0 {
            return true;
        }
        let (core, costs) = (&mut self.setup.cores[process.core as usize], &self.setup.compute[me]);
        let mut path = process.time;
        let begin = core.take(process, costs, &mut path);
        path.overhead(costs.call);
        path.counts.calls += 1.0;
        core.free = path.at;
        process.busy += path.at - begin;
        process.time = path;
        self.may_go_on(me)
    }

    /// Whether a process that shares its core must wait for what comes at `time`. If so, it will go on then.
    fn must_wait(&mut self, me: usize, time: f64) -> bool {
        let Process { core, time: before, .. } = &self.setup.processes[me];
        let waits = !self.setup.cores[*core as usize].is_alone && time > before.at.max(self.now);
        if waits {
            self.at(time, What::Process(index(me)));
        }
        waits
    }

    fn end_of_pass(&mut self, me: usize) {
        let process = &mut self.setup.processes[me];
        let pass = &mut self.passes[process.pass as usize];
        *pass = pass.max(&process.time);
        process.pass += 1;
        process.at = process.first;
    }

    /// Posts a message. False when it must wait for a credit.
    fn send(&mut self, me: usize, op: Op, bytes: u64) -> bool {
        let at = op.edge as usize;
        let mut ready = self.setup.processes[me].time;
        let flow = &mut self.setup.flows[at];
        if flow.credits > 0 {
            flow.credits -= 1;
        } else if flow.returned.head != NONE {
            let node = flow.returned.head;
            let credit = self.nodes[node as usize];
            if self.must_wait(me, credit.path.at) {
                return false;
            }
            self.setup.flows[at].returned.head = credit.next;
            ready = ready.max(&credit.path);
            self.release(node);
        } else {
            flow.sender_waits = true;
            return false;
        }
        let flow = &self.setup.flows[at];
        let (core, rest) = (&self.setup.compute[me], bytes.saturating_sub(1) as f64);
        let begin = self.setup.cores[self.setup.processes[me].core as usize].take(
            &self.setup.processes[me],
            core,
            &mut ready,
        );
        ready.overhead(core.step + flow.wire.overhead);
        ready.counts.steps += 1.0;
        count(&mut ready.counts, flow.between).overheads += 1.0;
        let mut post = ready;
        if flow.wire.cpu_per_byte > 0.0 {
            ready.copy(rest * flow.wire.cpu_per_byte);
            count(&mut ready.counts, flow.between).handled += rest;
        }
        if flow.wire.shared && bytes <= flow.wire.eager {
            ready.copy(bytes as f64 * core.copy_per_byte);
            ready.counts.copied_bytes += bytes as f64;
            post = ready;
        }
        let peer = flow.to;
        self.done(me, (begin, ready), op, (Some(peer), bytes));
        let place = self.place(me, op, bytes);
        self.post(at, post, bytes, place);
        true
    }

    /// Where a message lies in pools, if it goes that way: the device that it begins on, and whether it is there already
    /// because the message before it has the same bytes and another reader of the same devices.
    fn place(&mut self, me: usize, op: Op, bytes: u64) -> (u32, bool) {
        let written = &mut self.setup.processes[me].written;
        written.edge = written.edge.filter(|_| op.again);
        let writing = |edge: u32| {
            let flow = &self.setup.flows[edge as usize];
            let writes = flow.stripes.map_or(0, Stripes::writes) as usize;
            &self.setup.stages[flow.stages.start..flow.stages.start + writes]
        };
        let Some(stripes) = self.setup.flows[op.edge as usize].stripes else { return (0, false) };
        let is_there = written.edge.is_some_and(|edge| writing(edge) == writing(op.edge));
        if !is_there {
            let begin = written.next;
            let next = begin.wrapping_add(stripes.granules(bytes));
            *written = Written { edge: Some(op.edge), begin, next };
        }
        (written.begin % stripes.devices, is_there)
    }

    /// A message leaves its sender.
    fn post(&mut self, flow: usize, path: Path, bytes: u64, (begin, written): (u32, bool)) {
        self.bytes += bytes;
        let number = self.setup.flows[flow].sent;
        self.setup.flows[flow].sent = number.wrapping_add(1);
        let node = Node { number, begin, written, ..Node::new(path, index(flow), bytes) };
        let node = self.node(node);
        let flow = &self.setup.flows[flow];
        if flow.stages.is_empty() || flow.is_alone {
            self.carry(node);
        } else {
            self.at(path.at, What::Message(node));
        }
    }

    /// Brings a message to its next link, at its time, and on as long as nothing else happens before.
    fn carry(&mut self, node: u32) {
        loop {
            let message = &mut self.nodes[node as usize];
            let flow = &self.setup.flows[message.flow as usize];
            if flow.stripes.is_some_and(|stripes| message.is_all_written(stripes)) {
                message.written = true;
                flow.cross(flow.write_per_byte, message.bytes, &mut message.path);
                let time = message.path.at;
                if !self.is_next(time) {
                    return self.at(time, What::Message(node));
                }
                continue;
            }
            let at = flow.stages.start + message.stage as usize;
            if at == flow.stages.end {
                return self.arrive(node);
            }
            let stage = self.setup.stages[at];
            let bytes = flow.stripes.map_or(Some(message.bytes), |stripes| message.part(stripes));
            message.stage += 1;
            let Some(bytes) = bytes else { continue };
            let link = &mut self.setup.links[stage.link as usize];
            let gap = if message.stage == 1 && flow.gaps { flow.wire.gap } else { 0.0 };
            link.take(flow, &stage, (gap, bytes), &mut message.path);
            let time = message.path.at;
            if flow.stages.start + message.stage as usize == flow.stages.end {
                return self.arrive(node);
            }
            if !self.is_next(time) {
                return self.at(time, What::Message(node));
            }
        }
    }

    /// The last byte of a message arrives.
    fn arrive(&mut self, node: u32) {
        let message = &mut self.nodes[node as usize];
        let flow = &mut self.setup.flows[message.flow as usize];
        message.path.latency(flow.wire.latency);
        count(&mut message.path.counts, flow.between).messages += 1.0;
        flow.cross(flow.per_byte, message.bytes, &mut message.path);
        let time = message.path.at;
        let waits = std::mem::take(&mut flow.receiver_waits).then_some(flow.receiver);
        self.line_up(node);
        if let Some(receiver) = waits {
            self.wake(receiver, time);
        }
    }

    /// Puts a message that has arrived behind those that were sent before it. Most are the last; one through pools may
    /// lie on devices that were free sooner.
    fn line_up(&mut self, node: u32) {
        let Node { flow, number, .. } = self.nodes[node as usize];
        let messages = &mut self.setup.flows[flow as usize].messages;
        let is_before = |other: u32| other != NONE && self.nodes[other as usize].number < number;
        let mut before = if messages.head == NONE { NONE } else { messages.tail };
        let mut after = NONE;
        if before != NONE && !is_before(before) {
            (before, after) = (NONE, messages.head);
            while is_before(after) {
                (before, after) = (after, self.nodes[after as usize].next);
            }
        }
        self.nodes[node as usize].next = after;
        match before {
            NONE => messages.head = node,
            before => self.nodes[before as usize].next = node,
        }
        if after == NONE {
            messages.tail = node;
        }
    }

    /// A process can go on at `time`, or when it has done what it did before.
    fn wake(&mut self, process: u32, time: f64) {
        let Process { core, time: before, .. } = self.setup.processes[process as usize];
        if self.setup.cores[core as usize].is_alone {
            self.ready.push(process);
        } else {
            self.at(time.max(before.at), What::Process(process));
        }
    }

    /// Takes a message. False when none is there.
    fn receive(&mut self, me: usize, op: Op, bytes: u64) -> bool {
        let flow = &mut self.setup.flows[op.edge as usize];
        let node = flow.messages.head;
        if node == NONE || self.nodes[node as usize].number != flow.taken {
            flow.receiver_waits = true;
            return false;
        }
        let message = self.nodes[node as usize];
        if self.must_wait(me, message.path.at) {
            return false;
        }
        let flow = &mut self.setup.flows[op.edge as usize];
        flow.messages.head = message.next;
        flow.taken = flow.taken.wrapping_add(1);
        self.matched &= message.bytes == bytes;
        let flow = &self.setup.flows[op.edge as usize];
        let (core, rest) = (&self.setup.compute[me], bytes.saturating_sub(1) as f64);
        let process = &self.setup.processes[me];
        let mut ready = process.time.max(&message.path);
        let begin = self.setup.cores[process.core as usize].take(process, core, &mut ready);
        ready.overhead(core.step + flow.wire.overhead);
        ready.counts.steps += 1.0;
        let counts = count(&mut ready.counts, flow.between);
        counts.overheads += 1.0;
        if flow.wire.cpu_per_byte > 0.0 {
            counts.handled += rest;
            ready.copy(rest * flow.wire.cpu_per_byte);
        }
        if flow.wire.shared {
            count(&mut ready.counts, flow.between).bytes += rest;
            ready.wire(rest * flow.wire.per_byte);
        }
        if op.act == Act::RecvReduce {
            ready.reduce(bytes as f64 * core.reduce_per_byte);
            ready.counts.reduced_bytes += bytes as f64;
        } else if flow.wire.shared || bytes <= flow.wire.eager {
            ready.copy(bytes as f64 * core.copy_per_byte);
            ready.counts.copied_bytes += bytes as f64;
        }
        let peer = flow.from;
        self.done(me, (begin, ready), op, (Some(peer), bytes));
        self.release(node);
        self.give_back(op.edge as usize, ready);
        true
    }

    /// The sender gets a slot back.
    fn give_back(&mut self, flow: usize, mut path: Path) {
        if !self.setup.flows[flow].needs_credits {
            return;
        }
        path.latency(self.setup.flows[flow].wire.latency);
        count(&mut path.counts, self.setup.flows[flow].between).messages += 1.0;
        let node = self.node(Node::new(path, index(flow), 0));
        let flow = &mut self.setup.flows[flow];
        match flow.returned.tail {
            _ if flow.returned.head == NONE => flow.returned.head = node,
            tail => self.nodes[tail as usize].next = node,
        }
        flow.returned.tail = node;
        if std::mem::take(&mut flow.sender_waits) {
            let sender = flow.sender;
            self.wake(sender, path.at);
        }
    }

    /// Work on memory of its own.
    fn local(&mut self, me: usize, op: Op, bytes: u64) -> bool {
        let (core, process) = (&self.setup.compute[me], &self.setup.processes[me]);
        let mut ready = process.time;
        let begin = self.setup.cores[process.core as usize].take(process, core, &mut ready);
        ready.overhead(core.step);
        ready.counts.steps += 1.0;
        if op.act == Act::Reduce {
            let all = bytes as f64 * f64::from(op.edge.saturating_sub(1));
            ready.reduce(all * core.reduce_per_byte);
            ready.counts.reduced_bytes += all;
        } else {
            ready.copy(bytes as f64 * core.copy_per_byte);
            ready.counts.copied_bytes += bytes as f64;
        }
        self.done(me, (begin, ready), op, (None, bytes));
        true
    }

    /// A step is done: the process and its core are that far.
    fn done(
        &mut self,
        me: usize,
        (begin, end): (f64, Path),
        op: Op,
        (peer, bytes): (Option<Rank>, u64),
    ) {
        let process = &mut self.setup.processes[me];
        process.time = end;
        process.busy += end.at - begin;
        self.setup.cores[process.core as usize].free = end.at;
        self.watch.step(&Seen {
            rank: process.rank,
            lane: process.lane,
            pass: process.pass,
            index: process.at - process.first,
            act: op.act,
            peer,
            bytes,
            span: (begin, end.at),
        });
    }

    fn node(&mut self, node: Node) -> u32 {
        if self.free == NONE {
            self.nodes.push(node);
            return index(self.nodes.len() - 1);
        }
        let at = self.free;
        self.free = self.nodes[at as usize].next;
        self.nodes[at as usize] = node;
        at
    }

    fn release(&mut self, node: u32) {
        self.nodes[node as usize].next = self.free;
        self.free = node;
    }
}

impl Core {
    /// A process has the core once it is free; when its work begins.
    #[inline]
    fn take(
        &mut self,
        process: &Process,
        costs: &crate::constants::Compute,
        path: &mut Path,
    ) -> f64 {
        path.wait_until(self.free);
        let begin = path.at;
        if self.last != process.rank {
            if self.last != NONE {
                path.overhead(costs.switch);
                path.counts.switches += 1.0;
            }
            self.last = process.rank;
        }
        begin
    }
}

fn index(of: usize) -> u32 {
    u32::try_from(of).expect("processes, flows and what is under way are fewer than 2^32")
}
