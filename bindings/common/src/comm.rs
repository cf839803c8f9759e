//! What hangs on a handle of a communicator.

#![allow(
    clippy::disallowed_types,
    reason = "tables that calls look into, and change when something is made or ended"
)]

use std::collections::{HashMap, VecDeque};
use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dure::{Communicator, Error, Health, Registration, Result, Stream};

use crate::Interface;
use crate::boundary::c_text;
use crate::config::Settings;
use crate::family::{self, Family};
use crate::ffi::pointer::StreamPtr;
use crate::ffi::stream;
use crate::handle::{Graveyard, Kind};
use crate::operation::Operations;

/// A communicator, from the moment when C has a handle of it.
#[derive(Debug)]
pub struct Comm {
    pub(crate) settings: Settings,
    /// How the names of the functions begin that messages mention.
    prefix: &'static str,
    /// As [`Interface::AFTER_AN_ABORT`].
    after_an_abort: &'static [&'static str],
    /// Empty while the ranks have not met yet.
    connection: OnceLock<Result<Arc<Communicator>>>,
    /// Made in a group that has not ended: nobody may wait for it.
    deferred: AtomicBool,
    /// Ended by an abort, or revoked; if the ranks meet only now, that is the end of it.
    aborted: AtomicBool,
    /// Left its family, or dropped out of it.
    left: AtomicBool,
    family: Arc<Family>,
    key: Vec<u8>,
    /// Communicators made from this one so far; the ranks of a process count alike.
    children: AtomicU32,
    operations: Mutex<Operations>,
    registrations: Mutex<HashMap<usize, Kept>>,
    /// Joins a stream of a device's maker; `None` where the interface has programs do that.
    join: Option<Join>,
    /// Such streams that calls have named, by address.
    joined: Mutex<HashMap<usize, Arc<Stream>>>,
    last_error: Mutex<CString>,
}

/// Makes a stream that keeps the order of one of a device's maker.
type Join = fn(*mut c_void) -> Result<Stream>;

/// A registration that is kept.
#[derive(Debug)]
struct Kept {
    by: Registered,
    /// Where the memory is.
    address: usize,
    registration: Registration,
}

/// What a registration was made by, and is ended by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registered {
    /// `...CommRegister`; known by a number.
    Buffer,
    /// `...CommWindowRegister`; known by a number.
    Window,
    /// `...CommMemAlloc`; known by its address.
    Allocation,
}

impl Kind for Comm {
    const ARGUMENT: &'static str = "comm";
    const NO_HANDLE: &'static str = "comm is not a handle of its kind";
    const MAGIC: u64 = u64::from_le_bytes(*b"dureComm");

    fn graveyard() -> &'static Graveyard<Self> {
        static GRAVEYARD: Graveyard<Comm> = Mutex::new(VecDeque::new());
        &GRAVEYARD
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Comm {
    /// A communicator whose ranks have yet to meet. `key` is the same for those ranks of it that live in this process.
    pub(crate) fn new<I: Interface>(settings: Settings, key: Vec<u8>) -> Arc<Self> {
        let family = family::join(&key);
        Arc::new(Self {
            settings,
            prefix: I::PREFIX,
            after_an_abort: I::AFTER_AN_ABORT,
            connection: OnceLock::new(),
            deferred: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            left: AtomicBool::new(false),
            family,
            key,
            children: AtomicU32::new(0),
            operations: Mutex::default(),
            registrations: Mutex::default(),
            join: I::JOINS_STREAMS.then_some(stream::join_named::<I>),
            joined: Mutex::default(),
            last_error: Mutex::default(),
        })
    }

    /// Keeps the outcome of the ranks' meeting.
    ///
    /// # Errors
    /// The outcome's.
    pub(crate) fn met(&self, outcome: Result<Communicator>) -> Result<()> {
        let outcome = outcome.map(Arc::new);
        if let Err(error) = &outcome {
            self.note(error);
            self.drop_out();
        }
        let error = outcome.as_ref().err().cloned();
        let kept = self.connection.get_or_init(|| outcome);
        if let (Ok(communicator), true) = (kept, self.aborted.load(Ordering::SeqCst)) {
            communicator.abort();
            self.drop_out();
        }
        error.map_or(Ok(()), Err)
    }

    /// Says that the ranks meet when the group ends.
    pub(crate) fn defer(&self) {
        self.deferred.store(true, Ordering::Release);
    }

    /// Says that the group has ended, and the ranks meet now.
    pub(crate) fn begin(&self) {
        self.deferred.store(false, Ordering::Release);
    }

    /// The communicator, once the ranks have met.
    ///
    /// # Errors
    /// Why they have not; `InvalidUsage` when the group that makes it has not ended.
    #[inline]
    pub(crate) fn communicator(&self) -> Result<&Arc<Communicator>> {
        match self.connection.get() {
            Some(Ok(communicator)) => Ok(communicator),
            _ => self.await_meeting(),
        }
    }

    #[cold]
    fn await_meeting(&self) -> Result<&Arc<Communicator>> {
        let met = match self.connection.get() {
            Some(met) => met,
            None => {
                self.check_not_deferred()?;
                self.connection.wait()
            }
        };
        met.as_ref().map_err(Error::clone)
    }

    /// The communicator for a call on it.
    ///
    /// # Errors
    /// As [`Comm::communicator`], and `InvalidUsage` after it was finalized or revoked.
    #[inline]
    pub(crate) fn open(&self) -> Result<&Arc<Communicator>> {
        if self.left.load(Ordering::Acquire) { self.refuse() } else { self.communicator() }
    }

    #[cold]
    fn refuse(&self) -> Result<&Arc<Communicator>> {
        self.communicator()?;
        let prefix = self.prefix;
        Err(Error::invalid_usage(if self.is_revoked() {
            let names: Vec<_> =
                self.after_an_abort.iter().map(|name| format!("{prefix}{name}")).collect();
            format!("comm was aborted or revoked: only {} may follow", names.join(" and "))
        } else {
            format!("comm was finalized: only {prefix}CommDestroy may follow")
        }))
    }

    /// How it is: `None` while the ranks have not met.
    pub(crate) fn health(&self) -> Option<Result<Health>> {
        let health = match self.connection.get()? {
            Ok(communicator) => communicator.health(),
            Err(error) => Err(error.clone()),
        };
        match &health {
            Ok(health) if health.is_degraded() => {
                let detours: Vec<_> = health.detours.iter().map(ToString::to_string).collect();
                self.note_text(detours.join("; "));
            }
            Ok(_) => {}
            Err(error) => _ = self.note(error),
        }
        Some(health)
    }

    /// Leaves in order, once.
    ///
    /// # Errors
    /// The first fatal error of the communicator, if there was one.
    pub(crate) fn leave(&self) -> Result<()> {
        let communicator = self.communicator()?;
        if self.left.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let flushed = communicator.synchronize();
        let left = self.family.leave(Arc::clone(communicator));
        flushed.and(left)
    }

    /// Leaves before it is destroyed, if it has not left, and if its ranks have met at all.
    ///
    /// # Errors
    /// As [`Comm::leave`].
    pub(crate) fn end(&self) -> Result<()> {
        if self.communicator().is_ok() { self.leave() } else { Ok(()) }
    }

    /// Refuses what cannot be done to a communicator that a group is still to make.
    ///
    /// # Errors
    /// `InvalidUsage`.
    pub(crate) fn check_not_deferred(&self) -> Result<()> {
        if self.deferred.load(Ordering::Acquire) {
            let text =
                format!("comm is made when the group ends: call {}GroupEnd first", self.prefix);
            return Err(Error::invalid_usage(text));
        }
        Ok(())
    }

    /// Whether it was ended by [`Comm::abort`], and there is a handle of it still.
    pub(crate) fn is_revoked(&self) -> bool {
        self.aborted.load(Ordering::SeqCst)
    }

    /// Ends it on all ranks.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::SeqCst);
        if let Some(Ok(communicator)) = self.connection.get() {
            communicator.abort();
            self.drop_out();
        }
    }

