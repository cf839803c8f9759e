//! The loops of the write tests.

use std::time::Instant;

use super::figures::Stamps;
use super::link::{Bell, Links, Message};
use super::memory::{differing, pattern};
use super::wait::{Count, nanos_since};
use crate::output::Failure;

/// What a row puts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a message.
    pub(super) size: u64,
    pub(super) count: Count,
    pub(super) flows: u16,
    /// Messages under way on a flow.
    pub(super) depth: u32,
    /// Messages between looks at what has completed.
    pub(super) moderation: u32,
    /// Messages up to this size are copied while they are posted.
    pub(super) copied: u64,
    /// What the bytes depend on.
    pub(super) seed: u64,
}

/// What a side has sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub(super) messages: u64,
    /// From the first post until the peer had all.
    pub(super) nanos: u64,
    /// Messages a second; 0 where it was not measured.
    pub(super) peak: f64,
}

/// Which sides send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) sends: bool,
    pub(super) receives: bool,
}

impl Shape {
    fn message(&self, links: &mut Links, at: usize) -> Message {
        let bytes = pattern(self.seed, usize::try_from(self.size).unwrap_or(0));
        links.fill(at, &bytes);
        let copied = self.size <= self.copied.min(links.most_copied(at));
        Message { size: self.size, copied: copied.then_some(bytes) }
    }

    /// Bytes that are not those of the row, in what has arrived.
    fn wrong(&self, links: &mut Links, at: usize) -> u64 {
        let len = usize::try_from(self.size).unwrap_or(0);
        differing(&links.arrived(at, len), &pattern(self.seed, len))
    }
}

/// One row of a bandwidth test. With the bytes that arrived wrong here.
pub(super) fn bandwidth(
    links: &mut Links,
    at: usize,
    shape: &Shape,
    part: Part,
) -> Result<(Sent, u64), Failure> {
    let message = shape.message(links, at);
    links.meet(at)?;
    let mut stream = Stream::new(shape, links.landing(at));
    if part.sends {
        stream.post_all(links, at, shape, &message)?;
        for flow in 0..shape.flows {
            links.ring(at, Bell::Done, flow)?;
        }
    }
    let mut nanos = 0;
    if part.sends {
        nanos = stream.finish(links, at, if part.receives { shape.flows } else { 0 })?;
    } else {
        links.expect(at, Bell::Done, shape.flows.into())?;
        links.ring(at, Bell::Seen, 0)?;
    }
    links.drain(stream.pending)?;
    let wrong = if part.receives { shape.wrong(links, at) } else { 0 };
    Ok((Sent { messages: stream.posted, nanos, peak: stream.peak(nanos) }, wrong))
}

/// Messages of a row on their way.
struct Stream {
    begin: Instant,
    posted: u64,
    /// Of these, those whose source was not free at once.
    pending: u64,
    /// Of these, those that were noted when they became free.
    noted: u64,
    /// Whether times are kept: not where it is unknown when messages land, and not for a duration.
    keeps: bool,
    landing: Landing,
    stamps: Stamps,
}

/// When a message is in the peer's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// When it has been posted.
    AtOnce,
    /// When the transport gives its source back, if it did not do so at once.
    WhenFree,
    /// Only the peer knows.
    Unknown,
}

impl Stream {
    fn new(shape: &Shape, landing: Landing) -> Self {
        let keeps = landing != Landing::Unknown && matches!(shape.count, Count::Messages(_));
        let stamps = Stamps::new(if keeps { shape.count.room() } else { 0 });
        Self { begin: Instant::now(), posted: 0, pending: 0, noted: 0, keeps, landing, stamps }
    }

    /// Posts the messages of a row, over the flows in turn.
    fn post_all(
        &mut self,
        links: &mut Links,
        at: usize,
        shape: &Shape,
        message: &Message,
    ) -> Result<(), Failure> {
        let window = u64::from(shape.depth) * u64::from(shape.flows);
        let mut wait = links.wait();
        let mut now = nanos_since(self.begin);
        while shape.count.goes_on(self.posted, now) {
            let flow = u16::try_from(self.posted % u64::from(shape.flows)).unwrap_or(0);
            let free = links.put(at, message, flow, None)?;
            self.posted += 1;
            self.pending += u64::from(!free);
            if self.keeps {
                self.stamps.posted.push(now);
            }
            now = nanos_since(self.begin);
            if free && self.landing == Landing::AtOnce && self.keeps {
                self.stamps.completed.push(now);
            }
            if self.posted.is_multiple_of(shape.moderation.into()) {
                links.turn()?;
                self.note(links);
            }
            while self.pending - links.freed >= window {
                links.turn()?;
                if self.note(links) {
                    wait.progress();
                } else {
                    wait.turn("messages to complete")?;
                }
            }
        }
        Ok(())
    }

