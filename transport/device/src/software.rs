//! A software NPU: a thread that serves queues of work on memory that the CPU cannot dereference.
//!
//! ```text
//!  caller                          | engine (a thread)
//!                                  |
//!  Queue::submit -- commands ----> | for each: translate addresses, do the work,
//!  Queue::completed <-- counter -- |           raise the queue's counter
//!                                  |
//!  addresses without access rights | the same pages, readable and writable elsewhere
//! ```
//!
//! It exists for tests: whoever dereferences its memory on the CPU is killed, and whoever does not wait for completion
//! reads old data. Host memory that work names is read and written by the engine as by a DMA engine.
//!
//! Commands travel by crossbeam's channel and completions by one counter that is stored with Release and loaded with
//! Acquire: there is no other lock-free protocol here, so no loom model either.

mod engine;
mod pages;
mod queue;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use self::engine::Link;
use self::pages::Pages;
use self::queue::{Hold, SoftwareQueue};
use crate::heap::Heap;
use crate::{Device, Error, Memory, Queue, Result, Space};

/// What a software NPU is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name for people.
    pub name: String,
    /// Number of the device, as in [`Space::Device`].
    pub number: u16,
    /// Bytes of its memory, rounded up to whole pages.
    pub capacity: usize,
    /// With a seed, queues hold work back until more work was submitted or [`Queue::completed`] was asked a few times:
    /// how often is a function of the seed, the queue's number and the work's number alone.
    pub lazy: Option<u64>,
}

impl Default for Options {
    /// Device 0 with 64 MiB, which does its work as soon as it can.
    fn default() -> Self {
        Self { name: "npu-software".to_owned(), number: 0, capacity: 64 << 20, lazy: None }
    }
}

/// Starts a software NPU. Its thread sleeps when there is nothing to do, and ends when the device and all its queues
/// are dropped.
///
/// # Errors
/// [`Error::System`].
pub fn open(options: Options) -> Result<Arc<Software>> {
    let pages = Arc::new(Pages::new(&options.name, options.capacity)?);
    let (link, engine) = engine::start(&options.name, Arc::clone(&pages))?;
    let heap = RwLock::new(Heap::new(pages.len()));
    let (engine, queues) = (RwLock::new(Some(engine)), AtomicU64::new(0));
    Ok(Arc::new(Software { options, pages, heap, link, engine, queues }))
}

/// A software NPU.
#[derive(Debug)]
pub struct Software {
    options: Options,
    pages: Arc<Pages>,
    /// Not used on the data path.
    heap: RwLock<Heap>,
    link: Link,
    /// The thread, until it was waited for.
    engine: RwLock<Option<JoinHandle<()>>>,
    /// Queues opened so far.
    queues: AtomicU64,
}

impl Software {
    /// Fails the device, for tests of faults: work that is not done is lost. When this returns, all queues report
    /// [`Error::Gone`] and the device touches no memory any more.
    pub fn die(&self) {
        self.link.stop();
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        // If the engine panicked, in a function of the user, the panic hook has told so; it is gone either way.
        let _ = engine.map(JoinHandle::join);
    }
}

impl Device for Software {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn space(&self) -> Space {
        Space::Device(self.options.number)
    }

    fn alloc(&self, len: usize) -> Result<Memory> {
        assert!(len > 0, "an allocation has at least one byte");
        let offset = self.heap.write().unwrap_or_else(PoisonError::into_inner).alloc(len);
        let offset =
            offset.ok_or_else(|| Error::OutOfMemory { device: self.name().to_owned(), len })?;
        Ok(self.pages.face(self.space()).part(offset, len))
    }

    unsafe fn free(&self, memory: Memory) -> Result<()> {
        let offset = memory.address().wrapping_sub(self.pages.face(self.space()).address());
        let mut heap = self.heap.write().unwrap_or_else(PoisonError::into_inner);
        if memory.space == self.space() && heap.free(offset, memory.len) {
            Ok(())
        } else {
            Err(Error::NotMine { device: self.name().to_owned(), address: memory.address() })
        }
    }

    fn owns(&self, address: *const u8) -> bool {
        let face = self.pages.face(self.space());
        (face.address()..face.address() + face.len).contains(&address.addr())
    }

    fn queue(&self) -> Result<Box<dyn Queue>> {
        if self.link.gone() {
            return Err(Error::Gone { device: self.name().to_owned() });
        }
        let number = self.queues.fetch_add(1, Ordering::Relaxed);
        let hold = self.options.lazy.map(|seed| Hold { seed, queue: number });
        let face = self.pages.face(self.space());
        Ok(Box::new(SoftwareQueue::new(self.name().to_owned(), face, self.link.clone(), hold)))
    }
}
