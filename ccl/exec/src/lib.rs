//! The executor: runs the steps of a plan over one transport, whatever the plan, the transport and the device.
//!
//! ```text
//!   Call ---> one Run per lane ---> edges: slots and credits ---> Transport: put + signal
//!                 |                                                    (pool, tcp, simulated, ...)
//!                 +---------> Device queue: copies and reductions
//! ```
//!
//! A *lane* is a queue of runs, done one after the other; lanes go on side by side. [`Executor::poll`] moves all of
//! them as far as it can and returns: nothing here blocks, spawns, or reads a clock to decide anything.
//!
//! A message goes through a *slot* of the receiver, or, when it is long and the receiver's buffer can be written by the
//! peer, *lands* directly in it: the receiver then grants that at the start of the call.

#![deny(unsafe_code)]

mod clock;
mod coherent;
mod detours;
mod error;
mod geometry;
mod lent;
mod link;
mod machine;
mod plan;
mod prepared;
mod recorder;
mod run;
mod short;
mod slot;
mod work;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use dure_device::{Memory, Queue, Space};
use dure_plan::{Rank, Step};
use dure_transport::{Card, Peer, Region, Transport};

pub use crate::detours::Detours;
pub use crate::error::Error;
pub use crate::geometry::{Geometry, Layout, Layouts};
pub use crate::link::Settings;
#[cfg(fuzzing)]
pub use crate::link::fuzzing;
use crate::machine::{Cover, Machine};
pub use crate::plan::Plan;
pub use crate::prepared::Prepared;
pub use crate::recorder::{Event, Recorder};
use crate::run::{Buffer, CallState, Progress, Run};
use crate::short::{Outcome, ShortRun};

/// One call of a collective (or one message): a prepared plan, and the buffers that it works on.
#[derive(Debug)]
pub struct Call {
    /// This rank's steps on buffers of known layout.
    pub prepared: Arc<Prepared>,
    /// What is read. At least as long as the input layout's extent.
    pub input: Memory,
    /// What is written. At least as long as the output layout's extent.
    pub output: Memory,
    /// The same on all ranks that make the same call, different (as far as 32 bits go) otherwise.
    pub digest: u32,
}

/// Which lane a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// The collective lanes, after the collectives submitted before.
    Collective,
    /// The message lane to a peer, after the messages submitted to it before.
    To(Rank),
    /// The message lane from a peer, after the messages submitted from it before.
    From(Rank),
}

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Digest of the call.
    pub digest: u32,
    /// The lane.
    pub lane: u16,
    /// The pass.
    pub pass: u32,
    /// Number of the step in the plan.
    pub at: u32,
    /// The step; `None` when all are done and only sources are still read.
    pub step: Option<Step>,
    /// Whom it waits for: the peer of the step, or one for whom something is still read that the step overwrites, or that
    /// the call has sent. `None` when that is a device.
    pub peer: Option<u32>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {} pass {} step {}: ", self.lane, self.pass, self.at)?;
        match self.step {
            Some(step) => write!(f, "{step}")?,
            None => f.write_str("its last messages leave")?,
        }
        match self.peer {
            Some(peer) if self.step.and_then(|step| step.peer()) != Some(Rank(peer)) => {
                write!(f, " (rank {peer} has yet to read a message)")
            }
            _ => Ok(()),
        }
    }
}

/// One rank's executor: its transport, its links to peers, and the calls that are under way.
#[derive(Debug)]
pub struct Executor {
    machine: Machine,
    lanes: Vec<VecDeque<Run>>,
    to: HashMap<u32, VecDeque<Run>>,
    from: HashMap<u32, VecDeque<Run>>,
    /// Regions that the user registered, and those that were allocated for the user.
    registered: Vec<(Memory, Region)>,
    allocated: Vec<Region>,
    /// Regions that end when the executor is idle.
    passing: Vec<Region>,
    /// Whether some peer is reached by a transport that registers any memory at no cost.
    registers_all: bool,
    next_run: u64,
    /// Runs in all queues together, and the short one.
    running: usize,
    /// A short call: it is alone then.
    short: Option<ShortRun>,
    /// Polls of short calls in vain.
    waits: u32,
    /// The short call waits for what only the transport knows of.
    asks: bool,
    /// A call was put in its lanes since the last poll: it posts what it can before the transport is asked for news,
    /// which is a system call that its peers would wait for.
    begins: bool,
    /// No call is left, but the transport has something to do that it does when it is polled.
    catching_up: bool,
}

/// Polls in vain of a short call between two polls of the transport.
const WAITS: u32 = 8;

