//! Short messages between coherent peers: the latency of a small call is the sum of what its steps cost here.
//!
//! Where a call has one pass, the bytes of each step are worked out when it is prepared. A step on one run of host memory
//! is then a copy or a reduction between that and a slot, and a store. Everything else, and whatever is not as it should
//! be, is left to the general way ([`crate::work`]), which does the same at more length.

use dure_device::{Memory, Work};
use dure_plan::{Buf, Chunks, Step};

use crate::Error;
use crate::geometry::Geometry;
use crate::machine::Machine;
use crate::run::Run;
use crate::slot::{Kind, LINE, PAYLOAD};

/// Plans with more steps are not for small calls.
const MOST_STEPS: usize = 1024;

/// A run of bytes of one buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    buf: Buf,
    at: usize,
    len: usize,
}

/// A send or a receive of one run of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Short {
    Send { to: u32, src: Piece },
    Recv { from: u32, with: Option<Piece>, dst: Piece },
}

impl Short {
    /// Those of a lane's steps that are short: at most `longest` bytes.
    pub(crate) fn of(steps: &[Step], geometry: &Geometry, longest: u32) -> Box<[Option<Self>]> {
        if geometry.passes() > 1 || steps.len() > MOST_STEPS {
            return Box::default();
        }
        let piece = |chunks: Chunks| {
            let mut segments = Vec::new();
            geometry.segments(chunks, 0, &mut segments);
            let [segment] = &segments[..] else { return None };
            let len = segment.end - segment.start;
            let bytes = |n: u64| usize::try_from(n).expect("a buffer fits the address space");
            (len <= u64::from(longest)).then(|| Piece {
                buf: chunks.buf,
                at: bytes(segment.start),
                len: bytes(len),
            })
        };
        let short = |step: &Step| match *step {
            Step::Send { to, src } => Some(Self::Send { to: to.0, src: piece(src)? }),
            Step::Recv { from, dst } => {
                Some(Self::Recv { from: from.0, with: None, dst: piece(dst)? })
            }
            Step::RecvReduce { from, with, dst } => {
                Some(Self::Recv { from: from.0, with: Some(piece(with)?), dst: piece(dst)? })
            }
            Step::Copy { .. } | Step::Reduce { .. } => None,
        };
        steps.iter().map(short).collect()
    }

    /// Bytes of the message.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Send { src: piece, .. } | Self::Recv { dst: piece, .. } => piece.len as u64,
        }
    }
}

impl Run {
    /// Does the current step, if it is short: whether it is done. `None` when the general way must see to it.
    ///
    /// # Errors
    /// As the general way.
    pub(crate) fn short(&self, machine: &mut Machine, short: Short) -> Result<Option<bool>, Error> {
        if self.call.queue != machine.host {
            return Ok(None);
        }
        match short {
            Short::Send { to, src } => self.send_short(machine, to, src),
            Short::Recv { from, with, dst } => self.recv_short(machine, from, with, dst),
        }
    }

    fn send_short(
        &self,
        machine: &mut Machine,
        to: u32,
        src: Piece,
    ) -> Result<Option<bool>, Error> {
        let src = self.piece(machine, src);
        let Some(slot) = machine.link(to).free_slot(self.lane) else { return Ok(None) };
        let (at, kind) = if src.len <= LINE { (0, Kind::Line) } else { (PAYLOAD, Kind::Slot) };
        self.submit(machine, &Work::copy(src, slot.part(at, src.len)))?;
        let published = self.publish(machine, to, (slot, src.len as u64), kind);
        // Should the bell not have rung, the general way does all of it again.
        Ok(published.map(|_| true))
    }

    fn recv_short(
        &self,
        machine: &mut Machine,
        from: u32,
        with: Option<Piece>,
        dst: Piece,
    ) -> Result<Option<bool>, Error> {
        let link = machine.link(from);
        let Some(slot) = link.arrived_slot(self.lane) else {
            return Ok((link.is_coherent() && link.is_up()).then_some(false));
        };
        let (header, stamp) = (Machine::header(slot), link.next_stamp(self.lane));
        let Some(header) = header.filter(|header| {
            header.digest == self.call.digest
                && header.stamp == stamp
                && header.bytes as usize == dst.len
        }) else {
            return Ok(None);
        };
        let message = match header.kind {
            Kind::Line if dst.len <= LINE => slot.part(0, dst.len),
            Kind::Slot => slot.part(PAYLOAD, dst.len),
            Kind::Line | Kind::Region | Kind::Address => return Ok(None),
        };
        if machine.holds_any() {
            return Ok(None);
        }
        machine.link(from).hear_of_freed(self.lane, header.freed);
        let dst = self.piece(machine, dst);
        match with {
            None => self.submit(machine, &Work::copy(message, dst))?,
            Some(with) => {
                let srcs = [self.piece(machine, with), message];
                let (dtype, by) = (self.call.prepared.dtype, &self.call.prepared.combine);
                self.submit(machine, &Work::reduce(&srcs, dst, dtype, by))?
            }
        };
        machine.take(from, self.lane, true, false);
        Ok(Some(true))
    }

    fn piece(&self, machine: &Machine, piece: Piece) -> Memory {
        self.buffer(machine, piece.buf).memory.part(piece.at, piece.len)
    }
}
