//! What each kind of step does: where its bytes are, and what is asked of the device and the transport.

use std::ops::Range;

use dure_device::{Memory, Stores, Work};
use dure_plan::{Buf, Chunks, Sources};
use dure_transport::{Peer, Posted, Put, Span, Token};

use crate::Error;
use crate::link::Target;
use crate::machine::{Cover, Held, Machine, Until};
use crate::run::{Begun, Buffer, Permit, Run, Then};
use crate::slot::Kind;

/// Outputs of this many bytes are not worth the place in a cache.
const STREAMED: usize = 8 << 20;

/// What becomes of the bytes of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sink {
    /// What they are combined with, if they are.
    pub(crate) with: Option<Chunks>,
    /// Where they, or what they were combined to, are written.
    pub(crate) dst: Chunks,
    /// Bytes of the (single) chunk that were consumed before.
    pub(crate) skip: usize,
    /// Where the sum is written as well, if it is of a single chunk.
    pub(crate) also: Option<Memory>,
}

impl Run {
    pub(crate) fn begin_send(
        &mut self,
        machine: &mut Machine,
        to: u32,
        src: Chunks,
    ) -> Result<Begun, Error> {
        let bytes = self.segments(machine, src);
        if bytes == 0 && src.len > 0 {
            return Ok(Begun::Done);
        }
        if !machine.link(to).ready()? {
            return Ok(Begun::Wait(Some(to)));
        }
        let Some(target) = self.target(machine, to, src, bytes)? else {
            return Ok(Begun::Wait(Some(to)));
        };
        if let Some(slot) = target.slot {
            return self.send_coherent(machine, to, src, (target, slot, bytes));
        }
        if let Some(begun) = self.send_in_place(machine, to, src, (target, bytes))? {
            return Ok(begun);
        }
        if let Some(window) = target.window {
            let ticket = self.copy_out(machine, src, window)?;
            return Ok(Begun::Work(ticket, Then::Publish(to, target, bytes)));
        }
        if let Some(spans) = self.spans(machine, to, src) {
            return Ok(match self.post(machine, (to, target, bytes), &spans) {
                None => Begun::Wait(Some(to)),
                Some((Posted::Done, _)) => Begun::Done,
                Some((Posted::Pending, token)) => {
                    let memory = self.buffer(machine, src.buf).memory;
                    let memory = machine.segments.iter().map(|s| part(memory, s)).collect();
                    let until = Until::Sent(token);
                    machine.hold(Held { until, to, run: self.id, memory, staging: None });
                    Begun::Done
                }
            });
        }
        let Some(staging) = machine.stage()? else {
            return Ok(Begun::Wait(machine.reader_of_staging()));
        };
        let memory = machine.staging(staging).memory;
        let ticket = self.copy_out(machine, src, memory)?;
        Ok(Begun::Work(ticket, Then::PostStaged(to, target, bytes, staging)))
    }

    /// Where a message goes; `None` when it has to wait for a slot or for the peer's grant.
    fn target(
        &mut self,
        machine: &mut Machine,
        to: u32,
        src: Chunks,
        bytes: u64,
    ) -> Result<Option<Target>, Error> {
        match self.permit(machine, to)? {
            Permit::Awaited => Ok(None),
            Permit::Slots => {
                let (link, net) = machine.link_and_net(to);
                Ok(link.slot(net, self.lane))
            }
            Permit::Land { remote, window, base } => {
                let chunk = self.steps().lands(self.at).expect("all messages of the edge land");
                // Where ragged blocks begin is each rank's own affair: then the grant told, and the place in the block is
                // the same at both ends.
                let at = base
                    + if self.geometry().layouts().ragged {
                        self.geometry().within_block(src.buf, src.first, self.pass).start
                    } else {
                        self.geometry().in_whole(chunk, self.pass).start
                    };
                let window = window.map(|w| part(w, &(at..at + bytes)));
                Ok(Some(Target { into: remote, at, window, stamp: None, slot: None }))
            }
        }
    }

