//! One call on one lane: the state machine that turns steps into copies, reductions and puts.

use std::sync::Arc;

use dure_device::{Combine, Dtype, Memory, Work};
use dure_plan::{Buf, Chunks, Sources, Step};
use dure_transport::{Card, Peer, Posted, Put, RemoteRegion, Span, Token};

use crate::Error;
use crate::geometry::Geometry;
use crate::link::{self, Grant, Target};
use crate::machine::{Cover, Machine};
use crate::plan::Plan;
use crate::recorder::Event;
use crate::slot::{Header, PAYLOAD};

/// Whether a run got further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All is done.
    Done,
    /// It moved, and waits now.
    Moved,
    /// It waits, and has not moved.
    Stuck,
}

/// The memory of a call: an address, and the region that it is part of, if the transport knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) memory: Memory,
    pub(crate) cover: Option<Cover>,
}

/// What a run of one call shares with those on the other lanes.
#[derive(Clone, Debug)]
pub(crate) struct CallState {
    pub(crate) plan: Arc<Plan>,
    pub(crate) input: Buffer,
    pub(crate) output: Buffer,
    pub(crate) dtype: Dtype,
    pub(crate) combine: Combine,
    pub(crate) digest: u32,
    /// Which of the machine's device queues does the work.
    pub(crate) queue: usize,
}

/// What follows when the device has done the work of the current step.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The step is done.
    Next,
    /// The slot of the peer is free again.
    Take(u32),
    /// The payload is where it belongs: signal it.
    Publish(u32, Target, u64),
    /// The payload is in a staging buffer: post it.
    PostStaged(u32, Target, u64, usize),
}

/// What became of a step.
enum Begun {
    /// It waits for a peer or for room.
    Wait,
    /// It is done.
    Done,
    /// The device works on it.
    Work(u64, Then),
}

/// Where the messages to a peer go in this call.
#[derive(Clone, Copy, Debug)]
enum Permit {
    /// The peer's grant has not come yet.
    Awaited,
    Slots,
    Land {
        remote: RemoteRegion,
        window: Option<Memory>,
        base: u64,
    },
}

/// One call on one lane.
#[derive(Debug)]
pub(crate) struct Run {
    call: CallState,
    /// Which of the plan's lanes, and which lane of the links.
    plan_lane: usize,
    lane: usize,
    geometry: Geometry,
    /// Identifies this run among those in flight.
    id: u64,
    at: usize,
    pass: u32,
    working: Option<(u64, Then)>,
    started: bool,
    /// Peers that wait for a grant of ours.
    ungranted: Vec<(u32, Chunks)>,
    /// Peers whose messages land directly.
    landing: Vec<u32>,
    /// Peers that tell us where to land.
    permits: Vec<(u32, Permit)>,
}

impl Run {
    pub(crate) fn new(
        call: CallState,
        plan_lane: usize,
        lane: usize,
        geometry: Geometry,
        id: u64,
    ) -> Self {
        Self {
            call,
            plan_lane,
            lane,
            geometry,
            id,
            at: 0,
            pass: 0,
            working: None,
            started: false,
            ungranted: Vec::new(),
            landing: Vec::new(),
            permits: Vec::new(),
        }
    }

    /// Where it is: digest of the call, pass, number of the step, and the step (`None` when all steps are done and only
    /// sources are held).
    pub(crate) fn position(&self) -> (u32, u32, usize, Option<Step>) {
        let step = (self.pass < self.geometry.passes())
            .then(|| self.call.plan.lanes[self.plan_lane].steps.get(self.at).copied())
            .flatten();
        (self.call.digest, self.pass, self.at, step)
    }

    /// Goes as far as it can.
    pub(crate) fn poll(&mut self, machine: &mut Machine) -> Result<Progress, Error> {
        if !self.started {
            self.start(machine)?;
        }
        self.give_grants(machine)?;
        let plan = Arc::clone(&self.call.plan);
        let steps = &plan.lanes[self.plan_lane].steps;
        let mut progress = Progress::Stuck;
        while self.pass < self.geometry.passes() {
            let Some(step) = steps.get(self.at) else {
                self.at = 0;
                self.pass += 1;
                continue;
            };
            if !self.step(machine, step)? {
                return Ok(progress);
            }
            progress = Progress::Moved;
            self.record(machine, step);
            self.at += 1;
        }
        if machine.holds(self.id) || !self.ungranted.is_empty() {
            return Ok(progress);
        }
        for (_, permit) in self.permits.drain(..) {
            if let Permit::Land { remote, .. } = permit {
                machine.net.forget(remote);
            }
        }
        Ok(Progress::Done)
    }

