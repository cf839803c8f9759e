//! Connecting to a peer that has several addresses.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::Socket;

use crate::error::{Error, Result};
use crate::preamble::Preamble;
use crate::socket::create;
use crate::timer::Timer;

/// How long one address may take to connect. TCP sends its first packet again after 1 s, so that one lost packet does
/// not decide.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long a candidate has the field for itself before the next one starts too: the "Connection Attempt Delay" that
/// RFC 8305 section 5 recommends.
const STAGGER: Duration = Duration::from_millis(250);
/// Marks events of the timer; connections are marked with numbers from 0.
const TIMER: u64 = u64::MAX;

/// A connection being made to the first of several addresses that answers ("happy eyeballs", RFC 8305).
///
/// The candidates are started in their order, 250 ms apart or as soon as the one before fails, and each may take 3 s.
/// Nothing blocks: call [`Dial::poll`] whenever [`Dial::doorbell`] is readable, or [`Dial::wait`] where blocking is
/// right.
#[derive(Debug)]
pub struct Dial {
    candidates: VecDeque<SocketAddr>,
    preamble: [u8; Preamble::LEN],
    attempts: Vec<Attempt>,
    tried: Vec<(SocketAddr, io::Error)>,
    next_start: Instant,
    next_mark: u64,
    epoll: Epoll,
    timer: Timer,
}

#[derive(Debug)]
struct Attempt {
    mark: u64,
    to: SocketAddr,
    socket: Socket,
    deadline: Instant,
}

impl Dial {
    /// Prepares to dial; the first [`Dial::poll`] starts.
    ///
    /// # Errors
    /// [`Error::System`] when the process has no descriptor left.
    pub fn new(candidates: Vec<SocketAddr>, preamble: Preamble) -> Result<Self> {
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::system("epoll_create1"))?;
        let mut timer = Timer::new().map_err(Error::system("timerfd_create"))?;
        epoll
            .add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))
            .map_err(Error::system("epoll_ctl"))?;
        let next_start = Instant::now();
        timer.set(Some(next_start));
        Ok(Self {
            candidates: candidates.into(),
            preamble: preamble.encode(),
            attempts: Vec::new(),
            tried: Vec::new(),
            next_start,
            next_mark: 0,
            epoll,
            timer,
        })
    }

    /// Goes on without waiting. The stream that comes back is non-blocking, without Nagle's algorithm, and the
    /// preamble is written to it. Not to be called again after it was ready.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when no candidate answered, with what happened at each.
    pub fn poll(&mut self) -> Poll<Result<TcpStream>> {
        let mut events = [EpollEvent::empty(); 16];
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..ready] {
            if let Some(stream) = self.connected(event.data()) {
                return Poll::Ready(Ok(stream));
            }
        }
        let now = Instant::now();
        self.expire(now);
        self.start(now);
        if self.attempts.is_empty() {
            return Poll::Ready(Err(Error::Unreachable(std::mem::take(&mut self.tried))));
        }
        let start = (!self.candidates.is_empty()).then_some(self.next_start);
        self.timer.set(self.attempts.iter().map(|attempt| attempt.deadline).chain(start).min());
        Poll::Pending
    }

    /// Readable when [`Dial::poll`] has something to do.
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Blocks until a candidate answers, none is left, or `deadline` is there.
    ///
    /// # Errors
    /// As for [`Dial::poll`]; candidates that had not answered at the deadline count as timed out.
    pub fn wait(mut self, deadline: Instant) -> Result<TcpStream> {
        loop {
            if let Poll::Ready(result) = self.poll() {
                return result;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let open = self
                    .attempts
                    .drain(..)
                    .map(|attempt| attempt.to)
                    .chain(self.candidates.drain(..));
                self.tried.extend(open.map(|to| (to, io::ErrorKind::TimedOut.into())));
                return Err(Error::Unreachable(self.tried));
            }
            // Rounded up, so that the last millisecond is not spent in a loop.
            let left = left + Duration::from_millis(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            // An interrupted wait is a short one.
            let _ =
                nix::poll::poll(&mut [PollFd::new(self.doorbell(), PollFlags::POLLIN)], timeout);
        }
    }

    /// Something happened to an attempt: it is done or failed.
    fn connected(&mut self, mark: u64) -> Option<TcpStream> {
        let at = self.attempts.iter().position(|attempt| attempt.mark == mark)?;
        let Attempt { to, socket, .. } = self.attempts.swap_remove(at);
        match self.finish(socket) {
            Ok(stream) => Some(stream),
            Err(error) => {
                self.failed(to, error);
                None
            }
        }
    }

    fn finish(&self, socket: Socket) -> io::Result<TcpStream> {
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        self.epoll.delete(&socket)?;
        socket.set_tcp_nodelay(true)?;
        let mut stream = TcpStream::from(socket);
        // The send buffer of a fresh connection holds 32 bytes: this is neither short nor would it block.
        stream.write_all(&self.preamble)?;
        Ok(stream)
    }

    fn expire(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(attempt) = self.attempts.get(at) {
            if attempt.deadline <= now {
                let to = self.attempts.swap_remove(at).to;
                self.failed(to, io::ErrorKind::TimedOut.into());
            } else {
                at += 1;
            }
        }
    }

    /// Starts candidates whose turn it is.
    fn start(&mut self, now: Instant) {
        while self.next_start <= now || self.attempts.is_empty() {
            let Some(to) = self.candidates.pop_front() else { return };
            self.next_start = now + STAGGER;
            let mark = self.next_mark;
            self.next_mark += 1;
            match self.attempt(to, mark) {
                Ok(socket) => {
                    self.attempts.push(Attempt { mark, to, socket, deadline: now + CONNECT_LIMIT })
                }
                Err(error) => self.failed(to, error),
            }
        }
    }

    fn attempt(&self, to: SocketAddr, mark: u64) -> io::Result<Socket> {
        let socket = create(to)?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLOUT, mark))?;
        Ok(socket)
    }

    /// Notes a failure; the next candidate need not wait for its turn.
    fn failed(&mut self, to: SocketAddr, error: io::Error) {
        self.tried.push((to, error));
        self.next_start = Instant::now();
    }
}
