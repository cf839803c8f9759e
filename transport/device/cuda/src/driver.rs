//! libcuda, opened at run time: the functions of the driver that are used, by name.
//!
//! Names, types and numbers are those of `cuda.h` (CUDA 12.0). Results are plain integers: a driver may return codes that no
//! enumeration of ours knows.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::sync::OnceLock;

use dure_device_abi as abi;
use dure_device_abi::maker::{Failure, Result};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// The library, as every driver installs it.
pub(crate) const LIBRARY: &str = "libcuda.so.1";

/// The oldest driver that serves, as `cuDriverGetVersion` says it: 12.0, for the text of the kernels and for waits on values.
const OLDEST: c_int = 12000;

/// A `CUresult`.
pub(crate) type Code = c_int;

/// Codes of `CUresult`.
pub(crate) mod code {
    use super::Code;

    pub(crate) const SUCCESS: Code = 0;
    pub(crate) const INVALID_VALUE: Code = 1;
    pub(crate) const OUT_OF_MEMORY: Code = 2;
    pub(crate) const NO_DEVICE: Code = 100;
    pub(crate) const NOT_READY: Code = 600;
    pub(crate) const PEER_ACCESS_ALREADY_ENABLED: Code = 704;
    pub(crate) const NOT_SUPPORTED: Code = 801;

    /// Those after which a context serves nothing any more: deinitialized, unavailable, errors of memory and links that cannot be
    /// corrected, illegal addresses and instructions, time-outs, a context that was destroyed, unknown.
    pub(crate) const FATAL: [Code; 16] =
        [4, 46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999];
}

/// A `CUdevice`.
pub(crate) type CuDevice = c_int;
/// A `CUdeviceptr`.
pub(crate) type Address = u64;
/// A `CUcontext`.
pub(crate) type Context = *mut c_void;
/// A `CUstream`.
pub(crate) type CuStream = *mut c_void;
/// A `CUevent`.
pub(crate) type CuEvent = *mut c_void;
/// A `CUfunction`.
pub(crate) type Function = *mut c_void;
/// A `CUhostFn`.
pub(crate) type HostFunction = unsafe extern "C" fn(*mut c_void);

/// A `CUuuid`.
pub(crate) type Uuid = [u8; 16];

/// A `CUipcMemHandle`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct IpcHandle(pub(crate) [u8; 64]);

/// `CUDA_MEMCPY2D`.
#[repr(C)]
pub(crate) struct Copy2d {
    pub(crate) src_x: usize,
    pub(crate) src_y: usize,
    pub(crate) src_type: c_uint,
    pub(crate) src_host: *const c_void,
    pub(crate) src_device: Address,
    pub(crate) src_array: *mut c_void,
    pub(crate) src_pitch: usize,
    pub(crate) dst_x: usize,
    pub(crate) dst_y: usize,
    pub(crate) dst_type: c_uint,
    pub(crate) dst_host: *mut c_void,
    pub(crate) dst_device: Address,
    pub(crate) dst_array: *mut c_void,
    pub(crate) dst_pitch: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// `CU_MEMORYTYPE_DEVICE`, and the type that leaves it to the address, `CU_MEMORYTYPE_UNIFIED`.
pub(crate) const MEMORY_OF_DEVICE: c_uint = 2;
pub(crate) const MEMORY_UNIFIED: c_uint = 4;

/// `CU_STREAM_NON_BLOCKING`: the stream does not wait for the default one.
pub(crate) const STREAM_NON_BLOCKING: c_uint = 1;
/// `CU_STREAM_WAIT_VALUE_GEQ`.
pub(crate) const WAIT_VALUE_AT_LEAST: c_uint = 0;
/// `CU_EVENT_DISABLE_TIMING`.
pub(crate) const EVENT_DISABLE_TIMING: c_uint = 2;
/// `CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS`.
pub(crate) const IPC_LAZY_PEER_ACCESS: c_uint = 1;
/// `CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD`.
pub(crate) const RANGE_HANDLE_DMA_BUF: c_int = 1;

/// Numbers of `CUdevice_attribute`.
pub(crate) mod attribute {
    use std::ffi::c_int;

