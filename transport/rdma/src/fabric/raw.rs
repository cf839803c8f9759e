//! Verbs beneath the trait: reads, sends and fetch-and-add over reliable connections to one peer.

use std::sync::Arc;

use dure_transport::Card;
use rdma_sys::{
    atomic_t, ibv_access_flags, ibv_atomic_cap, ibv_recv_wr, ibv_send_flags, ibv_send_wr, ibv_sge,
    ibv_srq_attr, ibv_srq_init_attr, ibv_wc, ibv_wc_status, ibv_wr_opcode, rdma_t, wr_t,
};

use super::{Choice, Port, port_of};
use crate::card::{Address, list, rails};
use crate::error::{Completion, Error, Result, Wire};
use crate::memory::{self, Pages};
use crate::nic::Nic;
use crate::queue::{Ends, Patience, bring_up, init_attr, initialise, random_packet};
use crate::status::Evidence;
use crate::verbs::{Cq, Mr, Qp, Srq};

/// Completions taken at once.
const BATCH: usize = 16;
/// Opcodes of completed receives have this bit (`IBV_WC_RECV` of the header).
const RECEIVED: u32 = 128;
/// Bytes of what a fetch-and-add returns, and adds to.
const WORD: u32 = 8;
/// Bytes of an offer for each queue pair, and before them.
const OFFERED: usize = 8;
const OFFER_HEAD: usize = 8 + 8 + 4 + 1;

/// What [`Raw::open`] needs.
#[derive(Clone, Copy, Debug)]
pub struct RawOptions {
    /// Queue pairs; at least 1.
    pub queues: u16,
    /// Requests that each holds; at least 1.
    pub depth: u32,
    /// Receives that are posted, of all queue pairs together; at least 1.
    pub receives: u32,
    /// One request in so many is reported; at least 1 and at most `depth`.
    pub moderation: u32,
    /// Bytes that a send carries inline; refused where the device takes fewer.
    pub inline: u32,
    /// Reads and atomics that may be under way on a queue pair; as many as both devices allow if `None`.
    pub outstanding: Option<u8>,
    /// Bytes of the memory that is sent and read into, and of that which peers read, send to and add to; at least 8.
    pub bytes: usize,
}

/// What is asked of the peer's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read from the peer's memory.
    Read,
    /// Send to the peer, which has receives posted.
    Send,
    /// Add 1 to the first word of the peer's memory, and fetch what it was.
    FetchAdd,
}

/// What has completed since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Requests of this side.
    pub done: u32,
    /// Messages that arrived by a send of the peer.
    pub received: u32,
}

#[derive(Debug)]
struct Queue {
    qp: Qp,
    /// The number of the first packet.
    packet: u32,
    posted: u32,
    done: u32,
    /// Posted last without being reported.
    unreported: u32,
    wire: Option<Wire>,
}

/// Memory with its registration, which ends first.
#[derive(Debug)]
struct Area {
    mr: Mr,
    pages: Pages,
}

/// Queue pairs to one peer, with memory to send from and memory for the peer.
#[derive(Debug)]
pub struct Raw {
    // What ends first stands first.
    queues: Vec<Queue>,
    srq: Arc<Srq>,
    cq: Arc<Cq>,
    own: Area,
    shared: Area,
    nic: Nic,
    options: RawOptions,
    /// Address and key of the peer's memory.
    theirs: (u64, u32),
    /// Receives that were taken.
    taken: u32,
}

