//! A message under way: what it occupies, and how long it takes to cross its way.

use crate::engine::NONE;
use crate::network::Stage;
use crate::path::{Counts, Path, Traffic};
use crate::pools::Stripes;
use crate::setup::{Flow, Link};

/// A message under way, or a credit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) path: Path,
    pub(crate) bytes: u64,
    pub(crate) flow: u32,
    pub(crate) stage: u32,
    pub(crate) next: u32,
    /// How many were sent before it on its edge.
    pub(crate) number: u32,
    /// Through pools: the device that it begins on, and whether it is written already.
    pub(crate) begin: u32,
    pub(crate) written: bool,
}

/// A queue of nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

impl Queue {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };
}

impl Node {
    pub(crate) fn new(path: Path, flow: u32, bytes: u64) -> Self {
        Self { path, bytes, flow, stage: 0, next: NONE, number: 0, begin: 0, written: false }
    }

    /// Whether all devices have what it is to write, and it is yet to be read.
    pub(crate) fn is_all_written(&self, stripes: Stripes) -> bool {
        self.stage == stripes.writes() && !self.written
    }

    /// The bytes that occupy the next link on its way through pools; none where it has none there. A message that is
    /// written already waits until what it was written with is.
    pub(crate) fn part(&self, stripes: Stripes) -> Option<u64> {
        let writes = stripes.writes();
        let device = match self.stage {
            0 => None,
            at if at < writes => Some(at - 1),
            at if at < 2 * writes - 1 => Some(at - writes),
            _ => return Some(self.bytes),
        };
        let on = |at| stripes.share(self.bytes, (self.begin, at));
        let bytes = device.map_or(self.bytes, on);
        let is_there = self.stage < writes && self.written;
        (bytes > 0 || device.is_none()).then_some(if is_there { 0 } else { bytes })
    }
}

impl Flow {
    /// All bytes of a message cross a part of its way, one of which takes `per_byte` there. Between ends that share memory
    /// the cores move them.
    pub(crate) fn cross(&self, per_byte: f64, bytes: u64, path: &mut Path) {
        if self.wire.shared {
            return;
        }
        let rest = bytes.saturating_sub(1) as f64;
        let device = self.stripes.map_or(0, |stripes| stripes.most(bytes)) as f64;
        count(&mut path.counts, self.between).bytes += rest;
        path.wire((rest * per_byte).max(device * self.device_per_byte));
    }
}

impl Link {
    /// A message has the link once it is free.
    #[inline]
    pub(crate) fn take(
        &mut self,
        flow: &Flow,
        stage: &Stage,
        (gap, bytes): (f64, u64),
        path: &mut Path,
    ) {
        if self.free > path.at {
            if self.owner == flow.owner {
                let rest = self.free - path.at;
                path.wire(rest);
                if stage.per_byte > 0.0 {
                    count(&mut path.counts, flow.between).bytes += rest / stage.per_byte;
                }
            } else {
                path.wait_until(self.free);
            }
        }
        self.free = path.at + gap + bytes.saturating_sub(1) as f64 * stage.per_byte;
    }
}

/// What is counted of a class of links.
#[inline]
pub(crate) fn count(counts: &mut Counts, between: bool) -> &mut Traffic {
    if between { &mut counts.between } else { &mut counts.inside }
}
