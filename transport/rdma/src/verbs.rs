//! The verbs: entry points of libibverbs, opened at run time, and its objects as handles that free themselves.
//!
//! No logic is here. Each method is one call, and says which verb failed. An object keeps those that it was made from.
//! Post and poll go through pointers that libibverbs put into its objects, so that they cost no look-up.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rdma_sys::{
    ibv_comp_channel, ibv_context, ibv_cq, ibv_device, ibv_device_attr, ibv_mr, ibv_pd,
    ibv_poll_cq, ibv_port_attr, ibv_post_send, ibv_post_srq_recv, ibv_qp, ibv_qp_attr,
    ibv_qp_init_attr, ibv_recv_wr, ibv_req_notify_cq, ibv_send_wr, ibv_srq, ibv_srq_init_attr,
    ibv_wc,
};

use crate::error::{Error, Result};

const LIBRARY: &str = "libibverbs.so.1";

macro_rules! table {
    ($( fn $name:ident($($argument:ty),*) $(-> $result:ty)?; )+) => {
        /// The entry points that are used.
        pub(crate) struct Verbs {
            $( pub(crate) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?, )+
            /// Since rdma-core 34; without it, memory of devices is refused.
            pub(crate) ibv_reg_dmabuf_mr: Option<RegisterDmaBuf>,
        }

        impl Verbs {
            fn open() -> std::result::Result<Self, String> {
                // SAFETY: libibverbs has no constructor that could break anything; it is meant to be opened.
                let library = unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_LOCAL) };
                let library = library.map_err(|error| error.to_string())?;
                $(
                    // SAFETY: the type is that of the header.
                    let found = unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) };
                    let $name = *found.map_err(|error| error.to_string())?;
                )+
                // SAFETY: as above.
                let found = unsafe { library.get(b"ibv_reg_dmabuf_mr\0") };
                let ibv_reg_dmabuf_mr = found.ok().map(|symbol| *symbol);
                // The pointers stay valid: it is never closed.
                std::mem::forget(library);
                Ok(Self { $( $name, )+ ibv_reg_dmabuf_mr })
            }
        }
    };
}

/// `ibv_reg_dmabuf_mr`.
pub(crate) type RegisterDmaBuf =
    unsafe extern "C" fn(*mut ibv_pd, u64, usize, u64, c_int, c_int) -> *mut ibv_mr;

table! {
    fn ibv_fork_init() -> c_int;
    fn ibv_get_device_list(*mut c_int) -> *mut *mut ibv_device;
    fn ibv_free_device_list(*mut *mut ibv_device);
    fn ibv_get_device_name(*mut ibv_device) -> *const c_char;
    fn ibv_open_device(*mut ibv_device) -> *mut ibv_context;
    fn ibv_close_device(*mut ibv_context) -> c_int;
    fn ibv_query_device(*mut ibv_context, *mut ibv_device_attr) -> c_int;
    fn ibv_query_port(*mut ibv_context, u8, *mut ibv_port_attr) -> c_int;
    fn _ibv_query_gid_ex(*mut ibv_context, u32, u32, *mut GidEntry, u32, usize) -> c_int;
    fn ibv_alloc_pd(*mut ibv_context) -> *mut ibv_pd;
    fn ibv_dealloc_pd(*mut ibv_pd) -> c_int;
    fn ibv_reg_mr(*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr;
    fn ibv_dereg_mr(*mut ibv_mr) -> c_int;
    fn ibv_create_comp_channel(*mut ibv_context) -> *mut ibv_comp_channel;
    fn ibv_destroy_comp_channel(*mut ibv_comp_channel) -> c_int;
    fn ibv_create_cq(*mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int) -> *mut ibv_cq;
    fn ibv_destroy_cq(*mut ibv_cq) -> c_int;
    fn ibv_get_cq_event(*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int;
    fn ibv_ack_cq_events(*mut ibv_cq, c_uint);
    fn ibv_create_srq(*mut ibv_pd, *mut ibv_srq_init_attr) -> *mut ibv_srq;
    fn ibv_destroy_srq(*mut ibv_srq) -> c_int;
    fn ibv_create_qp(*mut ibv_pd, *mut ibv_qp_init_attr) -> *mut ibv_qp;
    fn ibv_modify_qp(*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int;
    fn ibv_destroy_qp(*mut ibv_qp) -> c_int;
    fn ibv_get_async_event(*mut ibv_context, *mut AsyncEvent) -> c_int;
    fn ibv_ack_async_event(*mut AsyncEvent);
}

/// `struct ibv_gid_entry` of the header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GidEntry {
    pub(crate) gid: [u64; 2],
    pub(crate) gid_index: u32,
    pub(crate) port_num: u32,
    pub(crate) gid_type: u32,
    pub(crate) ndev_ifindex: u32,
}

/// `struct ibv_async_event` of the header, with the kind as a number: an event that this program does not know is no
/// value of an enum.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsyncEvent {
    /// A pointer or a port number, by kind.
    pub(crate) element: *mut c_void,
    pub(crate) kind: c_uint,
}

impl std::fmt::Debug for Verbs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(LIBRARY)
    }
}

