//! The receiving half of a flow.
//!
//! Headers and small payloads pass through a buffer; the rest of a large payload is received where it belongs, by the
//! same system call that reads the beginning of the next frame. Nothing is written before region, nonce, bounds and
//! counter of its frame are checked.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use dure_transport::{Error, Peer};
use nix::sys::socket::{MsgFlags, recv};

use crate::frame::{Header, NO_SIGNAL};
use crate::memory::Bytes;
use crate::prove::broken;
use crate::region::{Regions, index};

/// Bytes of the buffer: as much as one system call may bring of small frames.
const BUFFER: usize = 64 << 10;
/// How much of the buffer is used while payloads are large: what comes into it is copied once more, so it should hold
/// the next header and little else.
const LEAN: usize = 512;
/// Payloads from this length on are large, in bytes.
const LARGE: u32 = 4 << 10;
/// Most system calls for one flow in one poll, so that a fast peer cannot keep the others out.
const CALLS: usize = 16;

/// A counter, and who may bump it.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) from: Peer,
    pub(crate) value: u64,
}

/// What frames of one peer land in.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) regions: &'a Regions,
    pub(crate) counters: &'a mut [Counter],
    pub(crate) peer: Peer,
}

/// Whether there may be more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    Perhaps,
}

/// The receiving half of a flow.
#[derive(Debug)]
pub(crate) struct Receiving {
    buffer: Box<[u8]>,
    /// Bytes of the buffer that are not used yet: less than a header, between calls.
    held: usize,
    /// How much of the buffer the next call may fill.
    limit: usize,
    /// What is missing of the current frame's payload, as a header that names just that.
    payload: Option<Header>,
}

impl Receiving {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; BUFFER].into(), held: 0, limit: BUFFER, payload: None }
    }

    /// Reads what is there, up to a bound.
    ///
    /// # Errors
    /// [`Error::Closed`] at the end of the connection, [`Error::System`] when it broke, [`Error::Protocol`].
    pub(crate) fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        ground: &mut Ground<'_>,
    ) -> Result<Left, Error> {
        for _ in 0..CALLS {
            let landing = match &self.payload {
                Some(header) => ground.regions.landing(header, ground.peer).map_err(protocol)?,
                None => Bytes::EMPTY,
            };
            let free = &mut self.buffer[self.held..self.limit];
            let asked = landing.len() + free.len();
            let got = if landing.len() == 0 {
                recv(fd.as_raw_fd(), free, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from)
            } else {
                landing.receive(fd, free)
            };
            let got = match got {
                Ok(0) => return Err(Error::Closed),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Left::Nothing);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken("recv", error)),
            };
            let landed = got.min(landing.len());
            self.landed(landed, ground);
            self.held += got - landed;
            self.digest(ground).map_err(protocol)?;
            if got < asked {
                return Ok(Left::Nothing);
            }
        }
        Ok(Left::Perhaps)
    }

    /// Uses up the buffer, except for an incomplete header.
    fn digest(&mut self, ground: &mut Ground<'_>) -> Result<(), &'static str> {
        let mut at = 0;
        loop {
            let bytes = &self.buffer[at..self.held];
            if let Some(header) = &self.payload {
                let landing = ground.regions.landing(header, ground.peer)?;
                let count = landing.len().min(bytes.len());
                landing.write(&bytes[..count]);
                at += count;
                self.landed(count, ground);
                if self.payload.is_some() {
                    break;
                }
            } else {
                let Some(bytes) = bytes.first_chunk() else { break };
                let header = Header::decode(bytes).map_err(|_| "a frame header that cannot be")?;
                at += Header::LEN;
                self.admit(header, ground)?;
            }
        }
        self.buffer.copy_within(at..self.held, 0);
        self.held -= at;
        Ok(())
    }

    /// Checks a new frame before a byte of it is written.
    fn admit(&mut self, header: Header, ground: &mut Ground<'_>) -> Result<(), &'static str> {
        if header.signal != NO_SIGNAL {
            let counter = ground
                .counters
                .get(index(header.signal))
                .ok_or("a frame for a counter that does not exist")?;
            if counter.from != ground.peer {
                return Err("a frame for a counter of another peer");
            }
        }
        if header.len == 0 {
            ground.bump(header.signal);
            return Ok(());
        }
        ground.regions.landing(&header, ground.peer)?;
        self.limit = if header.len >= LARGE { LEAN } else { BUFFER };
        self.payload = Some(header);
        Ok(())
    }

    /// Notes that `count` more bytes of the payload are where they belong.
    fn landed(&mut self, count: usize, ground: &mut Ground<'_>) {
        let Some(header) = &mut self.payload else { return };
        let count = u32::try_from(count).expect("no more lands than the payload has");
        header.offset += u64::from(count);
        header.len -= count;
        if header.len == 0 {
            let signal = header.signal;
            self.payload = None;
            ground.bump(signal);
        }
    }
}

impl Ground<'_> {
    fn bump(&mut self, signal: u32) {
        if signal != NO_SIGNAL {
            self.counters[index(signal)].value += 1;
        }
    }
}

fn protocol(what: &'static str) -> Error {
    Error::Protocol { what }
}
