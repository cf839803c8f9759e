//! Puts the parts of a communicator together: transports, the meeting of the ranks, the fabric, the engine.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use crossbeam::queue::SegQueue;
use dure_device::{Device, Queue, Space};
use dure_exec::{Executor, Settings};
use dure_npu::{NAME as NPU, Npu};
use dure_plan::{FilePlan, Rank, verify};
use dure_pool::cxl::{self, Cxl, Place};
use dure_transport::{Card, Fabric, Peer, Transport};

use crate::addresses::{self, Purpose};
use crate::alone::Alone;
use crate::bootstrap::wire::Member;
use crate::communicator::Inner;
use crate::config::{Config, TcpDriver};
use crate::control::{self, Shared};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::hardware::{self, Hardware};
use crate::pace::Patience;
use crate::planner::layout;
use crate::rdma;
use crate::tuner::{DEFAULT_LANES, Tuner};
use crate::turnstile::Turnstile;
use crate::unique_id::UniqueId;

/// Name of the transport inside a host.
pub(crate) const POOL: &str = "pool";
/// Name of the transport between hosts that share a pool of memory.
pub(crate) const CXL: &str = "cxl";
/// Name of the transport between hosts that have it and reach one another by it.
pub(crate) const RDMA: &str = "rdma";
/// Name of the transport between all other hosts.
pub(crate) const TCP: &str = "tcp";

/// TCP connections or queue pairs per pair of ranks, when the settings leave it open: as many as lanes.
pub(crate) const DEFAULT_FLOWS: u32 = 2;
/// From this size a message lands directly in the user's buffer where it can: below, the grant costs more than a copy.
const LANDING_BYTES: u32 = 128 << 10;
/// From this size a message inside the host is read where its sender has it: below, asking the kernel for it costs more
/// than a second copy.
const READING_BYTES: u32 = 16 << 10;

/// What a communicator is made from.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) id: UniqueId,
    pub(crate) rank: u32,
    pub(crate) size: u32,
    pub(crate) config: Config,
    pub(crate) devices: Vec<Arc<dyn Device>>,
    pub(crate) deadline: Instant,
}

/// Meets the other ranks and makes this rank's part of the communicator.
pub(crate) fn assemble(plan: Plan) -> Result<Inner> {
    let Plan { id, rank, size, config, devices, deadline } = plan;
    let mut settings = settings(&config)?;
    if size == 1 {
        // There is nothing to overlap, and each lane has a flight record.
        settings.lanes = 1;
    }
    let file = config.plan_file.as_deref().map_or(Ok(Vec::new()), plans)?;
    let (control, members, net, ways): (_, Arc<[Member]>, Box<dyn Transport>, _) = if size == 1 {
        (None, Arc::new([myself()?]), Box::new(Alone::default()), Box::default())
    } else {
        let (joined, fabric, ways) = meet(&id, (rank, size), &config, &devices, deadline)?;
        (Some(joined.control), joined.members, Box::new(fabric), ways)
    };
    let addresses: Box<[Card]> =
        members.iter().map(|member| Card(member.offer.clone().into())).collect();
    let shared = match &control {
        Some(control) => Arc::clone(control.shared()),
        None => Arc::new(Shared::alone(rank)),
    };
    // Namespaces of one machine share its cores.
    let neighbours = hardware::neighbours(&members, members[rank as usize].host);
    let shares_cores = neighbours.clone().count() > hardware::cores(neighbours) as usize;
    settings.shares_cores = shares_cores;
    let planner = layout::planner(&config, (&members, rank), control.as_deref(), settings)?;
    let config = Arc::new(config);
    let executor = Executor::new(net, addresses, settings, queues(&devices)?);
    let detours = executor.detours();
    let tuner = Tuner::new(Rank(rank), planner, Arc::clone(&config), file);
    let engine = Engine::new((Rank(rank), size), executor, tuner, queues(&devices)?);
    Ok(Inner {
        rank,
        size,
        id,
        config,
        members,
        ways,
        control,
        shared,
        engine: Turnstile::new(engine),
        detours,
        submitted: SegQueue::new(),
        devices,
        patience: Patience::new(shares_cores),
        children: AtomicU32::new(0),
    })
}