/// Moves the runs of one queue on, the first of them first. True when one of them moved.
#[inline]
fn advance(
    runs: &mut VecDeque<Run>,
    machine: &mut Machine,
    running: &mut usize,
) -> Result<bool, Error> {
    let mut moved = false;
    while let Some(run) = runs.front_mut() {
        match run.poll(machine)? {
            Progress::Done => {
                runs.pop_front();
                *running -= 1;
                moved = true;
            }
            Progress::Moved => return Ok(true),
            Progress::Stuck => break,
        }
    }
    Ok(moved)
}

impl Executor {
    /// An executor over `net`. `addresses[r]` is the transport's address of rank `r`; `queues` does the work in each
    /// space, that of the host among them.
    pub fn new(
        net: Box<dyn Transport>,
        addresses: Box<[Card]>,
        settings: Settings,
        queues: Vec<(Space, Box<dyn Queue>)>,
    ) -> Self {
        let peers = u32::try_from(addresses.len()).expect("ranks are counted in 32 bits");
        let registers_all = (0..peers).any(|peer| net.caps(Peer(peer)).any_source);
        Self {
            machine: Machine::new(net, addresses, settings, queues),
            lanes: (0..settings.lanes).map(|_| VecDeque::new()).collect(),
            to: HashMap::new(),
            from: HashMap::new(),
            registered: Vec::new(),
            allocated: Vec::new(),
            passing: Vec::new(),
            registers_all,
            next_run: 0,
            running: 0,
            short: None,
            waits: 0,
            asks: false,
            begins: false,
            catching_up: false,
        }
    }

    /// What is known of peers to whom some wires have failed.
    pub fn detours(&self) -> Arc<Detours> {
        Arc::clone(&self.machine.detours)
    }

    /// The settings that it was made with.
    pub fn settings(&self) -> Settings {
        self.machine.settings
    }

    /// The transport.
    pub fn transport(&mut self) -> &mut dyn Transport {
        &mut *self.machine.net
    }

    /// Puts a call in its lanes. It is done when [`Executor::is_idle`] says that nothing is left.
    ///
    /// # Errors
    /// [`Error::NoMemory`]: nothing was started.
    ///
    /// # Safety
    /// The memory of the call stays valid, and nobody else writes it or reads the output, until the executor is idle,
    /// has failed and is dropped, or is dropped.
    #[allow(unsafe_code, reason = "buffers of a call are raw memory until it is done")]
    pub unsafe fn submit(&mut self, call: Call, track: Track) -> Result<(), Error> {
        if self.running == 0 {
            self.machine.lend();
        }
        if self.is_short(&call, track) {
            let Call { prepared, input, output, digest } = call;
            let chunks = prepared.plan.shape.scratch;
            if chunks > 0 {
                let (host, bytes) = (self.machine.host, prepared.lanes[0].scratch_bytes(chunks));
                self.machine.need_scratch(host, 0, bytes)?;
            }
            self.machine.begin(0, digest);
            self.running = 1;
            self.asks = false;
            self.catching_up = false;
            self.short = Some(ShortRun { prepared, input, output, digest, at: 0 });
            return Ok(());
        }
        self.lengthen();
        // SAFETY: this function's contract.
        unsafe { self.submit_run(call, track, 0) }
    }

    /// Whether a call can be run as a short one: it is alone, and has been prepared so.
    #[inline]
    fn is_short(&self, call: &Call, track: Track) -> bool {
        let is_host = |memory: Memory| memory.space == Space::Host;
        self.running == 0
            && track == Track::Collective
            && call.prepared.short.is_some()
            && is_host(call.input)
            && is_host(call.output)
    }

    /// Has a short call that is under way go on as any other.
    fn lengthen(&mut self) {
        let Some(ShortRun { prepared, input, output, digest, at }) = self.short.take() else {
            return;
        };
        self.running = 0;
        let call = Call { prepared, input, output, digest };
        // SAFETY: whoever submitted the short call promised this for it.
        #[allow(unsafe_code, reason = "the call was submitted before")]
        let submitted = unsafe { self.submit_run(call, Track::Collective, at) };
        submitted.expect("what a short call needs was there when it began");
    }

