//! A GPU, open: its context, memory, and what it has of other processes.

#![allow(
    clippy::disallowed_types,
    reason = "tables that change when memory is allocated or imported, and when streams are opened"
)]

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use dure_device_abi as abi;
use dure_device_abi::maker::{self, Failure, Result};

use crate::Gpu;
use crate::driver::{self, Address, Code, Context, Driver, IpcHandle, attribute, code, pointer};
use crate::handle::{Exported, Whose, this_process};
use crate::kernels::Kernels;
use crate::stream::{Gate, Lane, Stream};

/// A GPU, open.
#[derive(Debug)]
pub(crate) struct Device(Arc<Inner>);

/// What a device and its streams share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) driver: &'static Driver,
    gpu: Gpu,
    context: Context,
    /// `None` where the device is too old for them.
    pub(crate) kernels: Option<Kernels>,
    /// The first failure after which the context serves nothing any more.
    gone: OnceLock<Failure>,
    pub(crate) moved: Moved,
    /// Lengths of the allocations, by address.
    allocations: RwLock<BTreeMap<usize, u64>>,
    imports: RwLock<Imports>,
    /// Streams that nobody has at the moment. Their work may be under way.
    lanes: Mutex<Vec<Lane>>,
    /// Gates that no stream has at the moment.
    pub(crate) gates: Mutex<Vec<Gate>>,
    /// The stream of this side's own: new memory is zeroed on it.
    own: Mutex<Lane>,
}

// SAFETY: the driver's functions may be called from any thread with handles of any other's.
unsafe impl Send for Inner {}
// SAFETY: as for `Send`.
unsafe impl Sync for Inner {}

/// Bytes moved so far, as `dureDeviceCounters_t` tells them apart.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) from_host: AtomicU64,
    pub(crate) to_host: AtomicU64,
    pub(crate) inside: AtomicU64,
    pub(crate) peer: AtomicU64,
    pub(crate) reduced: AtomicU64,
}

/// What is imported.
#[derive(Debug, Default)]
struct Imports {
    opened: Vec<Opened>,
    /// Addresses that were given out, and whose allocation was closed before they were forgotten. The driver may have put another
    /// one there meanwhile.
    outlived: Vec<usize>,
}

/// An allocation of another process, or of another device of this one.
#[derive(Debug)]
struct Opened {
    whose: Whose,
    /// Where it is here.
    base: usize,
    bytes: u64,
    /// Addresses in it that were given out, one an import.
    given: Vec<usize>,
}

/// Whether `bytes` bytes at an address lie inside a range.
fn inside((base, len): (usize, u64), address: usize, bytes: u64) -> bool {
    let at = address.checked_sub(base).map(|at| at as u64);
    at.and_then(|at| at.checked_add(bytes)).is_some_and(|end| end <= len)
}

/// What the driver knows of an address.
struct Known {
    device: c_int,
    is_managed: bool,
    memory: c_uint,
}

