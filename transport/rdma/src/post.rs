//! Puts become work requests.
//!
//! A short message of host memory goes with the request itself (inline). One that is longer, and whose memory is not
//! registered, is copied to the bounce buffer as long as that takes less time. Any other is read by the device where it is: a gather list of the
//! head, which is copied, and of the body's spans.

use std::time::Instant;

use dure_device::{Memory, Space};
use dure_transport::{Full, Peer, Posted, Put};
use rdma_sys::{
    ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wr_opcode, imm_data_invalidated_rkey_union_t, rdma_t,
    wr_t,
};

use crate::flow::Flight;
use crate::in_use::InUse;
use crate::join::{Link, Stage};
use crate::memory;
use crate::nic::{BOUNCE, LONG_BOUNCE};
use crate::queue::Pending;
use crate::region::index;
use crate::stripe::{Immediate, PART, Part, SIGNALS, STRIPED_BYTES, cut};
use crate::transport::Rdma;

/// A put, as it is sent.
#[derive(Clone, Copy, Debug)]
struct Message {
    /// Bytes in all.
    len: u64,
    /// Where the first one goes, in the peer's memory.
    address: u64,
    signal: Option<u32>,
    in_use: InUse,
    /// Place of the flow's first queue pair.
    first: usize,
    /// Turn of the home among the rails in use.
    home: usize,
}

type Result<T> = std::result::Result<T, Full>;

impl Rdma {
    /// Takes a put of the user.
    pub(crate) fn post(&mut self, put: &Put<'_>) -> Result<Posted> {
        match self.links.get(index(put.to.0)) {
            Some(Link::There(pair)) if pair.stage == Stage::Up => {
                if pair.is_held() {
                    return Err(Full);
                }
            }
            Some(Link::Lost) => return Ok(Posted::Done),
            _ => panic!("a put to peer {}, which is not up", put.to.0),
        }
        self.send(put)
    }

    /// Sends a put over what there is.
    pub(crate) fn send(&mut self, put: &Put<'_>) -> Result<Posted> {
        let Some(message) = self.message(put) else { return Ok(Posted::Done) };
        if message.in_use.count() == 0 {
            return self.send_aside(put);
        }
        let at = message.queue(message.home);
        if !message.is_striped() {
            let queue = &self.queues[at];
            if !queue.has_room(1) || !self.nics[queue.nic].has_room(1) {
                return Err(Full);
            }
            if message.len <= queue.inline as u64 && self.is_host(put) {
                return self.post_inline(put, message, at);
            }
            if message.len <= self.nics[queue.nic].most {
                return self.post_one(put, message, at);
            }
        }
        self.post_parts(put, message)
    }

    /// What is to be sent, and where; `None` when the put is to be dropped, or is nothing.
    fn message(&self, put: &Put<'_>) -> Option<Message> {
        let pair = self.pair(put.to)?;
        assert!(put.flow.0 < self.flows, "a put takes a flow that there is");
        let len = put.body.iter().map(|span| span.len).sum::<u64>() + put.head.len() as u64;
        let signal = put.signal.map(|signal| signal.0);
        if len == 0 && signal.is_none() {
            return None;
        }
        let mut address = 0;
        if len > 0 {
            let into = put.into.expect("a put with bytes goes into a region that is imported");
            let remote = self.remotes.get(into);
            assert_eq!(remote.of, put.to, "a put goes into a region of the peer that it goes to");
            let fits = put.at.checked_add(len).is_some_and(|end| end <= remote.key.len);
            if !fits {
                return dropped(put, "it ends outside of its region");
            }
            address = remote.key.address + put.at;
        }
        if signal.is_some_and(|signal| signal >= SIGNALS) {
            return dropped(put, "no counter has that number");
        }
        let (in_use, first) = (pair.in_use, pair.queue(put.flow.0, 0));
        Some(Message { len, address, signal, in_use, first, home: in_use.home(put.flow.0) })
    }

    /// Whether the CPU may read all of a put's body.
    #[inline]
    fn is_host(&self, put: &Put<'_>) -> bool {
        let regions = self.regions.borrow();
        put.body.iter().all(|span| regions.own(span.region.0).memory.space == Space::Host)
    }

    /// The key of the peer's memory on a rail.
    #[inline]
    fn rkey(&self, put: &Put<'_>, rail: usize) -> u32 {
        let (Some(into), Some(pair)) = (put.into, self.pair(put.to)) else { return 0 };
        self.remotes.get(into).key.rkeys[pair.rails[rail].there]
    }

