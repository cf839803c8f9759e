//! The engine of one rank: batches of calls, one after the other, over the executor.
//!
//! A batch is one call, or a group of calls that go on side by side. Around the executor's work on it there may be
//! local work on a device: scaling the input before, and the output after.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use dure_device::{Combine, Dtype, Memory, Queue, Scale, Space, Work};
use dure_exec::{Call, Executor, Layouts, Plan, Prepared, Track};
use dure_plan::{Collective, Rank};
use dure_transport::Region;

use crate::call::{Action, RaggedCounts, Request, Signature, mix};
use crate::comparison::Comparison;
use crate::error::{Error, Result};
use crate::known::{Known, KnownCalls};
use crate::messages::{self, MessageCounts};
use crate::operation::Operation;
use crate::padded::Padded;
use crate::planner::Candidate;
use crate::record::Record;
use crate::stall::{Stall, executor_error};
use crate::tuner::{Decision, DecisionId, Kind, Trying, Tuner};

/// Tells a pin from a call in the digest of all calls.
const PINNED: u64 = u64::from_le_bytes(*b"pinned  ");

/// A group of calls, and the operation that says when it is done.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) requests: Vec<Request>,
    pub(crate) operation: Arc<Operation>,
}

/// Local work on a device: a copy, scaled or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local {
    pub(crate) src: Memory,
    pub(crate) dst: Memory,
    pub(crate) dtype: Dtype,
    pub(crate) by: Option<Scale>,
}

/// Where the batch under way is.
#[derive(Debug)]
enum Stage {
    /// Local work before: queue and ticket of each piece.
    Before(Vec<(usize, u64)>),
    /// The executor's work.
    Running,
    /// Local work after.
    After(Vec<(usize, u64)>),
}

/// The batch under way.
#[derive(Debug)]
pub(crate) struct Active {
    batch: Batch,
    pub(crate) calls: Vec<(Call, Track)>,
    pub(crate) after: Vec<Local>,
    /// Calls that go on when those under way are done.
    pub(crate) padded: VecDeque<Padded>,
    stage: Stage,
    /// Copies of inputs, given back at the end.
    temporary: Vec<Region>,
    /// Number of the last collective that began; 0 when it has none of its own.
    sequence: u64,
    /// Calls of trials.
    pub(crate) trying: Vec<Trying>,
    /// What the ranks compare just now.
    pub(crate) comparison: Option<Comparison>,
    /// When it began. Times of calls that go on side by side would be those of all.
    pub(crate) began: Option<Instant>,
}

impl Active {
    fn new(batch: Batch) -> Self {
        Self {
            batch,
            calls: Vec::new(),
            after: Vec::new(),
            padded: VecDeque::new(),
            stage: Stage::Running,
            temporary: Vec::new(),
            sequence: 0,
            trying: Vec::new(),
            comparison: None,
            began: None,
        }
    }
}

impl Active {
    /// Has the executor work on the calls next.
    pub(crate) fn run_calls(&mut self) {
        self.stage = Stage::Before(Vec::new());
    }
}

/// How far the engine got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is nothing to do.
    Idle,
    /// Something moved.
    Moved,
    /// It waits for peers or a device.
    Stuck,
}

/// The engine of one rank. One thread at a time turns it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) me: Rank,
    pub(crate) ranks: u32,
    pub(crate) executor: Executor,
    pub(crate) tuner: Tuner,
    queues: Vec<(Space, Box<dyn Queue>)>,
    waiting: VecDeque<Batch>,
    pub(crate) active: Option<Active>,
    /// Collectives begun so far, and the digest of all of them.
    sequence: u64,
    chain: u64,
    pub(crate) messages: MessageCounts,
    known: KnownCalls,
    /// What serves the last collective.
    last: Option<DecisionId>,
    /// How long nothing has moved.
    pub(crate) stall: Stall,
}

impl Engine {
    pub(crate) fn new(
        (me, ranks): (Rank, u32),
        executor: Executor,
        tuner: Tuner,
        queues: Vec<(Space, Box<dyn Queue>)>,
    ) -> Self {
        Self {
            me,
            ranks,
            executor,
            tuner,
            queues,
            waiting: VecDeque::new(),
            active: None,
            sequence: 0,
            chain: 0,
            messages: MessageCounts::default(),
            known: KnownCalls::default(),
            last: None,
            stall: Stall::default(),
        }
    }

