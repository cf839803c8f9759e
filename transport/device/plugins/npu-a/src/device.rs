//! The side of the device that lives in the process of a rank.

#![allow(
    clippy::disallowed_types,
    reason = "tables of allocations and imports, and the turn to give orders"
)]

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dure_device::Dtype;
use dure_device::heap::Heap;
use dure_device_abi as abi;
use dure_device_abi::maker::{self, Failure, Result};

use crate::engine::{self, IMPORTS};
use crate::ring::{Kind, Order, Place, SOURCES, STREAMS, Shared, Space};

/// How long an import may take. The engine does it behind the work that it was told before.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes to which addresses are reserved: the largest page.
const PAGE: u64 = 64 << 10;

/// A device, open.
#[derive(Debug)]
pub(crate) struct Device(Arc<Inner>);

/// What a device and its streams share.
#[derive(Debug)]
struct Inner {
    shared: Shared,
    engine: libc::pid_t,
    /// Addresses of the device's memory in this process: nobody may touch them.
    base: usize,
    len: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    heap: Heap,
    /// Lengths of the allocations, by address.
    allocations: BTreeMap<usize, u64>,
    /// What was imported, by the address that stands for it.
    imports: BTreeMap<usize, Import>,
    /// Streams that are open, and the last event of each.
    streams: Vec<bool>,
    events: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Import {
    number: u32,
    len: u64,
    /// Where in the other engine's memory it begins.
    at: u64,
}

/// A stream of a device.
#[derive(Debug)]
pub(crate) struct Stream {
    device: Arc<Inner>,
    number: usize,
}

/// Addresses that stand for memory of devices: reserved, and without access rights.
fn reserve(bytes: u64) -> Result<(usize, usize)> {
    let len = bytes.max(1).checked_next_multiple_of(PAGE).and_then(|len| usize::try_from(len).ok());
    let len = len.ok_or_else(|| Failure::invalid(format!("{bytes} bytes are too many")))?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let at = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
    if at == libc::MAP_FAILED { Err(Failure::system("mmap")) } else { Ok((at.addr(), len)) }
}

fn unreserve(at: usize, len: usize) {
    // SAFETY: a whole reservation, which nothing names any more.
    unsafe { libc::munmap(ptr::without_provenance_mut(at), len) };
}

impl Device {
    pub(crate) fn open(index: u32, memory: u64) -> Result<Self> {
        let (base, len) = reserve(memory)?;
        let shared = Shared::new()?;
        let name = CString::new(format!("npu-a:{index}")).unwrap_or_default();
        // What the engine uses is made before the fork: its locks are free then.
        let _ = dure_device::host::host();
        // SAFETY: it takes nothing.
        let host = unsafe { libc::getpid() };
        // SAFETY: the child runs the engine, which takes no lock of this process and never returns.
        let engine = unsafe { libc::fork() };
        match engine {
            -1 => return Err(Failure::system("fork")),
            0 => engine::run(shared, memory, host, &name),
            _ => {}
        }
        // Where only ancestors may look into a process, its engine may too. Elsewhere this is refused, and needs not be said.
        // SAFETY: it takes numbers.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
        let state = State {
            heap: Heap::new(len),
            allocations: BTreeMap::new(),
            imports: BTreeMap::new(),
            streams: vec![false; STREAMS],
            events: vec![0; STREAMS],
        };
        // The first stream is this side's own.
        let device = Self(Arc::new(Inner { shared, engine, base, len, state: Mutex::new(state) }));
        device.0.lock().streams[0] = true;
        Ok(device)
    }
}

impl maker::Device for Device {
    type Stream = Stream;

    fn health(&self) -> Result<()> {
        self.0.check_alive()
    }

    fn counters(&self) -> abi::Counters {
        let moved = &self.0.shared.ring().moved;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        abi::Counters {
            size: abi::size::<abi::Counters>(),
            reserved: 0,
            from_host: read(&moved.from_host),
            to_host: read(&moved.to_host),
            inside: read(&moved.inside),
            peer: read(&moved.peer),
            reduced: read(&moved.reduced),
        }
    }

