//! The tables that NCCL looks up, and the functions in them. What differs between versions is here and in `abi`.
//!
//! How NCCL calls them: <https://github.com/NVIDIA/nccl/blob/master/src/transport/net.cc>, `src/graph/topo.cc` for what it
//! joins, `src/plugin/net.cc` for when it begins, and `src/plugin/net` for older tables.

#![expect(
    clippy::disallowed_types,
    reason = "locked when connections are made, not on the data path"
)]

use std::ffi::{c_int, c_void};
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dure::{Error, Result};
use dure_c::code;

use crate::abi::{
    Function, HANDLE, MEMBERS_V9, MEMBERS_V12, Members, PTR_CUDA, PTR_HOST, PropertiesV8,
    PropertiesV9, PropertiesV11, PropertiesV12, Table,
};
use crate::comm::{Bytes, Comm, Held, Registration, Request};
use crate::device::Device;
use crate::log::{self, Logger};
use crate::meeting::Meeting;
use crate::message::Handle;
use crate::plugin::plugin;
use crate::raw::{self, Object, give, object, take, write};
use crate::receiver::GROUP;

/// What C passes and gets where the interface has `void*`.
type Any = *mut c_void;

/// What belongs to one communicator of NCCL, from v11 on: nothing yet, but it is told apart from other things.
struct Context;

impl Object for Context {
    const MARK: u64 = u64::from_le_bytes(*b"durectxt");
    const NAME: &'static str = "what init gave";
}

/// A receiver that has no sender yet.
struct Listener(Mutex<Meeting>);

impl Object for Listener {
    const MARK: u64 = u64::from_le_bytes(*b"durelist");
    const NAME: &'static str = "what listen gave";
}

/// Runs the body of a function: no panic goes on into C, and an error becomes a line in the log and a code.
fn call(function: &str, body: impl FnOnce() -> Result<()>) -> c_int {
    match dure_c::guard(body) {
        Ok(()) => code::SUCCESS,
        Err(error) => {
            log::warn(&format!("{function}: {}", error.chain()));
            code::of(error.kind)
        }
    }
}

/// Contexts that are not finalized.
static CONTEXTS: AtomicUsize = AtomicUsize::new(0);

fn init() -> Result<()> {
    let plugin = plugin()?;
    if plugin.count() == 0 {
        return Err(Error::system("this host has no network interface"));
    }
    log::info(&plugin.describe());
    Ok(())
}

/// Until v10, NCCL calls it once after it has loaded the plug-in.
extern "C" fn init_v8(log: Option<Logger>) -> c_int {
    log::set(log);
    call("init", || {
        plugin()?.begin_anew();
        init()
    })
}

extern "C" fn init_v10(log: Option<Logger>, _profiler: Any) -> c_int {
    init_v8(log)
}

/// From v11 on, once for each communicator.
extern "C" fn init_v11(
    context: *mut Any,
    _comm: u64,
    _config: Any,
    log: Option<Logger>,
    _profiler: Any,
) -> c_int {
    log::set(log);
    call("init", || {
        write(context, ptr::null_mut(), "ctx")?;
        if CONTEXTS.load(Ordering::Acquire) == 0 {
            plugin()?.begin_anew();
        }
        init()?;
        CONTEXTS.fetch_add(1, Ordering::AcqRel);
        write(context, give(Context), "ctx")
    })
}

extern "C" fn finalize(context: Any) -> c_int {
    call("finalize", || {
        take::<Context>(context, "ctx")?;
        CONTEXTS.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    })
}

extern "C" fn devices(count: *mut c_int) -> c_int {
    call("devices", || write(count, plugin()?.count(), "ndev"))
}

fn properties<P>(number: c_int, to: *mut P, read: impl FnOnce(&Device) -> P) -> c_int {
    call("getProperties", || write(to, read(plugin()?.device(number)?), "props"))
}

extern "C" fn properties_v8(number: c_int, to: *mut PropertiesV8) -> c_int {
    properties(number, to, Device::v8)
}

