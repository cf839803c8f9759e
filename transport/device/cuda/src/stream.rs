//! A stream: copies, reductions and scaling in order, and events behind them.

#![allow(
    clippy::disallowed_types,
    reason = "taken for the time of a call, by the one who makes it"
)]

use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dure_device_abi as abi;
use dure_device_abi::maker::{self, Failure, Result};

use crate::device::Inner;
use crate::driver::{
    self, Address, Copy2d, CuEvent, CuStream, Driver, EVENT_DISABLE_TIMING, MEMORY_UNIFIED,
    STREAM_NON_BLOCKING, code,
};
use crate::kernels::{self, Kernels, ReduceJob, SOURCES, ScaleJob};

/// Bytes of the pinned buffer of a stream. Longer copies from and to the host are made in pieces of it.
const BOUNCE: usize = 1 << 20;

/// How many functions of the driver's a stream is told before some are done: beyond a thousand or so the driver would wait.
const ROOM: u32 = 512;

/// The longest distance of rows that the driver copies in one function.
const PITCH: u64 = (1 << 31) - 1;

/// A stream, open.
#[derive(Debug)]
pub(crate) struct Stream {
    device: Arc<Inner>,
    /// There until it is dropped.
    lane: Option<Lane>,
    /// Of a stream that was joined.
    gate: Option<Gate>,
}

/// A number in pinned memory that streams wait for. It only goes up, so that it may serve another stream while one waits yet for a
/// number that it has reached.
#[derive(Debug)]
pub(crate) struct Gate {
    word: *const AtomicU64,
    /// The last number that somebody waits for.
    last: AtomicU64,
}

// SAFETY: the word is an atomic one, which stays.
unsafe impl Send for Gate {}
// SAFETY: as for `Send`.
unsafe impl Sync for Gate {}

impl Gate {
    /// Makes one, in the current context. Its memory stays: a stream of the program's may wait for it whatever becomes of us.
    pub(crate) fn open(device: &Inner) -> Result<Self> {
        let mut word: *mut c_void = ptr::null_mut();
        // SAFETY: the argument is alive.
        let given = unsafe { (device.driver.host_alloc)(&raw mut word, size_of::<u64>(), 0) };
        device.check("cuMemHostAlloc", given)?;
        let word = word.cast::<AtomicU64>();
        // SAFETY: it was allocated just now, is as long, and aligned to a page.
        unsafe { word.write(AtomicU64::new(0)) };
        Ok(Self { word, last: AtomicU64::new(0) })
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: it stays.
        unsafe { &*self.word }
    }
}

/// The driver's side of a stream. It is used again by the next stream that is opened: what it was told before is done first, which
/// nobody can tell from a device that is busy.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) raw: CuStream,
    bounce: *mut u8,
    state: Mutex<State>,
}

// SAFETY: handles of the driver's, which any thread may use, and a buffer that only the stream's work touches.
unsafe impl Send for Lane {}

#[derive(Debug, Default)]
struct State {
    /// The last event, and the last that is complete.
    last: u64,
    done: u64,
    /// Events that are not complete, in order.
    marks: VecDeque<Mark>,
    spare: Vec<CuEvent>,
    /// Functions told behind the last event, and before it that are not known to be done.
    since: u32,
    pending: u32,
}

#[derive(Debug)]
struct Mark {
    event: u64,
    raw: CuEvent,
    functions: u32,
}

impl Lane {
    /// Opens a stream in the current context.
    pub(crate) fn open(driver: &Driver) -> Result<Self> {
        let mut raw = ptr::null_mut();
        let (mut lowest, mut highest) = (0, 0);
        // SAFETY: the arguments are alive.
        let asked = unsafe { (driver.priorities)(&raw mut lowest, &raw mut highest) };
        driver.check("cuCtxGetStreamPriorityRange", asked)?;
        // Messages of other ranks wait for this work; and a stream of the highest priority is not behind a program's own that waits.
        // SAFETY: the argument is alive.
        let made = unsafe { (driver.stream_create)(&raw mut raw, STREAM_NON_BLOCKING, highest) };
        driver.check("cuStreamCreateWithPriority", made)?;
        let mut bounce: *mut c_void = ptr::null_mut();
        // SAFETY: the argument is alive.
        let given = unsafe { (driver.host_alloc)(&raw mut bounce, BOUNCE, 0) };
        let state = Mutex::default();
        let mut lane = Self { raw, bounce: bounce.cast(), state };
        driver.check("cuMemHostAlloc", given).inspect_err(|_| _ = lane.end(driver))?;
        Ok(lane)
    }