/// The library, opened once per process; with what `ibv_fork_init` said.
pub(crate) fn load() -> Result<&'static Verbs> {
    static VERBS: OnceLock<std::result::Result<Verbs, String>> = OnceLock::new();
    let opened = VERBS.get_or_init(|| {
        let verbs = Verbs::open()?;
        // Memory that is registered stays this process's when it forks. Kernels from 5.12 see to that, and then it does
        // nothing (man ibv_fork_init, ibv_is_fork_initialized).
        // SAFETY: called before anything is registered here.
        let errno = unsafe { (verbs.ibv_fork_init)() };
        if errno != 0 {
            let error = io::Error::from_raw_os_error(errno);
            tracing::warn!(target: "dure::net", %error, "ibv_fork_init: a fork may break RDMA");
        }
        Ok(verbs)
    });
    opened.as_ref().map_err(|why| Error::Library { why: why.clone() })
}

/// What a verb that returns 0 or an error number said.
fn zero(call: &'static str, on: &str, errno: c_int) -> Result<()> {
    match errno {
        0 => Ok(()),
        // Some return -1 and set errno.
        -1 => Err(Error::call(call, on, io::Error::last_os_error())),
        errno => Err(Error::call(call, on, io::Error::from_raw_os_error(errno.abs()))),
    }
}

/// What a verb that returns an object said.
fn object<T>(call: &'static str, on: &str, made: *mut T) -> Result<NonNull<T>> {
    NonNull::new(made).ok_or_else(|| Error::call(call, on, io::Error::last_os_error()))
}

/// An opened device.
#[derive(Debug)]
pub(crate) struct Context {
    verbs: &'static Verbs,
    raw: NonNull<ibv_context>,
    name: String,
}

// SAFETY: libibverbs allows any thread to use its objects; each is used by one at a time here.
unsafe impl Send for Context {}
// SAFETY: as above; what takes `&self` is a verb that is safe to call from several threads.
unsafe impl Sync for Context {}

impl Context {
    /// Opens the devices that `wanted` names. A device that cannot be opened is an error in its place.
    pub(crate) fn open_all(
        verbs: &'static Verbs,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> Result<Vec<(String, Result<Arc<Self>>)>> {
        let mut count = 0;
        // SAFETY: the count is ours to be written.
        let list = unsafe { (verbs.ibv_get_device_list)(&mut count) };
        let list = object("ibv_get_device_list", "this host", list)?;
        let mut opened = Vec::new();
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: the list has `count` entries.
            let entry = unsafe { list.add(index) };
            // SAFETY: as above.
            let device = unsafe { entry.read() };
            // SAFETY: the device is of the list, which is freed below.
            let name = unsafe { (verbs.ibv_get_device_name)(device) };
            // SAFETY: a name is a string that lives as long as its device.
            let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
            if !wanted(&name) {
                continue;
            }
            // SAFETY: the device is of the list.
            let raw = unsafe { (verbs.ibv_open_device)(device) };
            let context = object("ibv_open_device", &name, raw);
            let context = context.map(|raw| Arc::new(Self { verbs, raw, name: name.clone() }));
            opened.push((name, context));
        }
        // SAFETY: opened devices hold what they need of it.
        unsafe { (verbs.ibv_free_device_list)(list.as_ptr()) };
        Ok(opened)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn device(&self) -> Result<ibv_device_attr> {
        // SAFETY: a struct of numbers, for which zero is a value.
        let mut attr = unsafe { std::mem::zeroed() };
        // SAFETY: the context is open, and the struct is the header's.
        let errno = unsafe { (self.verbs.ibv_query_device)(self.raw.as_ptr(), &mut attr) };
        zero("ibv_query_device", &self.name, errno).map(|()| attr)
    }