    /// Sends a short message with the request itself.
    fn post_inline(&mut self, put: &Put<'_>, message: Message, at: usize) -> Result<Posted> {
        let place = self.begin_flight(put, 1);
        let flight = &mut self.flights[place];
        flight.copied.extend_from_slice(put.head);
        let regions = self.regions.get_mut();
        for span in put.body.iter().filter(|span| span.len > 0) {
            let part = part_of(regions.own(span.region.0).memory, span.offset, span.len);
            // SAFETY: whoever put it promised that the source does not change, and it is host memory.
            flight.copied.extend(unsafe { memory::read(part) });
        }
        self.entries.clear();
        if message.len > 0 {
            self.entries.push(entry(flight.copied.as_ptr().addr() as u64, message.len, 0));
        }
        let rkey = if message.len > 0 { self.rkey(put, self.queues[at].rail) } else { 0 };
        let immediate = message.immediate(false);
        let flags = ibv_send_flags::IBV_SEND_INLINE.0;
        let request = request(&mut self.entries, (message.address, rkey), immediate, flags);
        self.requests.clear();
        self.requests.push(request);
        self.keep(put, place, immediate.is_some());
        self.submit(at, (place, message.len), None, false);
        Ok(Posted::Done)
    }

    /// Sends a message as one request that the device reads from memory.
    fn post_one(&mut self, put: &Put<'_>, message: Message, at: usize) -> Result<Posted> {
        let nic = self.queues[at].nic;
        let copies = self.copies(put, message.len) && self.nics[nic].bounce.has(message.len);
        let head = put.head.len() as u64;
        if !copies && head > 0 && !self.nics[nic].bounce.has(head) {
            return self.refuse_head(put, nic, head);
        }
        if !copies && !self.register_all(put) {
            return Ok(Posted::Done);
        }
        let place = self.begin_flight(put, 1);
        self.entries.clear();
        if copies || !put.head.is_empty() {
            self.fill(place, nic, put, copies);
            let bounce = &self.nics[nic].bounce;
            let (_, slot, len) = self.flights[place].bounce.expect("it was filled");
            let from = bounce.memory(slot).address() as u64;
            self.entries.push(entry(from, len as u64, bounce.lkey(slot)));
        }
        if !copies {
            self.gather(put, nic, (put.head.len() as u64, message.len));
            self.hold_body(place, put);
        }
        let rkey = self.rkey(put, self.queues[at].rail);
        let immediate = message.immediate(false);
        let request = request(&mut self.entries, (message.address, rkey), immediate, 0);
        self.requests.clear();
        self.requests.push(request);
        let is_pending = self.flights[place].token.is_some();
        self.keep(put, place, immediate.is_some());
        self.submit(at, (place, message.len), None, true);
        Ok(if is_pending { Posted::Pending } else { Posted::Done })
    }

    /// There is no slot for a head. A long one, which is what was copied and is sent again, may never get one.
    #[cold]
    fn refuse_head(&mut self, put: &Put<'_>, nic: usize, len: u64) -> Result<Posted> {
        if !self.nics[nic].bounce.refuses(len) {
            return Err(Full);
        }
        let what = "memory to send from".to_owned();
        let error = dure_transport::Error::Exhausted { transport: crate::NAME, what };
        self.give_up_outside(put.to, error);
        Ok(Posted::Done)
    }

    /// Sends a long message in parts: over all rails, or because one request does not hold it.
    fn post_parts(&mut self, put: &Put<'_>, message: Message) -> Result<Posted> {
        let most = self.nics.iter().map(|nic| nic.most).min().unwrap_or(1 << 30);
        let parts = cut(message.len, message.in_use.bandwidths(), message.home, most);
        let requests = |turn: usize| parts.iter().filter(|part| part.rail == turn).count();
        for turn in 0..message.in_use.count() {
            let queue = &self.queues[message.queue(turn)];
            let count = u32::try_from(requests(turn)).unwrap_or(u32::MAX);
            if !queue.has_room(count) || !self.nics[queue.nic].has_room(1) {
                return Err(Full);
            }
        }
        let home = self.queues[message.queue(message.home)].nic;
        if !put.head.is_empty() && self.nics[home].bounce.is_empty() {
            return Err(Full);
        }
        if !self.register_all(put) {
            return Ok(Posted::Done);
        }
        let place = self.begin_flight(put, parts.iter().filter(|part| part.last).count());
        if !put.head.is_empty() {
            self.fill(place, home, put, false);
        }
        self.hold_body(place, put);
        self.keep(put, place, message.immediate(message.is_striped()).is_some());
        for turn in 0..message.in_use.count() {
            // A request that is refused may end the connection, which frees the flight.
            if requests(turn) > 0 && self.pair(put.to).is_some() {
                self.post_rail(put, message, (&parts, turn), place);
            }
        }
        Ok(Posted::Pending)
    }

