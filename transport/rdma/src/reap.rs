//! What completes: puts of this side, signals of peers, and errors.

use std::ffi::c_void;

use dure_transport::{Event, Peer};
use rdma_sys::{ibv_wc, ibv_wc_opcode, ibv_wc_status};

use crate::counters::Moved;
use crate::error::{Completion, Error};
use crate::join::{Link, NOT_EXPOSED, Note};
use crate::queue::queue_of;
use crate::region::index;
use crate::status::Evidence;
use crate::transport::{BATCH, Rdma};

/// Batches taken from one queue in one poll: whoever floods this rank does not keep it from anything else.
const BATCHES: usize = 16;
/// Messages of a flow that may wait for the parts of an earlier one; more is no mistake any more.
const WAITING: usize = 1 << 16;

impl Rdma {
    /// Takes what has completed. True when there was something.
    pub(crate) fn reap(&mut self, events: &mut Vec<Event>) -> bool {
        let mut found = false;
        for nic in 0..self.nics.len() {
            for _ in 0..BATCHES {
                let count = self.reap_batch(nic, events);
                found |= count > 0;
                if count < BATCH {
                    break;
                }
            }
        }
        found
    }

    #[inline]
    fn reap_batch(&mut self, nic: usize, events: &mut Vec<Event>) -> usize {
        if self.nics[nic].is_dead {
            return 0;
        }
        let count = match self.nics[nic].cq.poll(&mut self.completions) {
            Ok(count) => count,
            Err(error) => {
                self.lose_nic(nic, &error, events);
                return 0;
            }
        };
        if count == 0 {
            return 0;
        }
        let completions = std::mem::take(&mut self.completions);
        for completion in &completions[..count] {
            self.complete(nic, completion, events);
        }
        self.completions = completions;
        count
    }

    fn complete(&mut self, nic: usize, completion: &ibv_wc, events: &mut Vec<Event>) {
        if completion.status != ibv_wc_status::IBV_WC_SUCCESS {
            return self.fail(nic, completion, events);
        }
        match queue_of(completion.wr_id) {
            Some(at) if self.queues[at].number != completion.qp_num => {}
            Some(at) => self.sent(nic, at, completion.wr_id, events),
            None => self.received(nic, completion, events),
        }
    }

    /// Requests of a queue pair are done.
    fn sent(&mut self, nic: usize, at: usize, wr_id: u64, events: &mut Vec<Event>) {
        // Of a peer that was lost meanwhile nothing is counted any more.
        if !self.queues[at].is_alive() {
            return;
        }
        self.nics[nic].outstanding -= 1;
        self.queues[at].complete(wr_id);
        if let Some(probed) = self.probed(at) {
            return self.probe_ended(at, probed, true);
        }
        while let Some(done) = self.queues[at].next_done() {
            if let Some((bytes, posted)) = done.timed {
                let (peer, turn) = (Peer(self.queues[at].peer), self.queues[at].turn);
                if let Some(pair) = self.pair_mut(peer) {
                    pair.in_use.measured(turn, bytes, posted.elapsed());
                }
            }
            let flight = &mut self.flights[done.flight];
            flight.parts -= 1;
            if flight.parts == 0 {
                let (peer, flow) = flight.owner();
                self.retire(peer, usize::from(flow.0), events);
            }
        }
    }

    /// Forgets the messages of a flow that have arrived, in order.
    fn retire(&mut self, peer: Peer, flow: usize, events: &mut Vec<Event>) {
        loop {
            let Some(Link::There(pair)) = self.links.get_mut(index(peer.0)) else { return };
            let Some(place) = pair.lanes[flow].retire(&self.flights) else { return };
            events.extend(self.free(place).map(Event::Sent));
        }
    }

    /// A peer's immediate arrived.
    fn received(&mut self, nic: usize, completion: &ibv_wc, events: &mut Vec<Event>) {
        if let Err(error) = self.nics[nic].take_receive() {
            return self.lose_nic(nic, &error, events);
        }
        if completion.opcode != ibv_wc_opcode::IBV_WC_RECV_RDMA_WITH_IMM {
            return;
        }
        // SAFETY: a receive of this opcode has an immediate.
        let word = u32::from_be(unsafe { completion.imm_data_invalidated_rkey_union.imm_data });
        let Some(queue) = self.nics[nic].queues.get(&completion.qp_num) else { return };
        let queue = &self.queues[*queue];
        let (peer, flow, turn) = (Peer(queue.peer), queue.flow, queue.turn);
        let Some(Link::There(pair)) = self.links.get_mut(index(peer.0)) else { return };
        let (order, counters) = (&mut pair.lanes[usize::from(flow)].order, &mut self.counters);
        let mut forged = false;
        order.arrive(turn, word, |signal| {
            let counter = counters.get_mut(index(signal)).and_then(Option::as_mut);
            match counter.filter(|counter| counter.from == peer) {
                Some(counter) => counter.value += 1,
                None => forged = true,
            }
        });
        if forged || order.waiting() > WAITING {
            let what = if forged {
                "a signal that is not the peer's to bump"
            } else {
                "messages without the parts that belong to them"
            };
            self.give_up(peer, dure_transport::Error::Protocol { what }, Note::GivenUp, events);
        }
    }

