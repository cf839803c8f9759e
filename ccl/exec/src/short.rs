//! Short calls: their latency is the sum of what their steps cost here.
//!
//! Where a call has one pass and one lane, the bytes of each step are worked out when it is prepared. If each step is on
//! one run of host memory, and no message is so long that it would stay where it is, then a step is a copy or a reduction
//! between that and a slot, and a store; where peers are not coherent, a put ([`wired`]). Whatever is not as it should be is left to the general way ([`crate::run`]),
//! which does the same at more length, and takes over at the step where it happened.

mod wired;

use std::sync::Arc;

use dure_device::{Memory, Work};
use dure_plan::{Buf, Chunks, Rank, Sources, Step};

use crate::geometry::Geometry;
use crate::machine::Machine;
use crate::prepared::Prepared;
use crate::recorder::Event;
use crate::slot::{Kind, LINE, PAYLOAD};
use crate::{Error, Waiting};

/// Plans with more steps are not for small calls.
const MOST_STEPS: usize = 1024;
/// A short call is on the first lane.
const LANE: usize = 0;

/// A run of bytes of one buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    buf: Buf,
    at: usize,
    len: usize,
}

/// A step on runs of bytes.
#[derive(Debug)]
pub(crate) enum Short {
    Send { to: u32, src: Piece },
    Recv { from: u32, with: Option<Piece>, dst: Piece },
    Copy { src: Piece, dst: Piece },
    Reduce { srcs: Box<[Piece]>, dst: Piece },
}

impl Short {
    /// The steps of a lane, if all of them are short and no message has more than `longest` bytes.
    pub(crate) fn all(steps: &[Step], geometry: &Geometry, longest: u32) -> Option<Box<[Self]>> {
        if geometry.passes() > 1 || steps.len() > MOST_STEPS {
            return None;
        }
        steps.iter().map(|step| Self::of(step, geometry, longest)).collect()
    }

    /// Memory of the list of its operands, in bytes.
    pub(crate) fn operands(&self) -> usize {
        if let Self::Reduce { srcs, .. } = self { size_of_val(&**srcs) } else { 0 }
    }

    fn of(step: &Step, geometry: &Geometry, longest: u32) -> Option<Self> {
        let piece = |chunks: Chunks| {
            let mut segments = Vec::new();
            geometry.segments(chunks, 0, &mut segments);
            let [segment] = &segments[..] else { return None };
            let bytes = |n: u64| usize::try_from(n).expect("a buffer fits the address space");
            let len = bytes(segment.end - segment.start);
            (len <= longest as usize).then(|| Piece {
                buf: chunks.buf,
                at: bytes(segment.start),
                len,
            })
        };
        Some(match *step {
            Step::Send { to, src } => Self::Send { to: to.0, src: piece(src)? },
            Step::Recv { from, dst } => Self::Recv { from: from.0, with: None, dst: piece(dst)? },
            Step::RecvReduce { from, with, dst } => {
                Self::Recv { from: from.0, with: Some(piece(with)?), dst: piece(dst)? }
            }
            Step::Copy { src, dst } => Self::Copy { src: piece(src)?, dst: piece(dst)? },
            Step::Reduce { srcs: Sources { first, groups, at, own }, dst } => {
                let source = |group: u32| {
                    let first = first + group * own.len;
                    piece(if group == at {
                        own
                    } else {
                        Chunks { buf: Buf::Scratch, first, ..own }
                    })
                };
                Self::Reduce {
                    srcs: (0..groups).map(source).collect::<Option<_>>()?,
                    dst: piece(dst)?,
                }
            }
        })
    }

    /// The peer, if there is one, and the bytes, for the flight recorder.
    #[inline]
    fn noted(&self) -> (u32, u64) {
        match self {
            Self::Send { to: peer, src: piece } | Self::Recv { from: peer, dst: piece, .. } => {
                (*peer, piece.len as u64)
            }
            Self::Copy { dst, .. } | Self::Reduce { dst, .. } => (u32::MAX, dst.len as u64),
        }
    }
}

/// What became of a step, or of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// A message has not arrived; where it will, shows by itself.
    Wait,
    /// A message has not arrived, and shows only when the transport is polled.
    Ask,
    /// The general way must see to it.
    General,
}

/// A short call under way.
#[derive(Debug)]
pub(crate) struct ShortRun {
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) input: Memory,
    pub(crate) output: Memory,
    pub(crate) digest: u32,
    /// The current step.
    pub(crate) at: usize,
}

impl ShortRun {
    /// Goes as far as it can: whether it moved, and what it came to.
    ///
    /// # Errors
    /// As the general way.
    #[inline]
    pub(crate) fn poll(&mut self, machine: &mut Machine) -> Result<(bool, Outcome), Error> {
        let first = self.at;
        let Some(steps) = &self.prepared.short else { return Ok((false, Outcome::General)) };
        while let Some(step) = steps.get(self.at) {
            let outcome = self.step(machine, step)?;
            if outcome != Outcome::Done {
                return Ok((self.at > first, outcome));
            }
            let (peer, bytes) = step.noted();
            let at = u32::try_from(self.at).expect("a short plan has few steps");
            let event = Event { nanos: 0, call: self.digest, pass: 0, step: at, peer, bytes };
            machine.recorders[LANE].record(event);
            self.at += 1;
        }
        Ok((true, Outcome::Done))
    }