    /// Sends the parts of a message that go over one rail, as one chain.
    fn post_rail(
        &mut self,
        put: &Put<'_>,
        message: Message,
        (parts, turn): (&[Part], usize),
        place: usize,
    ) {
        let at = message.queue(turn);
        let nic = self.queues[at].nic;
        let rkey = self.rkey(put, self.queues[at].rail);
        self.entries.clear();
        let mut ranges = Vec::new();
        let mine = || parts.iter().filter(|part| part.rail == turn);
        for part in mine() {
            let start = self.entries.len();
            let end = part.from + part.len;
            let head = put.head.len() as u64;
            if part.from < head {
                let (_, slot, _) = self.flights[place].bounce.expect("there is a head");
                let bounce = &self.nics[nic].bounce;
                let from = bounce.memory(slot).address() as u64 + part.from;
                self.entries.push(entry(from, head.min(end) - part.from, bounce.lkey(slot)));
            }
            self.gather(put, nic, (part.from.max(head), end));
            ranges.push(start..self.entries.len());
        }
        self.requests.clear();
        for (part, range) in mine().zip(ranges) {
            let immediate = match (part.last, turn == message.home) {
                (false, _) => None,
                (true, true) => message.immediate(message.is_striped()),
                (true, false) => Some(PART),
            };
            let into = (message.address + part.from, rkey);
            let request = request(&mut self.entries[range], into, immediate, 0);
            self.requests.push(request);
        }
        let part = mine().map(|part| part.len).sum();
        let timed = message.is_striped().then(|| (part, Instant::now()));
        self.submit(at, (place, message.len), timed, true);
    }

    /// Appends the spans of the bytes `from..to` of a message to the gather list. `from` is not before the end of the
    /// head.
    fn gather(&mut self, put: &Put<'_>, nic: usize, (from, to): (u64, u64)) {
        let regions = self.regions.get_mut();
        let mut start = put.head.len() as u64;
        for span in put.body {
            let end = start + span.len;
            let (a, b) = (from.max(start), to.min(end));
            if a < b {
                let number = span.region.0;
                let part = part_of(regions.own(number).memory, span.offset + (a - start), b - a);
                let lkey = regions.lkey(number, nic);
                self.entries.push(entry(part.address() as u64, b - a, lkey));
            }
            start = end;
        }
    }

    /// Copies the head, or the whole message, to a slot of the bounce buffer, of which there is one.
    fn fill(&mut self, place: usize, nic: usize, put: &Put<'_>, whole: bool) {
        let bounce = &mut self.nics[nic].bounce;
        let len = if whole { put.body.iter().map(|span| span.len).sum() } else { 0 };
        let slot = bounce.take(len + put.head.len() as u64);
        let slot = slot.expect("it was asked whether there is one");
        let memory = bounce.memory(slot);
        // SAFETY: the slot was taken, so nobody else uses it.
        unsafe { memory::write(memory, put.head) };
        let mut at = put.head.len();
        let regions = self.regions.get_mut();
        for span in put.body.iter().filter(|_| whole) {
            let part = part_of(regions.own(span.region.0).memory, span.offset, span.len);
            // SAFETY: whoever put it promised that the source does not change, and `whole` is asked of host memory only.
            unsafe { memory::copy(part, memory.part(at, part.len)) };
            at += part.len;
        }
        self.flights[place].bounce = Some((nic, slot, at));
    }

    /// Whether a put of so many bytes is copied to the bounce buffer rather than read where it is. Registrations that are
    /// kept are worth more than a long copy.
    fn copies(&self, put: &Put<'_>, len: u64) -> bool {
        let regions = self.regions.borrow();
        let most = if regions.keeps() { BOUNCE } else { LONG_BOUNCE };
        let is_registered = || put.body.iter().all(|span| regions.is_registered(span.region.0));
        len <= most as u64 && self.is_host(put) && !is_registered()
    }

    /// Registers all that a put reads. When that cannot be done, the put cannot be sent, and its peer is given up.
    fn register_all(&mut self, put: &Put<'_>) -> bool {
        for span in put.body.iter().filter(|span| span.len > 0) {
            if let Err(error) = self.regions.get_mut().registered(span.region.0) {
                self.give_up_outside(put.to, error.into());
                return false;
            }
        }
        true
    }

    /// A flight for a put, which is not on its way yet.
    fn begin_flight(&mut self, put: &Put<'_>, parts: usize) -> usize {
        let place = self.free_flights.pop().unwrap_or_else(|| {
            self.flights.push(Flight::default());
            self.flights.len() - 1
        });
        self.flights[place].begin(put, parts);
        place
    }

    /// The source of a put stays until it has arrived, and its poster waits for that.
    fn hold_body(&mut self, place: usize, put: &Put<'_>) {
        let flight = &mut self.flights[place];
        flight.spans.extend(put.body.iter().filter(|span| span.len > 0));
        let regions = self.regions.get_mut();
        flight.spans.iter().for_each(|span| regions.count_reader(span.region.0, true));
        flight.token = (!flight.spans.is_empty()).then_some(put.token);
    }

