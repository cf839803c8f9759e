//! A transport within one process, under a clock that only its driver moves.
//!
//! All ranks of a [`World`] live in one thread. What a rank posts is delivered later, at a time drawn from the seed:
//! late, in pieces, and in any order except the one that the contract promises. A driver polls its ranks, and moves the
//! clock with [`World::step`] when none of them gets further. The same seed and the same calls give the same run.
//!
//! The transport is as unkind as the contract allows. The body of a pending put is read when the network gets to it
//! and not before, so that a source reused too early arrives wrong; the first half of a put lands before the second;
//! a connection is up at one side before it is at the other.
//!
//! ```
//! use dure_transport::simulated::{Options, World};
//! use dure_transport::{Card, Event, Peer};
//!
//! let (world, mut ranks) = World::new(2, &Options { seed: 1, ..Options::default() });
//! let address = [ranks[0].address(), ranks[1].address()];
//! ranks[0].connect(Peer(1), &address[1], &Card::default())?;
//! ranks[1].connect(Peer(0), &address[0], &Card::default())?;
//! let mut events = Vec::new();
//! while events.is_empty() {
//!     assert!(world.step(), "something is still to come");
//!     ranks[0].poll(&mut events);
//! }
//! assert!(matches!(events[0], Event::Up { peer: Peer(1), .. }));
//! # Ok::<(), dure_transport::Error>(())
//! ```

mod net;
mod random;
#[expect(unsafe_code, reason = "keeps allocations together with their addresses")]
mod rank;
#[expect(unsafe_code, reason = "takes the promise of whoever registers memory")]
mod transport;

use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};

use self::net::Net;
use self::transport::Simulated;
use crate::{Peer, Transport};

/// What a [`World`] is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// Name of the transport, so that worlds side by side can be told apart.
    pub name: &'static str,
    /// From the start of a delivery to its end, in nanoseconds; drawn anew for each.
    pub latency: Range<u64>,
    /// Puts that a flow between two peers holds before it is [`Full`](crate::Full).
    pub queue: usize,
    /// [`Caps::head`](crate::Caps::head).
    pub head: usize,
    /// [`Caps::gather`](crate::Caps::gather).
    pub gather: usize,
    /// [`Caps::flows`](crate::Caps::flows).
    pub flows: u16,
    /// How many of 100 puts with a body are [`Pending`](crate::Posted::Pending).
    pub pending: u8,
    /// [`Caps::user_memory`](crate::Caps::user_memory).
    pub user_memory: bool,
    /// [`Caps::unattended`](crate::Caps::unattended): otherwise arrivals wait for the receiver's poll, as with TCP.
    pub unattended: bool,
    /// Whether [`Transport::window`] gives the peer's allocated memory.
    pub window: bool,
    /// [`Caps::coherent`](crate::Caps::coherent), and [`Transport::read`]; only with windows.
    pub coherent: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            name: "simulated",
            latency: 1_000..20_000,
            queue: 16,
            head: 64,
            gather: 4,
            flows: 2,
            pending: 70,
            user_memory: true,
            unattended: false,
            window: false,
            coherent: false,
        }
    }
}

impl Options {
    /// Peers that see each other's stores, as in shared memory.
    pub fn coherent() -> Self {
        Self { window: true, coherent: true, user_memory: false, ..Self::default() }
    }
}

/// The driver's hand on a simulated network: its clock and its faults.
#[derive(Clone, Debug)]
pub struct World {
    net: Shared,
}

impl World {
    /// A network of `ranks` ranks, none of them connected; the transport of rank `r` is the `r`-th.
    pub fn new(ranks: u32, options: &Options) -> (Self, Vec<Box<dyn Transport>>) {
        let net = Shared::new(Net::new(ranks, options.clone()));
        let transports =
            (0..ranks).map(|me| Box::new(Simulated::new(net.clone(), me)) as Box<dyn Transport>);
        (Self { net: net.clone() }, transports.collect())
    }

    /// Nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.net.lock().now()
    }

    /// Moves the clock to the next thing that happens, and lets it happen. False when nothing will happen until
    /// somebody calls a transport.
    pub fn step(&self) -> bool {
        self.net.lock().step()
    }

    /// Moves the clock by `nanoseconds`, and lets happen what happens until then.
    pub fn advance(&self, nanoseconds: u64) {
        self.net.lock().advance(nanoseconds);
    }

    /// Ends a rank at once, as a signal would: what it posted and is not delivered never arrives. Its transport takes
    /// everything from here on and does nothing; the others lose it after a while.
    pub fn kill(&self, rank: Peer) {
        self.net.lock().kill(rank.0);
    }

    /// Holds up everything between two ranks, in both directions, until [`World::heal`]. Nobody is told.
    pub fn partition(&self, a: Peer, b: Peer) {
        self.net.lock().partition(a.0, b.0);
    }

    /// Ends a partition: what was held up arrives now.
    pub fn heal(&self, a: Peer, b: Peer) {
        self.net.lock().heal(a.0, b.0);
    }

    /// Makes everything from and to a rank take `factor` times as long, from here on.
    pub fn slow(&self, rank: Peer, factor: u64) {
        self.net.lock().slow(rank.0, factor);
    }
}

#[expect(
    clippy::disallowed_types,
    reason = "a transport for tests: `Send` asks for a lock, speed for nothing"
)]
type Lock = std::sync::Mutex<Net>;

/// The network, which the ranks and the driver share.
#[derive(Clone, Debug)]
struct Shared(Arc<Lock>);

impl Shared {
    fn new(net: Net) -> Self {
        Self(Arc::new(Lock::new(net)))
    }

    /// A test that fails while it holds the network still drops its transports: poison says nothing here.
    fn lock(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
