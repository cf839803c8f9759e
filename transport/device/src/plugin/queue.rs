//! A queue of work on a device of a plug-in.
//!
//! Work that the device has a function for goes to its stream. Other work (a reduction of the user's, operands in two memories,
//! a type that the device does not know) is done by the host on copies: operands of the device are copied to the host, and
//! what was computed back. What is submitted behind such work waits here until then, so that work stays in order.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use dure_device_abi as abi;

use super::device::Open;
use super::stream::{Stream, copy_of};
use crate::command::Command;
use crate::host::{Width, Worker};
use crate::{Combine, Dtype, Memory, Queue, Result, Scale, Space, Work};

/// A queue of work on a device of a plug-in.
pub(super) struct PluginQueue {
    stream: Stream,
    host: Worker,
    submitted: u64,
    done: u64,
    /// What the stream was told, in order.
    told: VecDeque<Told>,
    /// Work of the host's, once the stream has copied its operands.
    staged: Option<Staged>,
    /// Work behind that, or for which the stream had no room.
    held: VecDeque<Piece>,
}

/// A piece of work, and how much is done when it is.
type Piece = (u64, Command);

/// Host memory for an operand, aligned for every type.
type Room = Box<[u64]>;

/// Operands of the device, each with where it is copied to.
type Rooms = Vec<(Memory, Room)>;

/// A piece of work that the stream was told.
struct Told {
    number: u64,
    event: u64,
    /// Where it copies from; they live until then.
    _rooms: Rooms,
}

/// Work of the host's, on copies.
struct Staged {
    number: u64,
    /// `None` once it is done.
    command: Option<Command>,
    /// The operands of the device, and where they are copied to.
    rooms: Rooms,
    /// Those of them that are written.
    written: Vec<Memory>,
    /// When the operands are there.
    event: u64,
}

/// What a stream says to work.
enum Answer {
    /// The event when it is done.
    Event(u64),
    /// It has no room.
    Busy,
    /// The device has no function for it.
    Unserved,
}

impl fmt::Debug for PluginQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { submitted, done, .. } = self;
        f.debug_struct("PluginQueue")
            .field("device", &self.stream.device.name())
            .field("submitted", submitted)
            .field("done", done)
            .finish_non_exhaustive()
    }
}

impl PluginQueue {
    pub(super) fn open(device: Arc<Open>) -> Result<Self> {
        Ok(Self {
            stream: Stream::open(device)?,
            host: Worker::new(Width::best()),
            submitted: 0,
            done: 0,
            told: VecDeque::new(),
            staged: None,
            held: VecDeque::new(),
        })
    }

    /// Moves on what is held, as far as it goes.
    fn advance(&mut self) -> Result<()> {
        loop {
            if let Some(staged) = self.staged.take() {
                self.staged = self.go_on(staged)?;
            }
            if self.staged.is_some() {
                return Ok(());
            }
            let Some((number, command)) = self.held.front() else { return Ok(()) };
            let number = *number;
            match self.tell(command)? {
                Answer::Event(event) => {
                    self.told.push_back(Told { number, event, _rooms: Vec::new() });
                    self.held.pop_front();
                }
                Answer::Busy => return Ok(()),
                Answer::Unserved => {
                    let Some((rooms, event)) = self.copy_to_host(command)? else { return Ok(()) };
                    let (_, command) = self.held.pop_front().expect("it was looked at just now");
                    let written = self.written(&command);
                    let command = Some(command);
                    self.staged = Some(Staged { number, command, rooms, written, event });
                }
            }
        }
    }

