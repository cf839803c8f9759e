//! Messages between peers that see each other's stores: a short one lies in the line of its slot, with the flag; a middling
//! one in the slot; and a long one stays where the sender has it, if it may, and the receiver reads it there.

use dure_device::{Memory, Space, Work};
use dure_plan::Chunks;
use dure_transport::{Card, Peer, Span};

use crate::Error;
use crate::link::Target;
use crate::machine::{Held, Machine, Until};
use crate::run::{Begun, Buffer, Run, Then};
use crate::slot::{Header, InRegion, Kind, LINE, PAYLOAD, Place};
use crate::work::{Sink, part};

/// A message that stays on this side until it was read.
struct Kept {
    place: Place,
    /// It is in a buffer of the caller's, or in this staging buffer.
    memory: Option<Memory>,
    staging: Option<usize>,
}

impl Run {
    /// Sends to a coherent peer: in the line of the slot, in the slot, or by saying where the bytes are.
    #[allow(unsafe_code, reason = "writes into the peer's slot")]
    pub(crate) fn send_coherent(
        &mut self,
        machine: &mut Machine,
        to: u32,
        src: Chunks,
        (target, slot, bytes): (Target, Memory, u64),
    ) -> Result<Begun, Error> {
        if self.written.take_if(|written| *written == (self.pass, self.at)).is_some() {
            self.publish(machine, to, (slot, bytes), Kind::Output);
            return Ok(Begun::Done);
        }
        if let Some(Kept { place, memory, staging }) = self.keep(machine, to, src, bytes)?
            // SAFETY: the slot is free, and a window on it is alive as long as the link.
            && unsafe { place.write(slot) }
        {
            let number = self.publish(machine, to, (slot, bytes), place.kind());
            self.hold_kept(machine, to, number, (memory, staging));
            return Ok(Begun::Done);
        }
        if let Some(begun) = self.send_from_device(machine, to, src, (target, bytes))? {
            return Ok(begun);
        }
        let at = if bytes <= LINE as u64 { 0 } else { PAYLOAD };
        let ticket = self.copy_out(machine, src, slot.part(at, slot.len - at))?;
        Ok(Begun::Work(ticket, Then::Publish(to, target, bytes)))
    }

    /// Sends a message that may not stay where it is in the device's memory, by copying it to a staging buffer there; `None` when it
    /// is the host's, or the peer's devices do not reach this one.
    fn send_from_device(
        &self,
        machine: &mut Machine,
        to: u32,
        src: Chunks,
        (target, bytes): (Target, u64),
    ) -> Result<Option<Begun>, Error> {
        let space = machine.shared_space(self.call.queue);
        if space == Space::Host || bytes == 0 {
            return Ok(None);
        }
        let Some(index) = machine.stage_in(space)? else {
            return Ok(Some(Begun::Wait(machine.reader_of_staging())));
        };
        if machine.net.key(machine.staging(index).region, Peer(to)).is_none() {
            machine.unstage(index);
            return Ok(None);
        }
        let ticket = self.copy_out(machine, src, machine.staging(index).memory)?;
        Ok(Some(Begun::Work(ticket, Then::PublishStaged(to, target, bytes, index))))
    }

    /// Says to a peer that its message is in a staging buffer, which is free again when the peer has read it.
    #[allow(unsafe_code, reason = "writes into the peer's slot")]
    pub(crate) fn publish_staged(
        &self,
        machine: &mut Machine,
        to: u32,
        (target, bytes): (Target, u64),
        index: usize,
    ) {
        let card = machine.net.key(machine.staging(index).region, Peer(to));
        let card = card.expect("the peer could read it when it was staged");
        let place = Place::Region(InRegion { card, ..InRegion::default() });
        let slot = target.slot.expect("a device's message goes through a slot of a coherent peer");
        // SAFETY: the slot is free, and a window on it is alive as long as the link.
        let written = unsafe { place.write(slot) };
        assert!(written, "a card fits a slot");
        let number = self.publish(machine, to, (slot, bytes), place.kind());
        self.hold_kept(machine, to, number, (None, Some(index)));
        machine.unstage(index);
    }