    /// Ends it, in the current context, unless it is at work; whether it did.
    pub(crate) fn end(&mut self, driver: &Driver) -> bool {
        // SAFETY: the stream is open.
        if unsafe { (driver.stream_query)(self.raw) } != code::SUCCESS {
            return false;
        }
        self.forget_events(driver);
        if !self.bounce.is_null() {
            // SAFETY: it was allocated, and the stream is idle.
            let _ = unsafe { (driver.host_free)(self.bounce.cast()) };
        }
        // SAFETY: the stream is open, and used no more.
        let _ = unsafe { (driver.stream_destroy)(self.raw) };
        true
    }

    /// Destroys the events; those that are not complete yet are so afterwards to nobody's knowledge.
    pub(crate) fn forget_events(&mut self, driver: &Driver) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for event in state.spare.drain(..).chain(state.marks.drain(..).map(|mark| mark.raw)) {
            // SAFETY: it was created, and is named no more.
            let _ = unsafe { (driver.event_destroy)(event) };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event behind all that the stream was told.
    fn mark(&self, device: &Inner, state: &mut State) -> Result<u64> {
        if state.since == 0 {
            return Ok(state.last);
        }
        let raw = match state.spare.pop() {
            Some(event) => event,
            None => {
                let mut event = ptr::null_mut();
                // SAFETY: the argument is alive.
                let made =
                    unsafe { (device.driver.event_create)(&raw mut event, EVENT_DISABLE_TIMING) };
                device.check("cuEventCreate", made)?;
                event
            }
        };
        // SAFETY: both are open.
        let recorded = unsafe { (device.driver.event_record)(raw, self.raw) };
        if recorded != code::SUCCESS {
            state.spare.push(raw);
        }
        device.check("cuEventRecord", recorded)?;
        state.last += 1;
        state.marks.push_back(Mark { event: state.last, raw, functions: state.since });
        state.pending += std::mem::take(&mut state.since);
        Ok(state.last)
    }

    /// Looks which events are complete.
    fn look(device: &Inner, state: &mut State) -> Result<u64> {
        while let Some(mark) = state.marks.front() {
            // SAFETY: the event is open.
            let complete = unsafe { (device.driver.event_query)(mark.raw) };
            if complete == code::NOT_READY {
                break;
            }
            device.check("cuEventQuery", complete)?;
            let Some(mark) = state.marks.pop_front() else { break };
            state.done = mark.event;
            state.pending -= mark.functions;
            state.spare.push(mark.raw);
        }
        Ok(state.done)
    }

    /// Takes room for so many functions.
    ///
    /// # Errors
    /// `BUSY` when there is none. A stream that is idle takes any number.
    fn take_room(&self, device: &Inner, state: &mut State, functions: u32) -> Result<()> {
        let fits = |state: &State| {
            let under_way = state.pending + state.since;
            under_way == 0 || under_way.saturating_add(functions) <= ROOM
        };
        if !fits(state) {
            self.mark(device, state)?;
            Self::look(device, state)?;
            if !fits(state) {
                return Err(Failure(abi::BUSY, "the stream has no room".to_owned()));
            }
        }
        state.since = state.since.saturating_add(functions);
        Ok(())
    }
}

/// A copy that the driver, or a host function, makes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    src: usize,
    dst: usize,
    rows: u64,
    bytes: u64,
    src_pitch: u64,
    dst_pitch: u64,
}

impl Piece {
    /// Bytes from the first to the last, where rows are so far apart.
    fn extent(copy: &abi::Copy, pitch: u64) -> Result<u64> {
        let rows = u64::from(copy.rows.saturating_sub(1));
        let extent = rows.checked_mul(pitch).and_then(|all| all.checked_add(copy.bytes));
        extent.ok_or_else(|| Failure::invalid("a copy of more bytes than there can be"))
    }

