//! A queue pair of one flow to one peer on one rail.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use dure_transport::proof::random_bytes;
use rdma_sys::{
    ibv_ah_attr, ibv_gid, ibv_global_route, ibv_qp_attr, ibv_qp_cap, ibv_qp_init_attr, ibv_qp_type,
    ibv_send_flags, ibv_send_wr,
};

use crate::card::{PortCard, Rail};
use crate::error::{Error, Result, Wire};
use crate::gid::{Gid, Kind};
use crate::nic::{Nic, access};
use crate::state::State;
use crate::verbs::Qp;

/// Work requests that a queue pair holds. Enough for the messages that slots and credits let be under way, with room for
/// those that are only reported with a later one.
const DEPTH: u32 = 128;
/// Most entries of a gather list that are asked for: a head and eight spans.
pub(crate) const GATHER: u32 = 9;
/// Bytes that the device takes with the request itself, so that it need not read memory: asked for from the most, until
/// the device agrees. Headers with short payloads fit 256 B; more makes each request longer in the device's queue.
const INLINE: [u32; 4] = [256, 128, 64, 0];
/// Requests that may go unreported one after another: a quarter of the queue, so that it never waits for a report.
const UNREPORTED: u32 = DEPTH / 4;

/// How long the device waits for an acknowledgement before it repeats: 4.096 us * 2^16 = 268 ms (InfiniBand specification,
/// volume 1, 11.6.2 "Local ACK timeout"); the peer's death is known from the side channel long before.
const ACK_TIMEOUT: u8 = 16;
/// How often it repeats: 6, as Soft-RoCE takes 7 for "for ever" (drivers/infiniband/sw/rxe/rxe_comp.c). About two seconds
/// in all.
const RETRIES: u8 = 6;
/// How often it asks again when the peer has no receive posted: 7 is "for ever" (specification, 9.7.5.2.8). A peer that
/// computes polls late, which is no fault; one that died is known from the side channel.
const RNR_RETRIES: u8 = 7;
/// How long the peer asks senders to wait then: 12 is 0.64 ms (specification, table 45), many polls and few repeats.
const RNR_TIMER: u8 = 12;
/// Routers that a packet may pass: the default of IP (RFC 1700).
const HOPS: u8 = 64;
/// The default partition (specification, 10.9.1.2).
const PKEY_INDEX: u16 = 0;
/// Nothing here reads from peers or is atomic.
const READS: u8 = 0;

/// How patient a queue pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Patience {
    /// Wait for an acknowledgement, as the exponent of the specification: 4.096 us times 2 to this power; 1 to 31.
    pub ack_timeout: u8,
    /// Repeats without acknowledgement; at most 6.
    pub retries: u8,
    /// Repeats when the peer has no receive posted; 7 is for ever.
    pub rnr_retries: u8,
}

impl Default for Patience {
    fn default() -> Self {
        Self { ack_timeout: ACK_TIMEOUT, retries: RETRIES, rnr_retries: RNR_RETRIES }
    }
}

/// Where a queue pair leads.
#[derive(Clone, Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) peer: u32,
    pub(crate) here: &'a Nic,
    pub(crate) there: &'a PortCard,
    pub(crate) rail: Rail,
    /// Number and first packet of the peer's queue pair.
    pub(crate) theirs: (u32, u32),
}

/// A request that has not completed, and what it holds meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// Number of the request on its queue pair; known when it is posted.
    pub(crate) serial: u64,
    pub(crate) flight: usize,
    /// Bytes of the message.
    pub(crate) len: u64,
    /// Of a striped message: bytes of this rail's part, and when it was posted.
    pub(crate) timed: Option<(u64, Instant)>,
}

/// A queue pair and its bookkeeping.
#[derive(Debug)]
pub(crate) struct Queue {
    /// `None` once its peer is lost.
    qp: Option<Qp>,
    pub(crate) number: u32,
    /// The number of the first packet that it sends: random, so that nobody who does not see the exchange can forge one.
    pub(crate) packet: u32,
    pub(crate) nic: usize,
    pub(crate) peer: u32,
    pub(crate) flow: u16,
    /// Place of its rail among those of the pair.
    pub(crate) rail: usize,
    /// Place of its rail among those in use.
    pub(crate) turn: usize,
    /// Bytes that it takes inline.
    pub(crate) inline: usize,
    depth: u32,
    posted: u64,
    pub(crate) completed: u64,
    /// Posted last without being reported.
    unreported: u32,
    /// Requests that will be reported.
    pub(crate) reports: u32,
    pending: VecDeque<Pending>,
    /// Bytes of the longest request that was acknowledged, of those that held something.
    pub(crate) longest: u64,
    /// Known from when it is ready to send.
    pub(crate) wire: Option<Box<Wire>>,
}

