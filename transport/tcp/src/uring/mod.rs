//! The driver that is told: the kernel receives small frames by itself, and says so in memory.
//!
//! While nothing comes, a turn reads two words of memory, however many peers there are. What comes is received into
//! buffers that the kernel was given, from all sockets in one system call, which hands over what is to be sent as well.
//! Bytes that pass through those buffers are copied once more. So a flow that carries large payloads is only watched,
//! and read by the system calls of the other driver, directly to where the payloads belong; large frames are sent by
//! its system calls too.
//!
//! The kernel works for the thread that asked: a ring moves to another thread by asking for everything anew.

mod kernel;

use std::io;
use std::os::fd::AsFd;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use dure_transport::{Error, Event, Full, Posted, Put, Result, Token};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use self::kernel::{Done, File, Kernel, Op};
use crate::driver::Drive;
use crate::frame::Header;
use crate::join::OTHER;
use crate::prove::broken;
use crate::region::index;
use crate::traffic::{FlowId, Heard, Traffic};

/// Frames of at most this length are copied and handed over together.
const SMALL: usize = 4 << 10;
/// Most bytes of a flow that wait to be handed over.
const STAGED: usize = 64 << 10;
/// A flow is no longer watched, but received from again, when so many reads in a row met no large payload.
const CALM: u8 = 32;
/// How long the kernel may take to end what a flow asked for. It takes microseconds.
const END: Duration = Duration::from_secs(2);

/// The driver that is told.
#[derive(Debug)]
pub(crate) struct Ring {
    kernel: Kernel,
    /// By number of the flow.
    seats: Vec<Option<Seat>>,
    /// Flows with bytes to hand over.
    outgoing: Vec<FlowId>,
    /// Flows for which the kernel neither receives nor watches.
    deaf: Vec<FlowId>,
    /// Flows that are watched and may have something to read.
    ready: Vec<FlowId>,
    /// Flows with large frames that wait.
    backlog: Vec<FlowId>,
    /// Tokens of frames that were handed over.
    sent: Vec<Token>,
    /// Who asked for what the kernel does.
    thread: Option<ThreadId>,
}

/// What is known of a flow.
#[derive(Debug)]
struct Seat {
    file: File,
    ear: Ear,
    /// Reads in a row without a large payload, while watched.
    calm: u8,
    /// Small frames to hand over, and the tokens of those that have one.
    staged: Vec<u8>,
    tokens: Vec<Token>,
    /// The kernel sends.
    flying: bool,
    /// The kernel tells when there is room to send.
    asks_room: bool,
    /// Nothing new is asked for.
    closed: bool,
}

/// What the kernel does about what a peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ear {
    /// Nothing.
    Off,
    /// It receives.
    Receives,
    /// It watches.
    Watches,
    /// It was told to end one of these.
    Ends,
}

impl Seat {
    fn is_quiet(&self) -> bool {
        self.ear == Ear::Off && !self.flying && !self.asks_room
    }
}

impl Ring {
    /// A driver that rings `bell`.
    ///
    /// # Errors
    /// Why the kernel refuses.
    pub(crate) fn new(bell: &Epoll) -> io::Result<Self> {
        let kernel = Kernel::new()?;
        bell.add(kernel.descriptor(), EpollEvent::new(EpollFlags::EPOLLIN, OTHER))?;
        Ok(Self {
            kernel,
            seats: Vec::new(),
            outgoing: Vec::new(),
            deaf: Vec::new(),
            ready: Vec::new(),
            backlog: Vec::new(),
            sent: Vec::new(),
            thread: None,
        })
    }

    /// What one thread asked for ends with it, and moves on only when that thread enters the kernel. So when another one
    /// takes over, it asks anew.
    fn settle(&mut self) -> io::Result<()> {
        let thread = std::thread::current().id();
        if self.thread.replace(thread).is_none_or(|before| before == thread) {
            return Ok(());
        }
        self.seats.iter_mut().flatten().try_for_each(|seat| seat.stop(&mut self.kernel))
    }

    /// Asks for all that is to be asked for.
    fn ask(&mut self, traffic: &Traffic) -> io::Result<()> {
        while let Some(id) = self.outgoing.pop() {
            self.hand_over(id)?;
        }
        while let Some(id) = self.deaf.pop() {
            let Some(seat) = self.seats[index(id.0)].as_mut().filter(|seat| !seat.closed) else {
                continue;
            };
            seat.ear = if traffic.is_bulk(id) {
                self.kernel.readable(seat.file)?;
                Ear::Watches
            } else {
                self.kernel.receive(seat.file)?;
                Ear::Receives
            };
            seat.calm = 0;
        }
        Ok(())
    }

    /// Lets the kernel send what is staged, unless it still sends what was before.
    fn hand_over(&mut self, id: FlowId) -> io::Result<()> {
        let Some(seat) = &mut self.seats[index(id.0)] else { return Ok(()) };
        if !seat.flying && !seat.staged.is_empty() {
            self.kernel.send(seat.file, &mut seat.staged)?;
            seat.flying = true;
            self.sent.append(&mut seat.tokens);
        }
        Ok(())
    }

