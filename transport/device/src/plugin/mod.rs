//! Devices that their makers bring: plug-ins (`dure_device.h`), loaded at run time.
//!
//! ```text
//!  Plugin::load --- checks the table --> Plugin --- open --> Device --- queue --> Queue
//!                                                  (device.rs)          (queue.rs: work that the device has no function
//!                                                                        for is done by the host, on copies)
//! ```
//!
//! A plug-in is foreign code in this process: what it says is checked as far as it can be, and what it answers is an error of the
//! device's and never a panic. It is never unloaded, so that nothing of it can be called that is not there any more.

pub mod conformance;
mod device;
mod queue;
mod stream;
mod table;

use std::ffi::{CStr, c_char};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dure_device_abi as abi;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

pub use self::device::PluginDevice;
pub use self::stream::Joined;
use self::table::Table;

/// Why a plug-in is refused, or a call of it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The file cannot be loaded.
    #[error("{path} cannot be loaded")]
    NotLoaded {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: libloading::Error,
    },
    /// It has no entry point.
    #[error("{path} is no plug-in for devices: it exports no {}", abi::ENTRY)]
    NoEntry {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: libloading::Error,
    },
    /// The entry point gave no table.
    #[error("{path} gives no table of functions")]
    NoTable {
        /// The file.
        path: PathBuf,
    },
    /// It is of another version of the interface.
    #[error("{path} is of version {theirs} of the interface (this is {})", abi::ABI)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        theirs: u32,
    },
    /// A function that every device needs is missing.
    #[error("{path} offers no {function}, which every device needs")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The function.
        function: &'static str,
    },
    /// A device says that it can do what there is no function for.
    #[error("{path} says that device {device} can {what}, and offers no {function}")]
    Promise {
        /// The file.
        path: PathBuf,
        /// The device's index.
        device: u32,
        /// What it says.
        what: &'static str,
        /// The function that is missing.
        function: &'static str,
    },
    /// A call failed.
    #[error("{call} of {path} failed: {status}{text}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// The function.
        call: &'static str,
        /// What it returned.
        status: Status,
        /// What the plug-in says about it, behind a colon; or nothing.
        text: String,
    },
    /// There is no such device.
    #[error("{path} has no device {index} (it has {count})")]
    NoDevice {
        /// The file.
        path: PathBuf,
        /// The index asked for.
        index: u32,
        /// How many there are.
        count: u32,
    },
}

/// What a function of a plug-in returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub abi::Status);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            abi::OK => "ok",
            abi::BUSY => "the stream has no room",
            abi::INVALID => "an argument is none of this device's",
            abi::OUT_OF_MEMORY => "out of memory",
            abi::UNSUPPORTED => "not supported",
            abi::GONE => "the device was reset or is gone",
            abi::FAILED => "failed",
            other => return write!(f, "status {other}, which is none"),
        })
    }
}

/// A maker's plug-in, loaded and checked.
#[derive(Debug)]
pub struct Plugin {
    path: PathBuf,
    table: Table,
    vendor: String,
    version: String,
}

/// What a plug-in says of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Maker and model, for people.
    pub name: String,
    /// The same for the same device always, and for no other.
    pub serial: String,
    /// Address on the PCI bus; empty when it is on none.
    pub pci: String,
    /// Its NUMA node.
    pub numa: Option<u32>,
    /// Which part of the device it is, where that is divided.
    pub partition: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bits of `dure_device.h`, such as `DURE_DEVICE_PEER`.
    pub capabilities: u32,
    /// Most sources of a reduction; 0 where it reduces nothing.
    pub most_sources: u32,
    /// How many devices it reaches at once.
    pub most_peers: u32,
    /// Bit t of word o: it reduces type t by operation o.
    pub reduces: [u32; abi::OPS],
    /// Bit t: it scales type t.
    pub scales: u32,
}

impl Description {
    /// Whether it has all of some capabilities.
    pub const fn can(&self, capabilities: u32) -> bool {
        self.capabilities & capabilities == capabilities
    }
}

