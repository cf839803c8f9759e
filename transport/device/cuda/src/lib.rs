//! NVIDIA GPUs as devices: a plug-in that is built in, as [`plugin`].
//!
//! ```text
//!  plugin (lib.rs) --- open --> Device (device.rs) --- stream --> Stream (stream.rs)
//!                              memory, query, handles            copies, reductions (kernels.rs), events
//!                                     \                             /
//!                                      driver.rs: libcuda, by dlopen
//! ```
//!
//! Nothing of CUDA's is needed to build it, and libcuda is opened when the plug-in is asked for its devices, no earlier. Where there
//! is no driver that serves, every function says why, in a sentence.
//!
//! **Memory of the host** is pageable as a rule: the driver would copy it while the caller waits. So each stream has a pinned buffer
//! of its own; what goes to the host, or comes from there, is copied between the two by a host function of the stream, in order with
//! all other work. No function waits for work.
//!
//! **Other processes** get memory by the driver's handles for whole allocations, with the place in the allocation beside. Memory that
//! the driver has no such handle for (of its pools, or mapped piece by piece) is refused, and its messages go through the host.
#![allow(missing_docs, reason = "dure_device.h documents the interface")]

mod device;
mod driver;
mod handle;
mod kernels;
mod stream;

use std::ffi::{CStr, c_char, c_int};
use std::path::Path;
use std::sync::Arc;

use dure_device::plugin::{Plugin, Refusal};
use dure_device_abi as abi;
use dure_device_abi::maker::{self, Failure, Maker, Result};

use crate::device::Device;
use crate::driver::{CuDevice, Driver, attribute, driver};

/// The plug-in.
struct Cuda;

impl Maker for Cuda {
    const VENDOR: &'static CStr = c"cuda";
    const VERSION: &'static CStr = c"1";
    type Device = Device;

    fn count() -> Result<u32> {
        let driver = driver()?;
        let mut count = 0;
        // SAFETY: the argument is alive.
        driver.check("cuDeviceGetCount", unsafe { (driver.device_count)(&raw mut count) })?;
        Ok(count.unsigned_abs())
    }

    fn describe(index: u32) -> Result<abi::Info> {
        Gpu::find(index)?.describe()
    }

    fn open(index: u32) -> Result<Device> {
        Device::open(Gpu::find(index)?)
    }
}

static TABLE: abi::Plugin = abi::Plugin {
    export_dmabuf: Some(maker::export_dmabuf::<Cuda>),
    stream_join: Some(maker::stream_join::<Cuda>),
    hold: Some(maker::hold::<Cuda>),
    release: Some(maker::release::<Cuda>),
    ..maker::table::<Cuda>()
};

/// Stands for the file of the plug-in, in messages.
const PLACE: &str = "cuda (built in)";

/// The plug-in. It is there on every machine: which devices it has it finds out when it is asked.
///
/// # Errors
/// As [`Plugin::load`].
pub fn plugin() -> std::result::Result<Arc<Plugin>, Refusal> {
    // SAFETY: the table is as the header says, and stays.
    unsafe { Plugin::new(&raw const TABLE, Path::new(PLACE)) }
}

/// Why there are no devices, in a sentence; `None` when there are some.
pub fn why_idle() -> Option<String> {
    match Cuda::count() {
        Ok(0) => Some("the driver counts no GPU".to_owned()),
        Ok(_) => None,
        Err(Failure(_, why)) => Some(why),
    }
}

/// A GPU, not open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gpu {
    driver: &'static Driver,
    raw: CuDevice,
}

impl Gpu {
    fn find(index: u32) -> Result<Self> {
        let driver = driver()?;
        let number = c_int::try_from(index).map_err(|_| Failure::invalid("no such device"))?;
        let mut raw = 0;
        // SAFETY: the argument is alive.
        driver.check("cuDeviceGet", unsafe { (driver.device_get)(&raw mut raw, number) })?;
        Ok(Self { driver, raw })
    }

    /// A number that the driver has of it; 0 where it does not know the attribute.
    fn attribute(&self, number: c_int) -> c_int {
        let mut value = 0;
        // SAFETY: the argument is alive.
        let known = unsafe { (self.driver.device_attribute)(&raw mut value, number, self.raw) };
        if known == driver::code::SUCCESS { value } else { 0 }
    }

