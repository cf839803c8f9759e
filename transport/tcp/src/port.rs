//! The process's one listening port.
//!
//! Bootstrap and data connections of every communicator of a process arrive at one port, so that one number is all
//! that a firewall has to know. A connection begins with a [`Preamble`] that says to whom it belongs; it is handed to
//! the [`Inbox`] that was registered for that.
//!
//! Whoever can reach the host can connect here, so everything that an unknown peer can make this code hold is bounded
//! in number and in time ([`PortOptions`]), and nothing that it sends makes anybody wait.

#![expect(
    clippy::disallowed_types,
    reason = "locked for a few instructions, or tried; never on the data path"
)]

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};
use crate::preamble::{Kind, Preamble};
use crate::socket::create;
use crate::timer::Timer;

/// Connections that the kernel may hold until they are accepted. The kernel lowers it to net.core.somaxconn, 4096
/// since Linux 5.4.
const BACKLOG: i32 = 4096;
/// Connections accepted, and half-read ones looked at, in one turn.
const PER_TURN: usize = 64;
/// How long the port is left alone after accept failed for want of descriptors or memory: the connection stays in the
/// backlog and the listening socket stays readable, so that without a pause every sleeper would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Marks events of the listening socket.
const LISTENER: u64 = u64::MAX;
/// Marks events of the timer.
const TIMER: u64 = u64::MAX - 1;

/// Where to listen, and how much to hold for peers that are not known yet.
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// The first free port of these is taken; any free one if `None`.
    pub ports: Option<RangeInclusive<u16>>,
    /// Most connections whose preamble is not complete; the oldest is closed when there are more.
    pub half_open: usize,
    /// How long a connection may take for its preamble.
    pub half_open_for: Duration,
    /// Most connections that wait for the inbox they name; the oldest is closed when there are more.
    pub held: usize,
    /// How long a connection waits for the inbox it names.
    pub held_for: Duration,
    /// Most connections that wait in one inbox; further ones are closed.
    pub queued: usize,
}

impl Default for PortOptions {
    fn default() -> Self {
        Self {
            ports: None,
            half_open: 256,
            half_open_for: Duration::from_secs(10),
            held: 256,
            held_for: Duration::from_secs(30),
            queued: 4096,
        }
    }
}

/// A connection that said to whom it belongs.
#[derive(Debug)]
pub struct Incoming {
    /// The connection, from the byte after the preamble; non-blocking, and without Nagle's algorithm.
    pub stream: TcpStream,
    /// What it is for.
    pub kind: Kind,
    /// The rank that the dialler says it is. Not proven.
    pub rank: u32,
    /// Where it comes from.
    pub from: SocketAddr,
}

/// The process's one listening port. Share it by [`Arc`].
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    number: u16,
    options: PortOptions,
    epoll: Epoll,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// In order of arrival, and so of serial number and deadline.
    half: VecDeque<HalfOpen>,
    /// In order of deadline.
    held: VecDeque<Held>,
    inboxes: BTreeMap<([u8; 16], Kind), Arc<Queue>>,
    next_serial: u64,
    /// Until when the listening socket is not watched.
    paused: Option<Instant>,
    timer: Timer,
}

/// A connection whose preamble is not complete.
#[derive(Debug)]
struct HalfOpen {
    serial: u64,
    stream: TcpStream,
    from: SocketAddr,
    bytes: [u8; Preamble::LEN],
    got: usize,
    deadline: Instant,
}

/// A connection whose inbox is not registered.
#[derive(Debug)]
struct Held {
    id: [u8; 16],
    incoming: Incoming,
    deadline: Instant,
}

/// What an inbox and the port share.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<VecDeque<Incoming>>,
    /// Whether something waits, for whoever asks often.
    some: AtomicBool,
    /// Readable while something waits.
    bell: EventFd,
}

/// What reading a preamble came to.
enum Reading {
    Complete(Preamble),
    Partial,
    Useless,
}