    /// Notes what has become free. True when something has.
    fn note(&mut self, links: &Links) -> bool {
        let freed = links.freed - self.noted;
        if freed > 0 && self.keeps {
            let now = nanos_since(self.begin);
            (0..freed).for_each(|_| self.stamps.completed.push(now));
        }
        self.noted += freed;
        freed > 0
    }

    /// Waits until the peer has all. Gives the time from the first post. When the peer sends too, over so many flows, it is
    /// told that its messages are here as soon as they are.
    fn finish(&mut self, links: &mut Links, at: usize, theirs: u16) -> Result<u64, Failure> {
        let (mut told, mut end) = (theirs == 0, None);
        let mut wait = links.wait();
        while !told || end.is_none() {
            links.turn()?;
            if self.note(links) {
                wait.progress();
            }
            if !told && links.has_rung(at, Bell::Done, theirs.into()) {
                links.note(at, Bell::Done, theirs.into());
                links.ring(at, Bell::Seen, 0)?;
                told = true;
            }
            if end.is_none() && links.has_rung(at, Bell::Seen, 1) {
                links.note(at, Bell::Seen, 1);
                end = Some(nanos_since(self.begin));
            }
            wait.turn("the other side to have all")?;
        }
        Ok(end.unwrap_or(1))
    }

    /// Messages a second, of the fastest run of them; 0 where that is not known.
    fn peak(&self, nanos: u64) -> f64 {
        if !self.keeps || self.stamps.completed.is_empty() {
            return 0.0;
        }
        // A run of all ends when the peer has said so, a little after the last completion.
        self.stamps.peak().max(self.posted as f64 * 1e9 / nanos.max(1) as f64)
    }
}

/// The client's side of one row of a latency test: round trips in nanoseconds, and the bytes that arrived wrong.
pub(super) fn ping(
    links: &mut Links,
    at: usize,
    shape: &Shape,
    load: bool,
) -> Result<(Vec<u64>, u64), Failure> {
    let message = shape.message(links, at);
    let mut times = Vec::with_capacity(shape.count.room());
    links.meet(at)?;
    let begin = Instant::now();
    let (mut before, mut pending) = (0, 0);
    let mut wait = links.wait();
    while shape.count.goes_on(times.len() as u64, before) {
        pending += u64::from(!links.put(at, &message, 0, Some(Bell::Ping))?);
        while !links.has_rung(at, Bell::Ping, 1) {
            links.turn()?;
            if load {
                links.feed(at);
            }
            wait.turn("the answer to a message")?;
        }
        wait.progress();
        links.note(at, Bell::Ping, 1);
        links.acquire(at, shape.size);
        let now = nanos_since(begin);
        times.push(now - before);
        before = now;
    }
    links.ring(at, Bell::Done, 0)?;
    links.drain(pending)?;
    links.expect(at, Bell::Seen, 1)?;
    let wrong = shape.wrong(links, at);
    Ok((times, wrong))
}

/// The server's side: it answers each message with one of the same size. Gives the bytes that arrived wrong.
pub(super) fn pong(links: &mut Links, at: usize, shape: &Shape) -> Result<u64, Failure> {
    let message = shape.message(links, at);
    links.meet(at)?;
    let mut pending = 0;
    let mut wait = links.wait();
    while !links.has_rung(at, Bell::Done, 1) {
        if links.has_rung(at, Bell::Ping, 1) {
            links.note(at, Bell::Ping, 1);
            links.acquire(at, shape.size);
            pending += u64::from(!links.put(at, &message, 0, Some(Bell::Ping))?);
            wait.progress();
        } else {
            links.turn()?;
            wait.turn("the next message")?;
        }
    }
    links.note(at, Bell::Done, 1);
    links.drain(pending)?;
    links.ring(at, Bell::Seen, 0)?;
    Ok(shape.wrong(links, at))
}