/// A flag of a send request.
pub(crate) const SIGNALED: u32 = ibv_send_flags::IBV_SEND_SIGNALED.0;

impl Queue {
    /// Makes a queue pair in the state INIT.
    pub(crate) fn new(
        nic: &Nic,
        (index, peer): (usize, u32),
        (flow, rail): (u16, usize),
    ) -> Result<Self> {
        let device = nic.context.device()?;
        let depth = DEPTH.min(device.max_qp_wr.unsigned_abs());
        let gather = GATHER.min(nic.gather);
        let mut made = None;
        for inline in INLINE {
            let mut attr = init_attr(depth, gather, inline);
            match Qp::new(&nic.pd, &nic.cq, &nic.srq, &mut attr) {
                Ok(qp) => {
                    made = Some((qp, inline));
                    break;
                }
                Err(error) if inline == 0 => return Err(error),
                Err(_) => {}
            }
        }
        let (qp, inline) = made.expect("the last attempt returned its error");
        initialise(&qp, nic, access())?;
        let number = qp.number();
        Ok(Self {
            qp: Some(qp),
            number,
            packet: random_packet()?,
            inline: inline as usize,
            depth,
            ..Self::absent((index, peer), (flow, rail))
        })
    }

    /// Stands for a queue pair of a device that is gone.
    pub(crate) fn absent((index, peer): (usize, u32), (flow, rail): (u16, usize)) -> Self {
        Self {
            qp: None,
            number: 0,
            packet: 0,
            nic: index,
            peer,
            flow,
            rail,
            turn: 0,
            inline: 0,
            depth: 0,
            posted: 0,
            completed: 0,
            unreported: 0,
            reports: 0,
            pending: VecDeque::new(),
            longest: 0,
            wire: None,
        }
    }

    /// Brings it to RTS: from then on it sends and receives.
    pub(crate) fn connect(&mut self, ends: &Ends<'_>, patience: Patience) -> Result<()> {
        let Some(qp) = &self.qp else {
            let card = &ends.here.card;
            let why = format!("{} port {} is gone", card.device, card.number);
            return Err(Error::NoWay { why });
        };
        self.wire = Some(Box::new(bring_up(qp, ends, self.packet, patience, (READS, READS))?));
        Ok(())
    }

    /// Brings it to RTS once more after it has failed without anything having arrived.
    pub(crate) fn reconnect(&mut self, ends: &Ends<'_>, patience: Patience) -> Result<()> {
        if let Some(qp) = &self.qp {
            let (mut attr, mask) = (attr_of(State::Reset), State::Reset.mask());
            let on = || ends.wire(self.number).to_string();
            qp.modify(&mut attr, mask).map_err(|error| State::Reset.explain(on(), mask, error))?;
            initialise(qp, ends.here, access())?;
            (self.posted, self.completed, self.unreported, self.reports) = (0, 0, 0, 0);
        }
        self.connect(ends, patience)
    }

    /// Fails it: nothing arrives on it any more, and what is posted is flushed.
    pub(crate) fn stop(&self) {
        let Some(qp) = &self.qp else { return };
        // A device that refuses this is gone, and with it the connection.
        let _ = qp.modify(&mut attr_of(State::Err), State::Err.mask());
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.qp.is_some()
    }

    /// Whether an event of the device is about it.
    pub(crate) fn is_named(&self, element: *mut std::ffi::c_void) -> bool {
        self.qp.as_ref().is_some_and(|qp| qp.is(element))
    }

    /// Ends it: nothing that was posted touches memory from here on, and nothing arrives. Gives back what there is to destroy.
    pub(crate) fn end(&mut self) -> Option<Qp> {
        self.stop();
        self.reports = 0;
        self.pending.clear();
        self.qp.take()
    }

    /// Whether it takes so many requests more.
    #[inline]
    pub(crate) fn has_room(&self, requests: u32) -> bool {
        self.posted - self.completed + u64::from(requests) <= u64::from(self.depth)
    }

    /// Whether anything that was posted may not have arrived.
    pub(crate) fn is_busy(&self) -> bool {
        self.qp.is_some() && self.wire.is_some() && self.posted > self.completed
    }

    /// What was to be reported has failed.
    pub(crate) fn forget_reports(&mut self) {
        self.reports = 0;
    }