    fn record(&self, machine: &mut Machine, step: &Step) {
        let peer = match step {
            Step::Send { to: peer, .. }
            | Step::Recv { from: peer, .. }
            | Step::RecvReduce { from: peer, .. } => peer.0,
            Step::Copy { .. } | Step::Reduce { .. } => u32::MAX,
        };
        let step = u32::try_from(self.at).expect("a plan has fewer steps than 32 bits count");
        let bytes = machine.segments.iter().map(|s| s.end - s.start).sum();
        let event = Event { nanos: 0, call: self.call.digest, pass: self.pass, step, peer, bytes };
        machine.recorders[self.lane].record(event);
    }

    /// Connects to the peers, and sees which edges carry messages that are long enough to land directly.
    fn start(&mut self, machine: &mut Machine) -> Result<(), Error> {
        self.started = true;
        let begin = Event {
            call: self.call.digest,
            step: Event::BEGIN,
            peer: u32::MAX,
            ..Event::default()
        };
        machine.recorders[self.lane].record(begin);
        let plan = Arc::clone(&self.call.plan);
        for used in &plan.lanes[self.plan_lane].peers {
            machine.connect(used.peer)?;
            // Both ends of an edge ask this of its first message, and get the same answer.
            let mut is_long = |chunks| {
                self.segments(machine, chunks) >= u64::from(machine.settings.landing_bytes)
            };
            let (lands_in, lands_out) =
                (used.lands_in.filter(|c| is_long(*c)), used.lands_out.filter(|c| is_long(*c)));
            if let Some(chunks) = lands_in {
                self.ungranted.push((used.peer, chunks));
            }
            if lands_out.is_some() {
                self.permits.push((used.peer, Permit::Awaited));
            }
        }
        Ok(())
    }

    /// The bytes of chunks in this pass, into `machine.segments`; returns their sum.
    fn segments(&self, machine: &mut Machine, chunks: Chunks) -> u64 {
        self.geometry.segments(chunks, self.pass, &mut machine.segments);
        machine.segments.iter().map(|s| s.end - s.start).sum()
    }