    /// The exported verb fills the older, shorter struct: what is behind stays zero.
    pub(crate) fn port(&self, number: u8) -> Result<ibv_port_attr> {
        // SAFETY: a struct of numbers, for which zero is a value.
        let mut attr = unsafe { std::mem::zeroed() };
        // SAFETY: as in `device`.
        let errno = unsafe { (self.verbs.ibv_query_port)(self.raw.as_ptr(), number, &mut attr) };
        zero("ibv_query_port", &format!("{} port {number}", self.name), errno).map(|()| attr)
    }

    /// An entry of a port's table of GIDs; `None` where it is empty.
    pub(crate) fn gid(&self, port: u8, index: u32) -> Option<GidEntry> {
        let mut entry = GidEntry::default();
        let query = self.verbs._ibv_query_gid_ex;
        let size = size_of::<GidEntry>();
        // SAFETY: the context is open, and the struct is the header's, whose size is told.
        let errno = unsafe { query(self.raw.as_ptr(), port.into(), index, &mut entry, 0, size) };
        (errno == 0 && entry.gid != [0, 0]).then_some(entry)
    }

    /// The descriptor on which events of the device arrive.
    pub(crate) fn async_fd(&self) -> RawFd {
        // SAFETY: the context is open.
        unsafe { self.raw.as_ref() }.async_fd
    }

    /// The next event of the device, given back at once; `None` when there is none. The descriptor does not block.
    pub(crate) fn async_event(&self) -> Option<AsyncEvent> {
        let mut event = AsyncEvent { element: ptr::null_mut(), kind: 0 };
        // SAFETY: the context is open, and the struct has the header's layout.
        if unsafe { (self.verbs.ibv_get_async_event)(self.raw.as_ptr(), &mut event) } != 0 {
            return None;
        }
        // SAFETY: the event is the one that was got.
        unsafe { (self.verbs.ibv_ack_async_event)(&mut event) };
        Some(event)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: all that was made from it held it, and is gone.
        unsafe { (self.verbs.ibv_close_device)(self.raw.as_ptr()) };
    }
}

/// A protection domain.
#[derive(Debug)]
pub(crate) struct Pd {
    context: Arc<Context>,
    raw: NonNull<ibv_pd>,
}

// SAFETY: as for `Context`.
unsafe impl Send for Pd {}
// SAFETY: as for `Context`.
unsafe impl Sync for Pd {}

impl Pd {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Arc<Self>> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.verbs.ibv_alloc_pd)(context.raw.as_ptr()) };
        let raw = object("ibv_alloc_pd", &context.name, raw)?;
        Ok(Arc::new(Self { context: Arc::clone(context), raw }))
    }
}

impl Drop for Pd {
    fn drop(&mut self) {
        // SAFETY: as for `Context`.
        unsafe { (self.context.verbs.ibv_dealloc_pd)(self.raw.as_ptr()) };
    }
}

/// Registered memory.
#[derive(Debug)]
pub(crate) struct Mr {
    pd: Arc<Pd>,
    raw: NonNull<ibv_mr>,
}

// SAFETY: as for `Context`.
unsafe impl Send for Mr {}
// SAFETY: as for `Context`; it is only read until it is dropped.
unsafe impl Sync for Mr {}

impl Mr {
    /// Registers host memory.
    ///
    /// # Safety
    /// It stays mapped until this is dropped.
    pub(crate) unsafe fn new(pd: &Arc<Pd>, at: *mut u8, len: usize, access: c_int) -> Result<Self> {
        // SAFETY: the caller's promise.
        let raw = unsafe { (pd.context.verbs.ibv_reg_mr)(pd.raw.as_ptr(), at.cast(), len, access) };
        let on = || format!("{len} B on {}", pd.context.name);
        let raw = object("ibv_reg_mr", &on(), raw)?;
        Ok(Self { pd: Arc::clone(pd), raw })
    }

