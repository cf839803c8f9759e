//! One call on one lane: the state machine that turns steps into copies, reductions and puts.

use std::sync::Arc;

use dure_device::Memory;
use dure_plan::{Chunks, Rank, Step};
use dure_transport::{Card, Peer, Posted, RemoteRegion};

use crate::Error;
use crate::geometry::Geometry;
use crate::link::{self, Grant, Target};
use crate::machine::{Cover, Held, Machine, Until};
use crate::plan::{Lands, LanePlan};
use crate::prepared::Prepared;
use crate::recorder::Event;
use crate::slot::{Kind, LINE};
use crate::work::Sink;

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
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) input: Buffer,
    pub(crate) output: Buffer,
    /// Whether input and output share memory.
    pub(crate) in_place: bool,
    pub(crate) digest: u32,
    /// Which of the machine's device queues does the work.
    pub(crate) queue: usize,
}

/// What follows when the device has done the work of the current step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// The step is done.
    Next,
    /// The slot of the peer is free again; the peer waits for it if it keeps the source of the message.
    Take { from: u32, kept: bool },
    /// So is the staging buffer that the message was read to.
    TakeStaged(u32, usize),
    /// The message was copied from another device to a staging buffer, and goes on from there.
    Unload { from: u32, staging: usize, bytes: usize, sink: Sink },
    /// The payload is where it belongs: signal it.
    Publish(u32, Target, u64),
    /// The payload is in a staging buffer that the peer reads: say so.
    PublishStaged(u32, Target, u64, usize),
    /// The payload is in a staging buffer: post it.
    PostStaged(u32, Target, u64, usize),
}

impl Then {
    /// Whose message it is about to post.
    fn to(&self) -> Option<u32> {
        match *self {
            Self::Publish(to, ..) | Self::PublishStaged(to, ..) | Self::PostStaged(to, ..) => {
                Some(to)
            }
            Self::Next | Self::Take { .. } | Self::TakeStaged(..) | Self::Unload { .. } => None,
        }
    }
}

/// What became of a step.
pub(crate) enum Begun {
    /// It waits: for this peer to do something, or for a device.
    Wait(Option<u32>),
    /// It is done.
    Done,
    /// The device of the call works on it.
    Work(u64, Then),
    /// The device of another queue does.
    WorkOn(usize, u64, Then),
}

/// Where the messages to a peer go in this call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Permit {
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
    pub(crate) call: CallState,
    /// Which of the plan's lanes, and which lane of the links.
    pub(crate) plan_lane: usize,
    pub(crate) lane: usize,
    /// Identifies this run among those in flight.
    pub(crate) id: u64,
    pub(crate) at: usize,
    pub(crate) pass: u32,
    /// What a queue works on for the current step, and what follows.
    working: Option<(usize, u64, Then)>,
    /// Whom it waits for.
    pub(crate) waits_for: Option<u32>,
    started: bool,
    /// Peers that wait for a grant of ours.
    ungranted: Vec<(u32, Chunks)>,
    /// Peers whose messages land directly.
    pub(crate) landing: Vec<u32>,
    /// Peers that tell us where to land.
    pub(crate) permits: Vec<(u32, Permit)>,
    /// Outputs of coherent peers that this rank may write.
    pub(crate) outputs: Vec<(u32, Memory)>,
    /// Pass and step of the send whose bytes were written to the receiver's output already.
    pub(crate) written: Option<(u32, usize)>,
    /// The staging buffer that several peers read, and pass and series of their messages.
    pub(crate) shared: Option<(u32, u32, usize)>,
}

impl Run {
    pub(crate) fn new(call: CallState, plan_lane: usize, lane: usize, id: u64) -> Self {
        Self {
            call,
            plan_lane,
            lane,
            id,
            at: 0,
            pass: 0,
            working: None,
            waits_for: None,
            started: false,
            ungranted: Vec::new(),
            landing: Vec::new(),
            permits: Vec::new(),
            outputs: Vec::new(),
            written: None,
            shared: None,
        }
    }

    /// The plan's steps on this lane.
    pub(crate) fn steps(&self) -> &LanePlan {
        &self.call.prepared.plan.lanes[self.plan_lane]
    }

