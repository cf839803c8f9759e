//! Carries bytes between processes of a rehearsal, by a few threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::process::Process;
use crate::control::Caller;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wire {
    /// Number of the connection, chosen by whoever dials.
    pub(super) number: u64,
    /// Whether it is the end that was dialled.
    pub(super) dialled: bool,
}

impl Wire {
    /// The other end.
    pub(super) fn other(self) -> Self {
        Self { dialled: !self.dialled, ..self }
    }
}

/// Parcels, and the processes that they are for.
pub(super) type Sent = Vec<(u32, Parcel)>;

/// What comes to a process.
#[derive(Debug)]
pub(super) enum Parcel {
    /// Its ranks are to report to the root.
    Start,
    /// A connection, from a process.
    Dial { wire: Wire, caller: Caller, from: u32 },
    /// Bytes of a connection.
    Bytes { wire: Wire, bytes: Vec<u8> },
    /// The other side closed a connection.
    Closed { wire: Wire },
}

/// A process and the lock on it. Only one thread at a time has it: the post sees to that.
#[derive(Debug)]
pub(super) struct Slot(Mutex<Process>);

impl Slot {
    pub(super) fn new(process: Process) -> Self {
        Self(Mutex::new(process))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Process> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Inbox {
    parcels: VecDeque<Parcel>,
    /// Whether the process is on the pile, or at work.
    busy: bool,
}

#[derive(Default)]
struct Pile {
    /// Processes with parcels. The last one is next: what is sent is received before more is sent, so that little is
    /// under way at a time.
    processes: Vec<u32>,
    /// Threads that are at work.
    working: usize,
}

/// See the module.
pub(super) struct Post {
    inboxes: Vec<Mutex<Inbox>>,
    pile: Mutex<Pile>,
    changed: Condvar,
    carried: AtomicU64,
}

impl Post {
    /// Nothing is under way yet.
    pub(super) fn new(processes: usize) -> Self {
        Self {
            inboxes: (0..processes).map(|_| Mutex::default()).collect(),
            pile: Mutex::default(),
            changed: Condvar::new(),
            carried: AtomicU64::new(0),
        }
    }

    fn inbox(&self, process: u32) -> MutexGuard<'_, Inbox> {
        self.inboxes[process as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pile(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a parcel to a process. Those of one process arrive in order.
    pub(super) fn send(&self, to: u32, parcel: Parcel) {
        if let Parcel::Bytes { bytes, .. } = &parcel {
            self.carried.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        let mut inbox = self.inbox(to);
        inbox.parcels.push_back(parcel);
        if !std::mem::replace(&mut inbox.busy, true) {
            drop(inbox);
            self.put_on_pile(to);
        }
    }

    fn put_on_pile(&self, process: u32) {
        self.pile().processes.push(process);
        self.changed.notify_one();
    }

    /// Bytes that were sent so far.
    pub(super) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    /// Lets the processes work until nothing moves.
    pub(super) fn run(&self, processes: &[Slot], threads: usize, now: Instant) {
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| self.work(processes, now));
            }
            self.work(processes, now);
        });
    }

    fn work(&self, processes: &[Slot], now: Instant) {
        let mut pile = self.pile();
        loop {
            if let Some(number) = pile.processes.pop() {
                pile.working += 1;
                drop(pile);
                self.let_work(number, &processes[number as usize], now);
                pile = self.pile();
                pile.working -= 1;
            } else if pile.working == 0 {
                self.changed.notify_all();
                return;
            } else {
                pile = self.changed.wait(pile).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Gives a process its next parcel. If that is not the last one, the process goes on when whatever it sends has been
    /// received.
    fn let_work(&self, number: u32, slot: &Slot, now: Instant) {
        let parcel = self.inbox(number).parcels.pop_front();
        let mut sent = Vec::new();
        if let Some(parcel) = parcel {
            slot.lock().receive(&mut sent, parcel, now);
        }
        let mut inbox = self.inbox(number);
        if inbox.parcels.is_empty() {
            *inbox = Inbox::default();
            drop(inbox);
        } else {
            drop(inbox);
            self.put_on_pile(number);
        }
        sent.into_iter().for_each(|(to, parcel)| self.send(to, parcel));
    }
}