    /// Registers `len` bytes of a dma-buf from `offset`, which peers and work requests know by the address `iova`.
    pub(crate) fn of_dma_buf(
        pd: &Arc<Pd>,
        (fd, offset): (RawFd, u64),
        (iova, len): (u64, usize),
        access: c_int,
    ) -> Result<Self> {
        const CALL: &str = "ibv_reg_dmabuf_mr";
        let on = format!("{len} B on {}", pd.context.name);
        let unsupported = || io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        let register = pd.context.verbs.ibv_reg_dmabuf_mr;
        let register = register.ok_or_else(|| Error::call(CALL, &on, unsupported()))?;
        // SAFETY: the kernel holds the buffer behind the descriptor, and checks the rest.
        let raw = unsafe { register(pd.raw.as_ptr(), offset, len, iova, fd, access) };
        let raw = object(CALL, &on, raw)?;
        Ok(Self { pd: Arc::clone(pd), raw })
    }

    pub(crate) fn lkey(&self) -> u32 {
        // SAFETY: it is registered as long as this is there.
        unsafe { self.raw.as_ref() }.lkey
    }

    pub(crate) fn rkey(&self) -> u32 {
        // SAFETY: as above.
        unsafe { self.raw.as_ref() }.rkey
    }
}

impl Drop for Mr {
    fn drop(&mut self) {
        // SAFETY: nothing names it any more. When this returns, the device touches the memory no more.
        unsafe { (self.pd.context.verbs.ibv_dereg_mr)(self.raw.as_ptr()) };
    }
}

/// A completion queue and the channel on which it rings.
#[derive(Debug)]
pub(crate) struct Cq {
    context: Arc<Context>,
    channel: NonNull<ibv_comp_channel>,
    raw: NonNull<ibv_cq>,
}

// SAFETY: as for `Context`.
unsafe impl Send for Cq {}
// SAFETY: as for `Context`.
unsafe impl Sync for Cq {}

impl Cq {
    pub(crate) fn new(context: &Arc<Context>, entries: c_int) -> Result<Arc<Self>> {
        let verbs = context.verbs;
        // SAFETY: the context is open.
        let channel = unsafe { (verbs.ibv_create_comp_channel)(context.raw.as_ptr()) };
        let channel = object("ibv_create_comp_channel", &context.name, channel)?;
        let create = verbs.ibv_create_cq;
        // SAFETY: context and channel are open; vector 0 is there on every device.
        let raw =
            unsafe { create(context.raw.as_ptr(), entries, ptr::null_mut(), channel.as_ptr(), 0) };
        let raw = object("ibv_create_cq", &format!("{entries} on {}", context.name), raw);
        if raw.is_err() {
            // SAFETY: nothing uses the channel.
            unsafe { (verbs.ibv_destroy_comp_channel)(channel.as_ptr()) };
        }
        Ok(Arc::new(Self { context: Arc::clone(context), channel, raw: raw? }))
    }

    /// The descriptor that rings.
    pub(crate) fn fd(&self) -> RawFd {
        // SAFETY: the channel is open.
        unsafe { self.channel.as_ref() }.fd
    }

    /// Fills `into` from its start with completions, and returns how many there are.
    #[inline]
    pub(crate) fn poll(&self, into: &mut [ibv_wc]) -> Result<usize> {
        let most = i32::try_from(into.len()).unwrap_or(i32::MAX);
        // SAFETY: the queue is there, and the slice has so much room.
        let count = unsafe { ibv_poll_cq(self.raw.as_ptr(), most, into.as_mut_ptr()) };
        usize::try_from(count).map_err(|_| {
            Error::call("ibv_poll_cq", self.context.name(), io::Error::other(format!("{count}")))
        })
    }

    /// Has the next completion ring.
    pub(crate) fn notify(&self) -> Result<()> {
        // SAFETY: the queue is there.
        let errno = unsafe { ibv_req_notify_cq(self.raw.as_ptr(), 0) };
        zero("ibv_req_notify_cq", &self.context.name, errno)
    }