    /// Whether it is connected, and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.qp.is_some() && self.wire.is_some() && self.posted == self.completed
    }

    /// Whether nothing that was posted will be reported.
    pub(crate) fn is_silent(&self) -> bool {
        self.reports == 0
    }

    /// Posts a chain of requests, whose last holds what is pending. It is reported when that is asked for, and now and then
    /// without.
    ///
    /// # Safety
    /// As [`Qp::post`]; the queue pair has room for them.
    #[inline]
    pub(crate) unsafe fn post(
        &mut self,
        chain: &mut [ibv_send_wr],
        at: usize,
        pending: Option<Pending>,
        report: bool,
    ) -> io::Result<()> {
        let qp = self.qp.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let count = chain.len() as u64;
        let reported = report || self.reports_next();
        let start = chain.as_mut_ptr();
        for (index, request) in chain.iter_mut().enumerate() {
            let last = index as u64 + 1 == count;
            request.next = if last { std::ptr::null_mut() } else { start.wrapping_add(index + 1) };
            request.wr_id = wr_id(at, self.posted + index as u64 + 1);
            if last && reported {
                request.send_flags |= SIGNALED;
            }
        }
        // SAFETY: the caller's promise; the chain was linked above.
        unsafe { qp.post(start) }?;
        self.posted += count;
        self.unreported = if reported { 0 } else { self.unreported + 1 };
        self.reports += u32::from(reported);
        let pending = pending.map(|pending| Pending { serial: self.posted, ..pending });
        self.pending.extend(pending);
        Ok(())
    }

    /// Posts a request that holds nothing and is reported.
    ///
    /// # Safety
    /// As [`Queue::post`].
    pub(crate) unsafe fn post_marker(
        &mut self,
        marker: &mut [ibv_send_wr; 1],
        at: usize,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.post(marker, at, None, true) }
    }

    /// Whether the next post will be reported though it holds nothing.
    #[inline]
    pub(crate) fn reports_next(&self) -> bool {
        self.unreported >= UNREPORTED
    }

    /// All requests up to one that was reported are done. Gives back what they held, one after another.
    pub(crate) fn complete(&mut self, wr_id: u64) {
        let behind = (wr_id & SERIAL).wrapping_sub(self.completed) & SERIAL;
        self.completed += behind;
        self.reports = self.reports.saturating_sub(1);
    }

    /// The next request that is done.
    #[inline]
    pub(crate) fn next_done(&mut self) -> Option<Pending> {
        let first = *self.pending.front()?;
        if first.serial > self.completed {
            return None;
        }
        self.longest = self.longest.max(first.len);
        self.pending.pop_front()
    }

    /// The first request that is not done.
    pub(crate) fn first_pending(&self) -> Option<Pending> {
        self.pending.front().copied()
    }
}

const SERIAL_BITS: u32 = 40;
const SERIAL: u64 = (1 << SERIAL_BITS) - 1;

/// What a completion names: the queue's place, counted from 1, as 0 is a receive; and the number of the request.
fn wr_id(at: usize, serial: u64) -> u64 {
    (at as u64 + 1) << SERIAL_BITS | serial & SERIAL
}

/// The place of the queue that a completion names; `None` for a receive.
#[inline]
pub(crate) fn queue_of(wr_id: u64) -> Option<usize> {
    usize::try_from(wr_id >> SERIAL_BITS).ok()?.checked_sub(1)
}

/// The number of a queue pair's first packet.
pub(crate) fn random_packet() -> Result<u32> {
    let [a, b, c] = random_bytes().map_err(|_| Error::System {
        call: "read /dev/urandom",
        source: io::Error::last_os_error(),
    })?;
    Ok(u32::from_le_bytes([a, b, c, 0]))
}

/// Brings a queue pair to INIT. `access` is what the peer may do.
pub(crate) fn initialise(qp: &Qp, nic: &Nic, access: i32) -> Result<()> {
    let mut attr = attr_of(State::Init);
    attr.pkey_index = PKEY_INDEX;
    attr.port_num = nic.card.number;
    attr.qp_access_flags = access.cast_unsigned();
    let mask = State::Init.mask();
    let on = || format!("QP {} of {} port {}", qp.number(), nic.card.device, nic.card.number);
    qp.modify(&mut attr, mask).map_err(|error| State::Init.explain(on(), mask, error))
}

