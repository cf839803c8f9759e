//! A queue of a software NPU.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::engine::{Link, Order};
use crate::command::Command;
use crate::{Error, Memory, Queue, Result, Space, Work};

/// How long a lazy queue holds its work back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// Seed of the device.
    pub(super) seed: u64,
    /// Number of the queue.
    pub(super) queue: u64,
}

impl Hold {
    /// For how many calls the work of this number is held back once it is the oldest: 0 to 3, by `SplitMix64`'s mixing
    /// function (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    const fn calls(self, number: u64) -> u64 {
        let mixed = (self.seed ^ self.queue.rotate_left(32))
            .wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 4
    }
}

/// A queue of a software NPU.
#[derive(Debug)]
pub(super) struct SoftwareQueue {
    /// Name of the device.
    name: String,
    /// All memory of the device.
    face: Memory,
    link: Link,
    submitted: u64,
    /// How much is done, written by the engine.
    done: Arc<AtomicU64>,
    /// `None`: work goes to the engine at once.
    hold: Option<Hold>,
    /// Work held back, oldest first, each with the calls that it is to be held for.
    held: VecDeque<(Order, u64)>,
}

impl SoftwareQueue {
    pub(super) fn new(name: String, face: Memory, link: Link, hold: Option<Hold>) -> Self {
        Self { name, face, link, submitted: 0, done: Arc::default(), hold, held: VecDeque::new() }
    }

    /// Counts a call, and hands over the work that was held back for long enough.
    fn tick(&mut self) {
        if let Some((_, calls)) = self.held.front_mut() {
            *calls = calls.saturating_sub(1);
        }
        while let Some((order, _)) = self.held.pop_front_if(|(_, calls)| *calls == 0) {
            self.link.send(order);
        }
    }

    fn alive(&self) -> Result<()> {
        if self.link.gone() { Err(Error::Gone { device: self.name.clone() }) } else { Ok(()) }
    }

    /// Whether work on this device may name `memory`. An address of the device in the host's space is a mistake of the
    /// caller that would kill the engine.
    fn serves(&self, memory: Memory) -> bool {
        match memory.space {
            Space::Host => !Memory { space: Space::Host, ..self.face }.overlaps(memory),
            Space::Device(_) => self.face.contains(memory),
        }
    }
}

impl Queue for SoftwareQueue {
    unsafe fn submit(&mut self, work: &Work<'_>) -> Result<u64> {
        work.check(&self.name, |memory| self.serves(memory))?;
        self.alive()?;
        self.tick();
        self.submitted += 1;
        let number = self.submitted;
        let order = Order { command: Command::new(work), number, done: Arc::clone(&self.done) };
        match self.hold {
            Some(hold) => self.held.push_back((order, hold.calls(number))),
            None if self.link.send(order) => {}
            None => return Err(Error::Gone { device: self.name.clone() }),
        }
        Ok(number)
    }

    fn completed(&mut self) -> Result<u64> {
        self.tick();
        self.alive()?;
        // Acquire: whoever sees the count sees what the work wrote.
        Ok(self.done.load(Ordering::Acquire))
    }
}

impl Drop for SoftwareQueue {
    /// Work that was submitted is done, whether or not somebody waits for it.
    fn drop(&mut self) {
        for (order, _) in self.held.drain(..) {
            self.link.send(order);
        }
    }
}
