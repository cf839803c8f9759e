//! The program's allocator: the system's, which on demand counts the bytes that are allocated, now and at most.

#![allow(unsafe_code, reason = "an allocator is")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

/// Off unless asked for: counters that all threads write to cost time, which others measure.
static COUNTS: AtomicBool = AtomicBool::new(false);
/// Bytes allocated less bytes freed since counting began.
static NOW: AtomicIsize = AtomicIsize::new(0);
static MOST: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts from now on.
pub(crate) fn count() {
    COUNTS.store(true, Ordering::Relaxed);
}

/// Bytes that were allocated since counting began and are still; below zero when more of the older ones were freed.
pub(crate) fn allocated() -> isize {
    NOW.load(Ordering::Relaxed)
}

/// Most bytes that were allocated at a time since [`forget_most`].
pub(crate) fn most_allocated() -> isize {
    MOST.load(Ordering::Relaxed)
}

/// From now on, what is allocated now is the most.
pub(crate) fn forget_most() {
    MOST.store(allocated(), Ordering::Relaxed);
}

fn add(bytes: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        let bytes = bytes.cast_signed();
        MOST.fetch_max(NOW.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }
}

fn subtract(bytes: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        NOW.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
    }
}

// SAFETY: it is the system's, and counts beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    // The system has zeroed memory that nobody has touched.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        subtract(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        subtract(layout.size());
        add(new_size);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_counted_until_it_is_freed() {
        count();
        // Other tests allocate less than half of this beside.
        let before = allocated();
        let memory = vec![1_u8; 64 << 20];
        let enough = before + (32 << 20);
        assert!(allocated() >= enough && most_allocated() >= enough);
        drop(memory);
        assert!(allocated() < enough);
    }
}
