//! Rehearses how the ranks of a job meet: very many ranks in this process, with the messages, the handshakes and the state
//! machines of real ones, over streams of bytes in memory.
//!
//! Every simulated process has a desk (`control/desk.rs`), as the control thread of a real one; what a joining thread does
//! in between is done here. A real process has one rank usually, or a few: the ranks of one process get the table of members
//! over one link. Whatever is the same in all processes is kept once here.
//!
//! ```
//! use dure::rehearsal::{Rehearsal, Trouble};
//!
//! let job = Rehearsal::of(20).run();
//! assert!(job.errors().next().is_none() && job.digests().len() == 1);
//!
//! let job = Rehearsal { trouble: Some(Trouble::Missing(7)), ..Rehearsal::of(20) }.run();
//! let (_, error) = job.errors().next().unwrap();
//! assert_eq!(error.what, "rank 7 never came (19 of 20 did)");
//! ```

#![allow(clippy::disallowed_types, reason = "control plane, not on the data path")]

mod post;
mod process;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::post::{Parcel, Post, Slot};
use self::process::{Process, Seat};
use crate::bootstrap::table::Table;
use crate::bootstrap::wire::{HostId, Member};
use crate::config::Config;
use crate::control::agreed;
use crate::error::{Error, Result};
use crate::hardware::Hardware;
use crate::unique_id::UniqueId;

/// Bytes that a rank with shared memory, and TCP at two addresses, wants all others to know.
const OFFER: usize = 72;
/// What ranks listen at.
const PORT: u16 = 4791;
/// How long ranks wait for the others. No time passes while something moves.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// Number of ranks.
    pub ranks: u32,
    /// Ranks of one process, at least 1: neighbours in their order.
    pub per_process: u32,
    /// Threads that work, at least 1.
    pub threads: usize,
    /// What goes wrong.
    pub trouble: Option<Trouble>,
}

/// What goes wrong. None of them may be rank 0 or a rank that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This rank has another secret.
    WrongSecret(u32),
    /// This rank never comes.
    Missing(u32),
    /// Two processes say that they are this rank.
    Twice(u32),
}

impl Rehearsal {
    /// So many ranks, each in a process of its own, two threads, and no trouble.
    pub fn of(ranks: u32) -> Self {
        Self { ranks, per_process: 1, threads: 2, trouble: None }
    }

    /// Lets the ranks meet. Returns when nothing moves any more.
    ///
    /// # Panics
    /// When there are no ranks, or a number of 0 is given where 1 is the least.
    pub fn run(&self) -> Job {
        assert!(self.ranks > 0 && self.per_process > 0 && self.threads > 0, "{self:?}");
        let root = [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))];
        let id = UniqueId::random(PORT, &root).expect("the system has random bytes");
        let processes = self.processes(id);
        let post = Post::new(processes.len());
        let mut job = Job { processes, carried: 0 };
        let now = Instant::now();
        // The last is the first to start: the root's, or the one too many, so that it does not come too late.
        let count = self.ranks.div_ceil(self.per_process);
        let more = (count..).take(job.processes.len() - count as usize);
        (0..count).rev().chain(more).for_each(|process| post.send(process, Parcel::Start));
        post.run(&job.processes, self.threads, now);
        if !job.is_over() {
            // What is missing now is missing for good.
            let later = now + PATIENCE;
            let mut sent = Vec::new();
            job.processes[0].lock().expire(&mut sent, later);
            sent.into_iter().for_each(|(to, parcel)| post.send(to, parcel));
            post.run(&job.processes, self.threads, later);
        }
        job.carried = post.carried();
        job
    }

    /// The processes, that of the root first, before any of them does anything.
    fn processes(&self, id: UniqueId) -> Vec<Slot> {
        let agreed = Arc::new(agreed(&Config::default()));
        let count = self.ranks.div_ceil(self.per_process);
        let twice = matches!(self.trouble, Some(Trouble::Twice(_)));
        let process = |number: u32| {
            let secret = self.trouble.filter(|_| number < count);
            let first = number.saturating_mul(self.per_process);
            let mut ranks: Vec<u32> = (first..self.ranks).take(self.per_process as usize).collect();
            match self.trouble {
                Some(Trouble::Missing(missing)) => ranks.retain(|rank| *rank != missing),
                Some(Trouble::Twice(rank)) if number == count => ranks = vec![rank],
                _ => {}
            }
            let seats = ranks.into_iter().map(|rank| {
                let mut id = id;
                if secret == Some(Trouble::WrongSecret(rank)) {
                    id.0[10] ^= 1;
                }
                Seat::new(id, member(rank, number))
            });
            let per_process = self.per_process;
            let process = Process::new(
                number,
                (self.ranks, per_process),
                seats.collect(),
                Arc::clone(&agreed),
            );
            Slot::new(process)
        };
        let processes: Vec<_> = (0..count + u32::from(twice)).map(process).collect();
        processes[0].lock().serve(&id);
        processes
    }
}

/// A rank, as real ones look: each process on a host of its own.
fn member(rank: u32, process: u32) -> Member {
    let [a, b, c, d] = process.to_be_bytes();
    let address = |net| IpAddr::V4(Ipv4Addr::new(net, b, c, d));
    let mark = |i: usize| rank.to_le_bytes()[i % 4] ^ u8::try_from(i % 251).expect("below 251");
    Member {
        rank,
        host: HostId {
            boot: [a, b, c, d].repeat(4).try_into().expect("four times four"),
            namespace: 4_026_531_840,
        },
        hostname: format!("node{process:05}"),
        pid: 1000 + rank,
        port: PORT,
        addresses: vec![address(10), address(172)],
        offer: (0..OFFER).map(mark).collect(),
        hardware: Hardware { processors: vec![u64::MAX], cores: 64, megabits: 400_000 },
    }
}

/// Ranks that have met, or have been told why not. It holds all that real ranks would.
#[derive(Debug)]
pub struct Job {
    processes: Vec<Slot>,
    carried: u64,
}

impl Job {
    /// Number of ranks that got in.
    pub fn joined(&self) -> usize {
        self.results().filter(|(_, result)| result.is_ok()).count()
    }

    /// The ranks that did not get in, with what they were told.
    pub fn errors(&self) -> impl Iterator<Item = (u32, Error)> {
        self.results().filter_map(|(rank, result)| Some((rank, result.err()?)))
    }

    /// The digests of the tables of members of all ranks that got in, as hexadecimal digits: one, when all is well.
    pub fn digests(&self) -> BTreeSet<String> {
        let hex = |table: Table| table.digest().iter().map(|byte| format!("{byte:02x}")).collect();
        self.results().filter_map(|(_, result)| Some(hex(result.ok()?))).collect()
    }

    /// Bytes that went over all connections together.
    pub fn carried(&self) -> u64 {
        self.carried
    }

    /// What each rank has got: the table of members.
    fn results(&self) -> impl Iterator<Item = (u32, Result<Table>)> {
        self.processes.iter().flat_map(|process| process.lock().results())
    }

    /// The ranks that each rank has links to.
    #[cfg(test)]
    fn links(&self) -> impl Iterator<Item = (u32, BTreeSet<u32>)> {
        self.processes.iter().flat_map(|process| process.lock().links())
    }

    fn is_over(&self) -> bool {
        self.processes.iter().all(|process| process.lock().is_over())
    }
}