extern "C" fn properties_v9(number: c_int, to: *mut PropertiesV9) -> c_int {
    properties(number, to, Device::v9)
}

extern "C" fn properties_v11(number: c_int, to: *mut PropertiesV11) -> c_int {
    properties(number, to, Device::v11)
}

extern "C" fn properties_v12(number: c_int, to: *mut PropertiesV12) -> c_int {
    properties(number, to, Device::v12)
}

fn make_device<const N: usize>(number: *mut c_int, of: *const Members<N>) -> c_int {
    call("makeVDevice", || {
        let Members { count, devices } = raw::element(of, 0, "props")?;
        let count = usize::try_from(count).ok().filter(|count| (1..=N).contains(count));
        let Some(count) = count else {
            return Err(Error::invalid_argument(format!("props: ndevs (allowed: 1 to {N})")));
        };
        write(number, -1, "d")?;
        write(number, plugin()?.join(&devices[..count])?, "d")
    })
}

extern "C" fn make_device_v9(number: *mut c_int, of: *const Members<MEMBERS_V9>) -> c_int {
    make_device(number, of)
}

extern "C" fn make_device_v12(number: *mut c_int, of: *const Members<MEMBERS_V12>) -> c_int {
    make_device(number, of)
}

fn listen(number: c_int, handle: Any, listener: *mut Any) -> Result<()> {
    write(listener, ptr::null_mut(), "listenComm")?;
    let handle = raw::bytes::<HANDLE>(handle, "handle")?;
    let plugin = plugin()?;
    let (meeting, ours) = Meeting::listen(plugin, plugin.device(number)?)?;
    write(handle, ours.encode(), "handle")?;
    write(listener, give(Listener(Mutex::new(meeting))), "listenComm")
}

extern "C" fn listen_v8(number: c_int, handle: Any, listener: *mut Any) -> c_int {
    call("listen", || listen(number, handle, listener))
}

extern "C" fn listen_v11(context: Any, number: c_int, handle: Any, listener: *mut Any) -> c_int {
    call("listen", || {
        object::<Context>(context, "ctx")?;
        listen(number, handle, listener)
    })
}

fn connect(number: c_int, handle: Any, comm: *mut Any) -> Result<()> {
    write(comm, ptr::null_mut(), "sendComm")?;
    let handle = raw::element(raw::bytes::<HANDLE>(handle, "handle")?, 0, "handle")?;
    let wrong =
        || Error::invalid_argument("handle: not what listen of this plug-in and version gave");
    let handle = Handle::decode(&handle).ok_or_else(wrong)?;
    let plugin = plugin()?;
    let device = plugin.device(number)?;
    let mut meeting = match plugin.take_dialling(&handle.key) {
        Some(meeting) => meeting,
        None => Meeting::dial(plugin, device, &handle)?,
    };
    match meeting.step()? {
        None => plugin.keep_dialling(handle.key, meeting),
        Some(met) => write(comm, give(Held(opened(Comm::new(met)))), "sendComm")?,
    }
    Ok(())
}

/// A connection that has come up, which the log says.
fn opened(comm: Arc<Comm>) -> Arc<Comm> {
    log::info(&comm.about());
    comm
}

extern "C" fn connect_v8(number: c_int, handle: Any, comm: *mut Any, _device_comm: Any) -> c_int {
    call("connect", || connect(number, handle, comm))
}

extern "C" fn connect_v10(
    number: c_int,
    _config: Any,
    handle: Any,
    comm: *mut Any,
    _device_comm: Any,
) -> c_int {
    call("connect", || connect(number, handle, comm))
}

extern "C" fn connect_v11(
    context: Any,
    number: c_int,
    handle: Any,
    comm: *mut Any,
    _device_comm: Any,
) -> c_int {
    call("connect", || {
        object::<Context>(context, "ctx")?;
        connect(number, handle, comm)
    })
}

