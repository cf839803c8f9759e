//! One device of a plug-in.

use std::collections::HashMap;
use std::ffi::c_void;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, PoisonError, RwLock};

use dure_device_abi as abi;

use super::queue::PluginQueue;
use super::stream::Joined;
use super::{Description, Plugin, Refusal, Status};
use crate::{Device, DmaBuf, Error, Handle, Memory, Queue, Result, Space};

/// A device of a plug-in.
#[derive(Debug)]
pub struct PluginDevice(Arc<Open>);

/// What a device and its queues share; it is closed when all of them are dropped.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) plugin: Arc<Plugin>,
    pub(super) raw: NonNull<abi::Device>,
    pub(super) description: Description,
    name: String,
    number: u16,
    /// Lengths of the allocations, by address. Not used on the data path.
    allocations: RwLock<HashMap<usize, usize>>,
}

// SAFETY: the header allows calls on a device from several threads at once.
unsafe impl Send for Open {}
// SAFETY: as for `Send`.
unsafe impl Sync for Open {}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: it is open, and nothing of it is used any more. Whether it could be ended in order is its own affair.
        let _ = unsafe { (self.plugin.table.close)(self.raw.as_ptr()) };
    }
}

impl Plugin {
    /// Opens a device. `name` is for people; `number` tells its space from those of other devices; `peers` are the devices
    /// that it is to reach, for one that must know.
    ///
    /// # Errors
    /// As [`Plugin::describe`].
    pub fn open(
        self: &Arc<Self>,
        index: u32,
        (name, number): (String, u16),
        peers: &[u32],
    ) -> std::result::Result<Arc<PluginDevice>, Refusal> {
        let description = self.describe(index)?;
        let count = u32::try_from(peers.len()).expect("fewer devices than 32 bits count");
        let mut raw = ptr::null_mut();
        // SAFETY: the arguments are alive, and as many as is said.
        let status = unsafe { (self.table.open)(index, peers.as_ptr(), count, &raw mut raw) };
        self.check("open", status)?;
        let raw = NonNull::new(raw).ok_or_else(|| Refusal::Failed {
            path: self.path.clone(),
            call: "open",
            status: Status(abi::OK),
            text: ", and gave no device".to_owned(),
        })?;
        let (plugin, allocations) = (Arc::clone(self), RwLock::default());
        let open = Open { plugin, raw, description, name, number, allocations };
        Ok(Arc::new(PluginDevice(Arc::new(open))))
    }
}

impl PluginDevice {
    /// What it shares with its queues.
    pub(super) fn open(&self) -> &Arc<Open> {
        &self.0
    }

    /// What its plug-in says of it.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// Whether it is there and was not reset.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Plugin`].
    pub fn health(&self) -> Result<()> {
        // SAFETY: the device is open.
        let status = unsafe { (self.0.plugin.table.health)(self.0.raw.as_ptr()) };
        self.0.check("health", status)
    }

    /// Joins a stream of the maker's own, such as a `cudaStream_t`; null is its default stream.
    ///
    /// # Errors
    /// [`Error::Plugin`] where the device has none that can be joined, [`Error::Gone`].
    ///
    /// # Safety
    /// `native` is such a stream of this device, and is not ended before what this gives.
    pub unsafe fn join(&self, native: *mut c_void) -> Result<Joined> {
        Joined::new(Arc::clone(&self.0), native)
    }

    /// What it has moved since it was opened; `None` when it does not count.
    pub fn counters(&self) -> Option<abi::Counters> {
        let ask = self.0.plugin.table.counters?;
        let size = abi::size::<abi::Counters>();
        let mut counters = abi::Counters { size, ..abi::Counters::default() };
        // SAFETY: the device is open, and the argument is as long as it says.
        let status = unsafe { ask(self.0.raw.as_ptr(), &raw mut counters) };
        (status == abi::OK).then_some(counters)
    }
}

impl Open {
    pub(super) const fn space(&self) -> Space {
        Space::Device(self.number)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn check(&self, call: &'static str, status: abi::Status) -> Result<()> {
        if status == abi::OK { Ok(()) } else { Err(self.failed(call, status)) }
    }

    /// The error of a call that failed.
    #[cold]
    pub(super) fn failed(&self, call: &'static str, status: abi::Status) -> Error {
        let device = self.name.clone();
        if status == abi::GONE {
            return Error::Gone { device };
        }
        let text = self.plugin.last_error().map_or_else(String::new, |text| format!(": {text}"));
        Error::Plugin { device, call, status: Status(status), text }
    }

    /// The allocation that an address is in.
    pub(super) fn range(&self, address: *const u8) -> Option<abi::Range> {
        let size = abi::size::<abi::Range>();
        let mut range = abi::Range { size, reserved: 0, base: ptr::null_mut(), bytes: 0 };
        let query = self.plugin.table.query;
        // SAFETY: the device is open, and the argument is as long as it says.
        let status = unsafe { query(self.raw.as_ptr(), address.cast(), &raw mut range) };
        (status == abi::OK).then_some(range)
    }
}

impl Device for PluginDevice {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn space(&self) -> Space {
        self.0.space()
    }

