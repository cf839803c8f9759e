//! An NPU in software, as a plug-in for devices: the reference in Rust, which tests run.
//!
//! ```text
//!  process of a rank                      | engine: a process of its own
//!                                         |
//!  copy, reduce ... -- ring of orders --> | does one after the other, on memory that only it has mapped
//!  completed        <-- counters -------- |
//!                                         |
//!  addresses without access rights        | the device's memory (memfd), and what it has imported of other engines'
//! ```
//!
//! It stands for a maker whose devices reach each other's memory and reduce. The process of a rank cannot look into the memory:
//! it never has the file. The engine reaches memory of the host as a DMA engine does, by address, through the kernel
//! (`process_vm_readv`).
//!
//! `lib.rs` is the interface, `device.rs` this side, `engine.rs` the other, `ring.rs` what both share.
#![allow(missing_docs, reason = "dure_device.h documents the interface")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "an entry point looks at what the caller gave, and writes where the caller wants it: one promise, the header's"
)]

mod device;
mod engine;
mod ring;

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

use dure_device_abi as abi;

use crate::device::{Device, Stream};

/// How many devices there are.
const DEVICES: u32 = 16;
/// Bytes of memory of each. Pages exist when they are touched.
const MEMORY: u64 = 4 << 30;

const NAME: &CStr = c"npu-a (software)";

thread_local! {
    static ERROR: RefCell<CString> = RefCell::default();
}

/// A failed call: the status, and a sentence for `error`.
pub(crate) struct Failure(abi::Status, String);

impl Failure {
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self(abi::INVALID, what.into())
    }

    pub(crate) fn system(call: &str) -> Self {
        Self(abi::FAILED, format!("{call}: {}", std::io::Error::last_os_error()))
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// Runs a call, and keeps its sentence if it fails.
fn answer(call: impl FnOnce() -> Result<()>) -> abi::Status {
    match call() {
        Ok(()) => abi::OK,
        Err(Failure(status, what)) => {
            ERROR.set(CString::new(what).unwrap_or_default());
            status
        }
    }
}

/// Writes a result where the caller wants it.
///
/// # Safety
/// `at` is null or may be written.
unsafe fn give<T>(at: *mut T, value: T) -> Result<()> {
    if at.is_null() {
        return Err(Failure::invalid("a result has no place"));
    }
    // SAFETY: the caller's promise.
    unsafe { at.write(value) };
    Ok(())
}

/// Writes a structure of which the caller knows so much as its first field says.
///
/// # Safety
/// `at` is null, or as long as its first field says.
unsafe fn give_sized<T>(at: *mut T, value: &T) -> Result<()> {
    if at.is_null() {
        return Err(Failure::invalid("a result has no place"));
    }
    // SAFETY: every structure begins with its size.
    let size = unsafe { at.cast::<u32>().read() };
    let known = (size as usize).min(size_of::<T>());
    // SAFETY: both are as long.
    unsafe { at.cast::<u8>().copy_from_nonoverlapping(ptr::from_ref(value).cast(), known) };
    // SAFETY: as above; it stays what the caller has said.
    unsafe { at.cast::<u32>().write(size) };
    Ok(())
}

extern "C" fn error() -> *const c_char {
    ERROR.with_borrow(|text| text.as_ptr())
}

unsafe extern "C" fn count(devices: *mut u32) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(devices, DEVICES) })
}

fn field<const N: usize>(text: &[u8]) -> [c_char; N] {
    let mut field = [0; N];
    for (place, byte) in field[..N - 1].iter_mut().zip(text) {
        *place = c_char::from_ne_bytes([*byte]);
    }
    field
}

