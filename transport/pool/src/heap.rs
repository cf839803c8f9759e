//! Which bytes of the own segment are free. Kept in private memory, where no peer can damage it.

use std::collections::BTreeMap;

use crate::map::PAGE;

/// Unit of what is smaller than a page: a cache line, so that no two regions share one.
const SMALL: u64 = 64;

/// The free ranges of a segment, by their start; no two of them touch.
#[derive(Debug)]
pub(crate) struct Heap {
    free: BTreeMap<u64, u64>,
}

/// What an allocation of `len` bytes occupies; also a multiple of its alignment.
pub(crate) fn footprint(len: u64) -> Option<u64> {
    if len < PAGE {
        Some(len.max(1).next_multiple_of(SMALL))
    } else {
        len.checked_next_multiple_of(PAGE)
    }
}

impl Heap {
    /// A heap from `start` to `end`.
    pub(crate) fn new(start: u64, end: u64) -> Self {
        let free = (start < end).then(|| (start, end - start));
        Self { free: free.into_iter().collect() }
    }

    /// Takes room for `len` bytes: the first that fits, at a multiple of 64, or of the page from a page on.
    pub(crate) fn take(&mut self, len: u64) -> Option<u64> {
        let size = footprint(len)?;
        let align = if size < PAGE { SMALL } else { PAGE };
        let (start, room, at) = self.free.iter().find_map(|(&start, &room)| {
            let at = start.next_multiple_of(align);
            (at - start + size <= room).then_some((start, room, at))
        })?;
        self.free.remove(&start);
        self.insert(start, at - start);
        self.insert(at + size, start + room - (at + size));
        Some(at)
    }

    /// Gives back what `take` returned for `len` bytes.
    pub(crate) fn give(&mut self, at: u64, len: u64) {
        let size = footprint(len).expect("it was taken");
        let (mut start, mut end) = (at, at + size);
        if let Some((&before, &room)) = self.free.range(..at).next_back() {
            debug_assert!(before + room <= at, "given back twice");
            if before + room == at {
                start = before;
            }
        }
        if let Some(room) = self.free.remove(&end) {
            end += room;
        }
        self.insert(start, end - start);
    }

    fn insert(&mut self, start: u64, room: u64) {
        if room > 0 {
            self.free.insert(start, room);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 3 * PAGE;
    const END: u64 = 40 * PAGE;

    proptest! {
        /// Random takes and gives: ranges are aligned, inside, disjoint; and in the end all is one free range again.
        #[test]
        fn ranges_are_disjoint_and_come_back(calls in prop::collection::vec((0_u64..5 * PAGE, any::<prop::sample::Index>()), 1..80)) {
            let mut heap = Heap::new(START, END);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (len, index) in calls {
                if len % 3 == 0 && !taken.is_empty() {
                    let (at, len) = taken.swap_remove(index.index(taken.len()));
                    heap.give(at, len);
                } else if let Some(at) = heap.take(len) {
                    let size = footprint(len).unwrap();
                    prop_assert!(size >= len && at >= START && at + size <= END);
                    let align = if len < PAGE { SMALL } else { PAGE };
                    prop_assert_eq!(at % align, 0);
                    for &(other, other_len) in &taken {
                        prop_assert!(at + size <= other || other + footprint(other_len).unwrap() <= at);
                    }
                    taken.push((at, len));
                }
            }
            taken.into_iter().for_each(|(at, len)| heap.give(at, len));
            prop_assert_eq!(heap.free, BTreeMap::from([(START, END - START)]));
        }
    }

    #[test]
    fn a_full_heap_refuses() {
        let mut heap = Heap::new(START, START + 2 * PAGE);
        assert_eq!(heap.take(3 * PAGE), None);
        assert_eq!(heap.take(u64::MAX), None);
        assert_eq!(heap.take(2 * PAGE), Some(START));
        assert_eq!(heap.take(1), None);
    }
}