    fn alloc(&self, bytes: u64) -> Result<*mut c_void> {
        let mut state = self.0.lock();
        let full = || Failure(abi::OUT_OF_MEMORY, format!("there is no room for {bytes} bytes"));
        let len = usize::try_from(bytes.max(1)).map_err(|_| full())?;
        let offset = state.heap.alloc(len).ok_or_else(full)?;
        let address = self.0.base + offset;
        state.allocations.insert(address, bytes.max(1));
        let dst = Place { space: Space::Own, number: 0, at: offset as u64 };
        let zero = Order { kind: Kind::Zero, dst, bytes, ..Order::nothing() };
        self.0.give_and_wait(state, zero)?;
        Ok(ptr::without_provenance_mut(address))
    }

    fn free(&self, address: usize) -> Result<()> {
        let mut state = self.0.lock();
        let none = || Failure::invalid(format!("{address:#x} is no allocation"));
        let bytes = state.allocations.remove(&address).ok_or_else(none)?;
        let len = usize::try_from(bytes).map_err(|_| none())?;
        if state.heap.free(address - self.0.base, len) { Ok(()) } else { Err(none()) }
    }

    fn query(&self, address: usize) -> Result<abi::Range> {
        let state = self.0.lock();
        let found = state.allocations.range(..=address).next_back();
        let found = found.filter(|(start, bytes)| ((address - **start) as u64) < **bytes);
        let none = || Failure::invalid(format!("{address:#x} is in no allocation"));
        let (start, bytes) = found.ok_or_else(none)?;
        Ok(abi::Range {
            size: abi::size::<abi::Range>(),
            reserved: 0,
            base: ptr::without_provenance_mut(*start),
            bytes: *bytes,
        })
    }

    fn stream(&self) -> Result<Stream> {
        let mut state = self.0.lock();
        let free = state.streams.iter().position(|open| !open);
        let full = || Failure(abi::OUT_OF_MEMORY, format!("all {STREAMS} streams are open"));
        let number = free.ok_or_else(full)?;
        state.streams[number] = true;
        Ok(Stream { device: Arc::clone(&self.0), number })
    }

    fn export(&self, address: usize, bytes: u64) -> Result<abi::Handle> {
        let range = self.query(address)?;
        let rest = range.bytes - (address - range.base.addr()) as u64;
        if bytes > rest {
            return Err(Failure::invalid(format!(
                "{bytes} bytes go past the end of the allocation"
            )));
        }
        // The engine's process and descriptor, and where in its memory.
        let at = (address - self.0.base) as u64;
        let words = [u64::from(self.0.engine.unsigned_abs()), u64::from(self.0.file()?), at, bytes];
        let mut handle = abi::Handle { bytes: [0; abi::HANDLE] };
        for (place, word) in handle.bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        Ok(handle)
    }

    fn import(&self, handle: &abi::Handle) -> Result<*mut c_void> {
        let word = |at: usize| u64::from_le_bytes(handle.bytes.as_chunks::<8>().0[at]);
        let number =
            |at: usize| u32::try_from(word(at)).map_err(|_| Failure::invalid("no handle of npu-a"));
        let (process, file, at, len) = (number(0)?, number(1)?, word(2), word(3));
        let mut state = self.0.lock();
        let used = |number: u32| state.imports.values().any(|import| import.number == number);
        let free = (0..).take(IMPORTS).find(|number| !used(*number));
        let full = || {
            Failure(abi::OUT_OF_MEMORY, format!("{IMPORTS} imports are as many as there may be"))
        };
        let number = free.ok_or_else(full)?;
        let (address, _) = reserve(len)?;
        state.imports.insert(address, Import { number, len, at });
        let kind = Kind::Import { number, process, file };
        self.0.give_and_wait(state, Order { kind, ..Order::nothing() })?;
        Ok(ptr::without_provenance_mut(address))
    }