    fn drop_out(&self) {
        if !self.left.swap(true, Ordering::SeqCst) {
            self.family.drop_out();
        }
    }

    /// The ranks of it that live in this process.
    pub(crate) fn family(&self) -> &Family {
        &self.family
    }

    /// The key of the next communicator made from this one.
    pub(crate) fn child_key(&self, what: &str) -> Vec<u8> {
        let number = self.children.fetch_add(1, Ordering::Relaxed);
        [&self.key, format!("/{what} {number}").as_bytes()].concat()
    }

    /// Remembers an error; its text.
    pub(crate) fn note(&self, error: &Error) -> CString {
        self.note_text(error.chain())
    }

    fn note_text(&self, text: String) -> CString {
        let text = c_text(&match &self.settings.name {
            Some(name) => format!("{name}: {text}"),
            None => text,
        });
        lock(&self.last_error).clone_from(&text);
        text
    }

    /// The text of the last error on it, by whatever thread.
    pub(crate) fn last_error(&self) -> CString {
        lock(&self.last_error).clone()
    }

    /// The stream of an argument that is not null.
    ///
    /// # Errors
    /// `InvalidArgument` when it is none, or was destroyed; `Device` when a stream of a device's maker cannot be joined.
    pub(crate) fn stream(&self, stream: StreamPtr) -> Result<Arc<Stream>> {
        let Some(join) = self.join.filter(|_| !stream.may_follow()) else { return stream.get() };
        let mut joined = lock(&self.joined);
        if let Some(known) = joined.get(&stream.address()) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(join(stream.native())?);
        joined.insert(stream.address(), Arc::clone(&made));
        Ok(made)
    }

    /// Its table of reductions.
    pub(crate) fn operations(&self) -> MutexGuard<'_, Operations> {
        lock(&self.operations)
    }

    /// Keeps a registration of memory under a number or address.
    pub(crate) fn keep(
        &self,
        by: Registered,
        key: usize,
        address: usize,
        registration: Registration,
    ) {
        lock(&self.registrations).insert(key, Kept { by, address, registration });
    }

    /// Where the memory is of a kept registration; `None` when there is none of this sort.
    pub(crate) fn address_of(&self, by: Registered, key: usize) -> Option<usize> {
        lock(&self.registrations).get(&key).filter(|kept| kept.by == by).map(|kept| kept.address)
    }

    /// Gives a kept registration back; `None` when there is none of this sort.
    pub(crate) fn give_back(&self, by: Registered, key: usize) -> Option<Registration> {
        let mut registrations = lock(&self.registrations);
        if registrations.get(&key).is_some_and(|kept| kept.by == by) {
            registrations.remove(&key).map(|kept| kept.registration)
        } else {
            None
        }
    }
}