    /// The pieces of a copy: whole rows as long as `most` bytes hold some, and parts of rows otherwise.
    #[expect(clippy::cast_possible_truncation, reason = "offsets inside memory of this process")]
    fn of(copy: &abi::Copy, most: u64) -> Vec<Self> {
        let (src, dst) = (copy.src.expose_provenance(), copy.dst.expose_provenance());
        let abi::Copy { bytes, src_pitch, dst_pitch, .. } = *copy;
        let rows = u64::from(copy.rows);
        if bytes == 0 {
            return Vec::new();
        }
        let whole_rows = most / bytes;
        let mut pieces = Vec::new();
        let mut row = 0;
        while row < rows {
            let (from, to) = (row_at(src, row, src_pitch), row_at(dst, row, dst_pitch));
            if whole_rows > 0 {
                let rows = whole_rows.min(rows - row);
                pieces.push(Self { src: from, dst: to, rows, bytes, src_pitch, dst_pitch });
                row += rows;
                continue;
            }
            let mut at = 0;
            while at < bytes {
                let bytes = most.min(bytes - at);
                let (src, dst) = (from + at as usize, to + at as usize);
                pieces.push(Self { src, dst, rows: 1, bytes, src_pitch: 0, dst_pitch: 0 });
                at += bytes;
            }
            row += 1;
        }
        pieces
    }
}

/// Where a row begins.
#[expect(clippy::cast_possible_truncation, reason = "offsets inside memory of this process")]
const fn row_at(start: usize, row: u64, pitch: u64) -> usize {
    start.wrapping_add((row * pitch) as usize)
}

/// Copies within the host's memory, as a host function of a stream. The piece is its own.
unsafe extern "C" fn copy_on_host(piece: *mut c_void) {
    // SAFETY: it was boxed for this call.
    let piece = unsafe { Box::from_raw(piece.cast::<Piece>()) };
    let Ok(bytes) = usize::try_from(piece.bytes) else { return };
    for row in 0..piece.rows {
        let (src, dst) =
            (row_at(piece.src, row, piece.src_pitch), row_at(piece.dst, row, piece.dst_pitch));
        let (src, dst): (*const u8, *mut u8) =
            (ptr::with_exposed_provenance(src), ptr::with_exposed_provenance_mut(dst));
        // SAFETY: whoever told the stream to copy answers for the memory; the other side is the stream's own buffer.
        unsafe { dst.copy_from_nonoverlapping(src, bytes) };
    }
}

impl Stream {
    pub(crate) const fn new(device: Arc<Inner>, lane: Lane) -> Self {
        Self { device, lane: Some(lane), gate: None }
    }

    /// A stream of the program's own: events and holds, and no work.
    pub(crate) fn joined(device: Arc<Inner>, native: CuStream, gate: Gate) -> Self {
        let lane = Lane { raw: native, bounce: ptr::null_mut(), state: Mutex::default() };
        Self { device, lane: Some(lane), gate: Some(gate) }
    }

    /// An error for a stream that was joined.
    fn expect_worker(&self) -> Result<()> {
        match self.gate {
            None => Ok(()),
            Some(_) => Err(Failure::invalid("a stream that was joined is given no work")),
        }
    }

    fn lane(&self) -> &Lane {
        self.lane.as_ref().expect("it is there until the stream is dropped")
    }

    /// Adds to a counter of the device.
    fn count(&self, counter: impl Fn(&crate::device::Moved) -> &AtomicU64, bytes: u64) {
        counter(&self.device.moved).fetch_add(bytes, Ordering::Relaxed);
    }

    fn on_host(&self, piece: Piece) -> Result<()> {
        let piece = Box::into_raw(Box::new(piece));
        let (driver, raw) = (self.device.driver, self.lane().raw);
        // SAFETY: the stream is open; the piece is the function's when it runs.
        let told = unsafe { (driver.launch_host)(raw, copy_on_host, piece.cast()) };
        if told != code::SUCCESS {
            // SAFETY: the function was not taken.
            drop(unsafe { Box::from_raw(piece) });
        }
        self.device.check("cuLaunchHostFunc", told)
    }

