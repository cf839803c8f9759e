//! Memory in strips that stay in the first-level cache.

use std::cmp::min;

/// Bytes of a strip. Long enough that what is done once a strip does not show, short enough that writing one past the
/// cache overlaps with reading the next (512 bytes are as fast, 4 KiB a tenth slower).
pub(super) const STRIP: usize = 1 << 10;

/// Bytes of a line of the cache.
pub(super) const LINE: usize = 64;

/// A strip on the stack, at the start of a line.
#[repr(align(64))]
pub(super) struct Strip([u8; STRIP]);

impl Strip {
    /// A strip of zeros.
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self([0; STRIP])
    }

    /// Its first byte.
    #[inline(always)]
    pub(super) const fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }
}

/// The offset and length of each strip of `len` bytes, at most `strip` at a time.
#[inline(always)]
pub(super) fn strips(len: usize, strip: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(strip).map(move |offset| (offset, min(strip, len - offset)))
}

/// The same, with the first one so short that the others begin with a line of memory at `address`: to whole elements if
/// the memory is aligned to them or not.
#[inline(always)]
pub(super) fn aligned_strips(
    address: usize,
    len: usize,
    strip: usize,
) -> impl Iterator<Item = (usize, usize)> {
    /// Every element has a size that divides this.
    const WHOLE: usize = 8;
    let head = min(len, (address.wrapping_neg() % LINE) & !(WHOLE - 1));
    let first = (head > 0).then_some((0, head));
    first.into_iter().chain(strips(len - head, strip).map(move |(at, len)| (head + at, len)))
}
