//! Tables that transports keep: by number, and by peer.

use crate::Peer;

/// Entries by number; numbers are used again.
#[derive(Debug)]
pub struct Table<T> {
    entries: Vec<Option<T>>,
    vacant: Vec<u32>,
}

impl<T> Table<T> {
    /// An empty table.
    pub const fn new() -> Self {
        Self { entries: Vec::new(), vacant: Vec::new() }
    }

    /// Adds an entry; its number.
    ///
    /// # Panics
    /// When there are more entries than numbers.
    pub fn insert(&mut self, entry: T) -> u32 {
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("fewer entries than numbers")
        });
        self.entries[number as usize] = Some(entry);
        number
    }

    /// The entry of a number.
    pub fn get(&self, number: u32) -> Option<&T> {
        self.entries.get(number as usize)?.as_ref()
    }

    /// Takes the entry of a number out.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let entry = self.entries.get_mut(number as usize)?.take()?;
        self.vacant.push(number);
        Some(entry)
    }

    /// All entries, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known of a peer, in a list that is as long as it must be.
pub fn entry<T: Default>(peers: &mut Vec<T>, peer: Peer) -> &mut T {
    let at = peer.0 as usize;
    if at >= peers.len() {
        peers.resize_with(at + 1, T::default);
    }
    &mut peers[at]
}