extern "C" fn accept(listener: Any, comm: *mut Any, _device_comm: Any) -> c_int {
    call("accept", || {
        write(comm, ptr::null_mut(), "recvComm")?;
        let Listener(meeting) = object(listener, "listenComm")?;
        let mut meeting = meeting.lock().unwrap_or_else(PoisonError::into_inner);
        match meeting.step()? {
            None => Ok(()),
            Some(met) => write(comm, give(Held(opened(Comm::new(met)))), "recvComm"),
        }
    })
}

/// Memory of the caller: where it begins, and how long it is.
fn memory(data: Any, size: usize) -> Result<(NonNull<u8>, usize)> {
    let at = NonNull::new(data.cast()).ok_or_else(|| Error::invalid_argument("data: null"))?;
    let fits = size > 0 && at.addr().get().checked_add(size).is_some();
    let wrong = || Error::invalid_argument(format!("size: {size} bytes (allowed: 1 or more)"));
    fits.then_some((at, size)).ok_or_else(wrong)
}

extern "C" fn register(comm: Any, data: Any, size: usize, kind: c_int, to: *mut Any) -> c_int {
    call("regMr", || {
        write(to, ptr::null_mut(), "mhandle")?;
        let Held(comm) = object(comm, "comm")?;
        let (at, len) = memory(data, size)?;
        let registration = match kind {
            // SAFETY: so NCCL uses registered memory.
            PTR_HOST => unsafe { comm.register(at, len) },
            PTR_CUDA => {
                let what = "type: memory of a GPU is registered by its dma-buf (regMrDmaBuf), not by its address";
                Err(Error::invalid_usage(what))
            }
            _ => Err(unknown_kind(kind)),
        };
        write(to, give(registration?), "mhandle")
    })
}

fn unknown_kind(kind: c_int) -> Error {
    Error::invalid_argument(format!(
        "type: {kind} (allowed: {PTR_HOST} for host, {PTR_CUDA} for GPU)"
    ))
}

extern "C" fn register_dma_buf(
    comm: Any,
    data: Any,
    size: usize,
    kind: c_int,
    offset: u64,
    fd: RawFd,
    to: *mut Any,
) -> c_int {
    call("regMrDmaBuf", || {
        write(to, ptr::null_mut(), "mhandle")?;
        let Held(comm) = object(comm, "comm")?;
        let memory = memory(data, size)?;
        if ![PTR_HOST, PTR_CUDA].contains(&kind) {
            return Err(unknown_kind(kind));
        }
        if fd < 0 {
            return Err(Error::invalid_argument(format!("fd: {fd} is no descriptor")));
        }
        // SAFETY: NCCL closes it after this call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        // SAFETY: as in `register`.
        let registration = unsafe { comm.register_gpu(memory, (fd, offset)) };
        write(to, give(registration?), "mhandle")
    })
}

extern "C" fn deregister(comm: Any, registration: Any) -> c_int {
    call("deregMr", || {
        let Held(comm) = object(comm, "comm")?;
        comm.check(object(registration, "mhandle")?)?;
        comm.deregister(&take::<Registration>(registration, "mhandle")?);
        Ok(())
    })
}

/// Bytes of a message. Without any, no memory is needed.
fn bytes<'a>(data: Any, len: usize, registration: Any) -> Result<Bytes<'a>> {
    let memory = if len == 0 { None } else { Some(object(registration, "mhandle")?) };
    Ok(Bytes { at: data.addr(), len, memory })
}

/// A size of older versions.
fn size(size: c_int) -> Result<usize> {
    usize::try_from(size).map_err(|_| Error::invalid_argument(format!("size: {size} bytes")))
}

fn send(
    comm: Any,
    (data, len): (Any, usize),
    tag: c_int,
    registration: Any,
    request: *mut Any,
) -> Result<()> {
    write(request, ptr::null_mut(), "request")?;
    let Held(comm) = object(comm, "sendComm")?;
    let place = comm.send(bytes(data, len, registration)?, tag)?;
    write(request, place.map_or(ptr::null_mut(), raw::Marked::pointer), "request")
}

extern "C" fn send_v8(
    comm: Any,
    data: Any,
    len: c_int,
    tag: c_int,
    memory: Any,
    request: *mut Any,
) -> c_int {
    call("isend", || send(comm, (data, size(len)?), tag, memory, request))
}

