//! From a [`Memory`] to bytes that safe code may touch, for the time of one kernel.

use std::slice;

use crate::Memory;

/// The bytes of `memory`, to read.
///
/// # Safety
/// They are valid, the CPU may read them, and nobody writes them while the slice lives.
pub(super) unsafe fn read<'a>(memory: Memory) -> &'a [u8] {
    // SAFETY: the caller's promise; `ptr` is never null.
    unsafe { slice::from_raw_parts(memory.ptr.as_ptr(), memory.len) }
}

/// The bytes of `memory`, to write.
///
/// # Safety
/// They are valid, the CPU may write them, and nobody else touches them while the slice lives.
pub(super) unsafe fn write<'a>(memory: Memory) -> &'a mut [u8] {
    // SAFETY: the caller's promise; `ptr` is never null.
    unsafe { slice::from_raw_parts_mut(memory.ptr.as_ptr(), memory.len) }
}