    /// Handles what has completed.
    fn reap(&mut self, traffic: &mut Traffic) -> io::Result<()> {
        while let Some(done) = self.kernel.next() {
            let id = FlowId(done.id);
            match done.op {
                Op::Receive => self.received(id, &done, traffic)?,
                Op::Readable => self.watched(id, &done),
                Op::Send => self.has_sent(id, &done, traffic),
                Op::Writable => {
                    if let Some(seat) = &mut self.seats[index(id.0)] {
                        seat.asks_room = false;
                    }
                }
                Op::Cancel => {}
            }
            self.kernel.recycle(done);
        }
        Ok(())
    }

    fn received(&mut self, id: FlowId, done: &Done, traffic: &mut Traffic) -> io::Result<()> {
        let Some(seat) = &mut self.seats[index(id.0)] else { return Ok(()) };
        match &done.result {
            Ok(0) => traffic.end(id, Error::Closed),
            Ok(_) => traffic.feed(id, self.kernel.bytes(done)),
            Err(error) if is_passing(error) => {}
            Err(error) => traffic.end(id, broken("recv", copy(error))),
        }
        if !done.goes_on {
            seat.ear = Ear::Off;
            self.deaf.push(id);
        } else if seat.ear == Ear::Receives && traffic.is_bulk(id) {
            seat.stop_listening(&mut self.kernel)?;
        }
        Ok(())
    }

    fn watched(&mut self, id: FlowId, done: &Done) {
        let Some(seat) = &mut self.seats[index(id.0)] else { return };
        if done.result.is_ok() && !self.ready.contains(&id) {
            self.ready.push(id);
        }
        if !done.goes_on {
            seat.ear = Ear::Off;
            self.deaf.push(id);
        }
    }

    fn has_sent(&mut self, id: FlowId, done: &Done, traffic: &mut Traffic) {
        let Some(seat) = &mut self.seats[index(id.0)] else { return };
        seat.flying = false;
        let bytes = self.kernel.landed(done.id);
        let sent = match &done.result {
            Ok(sent) => *sent,
            Err(error) if is_passing(error) => 0,
            Err(error) => {
                traffic.fail(id, copy(error));
                bytes.clear();
                seat.staged.clear();
                seat.tokens.clear();
                return;
            }
        };
        bytes.drain(..sent);
        if !bytes.is_empty() {
            // It was told to end: what is left goes first.
            bytes.append(&mut seat.staged);
            std::mem::swap(bytes, &mut seat.staged);
        }
        if !seat.staged.is_empty() {
            self.outgoing.push(id);
        }
    }

    /// Reads the flows that are watched and have something.
    fn hear(&mut self, traffic: &mut Traffic) -> io::Result<()> {
        for id in std::mem::take(&mut self.ready) {
            let Some(seat) = &mut self.seats[index(id.0)] else { continue };
            if traffic.hear(id) == Heard::Part {
                self.ready.push(id);
            }
            seat.calm = if traffic.is_bulk(id) { 0 } else { seat.calm.saturating_add(1) };
            if seat.ear == Ear::Watches && seat.calm >= CALM {
                seat.stop_listening(&mut self.kernel)?;
            }
        }
        Ok(())
    }

    /// Sends large frames that wait. They may not overtake small ones.
    fn flush(&mut self, traffic: &mut Traffic, events: &mut Vec<Event>) {
        let seats = &self.seats;
        self.backlog.retain(|id| match &seats[index(id.0)] {
            Some(seat) if seat.flying || !seat.staged.is_empty() => true,
            Some(_) => !traffic.flush(*id, events),
            None => false,
        });
    }

    /// The ring is of no use any more, and with it all flows.
    fn fail(traffic: &mut Traffic, error: &io::Error) {
        let ids: Vec<_> = traffic.ids().collect();
        let system = || Error::System { call: "io_uring_enter", source: copy(error) };
        ids.into_iter().for_each(|id| traffic.end(id, system()));
    }

    fn try_turn(&mut self, traffic: &mut Traffic) -> io::Result<()> {
        self.settle()?;
        self.ask(traffic)?;
        if self.kernel.is_due() {
            self.kernel.enter()?;
        }
        self.reap(traffic)?;
        self.hear(traffic)
    }

    fn try_arm(&mut self, traffic: &Traffic) -> io::Result<bool> {
        self.settle()?;
        self.ask(traffic)?;
        for id in &self.backlog {
            if let Some(seat) = self.seats[index(id.0)].as_mut().filter(|seat| !seat.asks_room) {
                self.kernel.writable(seat.file)?;
                seat.asks_room = true;
            }
        }
        if self.kernel.is_due() {
            self.kernel.enter()?;
        }
        Ok(self.ready.is_empty() && self.sent.is_empty() && !self.kernel.has_completions())
    }

    /// Waits until the kernel does nothing for a flow any more.
    fn quiet(&mut self, traffic: &mut Traffic, id: FlowId) -> io::Result<()> {
        let deadline = Instant::now() + END;
        loop {
            match &mut self.seats[index(id.0)] {
                Some(seat) if !seat.is_quiet() => seat.stop(&mut self.kernel)?,
                _ => return Ok(()),
            }
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.kernel.enter()?;
            self.reap(traffic)?;
        }
    }
}

