//! What a communicator takes of memory: of what it allocates, the pages that were touched.

use dure_device::host::resident;
pub use dure_pool::Usage as ProcessFootprint;

use crate::bootstrap::wire::Member;
use crate::communicator::Communicator;

/// What this rank's part of a communicator takes of memory, in bytes. From [`Communicator::memory`].
///
/// What the kernel holds is not in it: buffers of sockets (which are empty while nothing is under way, and grow to the limits
/// in `/proc/sys/net/ipv4/tcp_rmem` and `tcp_wmem`), descriptors, page tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footprint {
    /// The peers that this rank is connected to. A peer is connected to by the first call whose plan needs it.
    pub peers: Vec<PeerFootprint>,
    /// Memory of calls under way that is kept for the next: scratch, and copies of what is sent from elsewhere.
    pub scratch: u64,
    /// What [`Communicator::alloc`] gave and [`Communicator::deregister`] did not end.
    pub allocated: u64,
    /// Plans, and the calls that were made before.
    pub plans: u64,
    /// The flight record, and what is remembered of calls for peers that ask.
    pub records: u64,
    /// Names and addresses of the ranks.
    pub ranks: u64,
    /// What all communicators of this process share. All zero as long as the process has no peer on its host.
    pub process: ProcessFootprint,
}

/// What one connected peer takes of this rank's memory, in bytes. It takes as much of the peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerFootprint {
    /// The peer.
    pub rank: u32,
    /// Name of the transport that reaches it.
    pub transport: &'static str,
    /// The slots for its messages: what was touched of them. Long messages touch more.
    pub slots: u64,
    /// Addresses that the slots take, which bound `slots`.
    pub reserved: u64,
}

impl Footprint {
    /// All of it together, but for what the process shares and for addresses: what this rank would give back.
    pub fn total(&self) -> u64 {
        let slots: u64 = self.peers.iter().map(|peer| peer.slots).sum();
        slots + self.scratch + self.allocated + self.plans + self.records + self.ranks
    }
}

impl Communicator {
    /// What this rank's part of the communicator takes of memory now. Waits until no other thread is inside a call.
    pub fn memory(&self) -> Footprint {
        let engine = self.inner.engine();
        let executor = &engine.executor;
        let peers = executor.inboxes().map(|(peer, slots)| PeerFootprint {
            rank: peer.0,
            transport: self.transport_to(peer.0),
            slots: resident(slots),
            reserved: slots.len as u64,
        });
        let flight: usize = executor.recorders().iter().map(dure_exec::Recorder::bytes).sum();
        Footprint {
            peers: peers.collect(),
            scratch: executor.scratch().map(resident).sum(),
            allocated: executor.allocated().map(resident).sum(),
            plans: engine.plans() as u64,
            records: (flight + self.inner.record().bytes()) as u64,
            ranks: self.inner.members.iter().map(bytes).sum(),
            process: dure_pool::usage(),
        }
    }
}

/// Memory of what is known of a rank. The transport has its offer once more.
fn bytes(member: &Member) -> u64 {
    let Member { hostname, addresses, offer, .. } = member;
    let lists = hostname.len() + size_of_val(&addresses[..]) + 2 * offer.len();
    (size_of::<Member>() + lists) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_rank_without_peers_has_next_to_nothing() {
        let alone = Communicator::builder().connect().unwrap();
        let memory = alone.memory();
        assert!(memory.peers.is_empty() && memory.total() < 4096, "{memory:?}");
        let (registration, bytes) = alone.alloc(1 << 20).unwrap();
        assert_eq!(bytes.len, 1 << 20);
        assert!(alone.memory().allocated <= 1 << 20);
        alone.deregister(registration);
        assert_eq!(alone.memory().allocated, 0);
    }

    #[test]
    fn slots_of_connected_peers_and_plans_are_counted() {
        let ranks = Communicator::init_all(3, &Config::default()).unwrap();
        let before = ranks[0].memory();
        assert!(before.peers.is_empty() && before.plans == 0);
        assert!(before.process.segment > 0 && before.process.reserved > 0);
        let all = |elements: usize| {
            std::thread::scope(|scope| {
                for rank in &ranks {
                    let mut data = vec![1_i32; elements];
                    scope.spawn(move || rank.all_reduce(&mut data, crate::ReduceOp::Sum).unwrap());
                }
            });
            ranks[0].memory()
        };
        let after = all(1);
        let peer = after.peers.first().unwrap();
        assert_eq!(peer.transport, "pool");
        assert!(peer.slots > 0 && peer.slots < 64 << 10 && peer.reserved > 1 << 20, "{peer:?}");
        assert!(after.plans > 0 && after.total() > before.total());
        // Longer messages touch more of the slots, never more than there is.
        let longer = all(100_000);
        assert!(longer.total() > after.total(), "{after:?} {longer:?}");
        assert!(longer.peers.iter().all(|peer| peer.slots <= peer.reserved));
    }

    #[test]
    fn peers_over_sockets_are_counted_too() {
        let config = Config::from_pairs([("DURE_TRANSPORT", "tcp")]).unwrap();
        let ranks = Communicator::init_all(2, &config).unwrap();
        std::thread::scope(|scope| {
            for rank in &ranks {
                scope.spawn(|| rank.all_reduce(&mut [1_u64; 64], crate::ReduceOp::Sum).unwrap());
            }
        });
        let memory = ranks[1].memory();
        let [peer] = &memory.peers[..] else { panic!("{memory:?}") };
        assert_eq!((peer.rank, peer.transport), (0, "tcp"));
        assert!(peer.slots > 0 && peer.slots <= peer.reserved, "{peer:?}");
    }
}