    /// Copies a row by the driver.
    fn row(&self, src: usize, dst: usize, bytes: u64) -> Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| Failure::invalid("too many bytes"))?;
        let (driver, raw) = (self.device.driver, self.lane().raw);
        // SAFETY: the stream is open; whoever tells it answers for the memory.
        let told = unsafe { (driver.copy)(dst as Address, src as Address, bytes, raw) };
        self.device.check("cuMemcpyAsync", told)
    }

    /// Copies rows by the driver, within memory of devices and pinned memory.
    fn by_driver(&self, piece: &Piece) -> Result<()> {
        if piece.rows == 1 {
            return self.row(piece.src, piece.dst, piece.bytes);
        }
        let length =
            |bytes: u64| usize::try_from(bytes).map_err(|_| Failure::invalid("too many bytes"));
        let copy = Copy2d {
            src_x: 0,
            src_y: 0,
            src_type: MEMORY_UNIFIED,
            src_host: ptr::null(),
            src_device: piece.src as Address,
            src_array: ptr::null_mut(),
            src_pitch: length(piece.src_pitch)?,
            dst_x: 0,
            dst_y: 0,
            dst_type: MEMORY_UNIFIED,
            dst_host: ptr::null_mut(),
            dst_device: piece.dst as Address,
            dst_array: ptr::null_mut(),
            dst_pitch: length(piece.dst_pitch)?,
            width: length(piece.bytes)?,
            height: length(piece.rows)?,
        };
        // SAFETY: as for a row; the argument is alive.
        let told = unsafe { (self.device.driver.copy_2d)(&raw const copy, self.lane().raw) };
        self.device.check("cuMemcpy2DAsync", told)
    }

    /// Copies through the stream's pinned buffer, which the work before this is done with when this begins.
    fn through_bounce(&self, piece: &Piece, from_host: bool) -> Result<()> {
        let bounce = self.lane().bounce.expose_provenance();
        let packed = piece.bytes;
        let out = Piece { dst: bounce, dst_pitch: packed, ..*piece };
        let back = Piece { src: bounce, src_pitch: packed, ..*piece };
        if from_host {
            self.on_host(out)?;
            self.by_driver(&back)
        } else {
            self.by_driver(&out)?;
            self.on_host(back)
        }
    }

    /// The pieces of a copy, once its memory is known to be this device's.
    fn plan(&self, copy: &abi::Copy) -> Result<Vec<Piece>> {
        let sides = [
            (copy.src.addr(), copy.src_is_host, copy.src_pitch),
            (copy.dst.addr(), copy.dst_is_host, copy.dst_pitch),
        ];
        for (address, is_host, pitch) in sides {
            let extent = Piece::extent(copy, pitch)?;
            if is_host == 0 && extent > 0 {
                self.device.expect_mine(address, extent)?;
            }
        }
        let crosses = copy.src_is_host != 0 || copy.dst_is_host != 0;
        let (least, most) =
            (copy.src_pitch.min(copy.dst_pitch), copy.src_pitch.max(copy.dst_pitch));
        let rows_apart = copy.rows <= 1 || (least >= copy.bytes && most <= PITCH);
        Ok(match (crosses, rows_apart) {
            (true, true) => Piece::of(copy, BOUNCE as u64),
            (false, true) => Piece::of(copy, u64::MAX),
            // Each row by itself.
            (crosses, false) => {
                let most = if crosses { BOUNCE as u64 } else { copy.bytes };
                Piece::of(copy, most.min(copy.bytes))
            }
        })
    }

    fn counted(&self, copy: &abi::Copy) {
        let bytes = u64::from(copy.rows) * copy.bytes;
        let peer = |address: usize| self.device.is_imported(address, 1);
        if copy.src_is_host != 0 {
            self.count(|moved| &moved.from_host, bytes);
        } else if copy.dst_is_host != 0 {
            self.count(|moved| &moved.to_host, bytes);
        } else if peer(copy.src.addr()) || peer(copy.dst.addr()) {
            self.count(|moved| &moved.peer, bytes);
        } else {
            self.count(|moved| &moved.inside, bytes);
        }
    }

    fn kernels(&self) -> Result<&Kernels> {
        let none = || Failure(abi::UNSUPPORTED, "this GPU is older than the kernels".to_owned());
        self.device.kernels.as_ref().ok_or_else(none)
    }
}

