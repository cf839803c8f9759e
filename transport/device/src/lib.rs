//! Whose memory it is, and who may touch it.
//!
//! All user memory is copied and reduced through a [`Device`]: the executor itself never dereferences it. The host
//! is one device ([`host`]), whose work is done when [`Queue::submit`] returns; others queue work and are polled.
//! [`software`] is an NPU made of a thread, whose memory the CPU executor cannot dereference: it runs in every test,
//! so that no shortcut creeps in.
//!
//! This crate knows nothing of ranks, plans or wires.

mod command;
mod dtype;
pub mod heap;
pub mod host;
mod memory;
pub mod plugin;
mod small;
pub mod software;
mod work;

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use crate::dtype::{Bf16, Dtype, F8E4M3, F8E5M2, F16};
pub use crate::memory::{Memory, Space};

/// What can go wrong on a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device has no room for an allocation.
    #[error("device {device} cannot allocate {len} bytes")]
    OutOfMemory {
        /// Name of the device.
        device: String,
        /// Bytes asked for.
        len: usize,
    },
    /// Memory was named that is not an allocation of this device.
    #[error("{address:#x} is not memory of device {device}")]
    NotMine {
        /// Name of the device.
        device: String,
        /// First byte of the memory.
        address: usize,
    },
    /// The device has no such operation on this type.
    #[error("device {device} cannot {what} on {dtype}")]
    Unsupported {
        /// Name of the device.
        device: String,
        /// The operation.
        what: &'static str,
        /// The data type.
        dtype: Dtype,
    },
    /// A system call failed.
    #[error("{call}")]
    System {
        /// Name of the call.
        call: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A call of a plug-in failed.
    #[error("{call} of device {device} failed: {status}{text}")]
    Plugin {
        /// Name of the device.
        device: String,
        /// The function.
        call: &'static str,
        /// What it returned.
        status: plugin::Status,
        /// What the plug-in says about it, behind a colon; or nothing.
        text: String,
    },
    /// Memory of this device cannot be had from other processes.
    #[error("device {device} has no peers")]
    NoPeers {
        /// Name of the device.
        device: String,
    },
    /// The device stopped serving its queues.
    #[error("device {device} is gone")]
    Gone {
        /// Name of the device.
        device: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Memory of a device as the kernel passes it between drivers.
#[derive(Debug)]
pub struct DmaBuf {
    /// The buffer.
    pub fd: OwnedFd,
    /// The first byte meant, in bytes from the buffer's start.
    pub offset: u64,
}

/// Memory of a device as another process of this host names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(pub [u8; dure_device_abi::HANDLE]);

/// A device whose memory collectives may read and write.
pub trait Device: Send + Sync + Debug {
    /// Name for people, such as `host` or `npu-software`.
    fn name(&self) -> &str;

    /// The space that the memory of this device is in.
    fn space(&self) -> Space;

    /// Allocates `len` bytes (at least 1), aligned to 64 bytes or more.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::System`].
    fn alloc(&self, len: usize) -> Result<Memory>;

    /// Gives back what [`Device::alloc`] returned.
    ///
    /// # Errors
    /// [`Error::NotMine`] when `memory` is not a whole allocation of this device.
    ///
    /// # Safety
    /// Nobody uses the memory any more: no work on it is queued, and no peer may write it.
    unsafe fn free(&self, memory: Memory) -> Result<()>;

    /// The pointer query: whether `address` lies in memory of this device. The host answers no to everything: what no
    /// other device owns is the host's.
    fn owns(&self, address: *const u8) -> bool;

    /// Where a part of this device's memory lies in a dma-buf of the kernel, so that a NIC can reach it there; `None`
    /// when the device exports none. A NIC's writes must be seen by work that is submitted afterwards without anybody
    /// flushing something between: a device that needs that exports none.
    fn dma_buf(&self, memory: Memory) -> Option<DmaBuf> {
        let _ = memory;
        None
    }

    /// Devices of one family reach each other's memory: what one has exported, another may import. `None` when it reaches nobody.
    fn family(&self) -> Option<&str> {
        None
    }

    /// A part of this device's memory for devices of its family in other processes of this host; `None` when they cannot reach it.
    fn export(&self, memory: Memory) -> Option<Handle> {
        let _ = memory;
        None
    }

    /// Memory of another device of the family, `len` bytes as its owner exported them: work on this device may name it, in
    /// this device's space, until `forget`.
    ///
    /// # Errors
    /// [`Error::NoPeers`], [`Error::Plugin`], [`Error::Gone`].
    fn import(&self, handle: &Handle, len: usize) -> Result<Memory> {
        let _ = (handle, len);
        Err(Error::NoPeers { device: self.name().to_owned() })
    }

    /// Ends what `import` gave.
    ///
    /// # Safety
    /// No work that names it is queued, and none will be.
    unsafe fn forget(&self, imported: Memory) {
        let _ = imported;
    }

    /// How many bytes it has copied from and to memory of the host since it was opened, where it counts them.
    fn host_bytes(&self) -> Option<u64> {
        None
    }

    /// Opens a queue of work. Queues are independent of one another.
    ///
    /// # Errors
    /// [`Error::System`] or [`Error::Gone`].
    fn queue(&self) -> Result<Box<dyn Queue>>;
}

/// A queue of work on one device. Work completes in the order of submission.
pub trait Queue: Send + Debug {
    /// Queues `work` and returns its number, counted from 1. Work numbered `k` is done when [`Queue::completed`] is at
    /// least `k`. Memory in [`Space::Host`] may be named by work on any device (as a DMA engine reads host memory).
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::Gone`].
    ///
    /// # Safety
    /// Until the work is done, all memory it names stays valid, nobody writes what it reads, and nobody touches what it
    /// writes. Each source may equal a destination exactly; nothing that is written overlaps anything else otherwise.
    unsafe fn submit(&mut self, work: &Work<'_>) -> Result<u64>;

    /// How much of the submitted work is done. Never goes down; never blocks.
    ///
    /// # Errors
    /// [`Error::Gone`] when the device stopped serving this queue.
    fn completed(&mut self) -> Result<u64>;
}

/// One piece of work for a [`Queue`].
#[derive(Debug)]
pub enum Work<'a> {
    /// `dst = src`, byte by byte; all of the same length.
    Copy {
        /// What is read.
        src: Memory,
        /// What is written; it may be `src`.
        dst: Memory,
        /// Where the same bytes go in the same pass over memory: read once, written twice.
        also: Option<Memory>,
        /// How both are written.
        stores: Stores,
    },
    /// `dst[i] = srcs[0][i] op srcs[1][i] op ...`, in the order of `srcs`. All of the same length, a multiple of the
    /// element size. With more than two sources, sums of 8-bit and 16-bit floating-point types accumulate in `f32` and
    /// are rounded once.
    Reduce {
        /// The sources, at least one.
        srcs: &'a [Memory],
        /// What is written; it may be one of the sources.
        dst: Memory,
        /// Where the same bytes go in the same pass over memory; it may be another of the sources.
        also: Option<Memory>,
        /// Type of the elements.
        dtype: Dtype,
        /// How two elements become one.
        by: &'a Combine,
        /// How both are written.
        stores: Stores,
    },
    /// `dst[i] = src[i] scaled`; both of the same length, a multiple of the element size.
    Scale {
        /// What is read.
        src: Memory,
        /// What is written; it may be `src`.
        dst: Memory,
        /// Type of the elements.
        dtype: Dtype,
        /// By how much.
        by: Scale,
    },
}

impl<'a> Work<'a> {
    /// [`Work::Copy`] to one place, through the cache.
    pub const fn copy(src: Memory, dst: Memory) -> Self {
        Self::Copy { src, dst, also: None, stores: Stores::Cached }
    }

    /// [`Work::Reduce`] to one place, through the cache.
    pub const fn reduce(srcs: &'a [Memory], dst: Memory, dtype: Dtype, by: &'a Combine) -> Self {
        Self::Reduce { srcs, dst, also: None, dtype, by, stores: Stores::Cached }
    }
}

/// How output is written. A hint: the bytes are the same, and a device that has no such choice ignores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stores {
    /// Through the cache, for output that is read again soon.
    #[default]
    Cached,
    /// Past the cache (non-temporal), for output larger than the cache or not read again soon: saves reading each line
    /// before it is written. Ordered before anything the submitter writes after the work is done.
    Streaming,
}

/// How two elements become one. Every operation is commutative; floating-point sums and products are not associative,
/// so the plan fixes their order.
#[derive(Clone, Debug)]
pub enum Combine {
    /// Sum; integers wrap.
    Sum,
    /// Product; integers wrap.
    Prod,
    /// Minimum; NaN if either is NaN, as in NCCL.
    Min,
    /// Maximum; NaN if either is NaN, as in NCCL.
    Max,
    /// Bitwise and; integers only.
    BitAnd,
    /// Bitwise or; integers only.
    BitOr,
    /// Bitwise exclusive or; integers only.
    BitXor,
    /// A function of the user.
    Custom(Custom),
}

impl Combine {
    /// Whether the operation is defined on the type: bitwise operations are not on floating-point types.
    #[inline]
    pub fn serves(&self, dtype: Dtype) -> bool {
        match self {
            Self::BitAnd | Self::BitOr | Self::BitXor => !dtype.is_float(),
            Self::Sum | Self::Prod | Self::Min | Self::Max | Self::Custom(_) => true,
        }
    }
}

/// A reduction that the user registered: called with the elements to add and the elements to add them to.
#[derive(Clone)]
pub struct Custom(pub Arc<CustomFn>);

/// The function behind [`Custom`]: `inout[i] = source[i] op inout[i]`. Both slices have the same length, a multiple of
/// the element size; they need not be aligned to the element.
pub type CustomFn = dyn Fn(&[u8], &mut [u8], Dtype) + Send + Sync;

impl Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Custom")
    }
}

/// By how much [`Work::Scale`] scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Multiply by a factor. `f64` computes in `f64`, every other floating-point type in `f32` with one rounding;
    /// integers multiply by the factor converted to their type, and wrap.
    By(f64),
    /// Multiply integers by a factor, wrapping, taken as the bits of the type (sign-extended to 64 bits).
    ByInteger(i64),
    /// Divide by a count. Floating-point types divide in the precision of [`Scale::By`]; integers truncate towards zero.
    Over(u32),
}