    /// Queues a batch behind those before it.
    pub(crate) fn push(&mut self, batch: Batch) {
        self.waiting.push_back(batch);
    }

    /// Whether a batch is under way or waits.
    pub(crate) fn has_work(&self) -> bool {
        self.active.is_some() || !self.waiting.is_empty()
    }

    /// What was chosen for the last collective.
    pub(crate) fn last_choice(&self) -> Option<&Candidate> {
        Some(&self.tuner.decision(self.last?).candidate)
    }

    /// Pins a way to serve calls. No call may be under way or wait. What ranks pin is part of what they compare.
    pub(crate) fn pin(&mut self, pin: Option<Candidate>) {
        let text = pin.as_ref().map_or_else(String::new, ToString::to_string);
        self.chain =
            text.bytes().fold(mix(self.chain, PINNED), |chain, byte| mix(chain, byte.into()));
        self.tuner.pin(pin);
        self.known = KnownCalls::default();
        self.last = None;
    }

    /// Memory of the plans and of the calls that were made before, in bytes.
    pub(crate) fn plans(&self) -> usize {
        self.tuner.bytes() + self.known.bytes()
    }

    /// Number of the last collective that began, and the digest of all collectives so far.
    pub(crate) fn history(&self) -> (u64, u64) {
        (self.sequence, self.chain)
    }

    /// The digest of all collectives so far, as messages carry it.
    #[expect(clippy::cast_possible_truncation, reason = "a digest of 32 of the 64 bits")]
    pub(crate) fn digest(&self) -> u32 {
        self.chain as u32
    }

    /// Moves as far as possible without waiting.
    ///
    /// # Errors
    /// What went wrong; the communicator is of no use after it. A request that cannot be begun at all fails its own
    /// operation only.
    pub(crate) fn turn(&mut self, record: &Record) -> std::result::Result<Turn, dure_exec::Error> {
        if self.active.is_none() {
            let Some(batch) = self.waiting.front() else { return Ok(Turn::Idle) };
            if !batch.operation.may_start() {
                return Ok(Turn::Stuck);
            }
            let batch = self.waiting.pop_front().expect("looked at just now");
            let operation = Arc::clone(&batch.operation);
            match self.begin(batch, record) {
                Ok(active) => self.active = Some(active),
                Err(error) => {
                    record.end(self.sequence);
                    operation.finish(Err(error));
                    return Ok(Turn::Moved);
                }
            }
        }
        self.advance(record)
    }

    #[allow(unsafe_code, reason = "buffers of a request are raw memory until it is done")]
    fn advance(&mut self, record: &Record) -> std::result::Result<Turn, dure_exec::Error> {
        let mut moved = false;
        loop {
            let active = self.active.as_mut().expect("only called with a batch under way");
            match &active.stage {
                Stage::Before(tickets) => {
                    if !completed(&mut self.queues, tickets)? {
                        return Ok(if moved { Turn::Moved } else { Turn::Stuck });
                    }
                    for (call, track) in std::mem::take(&mut active.calls) {
                        // SAFETY: whoever made the request promised that its buffers stay until the operation is done.
                        unsafe { self.executor.submit(call, track) }?;
                    }
                    active.stage = Stage::Running;
                }
                Stage::Running => {
                    moved |= self.executor.poll()?;
                    if !self.executor.is_idle() {
                        return Ok(if moved { Turn::Moved } else { Turn::Stuck });
                    }
                    if !active.padded.is_empty() {
                        self.go_on()?;
                        continue;
                    }
                    if let Some(comparison) = active.comparison.take() {
                        comparison.settle(&mut self.tuner);
                    }
                    let after = std::mem::take(&mut active.after);
                    active.stage = Stage::After(start(&mut self.queues, &after)?);
                }
                Stage::After(tickets) => {
                    if !completed(&mut self.queues, tickets)? {
                        return Ok(if moved { Turn::Moved } else { Turn::Stuck });
                    }
                    if self.compare()? {
                        moved = true;
                        continue;
                    }
                    self.end(record);
                    return Ok(Turn::Moved);
                }
            }
            moved = true;
        }
    }