    /// Where the chunks of this lane are.
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.call.prepared.lanes[self.plan_lane]
    }

    /// Where it is: digest of the call, pass, number of the step, and the step (`None` when all steps are done and only
    /// sources are held).
    pub(crate) fn position(&self) -> (u32, u32, usize, Option<Step>) {
        let step = (self.pass < self.geometry().passes())
            .then(|| self.steps().steps.get(self.at).copied())
            .flatten();
        (self.call.digest, self.pass, self.at, step)
    }

    /// Goes as far as it can.
    pub(crate) fn poll(&mut self, machine: &mut Machine) -> Result<Progress, Error> {
        if !self.started {
            self.start(machine)?;
        }
        if !self.ungranted.is_empty() {
            self.give_grants(machine);
        }
        let mut progress = Progress::Stuck;
        while self.pass < self.geometry().passes() {
            let Some(step) = self.steps().steps.get(self.at).copied() else {
                self.at = 0;
                self.pass += 1;
                continue;
            };
            if !self.step(machine, &step)? {
                return Ok(progress);
            }
            progress = Progress::Moved;
            let bytes = machine.segments.iter().map(|s| s.end - s.start).sum();
            let peer = step.peer().map_or(u32::MAX, |Rank(peer)| peer);
            self.record(machine, self.at, peer, bytes);
            self.at += 1;
        }
        self.unshare(machine);
        let reader = machine.reader_of_run(self.id);
        self.waits_for = reader.or_else(|| self.ungranted.first().map(|(peer, _)| *peer));
        if self.waits_for.is_some() {
            return Ok(progress);
        }
        for (_, permit) in self.permits.drain(..) {
            if let Permit::Land { remote, .. } = permit {
                machine.net.forget(remote);
            }
        }
        Ok(Progress::Done)
    }

    /// Notes that a step was done.
    fn record(&self, machine: &mut Machine, at: usize, peer: u32, bytes: u64) {
        let step = u32::try_from(at).expect("a plan has fewer steps than 32 bits count");
        let event = Event { nanos: 0, call: self.call.digest, pass: self.pass, step, peer, bytes };
        machine.recorders[self.lane].record(event);
    }

    /// Connects to the peers, and sees which edges carry messages that are long enough to land directly.
    fn start(&mut self, machine: &mut Machine) -> Result<(), Error> {
        self.started = true;
        if self.at == 0 {
            machine.begin(self.lane, self.call.digest);
        }
        for at in 0..self.steps().peers.len() {
            let used = self.steps().peers[at];
            machine.connect(used.peer)?;
            // What can be read in place need not land; and where caches are not coherent a line has one writer.
            if machine.link(used.peer).is_in_place() {
                continue;
            }
            // Both ends of an edge ask this of its messages, and get the same answer.
            let ragged = self.geometry().layouts().ragged;
            let mut long = |lands: Option<Lands>| {
                let Lands { first, one_block } = lands?;
                let least = u64::from(machine.settings.landing_bytes);
                ((one_block || !ragged) && self.segments(machine, first) >= least).then_some(first)
            };
            let (lands_in, lands_out) = (long(used.lands_in), long(used.lands_out));
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
    pub(crate) fn segments(&self, machine: &mut Machine, chunks: Chunks) -> u64 {
        self.geometry().segments(chunks, self.pass, &mut machine.segments);
        machine.segments.iter().map(|s| s.end - s.start).sum()
    }

    /// Tells the peers where their messages may land. A peer that is not connected yet is told later; one that is gone may have
    /// sent all that it had to before.
    fn give_grants(&mut self, machine: &mut Machine) {
        let mut index = 0;
        while let Some(&(peer, first)) = self.ungranted.get(index) {
            if machine.link(peer).is_lost() {
                self.ungranted.swap_remove(index);
                continue;
            }
            let is_up = machine.link(peer).is_up();
            let base = is_up.then(|| self.landing_place(machine, peer, first));
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
    }

    /// Where the output (or, when blocks differ in length, the one block of it that the edge fills) begins in a region
    /// that the peer may write; `None` when it may not.
    fn landing_place(&self, machine: &Machine, peer: u32, first: Chunks) -> Option<(u64, Card)> {
        let cover = self.call.output.cover?;
        let card = machine.net.key(cover.region, Peer(peer))?;
        if card.0.len() > link::longest_grant_card(machine.net.caps(Peer(peer)).head) {
            return None;
        }
        let ragged = self.geometry().layouts().ragged;
        let block = if ragged { self.geometry().block_start(first.buf, first.first) } else { 0 };
        Some((cover.offset + block, card))
    }

    /// Tries to do the current step, or to go on with it. False when it has to wait.
    fn step(&mut self, machine: &mut Machine, step: &Step) -> Result<bool, Error> {
        let (mut queue, mut ticket, mut then) = match self.working.take() {
            Some(work) => work,
            None => match self.begin(machine, step)? {
                Begun::Wait(peer) => {
                    self.waits_for = peer;
                    return Ok(false);
                }
                Begun::Done => return Ok(true),
                Begun::Work(ticket, then) => (self.call.queue, ticket, then),
                Begun::WorkOn(queue, ticket, then) => (queue, ticket, then),
            },
        };
        let mut worked = machine.queues[queue].1.completed()? >= ticket;
        if let (true, Then::Unload { from, staging, bytes, sink }) = (worked, then) {
            self.segments(machine, sink.dst);
            let message = machine.staging(staging).memory.part(0, bytes);
            (queue, ticket) = (self.call.queue, self.consume(machine, message, sink)?);
            then = Then::TakeStaged(from, staging);
            worked = machine.queues[queue].1.completed()? >= ticket;
        }
        let done = worked && self.finish(machine, &then)?;
        if !done {
            self.waits_for = then.to();
            self.working = Some((queue, ticket, then));
        }
        Ok(done)
    }

    fn begin(&mut self, machine: &mut Machine, step: &Step) -> Result<Begun, Error> {
        match *step {
            Step::Send { to, src } => self.begin_send(machine, to.0, src),
            Step::Recv { from, dst } => self.begin_recv(machine, from.0, None, dst),
            Step::RecvReduce { from, with, dst } => {
                self.begin_recv(machine, from.0, Some(with), dst)
            }
            Step::Copy { src, dst } => self.begin_copy(machine, src, dst),
            Step::Reduce { srcs, dst } => self.begin_reduce(machine, srcs, dst),
        }
    }

    /// Does what follows the device's work. False when it has to wait.
    fn finish(&self, machine: &mut Machine, then: &Then) -> Result<bool, Error> {
        if let Some(to) = then.to() {
            // It may have been lost while the device worked or the transport was full.
            machine.link(to).ready()?;
        }
        match *then {
            Then::Next | Then::Unload { .. } => {}
            Then::Take { from, kept: false } => machine.take(from, self.lane, true, false),
            Then::Take { from, kept: true } => machine.take_kept(from, self.lane)?,
            Then::TakeStaged(from, staging) => {
                machine.unstage(staging);
                machine.take_kept(from, self.lane)?;
            }
            Then::Publish(to, target, bytes) => match target.slot {
                Some(slot) => {
                    let kind = if bytes <= LINE as u64 { Kind::Line } else { Kind::Slot };
                    self.publish(machine, to, (slot, bytes), kind);
                }
                None => return Ok(self.post(machine, (to, target, bytes), &[]).is_some()),
            },
            Then::PublishStaged(to, target, bytes, staging) => {
                self.publish_staged(machine, to, (target, bytes), staging);
            }
            Then::PostStaged(to, target, bytes, staging) => {
                let span = machine.staged(staging, bytes);
                match self.post(machine, (to, target, bytes), &[span]) {
                    None => return Ok(false),
                    Some((Posted::Done, _)) => machine.unstage(staging),
                    Some((Posted::Pending, token)) => {
                        let (until, memory) = (Until::Sent(token), Vec::new());
                        let staging = Some(staging);
                        machine.hold(Held { until, to, run: self.id, memory, staging });
                    }
                }
            }
        }
        Ok(true)
    }
}
