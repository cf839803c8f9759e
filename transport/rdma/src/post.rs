//! Puts become work requests.
//!
//! A short message of host memory goes with the request itself (inline). One that is longer, and whose memory is not
//! registered, is copied to the bounce buffer as long as that takes less time. Any other is read by the device where it is: a gather list of the
//! head, which is copied, and of the body's spans.

use dure_device::{Memory, Space};
use dure_transport::{Full, Posted, Put};
use rdma_sys::{
    ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wr_opcode, imm_data_invalidated_rkey_union_t, rdma_t,
    wr_t,
};

use crate::join::{Link, Note, Stage};
use crate::memory;
use crate::nic::{BOUNCE, LONG_BOUNCE};
use crate::region::index;
use crate::stripe::{Immediate, PART, Part, SIGNALS, STRIPED_BYTES, cut};
use crate::transport::{Flight, Rdma};

/// A put, as it is sent.
#[derive(Clone, Copy, Debug)]
struct Message {
    /// Bytes in all.
    len: u64,
    /// Where the first one goes, in the peer's memory.
    address: u64,
    signal: Option<u32>,
    /// Place of the flow's first queue pair.
    first: usize,
    home: usize,
    rails: usize,
}

type Result<T> = std::result::Result<T, Full>;

impl Rdma {
    /// Posts a put.
    pub(crate) fn post(&mut self, put: &Put<'_>) -> Result<Posted> {
        let Some(message) = self.message(put) else { return Ok(Posted::Done) };
        let at = message.first + message.home;
        if message.rails == 1 || message.len < STRIPED_BYTES {
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
        let pair = match self.links.get(index(put.to.0)) {
            Some(Link::There(pair)) if pair.stage == Stage::Up => pair,
            Some(Link::Lost) => return None,
            _ => panic!("a put to peer {}, which is not up", put.to.0),
        };
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
        let (rails, home) = (pair.rails.len(), pair.home(put.flow.0));
        let first = pair.queues.start + usize::from(put.flow.0) * rails;
        Some(Message { len, address, signal, first, home, rails })
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
        self.entries.clear();
        if !put.head.is_empty() {
            self.entries.push(entry(put.head.as_ptr().addr() as u64, put.head.len() as u64, 0));
        }
        let regions = self.regions.get_mut();
        for span in put.body.iter().filter(|span| span.len > 0) {
            let part = part_of(regions.own(span.region.0).memory, span.offset, span.len);
            self.entries.push(entry(part.address() as u64, span.len, 0));
        }
        let rkey = if message.len > 0 { self.rkey(put, message.home) } else { 0 };
        let immediate = message.immediate(false);
        let flags = ibv_send_flags::IBV_SEND_INLINE.0;
        let request = request(&mut self.entries, (message.address, rkey), immediate, flags);
        self.requests.clear();
        self.requests.push(request);
        self.submit(at, None, message.len, put);
        Ok(Posted::Done)
    }

    /// Sends a message as one request that the device reads from memory.
    fn post_one(&mut self, put: &Put<'_>, message: Message, at: usize) -> Result<Posted> {
        let nic = self.queues[at].nic;
        if self.nics[nic].bounce.is_empty() {
            return Err(Full);
        }
        let copies = self.copies(put, message.len) && self.nics[nic].bounce.has(message.len);
        if !copies && !self.register_all(put) {
            return Ok(Posted::Done);
        }
        let mut flight = Flight { parts: 1, ..self.recycled() };
        self.entries.clear();
        if copies || !put.head.is_empty() {
            let len = if copies { message.len } else { put.head.len() as u64 };
            let slot = self.nics[nic].bounce.take(len).expect("it was asked whether there is one");
            flight.bounce = Some((nic, slot));
            let len = self.fill(nic, slot, put, copies);
            let bounce = &self.nics[nic].bounce;
            let from = bounce.memory(slot).address() as u64;
            self.entries.push(entry(from, len, bounce.lkey(slot)));
        }
        if !copies {
            let body = (put.head.len() as u64, message.len);
            self.gather(put, nic, body, &mut flight);
        }
        let rkey = self.rkey(put, message.home);
        let request =
            request(&mut self.entries, (message.address, rkey), message.immediate(false), 0);
        self.requests.clear();
        self.requests.push(request);
        let pending = !flight.reads.is_empty();
        flight.token = pending.then_some(put.token);
        let flight = self.keep(flight);
        self.submit(at, Some(flight), message.len, put);
        Ok(if pending { Posted::Pending } else { Posted::Done })
    }

    /// Sends a long message in parts: over all rails, or because one request does not hold it.
    fn post_parts(&mut self, put: &Put<'_>, message: Message) -> Result<Posted> {
        let bandwidths = &self.pair(put.to).expect("it is up").bandwidths;
        let most = self.nics.iter().map(|nic| nic.most).min().unwrap_or(1 << 30);
        let parts = cut(message.len, bandwidths, message.home, most);
        let requests = |rail: usize| parts.iter().filter(|part| part.rail == rail).count();
        for rail in 0..message.rails {
            let queue = &self.queues[message.first + rail];
            let count = u32::try_from(requests(rail)).unwrap_or(u32::MAX);
            if !queue.has_room(count) || !self.nics[queue.nic].has_room(1) {
                return Err(Full);
            }
        }
        let home = self.queues[message.first + message.home].nic;
        if !put.head.is_empty() && self.nics[home].bounce.is_empty() {
            return Err(Full);
        }
        if !self.register_all(put) {
            return Ok(Posted::Done);
        }
        let mut flight = self.recycled();
        flight.parts = parts.iter().filter(|part| part.last).count();
        flight.token = Some(put.token);
        if !put.head.is_empty() {
            let bounce = &mut self.nics[home].bounce;
            let slot = bounce.take(put.head.len() as u64).expect("a head fits a short slot");
            flight.bounce = Some((home, slot));
            self.fill(home, slot, put, false);
        }
        let mut reads = std::mem::take(&mut flight.reads);
        let place = self.keep(flight);
        for rail in 0..message.rails {
            self.post_rail(put, message, (&parts, rail), (place, &mut reads));
        }
        // A connection that failed on the way has freed the flight.
        if self.flights[place].parts > 0 {
            self.flights[place].reads = reads;
            return Ok(Posted::Pending);
        }
        reads.drain(..).for_each(|region| self.regions.get_mut().count_reader(region, false));
        Ok(Posted::Done)
    }

    /// Sends the parts of a message that go over one rail, as one chain.
    fn post_rail(
        &mut self,
        put: &Put<'_>,
        message: Message,
        (parts, rail): (&[Part], usize),
        (flight, reads): (usize, &mut Vec<u32>),
    ) {
        let at = message.first + rail;
        let nic = self.queues[at].nic;
        if !self.queues[at].is_alive() {
            return;
        }
        let rkey = self.rkey(put, rail);
        let striped = message.len >= STRIPED_BYTES && message.rails > 1;
        let mut used = Flight { reads: std::mem::take(reads), ..Flight::default() };
        self.entries.clear();
        let mut ranges = Vec::new();
        let mine = || parts.iter().filter(|part| part.rail == rail);
        for part in mine() {
            let start = self.entries.len();
            let end = part.from + part.len;
            let head = put.head.len() as u64;
            if part.from < head {
                let (_, slot) = self.flights[flight].bounce.expect("there is a head");
                let bounce = &self.nics[nic].bounce;
                let from = bounce.memory(slot).address() as u64 + part.from;
                self.entries.push(entry(from, head.min(end) - part.from, bounce.lkey(slot)));
            }
            self.gather(put, nic, (part.from.max(head), end), &mut used);
            ranges.push(start..self.entries.len());
        }
        *reads = used.reads;
        self.requests.clear();
        for (part, range) in mine().zip(ranges) {
            let immediate = match (part.last, rail == message.home) {
                (false, _) => None,
                (true, true) => message.immediate(striped),
                (true, false) => Some(PART),
            };
            let into = (message.address + part.from, rkey);
            let request = request(&mut self.entries[range], into, immediate, 0);
            self.requests.push(request);
        }
        self.submit(at, Some(flight), message.len, put);
    }

    /// Appends the spans of the bytes `from..to` of a message to the gather list, and notes what is read. `from` is not
    /// before the end of the head.
    fn gather(&mut self, put: &Put<'_>, nic: usize, (from, to): (u64, u64), flight: &mut Flight) {
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
                if !flight.reads.contains(&number) {
                    flight.reads.push(number);
                    regions.count_reader(number, true);
                }
            }
            start = end;
        }
    }

    /// Copies the head, or the whole message, to a slot of the bounce buffer, and returns how long it is.
    fn fill(&mut self, nic: usize, slot: u16, put: &Put<'_>, whole: bool) -> u64 {
        let memory = self.nics[nic].bounce.memory(slot);
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
        at as u64
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
            if let Err(error) = self.regions.get_mut().registered(span.region.0).map(|_| ()) {
                let mut told = std::mem::take(&mut self.told);
                self.give_up(put.to, error.into(), Note::GivenUp, &mut told);
                self.told = told;
                return false;
            }
        }
        true
    }

    /// A flight whose list of regions has room already.
    fn recycled(&mut self) -> Flight {
        let place = self.free_flights.last().copied();
        let reads = place.map(|at| std::mem::take(&mut self.flights[at].reads)).unwrap_or_default();
        Flight { reads, ..Flight::default() }
    }

    /// Keeps a flight until its requests have completed.
    fn keep(&mut self, flight: Flight) -> usize {
        match self.free_flights.pop() {
            Some(at) => {
                self.flights[at] = flight;
                at
            }
            None => {
                self.flights.push(flight);
                self.flights.len() - 1
            }
        }
    }

    /// Posts the requests that were prepared. A queue pair that refuses them has failed, and its peer is given up.
    #[inline]
    fn submit(&mut self, at: usize, flight: Option<usize>, len: u64, put: &Put<'_>) {
        let queue = &mut self.queues[at];
        let reported = flight.is_some() || queue.reports_next();
        // SAFETY: the requests name memory that is registered and that the flight holds, or are inline; it was asked
        // whether there is room.
        let posted = unsafe { queue.post(&mut self.requests, (at, flight, len)) };
        match posted {
            Ok(()) => self.nics[queue.nic].outstanding += u32::from(reported),
            Err(source) => {
                let on = queue.wire.as_ref().map_or_else(String::new, ToString::to_string);
                let error = crate::Error::call("ibv_post_send", &on, source);
                if let Some(flight) = flight.and_then(|flight| self.land(flight)) {
                    self.free(flight);
                }
                let mut told = std::mem::take(&mut self.told);
                self.give_up(put.to, error.into(), Note::GivenUp, &mut told);
                self.told = told;
            }
        }
    }

    /// Posts a reported request of nothing to each queue pair whose last ones will not be reported.
    pub(crate) fn post_markers(&mut self) {
        for at in 0..self.queues.len() {
            let queue = &self.queues[at];
            let room = queue.has_room(1) && self.nics[queue.nic].has_room(1);
            if !queue.is_busy() || !queue.is_silent() || !room {
                continue;
            }
            let mut marker = [request(&mut [], (0, 0), None, crate::queue::SIGNALED)];
            let queue = &mut self.queues[at];
            // SAFETY: the request names no memory, and there is room.
            if unsafe { queue.post_marker(&mut marker, at) }.is_ok() {
                self.nics[queue.nic].outstanding += 1;
            }
        }
    }
}

impl Message {
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
