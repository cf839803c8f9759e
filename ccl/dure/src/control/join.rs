//! Getting into a job: from a unique id to a place in the tree.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_tcp::{Kind, Preamble};

use super::link::{Broken, Link, purpose};
use super::service::CHECK_IN;
use super::shared::Shared;
use super::thread::{Command, Entry, Here, Place, Thread};
use super::{Control, Joined};
use crate::addresses::Purpose;
use crate::bootstrap::noise::Noise;
use crate::bootstrap::wire::{self, CheckIn, Member, Message, Verdict};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::hardware::Hardware;
use crate::net::RDMA;
use crate::unique_id::{MAX_ADDRESSES, Origin, UniqueId};

/// A root that is not there yet, or not for this job, is tried again after this long, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A root that turns a rank away for so long does not do it because it is about to start.
const TURNED_AWAY: Duration = Duration::from_millis(500);
/// The root tells everybody who is missing before anybody gives up by itself: at most so long before.
const VERDICT: Duration = Duration::from_secs(2);

/// Makes an id, and receives the ranks that come with it, in this process.
///
/// # Errors
/// `System`, or `InvalidArgument` when `DURE_IFNAME` leaves no interface.
pub(crate) fn new_unique_id(config: &Config) -> Result<UniqueId> {
    let here = Here::find(config, Purpose::Control)?;
    if here.addresses.is_empty() {
        return Err(Error::system(
            "no network interface of this host is up, not even loopback: ranks cannot meet",
        ));
    }
    let id = UniqueId::random(
        here.port.number(),
        &here.addresses[..here.addresses.len().min(MAX_ADDRESSES)],
    )?;
    serve_root(&id, config)?;
    Ok(id)
}

/// Receives the ranks that come with an id whose place was agreed beforehand, in this process, at that port.
///
/// # Errors
/// `System` when the port is taken.
pub(crate) fn serve_root(id: &UniqueId, config: &Config) -> Result<()> {
    id.validate()?;
    let thread = Thread::start(config, Some(id.port()))?;
    let port = thread.port_numbered(id.port())?;
    thread.carry_out(Command::Serve { key: *id.control_key().bytes(), port })
}

/// Joins a job: returns when all ranks are there and connected, or else with the reason why not. `offer` is what all
/// others get to see of this rank, at most 32 KiB.
///
/// # Errors
/// What is wrong with the job, the same on all ranks that came; or why this rank did not get that far.
pub(crate) fn join(
    id: &UniqueId,
    (rank, size): (u32, u32),
    config: &Config,
    offer: Vec<u8>,
    deadline: Instant,
) -> Result<Joined> {
    id.validate()?;
    if rank >= size {
        return Err(Error::invalid_argument(format!("rank {rank} of {size} ranks")));
    }
    if offer.len() > wire::OFFER {
        return Err(Error::internal(format!("an offer of {} bytes", offer.len())).on(rank));
    }
    let here = Here::find(config, Purpose::Control)?;
    let thread = Thread::start(config, None)?;
    let key = *id.control_key().bytes();
    let shared = Arc::new(Shared::new(rank)?);
    let entry = Entry { name: id.name(), key, shared: Arc::clone(&shared) };
    thread.carry_out(Command::Enter { entry, size, port: Arc::clone(&here.port) })?;
    let joining = Joining { id, key, rank, size, here, thread, shared, deadline };
    let result = joining.run(config, offer);
    if result.is_err() {
        joining.thread.order(Command::Forget { shared: Arc::clone(&joining.shared) });
    }
    result.map_err(|error| if error.rank.is_none() { error.on(rank) } else { error })
}

struct Joining<'i> {
    id: &'i UniqueId,
    key: [u8; 32],
    rank: u32,
    size: u32,
    here: Here,
    thread: Arc<Thread>,
    shared: Arc<Shared>,
    deadline: Instant,
}

