//! The communicator: its parts, how it is made, and how it ends.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crossbeam::queue::SegQueue;
use dure_device::{Device, Memory, Space};
use dure_exec::Detours;
use dure_plan::{Collective, Rank};
use dure_sim::Profile;
use dure_topology::Cluster;
use dure_transport::{Peer, Way};

use crate::bootstrap::wire::Member;
use crate::call::Request;
use crate::config::Config;
use crate::control::{Control, Shared};
use crate::devices;
use crate::engine::{Batch, Engine};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::health::Health;
use crate::launch::Launch;
use crate::operation::Operation;
use crate::pace::Patience;
use crate::planner::{Answer, Candidate};
use crate::record::Record;
use crate::turnstile::{Inside, Turnstile};
use crate::unique_id::{Origin, UniqueId};
use crate::{health, net, progress};

/// A group of ranks with a shared sequence of collectives.
///
/// Made by [`Communicator::builder`]. All ranks call the same collectives in the same order. A call may come from any
/// thread, but the order of calls is the program's business. Dropping a communicator leaves the group: calls of other
/// ranks that need this one then fail.
///
/// After a fatal error (a peer died, calls did not match, a deadline passed, `abort`) every call returns that first
/// error.
pub struct Communicator {
    pub(crate) inner: Arc<Inner>,
}

/// What the communicator's handle, its operations and the progress thread share.
pub(crate) struct Inner {
    pub(crate) rank: u32,
    pub(crate) size: u32,
    pub(crate) id: UniqueId,
    pub(crate) config: Arc<Config>,
    pub(crate) members: Arc<[Member]>,
    /// Name of the transport to each rank; empty when this rank is alone.
    pub(crate) ways: Box<[&'static str]>,
    /// `None` when this rank is alone.
    pub(crate) control: Option<Arc<Control>>,
    /// What the control plane shares, or would share.
    pub(crate) shared: Arc<Shared>,
    pub(crate) engine: Turnstile<Engine>,
    /// What the engine's executor knows of wires that have failed.
    pub(crate) detours: Arc<Detours>,
    pub(crate) submitted: SegQueue<Batch>,
    pub(crate) devices: Vec<Arc<dyn Device>>,
    pub(crate) patience: Patience,
    /// Communicators made from this one so far, so that each gets an id of its own.
    pub(crate) children: AtomicU32,
}

impl Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Communicator")
            .field("rank", &self.rank)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Debug for Communicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Makes a [`Communicator`], step by step.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    config: Config,
    rank: u32,
    size: u32,
    id: Option<UniqueId>,
    devices: Vec<Arc<dyn Device>>,
}

impl Builder {
    /// This process is rank `rank` of `size`.
    #[must_use]
    pub fn rank(mut self, rank: u32, size: u32) -> Self {
        (self.rank, self.size) = (rank, size);
        self
    }

    /// The ranks meet by this id, the same on all of them. A communicator of one rank needs none. When the id was made by
    /// [`UniqueId::from_root`], rank 0 receives the others; otherwise the process that made it does.
    #[must_use]
    pub fn meet_at(mut self, id: UniqueId) -> Self {
        self.id = Some(id);
        self
    }

    /// The settings so far.
    #[cfg(feature = "mpi")]
    pub(crate) fn settings(&self) -> &Config {
        &self.config
    }

    /// With these settings instead of the defaults.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Memory of this device may be given to calls, besides the host's and that of the devices that `DURE_DEVICE` names.
    #[must_use]
    pub fn device(mut self, device: Arc<dyn Device>) -> Self {
        self.devices.push(device);
        self
    }

