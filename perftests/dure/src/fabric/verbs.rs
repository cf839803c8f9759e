//! The loops of the tests of reads, sends and atomics, which go beneath the transport.

use std::time::{Duration, Instant};

use super::control::{Control, Message, unexpected};
use super::device::{Raw, Request, failed};
use super::figures::Stamps;
use super::memory::{differing, pattern};
use super::test::Test;
use super::wait::{Count, SPIN, Wait, nanos_since};
use super::write::Sent;
use crate::output::Failure;

/// Turns between looks at the control connection.
const TURNS_PER_LOOK: u32 = 512;

/// What a row asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) test: Test,
    pub(super) size: u32,
    pub(super) count: Count,
    pub(super) queues: u16,
    pub(super) seed: u64,
    pub(super) patience: Duration,
}

impl Shape {
    fn request(&self) -> Request {
        match self.test {
            Test::SendBw | Test::SendLat => Request::Send,
            Test::AtomicLat => Request::FetchAdd,
            _ => Request::Read,
        }
    }

    fn pattern(&self) -> Vec<u8> {
        pattern(self.seed, self.size as usize)
    }
}

/// Prepares the memory of a row, and waits until the other side has.
pub(super) fn prepare(raw: &mut Raw, control: &mut Control, shape: &Shape) -> Result<(), Failure> {
    match shape.request() {
        Request::Send => raw.fill_own(&shape.pattern()),
        Request::Read => raw.fill_shared(&shape.pattern()),
        Request::FetchAdd => raw.fill_shared(&[0; 8]),
    }
    control.meet()
}

/// Bytes that are not those of the row: of what was read, or of what was sent here.
pub(super) fn wrong(raw: &Raw, shape: &Shape, received: bool) -> u64 {
    let len = shape.size as usize;
    match shape.request() {
        Request::Send if received => differing(&raw.shared(len), &shape.pattern()),
        Request::Read if !received => differing(&raw.own(len), &shape.pattern()),
        _ => 0,
    }
}

/// This side's requests, and the messages of the other side that arrive meanwhile. Ends when the own ones are done, and the
/// other side has said how many it has sent and all of them are here. `sends`: whether this side asks for anything.
pub(super) fn bandwidth(
    raw: &mut Raw,
    control: &mut Control,
    shape: &Shape,
    sends: bool,
) -> Result<(Sent, u64), Failure> {
    let mut flow = Flow::new(shape);
    if sends {
        flow.post_all(raw, shape)?;
    }
    let nanos = nanos_since(flow.begin);
    control.send(&Message::Sent { messages: flow.posted })?;
    let theirs = flow.hear_out(raw, control, shape)?;
    let keeps = matches!(shape.count, Count::Messages(_));
    let peak = if keeps { flow.stamps.peak() } else { 0.0 };
    Ok((Sent { messages: flow.posted, nanos, peak }, theirs))
}

/// Requests on their way.
struct Flow {
    begin: Instant,
    posted: u64,
    done: u64,
    received: u64,
    stamps: Stamps,
    wait: Wait,
}

impl Flow {
    fn new(shape: &Shape) -> Self {
        let room = match shape.count {
            Count::Messages(_) => shape.count.room(),
            Count::For(_) => 0,
        };
        let (stamps, wait) = (Stamps::new(room), Wait::new(shape.patience, SPIN));
        Self { begin: Instant::now(), posted: 0, done: 0, received: 0, stamps, wait }
    }

    fn post_all(&mut self, raw: &mut Raw, shape: &Shape) -> Result<(), Failure> {
        let keeps = matches!(shape.count, Count::Messages(_));
        let mut now = nanos_since(self.begin);
        while shape.count.goes_on(self.posted, now) {
            let queue = u16::try_from(self.posted % u64::from(shape.queues)).unwrap_or(0);
            while !raw.has_room(queue) {
                self.turn(raw, keeps)?;
            }
            now = nanos_since(self.begin);
            // The last one of each queue pair reports those before it.
            let left = |count: u64| count - self.posted <= u64::from(shape.queues);
            let report = match shape.count {
                Count::Messages(count) => left(count),
                Count::For(_) => false,
            };
            raw.post(queue, shape.request(), shape.size, report).map_err(failed)?;
            self.posted += 1;
            if keeps {
                self.stamps.posted.push(now);
            }
        }
        if !keeps {
            self.report_all(raw, shape)?;
        }
        while self.done < self.posted {
            self.turn(raw, keeps)?;
        }
        Ok(())
    }