    /// How messages to a peer go in this call.
    fn permit(&mut self, machine: &mut Machine, to: u32) -> Result<Permit, Error> {
        let Some(entry) = self.permits.iter_mut().find(|(peer, _)| *peer == to) else {
            return Ok(Permit::Slots);
        };
        if !matches!(entry.1, Permit::Awaited) {
            return Ok(entry.1);
        }
        let (link, net) = machine.link_and_net(to);
        let Some(grant) = link.take_grant(net, self.lane)? else { return Ok(Permit::Awaited) };
        if grant.digest != self.call.digest {
            return Err(Error::Mismatch { peer: to });
        }
        entry.1 = match grant.base {
            None => Permit::Slots,
            Some((base, card)) => {
                let remote = net
                    .import(Peer(to), &card)
                    .map_err(|source| Error::Transport { peer: to, source })?;
                Permit::Land { remote, window: net.window(remote), base }
            }
        };
        Ok(entry.1)
    }

    /// Posts a message of `bytes` bytes; `None` when the transport is full.
    pub(crate) fn post(
        &self,
        machine: &mut Machine,
        (to, target, bytes): (u32, Target, u64),
        body: &[Span],
    ) -> Option<(Posted, Token)> {
        let token = machine.next_token();
        let (link, net) = machine.link_and_net(to);
        let bytes = u32::try_from(bytes).expect("a message fits a slot");
        let (digest, flow) = (self.call.digest, link.flow(self.lane));
        let through_slot = target.stamp.is_some();
        if through_slot && link.is_lined() {
            let header = link.header(self.lane, digest, bytes, Kind::Slot);
            let message = (header.line(&[]), &[][..], body);
            let (posted, _) = link.put_lined(net, (self.lane, token), target, message)?;
            return Some((posted, token));
        }
        let header =
            through_slot.then(|| link.header(self.lane, digest, bytes, Kind::Slot).encode());
        let head: &[u8] = header.as_ref().map_or(&[], |h| h);
        let put = Put {
            to: Peer(to),
            flow,
            head,
            body,
            into: Some(target.into),
            at: target.at - head.len() as u64,
            signal: link.data_signal(self.lane),
            token,
        };
        let posted = net.put(&put).ok()?;
        link.sent(self.lane, through_slot);
        Some((posted, token))
    }

    /// The segments of the current message as spans, when the transport can send from where they are.
    fn spans(&self, machine: &Machine, to: u32, src: Chunks) -> Option<Vec<Span>> {
        if machine.segments.is_empty() {
            return Some(Vec::new());
        }
        let cover = self.buffer(machine, src.buf).cover?;
        (machine.segments.len() <= machine.net.caps(Peer(to)).gather).then(|| {
            let span = |s: &Range<u64>| Span {
                region: cover.region,
                offset: cover.offset + s.start,
                len: s.end - s.start,
            };
            machine.segments.iter().map(span).collect()
        })
    }

    #[inline]
    pub(crate) fn buffer(&self, machine: &Machine, buf: Buf) -> Buffer {
        match buf {
            Buf::Input => self.call.input,
            Buf::Output => self.call.output,
            Buf::Scratch => machine.scratch(self.call.queue, self.lane).map_or(
                Buffer { memory: Memory::EMPTY, cover: None },
                |s| Buffer { memory: s.memory, cover: Some(Cover { region: s.region, offset: 0 }) },
            ),
        }
    }

    /// Copies the segments of the current message one behind the other to `dst`.
    pub(crate) fn copy_out(
        &self,
        machine: &mut Machine,
        src: Chunks,
        dst: Memory,
    ) -> Result<u64, Error> {
        let memory = self.buffer(machine, src.buf).memory;
        let segments = std::mem::take(&mut machine.segments);
        let (mut ticket, mut at) = (0, 0);
        for segment in &segments {
            let src = part(memory, segment);
            ticket = self.submit(machine, &Work::copy(src, dst.part(at, src.len)))?;
            at += src.len;
        }
        machine.segments = segments;
        Ok(ticket)
    }