    /// Sends to a peer that reads in place, though memory is not coherent, by saying where the bytes are; `None` when the message
    /// had better not stay on this side.
    pub(crate) fn send_in_place(
        &mut self,
        machine: &mut Machine,
        to: u32,
        src: Chunks,
        (target, bytes): (Target, u64),
    ) -> Result<Option<Begun>, Error> {
        let link = machine.link(to);
        if !(link.is_in_place() && link.is_lined()) || target.stamp.is_none() {
            return Ok(None);
        }
        let Some(Kept { place, memory, staging }) = self.keep(machine, to, src, bytes)? else {
            return Ok(None);
        };
        let token = machine.next_token();
        let room = machine.net.caps(Peer(to)).head.min(machine.settings.slot_bytes as usize);
        let (link, net) = machine.link_and_net(to);
        let bytes = u32::try_from(bytes).expect("a message fits a slot");
        let header = link.header(self.lane, self.call.digest, bytes, place.kind());
        let (line, payload) = place.message(header);
        if payload.len() > room {
            return Ok(None);
        }
        let message = (line, &payload[..], &[][..]);
        let Some((_, number)) = link.put_lined(net, (self.lane, token), target, message) else {
            return Ok(Some(Begun::Wait(Some(to))));
        };
        self.hold_kept(machine, to, number, (memory, staging));
        Ok(Some(Begun::Done))
    }

    /// Keeps what the receiver of the message in this slot reads, until the slot is given back.
    fn hold_kept(
        &self,
        machine: &mut Machine,
        to: u32,
        slot: u64,
        (memory, staging): (Option<Memory>, Option<usize>),
    ) {
        if let Some(index) = staging {
            machine.share_staging(index);
        }
        let until = Until::Freed { lane: self.lane, slot };
        let memory = memory.into_iter().collect();
        machine.hold(Held { until, to, run: self.id, memory, staging });
    }

    /// Where the receiver can read the message, if it is so long that it had better stay on this side.
    fn keep(
        &mut self,
        machine: &mut Machine,
        to: u32,
        src: Chunks,
        bytes: u64,
    ) -> Result<Option<Kept>, Error> {
        let [segment] = &machine.segments[..] else { return Ok(None) };
        let Buffer { memory: whole, cover } = self.buffer(machine, src.buf);
        let on_host = whole.space == Space::Host;
        // What a device has stays there, however short it is: on the way through the host it would be copied twice.
        if on_host && bytes < u64::from(machine.settings.reading_bytes) || bytes == 0 {
            return Ok(None);
        }
        let (start, memory) = (segment.start, part(whole, segment));
        let here = |place| Ok(Some(Kept { place, memory: Some(memory), staging: None }));
        let stays = self.steps().stays(self.at);
        let stays = if self.call.in_place { stays.in_place } else { stays.apart };
        if let Some(cover) = cover.filter(|_| stays)
            && let Some(card) = machine.net.key(cover.region, Peer(to))
        {
            let coherent = machine.link(to).is_coherent();
            let output = if coherent && on_host { self.writable(machine, to) } else { None };
            let output = output.unwrap_or_default();
            machine.net.expose(Span {
                region: cover.region,
                offset: cover.offset + start,
                len: bytes,
            });
            return here(Place::Region(InRegion { at: cover.offset + start, card, output }));
        }
        if !on_host {
            return Ok(None);
        }
        // Where all have cores of their own, coherent peers read the message from this process faster.
        let pays = machine.settings.shares_cores || !machine.link(to).is_coherent();
        if let Some(series) = self.steps().series(self.at).filter(|_| pays)
            && let Some((index, card)) = self.share(machine, to, src, series)?
        {
            let place = Place::Region(InRegion { card, ..InRegion::default() });
            return Ok(Some(Kept { place, memory: None, staging: Some(index) }));
        }
        if !(stays && machine.link(to).is_read()) {
            return Ok(None);
        }
        machine.lent.note(whole, memory);
        let at = memory.ptr.as_ptr().expose_provenance() as u64;
        here(Place::Address(at))
    }

