//! A peer that is not up yet.
//!
//! The lower rank dials every flow, both sides prove the key on each, and the greetings cross on flow 0: the dialler's
//! first, the other one when all flows are there and `connect` was called. So the dialler's side comes up only when
//! the other one did.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::task::Poll;
use std::time::{Duration, Instant};

use dure_transport::proof::{Claim, Key};
use dure_transport::{Card, Error, Peer, Result};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::address::Address;
use crate::dial::Dial;
use crate::preamble::{Kind, Preamble};
use crate::prove::{Greeting, Proving, is_open};
use crate::socket::tune;

/// Marks events of descriptors that are looked at in every poll anyway.
pub(crate) const OTHER: u64 = u64::MAX;

/// How often a flow that the other side closed is dialled again. It happens to an honest peer when its place among the
/// other side's unproven connections was taken by a flood, or when it was stopped for so long that it was given up.
const RETRIES: u32 = 8;
/// The wait before the first repetition; it doubles every time, to 13 s in all.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// What joining needs from its surroundings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Desk<'a> {
    pub(crate) epoll: &'a Epoll,
    pub(crate) key: &'a Key,
    pub(crate) me: Peer,
    pub(crate) peer: Peer,
}

/// The connections to one peer, being made.
#[derive(Debug)]
pub(crate) struct Joining {
    seats: Vec<Seat>,
    /// Where the peer is, on the side that dials.
    dials: Option<Address>,
    retries: u32,
    /// What `connect` was given.
    ours: Option<Card>,
    greeting: Greeting,
    theirs: Option<Card>,
}

/// The place of one flow.
#[derive(Debug)]
enum Seat {
    Empty,
    Dialling(Dial),
    Proving(Proving),
    Proven(TcpStream),
    /// To be dialled again.
    Later(Instant),
}

/// A peer that is up.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) streams: Vec<TcpStream>,
    pub(crate) hello: Card,
}

impl Joining {
    pub(crate) fn new(flows: u16) -> Self {
        Self {
            seats: (0..flows).map(|_| Seat::Empty).collect(),
            dials: None,
            retries: 0,
            ours: None,
            greeting: Greeting::new(),
            theirs: None,
        }
    }

    /// `connect` was called on this side.
    pub(crate) fn connect(&mut self, desk: Desk<'_>, address: Address, hello: &Card) -> Result<()> {
        self.ours = Some(hello.clone());
        if desk.me < desk.peer {
            self.dials = Some(address);
            for flow in 0..self.seats.len() {
                self.dial(desk, flow)?;
            }
        }
        Ok(())
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.ours.is_some()
    }

    /// Whether connections have to arrive at the port.
    pub(crate) fn expects(&self) -> bool {
        self.ours.is_some() && self.dials.is_none()
    }

    /// Takes a proven connection that the peer dialled; a newer one for the same flow takes over.
    pub(crate) fn seat(&mut self, flow: u16, stream: TcpStream) {
        let flow = usize::from(flow);
        if flow == 0 {
            self.greeting = Greeting::new();
            self.theirs = None;
        }
        self.seats[flow] = Seat::Proven(stream);
    }

    /// When a flow is to be dialled again.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        let later = |seat: &Seat| if let Seat::Later(at) = seat { Some(*at) } else { None };
        self.seats.iter().filter_map(later).min()
    }

    /// Goes on without waiting.
    ///
    /// # Errors
    /// Why the peer cannot come up any more.
    pub(crate) fn step(&mut self, desk: Desk<'_>) -> Result<Option<Joined>> {
        for flow in 0..self.seats.len() {
            match self.step_seat(desk, flow) {
                Err(Error::Closed) if self.dials.is_some() && self.retries < RETRIES => {
                    self.seats[flow] =
                        Seat::Later(Instant::now() + RETRY_AFTER * (1 << self.retries));
                    self.retries += 1;
                }
                other => other?,
            }
        }
        if !self.seats.iter().all(|seat| matches!(seat, Seat::Proven(_))) || self.ours.is_none() {
            return Ok(None);
        }
        let Some(hello) = self.theirs.take() else { return Ok(None) };
        let proven = |seat| if let Seat::Proven(stream) = seat { Some(stream) } else { None };
        let mut streams: Vec<_> = self.seats.drain(..).filter_map(proven).collect();
        if self.dials.is_none() {
            self.greet(&mut streams[0])?;
        }
        Ok(Some(Joined { streams, hello }))
    }

    fn step_seat(&mut self, desk: Desk<'_>, flow: usize) -> Result<()> {
        match &mut self.seats[flow] {
            Seat::Empty => Ok(()),
            Seat::Later(at) if *at > Instant::now() => Ok(()),
            Seat::Later(_) => self.dial(desk, flow),
            Seat::Dialling(dial) => match dial.poll() {
                Poll::Pending => Ok(()),
                Poll::Ready(stream) => self.prove(desk, flow, stream?),
            },
            Seat::Proving(proving) => match proving.step(desk.key, desk.me.0)? {
                None => Ok(()),
                Some(_) => self.proven(flow),
            },
            Seat::Proven(stream) if flow == 0 && self.theirs.is_none() => {
                self.theirs = self.greeting.step(stream)?;
                Ok(())
            }
            Seat::Proven(stream) => {
                if is_open(stream) {
                    Ok(())
                } else {
                    Err(Error::Closed)
                }
            }
        }
    }

    fn dial(&mut self, desk: Desk<'_>, flow: usize) -> Result<()> {
        let Address { id, addresses } =
            self.dials.clone().expect("only the side with an address dials");
        let dial = Dial::new(addresses, Preamble { id, kind: Kind::Data, rank: desk.me.0 })?;
        watch(desk.epoll, &dial.doorbell())?;
        self.seats[flow] = Seat::Dialling(dial);
        Ok(())
    }

    fn prove(&mut self, desk: Desk<'_>, flow: usize, stream: TcpStream) -> Result<()> {
        tune(&stream);
        watch(desk.epoll, &stream)?;
        let claim = Claim {
            rank: desk.me.0,
            flow: u16::try_from(flow).expect("flows are numbered in 16 bits"),
        };
        self.seats[flow] = Seat::Proving(Proving::dial(stream, desk.key, claim, desk.peer.0)?);
        Ok(())
    }

    /// The other side of a connection that this side dialled is proven.
    fn proven(&mut self, flow: usize) -> Result<()> {
        let Seat::Proving(proving) = std::mem::replace(&mut self.seats[flow], Seat::Empty) else {
            return Ok(());
        };
        let mut stream = proving.into_stream();
        if flow == 0 {
            self.greeting = Greeting::new();
            self.theirs = None;
            self.greet(&mut stream)?;
        }
        self.seats[flow] = Seat::Proven(stream);
        Ok(())
    }

    fn greet(&self, stream: &mut TcpStream) -> Result<()> {
        Greeting::send(self.ours.as_ref().expect("nobody greets before connect"), stream)
    }
}

/// Lets a descriptor ring the doorbell when it is readable.
pub(crate) fn watch(epoll: &Epoll, fd: &impl AsFd) -> Result<()> {
    let added = epoll.add(fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, OTHER));
    added.map_err(|errno| Error::System { call: "epoll_ctl", source: errno.into() })
}
