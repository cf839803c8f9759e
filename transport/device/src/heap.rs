//! Which bytes of a device are allocated: first fit, neighbours merged when freed. For devices that have no allocator of their own.

use std::collections::BTreeMap;

/// Alignment of every allocation in bytes, as [`Device::alloc`](crate::Device::alloc) promises.
const ALIGN: usize = 64;

/// Free and allocated runs of the bytes of a device.
#[derive(Debug)]
pub struct Heap {
    /// Lengths of the free runs, by offset. No two of them touch.
    free: BTreeMap<usize, usize>,
    /// Lengths of the allocations as they were asked for, by offset.
    used: BTreeMap<usize, usize>,
}

impl Heap {
    /// A heap of `len` free bytes, a multiple of the alignment.
    pub fn new(len: usize) -> Self {
        Self { free: BTreeMap::from([(0, len)]), used: BTreeMap::new() }
    }

    /// Allocates `len` bytes and returns their offset, if there is room.
    pub fn alloc(&mut self, len: usize) -> Option<usize> {
        let size = len.checked_next_multiple_of(ALIGN)?;
        let (&offset, &room) = self.free.iter().find(|&(_, &room)| room >= size)?;
        self.free.remove(&offset);
        if room > size {
            self.free.insert(offset + size, room - size);
        }
        self.used.insert(offset, len);
        Some(offset)
    }

    /// Frees the allocation of `len` bytes at `offset`; false when there is none.
    pub fn free(&mut self, offset: usize, len: usize) -> bool {
        if self.used.get(&offset) != Some(&len) {
            return false;
        }
        self.used.remove(&offset);
        let (mut start, mut end) = (offset, offset + len.next_multiple_of(ALIGN));
        if let Some((&before, _)) =
            self.free.range(..start).next_back().filter(|&(&o, &size)| o + size == start)
        {
            start = before;
        }
        if let Some(size) = self.free.remove(&end) {
            end += size;
        }
        self.free.insert(start, end - start);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, proptest};

    use super::*;

    /// A call: allocate so many bytes, or free the allocation of this index (modulo their number).
    #[derive(Clone, Debug)]
    enum Call {
        Alloc(usize),
        Free(usize),
    }

    fn call() -> impl Strategy<Value = Call> {
        (any::<bool>(), 1..700usize)
            .prop_map(|(alloc, n)| if alloc { Call::Alloc(n) } else { Call::Free(n) })
    }

    #[test]
    fn only_whole_allocations_are_freed_and_only_once() {
        let mut heap = Heap::new(256);
        let offset = heap.alloc(100).unwrap();
        assert!(!heap.free(offset, 64) && !heap.free(offset + 64, 36));
        assert!(heap.free(offset, 100) && !heap.free(offset, 100));
        assert_eq!(heap.alloc(257), None);
        assert_eq!(heap.alloc(usize::MAX), None);
    }

    proptest! {
        #[test]
        fn allocations_are_disjoint_and_all_comes_back(calls in proptest::collection::vec(call(), 1..100)) {
            let mut heap = Heap::new(4096);
            let mut live: Vec<(usize, usize)> = Vec::new();
            for call in calls {
                match call {
                    Call::Alloc(len) => {
                        let Some(offset) = heap.alloc(len) else { continue };
                        assert!(offset % ALIGN == 0 && offset + len <= 4096);
                        assert!(live.iter().all(|&(o, l)| offset + len <= o || o + l <= offset));
                        live.push((offset, len));
                    }
                    Call::Free(_) if live.is_empty() => {}
                    Call::Free(index) => {
                        let (offset, len) = live.swap_remove(index % live.len());
                        assert!(heap.free(offset, len));
                    }
                }
            }
            for (offset, len) in live {
                assert!(heap.free(offset, len));
            }
            assert_eq!(heap.alloc(4096), Some(0));
        }
    }
}
