//! The control thread of the process, and how other threads talk to it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dure_tcp::{Port, PortOptions};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::link::Link;
use super::service::Service;
use super::shared::Shared;
use crate::addresses::{self, Purpose};
use crate::bootstrap::wire::{HostId, Packed};
use crate::config::Config;
use crate::error::{Error, Result};

/// How long a thread waits for the control thread to carry out a command that sends something: it is never busy for
/// long, and what was sent later is only late.
const PATIENCE: Duration = Duration::from_secs(1);

/// A job as connections name it.
pub(crate) type Name = [u8; 16];

/// Where a new rank of this process takes its place in the tree.
pub(crate) enum Place {
    /// At the top, with the table of members.
    Top(Packed),
    /// Under the rank at the other end of the link.
    Under(u32, Box<Link>),
}

/// What the control thread is asked to do.
pub(crate) enum Command {
    /// Receive check-ins for the job with this key, at this port.
    Serve { key: [u8; 32], port: Arc<Port> },
    /// A rank of this process is about to join a job.
    Enter { entry: Entry, size: u32, port: Arc<Port> },
    /// It has its place.
    Take { shared: Arc<Shared>, place: Place },
    /// Give to a gather.
    Gather { shared: Arc<Shared>, part: Packed },
    /// Tell all ranks that the communicator is broken.
    Raise { shared: Arc<Shared>, error: Error },
    /// Say goodbye.
    Leave { shared: Arc<Shared> },
    /// The rank did not get in.
    Forget { shared: Arc<Shared> },
}

/// A rank of this process, and how its connections are recognised.
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) key: [u8; 32],
    pub(crate) shared: Arc<Shared>,
}

/// A command, and where to say whether it is done.
pub(crate) struct Order {
    pub(crate) command: Command,
    pub(crate) done: Arc<Done>,
}

/// Tells one thread that another has finished something, and how.
#[derive(Default)]
pub(crate) struct Done {
    result: Mutex<Option<Result<()>>>,
    changed: Condvar,
}

impl Done {
    pub(crate) fn set(&self, result: Result<()>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.changed.notify_all();
    }

    /// The result, or success when it does not come in time.
    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = result.take() {
                return result;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            result =
                self.changed.wait_timeout(result, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Orders on their way to the control thread.
pub(crate) struct Orders {
    queue: Mutex<VecDeque<Order>>,
    /// Readable while there are orders.
    bell: EventFd,
}

impl Orders {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Order>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was ordered since the last call.
    pub(crate) fn take(&self) -> VecDeque<Order> {
        // It fails only when the bell is silent already.
        let _ = self.bell.read();
        std::mem::take(&mut *self.queue())
    }

    pub(crate) fn doorbell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// The process's control thread and its listening port. They live as long as the process.
pub(crate) struct Thread {
    orders: Arc<Orders>,
    port: Arc<Port>,
    /// Ports of roots whose place was agreed when this process already had a port.
    more: Mutex<Vec<Arc<Port>>>,
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Thread").field("port", &self.port.number()).finish_non_exhaustive()
    }
}

/// There is one control thread a process, whatever the number of communicators: a process has one port.
static THREAD: Mutex<Option<Arc<Thread>>> = Mutex::new(None);

impl Thread {
    /// The control thread, started when there is none yet; then it listens on `number`, or where the settings say.
    ///
    /// # Errors
    /// `System` when the port or the thread cannot be had.
    pub(crate) fn start(config: &Config, number: Option<u16>) -> Result<Arc<Self>> {
        let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            return Ok(Arc::clone(thread));
        }
        let fixed = number.map(|number| number..=number);
        let port = bind(fixed.or_else(|| config.port_range.map(|range| range.first..=range.last)))?;
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|source| Error::system("eventfd").because(source))?;
        let orders = Arc::new(Orders { queue: Mutex::default(), bell });
        let service = Service::new(Arc::clone(&orders))?;
        std::thread::Builder::new()
            .name("dure-control".to_owned())
            .spawn(move || service.run())
            .map_err(|source| Error::system("starting the control thread").because(source))?;
        let started = Arc::new(Self { orders, port, more: Mutex::default() });
        *thread = Some(Arc::clone(&started));
        Ok(started)
    }

    /// The port with this number: the process's own, or one more for a root whose place was agreed beforehand.
    ///
    /// # Errors
    /// `System` when it is taken.
    pub(crate) fn port_numbered(&self, number: u16) -> Result<Arc<Port>> {
        if self.port.number() == number {
            return Ok(Arc::clone(&self.port));
        }
        let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = more.iter().find(|port| port.number() == number) {
            return Ok(Arc::clone(port));
        }
        let port = bind(Some(number..=number))?;
        more.push(Arc::clone(&port));
        Ok(port)
    }

    /// The process's port.
    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    /// Orders something, without waiting for it.
    pub(crate) fn order(&self, command: Command) -> Arc<Done> {
        let done = Arc::new(Done::default());
        self.orders.queue().push_back(Order { command, done: Arc::clone(&done) });
        // It fails only for a sum beyond 64 bits.
        let _ = self.orders.bell.write(1);
        done
    }

    /// Orders something and waits until it is done.
    ///
    /// # Errors
    /// What went wrong with it.
    pub(crate) fn carry_out(&self, command: Command) -> Result<()> {
        self.order(command).wait()
    }
}

fn bind(ports: Option<std::ops::RangeInclusive<u16>>) -> Result<Arc<Port>> {
    let what = match &ports {
        None => "no port to listen on".to_owned(),
        Some(range) if range.start() == range.end() => {
            format!("cannot listen on port {}", range.start())
        }
        Some(range) => format!("cannot listen on any port of {}-{}", range.start(), range.end()),
    };
    Port::bind(PortOptions { ports, ..PortOptions::default() })
        .map_err(|source| Error::system(what).because(source))
}

/// What this process tells others about itself.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    /// The host.
    pub(crate) host: HostId,
    /// Its name.
    pub(crate) hostname: String,
    /// Where this process listens.
    pub(crate) port: Arc<Port>,
    /// Addresses to reach it at, best first.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Here {
    /// As the settings have it, with addresses that suit the purpose. Starts the control thread when there is none.
    ///
    /// # Errors
    /// `System`, or `InvalidArgument` when `DURE_IFNAME` leaves no interface.
    pub(crate) fn find(config: &Config, purpose: Purpose) -> Result<Self> {
        let thread = Thread::start(config, None)?;
        Ok(Self {
            host: addresses::host_id()?,
            hostname: addresses::hostname(),
            port: Arc::clone(thread.port()),
            addresses: addresses::addresses(config.ifname.as_ref(), purpose)?,
        })
    }
}