impl Raw {
    /// Opens a port and makes queue pairs, in the state INIT.
    ///
    /// # Errors
    /// [`Error::Library`] and [`Error::NoPort`] when there is no RDMA that this process can use; [`Error::Call`] when the
    /// device refuses what is asked for.
    ///
    /// # Panics
    /// When an option is below its least value.
    pub fn open(choice: &Choice, options: RawOptions) -> Result<Self> {
        let least =
            [u32::from(options.queues), options.depth, options.receives, options.moderation];
        assert!(least.iter().all(|option| *option > 0), "{options:?} has no zero");
        assert!(options.bytes >= WORD as usize, "memory has room for a word");
        let nic = choice.open()?.swap_remove(0);
        let device = nic.context.device()?;
        let requests = options.depth.saturating_mul(options.queues.into());
        let entries =
            (requests.saturating_add(options.receives)).min(device.max_cqe.unsigned_abs());
        let cq = Cq::new(&nic.context, entries.cast_signed())?;
        let attr = ibv_srq_attr { max_wr: options.receives, max_sge: 1, srq_limit: 0 };
        let mut init = ibv_srq_init_attr { srq_context: std::ptr::null_mut(), attr };
        let srq = Srq::new(&nic.pd, &mut init)?;
        let area = || Area::new(&nic, options.bytes);
        let (own, shared) = (area()?, area()?);
        let queues = (0..options.queues).map(|_| Queue::new(&nic, (&cq, &srq), &options));
        let queues = queues.collect::<Result<_>>()?;
        let (theirs, taken) = ((0, 0), options.receives);
        let mut raw = Self { queues, srq, cq, own, shared, nic, options, theirs, taken };
        raw.receive()?;
        Ok(raw)
    }

    /// The port.
    pub fn port(&self) -> Port {
        port_of(&self.nic)
    }