    /// Tells the peers where their messages may land. A peer that is not connected yet is told later.
    fn give_grants(&mut self, machine: &mut Machine) -> Result<(), Error> {
        let mut index = 0;
        while let Some(&(peer, first)) = self.ungranted.get(index) {
            let base = if machine.link(peer).ready()? {
                Some(self.landing_place(machine, peer, first))
            } else {
                None
            };
            let granted = base.is_some_and(|base| {
                let lands = base.is_some();
                let (link, net) = machine.link_and_net(peer);
                let posted = link.grant(net, self.lane, &Grant { digest: self.call.digest, base });
                if posted && lands {
                    self.landing.push(peer);
                }
                posted
            });
            if granted {
                self.ungranted.swap_remove(index);
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// Where the output (or, when blocks differ in length, the one block of it that the edge fills) begins in a region
    /// that the peer may write; `None` when it may not.
    fn landing_place(&self, machine: &Machine, peer: u32, first: Chunks) -> Option<(u64, Card)> {
        let cover = self.call.output.cover?;
        let card = machine.net.key(cover.region, Peer(peer))?;
        if card.0.len() > link::longest_grant_card(machine.net.caps(Peer(peer)).head) {
            return None;
        }
        let ragged = self.geometry.layouts().ragged;
        let block = if ragged { self.geometry.block_start(first.buf, first.first) } else { 0 };
        Some((cover.offset + block, card))
    }

    /// Tries to do the current step, or to go on with it. False when it has to wait.
    fn step(&mut self, machine: &mut Machine, step: &Step) -> Result<bool, Error> {
        if self.working.is_none() {
            let begun = match *step {
                Step::Send { to, src } => self.begin_send(machine, to.0, src),
                Step::Recv { from, dst } => self.begin_recv(machine, from.0, None, dst),
                Step::RecvReduce { from, with, dst } => {
                    self.begin_recv(machine, from.0, Some(with), dst)
                }
                Step::Copy { src, dst } => self.begin_copy(machine, src, dst),
                Step::Reduce { srcs, dst } => self.begin_reduce(machine, srcs, dst),
            };
            match begun? {
                Begun::Wait => return Ok(false),
                Begun::Done => return Ok(true),
                Begun::Work(ticket, then) => self.working = Some((ticket, then)),
            }
        }
        let Some((ticket, then)) = self.working else { unreachable!("set just above") };
        if machine.queues[self.call.queue].1.completed()? < ticket {
            return Ok(false);
        }
        let done = match then {
            Then::Next => true,
            Then::Take(peer) => {
                machine.take(peer, self.lane, true);
                true
            }
            Then::Publish(to, target, bytes) => {
                self.post(machine, (to, target, bytes), &[]).is_some()
            }
            Then::PostStaged(to, target, bytes, staging) => {
                let span = machine.staged(staging, bytes);
                match self.post(machine, (to, target, bytes), &[span]) {
                    None => false,
                    Some((Posted::Done, _)) => {
                        machine.unstage(staging);
                        true
                    }
                    Some((Posted::Pending, token)) => {
                        machine.hold(token, self.id, Vec::new(), Some(staging));
                        true
                    }
                }
            }
        };
        if done {
            self.working = None;
        }
        Ok(done)
    }

    fn begin_send(&mut self, machine: &mut Machine, to: u32, src: Chunks) -> Result<Begun, Error> {
        let bytes = self.segments(machine, src);
        if bytes == 0 && src.len > 0 {
            return Ok(Begun::Done);
        }
        if !machine.link(to).ready()? {
            return Ok(Begun::Wait);
        }
        let Some(target) = self.target(machine, to, src, bytes)? else { return Ok(Begun::Wait) };
        if let Some(window) = target.window {
            let ticket = self.copy_out(machine, src, window)?;
            return Ok(Begun::Work(ticket, Then::Publish(to, target, bytes)));
        }
        if let Some(spans) = self.spans(machine, to, src) {
            return Ok(match self.post(machine, (to, target, bytes), &spans) {
                None => Begun::Wait,
                Some((Posted::Done, _)) => Begun::Done,
                Some((Posted::Pending, token)) => {
                    let memory = self.buffer(machine, src.buf).memory;
                    let parts = machine.segments.iter().map(|s| part(memory, s)).collect();
                    machine.hold(token, self.id, parts, None);
                    Begun::Done
                }
            });
        }
        let Some(staging) = machine.stage()? else { return Ok(Begun::Wait) };
        let memory = machine.staging(staging).memory;
        let ticket = self.copy_out(machine, src, memory)?;
        Ok(Begun::Work(ticket, Then::PostStaged(to, target, bytes, staging)))
    }

    /// Where a message goes; `None` when it has to wait for a slot or for the peer's grant.
    fn target(
        &mut self,
        machine: &mut Machine,
        to: u32,
        src: Chunks,
        bytes: u64,
    ) -> Result<Option<Target>, Error> {
        match self.permit(machine, to)? {
            Permit::Awaited => Ok(None),
            Permit::Slots => {
                let (link, net) = machine.link_and_net(to);
                Ok(link.slot(net, self.lane))
            }
            Permit::Land { remote, window, base } => {
                let chunk = self.call.plan.lanes[self.plan_lane]
                    .lands(self.at)
                    .expect("all messages of the edge land");
                // Where ragged blocks begin is each rank's own affair: then the grant told, and the place in the block is
                // the same at both ends.
                let at = base
                    + if self.geometry.layouts().ragged {
                        self.geometry.within_block(src.buf, src.first, self.pass).start
                    } else {
                        self.geometry.in_whole(chunk, self.pass).start
                    };
                let window = window.map(|w| part(w, &(at..at + bytes)));
                Ok(Some(Target { into: remote, at, window, slot: None }))
            }
        }
    }

    /// How messages to a peer go in this call.
    fn permit(&mut self, machine: &mut Machine, to: u32) -> Result<Permit, Error> {
        let Some(entry) = self.permits.iter_mut().find(|(peer, _)| *peer == to) else {
            return Ok(Permit::Slots);
        };
        if !matches!(entry.1, Permit::Awaited) {
            return Ok(entry.1);
        }
        let (link, net) = machine.link_and_net(to);
        let Some(grant) = link.take_grant(net, self.lane)? else { return Ok(Permit::Awaited) };
        if grant.digest != self.call.digest {
            return Err(Error::Mismatch { peer: to });
        }
        entry.1 = match grant.base {
            None => Permit::Slots,
            Some((base, card)) => {
                let remote = net
                    .import(Peer(to), &card)
                    .map_err(|source| Error::Transport { peer: to, source })?;
                Permit::Land { remote, window: net.window(remote), base }
            }
        };
        Ok(entry.1)
    }

    /// Posts a message of `bytes` bytes; `None` when the transport is full.
    fn post(
        &self,
        machine: &mut Machine,
        (to, target, bytes): (u32, Target, u64),
        body: &[Span],
    ) -> Option<(Posted, Token)> {
        let token = machine.next_token();
        let flow = link::flow(self.lane, &*machine.net, Peer(to));
        let (link, net) = machine.link_and_net(to);
        let bytes = u32::try_from(bytes).expect("a message fits a slot");
        let header =
            target.slot.map(|index| Header { digest: self.call.digest, bytes, index }.encode());
        let head: &[u8] = header.as_ref().map_or(&[], |h| h);
        let put = Put {
            to: Peer(to),
            flow,
            head,
            body,
            into: Some(target.into),
            at: target.at - head.len() as u64,
            signal: Some(link.data_signal(self.lane)),
            token,
        };
        let posted = net.put(&put).ok()?;
        link.sent(self.lane, target.slot.is_some());
        Some((posted, token))
    }

    /// The segments of the current message as spans, when the transport can send from where they are.
    fn spans(&self, machine: &Machine, to: u32, src: Chunks) -> Option<Vec<Span>> {
        if machine.segments.is_empty() {
            return Some(Vec::new());
        }
        let cover = self.buffer(machine, src.buf).cover?;
        (machine.segments.len() <= machine.net.caps(Peer(to)).gather).then(|| {
            let span = |s: &std::ops::Range<u64>| Span {
                region: cover.region,
                offset: cover.offset + s.start,
                len: s.end - s.start,
            };
            machine.segments.iter().map(span).collect()
        })
    }

    fn buffer(&self, machine: &Machine, buf: Buf) -> Buffer {
        match buf {
            Buf::Input => self.call.input,
            Buf::Output => self.call.output,
            Buf::Scratch => machine.scratch[self.lane].map_or(
                Buffer { memory: Memory::EMPTY, cover: None },
                |s| Buffer { memory: s.memory, cover: Some(Cover { region: s.region, offset: 0 }) },
            ),
        }
    }

    /// Copies the segments of the current message one behind the other to `dst`.
    fn copy_out(&self, machine: &mut Machine, src: Chunks, dst: Memory) -> Result<u64, Error> {
        let memory = self.buffer(machine, src.buf).memory;
        let segments = std::mem::take(&mut machine.segments);
        let (mut ticket, mut at) = (0, 0);
        for segment in &segments {
            let src = part(memory, segment);
            ticket = self.submit(machine, &Work::Copy { src, dst: dst.part(at, src.len) })?;
            at += src.len;
        }
        machine.segments = segments;
        Ok(ticket)
    }

    fn begin_recv(
        &self,
        machine: &mut Machine,
        from: u32,
        with: Option<Chunks>,
        dst: Chunks,
    ) -> Result<Begun, Error> {
        let bytes = self.segments(machine, dst);
        if bytes == 0 && dst.len > 0 {
            return Ok(Begun::Done);
        }
        let (link, net) = machine.link_and_net(from);
        if !link.arrived(net, self.lane) {
            // Only now: what has arrived from a peer that is gone is as good as ever.
            link.ready()?;
            return Ok(Begun::Wait);
        }
        if self.landing.contains(&from) {
            if let Some(cover) = self.call.output.cover {
                for s in &machine.segments {
                    let span = Span {
                        region: cover.region,
                        offset: cover.offset + s.start,
                        len: s.end - s.start,
                    };
                    machine.net.acquire(span);
                }
            }
            machine.take(from, self.lane, false);
            return Ok(Begun::Done);
        }
        let slot = link.next_slot(net, self.lane);
        let header = Machine::header(slot);
        if header.digest != self.call.digest || header.index != link.next_index(self.lane) {
            return Err(Error::Mismatch { peer: from });
        }
        if u64::from(header.bytes) != bytes {
            return Err(Error::Length { peer: from, got: header.bytes.into(), want: bytes });
        }
        if self.is_held(machine, dst) {
            return Ok(Begun::Wait);
        }
        let ticket = self.consume(machine, slot, with, dst)?;
        Ok(Begun::Work(ticket, Then::Take(from)))
    }

    /// Copies or reduces the payload of a slot into its destination.
    fn consume(
        &self,
        machine: &mut Machine,
        slot: Memory,
        with: Option<Chunks>,
        dst: Chunks,
    ) -> Result<u64, Error> {
        let out = self.buffer(machine, dst.buf).memory;
        let (mut ticket, mut at) = (0, PAYLOAD);
        for k in 0..dst.len {
            let dst = part(out, &self.geometry.chunk(dst.buf, dst.first + k, self.pass));
            if dst.len == 0 {
                continue;
            }
            let payload = slot.part(at, dst.len);
            at += dst.len;
            ticket = match with {
                None => self.submit(machine, &Work::Copy { src: payload, dst })?,
                Some(with) => {
                    let operand = self.buffer(machine, with.buf).memory;
                    let operand =
                        part(operand, &self.geometry.chunk(with.buf, with.first + k, self.pass));
                    let (dtype, by) = (self.call.dtype, &self.call.combine);
                    self.submit(
                        machine,
                        &Work::Reduce { srcs: &[operand, payload], dst, dtype, by },
                    )?
                }
            };
        }
        Ok(ticket)
    }

    /// Whether the transport still reads any of these chunks: they may not be overwritten yet.
    fn is_held(&self, machine: &mut Machine, chunks: Chunks) -> bool {
        let memory = self.buffer(machine, chunks.buf).memory;
        self.segments(machine, chunks);
        machine.segments.iter().any(|s| machine.is_held(part(memory, s)))
    }

    fn begin_copy(&self, machine: &mut Machine, src: Chunks, dst: Chunks) -> Result<Begun, Error> {
        if self.is_held(machine, dst) {
            return Ok(Begun::Wait);
        }
        let from = self.buffer(machine, src.buf).memory;
        let into = self.buffer(machine, dst.buf).memory;
        let mut ticket = 0;
        for k in 0..dst.len {
            let src = part(from, &self.geometry.chunk(src.buf, src.first + k, self.pass));
            let dst = part(into, &self.geometry.chunk(dst.buf, dst.first + k, self.pass));
            if dst.len > 0 && src != dst {
                ticket = self.submit(machine, &Work::Copy { src, dst })?;
            }
        }
        Ok(Begun::Work(ticket, Then::Next))
    }

    fn begin_reduce(
        &self,
        machine: &mut Machine,
        srcs: Sources,
        dst: Chunks,
    ) -> Result<Begun, Error> {
        if self.is_held(machine, dst) {
            return Ok(Begun::Wait);
        }
        let into = self.buffer(machine, dst.buf).memory;
        let own = self.buffer(machine, srcs.own.buf).memory;
        let scratch = self.buffer(machine, Buf::Scratch).memory;
        let mut operands = Vec::with_capacity(srcs.groups as usize);
        let mut ticket = 0;
        for k in 0..dst.len {
            let dst = part(into, &self.geometry.chunk(dst.buf, dst.first + k, self.pass));
            if dst.len == 0 {
                continue;
            }
            operands.clear();
            operands.extend((0..srcs.groups).map(|group| {
                if group == srcs.at {
                    part(own, &self.geometry.chunk(srcs.own.buf, srcs.own.first + k, self.pass))
                } else {
                    let chunk = srcs.first + group * srcs.own.len + k;
                    part(scratch, &self.geometry.chunk(Buf::Scratch, chunk, self.pass))
                }
            }));
            let (dtype, by) = (self.call.dtype, &self.call.combine);
            ticket = self.submit(machine, &Work::Reduce { srcs: &operands, dst, dtype, by })?;
        }
        Ok(Begun::Work(ticket, Then::Next))
    }

    #[allow(unsafe_code, reason = "the one place where a run gives work to a device")]
    fn submit(&self, machine: &mut Machine, work: &Work<'_>) -> Result<u64, Error> {
        // SAFETY: whoever submitted the call promised that its buffers stay valid and untouched until it is done; slots
        // and scratch are this lane's alone between arrival and credit, and a lane does one step at a time.
        unsafe { machine.submit(self.call.queue, work) }
    }
}

/// The bytes of a range of some memory.
fn part(memory: Memory, range: &std::ops::Range<u64>) -> Memory {
    let offset = usize::try_from(range.start).expect("a buffer fits the address space");
    memory.part(
        offset,
        usize::try_from(range.end - range.start).expect("a buffer fits the address space"),
    )
}
