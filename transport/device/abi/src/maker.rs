//! The entry points of a plug-in that is written in Rust: a maker implements [`Maker`], [`Device`] and [`Stream`], and
//! [`table`] is what its `dureGetDevicePlugin` returns.

#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "an entry point looks at what the caller gave, and writes where the caller wants it: one promise, the header's"
)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use crate::{
    ABI, Copy, Counters, FAILED, Handle, INVALID, Info, OK, Plugin, Range, Reduce, Scale, Status,
    UNSUPPORTED, size,
};

/// A failed call: the status, and a sentence for `error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub Status, pub String);

impl Failure {
    /// An argument is wrong.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self(INVALID, what.into())
    }

    /// A call of the system failed, just now.
    pub fn system(call: &str) -> Self {
        Self(FAILED, format!("{call}: {}", std::io::Error::last_os_error()))
    }
}

/// Result of a call.
pub type Result<T> = std::result::Result<T, Failure>;

/// What a maker offers.
pub trait Maker: 'static {
    /// For people: who made the plug-in. Devices are named by it.
    const VENDOR: &'static CStr;
    /// For people.
    const VERSION: &'static CStr;
    /// A device, open.
    type Device: Device;

    fn count() -> Result<u32>;
    fn describe(index: u32) -> Result<Info>;
    fn open(index: u32) -> Result<Self::Device>;

    /// An error unless there is such a device.
    fn check_index(index: u32) -> Result<()> {
        match Self::count()? {
            count if index < count => Ok(()),
            0 => Err(Failure::invalid("there are no devices")),
            count => Err(Failure::invalid(format!(
                "there is no device {index} (allowed: 0 to {})",
                count - 1
            ))),
        }
    }
}

/// An open device, which is closed when it is dropped.
pub trait Device: 'static {
    /// A stream of it.
    type Stream: Stream;

    fn health(&self) -> Result<()>;
    fn counters(&self) -> Counters;
    fn alloc(&self, bytes: u64) -> Result<*mut c_void>;
    fn free(&self, address: usize) -> Result<()>;
    fn query(&self, address: usize) -> Result<Range>;
    fn stream(&self) -> Result<Self::Stream>;
    fn export(&self, address: usize, bytes: u64) -> Result<Handle>;
    fn import(&self, handle: &Handle) -> Result<*mut c_void>;
    fn forget(&self, address: usize) -> Result<()>;

    /// Offered by [`DMABUF`](crate::DMABUF): the descriptor and the offset.
    fn export_dmabuf(&self, address: usize, bytes: u64) -> Result<(c_int, u64)> {
        let _ = (address, bytes);
        Err(Failure(UNSUPPORTED, "there is no dma-buf of this device".to_owned()))
    }

    /// Offered by [`JOIN`](crate::JOIN).
    fn join(&self, native: *mut c_void) -> Result<Self::Stream> {
        let _ = native;
        Err(Failure(UNSUPPORTED, "streams of this device are not joined".to_owned()))
    }
}

/// An open stream, which is closed when it is dropped.
pub trait Stream: 'static {
    fn copy(&self, copies: &[Copy]) -> Result<()>;
    fn reduce(&self, job: &Reduce, srcs: &[*const c_void]) -> Result<()>;
    fn scale(&self, job: &Scale) -> Result<()>;
    fn record(&self) -> Result<u64>;
    fn completed(&self) -> Result<u64>;
    fn wait(&self, other: &Self, event: u64) -> Result<()>;

    /// Offered by [`JOIN`](crate::JOIN), as is `release`.
    fn hold(&self) -> Result<u64> {
        Err(Failure(UNSUPPORTED, "this stream is not joined".to_owned()))
    }

    fn release(&self, number: u64) -> Result<()> {
        let _ = number;
        Err(Failure(UNSUPPORTED, "this stream is not joined".to_owned()))
    }
}

/// Text for a field of a structure, cut where that ends.
pub fn field<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    for (place, byte) in field[..N - 1].iter_mut().zip(text.as_bytes()) {
        *place = c_char::from_ne_bytes([*byte]);
    }
    field
}