impl Port {
    /// Listens on the wildcard address: on IPv6 and IPv4 with one socket where the host has IPv6, else on IPv4. Which
    /// addresses are advertised is the caller's choice; the port answers on all.
    ///
    /// # Errors
    /// [`Error::NoFreePort`] or [`Error::System`].
    pub fn bind(options: PortOptions) -> Result<Arc<Self>> {
        let listener = listen(options.ports.as_ref())?;
        let number = listener.local_addr().map_err(Error::system("getsockname"))?.port();
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::system("epoll_create1"))?;
        let timer = Timer::new().map_err(Error::system("timerfd_create"))?;
        let watch =
            |fd: BorrowedFd<'_>, mark| epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, mark));
        watch(listener.as_fd(), LISTENER).map_err(Error::system("epoll_ctl"))?;
        watch(timer.as_fd(), TIMER).map_err(Error::system("epoll_ctl"))?;
        let state = State {
            half: VecDeque::new(),
            held: VecDeque::new(),
            inboxes: BTreeMap::new(),
            next_serial: 0,
            paused: None,
            timer,
        };
        Ok(Arc::new(Self { listener, number, options, epoll, state: Mutex::new(state) }))
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Delivers connections that name `id` and `kind` to the returned inbox, those too that are held already. A later
    /// registration of the same pair takes over from an earlier one.
    ///
    /// # Errors
    /// [`Error::System`] when the process has no descriptor left.
    pub fn register(self: &Arc<Self>, id: [u8; 16], kind: Kind) -> Result<Inbox> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = EventFd::from_flags(flags).map_err(Error::system("eventfd"))?;
        let queue = Arc::new(Queue {
            waiting: Mutex::new(VecDeque::new()),
            some: AtomicBool::new(false),
            bell,
        });
        let mut state = lock(&self.state);
        state.inboxes.insert((id, kind), Arc::clone(&queue));
        for held in std::mem::take(&mut state.held) {
            if held.id == id && held.incoming.kind == kind {
                queue.push(held.incoming, self.options.queued);
            } else {
                state.held.push_back(held);
            }
        }
        drop(state);
        Ok(Inbox { port: Arc::clone(self), key: (id, kind), queue })
    }

    /// Accepts what waits, reads preambles, and delivers. Never waits: when somebody else is inside, it returns at
    /// once.
    pub fn turn(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        let state = &mut *state;
        let now = Instant::now();
        let mut events = [EpollEvent::empty(); PER_TURN];
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..ready] {
            match event.data() {
                LISTENER => self.accept(state, now),
                TIMER => {}
                serial => self.resume(state, serial, now),
            }
        }
        self.expire(state, now);
    }

    /// Readable when [`Port::turn`] has something to do.
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    fn accept(&self, state: &mut State, now: Instant) {
        for _ in 0..PER_TURN {
            match self.listener.accept() {
                Ok((stream, from)) => self.begin(state, stream, from, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The peer of this one connection gave up, or the network below it: accept(2) says to go on.
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(target: "dure::net", %error, "cannot accept connections for a moment");
                    self.watch_listener(EpollFlags::empty());
                    state.paused = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    /// Takes on a fresh connection. The preamble travels with the dialler's first segment, so it is often there.
    fn begin(&self, state: &mut State, stream: TcpStream, from: SocketAddr, now: Instant) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
            return;
        }
        let serial = state.next_serial;
        state.next_serial += 1;
        let deadline = now + self.options.half_open_for;
        let mut half =
            HalfOpen { serial, stream, from, bytes: [0; Preamble::LEN], got: 0, deadline };
        match half.read() {
            Reading::Complete(preamble) => self.deliver(state, half, preamble, now),
            Reading::Useless => {}
            Reading::Partial => {
                if self
                    .epoll
                    .add(&half.stream, EpollEvent::new(EpollFlags::EPOLLIN, serial))
                    .is_err()
                {
                    return;
                }
                if state.half.len() >= self.options.half_open {
                    state.half.pop_front();
                }
                state.half.push_back(half);
            }
        }
    }

    /// Goes on with a connection whose preamble is not complete.
    fn resume(&self, state: &mut State, serial: u64, now: Instant) {
        // Closed earlier in this turn, when not found.
        let Ok(at) = state.half.binary_search_by_key(&serial, |half| half.serial) else { return };
        let reading = state.half[at].read();
        if matches!(reading, Reading::Partial) {
            return;
        }
        let half = state.half.remove(at).expect("the index was found above");
        if let Reading::Complete(preamble) = reading {
            // It lives on elsewhere, so closing does not take it out of this set.
            if self.epoll.delete(&half.stream).is_ok() {
                self.deliver(state, half, preamble, now);
            }
        }
    }

    fn deliver(&self, state: &mut State, half: HalfOpen, preamble: Preamble, now: Instant) {
        let Preamble { id, kind, rank } = preamble;
        let incoming = Incoming { stream: half.stream, kind, rank, from: half.from };
        if let Some(queue) = state.inboxes.get(&(id, kind)) {
            queue.push(incoming, self.options.queued);
            return;
        }
        if state.held.len() >= self.options.held {
            state.held.pop_front();
        }
        state.held.push_back(Held { id, incoming, deadline: now + self.options.held_for });
    }

    /// Closes what ran out of time, ends the pause of the listening socket, and sets the timer for what comes next.
    fn expire(&self, state: &mut State, now: Instant) {
        while state.half.front().is_some_and(|half| half.deadline <= now) {
            state.half.pop_front();
        }
        while state.held.front().is_some_and(|held| held.deadline <= now) {
            state.held.pop_front();
        }
        if state.paused.is_some_and(|until| until <= now) {
            state.paused = None;
            self.watch_listener(EpollFlags::EPOLLIN);
        }
        let half = state.half.front().map(|half| half.deadline);
        let held = state.held.front().map(|held| held.deadline);
        state.timer.set([half, held, state.paused].into_iter().flatten().min());
    }

    fn watch_listener(&self, what: EpollFlags) {
        let done = self.epoll.modify(&self.listener, &mut EpollEvent::new(what, LISTENER));
        done.expect("the listening socket is in the set from the beginning");
    }
}

impl HalfOpen {
    /// Reads what is missing of the preamble, not a byte more.
    fn read(&mut self) -> Reading {
        while self.got < Preamble::LEN {
            match self.stream.read(&mut self.bytes[self.got..]) {
                Ok(0) => return Reading::Useless,
                Ok(got) => self.got += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Reading::Partial,
                Err(_) => return Reading::Useless,
            }
        }
        match Preamble::decode(&self.bytes) {
            Ok(preamble) => Reading::Complete(preamble),
            Err(error) => {
                tracing::debug!(target: "dure::net", from = %self.from, %error, "closed a connection");
                Reading::Useless
            }
        }
    }
}

impl Queue {
    fn push(&self, incoming: Incoming, most: usize) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < most {
            waiting.push_back(incoming);
            self.some.store(true, Ordering::Release);
            // It can fail only for a sum beyond 64 bits.
            let _ = self.bell.write(1);
        }
    }
}

