//! `dure_device.h` in Rust: the structures by which a device's plug-in and Dure talk. The header documents each; here stands
//! what a Rust program needs besides. For plug-ins written in Rust, and for the loader.
#![allow(missing_docs, reason = "include/dure_device.h documents each field and function")]

pub mod maker;

use std::ffi::{c_char, c_int, c_void};

/// Version of the interface.
pub const ABI: u32 = 2;
/// Bytes of a [`Handle`].
pub const HANDLE: usize = 96;
/// The one name that a plug-in exports.
pub const ENTRY: &str = "dureGetDevicePlugin";
/// The type of that function.
pub type Entry = unsafe extern "C" fn() -> *const Plugin;

/// A `dureDeviceStatus_t`, as it comes from the other side: any number.
pub type Status = c_int;
pub const OK: Status = 0;
pub const BUSY: Status = 1;
pub const INVALID: Status = 2;
pub const OUT_OF_MEMORY: Status = 3;
pub const UNSUPPORTED: Status = 4;
pub const GONE: Status = 5;
pub const FAILED: Status = 6;

pub const ASYNC: u32 = 1 << 0;
pub const PEER: u32 = 1 << 1;
pub const DMABUF: u32 = 1 << 2;
pub const MAP: u32 = 1 << 3;
pub const OPAQUE: u32 = 1 << 4;
pub const FIXED_PEERS: u32 = 1 << 5;
pub const FLUSH: u32 = 1 << 6;
pub const JOIN: u32 = 1 << 7;

pub const SUM: u32 = 0;
pub const PROD: u32 = 1;
pub const MAX: u32 = 2;
pub const MIN: u32 = 3;
/// How many operations there are.
pub const OPS: usize = 4;

/// `dureDeviceInfo_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Info {
    pub size: u32,
    pub capabilities: u32,
    pub name: [c_char; 64],
    pub serial: [c_char; 64],
    pub pci: [c_char; 16],
    pub numa: i32,
    pub partition: u32,
    pub memory: u64,
    pub most_sources: u32,
    pub most_peers: u32,
    pub reduces: [u32; OPS],
    pub scales: u32,
}

/// `dureDeviceLinkType_t`.
pub mod link_type {
    pub const NONE: u32 = 0;
    pub const PACKAGE: u32 = 1;
    pub const OWN: u32 = 2;
    pub const SWITCH: u32 = 3;
    pub const BRIDGE: u32 = 4;
    pub const SYSTEM: u32 = 5;
}

/// `dureDeviceLink_t`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Link {
    pub size: u32,
    pub kind: u32,
    pub peer_access: u32,
    pub latency: u32,
    pub bandwidth: f64,
}

/// `dureDevice_t`.
#[derive(Debug)]
#[repr(C)]
pub struct Device {
    _opaque: [u8; 0],
}

/// `dureDeviceStream_t`.
#[derive(Debug)]
#[repr(C)]
pub struct Stream {
    _opaque: [u8; 0],
}

/// `dureDeviceRange_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Range {
    pub size: u32,
    pub reserved: u32,
    pub base: *mut c_void,
    pub bytes: u64,
}

/// `dureDeviceHandle_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Handle {
    pub bytes: [u8; HANDLE],
}

/// `dureDeviceCopy_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Copy {
    pub size: u32,
    pub src_is_host: u32,
    pub dst_is_host: u32,
    pub rows: u32,
    pub src: *const c_void,
    pub dst: *mut c_void,
    pub bytes: u64,
    pub src_pitch: u64,
    pub dst_pitch: u64,
}

/// `dureDeviceReduce_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Reduce {
    pub size: u32,
    pub sources: u32,
    pub dtype: u32,
    pub op: u32,
    pub srcs: *const *const c_void,
    pub dst: *mut c_void,
    pub count: u64,
}

/// `dureDeviceScaleKind_t`.
pub mod scale_kind {
    pub const BY: u32 = 0;
    pub const BY_INTEGER: u32 = 1;
    pub const OVER: u32 = 2;
}