impl Joining<'_> {
    fn run(&self, config: &Config, offer: Vec<u8>) -> Result<Joined> {
        let member = Member {
            rank: self.rank,
            host: self.here.host,
            hostname: self.here.hostname.clone(),
            pid: std::process::id(),
            port: self.here.port.number(),
            addresses: self.here.addresses.clone(),
            offer,
            hardware: Hardware::find(config.transport.allows(RDMA)),
        };
        let place = match self.check_in(config, member)? {
            Verdict::Top { table } => Place::Top(table),
            Verdict::Under { parent } => {
                Place::Under(parent.rank, Box::new(self.link_to(&parent)?))
            }
            Verdict::Refused(failure) | Verdict::Complete(failure) => return Err(failure.into()),
        };
        let shared = Arc::clone(&self.shared);
        self.thread.carry_out(Command::Take { shared, place })?;
        let late = || "the table of ranks did not come down the tree in time".to_owned();
        let table = self.shared.wait(self.deadline, |state| state.table.take(), late)?;
        let damaged = |source| Error::internal("the table of ranks is damaged").because(source);
        let control = Arc::new(Control {
            shared: Arc::clone(&self.shared),
            thread: Arc::clone(&self.thread),
            members: table.members(self.size).map_err(damaged)?,
            name: self.id.name(),
            key: self.key,
            host: self.here.host,
        });
        // Nobody returns before everybody is connected.
        let everybody = control.meet(self.deadline);
        everybody.inspect_err(|error| control.raise(error.clone()))?;
        Ok(Joined { members: Arc::clone(&control.members), control })
    }

    /// Reports to the root, again and again while it is not there, and waits for its verdict.
    fn check_in(&self, config: &Config, member: Member) -> Result<Verdict> {
        let mut check_in = CheckIn { member, size: self.size, agreed: agreed(config), patience: 0 };
        let mut turned_away: Option<Instant> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let patience = left - (left / 8).min(VERDICT);
            check_in.patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
            let error = match self.report(&check_in) {
                // The next job at an agreed place may not have begun there yet.
                Ok(Verdict::Complete(failure)) if self.id.origin() == Origin::Agreed => {
                    failure.into()
                }
                Ok(verdict) => return Ok(verdict),
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::TurnedAway) => {
                    let first = *turned_away.get_or_insert_with(Instant::now);
                    let error = Error::remote(format!(
                        "the root at {} refused the handshake: wrong secret?",
                        self.root()
                    ));
                    if first.elapsed() >= TURNED_AWAY && self.id.origin() != Origin::Derived {
                        return Err(error);
                    }
                    error
                }
                Err(Attempt::Unreachable(error)) => error,
            };
            let next = Instant::now() + pause;
            if next >= self.deadline {
                return Err(error);
            }
            self.shared.pause(next)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn report(&self, check_in: &CheckIn) -> std::result::Result<Verdict, Attempt> {
        let noise = calling_root(&self.key, check_in);
        let preamble = Preamble { id: CHECK_IN, kind: Kind::CheckIn, rank: self.rank };
        let mut link =
            Link::dial(self.id.addresses(), preamble, noise, self.deadline).map_err(|source| {
                let what = format!("the root at {} cannot be reached", self.root());
                Attempt::Unreachable(Error::timeout(what).because(source))
            })?;
        let verdict = link.receive(self.deadline).map_err(|why| match why {
            Broken::Late => {
                let what = format!("the root at {} did not answer in time", self.root());
                Attempt::Failed(Error::timeout(what))
            }
            why if why.is_refusal(&link) => Attempt::TurnedAway,
            why => {
                let what = format!("the connection to the root at {} is lost", self.root());
                Attempt::Failed(Error::remote(what).because(why))
            }
        })?;
        wire::decode(&verdict).map_err(|source| {
            Attempt::Failed(Error::remote("the root gave no proper verdict").because(source))
        })
    }

    /// Connects to the parent in the tree. It is there: it has checked in.
    fn link_to(&self, parent: &Member) -> Result<Link> {
        let noise = calling_parent(&self.key, self.rank, parent.rank);
        let preamble = Preamble { id: self.id.name(), kind: Kind::Tree, rank: self.rank };
        let who = parent.describe();
        let about = |error: Error| error.about(parent.rank);
        let mut link = Link::dial(parent.reach(self.here.host), preamble, noise, self.deadline)
            .map_err(|source| {
                about(Error::remote(format!("{who} cannot be reached")).because(source))
            })?;
        link.open(self.deadline).map_err(|source| {
            about(Error::remote(format!("{who} does not take the link")).because(source))
        })?;
        Ok(link)
    }

    fn root(&self) -> String {
        let addresses: Vec<String> =
            self.id.addresses().iter().map(SocketAddr::to_string).collect();
        addresses.join(" or ")
    }
}

/// The caller's end of a connection to the root, which answers with a [`Verdict`].
pub(crate) fn calling_root(key: &[u8; 32], check_in: &CheckIn) -> Noise {
    let mut noise = Noise::caller(key, purpose(Kind::CheckIn), wire::LONG);
    noise.send(&check_in.encode());
    noise
}

/// The caller's end of a link to the parent, which takes it by finishing the handshake.
pub(crate) fn calling_parent(key: &[u8; 32], rank: u32, parent: u32) -> Noise {
    let mut noise = Noise::caller(key, purpose(Kind::Tree), wire::LONG);
    noise.send(&wire::encode(&Message::Link { from: rank, to: parent }));
    noise
}

/// What must be the same on all ranks.
pub(crate) fn agreed(config: &Config) -> BTreeMap<String, String> {
    let mut agreed = config.agreed();
    agreed.insert("the library's version".to_owned(), wire::VERSION.to_owned());
    agreed
}

/// Why a check-in did not lead to a verdict.
enum Attempt {
    /// The root is not there.
    Unreachable(Error),
    /// The root does not know the secret, or not yet.
    TurnedAway,
    /// Something that trying again does not change.
    Failed(Error),
}
