//! The engine of one rank: batches of calls, one after the other, over the executor.
//!
//! A batch is one call, or a group of calls that go on side by side. Around the executor's work on it there may be
//! local work on a device: scaling the input before, and the output after.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use dure_device::{Combine, Dtype, Memory, Queue, Scale, Space, Work};
use dure_exec::{Call, Executor, Layouts, Plan, Prepared, Track};
use dure_plan::{Collective, Rank, Step, input, output};
use dure_transport::Region;

use crate::call::{Action, RaggedCounts, Request, Signature};
use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::padded::Padded;
use crate::record::Record;
use crate::tuner::{Chosen, Tuner};
use crate::wait::{Stall, executor_error};

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
    /// Sequence number of its last collective; 0 when it has none.
    sequence: u64,
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
    ranks: u32,
    pub(crate) executor: Executor,
    pub(crate) tuner: Tuner,
    queues: Vec<(Space, Box<dyn Queue>)>,
    waiting: VecDeque<Batch>,
    active: Option<Active>,
    /// Collectives begun so far, and the digest of all of them.
    sequence: u64,
    chain: u64,
    /// Messages begun so far, to and from each peer.
    messages: HashMap<(bool, u32), u64>,
    /// What was chosen for the last collective.
    pub(crate) chosen: Option<Chosen>,
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
            messages: HashMap::new(),
            chosen: None,
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

    /// Number of the last collective that began, and the digest of all collectives so far.
    pub(crate) fn history(&self) -> (u64, u64) {
        (self.sequence, self.chain)
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
                    let after = std::mem::take(&mut active.after);
                    active.stage = Stage::After(start(&mut self.queues, &after)?);
                }
                Stage::After(tickets) => {
                    if !completed(&mut self.queues, tickets)? {
                        return Ok(if moved { Turn::Moved } else { Turn::Stuck });
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
        let mut active = Active {
            batch,
            calls: Vec::new(),
            after: Vec::new(),
            padded: VecDeque::new(),
            stage: Stage::Running,
            temporary: Vec::new(),
            sequence: 0,
        };
        let requests = std::mem::take(&mut active.batch.requests);
        let mut before = Vec::new();
        let mut to_self = (VecDeque::new(), VecDeque::new());
        for request in requests {
            match request.action {
                Action::Send(peer) if peer == self.me.0 => to_self.0.push_back(request),
                Action::Recv(peer) if peer == self.me.0 => to_self.1.push_back(request),
                Action::Send(peer) => self.begin_message(&mut active, request, peer, true)?,
                Action::Recv(peer) => self.begin_message(&mut active, request, peer, false)?,
                Action::Collective(what, _) | Action::Ragged(what, _) => {
                    let signature =
                        self.begin_collective(&mut active, &mut before, request, what)?;
                    record.begin(self.sequence, signature.0);
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

    fn begin_collective(
        &mut self,
        active: &mut Active,
        before: &mut Vec<Local>,
        mut request: Request,
        what: Collective,
    ) -> Result<Signature> {
        let layouts = request.layouts(self.ranks, self.me);
        let ragged = matches!(request.action, Action::Ragged(..));
        let (plan, chosen) = self.tuner.plan(what, request.bytes(&layouts), ragged)?;
        let pads = ragged && !chosen.ragged;
        self.sequence += 1;
        active.sequence = self.sequence;
        let signature = request.signature();
        self.chain = signature.chained(self.chain, self.sequence);
        self.chosen = Some(chosen);
        let elem = request.dtype.size();
        let bytes = |extent: u64| usize::try_from(extent).expect("the buffer was checked") * elem;
        let (input_bytes, output_bytes) =
            (bytes(layouts.input.extent()), bytes(layouts.output.extent()));
        request.input =
            if input_bytes == 0 { Memory::EMPTY } else { request.input.part(0, input_bytes) };
        request.output =
            if output_bytes == 0 { Memory::EMPTY } else { request.output.part(0, output_bytes) };
        if what.reduces() {
            self.scale_around(active, before, &mut request, what)?;
        } else if what == Collective::AllToAll && request.input.overlaps(request.output) {
            // Blocks of the output would overwrite blocks of the input that are still to be sent.
            let copy = self
                .temporary(active, request.input.len)
                .map_err(|e| executor_error(&e, self.me.0))?;
            before.push(Local { src: request.input, dst: copy, dtype: request.dtype, by: None });
            request.input = copy;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a digest of 32 of the 64 bits")]
        let digest = self.chain as u32;
        if let (true, Action::Ragged(_, RaggedCounts::Both(input, output))) =
            (pads, &request.action)
        {
            let blocks = [Arc::clone(input), Arc::clone(output)];
            self.begin_padded(active, request, blocks, (plan, digest))?;
            return Ok(signature);
        }
        let combine = request.op.combine();
        let prepared = self
            .prepare(plan, &layouts, (request.dtype, combine))
            .map_err(|e| executor_error(&e, self.me.0))?;
        let call = Call { prepared, input: request.input, output: request.output, digest };
        active.calls.push((call, Track::Collective));
        Ok(signature)
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
                self.temporary(active, request.input.len)
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

    /// Memory of the transport's, until the batch is done.
    pub(crate) fn temporary(
        &mut self,
        active: &mut Active,
        len: usize,
    ) -> std::result::Result<Memory, dure_exec::Error> {
        if len == 0 {
            return Ok(Memory::EMPTY);
        }
        let (region, memory) = self.executor.alloc(len)?;
        active.temporary.push(region);
        Ok(memory)
    }

    fn begin_message(
        &mut self,
        active: &mut Active,
        request: Request,
        peer: u32,
        is_send: bool,
    ) -> Result<()> {
        let count = self.messages.entry((is_send, peer)).or_insert(0);
        *count += 1;
        #[expect(clippy::cast_possible_truncation, reason = "a digest of 32 of the 64 bits")]
        let digest = request.signature().chained(0, *count) as u32;
        let layouts = request.layouts(self.ranks, self.me);
        let (step, track) = if is_send {
            (Step::Send { to: Rank(peer), src: input(0, 1) }, Track::To(Rank(peer)))
        } else {
            (Step::Recv { from: Rank(peer), dst: output(0, 1) }, Track::From(Rank(peer)))
        };
        let plan = Arc::new(Plan::message(step));
        let prepared = self
            .prepare(plan, &layouts, (request.dtype, request.op.combine()))
            .map_err(|e| executor_error(&e, self.me.0))?;
        let call = Call {
            prepared,
            input: if is_send { request.input } else { Memory::EMPTY },
            output: if is_send { Memory::EMPTY } else { request.output },
            digest,
        };
        active.calls.push((call, track));
        Ok(())
    }

    /// Messages of a rank to itself: the k-th send meets the k-th receive of the same group.
    fn begin_self(
        &self,
        active: &mut Active,
        (mut sends, mut recvs): (VecDeque<Request>, VecDeque<Request>),
    ) -> Result<()> {
        while let (Some(send), Some(recv)) = (sends.pop_front(), recvs.pop_front()) {
            if send.input.len != recv.output.len || send.dtype != recv.dtype {
                let text = format!(
                    "a message of {} bytes of {} to itself meets a receive of {} bytes of {}",
                    send.input.len, send.dtype, recv.output.len, recv.dtype
                );
                return Err(Error::invalid_usage(text).on(self.me.0));
            }
            let mut layouts = send.layouts(self.ranks, self.me);
            layouts.output = layouts.input.clone();
            let prepared = self
                .prepare(Arc::new(Plan::copy()), &layouts, (send.dtype, send.op.combine()))
                .map_err(|e| executor_error(&e, self.me.0))?;
            let call = Call { prepared, input: send.input, output: recv.output, digest: 0 };
            active.calls.push((call, Track::Collective));
        }
        if sends.is_empty() && recvs.is_empty() {
            return Ok(());
        }
        let text = "a send to itself needs a receive from itself in the same group, and the other way round";
        Err(Error::invalid_usage(text).on(self.me.0))
    }
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