    pub(crate) const MULTIPROCESSORS: c_int = 16;
    pub(crate) const CAPABILITY_MAJOR: c_int = 75;
    pub(crate) const RDMA_WRITES_ORDERING: c_int = 118;
    pub(crate) const WAITS_ON_VALUES: c_int = 122;
    pub(crate) const DMA_BUF: c_int = 124;
}

/// `CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER`: what a NIC has written is seen by the device that owns the memory.
pub(crate) const ORDERED_FOR_OWNER: c_int = 100;

/// Numbers of `CUpointer_attribute`.
pub(crate) mod pointer {
    use std::ffi::c_int;

    pub(crate) const CONTEXT: c_int = 1;
    pub(crate) const MEMORY_TYPE: c_int = 2;
    pub(crate) const BUFFER_ID: c_int = 7;
    pub(crate) const IS_MANAGED: c_int = 8;
    pub(crate) const DEVICE_ORDINAL: c_int = 9;
}

macro_rules! functions {
    ($($name:ident = $symbol:literal($($argument:ty),*);)*) => {
        /// The functions.
        pub(crate) struct Driver {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) -> Code,)*
        }

        impl Driver {
            fn of(library: &Library) -> std::result::Result<Self, &'static str> {
                Ok(Self {
                    $($name: {
                        // SAFETY: cuda.h gives the function this type.
                        let found = unsafe {
                            library.get::<unsafe extern "C" fn($($argument),*) -> Code>($symbol.as_bytes())
                        };
                        *found.map_err(|_| $symbol)?
                    },)*
                })
            }
        }

        /// All names.
        #[cfg(test)]
        pub(crate) const NAMES: &[&str] = &[$($symbol),*];
    };
}

functions! {
    init = "cuInit"(c_uint);
    driver_version = "cuDriverGetVersion"(*mut c_int);
    error_string = "cuGetErrorString"(Code, *mut *const c_char);
    device_count = "cuDeviceGetCount"(*mut c_int);
    device_get = "cuDeviceGet"(*mut CuDevice, c_int);
    device_name = "cuDeviceGetName"(*mut c_char, c_int, CuDevice);
    device_uuid = "cuDeviceGetUuid"(*mut Uuid, CuDevice);
    device_attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, CuDevice);
    device_memory = "cuDeviceTotalMem_v2"(*mut usize, CuDevice);
    device_pci = "cuDeviceGetPCIBusId"(*mut c_char, c_int, CuDevice);
    can_access_peer = "cuDeviceCanAccessPeer"(*mut c_int, CuDevice, CuDevice);
    retain = "cuDevicePrimaryCtxRetain"(*mut Context, CuDevice);
    release = "cuDevicePrimaryCtxRelease_v2"(CuDevice);
    push = "cuCtxPushCurrent_v2"(Context);
    pop = "cuCtxPopCurrent_v2"(*mut Context);
    enable_peer = "cuCtxEnablePeerAccess"(Context, c_uint);
    alloc = "cuMemAlloc_v2"(*mut Address, usize);
    free = "cuMemFree_v2"(Address);
    host_alloc = "cuMemHostAlloc"(*mut *mut c_void, usize, c_uint);
    host_free = "cuMemFreeHost"(*mut c_void);
    range = "cuMemGetAddressRange_v2"(*mut Address, *mut usize, Address);
    attributes = "cuPointerGetAttributes"(c_uint, *mut c_int, *mut *mut c_void, Address);
    attribute = "cuPointerGetAttribute"(*mut c_void, c_int, Address);
    range_handle = "cuMemGetHandleForAddressRange"(*mut c_void, Address, usize, c_int, u64);
    ipc_export = "cuIpcGetMemHandle"(*mut IpcHandle, Address);
    ipc_open = "cuIpcOpenMemHandle_v2"(*mut Address, IpcHandle, c_uint);
    ipc_close = "cuIpcCloseMemHandle"(Address);
    priorities = "cuCtxGetStreamPriorityRange"(*mut c_int, *mut c_int);
    stream_create = "cuStreamCreateWithPriority"(*mut CuStream, c_uint, c_int);
    stream_destroy = "cuStreamDestroy_v2"(CuStream);
    stream_query = "cuStreamQuery"(CuStream);
    stream_synchronize = "cuStreamSynchronize"(CuStream);
    stream_wait = "cuStreamWaitEvent"(CuStream, CuEvent, c_uint);
    stream_wait_value = "cuStreamWaitValue64_v2"(CuStream, Address, u64, c_uint);
    launch_host = "cuLaunchHostFunc"(CuStream, HostFunction, *mut c_void);
    event_create = "cuEventCreate"(*mut CuEvent, c_uint);
    event_record = "cuEventRecord"(CuEvent, CuStream);
    event_query = "cuEventQuery"(CuEvent);
    event_destroy = "cuEventDestroy_v2"(CuEvent);
    copy = "cuMemcpyAsync"(Address, Address, usize, CuStream);
    copy_2d = "cuMemcpy2DAsync_v2"(*const Copy2d, CuStream);
    set = "cuMemsetD8Async"(Address, u8, usize, CuStream);
    module_load = "cuModuleLoadData"(*mut *mut c_void, *const c_void);
    module_function = "cuModuleGetFunction"(*mut Function, *mut c_void, *const c_char);
    module_unload = "cuModuleUnload"(*mut c_void);
    launch = "cuLaunchKernel"(
        Function, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CuStream, *mut *mut c_void, *mut *mut c_void
    );
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// The driver, which is opened when it is asked for first, and stays.
///
/// # Errors
/// `UNSUPPORTED`: why there is none that serves, in a sentence.
pub(crate) fn driver() -> Result<&'static Driver> {
    static DRIVER: OnceLock<Result<Driver>> = OnceLock::new();
    let opened = DRIVER.get_or_init(|| open().map_err(|why| Failure(abi::UNSUPPORTED, why)));
    opened.as_ref().map_err(Clone::clone)
}