    /// Starts the second part of the calls that have one.
    fn go_on(&mut self) -> std::result::Result<(), dure_exec::Error> {
        let mut active = self.active.take().expect("only called with a batch under way");
        let mut before = Vec::new();
        while let Some(padded) = active.padded.pop_front() {
            before.extend(self.go_on_padded(&mut active, padded)?);
        }
        active.stage = Stage::Before(start(&mut self.queues, &before)?);
        self.active = Some(active);
        Ok(())
    }

    fn end(&mut self, record: &Record) {
        let active = self.active.take().expect("only called with a batch under way");
        for region in active.temporary {
            self.executor.deregister(region);
        }
        if active.sequence > 0 {
            record.end(active.sequence);
        }
        active.batch.operation.finish(Ok(()));
    }

    /// Ends everything with an error.
    pub(crate) fn fail(&mut self, error: &Error) {
        while !self.is_quiet() {
            std::thread::yield_now();
        }
        self.executor.withdraw();
        let active = self.active.take().map(|active| active.batch);
        for batch in active.into_iter().chain(self.waiting.drain(..)) {
            batch.operation.finish(Err(error.clone()));
        }
    }

    /// Whether no device works on the callers' buffers any more. What a device has begun ends by itself.
    fn is_quiet(&mut self) -> bool {
        let Some(active) = &self.active else { return true };
        let local = match &active.stage {
            Stage::Before(tickets) | Stage::After(tickets) => {
                completed(&mut self.queues, tickets).unwrap_or(true)
            }
            Stage::Running => true,
        };
        local && self.executor.is_quiet()
    }

    fn begin(&mut self, batch: Batch, record: &Record) -> Result<Active> {
        let mut active = Active::new(batch);
        let requests = std::mem::take(&mut active.batch.requests);
        active.began = (requests.len() == 1).then(Instant::now);
        let mut before = Vec::new();
        let mut to_self = (VecDeque::new(), VecDeque::new());
        for request in requests {
            match request.action {
                Action::Send(peer) if peer == self.me.0 => to_self.0.push_back(request),
                Action::Recv(peer) if peer == self.me.0 => to_self.1.push_back(request),
                Action::Send(peer) => self.begin_message(&mut active, &request, peer, true)?,
                Action::Recv(peer) => self.begin_message(&mut active, &request, peer, false)?,
                Action::Collective(what, _) | Action::Ragged(what, _) => {
                    self.begin_collective(&mut active, &mut before, request, (what, record))?;
                }
            }
        }
        self.begin_self(&mut active, to_self)?;
        let tickets =
            start(&mut self.queues, &before).map_err(|e| executor_error(&e, self.me.0))?;
        active.stage = Stage::Before(tickets);
        Ok(active)
    }

    /// A plan on buffers of known layout.
    pub(crate) fn prepare(
        &self,
        plan: Arc<Plan>,
        layouts: &Layouts,
        kind: (Dtype, Combine),
    ) -> std::result::Result<Arc<Prepared>, dure_exec::Error> {
        Prepared::new(plan, layouts, self.executor.settings(), kind).map(Arc::new)
    }

    /// Begins a call at once, without a batch. `None` when it has to be queued: others are before it, it was not made
    /// before, or it needs more than the executor. Whoever began it polls the executor, and calls [`Engine::end_known`]
    /// when that is idle, or else [`Engine::adopt`].
    #[allow(unsafe_code, reason = "buffers of a request are raw memory until it is done")]
    #[inline]
    pub(crate) fn begin_known(
        &mut self,
        request: &Request,
        record: &Record,
    ) -> Option<std::result::Result<(), dure_exec::Error>> {
        if self.has_work() {
            return None;
        }
        let signature = request.signature();
        let known = self.known.find(request.key(signature)?).filter(|known| known.bare)?;
        let (input, output) = known.buffers(request.input, request.output)?;
        if is_exchange(&request.action) && input.overlaps(output) {
            return None;
        }
        let (prepared, decision) = (Arc::clone(&known.prepared), known.decision);
        let (digest, track) = match request.action {
            Action::Send(peer) => {
                (self.count_message(signature, peer, true), Track::To(Rank(peer)))
            }
            Action::Recv(peer) => {
                (self.count_message(signature, peer, false), Track::From(Rank(peer)))
            }
            Action::Collective(..) | Action::Ragged(..) => {
                (self.count_collective(signature, decision, record), Track::Collective)
            }
        };
        let call = Call { prepared, input, output, digest };
        // SAFETY: whoever made the request promised that its buffers stay until the operation is done.
        Some(unsafe { self.executor.submit(call, track) })
    }

