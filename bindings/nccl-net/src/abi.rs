//! What NCCL has laid down for its network plug-ins: numbers, and the layouts of ABI v8 to v12.
//!
//! The facts are those of NVIDIA's headers: <https://github.com/NVIDIA/nccl/tree/master/src/include/plugin/net> (one header a
//! version) and `nccl_net.h` beside them. `layout.txt` pins them, and `tests/c/net.h` says them again in C.

use std::ffi::{c_char, c_int};

/// Memory of the host (`NCCL_PTR_HOST`).
pub(crate) const PTR_HOST: c_int = 1;
/// Memory of a GPU (`NCCL_PTR_CUDA`).
pub(crate) const PTR_CUDA: c_int = 2;
/// Memory that a dma-buf names (`NCCL_PTR_DMABUF`), in what a device supports.
pub(crate) const PTR_DMABUF: c_int = 4;
/// Bytes of a handle (`NCCL_NET_HANDLE_MAXSIZE`).
pub(crate) const HANDLE: usize = 128;
/// Most devices of a virtual one, v9 to v11.
pub(crate) const MEMBERS_V9: usize = 4;
/// The same in v12.
pub(crate) const MEMBERS_V12: usize = 8;
/// A rail or a plane that is not known (`NCCL_NET_ID_UNDEF`).
pub(crate) const UNKNOWN: i16 = -1;

/// Devices that one virtual device is made of.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Members<const N: usize> {
    pub(crate) count: c_int,
    pub(crate) devices: [c_int; N],
}

impl<const N: usize> Members<N> {
    /// As many of them as there is room for.
    pub(crate) fn new(members: &[c_int]) -> Self {
        let count = members.len().min(N);
        let mut devices = [0; N];
        devices[..count].copy_from_slice(&members[..count]);
        Self { count: c_int::try_from(count).unwrap_or(0), devices }
    }
}

/// Properties of a device in v8.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct PropertiesV8 {
    pub(crate) name: *const c_char,
    pub(crate) pci_path: *const c_char,
    pub(crate) guid: u64,
    pub(crate) ptr_support: c_int,
    pub(crate) reg_is_global: c_int,
    pub(crate) speed: c_int,
    pub(crate) port: c_int,
    pub(crate) latency: f32,
    pub(crate) max_comms: c_int,
    pub(crate) max_recvs: c_int,
    pub(crate) device_type: c_int,
    pub(crate) device_version: c_int,
}

/// The same in later versions, which differ in how many devices a virtual one may have.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Properties<const N: usize> {
    pub(crate) name: *const c_char,
    pub(crate) pci_path: *const c_char,
    pub(crate) guid: u64,
    pub(crate) ptr_support: c_int,
    pub(crate) reg_is_global: c_int,
    pub(crate) force_flush: c_int,
    pub(crate) speed: c_int,
    pub(crate) port: c_int,
    pub(crate) latency: f32,
    pub(crate) max_comms: c_int,
    pub(crate) max_recvs: c_int,
    pub(crate) device_type: c_int,
    pub(crate) device_version: c_int,
    pub(crate) members: Members<N>,
    pub(crate) max_p2p_bytes: usize,
    pub(crate) max_coll_bytes: usize,
}

/// v9 and v10.
pub(crate) type PropertiesV9 = Properties<MEMBERS_V9>;

/// v11.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct PropertiesV11 {
    pub(crate) base: PropertiesV9,
    pub(crate) max_multi_request_size: c_int,
}

/// v12.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct PropertiesV12 {
    pub(crate) base: Properties<MEMBERS_V12>,
    pub(crate) max_multi_request_size: c_int,
    pub(crate) rail: i16,
    pub(crate) plane: i16,
}

impl<const N: usize> From<&Properties<N>> for PropertiesV8 {
    fn from(of: &Properties<N>) -> Self {
        Self {
            name: of.name,
            pci_path: of.pci_path,
            guid: of.guid,
            ptr_support: of.ptr_support,
            reg_is_global: of.reg_is_global,
            speed: of.speed,
            port: of.port,
            latency: of.latency,
            max_comms: of.max_comms,
            max_recvs: of.max_recvs,
            device_type: of.device_type,
            device_version: of.device_version,
        }
    }
}

impl From<PropertiesV9> for PropertiesV11 {
    fn from(base: PropertiesV9) -> Self {
        Self { base, max_multi_request_size: 1 }
    }
}

impl From<Properties<MEMBERS_V12>> for PropertiesV12 {
    fn from(base: Properties<MEMBERS_V12>) -> Self {
        Self { base, max_multi_request_size: 1, rail: UNKNOWN, plane: UNKNOWN }
    }
}

/// A function in a table, or none.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function(pub(crate) *const ());

/// A table as NCCL finds it: the plug-in's name, and its functions.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    pub(crate) name: *const c_char,
    pub(crate) functions: [Function; N],
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::mem::offset_of;

    use super::*;

    /// One line a fact, as `tests/c/layout.c` prints them.
    #[test]
    fn layouts_and_numbers_are_those_that_are_pinned() {
        let mut lines = String::new();
        let mut line = |name: &str, value: usize| writeln!(lines, "{name} {value}").unwrap();
        for (name, value) in
            [("PTR_HOST", PTR_HOST), ("PTR_CUDA", PTR_CUDA), ("PTR_DMABUF", PTR_DMABUF)]
        {
            line(name, usize::try_from(value).unwrap());
        }
        line("HANDLE_MAXSIZE", HANDLE);
        line("properties_v8", size_of::<PropertiesV8>());
        line("properties_v8.speed", offset_of!(PropertiesV8, speed));
        line("properties_v8.netDeviceVersion", offset_of!(PropertiesV8, device_version));
        line("properties_v9", size_of::<PropertiesV9>());
        line("properties_v9.forceFlush", offset_of!(PropertiesV9, force_flush));
        line("properties_v9.vProps", offset_of!(PropertiesV9, members));
        line("properties_v9.maxCollBytes", offset_of!(PropertiesV9, max_coll_bytes));
        line("properties_v10", size_of::<PropertiesV9>());
        line("properties_v11", size_of::<PropertiesV11>());
        let multi = offset_of!(PropertiesV11, max_multi_request_size);
        line("properties_v11.maxMultiRequestSize", multi);
        type Base = Properties<MEMBERS_V12>;
        line("properties_v12", size_of::<PropertiesV12>());
        line("properties_v12.maxP2pBytes", offset_of!(Base, max_p2p_bytes));
        line("properties_v12.railId", offset_of!(PropertiesV12, rail));
        line("properties_v12.planeId", offset_of!(PropertiesV12, plane));
        line("vdevice_v9", size_of::<Members<MEMBERS_V9>>());
        line("vdevice_v12", size_of::<Members<MEMBERS_V12>>());
        line("net_v8", size_of::<Table<18>>());
        line("net_v9", size_of::<Table<19>>());
        line("net_v10", size_of::<Table<19>>());
        line("net_v11", size_of::<Table<21>>());
        line("net_v12", size_of::<Table<21>>());
        assert_eq!(lines, include_str!("../layout.txt"), "layout.txt pins them");
    }
}
