//! The functions of a plug-in, once it is known that they are there.

use std::ffi::{c_char, c_int, c_void};
use std::path::Path;

use dure_device_abi as abi;

use super::{Description, Refusal};

type Status = abi::Status;

macro_rules! table {
    (
        needs { $($needed:ident: fn($($argument:ty),*);)* }
        may { $($optional:ident: fn($($optional_argument:ty),*);)* }
    ) => {
        /// The functions that a plug-in offers.
        #[derive(Clone, Copy, Debug)]
        pub(super) struct Table {
            pub(super) vendor: *const c_char,
            pub(super) version: *const c_char,
            pub(super) error: Option<unsafe extern "C" fn() -> *const c_char>,
            $(pub(super) $needed: unsafe extern "C" fn($($argument),*) -> Status,)*
            $(pub(super) $optional: Option<unsafe extern "C" fn($($optional_argument),*) -> Status>,)*
        }

        impl Table {
            fn new(theirs: &abi::Plugin, path: &Path) -> Result<Self, Refusal> {
                let abi::Plugin { vendor, version, error, .. } = *theirs;
                Ok(Self {
                    vendor,
                    version,
                    error,
                    $($needed: theirs.$needed.ok_or_else(|| {
                        Refusal::Missing { path: path.to_owned(), function: stringify!($needed) }
                    })?,)*
                    $($optional: theirs.$optional,)*
                })
            }
        }
    };
}

table! {
    needs {
        count: fn(*mut u32);
        describe: fn(u32, *mut abi::Info);
        open: fn(u32, *const u32, u32, *mut *mut abi::Device);
        close: fn(*mut abi::Device);
        health: fn(*mut abi::Device);
        alloc: fn(*mut abi::Device, u64, *mut *mut c_void);
        free: fn(*mut abi::Device, *mut c_void);
        query: fn(*mut abi::Device, *const c_void, *mut abi::Range);
        stream_open: fn(*mut abi::Device, *mut *mut abi::Stream);
        stream_close: fn(*mut abi::Stream);
        copy: fn(*mut abi::Stream, *const abi::Copy, u32);
        record: fn(*mut abi::Stream, *mut u64);
        completed: fn(*mut abi::Stream, *mut u64);
    }
    may {
        link: fn(u32, u32, *mut abi::Link);
        counters: fn(*mut abi::Device, *mut abi::Counters);
        reduce: fn(*mut abi::Stream, *const abi::Reduce);
        scale: fn(*mut abi::Stream, *const abi::Scale);
        wait: fn(*mut abi::Stream, *mut abi::Stream, u64);
        export_handle: fn(*mut abi::Device, *mut c_void, u64, *mut abi::Handle);
        import_handle: fn(*mut abi::Device, *const abi::Handle, *mut *mut c_void);
        forget: fn(*mut abi::Device, *mut c_void);
        export_dmabuf: fn(*mut abi::Device, *mut c_void, u64, *mut c_int, *mut u64);
        map: fn(*mut abi::Device, *mut c_void, u64, *mut *mut c_void);
        unmap: fn(*mut abi::Device, *mut c_void);
        flush: fn(*mut abi::Device, *mut c_void, u64);
        stream_join: fn(*mut abi::Device, *mut c_void, *mut *mut abi::Stream);
        hold: fn(*mut abi::Stream, *mut u64);
        release: fn(*mut abi::Stream, u64);
    }
}

// SAFETY: functions, and texts that stay and that nobody changes.
unsafe impl Send for Table {}
// SAFETY: as for `Send`.
unsafe impl Sync for Table {}

impl Table {
    /// Reads the table of a plug-in: what both sides know of it.
    ///
    /// # Safety
    /// `theirs` is null, or a table that is as long as it says.
    pub(super) unsafe fn read(theirs: *const abi::Plugin, path: &Path) -> Result<Self, Refusal> {
        if theirs.is_null() {
            return Err(Refusal::NoTable { path: path.to_owned() });
        }
        // SAFETY: every table begins with its size and version, whatever follows.
        let [size, version] = unsafe { theirs.cast::<[u32; 2]>().read_unaligned() };
        if version != abi::ABI {
            return Err(Refusal::Version { path: path.to_owned(), theirs: version });
        }
        // SAFETY: null is a text that is not there, and a function that is not offered.
        let mut table: abi::Plugin = unsafe { std::mem::zeroed() };
        let known = usize::try_from(size).map_or(0, |size| size.min(size_of::<abi::Plugin>()));
        let into = (&raw mut table).cast::<u8>();
        // SAFETY: the table is as long as it says, and ours is as long as `known` at least.
        unsafe { into.copy_from_nonoverlapping(theirs.cast(), known) };
        Self::new(&table, path)
    }

    /// What a device says that it can do though there is no function for it, and the function.
    pub(super) fn broken_promise(
        &self,
        device: &Description,
    ) -> Option<(&'static str, &'static str)> {
        let promises = [
            (device.can(abi::PEER), "reach peers", "export_handle", self.export_handle.is_some()),
            (device.can(abi::PEER), "reach peers", "import_handle", self.import_handle.is_some()),
            (device.can(abi::PEER), "reach peers", "forget", self.forget.is_some()),
            (
                device.can(abi::DMABUF),
                "export a dma-buf",
                "export_dmabuf",
                self.export_dmabuf.is_some(),
            ),
            (device.can(abi::MAP), "map memory", "map", self.map.is_some()),
            (device.can(abi::MAP), "map memory", "unmap", self.unmap.is_some()),
            (device.can(abi::FLUSH), "flush", "flush", self.flush.is_some()),
            (device.can(abi::ASYNC), "work later", "wait", self.wait.is_some()),
            (device.can(abi::JOIN), "join streams", "stream_join", self.stream_join.is_some()),
            (device.can(abi::JOIN), "join streams", "hold", self.hold.is_some()),
            (device.can(abi::JOIN), "join streams", "release", self.release.is_some()),
            (device.most_sources > 0, "reduce", "reduce", self.reduce.is_some()),
            (device.scales != 0, "scale", "scale", self.scale.is_some()),
        ];
        promises
            .into_iter()
            .find(|(says, .., offers)| *says && !offers)
            .map(|(_, what, function, _)| (what, function))
    }
}

/// Room for what a plug-in says of a device.
pub(super) const fn no_info() -> abi::Info {
    abi::Info {
        size: abi::size::<abi::Info>(),
        capabilities: 0,
        name: [0; 64],
        serial: [0; 64],
        pci: [0; 16],
        numa: -1,
        partition: 0,
        memory: 0,
        most_sources: 0,
        most_peers: 0,
        reduces: [0; abi::OPS],
        scales: 0,
    }
}

/// What a plug-in says of a device, as the rest of this crate reads it.
pub(super) fn description(info: &abi::Info) -> Description {
    Description {
        name: text(&info.name),
        serial: text(&info.serial),
        pci: text(&info.pci),
        numa: u32::try_from(info.numa).ok(),
        partition: info.partition,
        memory: info.memory,
        capabilities: info.capabilities,
        most_sources: info.most_sources,
        most_peers: info.most_peers,
        reduces: info.reduces,
        scales: info.scales,
    }
}

/// The text in a field, up to its 0 or its end.
fn text(field: &[c_char]) -> String {
    let bytes: Vec<u8> =
        field.iter().take_while(|c| **c != 0).map(|c| c.to_ne_bytes()[0]).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