    /// Takes one ring from the descriptor, which does not block; false when there is none.
    pub(crate) fn take_ring(&self) -> bool {
        let (mut cq, mut data) = (ptr::null_mut(), ptr::null_mut());
        let get = self.context.verbs.ibv_get_cq_event;
        // SAFETY: the channel is open.
        if unsafe { get(self.channel.as_ptr(), &mut cq, &mut data) } != 0 {
            return false;
        }
        // SAFETY: one event of this queue, the only one of its channel, was got.
        unsafe { (self.context.verbs.ibv_ack_cq_events)(self.raw.as_ptr(), 1) };
        true
    }
}

impl Drop for Cq {
    fn drop(&mut self) {
        // SAFETY: the queue pairs that use it held it, and are gone; all events are acknowledged.
        unsafe { (self.context.verbs.ibv_destroy_cq)(self.raw.as_ptr()) };
        // SAFETY: its only queue is gone.
        unsafe { (self.context.verbs.ibv_destroy_comp_channel)(self.channel.as_ptr()) };
    }
}

/// A shared receive queue.
#[derive(Debug)]
pub(crate) struct Srq {
    pd: Arc<Pd>,
    raw: NonNull<ibv_srq>,
}

// SAFETY: as for `Context`.
unsafe impl Send for Srq {}
// SAFETY: as for `Context`.
unsafe impl Sync for Srq {}

impl Srq {
    pub(crate) fn new(pd: &Arc<Pd>, attr: &mut ibv_srq_init_attr) -> Result<Arc<Self>> {
        // SAFETY: the domain is there, and the struct is the header's.
        let raw = unsafe { (pd.context.verbs.ibv_create_srq)(pd.raw.as_ptr(), attr) };
        let raw = object("ibv_create_srq", &pd.context.name, raw)?;
        Ok(Arc::new(Self { pd: Arc::clone(pd), raw }))
    }

    /// Posts a chain of receives.
    ///
    /// # Safety
    /// The chain ends, and what it names stays until it is received.
    pub(crate) unsafe fn post(&self, first: *mut ibv_recv_wr) -> Result<()> {
        let mut bad = ptr::null_mut();
        // SAFETY: the caller's promise.
        let errno = unsafe { ibv_post_srq_recv(self.raw.as_ptr(), first, &mut bad) };
        zero("ibv_post_srq_recv", &self.pd.context.name, errno)
    }
}

impl Drop for Srq {
    fn drop(&mut self) {
        // SAFETY: the queue pairs that use it held it, and are gone.
        unsafe { (self.pd.context.verbs.ibv_destroy_srq)(self.raw.as_ptr()) };
    }
}

/// A queue pair.
#[derive(Debug)]
pub(crate) struct Qp {
    pd: Arc<Pd>,
    /// What it reports to and receives from.
    _uses: (Arc<Cq>, Arc<Srq>),
    raw: NonNull<ibv_qp>,
}

// SAFETY: as for `Context`.
unsafe impl Send for Qp {}

impl Qp {
    /// Makes one that reports to `cq` and receives from `srq`. `attr` holds what was granted afterwards.
    pub(crate) fn new(
        pd: &Arc<Pd>,
        cq: &Arc<Cq>,
        srq: &Arc<Srq>,
        attr: &mut ibv_qp_init_attr,
    ) -> Result<Self> {
        attr.send_cq = cq.raw.as_ptr();
        attr.recv_cq = cq.raw.as_ptr();
        attr.srq = srq.raw.as_ptr();
        // SAFETY: all that the struct names is there.
        let raw = unsafe { (pd.context.verbs.ibv_create_qp)(pd.raw.as_ptr(), attr) };
        let raw = object("ibv_create_qp", &pd.context.name, raw)?;
        Ok(Self { pd: Arc::clone(pd), _uses: (Arc::clone(cq), Arc::clone(srq)), raw })
    }

    pub(crate) fn number(&self) -> u32 {
        // SAFETY: it is there.
        unsafe { self.raw.as_ref() }.qp_num
    }

    /// The address by which events of the device name it.
    pub(crate) fn is(&self, element: *mut c_void) -> bool {
        self.raw.as_ptr().cast() == element
    }

    /// The error number is the cause's: `zero` would say no more.
    pub(crate) fn modify(&self, attr: &mut ibv_qp_attr, mask: c_int) -> io::Result<()> {
        // SAFETY: it is there, and the struct is the header's.
        match unsafe { (self.pd.context.verbs.ibv_modify_qp)(self.raw.as_ptr(), attr, mask) } {
            0 => Ok(()),
            -1 => Err(io::Error::last_os_error()),
            errno => Err(io::Error::from_raw_os_error(errno.abs())),
        }
    }