fn open() -> std::result::Result<Driver, String> {
    // SAFETY: the driver's constructors run, as in every program that uses CUDA.
    let library = unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|_| {
        format!("{LIBRARY} is not to be found: no driver of NVIDIA's is installed here")
    })?;
    let driver = Driver::of(&library);
    // Nothing of it is unloaded.
    std::mem::forget(library);
    let driver = driver.map_err(|name| {
        format!("{LIBRARY} has no {name}: the driver is older than CUDA {}", version(OLDEST))
    })?;
    // SAFETY: it takes a number.
    let ready = unsafe { (driver.init)(0) };
    if ready == code::NO_DEVICE {
        return Err("the driver finds no GPU that this process may use".to_owned());
    }
    driver.check("cuInit", ready).map_err(|Failure(_, why)| why)?;
    let mut found = 0;
    // SAFETY: the argument is alive.
    let asked = unsafe { (driver.driver_version)(&raw mut found) };
    driver.check("cuDriverGetVersion", asked).map_err(|Failure(_, why)| why)?;
    if found < OLDEST {
        let (found, oldest) = (version(found), version(OLDEST));
        return Err(format!("the driver is of CUDA {found}, and {oldest} or later is needed"));
    }
    Ok(driver)
}

/// A version as people write it.
fn version(number: c_int) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

impl Driver {
    /// An error unless a call has succeeded.
    pub(crate) fn check(&self, call: &str, code: Code) -> Result<()> {
        if code == code::SUCCESS { Ok(()) } else { Err(self.failure(call, code)) }
    }

    #[cold]
    fn failure(&self, call: &str, code: Code) -> Failure {
        let status = match code {
            code::OUT_OF_MEMORY => abi::OUT_OF_MEMORY,
            code::NOT_SUPPORTED => abi::UNSUPPORTED,
            code if code::FATAL.contains(&code) => abi::GONE,
            _ => abi::FAILED,
        };
        Failure(status, format!("{call}: {} ({code})", self.sentence(code)))
    }

    /// What the driver says of a code.
    fn sentence(&self, code: Code) -> String {
        let mut text = std::ptr::null();
        // SAFETY: the argument is alive.
        let known = unsafe { (self.error_string)(code, &raw mut text) };
        if known != code::SUCCESS || text.is_null() {
            return "an error that the driver has no sentence for".to_owned();
        }
        // SAFETY: a text of the driver's stays, and ends with a 0.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_as_people_do() {
        assert_eq!([version(12000), version(11040), version(12090)], ["12.0", "11.4", "12.9"]);
    }

    #[test]
    fn structures_are_as_long_as_cuda_h_says() {
        assert_eq!((size_of::<Copy2d>(), std::mem::offset_of!(Copy2d, dst_x)), (128, 56));
        assert_eq!((size_of::<IpcHandle>(), NAMES.len()), (64, 46));
    }
}
