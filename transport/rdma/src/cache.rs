//! Registrations that are shared, and those that are kept for a while after their last use.
//!
//! Registering pins pages, which takes longer than sending them. So memory that is registered already, whole or as a
//! part, is not registered again; and a registration that nobody uses any more is kept, up to a number of bytes, the
//! longest unused ending first. Keeping is off unless it was asked for: nothing tells this process when memory is
//! unmapped and other memory mapped at its address, and a kept registration would go on naming the old pages.
//!
//! A registration whose key went to a peer is never kept: it ends with its last use, and with it the peer's access.

use std::collections::VecDeque;
use std::sync::Arc;

use dure_device::Memory;

/// Registrations `T` by the memory that they cover.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    /// In use.
    live: Vec<Arc<Entry<T>>>,
    /// Not in use; the longest unused first.
    idle: VecDeque<Arc<Entry<T>>>,
    idle_bytes: usize,
    /// Most bytes in `idle`.
    limit: usize,
}

/// One registration.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) memory: Memory,
    pub(crate) registration: T,
}

impl<T> Cache<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { live: Vec::new(), idle: VecDeque::new(), idle_bytes: 0, limit }
    }

    /// Whether anything is kept.
    pub(crate) fn keeps(&self) -> bool {
        self.limit > 0
    }

    /// A registration that covers `memory`, if there is one.
    pub(crate) fn find(&mut self, memory: Memory) -> Option<Arc<Entry<T>>> {
        if let Some(entry) = self.live.iter().find(|entry| entry.memory.contains(memory)) {
            return Some(Arc::clone(entry));
        }
        let at = self.idle.iter().position(|entry| entry.memory.contains(memory))?;
        let entry = self.idle.remove(at)?;
        self.idle_bytes -= entry.memory.len;
        self.live.push(Arc::clone(&entry));
        Some(entry)
    }

    /// Adds a new registration.
    pub(crate) fn add(&mut self, memory: Memory, registration: T) -> Arc<Entry<T>> {
        let entry = Arc::new(Entry { memory, registration });
        self.live.push(Arc::clone(&entry));
        entry
    }

    /// One use of a registration ends. When it was the last, it is kept if `keep` and there is room for it.
    pub(crate) fn give_back(&mut self, entry: Arc<Entry<T>>, keep: bool) {
        // One for the list, one for the caller.
        if Arc::strong_count(&entry) > 2 {
            return;
        }
        self.live.retain(|other| !Arc::ptr_eq(other, &entry));
        if !keep || entry.memory.len > self.limit {
            return;
        }
        self.idle_bytes += entry.memory.len;
        self.idle.push_back(entry);
        while self.idle_bytes > self.limit {
            let Some(oldest) = self.idle.pop_front() else { break };
            self.idle_bytes -= oldest.memory.len;
        }
    }

    /// Ends what nobody uses: the device has no room for another registration. False when there was nothing.
    pub(crate) fn clear(&mut self) -> bool {
        self.idle_bytes = 0;
        !std::mem::take(&mut self.idle).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Registered<'a>(&'a Cell<usize>);

    impl Drop for Registered<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    fn memory(at: usize, len: usize) -> Memory {
        Memory::host(std::ptr::without_provenance_mut(at), len)
    }

    #[test]
    fn parts_share_a_registration_that_ends_with_the_last_use() {
        let ended = Cell::new(0);
        let mut cache = Cache::new(0);
        let whole = cache.add(memory(0x1000, 100), Registered(&ended));
        let part = cache.find(memory(0x1020, 10)).unwrap();
        assert!(Arc::ptr_eq(&whole, &part) && cache.find(memory(0x1060, 10)).is_none());
        cache.give_back(whole, true);
        assert_eq!(ended.get(), 0);
        cache.give_back(part, true);
        assert_eq!(ended.get(), 1, "nothing is kept where the limit is 0");
    }

    #[test]
    fn what_is_kept_is_found_again_and_bounded() {
        let ended = Cell::new(0);
        let mut cache = Cache::new(250);
        for at in [0x1000, 0x2000, 0x3000] {
            let entry = cache.add(memory(at, 100), Registered(&ended));
            cache.give_back(entry, true);
        }
        assert_eq!((ended.get(), cache.idle_bytes), (1, 200));
        assert!(cache.find(memory(0x1000, 100)).is_none(), "the longest unused has ended");
        let again = cache.find(memory(0x2000, 50)).unwrap();
        cache.give_back(again, false);
        assert_eq!((ended.get(), cache.idle_bytes), (2, 100), "one that a peer knows is not kept");
        assert!(cache.clear() && ended.get() == 3);
    }
}
