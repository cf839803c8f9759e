//! Where memory is.

use std::ptr::NonNull;

/// The address space that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// The CPU may dereference it.
    Host,
    /// Only the device of this number may: its address says which allocation and where in it, no more.
    Device(u16),
}

/// A run of bytes somewhere. Plain data: holding a `Memory` promises nothing about the bytes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The first byte; dangling when `len` is 0.
    pub ptr: NonNull<u8>,
    /// Length in bytes.
    pub len: usize,
    /// Who may dereference `ptr`.
    pub space: Space,
}

// SAFETY: an address is a number; whoever dereferences it answers for the access.
unsafe impl Send for Memory {}
// SAFETY: as for `Send`.
unsafe impl Sync for Memory {}

impl Memory {
    /// No bytes at all.
    pub const EMPTY: Self = Self { ptr: NonNull::dangling(), len: 0, space: Space::Host };

    /// Host memory of `len` bytes from `ptr`; [`Memory::EMPTY`] when `ptr` is null.
    pub fn host(ptr: *mut u8, len: usize) -> Self {
        NonNull::new(ptr).map_or(Self::EMPTY, |ptr| Self { ptr, len, space: Space::Host })
    }

    /// The `len` bytes from `offset` of this memory.
    ///
    /// # Panics
    /// When they are not inside this memory.
    #[inline]
    #[must_use]
    pub fn part(self, offset: usize, len: usize) -> Self {
        let end =
            offset.checked_add(len).expect("a part of memory ends before the address space does");
        assert!(end <= self.len, "part {offset}..{end} of memory of {} bytes", self.len);
        // Wrapping: the bounds were checked against the length, and the address is not dereferenced here.
        let ptr = self.ptr.as_ptr().wrapping_add(offset);
        Self {
            ptr: NonNull::new(ptr).expect("memory does not wrap around to address zero"),
            len,
            space: self.space,
        }
    }

    /// Address of the first byte, as a number.
    pub fn address(self) -> usize {
        self.ptr.as_ptr().addr()
    }

    /// Whether `other` lies inside this memory.
    pub fn contains(self, other: Self) -> bool {
        self.space == other.space
            && self.address() <= other.address()
            && other.address() + other.len <= self.address() + self.len
    }

    /// Whether the two share a byte.
    pub fn overlaps(self, other: Self) -> bool {
        self.space == other.space
            && self.address() < other.address() + other.len
            && other.address() < self.address() + self.len
    }
}