extern "C" fn send_v9(
    comm: Any,
    data: Any,
    len: usize,
    tag: c_int,
    memory: Any,
    request: *mut Any,
) -> c_int {
    call("isend", || send(comm, (data, len), tag, memory, request))
}

extern "C" fn send_v10(
    comm: Any,
    data: Any,
    len: usize,
    tag: c_int,
    memory: Any,
    _profile: Any,
    request: *mut Any,
) -> c_int {
    send_v9(comm, data, len, tag, memory, request)
}

/// How many receives there are.
fn group(count: c_int) -> Result<usize> {
    let group = usize::try_from(count).ok().filter(|count| (1..=GROUP).contains(count));
    group.ok_or_else(|| {
        Error::invalid_argument(format!("n: {count} receives (allowed: 1 to {GROUP}, maxRecvs)"))
    })
}

fn receive(
    comm: Any,
    count: c_int,
    part: impl Fn(usize) -> Result<(Any, usize)>,
    (tags, memories): (*const c_int, *const Any),
    request: *mut Any,
) -> Result<()> {
    write(request, ptr::null_mut(), "request")?;
    let Held(comm) = object(comm, "recvComm")?;
    let mut parts = Vec::with_capacity(GROUP);
    for at in 0..group(count)? {
        let (data, len) = part(at)?;
        let memory = raw::element(memories, at, "mhandles")?;
        parts.push((bytes(data, len, memory)?, raw::element(tags, at, "tags")?));
    }
    let place = comm.receive(&parts)?;
    write(request, place.map_or(ptr::null_mut(), raw::Marked::pointer), "request")
}

extern "C" fn receive_v8(
    comm: Any,
    count: c_int,
    data: *const Any,
    sizes: *const c_int,
    tags: *const c_int,
    memories: *const Any,
    request: *mut Any,
) -> c_int {
    let part = |at| Ok((raw::element(data, at, "data")?, size(raw::element(sizes, at, "sizes")?)?));
    call("irecv", || receive(comm, count, part, (tags, memories), request))
}

extern "C" fn receive_v9(
    comm: Any,
    count: c_int,
    data: *const Any,
    sizes: *const usize,
    tags: *const c_int,
    memories: *const Any,
    request: *mut Any,
) -> c_int {
    let part = |at| Ok((raw::element(data, at, "data")?, raw::element(sizes, at, "sizes")?));
    call("irecv", || receive(comm, count, part, (tags, memories), request))
}

extern "C" fn receive_v10(
    comm: Any,
    count: c_int,
    data: *const Any,
    sizes: *const usize,
    tags: *const c_int,
    memories: *const Any,
    _profiles: *const Any,
    request: *mut Any,
) -> c_int {
    receive_v9(comm, count, data, sizes, tags, memories, request)
}

extern "C" fn flush(
    comm: Any,
    count: c_int,
    data: *const Any,
    sizes: *const c_int,
    memories: *const Any,
    request: *mut Any,
) -> c_int {
    call("iflush", || {
        write(request, ptr::null_mut(), "request")?;
        let Held(comm) = object(comm, "recvComm")?;
        let mut parts = Vec::with_capacity(GROUP);
        for at in 0..group(count)? {
            let len = size(raw::element(sizes, at, "sizes")?)?;
            let memory = raw::element(memories, at, "mhandles")?;
            parts.push(bytes(raw::element(data, at, "data")?, len, memory)?);
        }
        let place = comm.flush(&parts)?;
        write(request, place.map_or(ptr::null_mut(), raw::Marked::pointer), "request")
    })
}

extern "C" fn test(request: Any, done: *mut c_int, sizes: *mut c_int) -> c_int {
    call("test", || {
        write(done, 0, "done")?;
        let Some(moved) = object::<Request>(request, "request")?.test()? else { return Ok(()) };
        for (at, len) in moved.of[..moved.count].iter().enumerate() {
            raw::write_element(sizes, at, c_int::try_from(*len).unwrap_or(c_int::MAX));
        }
        write(done, 1, "done")
    })
}