    pub(crate) fn begin_recv(
        &mut self,
        machine: &mut Machine,
        from: u32,
        with: Option<Chunks>,
        dst: Chunks,
    ) -> Result<Begun, Error> {
        let bytes = self.segments(machine, dst);
        if bytes == 0 && dst.len > 0 {
            return Ok(Begun::Done);
        }
        let (link, net) = machine.link_and_net(from);
        if !link.arrived(net, self.lane) {
            // Only now: what has arrived from a peer that is gone is as good as ever.
            link.ready()?;
            return Ok(Begun::Wait(Some(from)));
        }
        if self.landing.contains(&from) {
            if let Some(cover) = self.call.output.cover {
                for s in &machine.segments {
                    let span = Span {
                        region: cover.region,
                        offset: cover.offset + s.start,
                        len: s.end - s.start,
                    };
                    machine.net.acquire(span);
                }
            }
            machine.take(from, self.lane, false, false);
            return Ok(Begun::Done);
        }
        let slot = link.next_slot(net, self.lane);
        let header = Machine::header(slot).ok_or(Error::Mismatch { peer: from })?;
        if header.digest != self.call.digest || header.stamp != link.next_stamp(self.lane) {
            return Err(Error::Mismatch { peer: from });
        }
        if u64::from(header.bytes) != bytes {
            return Err(Error::Length { peer: from, got: header.bytes.into(), want: bytes });
        }
        let payload = match header.kind {
            Kind::Region => Machine::word(slot),
            Kind::Line => 0,
            Kind::Slot | Kind::Address | Kind::Output => bytes,
        };
        link.acquire_payload(net, self.lane, usize::try_from(payload).unwrap_or(usize::MAX));
        link.hear_of_freed(self.lane, header.freed);
        if let Some(reader) = self.reader(machine, dst) {
            return Ok(Begun::Wait(Some(reader)));
        }
        self.receive(machine, from, (slot, header), Sink { with, dst, skip: 0, also: None })
    }

    /// Copies or reduces the bytes of a message into their destination.
    pub(crate) fn consume(
        &self,
        machine: &mut Machine,
        message: Memory,
        Sink { with, dst, skip, also }: Sink,
    ) -> Result<u64, Error> {
        let out = self.buffer(machine, dst.buf).memory;
        let (mut ticket, mut at) = (0, 0);
        let rest = |chunks: Chunks, k: u32, at: usize| {
            let bytes = self.geometry().chunk(chunks.buf, chunks.first + k, self.pass);
            let start = bytes.start + skip as u64;
            start..bytes.end.min(start + (message.len - at) as u64)
        };
        for k in 0..dst.len {
            let dst = part(out, &rest(dst, k, at));
            if dst.len == 0 {
                continue;
            }
            let payload = message.part(at, dst.len);
            ticket = match with {
                None => {
                    let stores = self.stores();
                    self.submit(machine, &Work::Copy { src: payload, dst, also: None, stores })?
                }
                Some(with) => {
                    let operand = part(self.buffer(machine, with.buf).memory, &rest(with, k, at));
                    let (dtype, by) = (self.call.prepared.dtype, &self.call.prepared.combine);
                    let stores = if also.is_some() { self.stores() } else { Stores::Cached };
                    let srcs = &[operand, payload];
                    self.submit(machine, &Work::Reduce { srcs, dst, also, dtype, by, stores })?
                }
            };
            at += dst.len;
        }
        Ok(ticket)
    }

    /// Whether this rank sends from its output what it has not written to the receiver's output as well.
    fn forwards(&self) -> bool {
        self.steps().forwards && self.outputs.is_empty()
    }

    /// How copies to the output are stored: past the cache where they would only push out other things, because the
    /// output is long and this rank does not send it on.
    fn stores(&self) -> Stores {
        if self.call.output.memory.len >= STREAMED && !self.forwards() {
            Stores::Streaming
        } else {
            Stores::Cached
        }
    }