    /// Posts a chain of sends.
    ///
    /// # Safety
    /// The chain ends, and its memory stays registered and unchanged until it has completed, or until now if it is
    /// inline.
    #[inline]
    pub(crate) unsafe fn post(&self, first: *mut ibv_send_wr) -> io::Result<()> {
        let mut bad = ptr::null_mut();
        // SAFETY: the caller's promise.
        match unsafe { ibv_post_send(self.raw.as_ptr(), first, &mut bad) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno.abs())),
        }
    }
}

impl Drop for Qp {
    fn drop(&mut self) {
        // SAFETY: it is there. When this returns, nothing that was posted touches memory any more.
        unsafe { (self.pd.context.verbs.ibv_destroy_qp)(self.raw.as_ptr()) };
    }
}

/// A device made of functions of this file, for what no device of a test bed does: a dma-buf is registered under its
/// descriptor as the local key and its address as the peer's.
#[cfg(test)]
pub(crate) mod simulated {
    use super::*;

    unsafe extern "C" fn alloc_pd(_: *mut ibv_context) -> *mut ibv_pd {
        ptr::dangling_mut()
    }

    unsafe extern "C" fn dealloc_pd(_: *mut ibv_pd) -> c_int {
        0
    }

    unsafe extern "C" fn close_device(_: *mut ibv_context) -> c_int {
        0
    }

    unsafe extern "C" fn reg_mr(
        pd: *mut ibv_pd,
        addr: *mut c_void,
        length: usize,
        _: c_int,
    ) -> *mut ibv_mr {
        let context = ptr::null_mut();
        Box::into_raw(Box::new(ibv_mr { context, pd, addr, length, handle: 0, lkey: 1, rkey: 1 }))
    }

    unsafe extern "C" fn reg_dmabuf_mr(
        pd: *mut ibv_pd,
        _: u64,
        length: usize,
        iova: u64,
        fd: c_int,
        _: c_int,
    ) -> *mut ibv_mr {
        let (context, addr) = (ptr::null_mut(), ptr::without_provenance_mut(1));
        let (lkey, rkey) = (fd.cast_unsigned(), u32::try_from(iova).unwrap());
        Box::into_raw(Box::new(ibv_mr { context, pd, addr, length, handle: 0, lkey, rkey }))
    }

    unsafe extern "C" fn dereg_mr(mr: *mut ibv_mr) -> c_int {
        // SAFETY: `reg_mr` or `reg_dmabuf_mr` made it.
        drop(unsafe { Box::from_raw(mr) });
        0
    }

    /// A protection domain of a device that registers any memory of the host, and dma-bufs or refuses them.
    pub(crate) fn pd(registers: bool) -> Arc<Pd> {
        let mut verbs = Verbs::open().unwrap();
        verbs.ibv_alloc_pd = alloc_pd;
        verbs.ibv_dealloc_pd = dealloc_pd;
        verbs.ibv_close_device = close_device;
        verbs.ibv_reg_mr = reg_mr;
        verbs.ibv_dereg_mr = dereg_mr;
        verbs.ibv_reg_dmabuf_mr = registers.then_some(reg_dmabuf_mr);
        let verbs = Box::leak(Box::new(verbs));
        let context = Context { verbs, raw: NonNull::dangling(), name: "simulated".to_owned() };
        Pd::new(&Arc::new(context)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_structs_have_the_layout_of_the_header() {
        assert_eq!((size_of::<GidEntry>(), align_of::<GidEntry>()), (32, 8));
        assert_eq!(std::mem::offset_of!(GidEntry, gid_type), 24);
        assert_eq!(size_of::<AsyncEvent>(), size_of::<rdma_sys::ibv_async_event>());
        assert_eq!(std::mem::offset_of!(AsyncEvent, kind), 8);
    }

    #[test]
    fn the_library_is_there_or_the_reason_is_told() {
        match load() {
            Ok(verbs) => assert!(verbs.ibv_reg_dmabuf_mr.is_some() || cfg!(not(test))),
            Err(error) => assert!(error.to_string().contains(LIBRARY), "{error}"),
        }
    }
}