extern "C" fn close_send(comm: Any) -> c_int {
    call("closeSend", || take::<Held>(comm, "sendComm").map(drop))
}

extern "C" fn close_receive(comm: Any) -> c_int {
    call("closeRecv", || take::<Held>(comm, "recvComm").map(drop))
}

extern "C" fn close_listen(listener: Any) -> c_int {
    call("closeListen", || take::<Listener>(listener, "listenComm").map(drop))
}

/// A function that this plug-in does not have, as NCCL's own do not: getDeviceMr, irecvConsumed, setNetAttr.
const NONE: Function = Function(ptr::null());

/// A table of functions, in NCCL's order.
macro_rules! table {
    ($($function:expr),+ $(,)?) => {
        Table { name: c"Dure".as_ptr(), functions: [$($function),+] }
    };
}

/// A function in a table.
macro_rules! f {
    ($function:ident) => {
        Function($function as *const ())
    };
}

// SAFETY: a table is only read, and what it names is code and constants.
unsafe impl<const N: usize> Sync for Table<N> {}

// SAFETY: the name is NCCL's, and nothing else in a program has it.
#[unsafe(export_name = "ncclNetPlugin_v8")]
static V8: Table<18> = table![
    f!(init_v8),
    f!(devices),
    f!(properties_v8),
    f!(listen_v8),
    f!(connect_v8),
    f!(accept),
    f!(register),
    f!(register_dma_buf),
    f!(deregister),
    f!(send_v8),
    f!(receive_v8),
    f!(flush),
    f!(test),
    f!(close_send),
    f!(close_receive),
    f!(close_listen),
    NONE,
    NONE,
];

// SAFETY: as above.
#[unsafe(export_name = "ncclNetPlugin_v9")]
static V9: Table<19> = table![
    f!(init_v8),
    f!(devices),
    f!(properties_v9),
    f!(listen_v8),
    f!(connect_v8),
    f!(accept),
    f!(register),
    f!(register_dma_buf),
    f!(deregister),
    f!(send_v9),
    f!(receive_v9),
    f!(flush),
    f!(test),
    f!(close_send),
    f!(close_receive),
    f!(close_listen),
    NONE,
    NONE,
    f!(make_device_v9),
];

// SAFETY: as above.
#[unsafe(export_name = "ncclNetPlugin_v10")]
static V10: Table<19> = table![
    f!(init_v10),
    f!(devices),
    f!(properties_v9),
    f!(listen_v8),
    f!(connect_v10),
    f!(accept),
    f!(register),
    f!(register_dma_buf),
    f!(deregister),
    f!(send_v10),
    f!(receive_v10),
    f!(flush),
    f!(test),
    f!(close_send),
    f!(close_receive),
    f!(close_listen),
    NONE,
    NONE,
    f!(make_device_v9),
];

// SAFETY: as above.
#[unsafe(export_name = "ncclNetPlugin_v11")]
static V11: Table<21> = table![
    f!(init_v11),
    f!(devices),
    f!(properties_v11),
    f!(listen_v11),
    f!(connect_v11),
    f!(accept),
    f!(register),
    f!(register_dma_buf),
    f!(deregister),
    f!(send_v10),
    f!(receive_v10),
    f!(flush),
    f!(test),
    f!(close_send),
    f!(close_receive),
    f!(close_listen),
    NONE,
    NONE,
    f!(make_device_v9),
    f!(finalize),
    NONE,
];

// SAFETY: as above.
#[unsafe(export_name = "ncclNetPlugin_v12")]
static V12: Table<21> = table![
    f!(init_v11),
    f!(devices),
    f!(properties_v12),
    f!(listen_v11),
    f!(connect_v11),
    f!(accept),
    f!(register),
    f!(register_dma_buf),
    f!(deregister),
    f!(send_v10),
    f!(receive_v10),
    f!(flush),
    f!(test),
    f!(close_send),
    f!(close_receive),
    f!(close_listen),
    NONE,
    NONE,
    f!(make_device_v12),
    f!(finalize),
    NONE,
];
