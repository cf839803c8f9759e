//! One connection, as NCCL holds it: an end, its memory, and places for its requests.

#![expect(
    clippy::disallowed_types,
    reason = "one thread of NCCL registers memory while another sends; hardly ever at once"
)]

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dure::{Error, Result};
use dure_device::{Memory, Space};
use dure_transport::{Card, Region, Span};

use crate::device::LONGEST;
use crate::gpu::Gpus;
use crate::link::Link;
use crate::meeting::{Met, SENDER};
use crate::raw::{Marked, Object};
use crate::receiver::{GROUP, Receive, Receiver, Sizes};
use crate::ring::SLOTS;
use crate::sender::Sender;

/// A connection.
#[derive(Debug)]
pub(crate) struct Comm {
    /// No other in this process has it.
    number: u64,
    end: Mutex<End>,
    gpus: Option<Arc<Gpus>>,
    /// Numbers of registrations.
    serials: AtomicU64,
    requests: Box<[Marked<Request>]>,
}

#[derive(Debug)]
enum End {
    Sender(Sender),
    Receiver(Receiver),
}

/// The place of a request.
#[derive(Debug)]
pub(crate) struct Request {
    comm: Weak<Comm>,
    index: usize,
}

/// Memory that is registered with a connection.
#[derive(Debug)]
pub(crate) struct Registration {
    comm: u64,
    serial: u64,
    region: Region,
    memory: Memory,
    key: Card,
}

/// A connection as NCCL holds it.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) Arc<Comm>);

impl Object for Held {
    const MARK: u64 = u64::from_le_bytes(*b"durecomm");
    const NAME: &'static str = "a connection";
}

impl Object for Request {
    const MARK: u64 = u64::from_le_bytes(*b"durerequ");
    const NAME: &'static str = "a request of a connection that is open";
}

impl Object for Registration {
    const MARK: u64 = u64::from_le_bytes(*b"durememo");
    const NAME: &'static str = "what regMr gave";
}

/// Bytes of a message: of this registration, from this address on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    pub(crate) at: usize,
    pub(crate) len: usize,
    /// None where there are no bytes.
    pub(crate) memory: Option<&'a Registration>,
}