    /// Meets the other ranks. Waits until all have come.
    ///
    /// # Errors
    /// `InvalidArgument` for a rank, size, id or setting that cannot be; `InvalidUsage` when ranks disagree (the text
    /// names the rank and the setting); `Timeout` when ranks did not come (named); `System` and `Remote` as they come.
    pub fn connect(self) -> Result<Communicator> {
        let Self { config, rank, size, id, mut devices } = self;
        if size == 0 || rank >= size {
            let text =
                format!("rank {rank} of {size} cannot be (allowed: 0 to one less than the size)");
            return Err(Error::invalid_argument(text));
        }
        let id = match id {
            Some(id) => id,
            None if size == 1 => UniqueId([0; 128]),
            None => {
                return Err(
                    Error::invalid_argument("no id was given to meet the other ranks by").on(rank)
                );
            }
        };
        if id.origin() == Origin::Agreed && rank == 0 && size > 1 {
            crate::control::serve_root(&id, &config).map_err(|error| error.on(rank))?;
        }
        let deadline = Instant::now() + config.timeout;
        for device in devices::open(&config).map_err(|error| error.on(rank))? {
            if devices.iter().all(|known| known.space() != device.space()) {
                devices.push(device);
            }
        }
        let inner = net::assemble(net::Plan { id, rank, size, config, devices, deadline })
            .map_err(|e| if e.rank.is_some() { e } else { e.on(rank) })?;
        Ok(Communicator { inner: Arc::new(inner) })
    }
}

impl UniqueId {
    /// A new id. This process receives the ranks that meet by it: it must live until they have met.
    ///
    /// # Errors
    /// `System` when there is no port; `InvalidArgument` when `DURE_IFNAME` leaves no interface.
    pub fn new(config: &Config) -> Result<Self> {
        crate::control::new_unique_id(config)
    }
}

impl Communicator {
    /// The way to a communicator.
    pub fn builder() -> Builder {
        Builder { size: 1, ..Builder::default() }
    }

    /// The communicator that this process was started for: rank, size and meeting place are those that the launcher
    /// (torchrun, Open MPI, MPICH, PMIx, Slurm, or whoever set `DURE_RANK`) left in the environment, the settings those
    /// of the `DURE_` variables. One rank alone when there was no launcher.
    ///
    /// # Errors
    /// As [`Config::from_env`], [`Launch::from_env`] and [`Builder::connect`].
    pub fn from_env() -> Result<Self> {
        let config = Config::from_env()?;
        let Some(launch) = Launch::from_env(&config)? else {
            return Self::builder().config(config).connect();
        };
        let builder = Self::builder().rank(launch.rank, launch.size).config(config);
        match launch.unique_id()? {
            Some(id) => builder.meet_at(id).connect(),
            None => builder.connect(),
        }
    }