    /// Puts a call in its lanes, at a step that it has reached.
    ///
    /// # Safety
    /// As [`Executor::submit`].
    #[allow(unsafe_code, reason = "buffers of a call are raw memory until it is done")]
    unsafe fn submit_run(&mut self, call: Call, track: Track, at: usize) -> Result<(), Error> {
        let prepared = call.prepared;
        let space = if call.output.len > 0 && call.output.space != Space::Host {
            call.output.space
        } else {
            call.input.space
        };
        let queue = self.machine.queue_of(space);
        if track == Track::Collective {
            let chunks = prepared.plan.shape.scratch;
            for (lane, geometry) in prepared.lanes.iter().enumerate() {
                self.machine.need_scratch(queue, lane, geometry.scratch_bytes(chunks))?;
            }
        }
        // SAFETY: this function's contract.
        let input = unsafe { self.buffer(call.input) };
        // SAFETY: this function's contract.
        let output = unsafe { self.buffer(call.output) };
        let lanes = prepared.lanes.len();
        self.running += lanes;
        self.begins = true;
        let in_place = call.input.overlaps(call.output);
        let state = CallState { prepared, input, output, in_place, digest: call.digest, queue };
        for index in 1..lanes {
            self.start(state.clone(), index, track, 0);
        }
        self.start(state, 0, track, at);
        Ok(())
    }

    /// Puts a call behind the others of one lane.
    fn start(&mut self, state: CallState, index: usize, track: Track, at: usize) {
        self.next_run += 1;
        let message_lane = self.lanes.len();
        let (lane, runs) = match track {
            Track::Collective => (index, &mut self.lanes[index]),
            Track::To(peer) => (message_lane, self.to.entry(peer.0).or_default()),
            Track::From(peer) => (message_lane, self.from.entry(peer.0).or_default()),
        };
        let mut run = Run::new(state, index, lane, self.next_run);
        run.at = at;
        runs.push_back(run);
    }

    /// Finds the region of some memory, or makes one that ends with the calls under way.
    ///
    /// # Safety
    /// As [`Executor::submit`].
    #[allow(unsafe_code, reason = "as for submit")]
    unsafe fn buffer(&mut self, memory: Memory) -> Buffer {
        let known = self.registered.iter().find(|(whole, _)| whole.contains(memory));
        let cover = match known {
            Some((whole, region)) => {
                Some(Cover { region: *region, offset: (memory.address() - whole.address()) as u64 })
            }
            None if memory.len > 0 && self.registers(memory.space) => {
                // SAFETY: this function's contract; the region is released when the executor is idle.
                let region = unsafe { self.machine.register(memory) };
                self.passing.extend(region);
                region.map(|region| Cover { region, offset: 0 })
            }
            None => None,
        };
        Buffer { memory, cover }
    }

    /// Whether memory of a space is registered for each call: it costs nothing worth saving, and some peers are reached so.
    fn registers(&self, space: Space) -> bool {
        match space {
            Space::Host => self.registers_all,
            Space::Device(_) => self.machine.net.reaches(space),
        }
    }

    /// Makes memory known to the transport for all calls to come. `None` when the transport does not take it, and it
    /// will be staged.
    ///
    /// # Safety
    /// As [`Transport::register`], until [`Executor::deregister`].
    #[allow(unsafe_code, reason = "memory of the user")]
    pub unsafe fn register(&mut self, memory: Memory) -> Option<Region> {
        // SAFETY: this function's contract.
        let region = unsafe { self.machine.register(memory) }?;
        self.registered.push((memory, region));
        Some(region)
    }

    /// Ends a registration.
    pub fn deregister(&mut self, region: Region) {
        self.registered.retain(|(_, r)| *r != region);
        self.allocated.retain(|r| *r != region);
        self.machine.net.release(region);
    }