    /// After a time instead of a number: a last request on each queue pair, which reports those before it.
    fn report_all(&mut self, raw: &mut Raw, shape: &Shape) -> Result<(), Failure> {
        for queue in 0..shape.queues {
            while !raw.has_room(queue) {
                self.turn(raw, false)?;
            }
            raw.post(queue, shape.request(), shape.size, true).map_err(failed)?;
            self.posted += 1;
        }
        Ok(())
    }

    fn turn(&mut self, raw: &mut Raw, keeps: bool) -> Result<(), Failure> {
        let progress = raw.poll().map_err(failed)?;
        self.done += u64::from(progress.done);
        self.received += u64::from(progress.received);
        if keeps && progress.done > 0 {
            let now = nanos_since(self.begin);
            (0..progress.done).for_each(|_| self.stamps.completed.push(now));
        }
        if progress.done + progress.received > 0 {
            self.wait.progress();
            return Ok(());
        }
        self.wait.turn("requests to complete")
    }

    /// Goes on until the other side is done too. Gives how many messages it has sent.
    fn hear_out(
        &mut self,
        raw: &mut Raw,
        control: &mut Control,
        shape: &Shape,
    ) -> Result<u64, Failure> {
        let receives = shape.request() == Request::Send;
        let theirs =
            if receives { self.serve(raw, control)? } else { sent(&control.receive_whenever()?)? };
        while receives && self.received < theirs {
            self.turn(raw, false)?;
        }
        Ok(theirs)
    }

    /// Takes messages until the other side says that it is done.
    fn serve(&mut self, raw: &mut Raw, control: &mut Control) -> Result<u64, Failure> {
        let mut turns = 0_u32;
        loop {
            let progress = raw.poll().map_err(failed)?;
            self.received += u64::from(progress.received);
            turns = turns.wrapping_add(1);
            if progress.received > 0 {
                continue;
            }
            if turns.is_multiple_of(TURNS_PER_LOOK) && control.has_message(Duration::ZERO)? {
                return sent(&control.receive()?);
            }
            std::thread::yield_now();
        }
    }
}

fn sent(message: &Message) -> Result<u64, Failure> {
    match message {
        Message::Sent { messages } => Ok(*messages),
        other => Err(unexpected(other)),
    }
}

/// The client's side of a latency test: times in nanoseconds, of a round trip.
pub(super) fn latency(
    raw: &mut Raw,
    control: &mut Control,
    shape: &Shape,
) -> Result<Vec<u64>, Failure> {
    let request = shape.request();
    let mut times = Vec::with_capacity(shape.count.room());
    let mut wait = Wait::new(shape.patience, SPIN);
    let begin = Instant::now();
    let (mut before, mut received, mut done) = (0, 0, 0_u64);
    while shape.count.goes_on(times.len() as u64, before) {
        raw.post(0, request, shape.size, true).map_err(failed)?;
        let (answers, asked) = (received, times.len() as u64 + 1);
        loop {
            let progress = raw.poll().map_err(failed)?;
            received += progress.received;
            done += u64::from(progress.done);
            // A send is answered by a send; whatever else is asked for is there when it has completed.
            if (request == Request::Send && received > answers)
                || (request != Request::Send && done >= asked)
            {
                break;
            }
            wait.turn("the answer to a message")?;
        }
        wait.progress();
        let now = nanos_since(begin);
        times.push(now - before);
        before = now;
    }
    while done < times.len() as u64 {
        done += u64::from(raw.poll().map_err(failed)?.done);
        wait.turn("requests to complete")?;
    }
    control.send(&Message::Sent { messages: times.len() as u64 })?;
    Ok(times)
}

/// The server's side: it answers sends, and has nothing to do for what the devices do alone. Gives how many there were.
pub(super) fn answer(raw: &mut Raw, control: &mut Control, shape: &Shape) -> Result<u64, Failure> {
    if shape.request() != Request::Send {
        return sent(&control.receive_whenever()?);
    }
    let mut wait = Wait::new(shape.patience, SPIN);
    let (mut posted, mut done, mut turns) = (0_u64, 0, 0_u32);
    loop {
        let progress = raw.poll().map_err(failed)?;
        done += u64::from(progress.done);
        for _ in 0..progress.received {
            raw.post(0, Request::Send, shape.size, true).map_err(failed)?;
            posted += 1;
            wait.progress();
        }
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(TURNS_PER_LOOK) && control.has_message(Duration::ZERO)? {
            break;
        }
        wait.turn("the next message")?;
    }
    while done < posted {
        done += u64::from(raw.poll().map_err(failed)?.done);
        wait.turn("answers to complete")?;
    }
    sent(&control.receive()?)
}