    fn forget(&self, address: usize) -> Result<()> {
        let mut state = self.0.lock();
        let none = || Failure::invalid(format!("{address:#x} was not imported"));
        let Import { number, len, .. } = state.imports.remove(&address).ok_or_else(none)?;
        let kind = Kind::Forget { number };
        self.0.give_and_wait(state, Order { kind, ..Order::nothing() })?;
        unreserve(address, usize::try_from(len.max(1).next_multiple_of(PAGE)).unwrap_or(0));
        Ok(())
    }
}

impl Order {
    pub(crate) fn nothing() -> Self {
        Self {
            kind: Kind::Stop,
            stream: 0,
            event: 0,
            srcs: [Place::default(); SOURCES as usize],
            dst: Place::default(),
            bytes: 0,
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_alive(&self) -> Result<()> {
        let mut status = 0;
        // SAFETY: the argument is alive. An engine that has ended stays to be asked about until it was waited for.
        let ended = unsafe { libc::waitpid(self.engine, &raw mut status, libc::WNOHANG) };
        if ended == 0 {
            return Ok(());
        }
        let why = match self.shared.ring().failed.load(Ordering::Acquire) {
            0 => "its engine was killed".to_owned(),
            number => {
                let number = i32::try_from(number).unwrap_or(libc::EIO);
                format!("its engine failed: {}", std::io::Error::from_raw_os_error(number))
            }
        };
        Err(Failure(abi::GONE, why))
    }

    /// The descriptor of the engine's memory, once it has it.
    fn file(&self) -> Result<u32> {
        let began = Instant::now();
        loop {
            match self.shared.ring().file.load(Ordering::Acquire) {
                0 => self.check_alive()?,
                file => return Ok(file),
            }
            if began.elapsed() > PATIENCE {
                return Err(Failure(abi::FAILED, "the engine does not start".to_owned()));
            }
            std::thread::yield_now();
        }
    }

    /// Gives an order of this side's own, and waits until it is done. The next one waits behind it.
    fn give_and_wait(&self, mut state: MutexGuard<'_, State>, order: Order) -> Result<()> {
        let ring = self.shared.ring();
        state.events[0] += 1;
        let event = state.events[0];
        let began = Instant::now();
        let mut given = false;
        while ring.completed[0].load(Ordering::Acquire) < event {
            if !given && ring.room() > 0 {
                ring.give(Order { stream: 0, event, ..order });
                given = true;
            }
            self.check_alive()?;
            if began.elapsed() > PATIENCE {
                return Err(Failure(
                    abi::FAILED,
                    format!("the engine does not answer for {PATIENCE:?}"),
                ));
            }
            std::thread::yield_now();
        }
        drop(state);
        Ok(())
    }

    /// Where the engine finds an address of the device's, or what was imported there.
    fn place(&self, state: &State, address: usize, bytes: u64) -> Result<Place> {
        if (self.base..self.base + self.len).contains(&address) {
            return Ok(Place { space: Space::Own, number: 0, at: (address - self.base) as u64 });
        }
        let found = state.imports.range(..=address).next_back();
        let fits = |start: usize, import: &Import| (address - start) as u64 + bytes <= import.len;
        match found.filter(|(start, import)| fits(**start, import)) {
            Some((start, import)) => {
                let at = import.at + (address - start) as u64;
                Ok(Place { space: Space::Imported, number: import.number, at })
            }
            None => Err(Failure::invalid(format!("{address:#x} is no memory of this device"))),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let stop = Order::nothing();
        if self.check_alive().is_ok() {
            let began = Instant::now();
            while self.shared.ring().room() == 0 && began.elapsed() < PATIENCE {
                std::thread::yield_now();
            }
            if self.shared.ring().room() > 0 {
                self.shared.ring().give(stop);
            } else {
                // SAFETY: the engine is a child of this process that was not waited for.
                unsafe { libc::kill(self.engine, libc::SIGKILL) };
            }
            // SAFETY: as above.
            unsafe { libc::waitpid(self.engine, ptr::null_mut(), 0) };
        }
        unreserve(self.base, self.len);
        self.shared.unmap();
    }
}

impl Stream {
    /// Gives orders, all or none; the last carries the next event.
    fn give(&self, mut state: MutexGuard<'_, State>, orders: &[Order]) -> Result<()> {
        let ring = self.device.shared.ring();
        if ring.room() < orders.len() as u64 {
            self.device.check_alive()?;
            return Err(Failure(abi::BUSY, "the ring of orders is full".to_owned()));
        }
        let stream = u32::try_from(self.number).expect("a few streams");
        for order in orders {
            state.events[self.number] += 1;
            let event = state.events[self.number];
            ring.give(Order { stream, event, ..*order });
        }
        Ok(())
    }

    /// The event of the last order.
    fn last(&self) -> u64 {
        self.device.lock().events[self.number]
    }
}

impl maker::Stream for Stream {
    fn copy(&self, copies: &[abi::Copy]) -> Result<()> {
        let state = self.device.lock();
        let order = |copy: &abi::Copy| {
            let place = |address: usize, is_host: u32, pitch: u64| {
                let extent = u64::from(copy.rows.saturating_sub(1)) * pitch + copy.bytes;
                match is_host {
                    0 => self.device.place(&state, address, extent),
                    _ => Ok(Place { space: Space::Host, number: 0, at: address as u64 }),
                }
            };
            let mut order = Order::nothing();
            order.srcs[0] = place(copy.src.addr(), copy.src_is_host, copy.src_pitch)?;
            order.dst = place(copy.dst.addr(), copy.dst_is_host, copy.dst_pitch)?;
            order.bytes = copy.bytes;
            let (rows, src_pitch, dst_pitch) = (copy.rows, copy.src_pitch, copy.dst_pitch);
            order.kind = Kind::Copy { rows, src_pitch, dst_pitch };
            Ok(order)
        };
        let orders: Vec<Order> = copies.iter().map(order).collect::<Result<_>>()?;
        self.give(state, &orders)
    }

    fn reduce(&self, job: &abi::Reduce, srcs: &[*const c_void]) -> Result<()> {
        let state = self.device.lock();
        let bytes = bytes(job.dtype, job.count)?;
        if srcs.is_empty() || srcs.len() > SOURCES as usize || job.op as usize >= abi::OPS {
            let what = format!("{} sources by operation {}", srcs.len(), job.op);
            return Err(Failure(abi::UNSUPPORTED, what));
        }
        let mut order = Order::nothing();
        for (place, src) in order.srcs.iter_mut().zip(srcs) {
            *place = self.device.place(&state, src.addr(), bytes)?;
        }
        order.dst = self.device.place(&state, job.dst.addr(), bytes)?;
        order.bytes = bytes;
        order.kind = Kind::Reduce { sources: job.sources, dtype: job.dtype, op: job.op };
        self.give(state, &[order])
    }

    fn scale(&self, job: &abi::Scale) -> Result<()> {
        let state = self.device.lock();
        let bytes = bytes(job.dtype, job.count)?;
        let mut order = Order::nothing();
        order.srcs[0] = self.device.place(&state, job.src.addr(), bytes)?;
        order.dst = self.device.place(&state, job.dst.addr(), bytes)?;
        order.bytes = bytes;
        let abi::Scale { dtype, kind, factor, integer, .. } = *job;
        order.kind = Kind::Scale { dtype, kind, factor, integer };
        self.give(state, &[order])
    }

    fn record(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn completed(&self) -> Result<u64> {
        let done = || self.device.shared.ring().completed[self.number].load(Ordering::Acquire);
        let seen = done();
        if seen < self.last() {
            self.device.check_alive()?;
        }
        Ok(seen.max(done()))
    }

    /// The engine does the work of all streams in the order in which it is told: what was recorded is before what is told next.
    fn wait(&self, _: &Self, _: u64) -> Result<()> {
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.device.lock().streams[self.number] = false;
    }
}

/// Bytes of so many elements.
fn bytes(dtype: u32, count: u64) -> Result<u64> {
    let known = Dtype::from_number(dtype);
    let size =
        known.ok_or_else(|| Failure(abi::UNSUPPORTED, format!("type {dtype} is none")))?.size();
    count.checked_mul(size as u64).ok_or_else(|| Failure::invalid("more bytes than there can be"))
}