    /// A peer for whom any of these chunks is still read: they may not be overwritten yet.
    pub(crate) fn reader(&self, machine: &mut Machine, chunks: Chunks) -> Option<u32> {
        if !machine.holds_any() {
            return None;
        }
        let memory = self.buffer(machine, chunks.buf).memory;
        self.segments(machine, chunks);
        machine.segments.iter().find_map(|s| machine.reader(part(memory, s)))
    }

    pub(crate) fn begin_copy(
        &self,
        machine: &mut Machine,
        src: Chunks,
        dst: Chunks,
    ) -> Result<Begun, Error> {
        let from = self.buffer(machine, src.buf).memory;
        let into = self.buffer(machine, dst.buf).memory;
        let place = |whole: Memory, chunks: Chunks, k: u32| {
            part(whole, &self.geometry().chunk(chunks.buf, chunks.first + k, self.pass))
        };
        // A copy to itself waits for nobody: it may be what keeps a peer from reading it.
        if (0..dst.len).all(|k| place(from, src, k) == place(into, dst, k)) {
            return Ok(Begun::Done);
        }
        if let Some(reader) = self.reader(machine, dst) {
            return Ok(Begun::Wait(Some(reader)));
        }
        let mut ticket = 0;
        for k in 0..dst.len {
            let (src, dst) = (place(from, src, k), place(into, dst, k));
            if dst.len > 0 && src != dst {
                let stores = self.stores();
                ticket = self.submit(machine, &Work::Copy { src, dst, also: None, stores })?;
            }
        }
        Ok(Begun::Work(ticket, Then::Next))
    }

    pub(crate) fn begin_reduce(
        &self,
        machine: &mut Machine,
        srcs: Sources,
        dst: Chunks,
    ) -> Result<Begun, Error> {
        if let Some(reader) = self.reader(machine, dst) {
            return Ok(Begun::Wait(Some(reader)));
        }
        let into = self.buffer(machine, dst.buf).memory;
        let own = self.buffer(machine, srcs.own.buf).memory;
        let scratch = self.buffer(machine, Buf::Scratch).memory;
        let mut operands = std::mem::take(&mut machine.operands);
        let mut ticket = 0;
        for k in 0..dst.len {
            let dst = part(into, &self.geometry().chunk(dst.buf, dst.first + k, self.pass));
            if dst.len == 0 {
                continue;
            }
            operands.clear();
            operands.extend((0..srcs.groups).map(|group| {
                if group == srcs.at {
                    part(own, &self.geometry().chunk(srcs.own.buf, srcs.own.first + k, self.pass))
                } else {
                    let chunk = srcs.first + group * srcs.own.len + k;
                    part(scratch, &self.geometry().chunk(Buf::Scratch, chunk, self.pass))
                }
            }));
            let (dtype, by) = (self.call.prepared.dtype, &self.call.prepared.combine);
            ticket = self.submit(machine, &Work::reduce(&operands, dst, dtype, by))?;
        }
        machine.operands = operands;
        Ok(Begun::Work(ticket, Then::Next))
    }

    #[allow(unsafe_code, reason = "the one place where a run gives work to a device")]
    #[inline]
    pub(crate) fn submit(&self, machine: &mut Machine, work: &Work<'_>) -> Result<u64, Error> {
        // SAFETY: whoever submitted the call promised that its buffers stay valid and untouched until it is done; slots
        // and scratch are this lane's alone between arrival and credit, and a lane does one step at a time.
        unsafe { machine.submit(self.call.queue, work) }
    }
}

/// The bytes of a range of some memory.
pub(crate) fn part(memory: Memory, range: &Range<u64>) -> Memory {
    let offset = usize::try_from(range.start).expect("a buffer fits the address space");
    memory.part(
        offset,
        usize::try_from(range.end - range.start).expect("a buffer fits the address space"),
    )
}