    /// Whether the device has atomic operations.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn is_atomic(&self) -> Result<bool> {
        Ok(self.nic.context.device()?.atomic_cap != ibv_atomic_cap::IBV_ATOMIC_NONE)
    }

    /// What the peer gives to its [`Raw::connect`].
    ///
    /// # Errors
    /// [`Error::Call`].
    pub fn card(&self) -> Result<Card> {
        let mut offer = (self.shared.pages.memory().address() as u64).to_le_bytes().to_vec();
        offer.extend((self.options.bytes as u64).to_le_bytes());
        offer.extend(self.shared.mr.rkey().to_le_bytes());
        offer.push(self.reads()?.1);
        for queue in &self.queues {
            offer.extend(queue.qp.number().to_le_bytes());
            offer.extend(queue.packet.to_le_bytes());
        }
        let ports = vec![self.nic.card.clone()];
        Ok(Address { ports, side: Card(offer.into()) }.encode())
    }

    /// Reads and atomics that a queue pair may have under way, as the one that asks and as the one that answers.
    fn reads(&self) -> Result<(u8, u8)> {
        let device = self.nic.context.device()?;
        let most = |number: i32| u8::try_from(number.unsigned_abs()).unwrap_or(u8::MAX);
        let asked = self.options.outstanding.unwrap_or(u8::MAX);
        Ok((most(device.max_qp_init_rd_atom).min(asked), most(device.max_qp_rd_atom).min(asked)))
    }

    /// Brings all queue pairs to RTS. Both sides must, before either asks for anything. `lower` is true on one of them.
    ///
    /// # Errors
    /// [`Error::NoWay`] when nothing leads to the peer, or its card is none; [`Error::Transition`].
    pub fn connect(&mut self, theirs: &Card, lower: bool) -> Result<()> {
        let not = |why: String| Error::NoWay { why };
        let wrong = || not("the peer's card makes no sense".to_owned());
        let address = Address::decode(theirs).map_err(|_| wrong())?;
        let offer = Offer::decode(&address.side.0).ok_or_else(wrong)?;
        if offer.queues.len() != self.queues.len() || offer.bytes != self.options.bytes as u64 {
            return Err(not(format!(
                "{} queue pairs and {} bytes here, {} and {} there",
                self.queues.len(),
                self.options.bytes,
                offer.queues.len(),
                offer.bytes
            )));
        }
        let own = [self.nic.card.clone()];
        let found = rails(&own, &address.ports, lower);
        let rail = *found
            .first()
            .ok_or_else(|| not(format!("from {} to {}", list(&own), list(&address.ports))))?;
        let reads = self.reads()?;
        for (queue, theirs) in self.queues.iter_mut().zip(offer.queues) {
            let there = &address.ports[rail.there];
            let ends = Ends { peer: u32::from(lower), here: &self.nic, there, rail, theirs };
            queue.connect(&ends, (reads.0.min(offer.reads), reads.1))?;
        }
        self.theirs = (offer.address, offer.rkey);
        Ok(())
    }

    /// Both ends of each queue pair that is connected.
    pub fn wires(&self) -> impl Iterator<Item = &Wire> {
        self.queues.iter().filter_map(|queue| queue.wire.as_ref())
    }

    /// Whether a queue pair takes another request.
    #[inline]
    pub fn has_room(&self, queue: u16) -> bool {
        let queue = &self.queues[usize::from(queue)];
        queue.posted.wrapping_sub(queue.done) < self.options.depth
    }

    /// Posts a request of `len` bytes (8 for [`Request::FetchAdd`]). The last of several has `report`, so that all are
    /// reported.
    ///
    /// # Errors
    /// [`Error::Call`].
    ///
    /// # Panics
    /// When the queue pair has no room, or the memory is shorter.
    #[inline]
    pub fn post(&mut self, at: u16, what: Request, len: u32, report: bool) -> Result<()> {
        assert!(self.has_room(at), "whoever posts has asked for room");
        let len = if what == Request::FetchAdd { WORD } else { len };
        assert!(len as usize <= self.options.bytes, "{len} bytes fit the memory");
        let queue = &mut self.queues[usize::from(at)];
        queue.unreported += 1;
        let mut flags = 0;
        let mut wr_id = 0;
        if report || queue.unreported >= self.options.moderation {
            flags |= ibv_send_flags::IBV_SEND_SIGNALED.0;
            wr_id = wr_id_of(at, queue.unreported);
            queue.unreported = 0;
        }
        if what == Request::Send && len <= self.options.inline {
            flags |= ibv_send_flags::IBV_SEND_INLINE.0;
        }
        let addr = self.own.pages.memory().address() as u64;
        let mut entry = ibv_sge { addr, length: len, lkey: self.own.mr.lkey() };
        let mut request = request(what, &mut entry, self.theirs);
        (request.wr_id, request.send_flags) = (wr_id, flags);
        if len == 0 {
            request.num_sge = 0;
        }
        queue.posted = queue.posted.wrapping_add(1);
        // SAFETY: one request, whose memory is registered as long as this; what is sent is only filled between rows.
        let posted = unsafe { queue.qp.post(&mut request) };
        posted.map_err(|source| {
            let on = queue.wire.as_ref().map_or_else(String::new, ToString::to_string);
            Error::call("ibv_post_send", &on, source)
        })
    }

    /// Takes what has completed, and posts the receives that were taken again.
    ///
    /// # Errors
    /// [`Error::Completion`] for a request that failed; [`Error::Call`].
    #[inline]
    pub fn poll(&mut self) -> Result<Progress> {
        // SAFETY: structs of numbers, for which zero is a value.
        let mut completions: [ibv_wc; BATCH] = unsafe { std::mem::zeroed() };
        let count = self.cq.poll(&mut completions)?;
        let mut progress = Progress::default();
        for completion in &completions[..count] {
            if completion.status != ibv_wc_status::IBV_WC_SUCCESS {
                return Err(self.failed(completion));
            }
            if completion.opcode & RECEIVED != 0 {
                progress.received += 1;
                continue;
            }
            let (at, covers) = parts_of(completion.wr_id);
            progress.done += covers;
            let queue = &mut self.queues[usize::from(at)];
            queue.done = queue.done.wrapping_add(covers);
        }
        self.taken += progress.received;
        if self.taken > 0 {
            self.receive()?;
        }
        Ok(progress)
    }

    /// Posts all receives that were taken.
    fn receive(&mut self) -> Result<()> {
        let memory = self.shared.pages.memory();
        let length = u32::try_from(memory.len).unwrap_or(u32::MAX);
        let lkey = self.shared.mr.lkey();
        let mut entry = ibv_sge { addr: memory.address() as u64, length, lkey };
        let (next, sg_list) = (std::ptr::null_mut(), &raw mut entry);
        let mut receive = ibv_recv_wr { wr_id: 0, next, sg_list, num_sge: 1 };
        while self.taken > 0 {
            // SAFETY: one receive, into memory that is registered as long as this.
            unsafe { self.srq.post(&mut receive) }?;
            self.taken -= 1;
        }
        Ok(())
    }

    fn failed(&self, completion: &ibv_wc) -> Error {
        let queue = self.queues.iter().find(|queue| queue.qp.number() == completion.qp_num);
        let queue = queue.unwrap_or(&self.queues[0]);
        let Some(wire) = queue.wire.clone() else {
            return Error::NoWay { why: "a completion of a queue pair without a peer".to_owned() };
        };
        let moved = self.nic.before.moved();
        let evidence = Evidence {
            acknowledged: queue.done > 0,
            link_errors: moved.iter().flatten().any(crate::Moved::is_link_error),
            large: false,
        };
        let (status, vendor) = (completion.status, completion.vendor_err);
        Error::Completion(Box::new(Completion {
            what: "a request",
            wire,
            status,
            vendor,
            moved,
            evidence,
        }))
    }

    /// Fills the start of the memory that is sent and read into. No request may be under way.
    ///
    /// # Panics
    /// When it is shorter.
    pub fn fill_own(&mut self, bytes: &[u8]) {
        // SAFETY: only the device touches these pages, for requests, and none is under way.
        unsafe { memory::write(self.own.pages.memory(), bytes) };
    }

    /// Fills the start of the memory that the peer uses. The peer may ask for nothing meanwhile.
    ///
    /// # Panics
    /// When it is shorter.
    pub fn fill_shared(&mut self, bytes: &[u8]) {
        // SAFETY: as above, for requests of the peer.
        unsafe { memory::write(self.shared.pages.memory(), bytes) };
    }

    /// The first bytes of the memory that is sent and read into.
    ///
    /// # Panics
    /// When it is shorter.
    pub fn own(&self, len: usize) -> Box<[u8]> {
        // SAFETY: the pages are mapped; only the device could write them, for requests, and none is under way.
        unsafe { memory::read(self.own.pages.memory().part(0, len)) }
    }

    /// The first bytes of the memory that the peer uses, which may be asking for nothing.
    ///
    /// # Panics
    /// When it is shorter.
    pub fn shared(&self, len: usize) -> Box<[u8]> {
        // SAFETY: as above.
        unsafe { memory::read(self.shared.pages.memory().part(0, len)) }
    }
}