    /// Whether the text of the kernels serves it.
    fn reduces(&self) -> bool {
        self.attribute(attribute::CAPABILITY_MAJOR) >= kernels::OLDEST_MAJOR
    }

    /// Whether NICs may have its memory: it exports dma-bufs, and what a NIC writes needs nobody's flush.
    fn gives_dma_bufs(&self) -> bool {
        self.attribute(attribute::DMA_BUF) != 0
            && self.attribute(attribute::RDMA_WRITES_ORDERING) >= driver::ORDERED_FOR_OWNER
    }

    /// A text of the driver's, by one of its functions.
    fn text<const N: usize>(
        &self,
        call: &str,
        ask: unsafe extern "C" fn(*mut c_char, c_int, CuDevice) -> driver::Code,
    ) -> Result<[c_char; N]> {
        let mut text = [0; N];
        let len = c_int::try_from(N).expect("a short field");
        // SAFETY: the field is as long as is said.
        let asked = unsafe { ask(text.as_mut_ptr(), len, self.raw) };
        self.driver.check(call, asked)?;
        text[N - 1] = 0;
        Ok(text)
    }

    fn describe(&self) -> Result<abi::Info> {
        let driver = self.driver;
        let mut uuid = [0; 16];
        // SAFETY: the argument is alive.
        let asked = unsafe { (driver.device_uuid)(&raw mut uuid, self.raw) };
        driver.check("cuDeviceGetUuid", asked)?;
        let mut memory = 0;
        // SAFETY: the argument is alive.
        let asked = unsafe { (driver.device_memory)(&raw mut memory, self.raw) };
        driver.check("cuDeviceTotalMem", asked)?;
        let pci: [c_char; 16] = self.text("cuDeviceGetPCIBusId", driver.device_pci)?;
        let others = Cuda::count()?.saturating_sub(1);
        let dmabuf = if self.gives_dma_bufs() { abi::DMABUF } else { 0 };
        let join = if self.attribute(attribute::WAITS_ON_VALUES) != 0 { abi::JOIN } else { 0 };
        let types = if self.reduces() { kernels::ALL_TYPES } else { 0 };
        Ok(abi::Info {
            size: abi::size::<abi::Info>(),
            capabilities: abi::ASYNC | abi::PEER | dmabuf | join,
            name: self.text("cuDeviceGetName", driver.device_name)?,
            serial: maker::field(&serial(uuid)),
            pci: pci.map(lower_case),
            numa: numa(&pci.map(lower_case)),
            partition: 0,
            memory: memory as u64,
            most_sources: if types == 0 { 0 } else { kernels::SOURCES },
            most_peers: others,
            reduces: [types; abi::OPS],
            scales: types,
        })
    }
}

/// A UUID as nvidia-smi writes it.
fn serial(uuid: driver::Uuid) -> String {
    let digits: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    format!("GPU-{}", parts.join("-"))
}

/// The kernel writes addresses on the PCI bus in small letters.
fn lower_case(letter: c_char) -> c_char {
    c_char::from_ne_bytes(letter.to_ne_bytes().map(|byte| byte.to_ascii_lowercase()))
}

/// The NUMA node of what is at an address of the PCI bus, or -1.
fn numa(pci: &[c_char]) -> i32 {
    let address: String =
        pci.iter().take_while(|c| **c != 0).map(|c| char::from(c.to_ne_bytes()[0])).collect();
    let file = format!("/sys/bus/pci/devices/{address}/numa_node");
    let node = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    node.unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_those_of_nvidia_smi() {
        let uuid = std::array::from_fn(|at| u8::try_from(at * 17).unwrap());
        assert_eq!(serial(uuid), "GPU-00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(serial(uuid).len(), 40);
    }

    #[test]
    fn a_gpu_that_is_on_no_bus_has_no_node() {
        assert_eq!(numa(&[0; 16]), -1);
    }

    #[test]
    fn without_a_driver_every_function_says_why() {
        let Some(why) = why_idle() else {
            println!("SKIPPED: there is a driver of NVIDIA's here, which serves");
            return;
        };
        assert!(why.contains("driver"), "{why}");
        assert!(Cuda::describe(0).is_err() && Cuda::open(0).is_err());
    }
}