    fn alloc(&self, len: usize) -> Result<Memory> {
        assert!(len > 0, "an allocation has at least one byte");
        let mut address = ptr::null_mut();
        let (device, alloc) = (self.0.raw.as_ptr(), self.0.plugin.table.alloc);
        // SAFETY: the device is open, and the argument is alive.
        let status = unsafe { alloc(device, len as u64, &raw mut address) };
        let full = || Error::OutOfMemory { device: self.0.name.clone(), len };
        if status == abi::OUT_OF_MEMORY {
            return Err(full());
        }
        self.0.check("alloc", status)?;
        let ptr = NonNull::new(address.cast::<u8>()).ok_or_else(full)?;
        let mut allocations = self.0.allocations.write().unwrap_or_else(PoisonError::into_inner);
        allocations.insert(ptr.addr().get(), len);
        Ok(Memory { ptr, len, space: self.space() })
    }

    unsafe fn free(&self, memory: Memory) -> Result<()> {
        let mut allocations = self.0.allocations.write().unwrap_or_else(PoisonError::into_inner);
        if memory.space != self.space() || allocations.get(&memory.address()) != Some(&memory.len) {
            return Err(Error::NotMine { device: self.0.name.clone(), address: memory.address() });
        }
        allocations.remove(&memory.address());
        // SAFETY: it is a whole allocation, and the caller promises that nobody uses it any more.
        let status =
            unsafe { (self.0.plugin.table.free)(self.0.raw.as_ptr(), memory.ptr.as_ptr().cast()) };
        self.0.check("free", status)
    }

    fn owns(&self, address: *const u8) -> bool {
        self.0.range(address).is_some()
    }

    fn dma_buf(&self, memory: Memory) -> Option<DmaBuf> {
        let plain = !self.0.description.can(abi::OPAQUE) && !self.0.description.can(abi::FLUSH);
        let export = self.0.plugin.table.export_dmabuf.filter(|_| plain)?;
        let (mut fd, mut offset) = (-1, 0);
        let address = memory.ptr.as_ptr().cast();
        // SAFETY: the device is open, and the arguments are alive.
        let status = unsafe {
            export(self.0.raw.as_ptr(), address, memory.len as u64, &raw mut fd, &raw mut offset)
        };
        if status != abi::OK || fd < 0 {
            return None;
        }
        // SAFETY: the header says that the descriptor is the caller's now.
        Some(DmaBuf { fd: unsafe { OwnedFd::from_raw_fd(fd) }, offset })
    }

    fn family(&self) -> Option<&str> {
        self.0.description.can(abi::PEER).then_some(&self.0.plugin.vendor)
    }

    fn export(&self, memory: Memory) -> Option<Handle> {
        let export = self.0.plugin.table.export_handle?;
        if !self.0.description.can(abi::PEER) {
            return None;
        }
        let mut handle = abi::Handle { bytes: [0; abi::HANDLE] };
        let address = memory.ptr.as_ptr().cast();
        // SAFETY: the device is open, and the argument is alive.
        let status =
            unsafe { export(self.0.raw.as_ptr(), address, memory.len as u64, &raw mut handle) };
        (status == abi::OK).then_some(Handle(handle.bytes))
    }

    fn import(&self, handle: &Handle, len: usize) -> Result<Memory> {
        let unsupported = || self.0.failed("import_handle", abi::UNSUPPORTED);
        let import = self.0.plugin.table.import_handle.ok_or_else(unsupported)?;
        let mut address: *mut c_void = ptr::null_mut();
        let handle = abi::Handle { bytes: handle.0 };
        // SAFETY: the device is open, and the arguments are alive.
        let status = unsafe { import(self.0.raw.as_ptr(), &raw const handle, &raw mut address) };
        self.0.check("import_handle", status)?;
        let ptr = NonNull::new(address.cast()).ok_or_else(unsupported)?;
        Ok(Memory { ptr, len, space: self.space() })
    }

    unsafe fn forget(&self, imported: Memory) {
        if let Some(forget) = self.0.plugin.table.forget {
            // A device that is gone has forgotten everything.
            // SAFETY: the device is open; the caller promises that it was imported and nothing uses it.
            let _ = unsafe { forget(self.0.raw.as_ptr(), imported.ptr.as_ptr().cast()) };
        }
    }

    fn host_bytes(&self) -> Option<u64> {
        self.counters().map(|counters| counters.from_host + counters.to_host)
    }

    fn queue(&self) -> Result<Box<dyn Queue>> {
        Ok(Box::new(PluginQueue::open(Arc::clone(&self.0))?))
    }
}
