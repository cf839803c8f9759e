//! One rank of a job: its links to all others, and its part of the measuring.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dure::{Communicator, Config};
use dure_transport::Card;
use nix::ifaddrs::getifaddrs;

use super::{Cell, PING_BYTES, Plan, Report};
use crate::fabric::cxl;
use crate::fabric::device::{self, Before, Port};
use crate::fabric::figures::{Latency, distribution};
use crate::fabric::link::Links;
use crate::fabric::net::{Devices, Me, Net};
use crate::fabric::test::Kind;
use crate::fabric::wait::Count;
use crate::fabric::write::{Part, Shape, bandwidth, ping, pong};
use crate::fabric::{Args, devices};
use crate::output::{Failure, progress_bar};

/// Flows to each peer: one that is measured, one for load.
const FLOWS: u16 = 2;
/// Bytes of a card as it travels: its length in two bytes, then the card.
const CARD: usize = 2 + Card::MAX;

/// A rank and its links.
pub(super) struct Job<'c> {
    comm: &'c Communicator,
    plan: Plan,
    /// By transport.
    wires: Vec<(Kind, Links)>,
    /// Of each rank but this one: which wire, and the place there.
    ways: Vec<Option<(usize, usize)>>,
    ports: Vec<Port>,
}

impl<'c> Job<'c> {
    /// Connects to all other ranks. Collective.
    pub(super) fn open(
        comm: &'c Communicator,
        config: &Config,
        args: &Args,
        plan: Plan,
    ) -> Result<Self, Failure> {
        let kinds = kinds(comm, args)?;
        let mut devices = devices(args);
        complete(&mut devices.pool, args, config);
        if kinds.contains(&Some(Kind::Cxl)) && devices.pool.devices.is_empty() {
            let text = "--transport cxl needs the devices of a pool: --pool, or DURE_POOL";
            return Err(Failure::Usage(text.to_owned()));
        }
        let rdma = kinds.contains(&Some(Kind::Rdma));
        let ports = if rdma { device::ports(&devices.rdma)? } else { Vec::new() };
        let mut key = if comm.rank() == 0 { random()? } else { [0; 32] };
        comm.broadcast(&mut key, 0)?;
        let mut job = Self { comm, plan, wires: Vec::new(), ways: vec![None; kinds.len()], ports };
        for kind in [Kind::Pool, Kind::Cxl, Kind::Rdma, Kind::Tcp] {
            job.open_wire(kind, &kinds, (key, &devices), config)?;
        }
        for (_, links) in &mut job.wires {
            links.wait_up()?;
        }
        comm.barrier()?;
        Ok(job)
    }

    /// Opens a wire, if it leads to anybody, and begins to connect. All ranks take part, also those that do not need it.
    fn open_wire(
        &mut self,
        kind: Kind,
        kinds: &[Option<Kind>],
        (key, devices): ([u8; 32], &Devices),
        config: &Config,
    ) -> Result<(), Failure> {
        let mut links = None;
        let mut card = vec![0; CARD];
        if kinds.contains(&Some(kind)) {
            let addresses = addresses(self.comm, config)?;
            let (rank, ranks) = (self.comm.rank(), self.comm.size());
            let me = Me { rank, ranks, key, addresses, flows: FLOWS, devices };
            let mut opened = Links::new(kind, Net::open(kind, &me)?, self.plan.patience);
            if shares_cores(self.comm) {
                opened.share_cores();
            }
            let address = opened.address().0;
            let len = u16::try_from(address.len()).unwrap_or(0);
            card[..2].copy_from_slice(&len.to_le_bytes());
            card[2..2 + address.len()].copy_from_slice(&address);
            links = Some(opened);
        }
        let mut cards = vec![0; CARD * kinds.len()];
        self.comm.all_gather(&card, &mut cards)?;
        let Some(mut links) = links else { return Ok(()) };
        for (rank, card) in
            cards.chunks_exact(CARD).enumerate().filter(|(rank, _)| kinds[*rank] == Some(kind))
        {
            let len = usize::from(u16::from_le_bytes([card[0], card[1]]));
            let card = Card(card[2..2 + len].into());
            let peer = u32::try_from(rank).unwrap_or(u32::MAX);
            let at = links.begin(peer, &card, self.plan.size.max(PING_BYTES))?;
            self.ways[rank] = Some((self.wires.len(), at));
        }
        self.wires.push((kind, links));
        Ok(())
    }

    /// Measures all paths, row by row, one at a time, so that nothing disturbs. Collective.
    pub(super) fn measure(mut self) -> Result<Report, Failure> {
        let (me, size) = (self.comm.rank(), self.comm.size());
        let mut report = Report::default();
        let bar = progress_bar(me == 0, u64::from(size) * u64::from(size - 1), "paths");
        bar.enable_steady_tick(Duration::from_secs(1));
        for from in 0..size {
            self.comm.barrier()?;
            let before = Before::read(&self.ports);
            for to in (0..size).filter(|to| *to != from) {
                if me == from {
                    let cell = self.ask(to)?;
                    report.wrong += cell.wrong;
                    report.cells.push(cell);
                } else if me == to {
                    report.wrong += self.answer(from)?;
                }
                // Those that take no part sleep there.
                self.comm.barrier()?;
                bar.inc(1);
            }
            report.counters.push(before.after());
        }
        bar.finish_and_clear();
        Ok(report)
    }