/// Brings a queue pair from INIT to RTS. `reads` is how many reads and atomics this side may have under way, and the
/// other.
pub(crate) fn bring_up(
    qp: &Qp,
    ends: &Ends<'_>,
    packet: u32,
    patience: Patience,
    reads: (u8, u8),
) -> Result<Wire> {
    let wire = ends.wire(qp.number());
    let failed = |state: State, mask, error| state.explain(wire.to_string(), mask, error);
    let (mut attr, mask) = (attr_of(State::Rtr), State::Rtr.mask());
    attr.ah_attr = ends.way();
    attr.path_mtu = mtu_number(ends.rail.mtu);
    (attr.dest_qp_num, attr.rq_psn) = ends.theirs;
    attr.max_dest_rd_atomic = reads.1;
    attr.min_rnr_timer = RNR_TIMER;
    qp.modify(&mut attr, mask).map_err(|error| failed(State::Rtr, mask, error))?;
    let (mut attr, mask) = (attr_of(State::Rts), State::Rts.mask());
    attr.sq_psn = packet;
    attr.timeout = patience.ack_timeout;
    attr.retry_cnt = patience.retries.min(RETRIES);
    attr.rnr_retry = patience.rnr_retries;
    attr.max_rd_atomic = reads.0;
    qp.modify(&mut attr, mask).map_err(|error| failed(State::Rts, mask, error))?;
    Ok(wire)
}

pub(crate) fn init_attr(depth: u32, gather: u32, inline: u32) -> ibv_qp_init_attr {
    let null = std::ptr::null_mut;
    ibv_qp_init_attr {
        qp_context: null(),
        send_cq: std::ptr::null_mut(),
        recv_cq: std::ptr::null_mut(),
        srq: std::ptr::null_mut(),
        cap: ibv_qp_cap {
            max_send_wr: depth,
            max_recv_wr: 0,
            max_send_sge: gather,
            max_recv_sge: 0,
            max_inline_data: inline,
        },
        qp_type: ibv_qp_type::IBV_QPT_RC,
        sq_sig_all: 0,
    }
}

fn attr_of(state: State) -> ibv_qp_attr {
    // SAFETY: a struct of numbers, for which zero is a value.
    let mut attr: ibv_qp_attr = unsafe { std::mem::zeroed() };
    attr.qp_state = state.number();
    attr
}

/// The number of the header's `ibv_mtu`.
fn mtu_number(bytes: u32) -> u32 {
    (bytes / 256).checked_ilog2().unwrap_or(0) + 1
}

impl Ends<'_> {
    fn gids(&self) -> (&Gid, &Gid, u8) {
        let (a, b) = self.rail.gids;
        (&self.here.card.gids[a], &self.there.gids[b], self.here.gid_indices[a])
    }

    /// The way to the peer: by GID on Ethernet and across subnets, by LID inside a subnet of InfiniBand.
    fn way(&self) -> ibv_ah_attr {
        let (ours, theirs, index) = self.gids();
        // SAFETY: a struct of numbers, for which zero is a value.
        let mut way: ibv_ah_attr = unsafe { std::mem::zeroed() };
        way.port_num = self.here.card.number;
        way.dlid = self.there.lid;
        if ours.kind != Kind::InfiniBand || ours.bytes[..8] != theirs.bytes[..8] {
            way.is_global = 1;
            way.grh = ibv_global_route {
                dgid: ibv_gid { raw: theirs.bytes },
                flow_label: 0,
                sgid_index: index,
                hop_limit: HOPS,
                traffic_class: 0,
            };
        }
        way
    }

    fn wire(&self, local_qp: u32) -> Wire {
        let (ours, theirs, index) = self.gids();
        let (local_address, remote_address) = match ours.kind {
            Kind::InfiniBand => {
                (format!("LID {}", self.here.card.lid), format!("LID {}", self.there.lid))
            }
            _ => (format!("GID {index} {ours}"), format!("GID {theirs}")),
        };
        Wire {
            peer: self.peer,
            local: (self.here.card.device.clone(), self.here.card.number),
            local_qp,
            local_address,
            remote: (self.there.device.clone(), self.there.number),
            remote_qp: self.theirs.0,
            remote_address,
            mtu: self.rail.mtu,
        }
    }
}

#[cfg(test)]
impl Queue {
    /// What is said when an attribute is left out on the way to RTS.
    pub(crate) fn reach_without_timeout(&self) -> String {
        let mask = State::Rts.mask() & !rdma_sys::ibv_qp_attr_mask::IBV_QP_TIMEOUT.0.cast_signed();
        let error = self.qp.as_ref().unwrap().modify(&mut attr_of(State::Rts), mask).unwrap_err();
        State::Rts.explain(format!("QP {}", self.number), mask, error).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_name_their_queue_and_request() {
        assert_eq!(queue_of(wr_id(0, 1)), Some(0));
        assert_eq!(queue_of(wr_id(70_000, SERIAL + 5)), Some(70_000));
        assert_eq!(queue_of(0), None);
    }

    #[test]
    fn mtus_have_the_numbers_of_the_header() {
        let numbers = [256, 512, 1024, 2048, 4096].map(mtu_number);
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
    }
}
