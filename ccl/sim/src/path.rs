//! Times that know what they are made of.

use std::ops::{Add, AddAssign};

/// What a time is made of, in seconds. The parts of a prediction add up to its seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// On the way.
    pub latency: f64,
    /// Work of processors for messages, calls, steps and switches.
    pub overhead: f64,
    /// Bytes on wires.
    pub wire: f64,
    /// Reductions.
    pub reduce: f64,
    /// Copies, and what the processors do to bytes that they send and receive.
    pub copy: f64,
    /// Waiting for a link, a memory or a core that somebody else uses.
    pub wait: f64,
}

/// What is counted of the messages of one class of links, along a path. Numbers may be fractions, where passes were
/// extrapolated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Times L.
    pub messages: f64,
    /// Times o.
    pub overheads: f64,
    /// Bytes, times G.
    pub bytes: f64,
    /// Bytes, times O.
    pub handled: f64,
}

/// What a path consists of: multiplied by the constants, it gives the path's time but for waits and the fabric's switches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Messages inside hosts.
    pub inside: Traffic,
    /// Messages between hosts.
    pub between: Traffic,
    /// Bytes reduced.
    pub reduced_bytes: f64,
    /// Bytes copied.
    pub copied_bytes: f64,
    /// Calls.
    pub calls: f64,
    /// Steps.
    pub steps: f64,
    /// Times that a core turned to another rank.
    pub switches: f64,
}

/// A point in time, and how it came to be that late: what is on the critical path to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Path {
    pub(crate) at: f64,
    pub(crate) parts: Parts,
    pub(crate) counts: Counts,
}

impl Path {
    /// The later of two. The first, if they are equal.
    #[inline]
    pub(crate) fn max(&self, other: &Self) -> Self {
        if other.at > self.at { *other } else { *self }
    }

    pub(crate) fn latency(&mut self, seconds: f64) {
        self.at += seconds;
        self.parts.latency += seconds;
    }

    pub(crate) fn overhead(&mut self, seconds: f64) {
        self.at += seconds;
        self.parts.overhead += seconds;
    }

    pub(crate) fn wire(&mut self, seconds: f64) {
        self.at += seconds;
        self.parts.wire += seconds;
    }

    pub(crate) fn reduce(&mut self, seconds: f64) {
        self.at += seconds;
        self.parts.reduce += seconds;
    }

    pub(crate) fn copy(&mut self, seconds: f64) {
        self.at += seconds;
        self.parts.copy += seconds;
    }

    /// Waits until `at`, if that is later.
    #[inline]
    pub(crate) fn wait_until(&mut self, at: f64) {
        if at > self.at {
            self.parts.wait += at - self.at;
            self.at = at;
        }
    }

    /// This path and `times` the difference of two others: what so many more passes take.
    pub(crate) fn extended(&self, (before, after): (&Self, &Self), times: f64) -> Self {
        let parts = self.parts + (after.parts + before.parts.scaled(-1.0)).scaled(times);
        let counts = self.counts + (after.counts + before.counts.scaled(-1.0)).scaled(times);
        Self { at: self.at + (after.at - before.at) * times, parts, counts }
    }
}

impl Parts {
    fn scaled(self, by: f64) -> Self {
        Self {
            latency: self.latency * by,
            overhead: self.overhead * by,
            wire: self.wire * by,
            reduce: self.reduce * by,
            copy: self.copy * by,
            wait: self.wait * by,
        }
    }

    /// All together, in seconds.
    pub fn sum(&self) -> f64 {
        self.latency + self.overhead + self.wire + self.reduce + self.copy + self.wait
    }
}

impl Add for Parts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            latency: self.latency + other.latency,
            overhead: self.overhead + other.overhead,
            wire: self.wire + other.wire,
            reduce: self.reduce + other.reduce,
            copy: self.copy + other.copy,
            wait: self.wait + other.wait,
        }
    }
}

impl Traffic {
    fn scaled(self, by: f64) -> Self {
        Self {
            messages: self.messages * by,
            overheads: self.overheads * by,
            bytes: self.bytes * by,
            handled: self.handled * by,
        }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.overheads += other.overheads;
        self.bytes += other.bytes;
        self.handled += other.handled;
    }
}

impl Counts {
    fn scaled(self, by: f64) -> Self {
        Self {
            inside: self.inside.scaled(by),
            between: self.between.scaled(by),
            reduced_bytes: self.reduced_bytes * by,
            copied_bytes: self.copied_bytes * by,
            calls: self.calls * by,
            steps: self.steps * by,
            switches: self.switches * by,
        }
    }

    /// Messages of all classes.
    pub fn messages(&self) -> f64 {
        self.inside.messages + self.between.messages
    }

    /// Bytes on wires of all classes.
    pub fn wire_bytes(&self) -> f64 {
        self.inside.bytes + self.between.bytes
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.inside += other.inside;
        self.between += other.between;
        self.reduced_bytes += other.reduced_bytes;
        self.copied_bytes += other.copied_bytes;
        self.calls += other.calls;
        self.steps += other.steps;
        self.switches += other.switches;
        self
    }
}