    /// One communicator of `size` ranks, all of them in this process: the result holds the ranks in order. Each rank
    /// must then be used by a thread of its own, or through groups and non-blocking calls.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub fn init_all(size: u32, config: &Config) -> Result<Vec<Self>> {
        if size == 1 {
            return Ok(vec![Self::builder().config(config.clone()).connect()?]);
        }
        let id = UniqueId::new(config)?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..size)
                .map(|rank| {
                    let builder =
                        Self::builder().rank(rank, size).meet_at(id).config(config.clone());
                    scope.spawn(move || builder.connect())
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Self>>| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Error::internal("a thread that made a rank panicked")))
            };
            threads.into_iter().map(join).collect()
        })
    }

    /// Number of this rank, from 0.
    #[inline]
    pub fn rank(&self) -> u32 {
        self.inner.rank
    }

    /// Number of ranks.
    #[inline]
    pub fn size(&self) -> u32 {
        self.inner.size
    }

    /// Host name of a rank.
    pub fn host_name(&self, rank: u32) -> Option<&str> {
        Some(self.inner.members.get(rank as usize)?.hostname.as_str())
    }

    /// Process id of a rank, on its host.
    pub fn process_id(&self, rank: u32) -> Option<u32> {
        Some(self.inner.members.get(rank as usize)?.pid)
    }

    /// Whether a rank runs on this rank's host.
    pub fn shares_host(&self, rank: u32) -> bool {
        let members = &self.inner.members;
        members.get(rank as usize).is_some_and(|m| m.host == members[self.inner.rank as usize].host)
    }

    /// Name of the transport that reaches a rank: `pool`, `rdma`, `tcp`; `self` for this rank.
    pub fn transport_to(&self, rank: u32) -> &'static str {
        let way = self.inner.ways.get(rank as usize).filter(|_| rank != self.inner.rank);
        way.copied().unwrap_or("self")
    }

    /// How messages leave memory of a device that `DURE_DEVICE` names towards another rank: as it is known once the two are
    /// connected, which the first call that needs it does. Waits until no other thread is inside a call.
    ///
    /// # Errors
    /// `InvalidArgument` when `to` is no other rank; `Device` when the device has no memory to ask about.
    #[allow(unsafe_code, reason = "memory of a device is given back")]
    pub fn way(&self, device: &dyn Device, to: u32) -> Result<Way> {
        let (rank, size) = (self.inner.rank, self.inner.size);
        if to >= size || to == rank {
            let text = format!("no way to rank {to} (allowed: another rank, 0 to {})", size - 1);
            return Err(Error::invalid_argument(text).on(rank));
        }
        let failed = |error| Error::device("no memory to ask about").because(error).on(rank);
        // As a dma-buf is: whole pages.
        let memory = device.alloc(4096).map_err(failed)?;
        let way = self.inner.engine().executor.transport().way(memory, Peer(to));
        // SAFETY: it was allocated here, and the transport has looked at it only.
        unsafe { device.free(memory) }.map_err(failed)?;
        Ok(way)
    }

    /// What was chosen for the last collective of this rank.
    pub fn last_choice(&self) -> Option<Candidate> {
        self.inner.engine().last_choice().cloned()
    }

    /// What may serve a collective of `bytes` bytes (of the whole vector: the larger of a rank's input and output) whose
    /// blocks have the same length, and what each candidate would take. The same on all ranks.
    pub fn explain(&self, what: Collective, bytes: u64) -> Answer {
        self.inner.engine().tuner.explain(what, bytes)
    }

    /// The hosts of the ranks, and what joins them: what the ranks told each other when they met, and what
    /// `DURE_TOPO_FILE` describes. The same on all ranks.
    pub fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(self.inner.engine().tuner.planner().cluster())
    }

    /// What predictions of calls' times rest on, corrected by what was measured under `DURE_TUNE=online` so far. Written to
    /// a file ([`Profile::to_json`]), it is what `DURE_PROFILE` takes.
    pub fn profile(&self) -> Profile {
        self.inner.engine().tuner.profile()
    }

    /// From now on `pin` serves every collective that it can serve; with `None` each is decided by the library again.
    /// Waits for the calls that were started. All ranks pin the same between the same calls: a difference is found as one
    /// of calls is.
    ///
    /// # Errors
    /// The first fatal error; `InvalidArgument` for an algorithm that does not exist, and for lanes that the communicator
    /// does not have.
    pub fn pin(&self, pin: Option<&Candidate>) -> Result<()> {
        self.synchronize()?;
        let mut engine = self.inner.engine();
        engine.tuner.check(pin).map_err(|error| error.on(self.inner.rank))?;
        engine.pin(pin.cloned());
        Ok(())
    }

    /// How it is: whether nothing fatal has happened, and which wires have failed and are not back.
    ///
    /// # Errors
    /// The first fatal error, for ever after.
    pub fn health(&self) -> Result<Health> {
        self.inner.fault().check()?;
        Ok(health::of(&self.inner.detours))
    }

    /// Ends the communicator on all ranks, now: every call that waits returns `Aborted`, here and elsewhere. May be
    /// called from any thread, more than once.
    pub fn abort(&self) {
        match &self.inner.control {
            Some(control) => control.abort(),
            None => self.inner.end_with(Error::aborted("this rank aborted").on(self.inner.rank)),
        }
    }

    /// Waits for all calls, checks that all ranks made the same ones, and leaves. Collective: all ranks call it.
    ///
    /// # Errors
    /// The first fatal error, if there was one; `InvalidUsage` when the ranks made different calls.
    pub fn finalize(&self) -> Result<()> {
        let inner = &self.inner;
        self.synchronize()?;
        let (sequence, chain) = inner.engine().history();
        if let Some(control) = &inner.control {
            let mine = [sequence.to_le_bytes(), chain.to_le_bytes()].concat();
            let all = control.all_gather(&mine, Instant::now() + inner.config.timeout)?;
            if let Some(peer) = all.iter().position(|theirs| *theirs != mine) {
                let peer = u32::try_from(peer).expect("ranks are counted in 32 bits");
                let error = inner.mismatch(peer);
                inner.end_with(error.clone());
                return Err(error);
            }
            control.leave();
        }
        inner.dump_profile();
        Ok(())
    }

    /// Waits for every call that was started so far.
    ///
    /// # Errors
    /// The first fatal error.
    pub fn synchronize(&self) -> Result<()> {
        let last = self.inner.enqueue(Vec::new(), Operation::new(None))?;
        self.inner.wait(&last)
    }

    /// Makes host memory known to the transports, so that long messages are sent from it and land in it without a copy
    /// between. Worth it for buffers that are used again and again.
    ///
    /// # Errors
    /// `System` when the transport has no room for it.
    ///
    /// # Safety
    /// Until [`Communicator::deregister`], the memory stays mapped; it is touched by nobody else during calls on it.
    #[allow(unsafe_code, reason = "memory of the user, which peers will write")]
    pub unsafe fn register(&self, memory: Memory) -> Result<Registration> {
        // SAFETY: this function's contract.
        let region = unsafe { self.inner.engine().executor.register(memory) };
        Ok(Registration { region })
    }

    /// Ends a registration. No call on the memory may be under way.
    pub fn deregister(&self, registration: Registration) {
        self.inner.release(&registration);
    }

    /// Allocates zeroed host memory that peers of the same host can write directly, aligned to 64 bytes at least.
    ///
    /// # Errors
    /// `System` when there is none.
    pub fn alloc(&self, len: usize) -> Result<(Registration, Memory)> {
        let (region, memory) = self
            .inner
            .engine()
            .executor
            .alloc(len.max(1))
            .map_err(|error| crate::stall::executor_error(&error, self.inner.rank))?;
        Ok((Registration { region: Some(region) }, memory))
    }

    /// Starts a request. The operation is done when its result is there; [`Communicator::wait`] waits for that.
    ///
    /// # Errors
    /// `InvalidArgument` for what this rank can check alone; the first fatal error.
    ///
    /// # Safety
    /// The memory of the requests stays valid, and is touched by nobody else, until the operation is done or the
    /// communicator is dropped.
    #[allow(
        unsafe_code,
        reason = "buffers are raw memory: the typed calls and the C binding are built on this"
    )]
    pub unsafe fn enqueue(
        &self,
        requests: Vec<Request>,
        after: Option<Arc<Operation>>,
    ) -> Result<Arc<Operation>> {
        self.inner.enqueue(requests, Operation::new(after))
    }

    /// Makes a request and waits until it is done.
    ///
    /// # Errors
    /// As [`Communicator::enqueue`], and what went wrong meanwhile.
    ///
    /// # Safety
    /// As [`Communicator::enqueue`], until the call returns.
    #[allow(
        unsafe_code,
        reason = "buffers are raw memory: the typed calls and the C binding are built on this"
    )]
    pub unsafe fn call(&self, request: &Request) -> Result<()> {
        self.inner.call(request)
    }

    /// Waits for an operation of this communicator.
    ///
    /// # Errors
    /// The operation's.
    pub fn wait(&self, operation: &Operation) -> Result<()> {
        self.inner.wait(operation)
    }

    /// Moves calls on that nobody waits for, from now on, until they are done.
    ///
    /// # Errors
    /// `System` when the progress thread cannot be started.
    pub fn progress_in_background(&self) -> Result<()> {
        progress::watch(&self.inner)
    }

    /// The memory at an address: of the device that owns it, or else of the host.
    #[inline]
    pub fn locate(&self, ptr: *mut u8, len: usize) -> Memory {
        let owner = self.device_of(ptr);
        let space = owner.map_or(Space::Host, |at| self.inner.devices[at].space());
        Memory { space, ..Memory::host(ptr, len) }
    }

    /// Which device has the memory at an address, counted from 0: first those that [`Builder::device`] was given, then those that
    /// `DURE_DEVICE` names, each once. `None` is the host, or memory that no device knows.
    pub fn device_of(&self, ptr: *mut u8) -> Option<usize> {
        self.inner.devices.iter().position(|device| device.owns(ptr))
    }
}