/// `dureDeviceScale_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Scale {
    pub size: u32,
    pub dtype: u32,
    pub kind: u32,
    pub reserved: u32,
    pub src: *const c_void,
    pub dst: *mut c_void,
    pub count: u64,
    pub factor: f64,
    pub integer: i64,
}

/// `dureDeviceCounters_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    pub size: u32,
    pub reserved: u32,
    pub from_host: u64,
    pub to_host: u64,
    pub inside: u64,
    pub peer: u64,
    pub reduced: u64,
}

/// `dureDevicePlugin_t`. A function that is not offered is `None`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Plugin {
    pub size: u32,
    pub abi: u32,
    pub vendor: *const c_char,
    pub version: *const c_char,
    pub error: Option<unsafe extern "C" fn() -> *const c_char>,
    pub count: Option<unsafe extern "C" fn(*mut u32) -> Status>,
    pub describe: Option<unsafe extern "C" fn(u32, *mut Info) -> Status>,
    pub link: Option<unsafe extern "C" fn(u32, u32, *mut Link) -> Status>,
    pub open: Option<unsafe extern "C" fn(u32, *const u32, u32, *mut *mut Device) -> Status>,
    pub close: Option<unsafe extern "C" fn(*mut Device) -> Status>,
    pub health: Option<unsafe extern "C" fn(*mut Device) -> Status>,
    pub counters: Option<unsafe extern "C" fn(*mut Device, *mut Counters) -> Status>,
    pub alloc: Option<unsafe extern "C" fn(*mut Device, u64, *mut *mut c_void) -> Status>,
    pub free: Option<unsafe extern "C" fn(*mut Device, *mut c_void) -> Status>,
    pub query: Option<unsafe extern "C" fn(*mut Device, *const c_void, *mut Range) -> Status>,
    pub stream_open: Option<unsafe extern "C" fn(*mut Device, *mut *mut Stream) -> Status>,
    pub stream_close: Option<unsafe extern "C" fn(*mut Stream) -> Status>,
    pub copy: Option<unsafe extern "C" fn(*mut Stream, *const Copy, u32) -> Status>,
    pub reduce: Option<unsafe extern "C" fn(*mut Stream, *const Reduce) -> Status>,
    pub scale: Option<unsafe extern "C" fn(*mut Stream, *const Scale) -> Status>,
    pub record: Option<unsafe extern "C" fn(*mut Stream, *mut u64) -> Status>,
    pub completed: Option<unsafe extern "C" fn(*mut Stream, *mut u64) -> Status>,
    pub wait: Option<unsafe extern "C" fn(*mut Stream, *mut Stream, u64) -> Status>,
    pub export_handle:
        Option<unsafe extern "C" fn(*mut Device, *mut c_void, u64, *mut Handle) -> Status>,
    pub import_handle:
        Option<unsafe extern "C" fn(*mut Device, *const Handle, *mut *mut c_void) -> Status>,
    pub forget: Option<unsafe extern "C" fn(*mut Device, *mut c_void) -> Status>,
    pub export_dmabuf:
        Option<unsafe extern "C" fn(*mut Device, *mut c_void, u64, *mut c_int, *mut u64) -> Status>,
    pub map:
        Option<unsafe extern "C" fn(*mut Device, *mut c_void, u64, *mut *mut c_void) -> Status>,
    pub unmap: Option<unsafe extern "C" fn(*mut Device, *mut c_void) -> Status>,
    pub flush: Option<unsafe extern "C" fn(*mut Device, *mut c_void, u64) -> Status>,
    pub stream_join:
        Option<unsafe extern "C" fn(*mut Device, *mut c_void, *mut *mut Stream) -> Status>,
    pub hold: Option<unsafe extern "C" fn(*mut Stream, *mut u64) -> Status>,
    pub release: Option<unsafe extern "C" fn(*mut Stream, u64) -> Status>,
}

// SAFETY: a table of functions and of texts that stay, which nobody changes.
unsafe impl Sync for Plugin {}
// SAFETY: as for `Sync`.
unsafe impl Send for Plugin {}

/// Size of a structure, as its first field says it.
#[expect(clippy::cast_possible_truncation, reason = "structures are a few hundred bytes long")]
pub const fn size<T>() -> u32 {
    size_of::<T>() as u32
}