impl Comm {
    pub(crate) fn new(met: Met) -> Arc<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let Met { link, gpus } = met;
        let end = if link.peer == SENDER {
            End::Receiver(Receiver::new(link))
        } else {
            End::Sender(Sender::new(link))
        };
        Arc::new_cyclic(|comm| Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            end: Mutex::new(end),
            gpus,
            serials: AtomicU64::new(0),
            requests: (0..SLOTS)
                .map(|index| Marked::new(Request { comm: Weak::clone(comm), index }))
                .collect(),
        })
    }

    /// What an end holds is whole between calls, and after a panic the connection is of no use anyway.
    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both ends and the wire, for people.
    pub(crate) fn about(&self) -> String {
        self.end().link().about().to_owned()
    }

    /// Registers host memory.
    ///
    /// # Errors
    /// `System` when the transport has no room for it.
    ///
    /// # Safety
    /// It stays mapped, and nobody writes what is being sent or touches what is being received, until it is deregistered.
    pub(crate) unsafe fn register(&self, at: NonNull<u8>, len: usize) -> Result<Registration> {
        let memory = Memory { ptr: at, len, space: Space::Host };
        let mut end = self.end();
        // SAFETY: the caller's promise.
        let region = unsafe { end.link().net.register(memory) };
        self.registered(&mut end, memory, region)
    }

    /// Registers memory of a GPU that lies at an offset of a dma-buf.
    ///
    /// # Errors
    /// `InvalidUsage` where the connection does not reach GPUs; `System` when the transport or its devices refuse.
    ///
    /// # Safety
    /// As [`Comm::register`].
    pub(crate) unsafe fn register_gpu(
        &self,
        memory: (NonNull<u8>, usize),
        dma_buf: (BorrowedFd<'_>, u64),
    ) -> Result<Registration> {
        let mut end = self.end();
        let Some(gpus) = &self.gpus else {
            let about = end.link().about();
            return Err(Error::invalid_usage(format!("memory of a GPU on the {about}")));
        };
        let lent = gpus.lend(memory, dma_buf, |memory| {
            // SAFETY: the caller's promise.
            (memory, unsafe { end.link().net.register(memory) })
        });
        let (memory, region) = lent.map_err(|error| Error::system("fd: dup").because(error))?;
        self.registered(&mut end, memory, region)
    }

    fn registered(
        &self,
        end: &mut End,
        memory: Memory,
        region: dure_transport::Result<Region>,
    ) -> Result<Registration> {
        let link = end.link();
        let refused =
            |why: &str| Error::system(format!("{} B cannot be registered{why}", memory.len));
        let region = region.map_err(|error| refused("").because(error))?;
        // Also of what is only sent: memory that has a key is not copied.
        let Some(key) = link.net.key(region, link.peer) else {
            link.net.release(region);
            return Err(refused(": a device refuses it, see the log"));
        };
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        Ok(Registration { comm: self.number, serial, region, memory, key })
    }

    /// Whether a registration is of this connection.
    ///
    /// # Errors
    /// `InvalidArgument` when it is another's.
    pub(crate) fn check(&self, registration: &Registration) -> Result<()> {
        if registration.comm == self.number {
            return Ok(());
        }
        Err(Error::invalid_argument("mhandle: memory of another connection"))
    }

    /// Ends a registration of this connection.
    pub(crate) fn deregister(&self, registration: &Registration) {
        self.end().link().net.release(registration.region);
    }

    /// Where bytes lie in their registration; nowhere when there are none.
    fn span(&self, bytes: Bytes<'_>) -> Result<Option<(Span, u64)>> {
        let Bytes { at, len, memory } = bytes;
        if len > LONGEST {
            let what = format!("size: {len} bytes (allowed: 0 to {LONGEST}, maxP2pBytes)");
            return Err(Error::invalid_argument(what));
        }
        if len == 0 {
            return Ok(None);
        }
        let memory = memory.ok_or_else(|| Error::invalid_argument("mhandle: null"))?;
        self.check(memory)?;
        let inside = at.checked_sub(memory.memory.address());
        let inside = inside
            .filter(|offset| offset.checked_add(len).is_some_and(|end| end <= memory.memory.len));
        let Some(offset) = inside else {
            let (first, all) = (memory.memory.address(), memory.memory.len);
            return Err(Error::invalid_argument(format!(
                "data: {len} bytes at {at:#x} are not inside what mhandle registers, {all} bytes at {first:#x}"
            )));
        };
        let span = Span { region: memory.region, offset: offset as u64, len: len as u64 };
        Ok(Some((span, memory.serial)))
    }

    /// Sends bytes; `None` when the receiver has offered nothing for them: to be tried again.
    ///
    /// # Errors
    /// `InvalidArgument`, and as [`Sender::send`].
    pub(crate) fn send(&self, bytes: Bytes<'_>, tag: i32) -> Result<Option<&Marked<Request>>> {
        let span = self.span(bytes)?.map(|(span, _)| span);
        let mut end = self.end();
        let End::Sender(sender) = &mut *end else {
            return Err(Error::invalid_argument(
                "sendComm: it receives (allowed: what connect gave)",
            ));
        };
        Ok(sender.send(span, bytes.len as u64, tag)?.map(|at| &self.requests[at]))
    }

    /// Receives into as many places as there are; `None` when there are too many receives already: to be tried again.
    ///
    /// # Errors
    /// `InvalidArgument`, and as [`Receiver::offer`].
    pub(crate) fn receive(&self, parts: &[(Bytes<'_>, i32)]) -> Result<Option<&Marked<Request>>> {
        let mut receives = Vec::with_capacity(GROUP);
        for (bytes, tag) in parts {
            let span = self.span(*bytes)?;
            let key = bytes.memory.filter(|_| span.is_some());
            receives.push(Receive {
                tag: *tag,
                len: bytes.len as u64,
                at: span.map_or(0, |(span, _)| span.offset),
                serial: span.map_or(0, |(_, serial)| serial),
                key: key.map_or_else(Card::default, |memory| memory.key.clone()),
            });
        }
        let mut end = self.end();
        let End::Receiver(receiver) = &mut *end else {
            return Err(Error::invalid_argument("recvComm: it sends (allowed: what accept gave)"));
        };
        Ok(receiver.offer(&receives)?.map(|at| &self.requests[at]))
    }

    /// Makes received bytes visible to GPUs whose memory they are in; `None` when there is nothing to do.
    ///
    /// # Errors
    /// `InvalidArgument`; `Remote` when the peer is lost; `Internal` when there are more requests than NCCL may have.
    pub(crate) fn flush(&self, parts: &[Bytes<'_>]) -> Result<Option<&Marked<Request>>> {
        let mut spans = Vec::with_capacity(GROUP);
        for bytes in parts {
            let is_gpu = bytes.memory.is_some_and(|memory| memory.memory.space != Space::Host);
            if let (Some((span, _)), true) = (self.span(*bytes)?, is_gpu) {
                spans.push(Span { len: 1, ..span });
            }
        }
        let mut end = self.end();
        let End::Receiver(receiver) = &mut *end else {
            return Err(Error::invalid_argument("recvComm: it sends (allowed: what accept gave)"));
        };
        if spans.is_empty() {
            return Ok(None);
        }
        let full = || Error::internal(format!("more than {SLOTS} requests on a connection"));
        Ok(Some(&self.requests[receiver.flush(&spans)?.ok_or_else(full)?]))
    }
}

impl Request {
    /// What the request has moved, once it is done; it is no more then.
    ///
    /// # Errors
    /// As [`Sender::test`] and [`Receiver::test`]; `InvalidArgument` when its connection is closed.
    pub(crate) fn test(&self) -> Result<Option<Sizes>> {
        let closed = || Error::invalid_argument("request: its connection is closed");
        let comm = self.comm.upgrade().ok_or_else(closed)?;
        match &mut *comm.end() {
            End::Receiver(receiver) => receiver.test(self.index),
            End::Sender(sender) => {
                let len = sender.test(self.index)?;
                Ok(len.map(|len| Sizes {
                    count: 1,
                    of: std::array::from_fn(|at| if at == 0 { len } else { 0 }),
                }))
            }
        }
    }
}

impl End {
    fn link(&mut self) -> &mut Link {
        match self {
            Self::Sender(sender) => &mut sender.link,
            Self::Receiver(receiver) => &mut receiver.link,
        }
    }
}