/// The context of a device, current to this thread until it is dropped.
pub(crate) struct Current(&'static Driver);

impl Current {
    fn new(driver: &'static Driver, context: Context) -> Result<Self> {
        // SAFETY: the context is retained.
        driver.check("cuCtxPushCurrent", unsafe { (driver.push)(context) })?;
        Ok(Self(driver))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let mut context = ptr::null_mut();
        // SAFETY: it was pushed by this thread; the argument is alive.
        let _ = unsafe { (self.0.pop)(&raw mut context) };
    }
}

impl Device {
    pub(crate) fn open(gpu: Gpu) -> Result<Self> {
        let driver = gpu.driver;
        let mut context = ptr::null_mut();
        // SAFETY: the argument is alive.
        let retained = unsafe { (driver.retain)(&raw mut context, gpu.raw) };
        driver.check("cuDevicePrimaryCtxRetain", retained)?;
        let prepared = Self::prepare(gpu, context);
        let (kernels, own) = prepared.inspect_err(|_| {
            // SAFETY: it was retained, once.
            let _ = unsafe { (driver.release)(gpu.raw) };
        })?;
        Ok(Self(Arc::new(Inner {
            driver,
            gpu,
            context,
            kernels,
            gone: OnceLock::new(),
            moved: Moved::default(),
            allocations: RwLock::default(),
            imports: RwLock::default(),
            lanes: Mutex::default(),
            gates: Mutex::default(),
            own: Mutex::new(own),
        })))
    }

    fn prepare(gpu: Gpu, context: Context) -> Result<(Option<Kernels>, Lane)> {
        let _current = Current::new(gpu.driver, context)?;
        let multiprocessors = gpu.attribute(attribute::MULTIPROCESSORS);
        let kernels =
            gpu.reduces().then(|| Kernels::load(gpu.driver, multiprocessors)).transpose()?;
        Ok((kernels, Lane::open(gpu.driver)?))
    }
}

impl maker::Device for Device {
    type Stream = Stream;

    fn health(&self) -> Result<()> {
        let _current = self.0.enter()?;
        let own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the stream is open.
        let state = unsafe { (self.0.driver.stream_query)(own.raw) };
        if state == code::NOT_READY { Ok(()) } else { self.0.check("cuStreamQuery", state) }
    }

    fn counters(&self) -> abi::Counters {
        let moved = &self.0.moved;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
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
        let inner = &*self.0;
        let _current = inner.enter()?;
        let full = || Failure(abi::OUT_OF_MEMORY, format!("there is no room for {bytes} bytes"));
        let len = usize::try_from(bytes.max(1)).map_err(|_| full())?;
        let mut address: Address = 0;
        // SAFETY: the argument is alive.
        let given = unsafe { (inner.driver.alloc)(&raw mut address, len) };
        inner.check("cuMemAlloc", given)?;
        let zeroed = inner.zero(address, len);
        if zeroed.is_err() {
            // SAFETY: it was allocated just now.
            let _ = unsafe { (inner.driver.free)(address) };
        }
        zeroed?;
        let address = place(address)?;
        inner.allocations().insert(address, bytes.max(1));
        Ok(ptr::without_provenance_mut(address))
    }

    fn free(&self, address: usize) -> Result<()> {
        let inner = &*self.0;
        let none = || Failure::invalid(format!("{address:#x} is no allocation"));
        inner.allocations().remove(&address).ok_or_else(none)?;
        let _current = inner.enter()?;
        // SAFETY: it was allocated by `alloc`, and is freed once.
        inner.check("cuMemFree", unsafe { (inner.driver.free)(address as Address) })
    }

    fn query(&self, address: usize) -> Result<abi::Range> {
        let (base, bytes) = self.0.range(address)?;
        Ok(abi::Range {
            size: abi::size::<abi::Range>(),
            reserved: 0,
            base: ptr::without_provenance_mut(base),
            bytes,
        })
    }

    fn stream(&self) -> Result<Stream> {
        let kept = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let lane = match kept {
            Some(lane) => lane,
            None => {
                let _current = self.0.enter()?;
                Lane::open(self.0.driver).map_err(|failure| self.0.note(failure))?
            }
        };
        Ok(Stream::new(Arc::clone(&self.0), lane))
    }

    fn join(&self, native: *mut c_void) -> Result<Stream> {
        let _current = self.0.enter()?;
        let kept = self.0.gates.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let gate = match kept {
            Some(gate) => gate,
            None => Gate::open(&self.0)?,
        };
        Ok(Stream::joined(Arc::clone(&self.0), native, gate))
    }

    fn export(&self, address: usize, bytes: u64) -> Result<abi::Handle> {
        let inner = &*self.0;
        let _current = inner.enter()?;
        let (base, len) = inner.allocation(address)?;
        if !inside((base, len), address, bytes) {
            return Err(Failure::invalid(format!(
                "{bytes} bytes go past the end of the allocation"
            )));
        }
        let mut ipc = IpcHandle([0; 64]);
        // SAFETY: the argument is alive.
        let exported = unsafe { (inner.driver.ipc_export)(&raw mut ipc, base as Address) };
        if exported == code::INVALID_VALUE {
            let text =
                "memory of a pool, or mapped piece by piece, has no handle for other processes";
            return Err(Failure(abi::UNSUPPORTED, text.to_owned()));
        }
        inner.check("cuIpcGetMemHandle", exported)?;
        let mut number = 0_u64;
        inner.ask(base, pointer::BUFFER_ID, &raw mut number)?;
        let whose = Whose { process: this_process(), base: base as u64, number };
        Ok(Exported { ipc, offset: (address - base) as u64, whose }.encode())
    }

    fn import(&self, handle: &abi::Handle) -> Result<*mut c_void> {
        let inner = &*self.0;
        let exported = Exported::decode(handle);
        let _current = inner.enter()?;
        let offset = place(exported.offset)?;
        let mut imports = inner.imports.write().unwrap_or_else(PoisonError::into_inner);
        let at = imports.opened.iter().position(|known| known.whose == exported.whose);
        let at = match at {
            Some(at) => at,
            None => {
                inner.close_stale(&mut imports, exported.whose);
                imports.opened.push(inner.open_one(&exported)?);
                imports.opened.len() - 1
            }
        };
        let found = &mut imports.opened[at];
        let address = found.base.wrapping_add(offset);
        if !inside((found.base, found.bytes), address, 1) {
            return Err(Failure::invalid("the handle is of no memory"));
        }
        found.given.push(address);
        Ok(ptr::without_provenance_mut(address))
    }

    fn forget(&self, address: usize) -> Result<()> {
        let inner = &*self.0;
        let mut imports = inner.imports.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = imports.outlived.iter().position(|given| *given == address) {
            imports.outlived.swap_remove(at);
            return Ok(());
        }
        let none = || Failure::invalid(format!("{address:#x} was not imported"));
        let names = |known: &Opened| known.given.iter().position(|given| *given == address);
        let at = imports.opened.iter().position(|known| names(known).is_some());
        let at = at.ok_or_else(none)?;
        let given = names(&imports.opened[at]).ok_or_else(none)?;
        imports.opened[at].given.swap_remove(given);
        if !imports.opened[at].given.is_empty() {
            return Ok(());
        }
        let ended = imports.opened.swap_remove(at);
        let _current = inner.enter()?;
        inner.close(&ended)
    }

    fn export_dmabuf(&self, address: usize, bytes: u64) -> Result<(c_int, u64)> {
        let inner = &*self.0;
        if !inner.gpu.gives_dma_bufs() {
            return Err(Failure(abi::UNSUPPORTED, "the driver exports no dma-buf here".to_owned()));
        }
        let _current = inner.enter()?;
        inner.expect_mine(address, bytes)?;
        // The driver exports whole pages of the host's.
        // SAFETY: it takes a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs();
        let start = address as u64 / page * page;
        let len = place((address as u64 + bytes).next_multiple_of(page) - start)?;
        let mut fd: c_int = -1;
        let kind = driver::RANGE_HANDLE_DMA_BUF;
        // SAFETY: the argument is alive, and a descriptor is what this kind of handle is.
        let given =
            unsafe { (inner.driver.range_handle)((&raw mut fd).cast(), start, len, kind, 0) };
        inner.check("cuMemGetHandleForAddressRange", given)?;
        Ok((fd, address as u64 - start))
    }
}

/// A number of the driver's as an address or a length of this process.
fn place(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| Failure::invalid("an address beyond this processor's"))
}

