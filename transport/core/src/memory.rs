//! The only place of this crate that dereferences memory of regions.
//!
//! Such memory is written by others at any time, so it is never a slice here: bytes are copied in and out through raw
//! pointers.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

use dure_device::{Memory, Space};

/// Alignment of allocated memory, in bytes: a cache line, as [`crate::Transport::alloc`] promises.
const ALIGN: usize = 64;

/// Host memory that somebody promised to keep mapped, readable and writable by copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes(Memory);

impl Bytes {
    /// # Safety
    /// As long as this or a copy of it is used, `memory` is mapped, no Rust reference into it is alive, and no other
    /// thread writes what is read here or touches what is written here.
    ///
    /// # Panics
    /// When the memory is not the host's.
    pub(crate) unsafe fn new(memory: Memory) -> Self {
        assert_eq!(memory.space, Space::Host, "the CPU copies host memory only");
        Self(memory)
    }

    pub(crate) fn memory(self) -> Memory {
        self.0
    }

    /// Copies `len` bytes from `offset` out.
    pub(crate) fn read(self, offset: usize, len: usize) -> Vec<u8> {
        let part = self.0.part(offset, len);
        let mut bytes = vec![0; len];
        // SAFETY: `part` checked the bounds and `new` had the memory promised; the vector is new, so they are apart.
        unsafe {
            part.ptr
                .copy_to_nonoverlapping(std::ptr::NonNull::from(bytes.as_mut_slice()).cast(), len)
        };
        bytes
    }

    /// Copies `bytes` to `offset`.
    pub(crate) fn write(self, offset: usize, bytes: &[u8]) {
        let part = self.0.part(offset, bytes.len());
        // SAFETY: `part` checked the bounds and `new` had the memory promised, without references into it, so they are
        // apart.
        unsafe {
            part.ptr.copy_from_nonoverlapping(std::ptr::NonNull::from(bytes).cast(), bytes.len())
        };
    }
}

/// Copies bytes from an address of this process.
///
/// # Safety
/// There are `into.len` bytes at `address`, which nobody writes meanwhile; `into` is host memory, apart from them, that
/// nobody else touches.
pub(crate) unsafe fn copy_from_address(address: usize, into: Memory) {
    let from = std::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: the caller's promise.
    unsafe { into.ptr.as_ptr().copy_from_nonoverlapping(from, into.len) };
}

/// Zeroed memory of the heap, given back when dropped.
#[derive(Debug)]
pub(crate) struct Heap {
    memory: Memory,
    layout: Layout,
}

impl Heap {
    /// # Panics
    /// When `len` is more than an address space holds.
    pub(crate) fn new(len: usize) -> Self {
        // Not even an empty region may share its address with another.
        let layout = Layout::from_size_align(len.max(1), ALIGN)
            .expect("a length that the address space holds");
        // SAFETY: the layout has a size of at least 1.
        let ptr = unsafe { alloc_zeroed(layout) };
        if ptr.is_null() {
            handle_alloc_error(layout);
        }
        Self { memory: Memory::host(ptr, len), layout }
    }

    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with this layout.
        unsafe { dealloc(self.memory.ptr.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heap_memory_is_zero_aligned_and_holds_what_is_written() {
        let heap = Heap::new(1000);
        assert_eq!(heap.memory().address() % ALIGN, 0);
        // SAFETY: the heap outlives the use, and nobody else knows it.
        let bytes = unsafe { Bytes::new(heap.memory()) };
        assert_eq!(bytes.read(0, 1000), vec![0; 1000]);
        bytes.write(3, b"dure");
        assert_eq!(bytes.read(2, 6), b"\0dure\0");
    }

    #[test]
    #[should_panic(expected = "part 8..12 of memory of 10 bytes")]
    fn nothing_is_written_past_the_end() {
        let heap = Heap::new(10);
        // SAFETY: as above.
        unsafe { Bytes::new(heap.memory()) }.write(8, b"dure");
    }
}