    /// The executor is done with a call of [`Engine::begin_known`].
    #[inline]
    pub(crate) fn end_known(&self, record: &Record) {
        record.end(self.sequence);
    }

    /// Wakes whoever waits for the batch under way, or for the next one.
    pub(crate) fn wake_next(&self) {
        let active = self.active.as_ref().map(|active| &active.batch);
        if let Some(batch) = active.or_else(|| self.waiting.front()) {
            batch.operation.wake();
        }
    }

    /// Goes on with a call of [`Engine::begin_known`] as with any other; `operation` says when it is done.
    pub(crate) fn adopt(&mut self, operation: Arc<Operation>) {
        let batch = Batch { requests: Vec::new(), operation };
        self.active = Some(Active { sequence: self.sequence, ..Active::new(batch) });
    }

    /// Gives a collective the next number, and publishes it; the digest of all so far.
    fn count_collective(
        &mut self,
        signature: Signature,
        decision: Option<DecisionId>,
        record: &Record,
    ) -> u32 {
        self.sequence += 1;
        self.chain = signature.chained(self.chain, self.sequence);
        self.last = decision;
        record.begin(self.sequence, signature.0);
        self.digest()
    }

    /// What a request is without its buffers.
    pub(crate) fn know(&mut self, request: &Request) -> Result<Known> {
        let key = request.key(request.signature());
        if let Some(known) = key.and_then(|key| self.known.find(key)) {
            return Ok(known.clone());
        }
        let layouts = request.layouts(self.ranks, self.me);
        let (plan, decided) = match request.action {
            Action::Send(peer) => (Arc::new(Plan::message(messages::step(peer, true))), None),
            Action::Recv(peer) => (Arc::new(Plan::message(messages::step(peer, false))), None),
            Action::Collective(what, _) | Action::Ragged(what, _) => {
                let is_ragged = matches!(request.action, Action::Ragged(..));
                let kind = if is_ragged { Kind::Ragged } else { Kind::Even };
                let decided = self.tuner.decide(what, request.bytes(&layouts), kind)?;
                (Arc::clone(&self.tuner.decision(decided.id).plan), Some(decided))
            }
        };
        let (dtype, op) = (request.dtype, &request.op);
        let prepared = self
            .prepare(plan, &layouts, (dtype, op.combine()))
            .map_err(|e| executor_error(&e, self.me.0))?;
        let bytes =
            |extent: u64| usize::try_from(extent).expect("the buffer was checked") * dtype.size();
        let scales =
            op.before(dtype, self.ranks).is_some() || op.after(dtype, self.ranks).is_some();
        let known = Known {
            prepared,
            decision: decided.map(|decided| decided.id),
            trying: decided.and_then(|decided| decided.trying),
            input: bytes(layouts.input.extent()),
            output: bytes(layouts.output.extent()),
            bare: !(request.reduces() && scales),
        };
        if let Some(key) = key.filter(|_| known.trying.is_none()) {
            self.known.keep(key, known.clone());
        }
        Ok(known)
    }