impl Inner {
    /// Makes the context current, unless the device is gone.
    pub(crate) fn enter(&self) -> Result<Current> {
        match self.gone.get() {
            Some(failure) => Err(failure.clone()),
            None => Current::new(self.driver, self.context).map_err(|failure| self.note(failure)),
        }
    }

    /// An error unless a call has succeeded.
    pub(crate) fn check(&self, call: &str, code: Code) -> Result<()> {
        self.driver.check(call, code).map_err(|failure| self.note(failure))
    }

    /// A failure; the first after which the context serves nothing is kept.
    pub(crate) fn note(&self, failure: Failure) -> Failure {
        if failure.0 == abi::GONE {
            return self.gone.get_or_init(|| failure).clone();
        }
        failure
    }

    fn allocations(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<usize, u64>> {
        self.allocations.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Zeroes new memory, and waits for that.
    fn zero(&self, address: Address, len: usize) -> Result<()> {
        let own: MutexGuard<'_, Lane> = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the memory was allocated, and the stream is open.
        self.check("cuMemsetD8Async", unsafe { (self.driver.set)(address, 0, len, own.raw) })?;
        // SAFETY: the stream is open.
        self.check("cuStreamSynchronize", unsafe { (self.driver.stream_synchronize)(own.raw) })
    }

    /// The allocation of this plug-in's that an address is in.
    fn own_allocation(&self, address: usize) -> Option<(usize, u64)> {
        let allocations = self.allocations.read().unwrap_or_else(PoisonError::into_inner);
        let (base, bytes) = allocations.range(..=address).next_back()?;
        inside((*base, *bytes), address, 1).then_some((*base, *bytes))
    }

    /// The allocation of this device that an address is in: of this plug-in, or of whoever else uses CUDA here.
    fn range(&self, address: usize) -> Result<(usize, u64)> {
        if let Some(own) = self.own_allocation(address) {
            return Ok(own);
        }
        let _current = self.enter()?;
        let none = || Failure::invalid(format!("{address:#x} is in no allocation"));
        let known = self.known(address).ok_or_else(none)?;
        let is_mine = known.memory == driver::MEMORY_OF_DEVICE
            && known.device == self.gpu.raw
            && !known.is_managed;
        if is_mine { self.allocation(address) } else { Err(none()) }
    }

    /// The driver's allocation around an address. Small ones of ours may be parts of one: what is exported is the whole.
    fn allocation(&self, address: usize) -> Result<(usize, u64)> {
        let (mut base, mut bytes) = (0, 0);
        // SAFETY: the arguments are alive.
        let found =
            unsafe { (self.driver.range)(&raw mut base, &raw mut bytes, address as Address) };
        self.check("cuMemGetAddressRange", found)?;
        Ok((place(base)?, bytes as u64))
    }

    /// What the driver knows of an address; `None` when it is none of CUDA's.
    fn known(&self, address: usize) -> Option<Known> {
        let (mut memory, mut managed, mut device): (c_uint, c_uint, c_int) = (0, 0, -1);
        let mut numbers = [pointer::MEMORY_TYPE, pointer::IS_MANAGED, pointer::DEVICE_ORDINAL];
        let mut places: [*mut c_void; 3] =
            [(&raw mut memory).cast(), (&raw mut managed).cast(), (&raw mut device).cast()];
        // SAFETY: there are three of both, and each place is as long as its attribute.
        let asked = unsafe {
            (self.driver.attributes)(
                3,
                numbers.as_mut_ptr(),
                places.as_mut_ptr(),
                address as Address,
            )
        };
        let is_known = asked == code::SUCCESS && memory != 0;
        is_known.then_some(Known { device, is_managed: managed & 0xff != 0, memory })
    }

    /// One attribute of an address.
    fn ask<T>(&self, address: usize, number: c_int, into: *mut T) -> Result<()> {
        // SAFETY: the caller gives a place for the attribute, which is alive.
        let asked = unsafe { (self.driver.attribute)(into.cast(), number, address as Address) };
        self.check("cuPointerGetAttribute", asked)
    }

    /// An error unless work on this device may name these bytes.
    pub(crate) fn expect_mine(&self, address: usize, bytes: u64) -> Result<()> {
        let own = self.own_allocation(address);
        if own.is_some_and(|own| inside(own, address, bytes)) || self.is_imported(address, bytes) {
            return Ok(());
        }
        let end = address.checked_add(place(bytes.max(1) - 1)?);
        let end = end.ok_or_else(|| Failure::invalid("memory ends before this"))?;
        // Frameworks map one buffer of several pieces: both ends are looked at.
        self.range(address)?;
        self.range(end).map(drop)
    }

    pub(crate) fn is_imported(&self, address: usize, bytes: u64) -> bool {
        let imports = self.imports.read().unwrap_or_else(PoisonError::into_inner);
        imports.opened.iter().any(|known| inside((known.base, known.bytes), address, bytes))
    }

    /// Opens an allocation that was exported.
    fn open_one(&self, exported: &Exported) -> Result<Opened> {
        let whose = exported.whose;
        let base = if whose.process == this_process() {
            let base = place(whose.base)?;
            self.reach(base)?;
            base
        } else {
            let mut base = 0;
            let flags = driver::IPC_LAZY_PEER_ACCESS;
            // SAFETY: the argument is alive.
            let opened = unsafe { (self.driver.ipc_open)(&raw mut base, exported.ipc, flags) };
            self.check("cuIpcOpenMemHandle", opened)?;
            place(base)?
        };
        let (base, bytes) = self.allocation(base)?;
        Ok(Opened { whose, base, bytes, given: Vec::new() })
    }

    /// Makes memory of another device of this process reachable.
    fn reach(&self, address: usize) -> Result<()> {
        let none = || Failure::invalid("the handle is of memory that was freed");
        let known = self.known(address).ok_or_else(none)?;
        if known.device == self.gpu.raw {
            return Ok(());
        }
        let mut reaches = 0;
        // SAFETY: the argument is alive.
        let asked =
            unsafe { (self.driver.can_access_peer)(&raw mut reaches, self.gpu.raw, known.device) };
        self.check("cuDeviceCanAccessPeer", asked)?;
        if reaches == 0 {
            let text = format!("GPU {} does not reach GPU {}", self.gpu.raw, known.device);
            return Err(Failure(abi::UNSUPPORTED, text));
        }
        let mut context: Context = ptr::null_mut();
        self.ask(address, pointer::CONTEXT, &raw mut context)?;
        // SAFETY: the context is that of an allocation that exists.
        let enabled = unsafe { (self.driver.enable_peer)(context, 0) };
        if enabled == code::PEER_ACCESS_ALREADY_ENABLED {
            return Ok(());
        }
        self.check("cuCtxEnablePeerAccess", enabled)
    }

    /// Closes what was imported from where another allocation is now: its owner has freed it, so nothing names it any more, and the
    /// driver could take its handle for that of the new one.
    fn close_stale(&self, imports: &mut Imports, now: Whose) {
        let stale =
            |known: &Opened| (known.whose.process, known.whose.base) == (now.process, now.base);
        if let Some(at) = imports.opened.iter().position(stale) {
            let ended = imports.opened.swap_remove(at);
            let _ = self.close(&ended);
            imports.outlived.extend(ended.given);
        }
    }

    fn close(&self, ended: &Opened) -> Result<()> {
        if ended.whose.process == this_process() {
            return Ok(());
        }
        // SAFETY: it was opened, and is closed once.
        let closed = unsafe { (self.driver.ipc_close)(ended.base as Address) };
        self.check("cuIpcCloseMemHandle", closed)
    }

    /// Parts from a stream of the program's.
    pub(crate) fn part(&self, mut lane: Lane, gate: Gate) {
        if let Ok(_current) = self.enter() {
            lane.forget_events(self.driver);
        }
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).push(gate);
    }

    /// Keeps the driver's side of a stream that was closed. Its work goes on.
    pub(crate) fn keep(&self, lane: Lane) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(lane);
    }
}

impl Drop for Inner {
    /// Ends what is not at work. Where a stream is, it and the context stay: nobody waits here.
    fn drop(&mut self) {
        let lanes = std::mem::take(self.lanes.get_mut().unwrap_or_else(PoisonError::into_inner));
        let Ok(current) = self.enter() else { return };
        let own = self.own.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut all_idle = own.end(self.driver);
        for mut lane in lanes {
            all_idle &= lane.end(self.driver);
        }
        if all_idle {
            let imports = self.imports.get_mut().unwrap_or_else(PoisonError::into_inner);
            for ended in std::mem::take(&mut imports.opened) {
                let _ = self.close(&ended);
            }
            if let Some(kernels) = &self.kernels {
                kernels.unload(self.driver);
            }
            drop(current);
            // SAFETY: it was retained once, and nothing of it is used any more.
            let _ = unsafe { (self.driver.release)(self.gpu.raw) };
        }
    }
}