impl Plugin {
    /// Loads a plug-in and checks its table. The file stays in the process.
    ///
    /// # Errors
    /// [`Refusal`]: the first that is wrong with it.
    pub fn load(path: &Path) -> Result<Arc<Self>, Refusal> {
        let at = || path.to_owned();
        // SAFETY: whoever names a plug-in has its constructors run.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|source| Refusal::NotLoaded { path: at(), source })?;
        // SAFETY: the header gives the function this type.
        let entry = unsafe { library.get::<abi::Entry>(abi::ENTRY.as_bytes()) };
        let entry = *entry.map_err(|source| Refusal::NoEntry { path: at(), source })?;
        std::mem::forget(library);
        // SAFETY: the header promises a table, or null.
        let table = unsafe { entry() };
        // SAFETY: as above; the library is never unloaded.
        unsafe { Self::new(table, path) }
    }

    /// A plug-in by its table. `path` names it in errors.
    ///
    /// # Errors
    /// As [`Plugin::load`].
    ///
    /// # Safety
    /// `table` is null, or a table as the header describes it, which stays for ever.
    pub unsafe fn new(table: *const abi::Plugin, path: &Path) -> Result<Arc<Self>, Refusal> {
        // SAFETY: the caller's promise.
        let table = unsafe { Table::read(table, path) }?;
        let [vendor, version] = [table.vendor, table.version].map(|text| {
            // SAFETY: a text of the table stays, and ends with a 0.
            unsafe { text_at(text) }
        });
        Ok(Arc::new(Self { path: path.to_owned(), table, vendor, version }))
    }

    /// The file that it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who made it, as it says.
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// Its version, as it says.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How many devices there are.
    ///
    /// # Errors
    /// [`Refusal::Failed`].
    pub fn count(&self) -> Result<u32, Refusal> {
        let mut count = 0;
        // SAFETY: the argument is alive.
        self.check("count", unsafe { (self.table.count)(&raw mut count) })?;
        Ok(count)
    }

    /// What it says of a device.
    ///
    /// # Errors
    /// [`Refusal::NoDevice`], [`Refusal::Failed`], [`Refusal::Promise`].
    pub fn describe(&self, index: u32) -> Result<Description, Refusal> {
        let count = self.count()?;
        if index >= count {
            return Err(Refusal::NoDevice { path: self.path.clone(), index, count });
        }
        let mut info = table::no_info();
        // SAFETY: the argument is alive, and as long as it says.
        self.check("describe", unsafe { (self.table.describe)(index, &raw mut info) })?;
        let description = table::description(&info);
        match self.table.broken_promise(&description) {
            None => Ok(description),
            Some((what, function)) => {
                Err(Refusal::Promise { path: self.path.clone(), device: index, what, function })
            }
        }
    }

    /// How two devices are joined; `None` when it does not say.
    ///
    /// # Errors
    /// [`Refusal::Failed`].
    pub fn link(&self, from: u32, to: u32) -> Result<Option<abi::Link>, Refusal> {
        let Some(ask) = self.table.link else { return Ok(None) };
        let mut link = abi::Link { size: abi::size::<abi::Link>(), ..abi::Link::default() };
        // SAFETY: the argument is alive, and as long as it says.
        self.check("link", unsafe { ask(from, to, &raw mut link) })?;
        Ok(Some(link))
    }

    /// An error unless a call has succeeded.
    fn check(&self, call: &'static str, status: abi::Status) -> Result<(), Refusal> {
        if status == abi::OK {
            return Ok(());
        }
        let text = self.last_error().map_or_else(String::new, |text| format!(": {text}"));
        Err(Refusal::Failed { path: self.path.clone(), call, status: Status(status), text })
    }

    /// What it says about the last failure of this thread.
    fn last_error(&self) -> Option<String> {
        // SAFETY: it takes nothing.
        let text = unsafe { self.table.error?() };
        // SAFETY: the text stays until this thread's next call.
        Some(unsafe { text_at(text) }).filter(|text| !text.is_empty())
    }
}

/// A copy of a C text; empty for none.
///
/// # Safety
/// `text` is null or ends with a 0.
unsafe fn text_at(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