    /// What it waits for.
    pub(crate) fn waiting(&self) -> Waiting {
        let step = self.prepared.plan.lanes[LANE].steps.get(self.at).copied();
        let at = u32::try_from(self.at).expect("a short plan has few steps");
        let peer = step.and_then(|step| step.peer()).map(|Rank(peer)| peer);
        Waiting { digest: self.digest, lane: 0, pass: 0, at, step, peer }
    }

    #[inline]
    fn step(&self, machine: &mut Machine, step: &Short) -> Result<Outcome, Error> {
        match step {
            Short::Send { to, src } => self.send(machine, *to, *src),
            Short::Recv { from, with, dst } => self.recv(machine, *from, with.as_ref(), *dst),
            Short::Copy { src, dst } => {
                let (src, dst) = (self.piece(machine, *src), self.piece(machine, *dst));
                if src != dst {
                    self.submit(machine, &Work::copy(src, dst))?;
                }
                Ok(Outcome::Done)
            }
            Short::Reduce { srcs, dst } => {
                let mut operands = std::mem::take(&mut machine.operands);
                operands.clear();
                operands.extend(srcs.iter().map(|src| self.piece(machine, *src)));
                self.reduce(machine, &operands, *dst)?;
                machine.operands = operands;
                Ok(Outcome::Done)
            }
        }
    }

    #[inline]
    fn send(&self, machine: &mut Machine, to: u32, src: Piece) -> Result<Outcome, Error> {
        let link = machine.links[to as usize].as_deref();
        if link.is_some_and(|link| !link.is_coherent()) {
            return self.send_wired(machine, to, src);
        }
        let Some(slot) = link.and_then(|link| link.free_slot(LANE)) else {
            return Ok(Outcome::General);
        };
        let (at, kind) = if src.len <= LINE { (0, Kind::Line) } else { (PAYLOAD, Kind::Slot) };
        let copy = Work::copy(self.piece(machine, src), slot.part(at, src.len));
        self.submit(machine, &copy)?;
        machine.publish(to, LANE, (slot, src.len as u64, self.digest, kind));
        Ok(Outcome::Done)
    }

    #[inline]
    fn recv(
        &self,
        machine: &mut Machine,
        from: u32,
        with: Option<&Piece>,
        dst: Piece,
    ) -> Result<Outcome, Error> {
        let holds = machine.holds_any();
        let Some(link) = machine.links[from as usize].as_deref_mut() else {
            return Ok(Outcome::General);
        };
        if !link.is_coherent() {
            return self.recv_wired(machine, from, with, dst);
        }
        let Some(slot) = link.arrived_slot(LANE) else {
            return Ok(if link.is_up() { Outcome::Wait } else { Outcome::General });
        };
        let header = Machine::header(slot).filter(|header| {
            header.digest == self.digest && header.bytes as usize == dst.len && !holds
        });
        let (message, freed) = match header {
            Some(header) if header.kind == Kind::Line && dst.len <= LINE => {
                (slot.part(0, dst.len), header.freed)
            }
            Some(header) if header.kind == Kind::Slot => {
                (slot.part(PAYLOAD, dst.len), header.freed)
            }
            _ => return Ok(Outcome::General),
        };
        link.hear_of_freed(LANE, freed);
        self.consume(machine, message, with, dst)?;
        machine.take(from, LANE, true, false);
        Ok(Outcome::Done)
    }

    /// Copies a message to where it belongs, or combines it with what it belongs to.
    #[inline]
    fn consume(
        &self,
        machine: &mut Machine,
        message: Memory,
        with: Option<&Piece>,
        dst: Piece,
    ) -> Result<(), Error> {
        match with {
            None => {
                let dst = self.piece(machine, dst);
                self.submit(machine, &Work::copy(message, dst))
            }
            Some(with) => {
                let with = self.piece(machine, *with);
                self.reduce(machine, &[with, message], dst)
            }
        }
    }

    #[inline]
    fn reduce(&self, machine: &mut Machine, srcs: &[Memory], dst: Piece) -> Result<(), Error> {
        let dst = self.piece(machine, dst);
        let (dtype, by) = (self.prepared.dtype, &self.prepared.combine);
        self.submit(machine, &Work::reduce(srcs, dst, dtype, by))
    }

    #[inline]
    fn piece(&self, machine: &Machine, piece: Piece) -> Memory {
        let whole = match piece.buf {
            Buf::Input => self.input,
            Buf::Output => self.output,
            Buf::Scratch => {
                machine.scratch(machine.host, LANE).map_or(Memory::EMPTY, |scratch| scratch.memory)
            }
        };
        whole.part(piece.at, piece.len)
    }

    /// Has the host do some work: it is done when this returns.
    #[inline]
    #[allow(unsafe_code, reason = "the one place where a short call gives work to a device")]
    fn submit(&self, machine: &mut Machine, work: &Work<'_>) -> Result<(), Error> {
        // SAFETY: as for a run: the buffers are the call's until it is done, slots and scratch are this lane's alone.
        unsafe { machine.submit(machine.host, work) }.map(|_| ())
    }
}