impl maker::Stream for Stream {
    fn copy(&self, copies: &[abi::Copy]) -> Result<()> {
        self.expect_worker()?;
        let _current = self.device.enter()?;
        let planned = copies.iter().map(|copy| Ok((copy, self.plan(copy)?)));
        let planned: Vec<_> = planned.collect::<Result<_>>()?;
        let functions: usize = planned.iter().map(|(_, pieces)| 2 * pieces.len()).sum();
        let functions = u32::try_from(functions).unwrap_or(u32::MAX / 2);
        let mut state = self.lane().lock();
        self.lane().take_room(&self.device, &mut state, functions)?;
        for (copy, pieces) in &planned {
            for piece in pieces {
                match (copy.src_is_host, copy.dst_is_host) {
                    (0, 0) => self.by_driver(piece)?,
                    (from_host, _) => self.through_bounce(piece, from_host != 0)?,
                }
            }
            self.counted(copy);
        }
        Ok(())
    }

    fn reduce(&self, job: &abi::Reduce, srcs: &[*const c_void]) -> Result<()> {
        self.expect_worker()?;
        let _current = self.device.enter()?;
        let bytes = kernels::bytes(job.dtype, job.count)?;
        if srcs.is_empty() || srcs.len() > SOURCES as usize || job.op as usize >= abi::OPS {
            let what = format!("{} sources by operation {}", srcs.len(), job.op);
            return Err(Failure(abi::UNSUPPORTED, what));
        }
        if bytes == 0 {
            return Ok(());
        }
        let mut told = ReduceJob {
            srcs: [0; SOURCES as usize],
            dst: job.dst.addr() as Address,
            count: job.count,
            sources: job.sources,
            op: job.op,
        };
        self.device.expect_mine(job.dst.addr(), bytes)?;
        for (place, src) in told.srcs.iter_mut().zip(srcs) {
            self.device.expect_mine(src.addr(), bytes)?;
            *place = src.addr() as Address;
        }
        let mut state = self.lane().lock();
        self.lane().take_room(&self.device, &mut state, 1)?;
        if let [src] = srcs {
            self.row(src.addr(), job.dst.addr(), bytes)?;
        } else {
            let launched =
                self.kernels()?.reduce(self.device.driver, self.lane().raw, (job.dtype, &told));
            launched.map_err(|failure| self.device.note(failure))?;
        }
        self.count(|moved| &moved.reduced, bytes * srcs.len() as u64);
        Ok(())
    }

    fn scale(&self, job: &abi::Scale) -> Result<()> {
        self.expect_worker()?;
        let _current = self.device.enter()?;
        let bytes = kernels::bytes(job.dtype, job.count)?;
        let (by, over) = kernels::factor(job)?;
        if bytes == 0 {
            return Ok(());
        }
        self.device.expect_mine(job.src.addr(), bytes)?;
        self.device.expect_mine(job.dst.addr(), bytes)?;
        let told = ScaleJob {
            src: job.src.addr() as Address,
            dst: job.dst.addr() as Address,
            count: job.count,
            by,
            over: u32::from(over),
            reserved: 0,
        };
        let mut state = self.lane().lock();
        self.lane().take_room(&self.device, &mut state, 1)?;
        let launched =
            self.kernels()?.scale(self.device.driver, self.lane().raw, (job.dtype, &told));
        launched.map_err(|failure| self.device.note(failure))
    }

    fn record(&self) -> Result<u64> {
        let _current = self.device.enter()?;
        let mut state = self.lane().lock();
        // What others have told their stream is not counted here.
        state.since += u32::from(self.gate.is_some());
        self.lane().mark(&self.device, &mut state)
    }

    fn completed(&self) -> Result<u64> {
        let _current = self.device.enter()?;
        Lane::look(&self.device, &mut self.lane().lock())
    }

