//! Where work writes: to one place or two, through the cache or past it.

use std::ptr;

use crate::{Memory, Stores};

/// The destinations of a piece of work.
pub(super) struct Output<'a> {
    /// The first.
    pub(super) dst: &'a Memory,
    /// The second, of the same length.
    pub(super) also: &'a Option<Memory>,
    /// How both are written.
    pub(super) stores: Stores,
}

impl Output<'_> {
    /// Whether it is one place, written through the cache: then there is nothing to do but to write it.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.also.is_none() && self.stores == Stores::Cached
    }

    /// Writes `len` bytes from `src` at `at` of every destination.
    ///
    /// # Safety
    /// The CPU may read `src` and write the destinations, and nobody else touches them meanwhile. `src` is the place in
    /// a destination or overlaps none.
    #[inline(always)]
    pub(super) unsafe fn write(&self, src: *const u8, at: usize, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.write_to(self.dst, src, at, len) };
        if let Some(also) = self.also {
            // SAFETY: the caller's promise.
            unsafe { self.write_to(also, src, at, len) };
        }
    }

    /// # Safety
    /// As for [`Output::write`].
    #[inline(always)]
    unsafe fn write_to(&self, dst: &Memory, src: *const u8, at: usize, len: usize) {
        let dst = dst.ptr.as_ptr().wrapping_add(at);
        match self.stores {
            _ if ptr::eq(dst, src) => {}
            // SAFETY: the caller's promise: they do not overlap, as they are not the same.
            Stores::Cached => unsafe { ptr::copy_nonoverlapping(src, dst, len) },
            // SAFETY: as above.
            Stores::Streaming => unsafe { stream(src, dst, len) },
        }
    }

    /// Orders what was written past the cache before all that this thread writes from now on.
    #[inline(always)]
    pub(super) fn finish(&self) {
        #[cfg(target_arch = "x86_64")]
        if self.stores == Stores::Streaming {
            // SAFETY: every x86-64 has SSE.
            unsafe { std::arch::x86_64::_mm_sfence() };
        }
    }
}

/// Copies past the cache: whole lines of the destination with non-temporal stores, the rest as usual. The stores are of
/// 16 bytes, which every x86-64 has: four of them fill a line's buffer, and wider ones were not faster (measured on
/// Sapphire Rapids, 1 MiB to 128 MiB).
///
/// # Safety
/// The CPU may read `src` and write `dst`, they do not overlap, and nobody else touches them meanwhile.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn stream(src: *const u8, dst: *mut u8, len: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};

    use super::strip::LINE;

    let head = dst.align_offset(LINE).min(len);
    let tail = head + (len - head) / LINE * LINE;
    // SAFETY: the caller's promise.
    unsafe { ptr::copy_nonoverlapping(src, dst, head) };
    for at in (head..tail).step_by(size_of::<__m128i>()) {
        let (src, dst) = (src.wrapping_add(at), dst.wrapping_add(at));
        // SAFETY: the caller's promise.
        let vector = unsafe { _mm_loadu_si128(src.cast()) };
        // SAFETY: the caller's promise; lines are aligned, and so is a quarter of one.
        unsafe { _mm_stream_si128(dst.cast(), vector) };
    }
    let (src, dst) = (src.wrapping_add(tail), dst.wrapping_add(tail));
    // SAFETY: the caller's promise.
    unsafe { ptr::copy_nonoverlapping(src, dst, len - tail) };
}

/// As usual: there are no such stores.
///
/// # Safety
/// The CPU may read `src` and write `dst`, they do not overlap, and nobody else touches them meanwhile.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn stream(src: *const u8, dst: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr::copy_nonoverlapping(src, dst, len) };
}