/// Where connections of one id and kind arrive, until it is dropped.
#[derive(Debug)]
pub struct Inbox {
    port: Arc<Port>,
    key: ([u8; 16], Kind),
    queue: Arc<Queue>,
}

impl Inbox {
    /// Whether no connection waits.
    pub(crate) fn is_empty(&self) -> bool {
        !self.queue.some.load(Ordering::Acquire)
    }

    /// The next connection, if one is there.
    pub fn try_take(&self) -> Option<Incoming> {
        if self.is_empty() {
            return None;
        }
        let mut waiting = lock(&self.queue.waiting);
        let next = waiting.pop_front()?;
        if waiting.is_empty() {
            self.queue.some.store(false, Ordering::Release);
            // It can fail only when the bell is silent already.
            let _ = self.queue.bell.read();
        }
        Some(next)
    }

    /// Readable while a connection waits. Somebody has to call [`Port::turn`] for that to happen.
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.queue.bell.as_fd()
    }

    /// The port that fills this inbox.
    pub fn port(&self) -> &Arc<Port> {
        &self.port
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = lock(&self.port.state);
        if state.inboxes.get(&self.key).is_some_and(|queue| Arc::ptr_eq(queue, &self.queue)) {
            state.inboxes.remove(&self.key);
        }
    }
}

/// The data behind these locks is consistent after every statement, so a panic of another holder does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionAborted
            | K::ConnectionReset
            | K::Interrupted
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::PermissionDenied
    )
}

fn listen(ports: Option<&RangeInclusive<u16>>) -> Result<TcpListener> {
    let Some(ports) = ports else { return listen_on(0).map_err(Error::system("bind")) };
    for port in ports.clone() {
        match listen_on(port) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
                ) => {}
            other => return other.map_err(Error::system("bind")),
        }
    }
    Err(Error::NoFreePort { first: *ports.start(), last: *ports.end() })
}

/// Both protocols with one socket, or IPv4 alone where the kernel has no IPv6.
fn listen_on(port: u16) -> io::Result<TcpListener> {
    match listen_at(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) =>
        {
            listen_at(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
        other => other,
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = create(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // So that a port with connections of an earlier process in TIME_WAIT can be taken; one that somebody listens on
    // still cannot.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