    /// Tells the stream to do a piece of work.
    fn tell(&self, command: &Command) -> Result<Answer> {
        let (call, status) = match command.work() {
            Work::Copy { src, dst, also, .. } => {
                let pairs: Vec<_> =
                    [Some(dst), also].into_iter().flatten().map(|dst| (src, dst)).collect();
                if pairs.iter().any(|(src, dst)| !self.is_mine(*src) && !self.is_mine(*dst)) {
                    return Ok(Answer::Unserved);
                }
                ("copy", self.copy(&pairs))
            }
            Work::Reduce { srcs, dst, dtype, by, .. } => {
                let Some(op) = self.operation(by, dtype, srcs.len()) else {
                    return Ok(Answer::Unserved);
                };
                if !srcs.iter().chain([&dst]).all(|memory| self.is_mine(*memory)) {
                    return Ok(Answer::Unserved);
                }
                ("reduce", self.reduce(srcs, dst, (dtype, op)))
            }
            Work::Scale { src, dst, dtype, by } => {
                let knows = self.stream.device.description.scales >> (dtype as u32) & 1 == 1;
                if !knows || !self.is_mine(src) || !self.is_mine(dst) {
                    return Ok(Answer::Unserved);
                }
                ("scale", self.scale(src, dst, (dtype, by)))
            }
        };
        if status == abi::BUSY {
            return Ok(Answer::Busy);
        }
        self.stream.device.check(call, status)?;
        self.stream.record().map(Answer::Event)
    }

    /// Has the operands of a piece of work copied to the host. `None` when the stream has no room.
    fn copy_to_host(&self, command: &Command) -> Result<Option<(Rooms, u64)>> {
        let work = command.work();
        let mut rooms: Rooms = Vec::new();
        for memory in work.sources().iter().copied().chain(self.written(command)) {
            if self.is_mine(memory) && rooms.iter().all(|(known, _)| *known != memory) {
                rooms.push((memory, vec![0; memory.len.div_ceil(8)].into()));
            }
        }
        let read = |memory: &Memory| work.sources().contains(memory);
        let pairs: Vec<_> = rooms
            .iter_mut()
            .filter(|(memory, _)| read(memory))
            .map(|(memory, room)| (*memory, face(room, memory.len)))
            .collect();
        let status = if pairs.is_empty() { abi::OK } else { self.copy(&pairs) };
        if status == abi::BUSY {
            return Ok(None);
        }
        self.stream.device.check("copy", status)?;
        Ok(Some((rooms, self.stream.record()?)))
    }

    /// Does what the host does, once the operands are there, and has the results copied to the device. What is left of it.
    fn go_on(&mut self, mut staged: Staged) -> Result<Option<Staged>> {
        if self.stream.completed()? < staged.event {
            return Ok(Some(staged));
        }
        if let Some(command) = staged.command.take() {
            let rooms = staged.rooms.iter_mut();
            let faces: Vec<_> =
                rooms.map(|(memory, room)| (*memory, face(room, memory.len))).collect();
            let find = |memory| {
                let known = faces.iter().find(|(known, _)| *known == memory);
                known.map_or(memory, |(_, face)| *face)
            };
            // SAFETY: the work was checked when it was submitted; the rooms are its own, and whoever submitted it keeps the
            // promises about memory of the host.
            unsafe { self.host.perform(&command.map(find).work()) };
        }
        let written = &staged.written;
        let pairs: Vec<_> = staged
            .rooms
            .iter_mut()
            .filter(|(memory, _)| written.contains(memory))
            .map(|(memory, room)| (face(room, memory.len), *memory))
            .collect();
        let status = if pairs.is_empty() { abi::OK } else { self.copy(&pairs) };
        if status == abi::BUSY {
            return Ok(Some(staged));
        }
        self.stream.device.check("copy", status)?;
        let (number, event) = (staged.number, self.stream.record()?);
        self.told.push_back(Told { number, event, _rooms: staged.rooms });
        Ok(None)
    }

    /// What of the device a piece of work writes.
    fn written(&self, command: &Command) -> Vec<Memory> {
        let work = command.work();
        let written = [Some(work.destination()), work.also()];
        written.into_iter().flatten().filter(|memory| self.is_mine(*memory)).collect()
    }

    fn is_mine(&self, memory: Memory) -> bool {
        memory.space == self.stream.device.space()
    }