    /// Allocates memory that peers can write where they can reach it at all; known to the transport like memory that
    /// was registered.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn alloc(&mut self, len: usize) -> Result<(Region, Memory), Error> {
        let (region, memory) = self
            .machine
            .net
            .alloc(len)
            .map_err(|source| Error::NoMemory { what: "memory that the user asked for", source })?;
        self.registered.push((memory, region));
        self.allocated.push(region);
        Ok((region, memory))
    }

    /// Allocates memory as `alloc` does, but of a device where its peers read that in place.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn alloc_in(&mut self, space: Space, len: usize) -> Result<(Region, Memory), Error> {
        if !self.machine.net.reaches(space) {
            return self.alloc(len);
        }
        let what = "memory of a device that the user asked for";
        let (region, memory) = self
            .machine
            .net
            .alloc_in(space, len)
            .map_err(|source| Error::NoMemory { what, source })?;
        self.registered.push((memory, region));
        self.allocated.push(region);
        Ok((region, memory))
    }

    /// Moves everything as far as it goes, and says whether anything moved.
    ///
    /// # Errors
    /// After an error the executor is of no use any more.
    #[inline]
    pub fn poll(&mut self) -> Result<bool, Error> {
        if let Some(short) = &mut self.short {
            let news = self.asks && self.machine.poll()?;
            let (moved, outcome) = short.poll(&mut self.machine)?;
            self.machine.ring();
            match outcome {
                Outcome::Ask => {
                    self.asks = true;
                    return Ok(moved || news);
                }
                Outcome::Done => {
                    self.short = None;
                    self.running = 0;
                    return self.catch_up();
                }
                Outcome::Wait => {
                    // Coherent peers get further without the transport: it is asked for news of them now and then.
                    self.waits = self.waits.wrapping_add(1);
                    let ask = !moved && self.waits.is_multiple_of(WAITS);
                    return if ask { self.machine.poll() } else { Ok(moved) };
                }
                Outcome::General => self.lengthen(),
            }
        }
        self.poll_runs()
    }

    fn poll_runs(&mut self) -> Result<bool, Error> {
        let mut moved = !std::mem::take(&mut self.begins) && self.machine.poll()?;
        if self.running == 0 {
            self.catching_up &= self.machine.net.is_behind();
            return Ok(moved);
        }
        for runs in &mut self.lanes {
            moved |= advance(runs, &mut self.machine, &mut self.running)?;
        }
        if !self.to.is_empty() || !self.from.is_empty() {
            for runs in self.to.values_mut().chain(self.from.values_mut()) {
                moved |= advance(runs, &mut self.machine, &mut self.running)?;
            }
        }
        self.machine.ring();
        if self.running == 0 && !self.passing.is_empty() {
            for region in self.passing.drain(..) {
                self.machine.net.release(region);
            }
        }
        if self.running == 0 {
            return self.catch_up();
        }
        Ok(moved)
    }

    /// All calls are done, but for what the transport may still have to do for this side: nobody polls it any more when the
    /// executor is idle.
    #[inline]
    fn catch_up(&mut self) -> Result<bool, Error> {
        self.catching_up = self.machine.net.is_behind() && {
            self.machine.poll()?;
            self.machine.net.is_behind()
        };
        Ok(true)
    }

    /// Whether every call that was submitted is done.
    pub fn is_idle(&self) -> bool {
        self.running == 0 && !self.catching_up
    }

    /// Whether no device works on anything that was submitted. After a failure, the memory of the calls may be touched
    /// again once this is so.
    pub fn is_quiet(&mut self) -> bool {
        self.machine.is_quiet()
    }

    /// After a failure, before the memory of the calls may be touched again: bytes that peers have yet to take from it stay what
    /// they are, or never arrive as if they were right.
    pub fn withdraw(&mut self) {
        self.machine.withdraw();
        let registered = self.registered.iter().map(|(_, region)| *region);
        for region in registered.chain(self.passing.iter().copied()) {
            self.machine.net.settle(region);
        }
    }

    /// What each lane waits for now.
    pub fn waiting(&self) -> impl Iterator<Item = Waiting> {
        let lanes = self.lanes.iter().enumerate();
        let messages =
            self.to.values().chain(self.from.values()).map(|runs| (self.lanes.len(), runs));
        let runs = lanes.chain(messages).filter_map(|(lane, runs)| {
            let run = runs.front()?;
            let (digest, pass, at, step) = run.position();
            let lane = u16::try_from(lane).expect("lanes are counted in 16 bits");
            let at = u32::try_from(at).expect("steps are counted in 32 bits");
            Some(Waiting { digest, lane, pass, at, step, peer: run.waits_for })
        });
        self.short.iter().map(ShortRun::waiting).chain(runs)
    }

    /// The peers that it is connected to, and the memory of each that the peer writes: its slots, grants and mails.
    pub fn inboxes(&self) -> impl Iterator<Item = (Rank, Memory)> {
        let links = (0..).zip(&self.machine.links);
        links.filter_map(|(peer, link)| Some((Rank(peer), link.as_ref()?.inbox())))
    }

    /// The scratch of the lanes, and what is sent from where it is copied to before.
    pub fn scratch(&self) -> impl Iterator<Item = Memory> {
        self.machine.memory()
    }

    /// What [`Executor::alloc`] gave that was not deregistered.
    pub fn allocated(&self) -> impl Iterator<Item = Memory> {
        let held = |(_, region): &&(Memory, Region)| self.allocated.contains(region);
        self.registered.iter().filter(held).map(|(memory, _)| *memory)
    }

    /// The flight recorders, lane by lane; the last is that of messages.
    pub fn recorders(&self) -> &[Recorder] {
        &self.machine.recorders
    }
}
