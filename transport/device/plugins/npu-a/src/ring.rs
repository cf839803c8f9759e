//! What a rank's process and the engine share: the ring of orders, the counters. It holds no memory of the device.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dure_device_abi::maker::{Failure, Result};

/// Orders that wait at most.
pub(crate) const ORDERS: usize = 256;
/// Most sources of a reduction.
pub(crate) const SOURCES: u32 = 16;
/// Most streams that are open at once.
pub(crate) const STREAMS: usize = 64;

/// What the engine is told. Addresses of the device are offsets in its memory, or in what it has imported.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Order {
    pub(crate) kind: Kind,
    /// The stream, and the event that is complete when this is done.
    pub(crate) stream: u32,
    pub(crate) event: u64,
    pub(crate) srcs: [Place; SOURCES as usize],
    pub(crate) dst: Place,
    pub(crate) bytes: u64,
}

/// Kinds of orders.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) enum Kind {
    /// Rows, and the distances of their starts.
    Copy { rows: u32, src_pitch: u64, dst_pitch: u64 },
    /// `sources` of them, by the operation.
    Reduce { sources: u32, dtype: u32, op: u32 },
    /// As `dureDeviceScale_t` has it.
    Scale { dtype: u32, kind: u32, factor: f64, integer: i64 },
    /// Map memory of another engine under this number: its process, its descriptor.
    Import { number: u32, process: u32, file: u32 },
    /// End that.
    Forget { number: u32 },
    /// Make bytes zero.
    Zero,
    /// End.
    Stop,
}

/// Where bytes are.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Place {
    pub(crate) space: Space,
    /// Which import.
    pub(crate) number: u32,
    /// An address of the host, or an offset.
    pub(crate) at: u64,
}

/// Whose bytes they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) enum Space {
    #[default]
    Host,
    Own,
    Imported,
}

/// The shared page or two.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ring {
    /// Orders given and taken; only ever grow.
    given: AtomicU64,
    taken: AtomicU64,
    /// Changes with each order, for an engine that sleeps.
    bell: AtomicU32,
    /// An order that failed: its error number.
    pub(crate) failed: AtomicU32,
    /// The descriptor of the engine's memory, in the engine.
    pub(crate) file: AtomicU32,
    pub(crate) completed: [AtomicU64; STREAMS],
    pub(crate) moved: Moved,
    orders: [std::cell::UnsafeCell<Order>; ORDERS],
}

/// What the engine has moved, in bytes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Moved {
    pub(crate) from_host: AtomicU64,
    pub(crate) to_host: AtomicU64,
    pub(crate) inside: AtomicU64,
    pub(crate) peer: AtomicU64,
    pub(crate) reduced: AtomicU64,
}

/// A ring that two processes have mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared(NonNull<Ring>);

// SAFETY: what two sides write is atomic, or handed over by `given` and `taken`.
unsafe impl Send for Shared {}
// SAFETY: as for `Send`; whoever gives holds a lock.
unsafe impl Sync for Shared {}

impl Shared {
    /// A new ring, zeroed, that a child process shares.
    pub(crate) fn new() -> Result<Self> {
        let (access, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let at = unsafe { libc::mmap(ptr::null_mut(), size_of::<Ring>(), access, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(Failure::system("mmap"));
        }
        NonNull::new(at.cast()).map(Self).ok_or_else(|| Failure::system("mmap"))
    }

    /// Ends the mapping of this process.
    pub(crate) fn unmap(self) {
        // SAFETY: it is a whole mapping, used no more.
        unsafe { libc::munmap(self.0.as_ptr().cast::<c_void>(), size_of::<Ring>()) };
    }

    pub(crate) fn ring(&self) -> &Ring {
        // SAFETY: it is mapped until `unmap`; zeroes are a ring.
        unsafe { self.0.as_ref() }
    }
}

impl Ring {
    /// How many orders fit.
    pub(crate) fn room(&self) -> u64 {
        ORDERS as u64 - (self.given.load(Ordering::Relaxed) - self.taken.load(Ordering::Acquire))
    }

    /// Gives an order, for which there is room. One thread at a time.
    pub(crate) fn give(&self, order: Order) {
        let number = self.given.load(Ordering::Relaxed);
        // SAFETY: the engine has taken what was there, and looks again only at `given`.
        unsafe { *self.orders[at(number)].get() = order };
        self.given.store(number + 1, Ordering::Release);
        self.bell.fetch_add(1, Ordering::SeqCst);
        futex(&self.bell, libc::FUTEX_WAKE, 1, None);
    }

    /// The next order, once there is one; `None` after a second.
    pub(crate) fn take(&self) -> Option<Order> {
        let number = self.taken.load(Ordering::Relaxed);
        for look in 0..2000 {
            let heard = self.bell.load(Ordering::SeqCst);
            if self.given.load(Ordering::Acquire) > number {
                // SAFETY: it was given, and nobody writes it before it was taken.
                return Some(unsafe { *self.orders[at(number)].get() });
            }
            if look < 1999 {
                std::hint::spin_loop();
            } else {
                futex(&self.bell, libc::FUTEX_WAIT, heard, Some(1));
            }
        }
        None
    }

    /// The order that was taken is done.
    pub(crate) fn done(&self, order: &Order) {
        if order.event > 0 {
            self.completed[order.stream as usize].store(order.event, Ordering::Release);
        }
        let number = self.taken.load(Ordering::Relaxed);
        self.taken.store(number + 1, Ordering::Release);
    }
}

/// Where an order of this number lies.
fn at(number: u64) -> usize {
    usize::try_from(number % ORDERS as u64).expect("less than the ring is long")
}

fn futex(word: &AtomicU32, what: libc::c_int, value: u32, seconds: Option<i64>) {
    let timeout = libc::timespec { tv_sec: seconds.unwrap_or(0), tv_nsec: 0 };
    let until = if seconds.is_some() { &raw const timeout } else { ptr::null() };
    // SAFETY: the word and the timeout are alive. That it was interrupted, or had nothing to do, is no matter.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), what, value, until) };
}