/// The table of a maker whose devices work later, reduce, scale and reach their peers.
pub const fn table<M: Maker>() -> Plugin {
    Plugin {
        size: size::<Plugin>(),
        abi: ABI,
        vendor: M::VENDOR.as_ptr(),
        version: M::VERSION.as_ptr(),
        error: Some(error),
        count: Some(count::<M>),
        describe: Some(describe::<M>),
        link: None,
        open: Some(open::<M>),
        close: Some(close::<M>),
        health: Some(health::<M>),
        counters: Some(counters::<M>),
        alloc: Some(alloc::<M>),
        free: Some(free::<M>),
        query: Some(query::<M>),
        stream_open: Some(stream_open::<M>),
        stream_close: Some(stream_close::<M>),
        copy: Some(copy::<M>),
        reduce: Some(reduce::<M>),
        scale: Some(scale::<M>),
        record: Some(record::<M>),
        completed: Some(completed::<M>),
        wait: Some(wait::<M>),
        export_handle: Some(export_handle::<M>),
        import_handle: Some(import_handle::<M>),
        forget: Some(forget::<M>),
        export_dmabuf: None,
        map: None,
        unmap: None,
        flush: None,
        stream_join: None,
        hold: None,
        release: None,
    }
}

thread_local! {
    static ERROR: RefCell<CString> = RefCell::default();
}

/// Runs a call, and keeps its sentence if it fails.
pub fn answer(call: impl FnOnce() -> Result<()>) -> Status {
    match call() {
        Ok(()) => OK,
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
pub unsafe fn give_sized<T>(at: *mut T, value: &T) -> Result<()> {
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

/// The device behind a handle.
///
/// # Safety
/// It came from `open` of this maker and is not closed.
unsafe fn at<'d, M: Maker>(device: *mut crate::Device) -> &'d M::Device {
    // SAFETY: the caller's promise.
    unsafe { &*device.cast::<M::Device>() }
}

type StreamOf<M> = <<M as Maker>::Device as Device>::Stream;

/// The stream behind a handle.
///
/// # Safety
/// It came from `stream_open` of this maker and is not closed.
unsafe fn stream_at<'s, M: Maker>(stream: *mut crate::Stream) -> &'s StreamOf<M> {
    // SAFETY: the caller's promise.
    unsafe { &*stream.cast::<StreamOf<M>>() }
}

unsafe extern "C" fn count<M: Maker>(devices: *mut u32) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(devices, M::count()?) })
}

unsafe extern "C" fn describe<M: Maker>(index: u32, info: *mut Info) -> Status {
    answer(|| {
        M::check_index(index)?;
        // SAFETY: the caller's promise.
        unsafe { give_sized(info, &M::describe(index)?) }
    })
}

unsafe extern "C" fn open<M: Maker>(
    index: u32,
    _peers: *const u32,
    _count: u32,
    device: *mut *mut crate::Device,
) -> Status {
    answer(|| {
        M::check_index(index)?;
        let opened = Box::new(M::open(index)?);
        // SAFETY: the caller's promise.
        unsafe { give(device, Box::into_raw(opened).cast()) }
    })
}

unsafe extern "C" fn close<M: Maker>(device: *mut crate::Device) -> Status {
    // SAFETY: it came from `open`, and is used no more.
    drop(unsafe { Box::from_raw(device.cast::<M::Device>()) });
    OK
}

unsafe extern "C" fn health<M: Maker>(device: *mut crate::Device) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { at::<M>(device) }.health())
}

unsafe extern "C" fn counters<M: Maker>(device: *mut crate::Device, into: *mut Counters) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give_sized(into, &at::<M>(device).counters()) })
}

unsafe extern "C" fn alloc<M: Maker>(
    device: *mut crate::Device,
    bytes: u64,
    address: *mut *mut c_void,
) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(address, at::<M>(device).alloc(bytes)?) })
}

unsafe extern "C" fn free<M: Maker>(device: *mut crate::Device, address: *mut c_void) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { at::<M>(device) }.free(address.addr()))
}

unsafe extern "C" fn query<M: Maker>(
    device: *mut crate::Device,
    address: *const c_void,
    range: *mut Range,
) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give_sized(range, &at::<M>(device).query(address.addr())?) })
}

unsafe extern "C" fn stream_open<M: Maker>(
    device: *mut crate::Device,
    stream: *mut *mut crate::Stream,
) -> Status {
    answer(|| {
        // SAFETY: the caller's promise.
        let opened = Box::new(unsafe { at::<M>(device) }.stream()?);
        // SAFETY: the caller's promise.
        unsafe { give(stream, Box::into_raw(opened).cast()) }
    })
}

unsafe extern "C" fn stream_close<M: Maker>(stream: *mut crate::Stream) -> Status {
    // SAFETY: it came from `stream_open`, and is used no more.
    drop(unsafe { Box::from_raw(stream.cast::<StreamOf<M>>()) });
    OK
}