/// Memory that the transports know; from [`Communicator::register`] or [`Communicator::alloc`].
#[derive(Debug)]
pub struct Registration {
    region: Option<dure_transport::Region>,
}

impl Inner {
    /// The first fatal error, if there is one.
    pub(crate) fn fault(&self) -> &Fault {
        &self.shared.fault
    }

    /// What this rank is doing.
    pub(crate) fn record(&self) -> &Record {
        &self.shared.record
    }

    /// The engine, as soon as no other thread has it.
    pub(crate) fn engine(&self) -> Inside<'_, Engine> {
        self.engine.enter()
    }

    /// The engine, unless another thread has it. Whoever had it when it panicked (in a user's reduction, say) left it in
    /// no known state: that ends the communicator.
    #[inline]
    pub(crate) fn try_engine(&self) -> Option<Inside<'_, Engine>> {
        let engine = self.engine.try_enter()?;
        if self.engine.is_spoilt() {
            self.end_spoilt();
        }
        Some(engine)
    }

    #[cold]
    fn end_spoilt(&self) {
        if !self.fault().is_raised() {
            let error = Error::internal("a call panicked").on(self.rank);
            match &self.control {
                Some(control) => control.raise(error),
                None => _ = self.fault().record(error),
            }
        }
    }

    /// Checks requests, and queues them as one batch.
    pub(crate) fn enqueue(
        &self,
        requests: Vec<Request>,
        operation: Arc<Operation>,
    ) -> Result<Arc<Operation>> {
        self.fault().check()?;
        for request in &requests {
            request.check(self.size, Rank(self.rank))?;
        }
        self.submitted.push(Batch { requests, operation: Arc::clone(&operation) });
        Ok(operation)
    }

    pub(crate) fn release(&self, registration: &Registration) {
        if let Some(region) = registration.region {
            self.engine().executor.deregister(region);
        }
    }

    /// Whether something is queued or under way.
    pub(crate) fn has_work(&self) -> bool {
        !self.submitted.is_empty() || self.try_engine().is_none_or(|engine| engine.has_work())
    }

    /// The number of the next communicator made from this one.
    pub(crate) fn next_child(&self) -> u32 {
        self.children.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes the profile, when the settings name a place for it. Rank 0 does, for all ranks.
    fn dump_profile(&self) {
        let Some(path) = self.config.profile_dump.as_ref().filter(|_| self.rank == 0) else {
            return;
        };
        let profile = self.engine().tuner.profile();
        if let Err(error) = std::fs::write(path, profile.to_json() + "\n") {
            tracing::warn!(target: "dure::tune", path = %path.display(), %error, "the profile could not be written");
        }
    }

    /// Writes the flight record, when the settings name a place for it.
    pub(crate) fn dump(&self, engine: &Engine) {
        let Some(prefix) = &self.config.trace_file else { return };
        let path = format!("{}{}.trace", prefix.display(), self.rank);
        if let Err(error) =
            std::fs::write(&path, crate::trace::chrome(self.rank, engine.executor.recorders()))
        {
            tracing::warn!(target: "dure::coll", path, %error, "the flight record could not be written");
        }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        if let Some(control) = &self.inner.control {
            control.leave();
        }
    }
}