    /// A request failed, and with it its queue pair.
    fn fail(&mut self, nic: usize, completion: &ibv_wc, events: &mut Vec<Event>) {
        // Whose place another has taken meanwhile is over.
        let is_there = |at: &usize| self.queues[*at].number == completion.qp_num;
        let sent = queue_of(completion.wr_id).filter(is_there);
        let received = || self.nics[nic].queues.get(&completion.qp_num).copied();
        let Some(at) = sent.or_else(received) else { return };
        if let Some(probed) = self.probed(at) {
            return self.probe_ended(at, probed, false);
        }
        let queue = &self.queues[at];
        let (peer, rail) = (Peer(queue.peer), queue.rail);
        if self.pair(peer).is_none_or(|pair| pair.change.is_under_way()) {
            return;
        }
        let Some(wire) = queue.wire.as_deref().filter(|_| queue.is_alive()) else { return };
        let moved = self.nics[nic].before.moved();
        let len = queue.first_pending().map_or(0, |pending| pending.len);
        let evidence = Evidence {
            acknowledged: queue.completed > 0,
            link_errors: moved.iter().flatten().any(Moved::is_link_error),
            large: queue.completed > 0 && len > wire.mtu.into() && queue.longest <= wire.mtu.into(),
        };
        let error = Error::Completion(Box::new(Completion {
            what: if sent.is_some() { "a put" } else { "a receive" },
            wire: wire.clone(),
            status: completion.status,
            vendor: completion.vendor_err,
            moved,
            evidence,
        }));
        if [ibv_wc_status::IBV_WC_REM_ACCESS_ERR, ibv_wc_status::IBV_WC_REM_INV_REQ_ERR]
            .contains(&completion.status)
        {
            return self.give_up(peer, error.into(), Note::Blamed, events);
        }
        self.rail_failed(peer, rail, error, events);
    }

    /// Hears what the devices report outside of completion queues.
    pub(crate) fn hear_devices(&mut self, events: &mut Vec<Event>) {
        for nic in 0..self.nics.len() {
            while let Some(event) = self.nics[nic].context.async_event() {
                self.hear_device(nic, event.kind, event.element, events);
            }
        }
    }

    fn hear_device(
        &mut self,
        nic: usize,
        kind: u32,
        element: *mut c_void,
        events: &mut Vec<Event>,
    ) {
        let name = event_name(kind);
        if kind == DEVICE_FATAL {
            let error = Error::Event { event: name, wire: self.nics[nic].card.device.clone() };
            return self.lose_nic(nic, &error, events);
        }
        if [PORT_ACTIVE, PORT_ERR].contains(&kind) {
            // The header's union holds a number of 32 bits here.
            return self.hear_port(nic, element.addr() & 0xffff_ffff);
        }
        let queue = self.queues.iter().find(|queue| queue.is_named(element));
        let queue = queue.filter(|_| QUEUE_FAILED.contains(&kind));
        let Some(wire) = queue.and_then(|queue| queue.wire.as_deref()) else {
            let device = &self.nics[nic].card.device;
            return tracing::debug!(target: "dure::net", device, event = name, "a device reports");
        };
        let (peer, rail) = (Peer(wire.peer), queue.map_or(0, |queue| queue.rail));
        let error = Error::Event { event: name, wire: wire.to_string() };
        if REFUSED.contains(&kind) {
            tracing::debug!(target: "dure::net", %error, "a peer's request was refused");
            let what = NOT_EXPOSED;
            return self.give_up(
                peer,
                dure_transport::Error::Protocol { what },
                Note::GivenUp,
                events,
            );
        }
        self.rail_failed(peer, rail, error, events);
    }

    /// Has the completion queues ring. True when something has completed already.
    pub(crate) fn arm_completions(&mut self, events: &mut Vec<Event>) -> bool {
        for nic in 0..self.nics.len() {
            let entry = &mut self.nics[nic];
            while entry.armed && entry.cq.take_ring() {
                entry.armed = false;
            }
            if entry.armed || entry.is_dead {
                continue;
            }
            match entry.cq.notify() {
                Ok(()) => entry.armed = true,
                Err(error) => self.lose_nic(nic, &error, events),
            }
        }
        // What completed before the queue was asked to ring does not ring.
        self.reap(events)
    }
}

const DEVICE_FATAL: u32 = 8;
const PORT_ACTIVE: u32 = 9;
const PORT_ERR: u32 = 10;
/// Events that end a queue pair: fatal, request error, access error.
const QUEUE_FAILED: [u32; 3] = [1, 2, 3];
/// Those of them that the peer caused.
const REFUSED: [u32; 2] = [2, 3];

/// Names of `ibv_event_type` by number.
fn event_name(kind: u32) -> &'static str {
    const NAMES: [&str; 20] = [
        "IBV_EVENT_CQ_ERR",
        "IBV_EVENT_QP_FATAL",
        "IBV_EVENT_QP_REQ_ERR",
        "IBV_EVENT_QP_ACCESS_ERR",
        "IBV_EVENT_COMM_EST",
        "IBV_EVENT_SQ_DRAINED",
        "IBV_EVENT_PATH_MIG",
        "IBV_EVENT_PATH_MIG_ERR",
        "IBV_EVENT_DEVICE_FATAL",
        "IBV_EVENT_PORT_ACTIVE",
        "IBV_EVENT_PORT_ERR",
        "IBV_EVENT_LID_CHANGE",
        "IBV_EVENT_PKEY_CHANGE",
        "IBV_EVENT_SM_CHANGE",
        "IBV_EVENT_SRQ_ERR",
        "IBV_EVENT_SRQ_LIMIT_REACHED",
        "IBV_EVENT_QP_LAST_WQE_REACHED",
        "IBV_EVENT_CLIENT_REREGISTER",
        "IBV_EVENT_GID_CHANGE",
        "IBV_EVENT_WQ_FATAL",
    ];
    usize::try_from(kind).ok().and_then(|at| NAMES.get(at)).unwrap_or(&"an unknown event")
}