    fn shapes(&self) -> [Shape; 2] {
        let (size, depth) = (self.plan.size, self.plan.depth);
        let count = Count::Messages(self.plan.messages);
        let shape = Shape { size, count, flows: 1, depth, moderation: 1, copied: 0, seed: 1 };
        [shape, Shape { size: PING_BYTES, seed: 2, ..shape }]
    }

    fn way(&mut self, peer: u32) -> Result<(Kind, &mut Links, usize), Failure> {
        let way = self.ways.get(peer as usize).copied().flatten();
        let (wire, at) =
            way.ok_or_else(|| Failure::Failed(format!("rank {peer} is not connected")))?;
        let (kind, links) = &mut self.wires[wire];
        Ok((*kind, links, at))
    }

    /// The client's part of a cell.
    fn ask(&mut self, to: u32) -> Result<Cell, Failure> {
        let (from, load) = (self.comm.rank(), self.plan.load);
        let [stream, short] = self.shapes();
        let (kind, links, at) = self.way(to)?;
        let part = Part { sends: true, receives: false };
        let (sent, _) = bandwidth(links, at, &stream, part)?;
        let figures =
            crate::fabric::figures::Bandwidth::new(stream.size, sent.messages, sent.nanos, 0.0);
        let (latency, mut wrong) = latency(links, at, &short, false)?;
        let mut loaded = None;
        if load {
            let (latency, more) = self::latency(links, at, &short, true)?;
            wrong += more;
            loaded = Some(latency);
        }
        let transport = kind.name();
        Ok(Cell { from, to, transport, bandwidth: figures.average, latency, loaded, wrong })
    }

    /// The server's part of a cell. Gives the bytes that arrived wrong here.
    fn answer(&mut self, from: u32) -> Result<u64, Failure> {
        let load = self.plan.load;
        let [stream, short] = self.shapes();
        let (_, links, at) = self.way(from)?;
        let part = Part { sends: false, receives: true };
        let (_, mut wrong) = bandwidth(links, at, &stream, part)?;
        wrong += pong(links, at, &short)?;
        if load {
            // Messages of the load land over those that are measured.
            pong(links, at, &short)?;
        }
        Ok(wrong)
    }
}

fn latency(
    links: &mut Links,
    at: usize,
    shape: &Shape,
    load: bool,
) -> Result<(Latency, u64), Failure> {
    let (mut times, wrong) = ping(links, at, shape, load)?;
    times.iter_mut().for_each(|time| *time /= 2);
    Ok((Latency::of(&distribution(&times)), wrong))
}

/// Which transport leads to each rank: the one that was asked for, or the one that collectives take.
fn kinds(comm: &Communicator, args: &Args) -> Result<Vec<Option<Kind>>, Failure> {
    let kind = |rank: u32| {
        if rank == comm.rank() {
            return Ok(None);
        }
        let kind = args.transport.unwrap_or_else(|| match comm.transport_to(rank) {
            "pool" => Kind::Pool,
            "cxl" => Kind::Cxl,
            "rdma" => Kind::Rdma,
            _ => Kind::Tcp,
        });
        if kind == Kind::Pool && !comm.shares_host(rank) {
            let text = format!(
                "--transport pool does not lead to rank {rank}, which is on another host (allowed: rdma, tcp, cxl)"
            );
            return Err(Failure::Usage(text));
        }
        Ok(Some(kind))
    };
    (0..comm.size()).map(kind).collect()
}

/// What the flags do not say of the pool, the environment of the job says.
fn complete(pool: &mut cxl::Pool, args: &Args, config: &Config) {
    if pool.devices.is_empty() {
        pool.devices.clone_from(&config.pool);
    }
    pool.partition = args.pool_partition.unwrap_or(config.pool_partition);
    pool.coherence = args.pool_coherence.unwrap_or_else(|| config.pool_coherence.into());
}

/// Whether the ranks of this host are as many as its cores, or more: others than the two that measure run there too.
fn shares_cores(comm: &Communicator) -> bool {
    let here = (0..comm.size()).filter(|rank| comm.shares_host(*rank)).count();
    std::thread::available_parallelism().is_ok_and(|cores| here >= cores.get())
}

fn random() -> Result<[u8; 32], Failure> {
    dure_transport::proof::random_bytes()
        .map_err(|error| crate::fabric::net::failed(Kind::Tcp, error))
}

/// Where this process is reached: loopback when all ranks are on its host, else all addresses that the settings allow.
fn addresses(comm: &Communicator, config: &Config) -> Result<Vec<IpAddr>, Failure> {
    if (0..comm.size()).all(|rank| comm.shares_host(rank)) {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    let interfaces = getifaddrs().map_err(|error| Failure::system("getifaddrs", error))?;
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let allowed =
            config.ifname.as_ref().is_none_or(|ifname| ifname.allows(&interface.interface_name));
        let address = interface.address.filter(|_| allowed)?;
        let four = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let six = || {
            Some(address.as_sockaddr_in6()?.ip())
                .filter(|ip| !ip.is_unicast_link_local())
                .map(IpAddr::V6)
        };
        four.or_else(six).filter(|ip| !ip.is_loopback())
    };
    let mut found: Vec<_> = interfaces.filter_map(address).collect();
    // Cards have a limit.
    found.truncate(4);
    if found.is_empty() {
        return Err(Failure::Failed("no address of this host leads to other hosts".to_owned()));
    }
    Ok(found)
}