    /// Keeps a flight until it has arrived; `counts` when it has an immediate.
    #[inline]
    fn keep(&mut self, put: &Put<'_>, place: usize, counts: bool) {
        let flight = &mut self.flights[place];
        if let Some(into) = flight.into {
            self.remotes.hold(into);
        }
        let Some(Link::There(pair)) = self.links.get_mut(index(put.to.0)) else { return };
        pair.lanes[usize::from(put.flow.0)].push(place, flight, counts);
    }

    /// Posts the requests that were prepared. A queue pair that refuses them has failed.
    #[inline]
    fn submit(
        &mut self,
        at: usize,
        (flight, len): (usize, u64),
        timed: Option<(u64, Instant)>,
        report: bool,
    ) {
        let queue = &mut self.queues[at];
        let reported = report || queue.reports_next();
        let pending = Pending { serial: 0, flight, len, timed };
        // SAFETY: the requests name memory that is registered and that the flight holds, or are inline; it was asked
        // whether there is room.
        let posted = unsafe { queue.post(&mut self.requests, at, Some(pending), report) };
        match posted {
            Ok(()) => self.nics[queue.nic].outstanding += u32::from(reported),
            Err(source) => {
                let on = queue.wire.as_ref().map_or_else(String::new, ToString::to_string);
                let (peer, rail) = (Peer(queue.peer), queue.rail);
                let error = crate::Error::call("ibv_post_send", &on, source);
                let mut told = std::mem::take(&mut self.told);
                self.rail_failed(peer, rail, error, &mut told);
                self.told.append(&mut told);
            }
        }
    }

    /// Posts a reported request of nothing to each queue pair whose last ones will not be reported.
    pub(crate) fn post_markers(&mut self) {
        for at in 0..self.queues.len() {
            let queue = &self.queues[at];
            let room = queue.has_room(1) && self.nics[queue.nic].has_room(1);
            if queue.is_busy() && queue.is_silent() && room {
                self.post_marker(at);
            }
        }
    }

    /// Posts a reported request of nothing, which there is room for.
    pub(crate) fn post_marker(&mut self, at: usize) {
        let mut marker = [request(&mut [], (0, 0), None, 0)];
        let queue = &mut self.queues[at];
        // SAFETY: the request names no memory, and there is room.
        if unsafe { queue.post_marker(&mut marker, at) }.is_ok() {
            self.nics[queue.nic].outstanding += 1;
        }
    }
}

impl Message {
    /// The place of the queue pair on the rail that is used `turn`-th.
    #[inline]
    fn queue(&self, turn: usize) -> usize {
        self.first + self.in_use.place(turn)
    }

    fn is_striped(&self) -> bool {
        self.len >= STRIPED_BYTES && self.in_use.count() > 1
    }

    fn immediate(&self, striped: bool) -> Option<u32> {
        let immediate = Immediate { signal: self.signal, striped };
        (striped || self.signal.is_some()).then(|| immediate.encode())
    }
}

fn dropped<T>(put: &Put<'_>, why: &str) -> Option<T> {
    tracing::warn!(target: "dure::net", peer = put.to.0, at = put.at, signal = ?put.signal, why, "a put is dropped");
    None
}

/// Bytes of a region.
fn part_of(memory: Memory, offset: u64, len: u64) -> Memory {
    let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else {
        panic!("{len} bytes at {offset} are beyond the address space");
    };
    memory.part(offset, len)
}

fn entry(addr: u64, len: u64, lkey: u32) -> ibv_sge {
    ibv_sge { addr, length: u32::try_from(len).expect("a request is shorter than 4 GiB"), lkey }
}

/// A write of what a gather list names, to an address of the peer.
fn request(
    entries: &mut [ibv_sge],
    (remote_addr, rkey): (u64, u32),
    immediate: Option<u32>,
    send_flags: u32,
) -> ibv_send_wr {
    // SAFETY: a struct of numbers and pointers, for which zero is a value.
    let mut request: ibv_send_wr = unsafe { std::mem::zeroed() };
    request.sg_list = entries.as_mut_ptr();
    request.num_sge = i32::try_from(entries.len()).expect("a gather list is short");
    request.send_flags = send_flags;
    request.wr = wr_t { rdma: rdma_t { remote_addr, rkey } };
    match immediate {
        Some(word) => {
            request.opcode = ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM;
            request.imm_data_invalidated_rkey_union =
                imm_data_invalidated_rkey_union_t { imm_data: word.to_be() };
        }
        None => request.opcode = ibv_wr_opcode::IBV_WR_RDMA_WRITE,
    }
    request
}