    /// The staging buffer with what several peers are to read, and its card for this one: it is copied once by this side, and
    /// by each of them without the system's help, which costs as much again. `None` when no buffer is free that the peer can
    /// read.
    fn share(
        &mut self,
        machine: &mut Machine,
        to: u32,
        src: Chunks,
        series: u32,
    ) -> Result<Option<(usize, Card)>, Error> {
        let card =
            |machine: &Machine, index| machine.net.key(machine.staging(index).region, Peer(to));
        if let Some((pass, its, index)) = self.shared
            && (pass, its) == (self.pass, series)
        {
            return Ok(card(machine, index).map(|card| (index, card)));
        }
        self.unshare(machine);
        if self.call.queue != machine.host {
            return Ok(None);
        }
        let Some(index) = machine.stage_for_readers()? else { return Ok(None) };
        let Some(card) = card(machine, index) else {
            machine.unstage(index);
            return Ok(None);
        };
        // The host has done it when it returns.
        self.copy_out(machine, src, machine.staging(index).memory)?;
        let bytes = machine.segments.iter().map(|segment| segment.end - segment.start).sum();
        let staged = machine.staged(index, bytes);
        machine.net.expose(staged);
        self.shared = Some((self.pass, series, index));
        Ok(Some((index, card)))
    }

    /// No other peer is to read the staging buffer that several do.
    pub(crate) fn unshare(&mut self, machine: &mut Machine) {
        if let Some((.., index)) = self.shared.take() {
            machine.unstage(index);
        }
    }

    /// Where a coherent peer can write this call's output; blocks must lie alike on all ranks.
    fn writable(&self, machine: &Machine, to: u32) -> Option<(u64, Card)> {
        let output = self.call.output;
        let cover = output.cover.filter(|_| !self.geometry().layouts().ragged)?;
        if output.memory.space != Space::Host {
            return None;
        }
        Some((cover.offset, machine.net.key(cover.region, Peer(to))?))
    }

    /// Where in the output of the peer, whose message is taken now, the sum may be written at the same time, because the
    /// next step sends it there.
    fn answer(&mut self, from: u32, sink: Sink) -> Option<Memory> {
        let chunk = self.steps().answers(self.at + 1).filter(|_| sink.with.is_some())?;
        let (_, output) = *self.outputs.iter().find(|(peer, _)| *peer == from)?;
        let bytes = self.geometry().in_whole(chunk, self.pass);
        let fits = bytes.end <= output.len as u64;
        self.written = fits.then_some((self.pass, self.at + 1));
        fits.then(|| part(output, &bytes))
    }

    /// Publishes a message of this call to a coherent peer, whose bytes are where `kind` says.
    pub(crate) fn publish(
        &self,
        machine: &mut Machine,
        to: u32,
        (slot, bytes): (Memory, u64),
        kind: Kind,
    ) -> u64 {
        machine.publish(to, self.lane, (slot, bytes, self.call.digest, kind))
    }

    /// Takes the bytes of a message from where they are.
    pub(crate) fn receive(
        &mut self,
        machine: &mut Machine,
        from: u32,
        (slot, header): (Memory, Header),
        sink: Sink,
    ) -> Result<Begun, Error> {
        let len = header.bytes as usize;
        if matches!(header.kind, Kind::Region | Kind::Address) && !machine.link(from).ready()? {
            // The peer was told first that the connection is up.
            return Ok(Begun::Wait(Some(from)));
        }
        let (payload, kept) = match header.kind {
            Kind::Slot => (slot.part(PAYLOAD, len), false),
            Kind::Line if len <= LINE => (slot.part(0, len), false),
            Kind::Line => return Err(Error::Mismatch { peer: from }),
            Kind::Region => (self.source(machine, from, slot, len)?, true),
            Kind::Output => return Ok(Begun::Work(0, Then::Take { from, kept: false })),
            Kind::Address => return self.read(machine, from, (slot, len), sink),
        };
        if payload.space != Space::Host && payload.space != machine.queues[self.call.queue].0 {
            return self.unload(machine, from, payload, sink);
        }
        let also = if kept { self.answer(from, sink) } else { None };
        let ticket = self.consume(machine, payload, Sink { also, ..sink })?;
        Ok(Begun::Work(ticket, Then::Take { from, kept }))
    }