    fn begin_collective(
        &mut self,
        active: &mut Active,
        before: &mut Vec<Local>,
        mut request: Request,
        (what, record): (Collective, &Record),
    ) -> Result<()> {
        let known = self.know(&request)?;
        let digest = self.count_collective(request.signature(), known.decision, record);
        active.sequence = self.sequence;
        active.trying.extend(known.trying);
        (request.input, request.output) =
            known.buffers(request.input, request.output).expect("the buffers were checked");
        if what.reduces() {
            self.scale_around(active, before, &mut request, what)?;
        } else if is_exchange(&request.action) && request.input.overlaps(request.output) {
            let copy = self
                .temporary(active, (request.input.space, request.input.len))
                .map_err(|e| executor_error(&e, self.me.0))?;
            before.push(Local { src: request.input, dst: copy, dtype: request.dtype, by: None });
            request.input = copy;
        }
        let decision = known.decision.expect("a collective is decided");
        let Decision { plan, ragged, .. } = self.tuner.decision(decision);
        if let (false, Action::Ragged(_, RaggedCounts::Both(input, output))) =
            (*ragged, &request.action)
        {
            let blocks = [Arc::clone(input), Arc::clone(output)];
            let plan = Arc::clone(plan);
            return self.begin_padded(active, request, blocks, (plan, digest));
        }
        let call =
            Call { prepared: known.prepared, input: request.input, output: request.output, digest };
        active.calls.push((call, Track::Collective));
        Ok(())
    }

    /// Scales the input before, or the output after, where the operation says so.
    fn scale_around(
        &mut self,
        active: &mut Active,
        before: &mut Vec<Local>,
        request: &mut Request,
        what: Collective,
    ) -> Result<()> {
        let dtype = request.dtype;
        if let Some(by) = request.op.before(dtype, self.ranks).filter(|_| request.input.len > 0) {
            // The whole output of an all-reduce is written anyway; other inputs need room of their own.
            let dst = if what == Collective::AllReduce {
                request.output
            } else {
                self.temporary(active, (request.input.space, request.input.len))
                    .map_err(|e| executor_error(&e, self.me.0))?
            };
            before.push(Local { src: request.input, dst, dtype, by: Some(by) });
            request.input = dst;
        }
        if let Some(by) = request.op.after(dtype, self.ranks).filter(|_| request.output.len > 0) {
            active.after.push(Local {
                src: request.output,
                dst: request.output,
                dtype,
                by: Some(by),
            });
        }
        Ok(())
    }

    /// Memory of the transport's, in a space where peers read it there, until the batch is done.
    pub(crate) fn temporary(
        &mut self,
        active: &mut Active,
        (space, len): (Space, usize),
    ) -> std::result::Result<Memory, dure_exec::Error> {
        if len == 0 {
            return Ok(Memory::EMPTY);
        }
        let (region, memory) = self.executor.alloc_in(space, len)?;
        active.temporary.push(region);
        Ok(memory)
    }
}

/// Whether blocks of the output would overwrite blocks of the input that are still to be sent, if the two overlapped.
fn is_exchange(action: &Action) -> bool {
    matches!(
        action,
        Action::Collective(Collective::AllToAll, _) | Action::Ragged(Collective::AllToAll, _)
    )
}

fn completed(
    queues: &mut [(Space, Box<dyn Queue>)],
    tickets: &[(usize, u64)],
) -> dure_device::Result<bool> {
    for (queue, ticket) in tickets {
        if queues[*queue].1.completed()? < *ticket {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Starts local work; returns queue and ticket of each piece.
fn start(
    queues: &mut [(Space, Box<dyn Queue>)],
    locals: &[Local],
) -> std::result::Result<Vec<(usize, u64)>, dure_exec::Error> {
    let mut start_one = |s: &Local| {
        let space = if s.dst.space == Space::Host { s.src.space } else { s.dst.space };
        let queue =
            queues.iter().position(|(q, _)| *q == space).expect("every space has its queue");
        let work = match s.by {
            Some(by) => Work::Scale { src: s.src, dst: s.dst, dtype: s.dtype, by },
            None => Work::copy(s.src, s.dst),
        };
        // SAFETY: whoever made the request promised that its buffers stay until the operation is done.
        #[allow(unsafe_code, reason = "buffers of a request are raw memory until it is done")]
        let ticket = unsafe { queues[queue].1.submit(&work) }?;
        Ok((queue, ticket))
    };
    locals.iter().map(&mut start_one).collect()
}