impl Seat {
    /// Ends what the kernel does about what the peer sends.
    fn stop_listening(&mut self, kernel: &mut Kernel) -> io::Result<()> {
        let op = match self.ear {
            Ear::Receives => Op::Receive,
            Ear::Watches => Op::Readable,
            Ear::Off | Ear::Ends => return Ok(()),
        };
        kernel.cancel(self.file, op)?;
        self.ear = Ear::Ends;
        Ok(())
    }

    /// Ends all that the kernel does.
    fn stop(&mut self, kernel: &mut Kernel) -> io::Result<()> {
        self.stop_listening(kernel)?;
        if self.flying {
            kernel.cancel(self.file, Op::Send)?;
        }
        if self.asks_room {
            kernel.cancel(self.file, Op::Writable)?;
        }
        Ok(())
    }
}

impl Drive for Ring {
    fn open(&mut self, bell: &Epoll, traffic: &Traffic, id: FlowId) -> Result<()> {
        let Some(flow) = traffic.flow(id) else { return Ok(()) };
        bell.delete(&flow.stream)
            .map_err(|errno| Error::System { call: "epoll_ctl", source: errno.into() })?;
        let file = self.kernel.file(id.0, flow.stream.as_fd());
        self.seats.resize_with(self.seats.len().max(index(id.0) + 1), || None);
        self.seats[index(id.0)] = Some(Seat {
            file,
            ear: Ear::Off,
            calm: 0,
            staged: Vec::new(),
            tokens: Vec::new(),
            flying: false,
            asks_room: false,
            closed: false,
        });
        self.deaf.push(id);
        if !flow.sending.is_idle() {
            self.backlog.push(id);
        }
        Ok(())
    }

    fn post(
        &mut self,
        traffic: &mut Traffic,
        id: FlowId,
        header: Header,
        put: &Put<'_>,
    ) -> std::result::Result<Posted, Full> {
        let Some(flow) = traffic.flow(id) else { return Ok(Posted::Done) };
        let Some(seat) = self.seats[index(id.0)].as_mut() else { return Ok(Posted::Done) };
        if flow.sending.is_broken() {
            return Ok(Posted::Done);
        }
        let len = header.frame_len();
        if len <= SMALL && flow.sending.is_idle() {
            if seat.staged.len() + len > STAGED {
                return Err(Full);
            }
            if seat.staged.is_empty() {
                self.outgoing.push(id);
            }
            traffic.write(header, put, &mut seat.staged);
            if header.len > 0 {
                // Whoever posted it polls until it has the token back, so it leaves with the next turn.
                seat.tokens.push(put.token);
                return Ok(Posted::Pending);
            }
            // Nobody may poll any more after a mere signal. What fails now fails again in the next turn.
            let _ = self.hand_over(id).and_then(|()| self.kernel.enter());
            return Ok(Posted::Done);
        }
        let is_first = !seat.flying && seat.staged.is_empty();
        let posted =
            if is_first { traffic.post(id, header, put) } else { traffic.queue(id, header, put) }?;
        if posted == Posted::Pending && !self.backlog.contains(&id) {
            self.backlog.push(id);
        }
        Ok(posted)
    }

    fn turn(&mut self, _: &Epoll, traffic: &mut Traffic, events: &mut Vec<Event>) {
        if let Err(error) = self.try_turn(traffic) {
            Self::fail(traffic, &error);
        }
        events.extend(self.sent.drain(..).map(Event::Sent));
        self.flush(traffic, events);
    }

    fn is_behind(&self) -> bool {
        // What the kernel sends gets no further either, unless this thread enters it.
        let waits = |seat: &Seat| seat.flying || !seat.staged.is_empty();
        !self.backlog.is_empty() || self.seats.iter().flatten().any(waits)
    }

    fn close(&mut self, _: &Epoll, traffic: &mut Traffic, id: FlowId) {
        for list in [&mut self.outgoing, &mut self.deaf, &mut self.ready, &mut self.backlog] {
            list.retain(|other| *other != id);
        }
        let Some(Some(seat)) = self.seats.get_mut(index(id.0)) else { return };
        seat.closed = true;
        seat.staged.clear();
        if let Err(error) = self.quiet(traffic, id) {
            tracing::warn!(target: "dure::net", %error, "a ring does not let go of a connection");
        }
        if let Some(seat) = self.seats[index(id.0)].take() {
            self.kernel.forget(seat.file);
        }
    }

    fn arm(&mut self, _: &Epoll, traffic: &mut Traffic) -> bool {
        self.try_arm(traffic).unwrap_or_else(|error| {
            Self::fail(traffic, &error);
            false
        })
    }
}

/// Whether an operation ended only because it was told to, or has to be asked for again.
fn is_passing(error: &io::Error) -> bool {
    let again = [libc::ECANCELED, libc::ENOBUFS, libc::EINTR, libc::EAGAIN];
    error.raw_os_error().is_some_and(|code| again.contains(&code))
}

/// The same error, for another owner.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
