//! Rails that are suspect: requests failed on them while the ports of both sides were up. Whoever suspects one tries it with
//! an empty write now and then; when that passes, it is used again.

use std::time::{Duration, Instant};

use dure_transport::Peer;

use crate::card::{QueueNumbers, Statement};
use crate::join::Link;
use crate::neighbour::Neighbour;
use crate::region::index;
use crate::transport::Rdma;

/// How often a suspect rail is tried: longer than the kernel takes to find that a neighbour does not answer.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// When the side that is to answer connects: the kernel has found by then whether the neighbour is there. Before, the verb
/// might wait for it, and all traffic with it.
const ANSWERS_AFTER: Duration = Duration::from_secs(4);
/// A rail that is not used though both sides have it, because one suspects it.
#[derive(Debug)]
pub(crate) struct Probe {
    due: Instant,
    theirs: QueueNumbers,
    /// This side suspects it, and tries it.
    tries: bool,
    /// Its queue pair is connected.
    connected: bool,
    /// Its queue pair has been connected, and has failed.
    failed: bool,
    way: Neighbour,
}

impl Rdma {
    /// Notes which rails are to be tried.
    pub(crate) fn note_probes(&mut self, peer: Peer, bits: u8, statement: &Statement) {
        let Some(pair) = self.pair(peer) else { return };
        let tried = self.present(pair) & statement.present & !bits;
        let Some(Link::There(pair)) = self.links.get_mut(index(peer.0)) else { return };
        for (place, rail) in pair.rails.iter().enumerate() {
            let tries = pair.change.suspects & 1 << place != 0;
            let wait = if tries { PROBE_EVERY } else { ANSWERS_AFTER };
            let probe = || Probe {
                due: Instant::now() + wait,
                theirs: statement.queues[place],
                tries,
                connected: false,
                failed: false,
                way: rail.neighbour(&self.nics, &pair.there),
            };
            pair.change.probes[place] = (tried & 1 << place != 0).then(probe);
        }
    }

    /// Tries suspect rails.
    pub(crate) fn probe(&mut self, peer: Peer) {
        let Some(pair) = self.pair(peer) else { return };
        if pair.change.probes.iter().all(Option::is_none) {
            return;
        }
        let now = Instant::now();
        for rail in 0..pair.rails.len() {
            let Some(pair) = self.pair_mut(peer) else { return };
            let at = pair.queue(0, rail);
            let Some(probe) = pair.change.probes[rail].as_mut() else { continue };
            if now < probe.due || !probe.tries && probe.connected {
                continue;
            }
            probe.due = now + PROBE_EVERY;
            if probe.way.is_gone() {
                continue;
            }
            if !probe.connected {
                let (theirs, failed) = (probe.theirs, probe.failed);
                self.connect_probe(peer, (rail, at), theirs, failed);
            }
            let tries = self.pair(peer).and_then(|pair| pair.change.probes[rail].as_ref());
            if tries.is_some_and(|probe| probe.tries && probe.connected)
                && self.queues[at].is_idle()
            {
                self.post_marker(at);
            }
        }
    }

    fn connect_probe(
        &mut self,
        peer: Peer,
        (rail, at): (usize, usize),
        theirs: QueueNumbers,
        again: bool,
    ) {
        let connected = self.connect_queue(peer, at, theirs, again);
        if let Err(error) = &connected {
            tracing::debug!(target: "dure::net", error = error.chain(), "a rail cannot be tried");
        }
        let probe = self.pair_mut(peer).and_then(|pair| pair.change.probes[rail].as_mut());
        if let Some(probe) = probe {
            probe.connected = connected.is_ok();
            probe.failed = connected.is_err();
        }
    }

    /// The peer and rail of a queue pair that only tries whether its rail works.
    pub(crate) fn probed(&self, at: usize) -> Option<(Peer, usize)> {
        let (peer, rail) = (Peer(self.queues[at].peer), self.queues[at].rail);
        let probed = self.pair(peer).is_some_and(|pair| pair.change.probes[rail].is_some());
        probed.then_some((peer, rail))
    }

    /// A suspect rail works, or does not.
    pub(crate) fn probe_ended(&mut self, at: usize, (peer, rail): (Peer, usize), passed: bool) {
        let queue = &self.queues[at];
        let what = queue.wire.as_ref().map_or_else(String::new, ToString::to_string);
        let (nic, reports) = (queue.nic, queue.reports);
        let Some(pair) = self.pair_mut(peer) else { return };
        if passed {
            pair.change.probes[rail] = None;
            pair.change.suspects &= !(1 << rail);
            pair.change.why = format!("puts pass again on {what}");
            self.look = true;
            return;
        }
        if let Some(probe) = &mut pair.change.probes[rail] {
            (probe.connected, probe.failed) = (false, true);
        }
        self.queues[at].forget_reports();
        self.nics[nic].outstanding -= reports;
    }
}
