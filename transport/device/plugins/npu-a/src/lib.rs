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

mod device;
mod engine;
mod ring;

use std::ffi::CStr;

use dure_device_abi as abi;
use dure_device_abi::maker::{self, Maker, Result};

use crate::device::Device;

/// How many devices there are.
const DEVICES: u32 = 16;
/// Bytes of memory of each. Pages exist when they are touched.
const MEMORY: u64 = 4 << 30;

/// The plug-in.
struct NpuA;

impl Maker for NpuA {
    const VENDOR: &'static CStr = c"npu-a";
    const VERSION: &'static CStr = c"1";
    type Device = Device;

    fn count() -> Result<u32> {
        Ok(DEVICES)
    }

    fn describe(index: u32) -> Result<abi::Info> {
        let all_types = (1 << dure_device::Dtype::ALL.len()) - 1;
        Ok(abi::Info {
            size: abi::size::<abi::Info>(),
            capabilities: abi::ASYNC | abi::PEER,
            name: maker::field("npu-a (software)"),
            serial: maker::field(&format!("npu-a-{index}")),
            pci: [0; 16],
            numa: -1,
            partition: 0,
            memory: MEMORY,
            most_sources: ring::SOURCES,
            most_peers: DEVICES - 1,
            reduces: [all_types; abi::OPS],
            scales: all_types,
        })
    }

    fn open(index: u32) -> Result<Device> {
        Device::open(index, MEMORY)
    }
}

/// The bandwidth is that of a copy within one host's memory, as nobody has measured better.
unsafe extern "C" fn link(from: u32, to: u32, link: *mut abi::Link) -> abi::Status {
    let kind = if from == to { abi::link_type::PACKAGE } else { abi::link_type::OWN };
    let size = abi::size::<abi::Link>();
    let about = abi::Link { size, kind, peer_access: 1, latency: 10_000, bandwidth: 5.0 };
    maker::answer(|| {
        NpuA::check_index(from)?;
        NpuA::check_index(to)?;
        // SAFETY: the caller's promise.
        unsafe { maker::give_sized(link, &about) }
    })
}

static TABLE: abi::Plugin = abi::Plugin { link: Some(link), ..maker::table::<NpuA>() };

/// The entry point.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the header's name")]
pub extern "C" fn dureGetDevicePlugin() -> *const abi::Plugin {
    &raw const TABLE
}