    fn wait(&self, other: &Self, event: u64) -> Result<()> {
        let _current = self.device.enter()?;
        {
            let theirs = other.lane().lock();
            if event > theirs.last {
                return Err(Failure::invalid(format!("event {event} was not recorded")));
            }
            let Some(mark) = theirs.marks.iter().find(|mark| mark.event >= event) else {
                return Ok(());
            };
            // SAFETY: both are open.
            let told = unsafe { (self.device.driver.stream_wait)(self.lane().raw, mark.raw, 0) };
            self.device.check("cuStreamWaitEvent", told)?;
        }
        self.lane().lock().since += 1;
        Ok(())
    }

    fn hold(&self) -> Result<u64> {
        let _current = self.device.enter()?;
        let gate = self.gate.as_ref().ok_or_else(not_joined)?;
        let number = gate.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (raw, word) = (self.lane().raw, gate.word.addr() as Address);
        // SAFETY: the stream is the program's, and the word stays.
        let told = unsafe {
            (self.device.driver.stream_wait_value)(raw, word, number, driver::WAIT_VALUE_AT_LEAST)
        };
        self.device.check("cuStreamWaitValue64", told)?;
        Ok(number)
    }

    fn release(&self, number: u64) -> Result<()> {
        let gate = self.gate.as_ref().ok_or_else(not_joined)?;
        gate.word().fetch_max(number, Ordering::Release);
        Ok(())
    }
}

fn not_joined() -> Failure {
    Failure::invalid("this stream is not joined")
}

impl Drop for Stream {
    /// What was told is done nevertheless.
    fn drop(&mut self) {
        match (self.lane.take(), self.gate.take()) {
            (Some(lane), None) => self.device.keep(lane),
            (Some(lane), Some(gate)) => self.device.part(lane, gate),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(rows: u32, bytes: u64, src_pitch: u64, dst_pitch: u64) -> abi::Copy {
        let size = abi::size::<abi::Copy>();
        let (src, dst) = (ptr::without_provenance(1000), ptr::without_provenance_mut(5000));
        abi::Copy {
            size,
            src_is_host: 0,
            dst_is_host: 1,
            rows,
            src,
            dst,
            bytes,
            src_pitch,
            dst_pitch,
        }
    }

    /// The bytes that pieces move, as pairs of addresses.
    fn moves(pieces: &[Piece]) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        for piece in pieces {
            for row in 0..piece.rows {
                for at in 0..piece.bytes {
                    let place = |start: usize, pitch: u64| start as u64 + row * pitch + at;
                    all.push((
                        place(piece.src, piece.src_pitch),
                        place(piece.dst, piece.dst_pitch),
                    ));
                }
            }
        }
        all
    }

    #[test]
    fn pieces_move_every_byte_once_and_none_is_too_long() {
        for (rows, bytes, src_pitch, dst_pitch) in [
            (1, 1, 0, 0),
            (1, 64, 0, 0),
            (1, 65, 0, 0),
            (5, 33, 40, 100),
            (3, 200, 200, 300),
            (7, 1, 9, 2),
            (2, 64, 64, 64),
        ] {
            let copy = copy(rows, bytes, src_pitch, dst_pitch);
            let mut want = Vec::new();
            for row in 0..u64::from(rows) {
                for at in 0..bytes {
                    want.push((1000 + row * src_pitch + at, 5000 + row * dst_pitch + at));
                }
            }
            let pieces = Piece::of(&copy, 64);
            assert_eq!(moves(&pieces), want, "{copy:?}");
            assert!(pieces.iter().all(|piece| piece.rows * piece.bytes <= 64), "{pieces:?}");
        }
        assert!(Piece::of(&copy(1, 0, 0, 0), 64).is_empty());
        assert!(Piece::of(&copy(0, 8, 8, 8), 64).is_empty());
    }

    #[test]
    fn rows_that_go_beyond_all_memory_are_refused() {
        assert!(Piece::extent(&copy(3, 8, u64::MAX / 2, 0), u64::MAX / 2).is_err());
        assert_eq!(Piece::extent(&copy(3, 8, 100, 0), 100), Ok(208));
    }
}