    /// Copies a message from a device that is not this call's to a staging buffer, from where this call's goes on.
    #[allow(unsafe_code, reason = "a device is given work")]
    fn unload(
        &self,
        machine: &mut Machine,
        from: u32,
        payload: Memory,
        sink: Sink,
    ) -> Result<Begun, Error> {
        let Some(staging) = machine.stage()? else {
            return Ok(Begun::Wait(machine.reader_of_staging()));
        };
        let bytes = payload.len;
        let queue = machine.queue_of(payload.space);
        let work = Work::copy(payload, machine.staging(staging).memory.part(0, bytes));
        // SAFETY: the peer keeps the message, and the staging buffer is this message's until it is given back.
        let ticket = unsafe { machine.submit(queue, &work) }?;
        Ok(Begun::WorkOn(queue, ticket, Then::Unload { from, staging, bytes, sink }))
    }

    /// The bytes of a message in a region of the peer's. Remembers where the peer's output is, if it says so.
    fn source(
        &mut self,
        machine: &mut Machine,
        from: u32,
        slot: Memory,
        len: usize,
    ) -> Result<Memory, Error> {
        let place = Machine::in_region(slot).ok_or(Error::Mismatch { peer: from })?;
        let outside = || Error::Transport {
            peer: from,
            source: dure_transport::Error::Protocol { what: "a message outside of its region" },
        };
        let (link, net) = machine.link_and_net(from);
        let (at, card) = place.output;
        let knows = self.outputs.iter().any(|(peer, _)| *peer == from);
        if link.is_coherent() && !card.0.is_empty() && !knows {
            let region = link.source(net, card)?;
            let window = net.window(region).ok_or_else(outside)?;
            let at = usize::try_from(at).ok().filter(|at| *at <= window.len);
            let at = at.ok_or_else(outside)?;
            self.outputs.push((from, window.part(at, window.len - at)));
        }
        let region = link.source(net, place.card)?;
        net.fetch(region, place.at, len as u64).ok_or_else(outside)
    }

    /// Reads a message from the memory of the peer's process: to where it belongs, or, when it is to be reduced or is
    /// for another device, to a staging buffer.
    #[allow(unsafe_code, reason = "memory of this call is written")]
    fn read(
        &self,
        machine: &mut Machine,
        from: u32,
        (slot, len): (Memory, usize),
        sink: Sink,
    ) -> Result<Begun, Error> {
        let failed = |source| Error::Transport { peer: from, source };
        let address = Machine::word(slot);
        let out = self.buffer(machine, sink.dst.buf).memory;
        let is_host = self.call.queue == machine.host;
        if sink.with.is_none() && is_host {
            let mut at = address;
            // Those of the destination: nothing else was looked at since.
            for segment in &machine.segments {
                // SAFETY: whoever submitted the call promised that its buffers are this lane's until it is done.
                unsafe { machine.net.read(Peer(from), at, part(out, segment)) }.map_err(failed)?;
                at += segment.end - segment.start;
            }
            return Ok(Begun::Work(0, Then::Take { from, kept: true }));
        }
        let Some(staging) = machine.stage()? else {
            return Ok(Begun::Wait(machine.reader_of_staging()));
        };
        let memory = machine.staging(staging).memory;
        // The host is done with each tile at once, so that the next may take its place.
        let tile = if is_host && sink.dst.len == 1 { TILE } else { len };
        let mut ticket = 0;
        for at in (0..len).step_by(tile) {
            let memory = memory.part(0, tile.min(len - at));
            // SAFETY: the staging buffer is this message's until it is given back.
            unsafe { machine.net.read(Peer(from), address + at as u64, memory) }.map_err(failed)?;
            ticket = self.consume(machine, memory, Sink { skip: at, ..sink })?;
        }
        Ok(Begun::Work(ticket, Then::TakeStaged(from, staging)))
    }
}

/// Bytes that are read from a peer's process and reduced in one go: they stay in the nearest caches, and are enough to
/// make up for what asking the system costs. A multiple of the size of every element.
const TILE: usize = 256 << 10;