/// What a completion names: the queue pair, and how many of its requests are done by it.
fn wr_id_of(at: u16, covers: u32) -> u64 {
    u64::from(at) << 32 | u64::from(covers)
}

fn parts_of(wr_id: u64) -> (u16, u32) {
    let [a, b, c, d, e, f, _, _] = wr_id.to_le_bytes();
    (u16::from_le_bytes([e, f]), u32::from_le_bytes([a, b, c, d]))
}

impl Area {
    fn new(nic: &Nic, len: usize) -> Result<Self> {
        let pages = Pages::new(len).map_err(Error::system("mmap"))?;
        let memory = pages.memory();
        // SAFETY: the registration ends before the pages.
        let mr = unsafe { Mr::new(&nic.pd, memory.ptr.as_ptr(), memory.len, access(nic)?) }?;
        Ok(Self { mr, pages })
    }
}

/// What the peer may do: everything that is measured.
fn access(nic: &Nic) -> Result<i32> {
    use ibv_access_flags as Flags;
    let mut flags = Flags::IBV_ACCESS_LOCAL_WRITE | Flags::IBV_ACCESS_REMOTE_READ;
    flags |= Flags::IBV_ACCESS_REMOTE_WRITE;
    if nic.context.device()?.atomic_cap != ibv_atomic_cap::IBV_ATOMIC_NONE {
        flags |= Flags::IBV_ACCESS_REMOTE_ATOMIC;
    }
    Ok(flags.0.cast_signed())
}