unsafe extern "C" fn describe(index: u32, info: *mut abi::Info) -> abi::Status {
    let all_types = (1 << dure_device::Dtype::ALL.len()) - 1;
    let about = abi::Info {
        size: abi::size::<abi::Info>(),
        capabilities: abi::ASYNC | abi::PEER,
        name: field(NAME.to_bytes()),
        serial: field(format!("npu-a-{index}").as_bytes()),
        pci: [0; 16],
        numa: -1,
        partition: 0,
        memory: MEMORY,
        most_sources: ring::SOURCES,
        most_peers: DEVICES - 1,
        reduces: [all_types; abi::OPS],
        scales: all_types,
    };
    answer(|| {
        check_index(index)?;
        // SAFETY: the caller's promise.
        unsafe { give_sized(info, &about) }
    })
}

fn check_index(index: u32) -> Result<()> {
    if index < DEVICES {
        return Ok(());
    }
    Err(Failure::invalid(format!("there is no device {index} (allowed: 0 to {})", DEVICES - 1)))
}

/// The bandwidth is that of a copy within one host's memory, as nobody has measured better.
unsafe extern "C" fn link(from: u32, to: u32, link: *mut abi::Link) -> abi::Status {
    let kind = if from == to { abi::link_type::PACKAGE } else { abi::link_type::OWN };
    let size = abi::size::<abi::Link>();
    let about = abi::Link { size, kind, peer_access: 1, latency: 10_000, bandwidth: 5.0 };
    answer(|| {
        check_index(from)?;
        check_index(to)?;
        // SAFETY: the caller's promise.
        unsafe { give_sized(link, &about) }
    })
}

unsafe extern "C" fn open(
    index: u32,
    _peers: *const u32,
    _count: u32,
    device: *mut *mut abi::Device,
) -> abi::Status {
    answer(|| {
        check_index(index)?;
        let opened = Box::new(Device::open(index, MEMORY)?);
        // SAFETY: the caller's promise.
        unsafe { give(device, Box::into_raw(opened).cast()) }
    })
}

unsafe extern "C" fn close(device: *mut abi::Device) -> abi::Status {
    // SAFETY: it came from `open`, and is used no more.
    drop(unsafe { Box::from_raw(device.cast::<Device>()) });
    abi::OK
}

/// The device behind a handle.
///
/// # Safety
/// It came from `open` and is not closed.
unsafe fn at<'d>(device: *mut abi::Device) -> &'d Device {
    // SAFETY: the caller's promise.
    unsafe { &*device.cast::<Device>() }
}

/// The stream behind a handle.
///
/// # Safety
/// It came from `stream_open`, is not closed, and is used by one thread at a time.
unsafe fn stream_at<'s>(stream: *mut abi::Stream) -> &'s mut Stream {
    // SAFETY: the caller's promise.
    unsafe { &mut *stream.cast::<Stream>() }
}

unsafe extern "C" fn health(device: *mut abi::Device) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { at(device) }.check_alive())
}

unsafe extern "C" fn counters(device: *mut abi::Device, into: *mut abi::Counters) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give_sized(into, &at(device).counters()) })
}

unsafe extern "C" fn alloc(
    device: *mut abi::Device,
    bytes: u64,
    address: *mut *mut c_void,
) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(address, at(device).alloc(bytes)?) })
}

unsafe extern "C" fn free(device: *mut abi::Device, address: *mut c_void) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { at(device) }.free(address.addr()))
}

unsafe extern "C" fn query(
    device: *mut abi::Device,
    address: *const c_void,
    range: *mut abi::Range,
) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give_sized(range, &at(device).range(address.addr())?) })
}

unsafe extern "C" fn stream_open(
    device: *mut abi::Device,
    stream: *mut *mut abi::Stream,
) -> abi::Status {
    answer(|| {
        // SAFETY: the caller's promise.
        let opened = Box::new(unsafe { at(device) }.stream()?);
        // SAFETY: the caller's promise.
        unsafe { give(stream, Box::into_raw(opened).cast()) }
    })
}