/// Meets the other ranks, and opens the transports that lead to them. With the name of the one that leads to each rank.
fn meet(
    id: &UniqueId,
    (rank, size): (u32, u32),
    config: &Config,
    devices: &[Arc<dyn Device>],
    deadline: Instant,
) -> Result<(control::Joined, Fabric, Box<[&'static str]>)> {
    let subs = transports(id, (rank, size), config, devices)?;
    let offer = Fabric::address_of(&subs).0.into();
    let joined = control::join(id, (rank, size), config, offer, deadline)?;
    let members = &joined.members;
    let me = &members[rank as usize];
    let route =
        members.iter().map(|member| route(&subs, me, member)).collect::<Result<Vec<_>>>()?;
    report(rank, members, &subs, &route);
    let ways = route.iter().map(|sub| subs[*sub].name()).collect();
    let (subs, route) = used(subs, &route, rank);
    let fabric = Fabric::new(subs, &route).map_err(|e| transport_error("fabric", e))?;
    Ok((joined, fabric, ways))
}

fn settings(config: &Config) -> Result<Settings> {
    let refuse = |what: String| Err(Error::invalid_argument(what));
    let lanes =
        config.lanes.map_or(Ok(DEFAULT_LANES), |lanes| u16::try_from(lanes).map_err(|_| lanes));
    let lanes = match lanes {
        Ok(lanes) if lanes <= MOST_LANES => lanes,
        _ => {
            return refuse(format!(
                "{:?} lanes (allowed: 1 to {MOST_LANES})",
                config.lanes.unwrap_or(0)
            ));
        }
    };
    let slot_bytes = u32::try_from(config.slot_bytes).ok().filter(|b| *b >= 64 && b % 64 == 0);
    let Some(slot_bytes) = slot_bytes else {
        return refuse(format!(
            "slots of {} bytes (allowed: multiples of 64 below 4G)",
            config.slot_bytes
        ));
    };
    Ok(Settings {
        lanes,
        slots: config.slots,
        slot_bytes,
        landing_bytes: LANDING_BYTES,
        reading_bytes: READING_BYTES,
        shares_cores: false,
    })
}

/// Most lanes: their counters are named in the greeting of a connection.
const MOST_LANES: u16 = 16;

/// The plan of a file, proved before anything runs it.
fn plans(path: &std::path::Path) -> Result<Vec<FilePlan>> {
    let refuse =
        |what: String| Error::invalid_argument(format!("plan file {}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    let plan = FilePlan::parse(&text).map_err(|error| refuse(error.to_string()))?;
    verify(plan.collective(), &plan.world(), &plan, 1).map_err(|flaw| refuse(flaw.to_string()))?;
    Ok(vec![plan])
}

fn transport_error(name: &str, error: dure_transport::Error) -> Error {
    Error::system(format!("the {name} transport cannot be opened")).because(error)
}

/// The transport inside a host, with the memory of devices whose peers read it themselves.
fn pool(
    id: &UniqueId,
    rank: u32,
    config: &Config,
    devices: &[Arc<dyn Device>],
) -> Result<Box<dyn Transport>> {
    let options = dure_pool::Options {
        rank: Peer(rank),
        key: id.data_key(),
        capacity: None,
        huge_pages: config.huge_pages,
    };
    let pool = dure_pool::Pool::open(options).map_err(|e| transport_error(POOL, e))?;
    let pool: Box<dyn Transport> = Box::new(pool);
    if !config.transport.allows(NPU) {
        return Ok(pool);
    }
    // All ranks of a host have it, whether they have devices or not: they greet each other alike.
    Ok(Box::new(Npu::new(pool, devices).map_err(|e| transport_error(NPU, e))?))
}

/// The transport through the pool that the settings name, if they name one.
fn cxl(
    id: &UniqueId,
    (rank, size): (u32, u32),
    config: &Config,
) -> Result<Option<Box<dyn Transport>>> {
    if config.pool.is_empty() || !config.transport.allows(CXL) {
        return Ok(None);
    }
    let options = cxl::Options {
        partition: config.pool_partition,
        member: config.pool_member.unwrap_or(rank),
        coherence: config.pool_coherence,
        job: id.name(),
        patience: config.pool_patience,
        take_over: config.pool_take_over,
        ..cxl::Options::new(config.pool.clone(), Peer(rank), size)
    };
    let opened = Cxl::open(&options).map_err(|error| transport_error(CXL, error).about(rank))?;
    Ok(Some(Box::new(opened)))
}

/// Opens the transports that the settings allow.
fn transports(
    id: &UniqueId,
    (rank, size): (u32, u32),
    config: &Config,
    devices: &[Arc<dyn Device>],
) -> Result<Vec<Box<dyn Transport>>> {
    let mut subs: Vec<Box<dyn Transport>> = Vec::new();
    if config.transport.allows(POOL) {
        subs.push(pool(id, rank, config, devices)?);
    }
    subs.extend(cxl(id, (rank, size), config)?);
    if config.transport.allows(RDMA) {
        let opened =
            side_channel(id, rank, config).and_then(|side| rdma::open(rank, config, side, devices));
        match opened {
            Ok(sub) => subs.push(sub),
            Err(error) if !config.transport.allows(TCP) => return Err(error),
            Err(error) => tracing::info!(target: "dure::init", "{}", error.chain()),
        }
    }
    if config.transport.allows(TCP) {
        let flows = u16::try_from(config.tcp_flows.unwrap_or(DEFAULT_FLOWS)).unwrap_or(u16::MAX);
        subs.push(tcp(id, rank, config, Purpose::Data, |options| options.flows = flows)?);
    }
    if subs.is_empty() {
        let text = format!(
            "DURE_TRANSPORT={} leaves no transport (known: {POOL}, {CXL} with DURE_POOL, {RDMA}, {TCP})",
            config.transport
        );
        return Err(Error::invalid_argument(text));
    }
    Ok(subs)
}

/// Opens a TCP transport of one flow, which `change` may make another.
fn tcp(
    id: &UniqueId,
    rank: u32,
    config: &Config,
    purpose: Purpose,
    change: impl FnOnce(&mut dure_tcp::Options),
) -> Result<Box<dyn Transport>> {
    let control::Here { port, mut addresses, .. } = control::Here::find(config, purpose)?;
    // Loopback is a way to this process only from this host, where the others lead too.
    if addresses.iter().any(|address| !address.is_loopback()) {
        addresses.retain(|address| !address.is_loopback());
    }
    let number = port.number();
    let mut options = dure_tcp::Options {
        me: Peer(rank),
        id: data_id(id, rank),
        key: id.data_key(),
        port,
        addresses: addresses.into_iter().map(|ip| SocketAddr::new(ip, number)).collect(),
        flows: 1,
        driver: config.tcp_driver,
    };
    change(&mut options);
    dure_tcp::open(options).map_err(|e| transport_error(TCP, e))
}

/// Most addresses of a side channel: cards of all transports together have a limit.
const SIDE_ADDRESSES: usize = 4;

/// The transport over which ranks agree on queue pairs. It carries data only when no rail is left, so it is kept small.
fn side_channel(id: &UniqueId, rank: u32, config: &Config) -> Result<Box<dyn Transport>> {
    tcp(id, rank, config, Purpose::Control, |options| {
        options.driver = TcpDriver::Poll;
        options.addresses.truncate(SIDE_ADDRESSES);
        // Told apart from the TCP transport of the same rank, in bytes that a rank's number does not change.
        for (byte, mark) in options.id[8..].iter_mut().zip(RDMA.bytes()) {
            *byte ^= mark;
        }
    })
}

/// What connections to a rank name, so that ranks of one process are told apart.
fn data_id(id: &UniqueId, rank: u32) -> [u8; 16] {
    let mut name = id.name();
    for (byte, rank) in name.iter_mut().zip(rank.to_le_bytes()) {
        *byte ^= rank;
    }
    name
}

/// The only member of a communicator of one rank.
fn myself() -> Result<Member> {
    Ok(Member {
        rank: 0,
        host: addresses::host_id()?,
        hostname: addresses::hostname(),
        pid: std::process::id(),
        port: 0,
        addresses: Vec::new(),
        offer: Vec::new(),
        hardware: Hardware::default(),
    })
}

/// Which transport reaches a member: shared memory inside the host; between hosts a pool that both are members of, or RDMA where both
/// have it and their addresses reach one another, TCP otherwise.
fn route(subs: &[Box<dyn Transport>], me: &Member, member: &Member) -> Result<usize> {
    let find = |name: &str| subs.iter().position(|sub| sub.name() == name);
    let inside = if me.host == member.host { find(POOL) } else { None };
    let meets = || place(me).is_some_and(|mine| place(member) == Some(mine));
    let shared = || if meets() { find(CXL) } else { None };
    let reaches =
        || me.offer(RDMA).zip(member.offer(RDMA)).is_some_and(|(a, b)| rdma::reaches(&a, &b));
    let between = || if reaches() { find(RDMA) } else { None };
    inside
        .or_else(shared)
        .or_else(between)
        .or_else(|| find(TCP))
        .or(if me.rank == member.rank { Some(0) } else { None })
        .ok_or_else(|| {
            let text = format!(
                "{} is on another host, and DURE_TRANSPORT leaves no transport to there",
                member.describe()
            );
            Error::invalid_argument(text).about(member.rank)
        })
}

/// The partition of a pool that a member uses.
pub(crate) fn place(member: &Member) -> Option<Place> {
    member.offer(CXL).and_then(|address| Cxl::place(&address))
}

/// The transports that reach somebody, and the routes over them: what reaches nobody would be polled all the same. The
/// route to the rank itself may lead anywhere.
fn used<T>(subs: Vec<T>, route: &[usize], me: u32) -> (Vec<T>, Vec<usize>) {
    let others = || (0..).zip(route).filter(|(rank, _)| *rank != me).map(|(_, sub)| *sub);
    let kept = |sub: usize| others().any(|used| used == sub);
    let place = |sub: usize| (0..sub).filter(|before| kept(*before)).count();
    let places = route.iter().map(|sub| if kept(*sub) { place(*sub) } else { 0 }).collect();
    let subs = subs.into_iter().enumerate().filter(|(sub, _)| kept(*sub));
    (subs.map(|(_, sub)| sub).collect(), places)
}

/// Hosts in the order in which they first appear.
pub(crate) fn hosts(members: &[Member]) -> Arc<[u32]> {
    let mut seen = HashMap::new();
    let mut number = |host| {
        let next = seen.len();
        let index = *seen.entry(host).or_insert(next);
        u32::try_from(index).expect("there are no more hosts than ranks")
    };
    members.iter().map(|member| number(member.host)).collect()
}

fn queues(devices: &[Arc<dyn Device>]) -> Result<Vec<(Space, Box<dyn Queue>)>> {
    let open = |device: &Arc<dyn Device>| {
        let failed = |error| {
            Error::device(format!("device {} gives no queue", device.name())).because(error)
        };
        Ok((device.space(), device.queue().map_err(failed)?))
    };
    std::iter::once(&dure_device::host::host()).chain(devices).map(open).collect()
}

/// One line for whoever looks at the log: who talks how.
fn report(rank: u32, members: &[Member], subs: &[Box<dyn Transport>], route: &[usize]) {
    let peers = |index: usize| {
        (0..members.len()).filter(|p| *p != rank as usize && route[*p] == index).count()
    };
    let transports: Vec<String> = subs
        .iter()
        .enumerate()
        .map(|(i, sub)| format!("{} to {} peers", sub.name(), peers(i)))
        .collect();
    tracing::info!(
        target: "dure::init",
        "dure {}: rank {rank} of {} on {}: {}",
        env!("CARGO_PKG_VERSION"),
        members.len(),
        members[rank as usize].hostname,
        transports.join(", ")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_that_reach_nobody_are_not_kept() {
        let both = || vec!["pool", "tcp"];
        assert_eq!(used(both(), &[0, 0, 0], 1), (vec!["pool"], vec![0, 0, 0]));
        assert_eq!(used(both(), &[1, 0, 1], 1), (vec!["tcp"], vec![0, 0, 0]));
        assert_eq!(used(both(), &[0, 0, 1], 1), (both(), vec![0, 0, 1]));
    }
}