impl Queue {
    fn new(nic: &Nic, (cq, srq): (&Arc<Cq>, &Arc<Srq>), options: &RawOptions) -> Result<Self> {
        let mut attr = init_attr(options.depth, 1, options.inline);
        let qp = Qp::new(&nic.pd, cq, srq, &mut attr)?;
        initialise(&qp, nic, access(nic)?)?;
        Ok(Self { qp, packet: random_packet()?, posted: 0, done: 0, unreported: 0, wire: None })
    }

    /// `reads`: how many this side may have under way, and the other.
    fn connect(&mut self, ends: &Ends<'_>, reads: (u8, u8)) -> Result<()> {
        self.wire = Some(bring_up(&self.qp, ends, self.packet, Patience::default(), reads)?);
        Ok(())
    }
}

fn request(what: Request, entry: &mut ibv_sge, (remote_addr, rkey): (u64, u32)) -> ibv_send_wr {
    // SAFETY: a struct of numbers and pointers, for which zero is a value.
    let mut request: ibv_send_wr = unsafe { std::mem::zeroed() };
    request.sg_list = entry;
    request.num_sge = 1;
    match what {
        Request::Send => request.opcode = ibv_wr_opcode::IBV_WR_SEND,
        Request::Read => {
            request.opcode = ibv_wr_opcode::IBV_WR_RDMA_READ;
            request.wr = wr_t { rdma: rdma_t { remote_addr, rkey } };
        }
        Request::FetchAdd => {
            request.opcode = ibv_wr_opcode::IBV_WR_ATOMIC_FETCH_AND_ADD;
            let atomic = atomic_t { remote_addr, compare_add: 1, swap: 0, rkey };
            request.wr = wr_t { atomic };
        }
    }
    request
}

/// What a card says besides the port.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    address: u64,
    bytes: u64,
    rkey: u32,
    /// Reads and atomics that may be asked for at a time, on each queue pair.
    reads: u8,
    /// Number and first packet of each queue pair.
    queues: Vec<(u32, u32)>,
}

impl Offer {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, queues) = bytes.split_at_checked(OFFER_HEAD)?;
        let word = |bytes: &[u8]| Some(u32::from_le_bytes(*bytes.first_chunk()?));
        let long = |bytes: &[u8]| Some(u64::from_le_bytes(*bytes.first_chunk()?));
        let queue = |bytes: &[u8]| Some((word(bytes)?, word(&bytes[4..])?));
        if !queues.len().is_multiple_of(OFFERED) {
            return None;
        }
        Some(Self {
            address: long(head)?,
            bytes: long(&head[8..])?,
            rkey: word(&head[16..])?,
            reads: head[20],
            queues: queues.chunks_exact(OFFERED).map(queue).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_read_to_their_last_byte() {
        let mut bytes = 7_u64.to_le_bytes().to_vec();
        bytes.extend(64_u64.to_le_bytes());
        bytes.extend(9_u32.to_le_bytes());
        bytes.push(16);
        bytes.extend([17_u32, 5].map(u32::to_le_bytes).concat());
        let offer = Offer { address: 7, bytes: 64, rkey: 9, reads: 16, queues: vec![(17, 5)] };
        assert_eq!(Offer::decode(&bytes), Some(offer));
        for len in [0, OFFER_HEAD - 1, bytes.len() - 1] {
            assert_eq!(Offer::decode(&bytes[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn completions_name_queue_and_requests() {
        assert_eq!(parts_of(wr_id_of(u16::MAX, 7)), (u16::MAX, 7));
        assert_eq!(parts_of(wr_id_of(0, u32::MAX)), (0, u32::MAX));
    }

    #[test]
    fn a_choice_that_nothing_meets_says_so() {
        let choice = Choice { devices: vec!["no_such_device".to_owned()], ..Choice::default() };
        let error = choice.ports().unwrap_err().to_string();
        assert!(error.starts_with("no RDMA: "), "{error}");
    }
}