unsafe extern "C" fn copy<M: Maker>(
    stream: *mut crate::Stream,
    copies: *const Copy,
    count: u32,
) -> Status {
    answer(|| {
        let mut all = Vec::with_capacity(count as usize);
        let mut place = copies.cast::<u8>();
        for _ in 0..count {
            // SAFETY: each begins with its size, and the next lies behind it.
            let size = unsafe { place.cast::<u32>().read() } as usize;
            if size < size_of::<Copy>() {
                return Err(Failure::invalid(format!("a copy of {size} bytes is none")));
            }
            // SAFETY: it is as long as it says.
            let copy = unsafe { place.cast::<Copy>().read() };
            if copy.src_is_host != 0 && copy.dst_is_host != 0 {
                return Err(Failure::invalid("both sides of a copy are the host's"));
            }
            all.push(copy);
            // SAFETY: as above.
            place = unsafe { place.add(size) };
        }
        // SAFETY: the caller's promise.
        unsafe { stream_at::<M>(stream) }.copy(&all)
    })
}

unsafe extern "C" fn reduce<M: Maker>(stream: *mut crate::Stream, job: *const Reduce) -> Status {
    answer(|| {
        // SAFETY: the caller's promise.
        let job = unsafe { *job };
        // SAFETY: the caller says how many there are.
        let srcs = unsafe { std::slice::from_raw_parts(job.srcs, job.sources as usize) };
        // SAFETY: the caller's promise.
        unsafe { stream_at::<M>(stream) }.reduce(&job, srcs)
    })
}

unsafe extern "C" fn scale<M: Maker>(stream: *mut crate::Stream, job: *const Scale) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { stream_at::<M>(stream).scale(&*job) })
}

unsafe extern "C" fn record<M: Maker>(stream: *mut crate::Stream, event: *mut u64) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(event, stream_at::<M>(stream).record()?) })
}

unsafe extern "C" fn completed<M: Maker>(stream: *mut crate::Stream, event: *mut u64) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(event, stream_at::<M>(stream).completed()?) })
}

unsafe extern "C" fn wait<M: Maker>(
    stream: *mut crate::Stream,
    other: *mut crate::Stream,
    event: u64,
) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { stream_at::<M>(stream).wait(stream_at::<M>(other), event) })
}

unsafe extern "C" fn export_handle<M: Maker>(
    device: *mut crate::Device,
    address: *mut c_void,
    bytes: u64,
    handle: *mut Handle,
) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(handle, at::<M>(device).export(address.addr(), bytes)?) })
}

unsafe extern "C" fn import_handle<M: Maker>(
    device: *mut crate::Device,
    handle: *const Handle,
    address: *mut *mut c_void,
) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(address, at::<M>(device).import(&*handle)?) })
}

unsafe extern "C" fn forget<M: Maker>(device: *mut crate::Device, address: *mut c_void) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { at::<M>(device) }.forget(address.addr()))
}

/// The entry of [`Device::export_dmabuf`], for makers whose devices have that.
///
/// # Safety
/// As the header says of `export_dmabuf`.
pub unsafe extern "C" fn export_dmabuf<M: Maker>(
    device: *mut crate::Device,
    address: *mut c_void,
    bytes: u64,
    fd: *mut c_int,
    offset: *mut u64,
) -> Status {
    answer(|| {
        // SAFETY: the caller's promise.
        let (descriptor, at) = unsafe { at::<M>(device) }.export_dmabuf(address.addr(), bytes)?;
        // SAFETY: the caller's promise.
        unsafe { give(fd, descriptor) }?;
        // SAFETY: the caller's promise.
        unsafe { give(offset, at) }
    })
}

/// The entry of [`Device::join`], for makers whose devices have that.
///
/// # Safety
/// As the header says of `stream_join`.
pub unsafe extern "C" fn stream_join<M: Maker>(
    device: *mut crate::Device,
    native: *mut c_void,
    stream: *mut *mut crate::Stream,
) -> Status {
    answer(|| {
        // SAFETY: the caller's promise.
        let joined = Box::new(unsafe { at::<M>(device) }.join(native)?);
        // SAFETY: the caller's promise.
        unsafe { give(stream, Box::into_raw(joined).cast()) }
    })
}

/// The entry of [`Stream::hold`].
///
/// # Safety
/// As the header says of `hold`.
pub unsafe extern "C" fn hold<M: Maker>(stream: *mut crate::Stream, number: *mut u64) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { give(number, stream_at::<M>(stream).hold()?) })
}

/// The entry of [`Stream::release`].
///
/// # Safety
/// As the header says of `release`.
pub unsafe extern "C" fn release<M: Maker>(stream: *mut crate::Stream, number: u64) -> Status {
    // SAFETY: the caller's promise.
    answer(|| unsafe { stream_at::<M>(stream) }.release(number))
}