    /// The number of an operation, if the device reduces so many sources of the type by it.
    fn operation(&self, by: &Combine, dtype: Dtype, sources: usize) -> Option<u32> {
        let op = match by {
            Combine::Sum => abi::SUM,
            Combine::Prod => abi::PROD,
            Combine::Max => abi::MAX,
            Combine::Min => abi::MIN,
            Combine::BitAnd | Combine::BitOr | Combine::BitXor | Combine::Custom(_) => return None,
        };
        let device = &self.stream.device.description;
        let knows = device.reduces[op as usize] >> (dtype as u32) & 1 == 1;
        (knows && sources <= device.most_sources as usize).then_some(op)
    }

    fn copy(&self, pairs: &[(Memory, Memory)]) -> abi::Status {
        let copies: Vec<_> = pairs.iter().map(|(src, dst)| copy_of(*src, *dst)).collect();
        // SAFETY: whoever submitted the work answers for the memory; rooms stay until an event behind this.
        unsafe { self.stream.copy(&copies) }
    }

    fn reduce(&self, srcs: &[Memory], dst: Memory, (dtype, op): (Dtype, u32)) -> abi::Status {
        let Some(reduce) = self.stream.device.plugin.table.reduce else { return abi::UNSUPPORTED };
        let srcs: Vec<*const c_void> =
            srcs.iter().map(|src| src.ptr.as_ptr().cast_const().cast()).collect();
        let job = abi::Reduce {
            size: abi::size::<abi::Reduce>(),
            sources: u32::try_from(srcs.len()).expect("no more than the device takes"),
            dtype: dtype as u32,
            op,
            srcs: srcs.as_ptr(),
            dst: dst.ptr.as_ptr().cast(),
            count: (dst.len / dtype.size()) as u64,
        };
        // SAFETY: the stream is open, the job is alive; whoever submitted the work answers for the memory.
        unsafe { reduce(self.stream.raw, &raw const job) }
    }

    fn scale(&self, src: Memory, dst: Memory, (dtype, by): (Dtype, Scale)) -> abi::Status {
        let Some(scale) = self.stream.device.plugin.table.scale else { return abi::UNSUPPORTED };
        let (kind, factor, integer) = match by {
            Scale::By(factor) => (abi::scale_kind::BY, factor, 0),
            Scale::ByInteger(integer) => (abi::scale_kind::BY_INTEGER, 0.0, integer),
            Scale::Over(count) => (abi::scale_kind::OVER, 0.0, i64::from(count)),
        };
        let job = abi::Scale {
            size: abi::size::<abi::Scale>(),
            dtype: dtype as u32,
            kind,
            reserved: 0,
            src: src.ptr.as_ptr().cast_const().cast(),
            dst: dst.ptr.as_ptr().cast(),
            count: (dst.len / dtype.size()) as u64,
            factor,
            integer,
        };
        // SAFETY: as for `reduce`.
        unsafe { scale(self.stream.raw, &raw const job) }
    }
}

impl Queue for PluginQueue {
    unsafe fn submit(&mut self, work: &Work<'_>) -> Result<u64> {
        let serves = |memory: Memory| memory.space == Space::Host || self.is_mine(memory);
        work.check(self.stream.device.name(), serves)?;
        self.submitted += 1;
        let [first, second] = Command::pieces(work);
        // Of two pieces the first is not all of it.
        let before = self.submitted - u64::from(second.is_some());
        self.held.extend(first.map(|command| (before, command)));
        self.held.extend(second.map(|command| (self.submitted, command)));
        self.advance()?;
        Ok(self.submitted)
    }

    fn completed(&mut self) -> Result<u64> {
        self.advance()?;
        if self.told.is_empty() {
            return Ok(self.done);
        }
        let event = self.stream.completed()?;
        while let Some(told) = self.told.pop_front_if(|told| told.event <= event) {
            self.done = told.number;
        }
        Ok(self.done)
    }
}

impl Drop for PluginQueue {
    /// What the stream was told is done nevertheless; what is held is not.
    fn drop(&mut self) {
        // Rooms that the stream may still copy from stay.
        std::mem::take(&mut self.told).into_iter().for_each(std::mem::forget);
        std::mem::forget(self.staged.take());
    }
}

/// A room as memory of so many bytes.
fn face(room: &mut Room, len: usize) -> Memory {
    Memory::host(room.as_mut_ptr().cast(), len)
}