unsafe extern "C" fn stream_close(stream: *mut abi::Stream) -> abi::Status {
    // SAFETY: it came from `stream_open`, and is used no more.
    drop(unsafe { Box::from_raw(stream.cast::<Stream>()) });
    abi::OK
}

unsafe extern "C" fn copy(
    stream: *mut abi::Stream,
    copies: *const abi::Copy,
    count: u32,
) -> abi::Status {
    answer(|| {
        let mut all = Vec::with_capacity(count as usize);
        let mut place = copies.cast::<u8>();
        for _ in 0..count {
            // SAFETY: each begins with its size, and the next lies behind it.
            let size = unsafe { place.cast::<u32>().read() } as usize;
            if size < size_of::<abi::Copy>() {
                return Err(Failure::invalid(format!("a copy of {size} bytes is none")));
            }
            // SAFETY: it is as long as it says.
            all.push(unsafe { place.cast::<abi::Copy>().read() });
            // SAFETY: as above.
            place = unsafe { place.add(size) };
        }
        // SAFETY: the caller's promise.
        unsafe { stream_at(stream) }.copy(&all)
    })
}

unsafe extern "C" fn reduce(stream: *mut abi::Stream, job: *const abi::Reduce) -> abi::Status {
    answer(|| {
        // SAFETY: the caller's promise.
        let job = unsafe { *job };
        // SAFETY: the caller says how many there are.
        let srcs = unsafe { std::slice::from_raw_parts(job.srcs, job.sources as usize) };
        // SAFETY: the caller's promise.
        unsafe { stream_at(stream) }.reduce(&job, srcs)
    })
}

unsafe extern "C" fn scale(stream: *mut abi::Stream, job: *const abi::Scale) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { stream_at(stream).scale(&*job) })
}

unsafe extern "C" fn record(stream: *mut abi::Stream, event: *mut u64) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(event, stream_at(stream).record()) })
}

unsafe extern "C" fn completed(stream: *mut abi::Stream, event: *mut u64) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(event, stream_at(stream).completed()?) })
}

/// The engine does the work of all streams in the order in which it is told: what was recorded is before what is told next.
unsafe extern "C" fn wait(_: *mut abi::Stream, _: *mut abi::Stream, _: u64) -> abi::Status {
    abi::OK
}

unsafe extern "C" fn export_handle(
    device: *mut abi::Device,
    address: *mut c_void,
    bytes: u64,
    handle: *mut abi::Handle,
) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(handle, at(device).export(address.addr(), bytes)?) })
}

unsafe extern "C" fn import_handle(
    device: *mut abi::Device,
    handle: *const abi::Handle,
    address: *mut *mut c_void,
) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(address, at(device).import(&*handle)?) })
}

unsafe extern "C" fn forget(device: *mut abi::Device, address: *mut c_void) -> abi::Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { at(device) }.forget(address.addr()))
}

static TABLE: abi::Plugin = abi::Plugin {
    size: abi::size::<abi::Plugin>(),
    abi: abi::ABI,
    vendor: c"npu-a".as_ptr(),
    version: c"1".as_ptr(),
    error: Some(error),
    count: Some(count),
    describe: Some(describe),
    link: Some(link),
    open: Some(open),
    close: Some(close),
    health: Some(health),
    counters: Some(counters),
    alloc: Some(alloc),
    free: Some(free),
    query: Some(query),
    stream_open: Some(stream_open),
    stream_close: Some(stream_close),
    copy: Some(copy),
    reduce: Some(reduce),
    scale: Some(scale),
    record: Some(record),
    completed: Some(completed),
    wait: Some(wait),
    export_handle: Some(export_handle),
    import_handle: Some(import_handle),
    forget: Some(forget),
    export_dmabuf: None,
    map: None,
    unmap: None,
    flush: None,
};

/// The entry point.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the header's name")]
pub extern "C" fn dureGetDevicePlugin() -> *const abi::Plugin {
    &raw const TABLE
}
