//! Accepted connections that did not prove the key yet.
//!
//! The id in a preamble is no secret, so anybody may be here: their number and time are bounded, and those that say
//! nothing cost nothing but their place.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use dure_transport::proof::{Claim, Key};
use dure_transport::{Error, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::prove::Proving;

/// Most strangers; the oldest is closed when there are more.
const MOST: usize = 256;
/// How long a stranger may take for its proof.
const PATIENCE: Duration = Duration::from_secs(30);
/// Strangers looked at in one step.
const PER_STEP: usize = 16;

#[derive(Debug)]
pub(crate) struct Strangers {
    /// In order of arrival, and so of serial number and deadline.
    all: VecDeque<Stranger>,
    next_serial: u64,
    epoll: Epoll,
}

#[derive(Debug)]
struct Stranger {
    serial: u64,
    proving: Proving,
    deadline: Instant,
}

impl Strangers {
    pub(crate) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|errno| Error::System { call: "epoll_create1", source: errno.into() })?;
        Ok(Self { all: VecDeque::new(), next_serial: 0, epoll })
    }

    /// Readable when one of them said something.
    pub(crate) fn doorbell(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.front().map(|stranger| stranger.deadline)
    }

    pub(crate) fn add(&mut self, stream: TcpStream) {
        let serial = self.next_serial;
        self.next_serial += 1;
        if self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, serial)).is_err() {
            return;
        }
        if self.all.len() >= MOST {
            self.all.pop_front();
        }
        let deadline = Instant::now() + PATIENCE;
        self.all.push_back(Stranger { serial, proving: Proving::accept(stream), deadline });
    }

    /// Goes on without waiting, and gives away those that are proven. Whoever fails is closed.
    pub(crate) fn step(&mut self, key: &Key, me: u32) -> Vec<(Claim, TcpStream)> {
        let mut proven = Vec::new();
        if self.all.is_empty() {
            return proven;
        }
        let mut events = [EpollEvent::empty(); PER_STEP];
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..ready] {
            let found = self.all.binary_search_by_key(&event.data(), |stranger| stranger.serial);
            let Ok(at) = found else { continue };
            match self.all[at].proving.step(key, me) {
                Ok(None) => {}
                Ok(Some(claim)) => proven.extend(self.take(at).map(|stream| (claim, stream))),
                Err(error) => {
                    tracing::debug!(target: "dure::net", %error, "closed a connection without proof");
                    self.all.remove(at);
                }
            }
        }
        let now = Instant::now();
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.all.pop_front();
        }
        proven
    }

    fn take(&mut self, at: usize) -> Option<TcpStream> {
        let stream = self.all.remove(at)?.proving.into_stream();
        self.epoll.delete(&stream).ok()?;
        Some(stream)
    }
}
