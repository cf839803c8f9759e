//! The control plane: joining a job, breaking it, asking, leaving.
//!
//! ```text
//!   any thread of the process                          dure-control, one a process
//!   -------------------------                          ---------------------------
//!   new_unique_id, serve_root ------- order ---------> roots: check-ins, verdicts
//!   join: check in, dial the parent (blocks)           links of the tree, of all communicators
//!         and wait ---------------- shared state <---- table, gathers, first error, goodbyes
//!   ask: a connection of its own (blocks) -----------> record: what the rank is doing
//! ```
//!
//! The data path sees none of this but [`Fault`](crate::fault::Fault) and [`Record`](crate::record::Record).

#![allow(clippy::disallowed_types, reason = "control plane, not on the data path")]

mod desk;
mod join;
mod link;
mod node;
mod service;
mod shared;
mod thread;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_tcp::{Kind, Preamble};

pub(crate) use self::desk::{Caller, Desk};
pub(crate) use self::join::{
    agreed, calling_parent, calling_root, join, new_unique_id, serve_root,
};
pub(crate) use self::link::Broken;
use self::link::{Link, purpose};
pub(crate) use self::node::Token;
pub(crate) use self::service::CHECK_IN;
pub(crate) use self::shared::Shared;
use self::shared::State;
use self::thread::{Command, Thread};
pub(crate) use self::thread::{Entry, Here, Name};
use crate::bootstrap::noise::Noise;
use crate::bootstrap::wire::{self, BadMessage, HostId, Member, Packed, Question};
use crate::error::{Error, Result};
use crate::record::Answer;

/// What a rank gets when it has joined.
#[derive(Debug)]
pub(crate) struct Joined {
    /// All ranks, in order.
    pub(crate) members: Arc<[Member]>,
    /// The rank's handle.
    pub(crate) control: Arc<Control>,
}

/// One rank's handle on the control plane of its communicator. Dropping it says goodbye.
#[derive(Debug)]
pub(crate) struct Control {
    shared: Arc<Shared>,
    thread: Arc<Thread>,
    members: Arc<[Member]>,
    name: Name,
    key: [u8; 32],
    host: HostId,
}

impl Control {
    /// What the rank shares with the control thread.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Breaks the communicator: on this rank at once, on the others as soon as they hear of it. Only the first error of
    /// each rank counts. Returns when it is on its way.
    pub(crate) fn raise(&self, error: Error) {
        let error = if error.rank.is_none() { error.on(self.shared.rank) } else { error };
        let shared = Arc::clone(&self.shared);
        shared.break_with(error.clone());
        // What the control thread cannot do now, it does later; nothing depends on it here.
        let _ = self.thread.carry_out(Command::Raise { shared, error });
    }

    /// Breaks the communicator on purpose; every rank's waiting calls return.
    pub(crate) fn abort(&self) {
        let rank = self.shared.rank;
        self.raise(Error::aborted(format!("rank {rank} aborted the communicator")).about(rank));
    }

    /// Says goodbye: the end of this process is no fault of the communicator from here on. Until all ranks have said
    /// it, the control thread goes on passing on what others say.
    pub(crate) fn leave(&self) {
        self.shared.record.set_left();
        let shared = Arc::clone(&self.shared);
        let _ = self.thread.carry_out(Command::Leave { shared });
    }

    /// Whether a rank said goodbye.
    pub(crate) fn has_left(&self, rank: u32) -> bool {
        self.shared.state().left.contains(&rank)
    }

    /// Gives bytes to all ranks and gets theirs, in order of rank. Every rank must call it equally often.
    ///
    /// # Errors
    /// The fatal error when there is one; `Timeout` when some rank did not call in time.
    pub(crate) fn all_gather(&self, bytes: &[u8], deadline: Instant) -> Result<Vec<Vec<u8>>> {
        let all = self.round(Packed::one(self.shared.rank, bytes), deadline)?;
        let size = u32::try_from(self.members.len()).expect("ranks are numbered with 32 bits");
        let parts = all.complete(size).map_err(|source| self.internal(source))?;
        Ok(parts.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// Waits until all ranks have come. It counts as a gather, to which nobody gives anything.
    ///
    /// # Errors
    /// As [`Control::all_gather`].
    pub(crate) fn meet(&self, deadline: Instant) -> Result<()> {
        self.round(Packed::default(), deadline).map(drop)
    }

    /// Gives a part to the next gather, and gets all.
    fn round(&self, part: Packed, deadline: Instant) -> Result<Packed> {
        let round = {
            // Numbered and ordered under one lock: the control thread numbers them as they come.
            let mut state = self.shared.state();
            state.given += 1;
            let shared = Arc::clone(&self.shared);
            self.thread.order(Command::Gather { shared, part });
            state.given - 1
        };
        let late = || "not all ranks came to a gather of the control plane in time".to_owned();
        // A goodbye never overtakes what the rank gave before it: whoever left has not come to this gather.
        let me = self.shared.rank;
        let come = |state: &mut State| {
            let gone = |state: &State| state.left.iter().copied().find(|rank| *rank != me);
            state.gathered.remove(&round).map(Ok).or_else(|| gone(state).map(Err))
        };
        self.shared.wait(deadline, come, late)?.map_err(|rank| {
            let text = format!("rank {rank} has left, and all ranks must come to this");
            Error::invalid_usage(text).on(me).about(rank)
        })
    }

    fn internal(&self, source: BadMessage) -> Error {
        Error::internal("a gather of the control plane came back incomplete")
            .on(self.shared.rank)
            .because(source)
    }

    /// Asks a rank what it is doing, and what it called as number `sequence`. Over a connection of its own: a rank whose
    /// process is stopped or gone does not answer, whatever the tree thinks of it.
    ///
    /// # Errors
    /// `Remote` when the rank cannot be reached, `Timeout` when it does not answer within the time.
    pub(crate) fn ask(&self, rank: u32, sequence: u64, within: Duration) -> Result<Answer> {
        let me = self.shared.rank;
        let member = usize::try_from(rank).ok().and_then(|index| self.members.get(index));
        let member = member
            .ok_or_else(|| Error::invalid_argument(format!("there is no rank {rank}")).on(me))?;
        let deadline = Instant::now() + within;
        let preamble = Preamble { id: self.name, kind: Kind::Query, rank: me };
        let mut noise = Noise::caller(&self.key, purpose(Kind::Query), wire::SHORT);
        noise.send(&wire::encode(&Question { rank, sequence }));
        let who = member.describe();
        let mut link =
            Link::dial(member.reach(self.host), preamble, noise, deadline).map_err(|source| {
                Error::remote(format!("{who} cannot be reached")).because(source).on(me).about(rank)
            })?;
        let answer = link.receive(deadline).map_err(|source| {
            Error::timeout(format!("{who} does not answer a question"))
                .because(source)
                .on(me)
                .about(rank)
        })?;
        wire::decode(&answer).map_err(|source| {
            Error::remote(format!("{who} gives no proper answer"))
                .because(source)
                .on(me)
                .about(rank)
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.leave();
    }
}
