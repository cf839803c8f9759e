//! A port of a device, opened: what a rank sends and receives with.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_device::{Memory, Space};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::ifaddrs::getifaddrs;
use rdma_sys::{
    ibv_access_flags, ibv_port_attr, ibv_port_state, ibv_recv_wr, ibv_srq_attr, ibv_srq_init_attr,
};

use crate::card::{PORTS, PortCard};
use crate::counters::Counters;
use crate::error::{Error, Result};
use crate::gid::{Gid, Kind};
use crate::memory::Pages;
use crate::queue::Queue;
use crate::verbs::{Context, Cq, Mr, Pd, Srq, Verbs};

/// Receives that are posted. Each is taken by one signal; the peers' slots and credits bound how many can be under way, 18 a
/// peer with the executor's usual settings. Whoever sends when there is none is told to try again.
const RECEIVES: u32 = 4096;
/// Receives that are posted again together: fewer calls, and a chain of this length is prepared once.
const REFILL: u32 = 64;
/// Completions of sends that may be outstanding, of all queue pairs together.
const SENDS: u32 = 4096;
/// Bytes of a short slot of the bounce buffer: a head, or a page of payload with the header before it.
pub(crate) const BOUNCE: usize = 4096 + 64;
const BOUNCES: u16 = 256;
/// Bytes of a long slot, for a longer message whose memory is not registered: up to here a copy takes less time than to
/// register the memory and to end that again, each a system call that pins or frees every page.
pub(crate) const LONG_BOUNCE: usize = (128 << 10) + 64;
const LONG_BOUNCES: u16 = 16;
/// `IBV_LINK_LAYER_ETHERNET` of the header.
const ETHERNET: u8 = 2;

/// How long a port that has come up again has to stay up: links flap, and switches and hosts learn where it is.
const SETTLE: Duration = Duration::from_secs(1);

/// Which GIDs may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GidIndex {
    /// The best for each peer.
    #[default]
    Any,
    /// The one with this index, on every port.
    At(u32),
}

/// A port that is active and opened.
#[derive(Debug)]
pub(crate) struct Nic {
    pub(crate) card: PortCard,
    /// Index in the port's table of each GID of the card.
    pub(crate) gid_indices: Vec<u8>,
    /// Longest work request, in bytes, a multiple of 4096.
    pub(crate) most: u64,
    /// Most entries of a gather list.
    pub(crate) gather: u32,
    /// Counters when it was opened.
    pub(crate) before: Counters,
    pub(crate) context: Arc<Context>,
    pub(crate) pd: Arc<Pd>,
    pub(crate) cq: Arc<Cq>,
    pub(crate) srq: Arc<Srq>,
    /// The completion queue was asked to ring, and has not done so.
    pub(crate) armed: bool,
    /// Completions of sends that are still to come.
    pub(crate) outstanding: u32,
    /// Receives that were taken and are not posted again.
    taken: u32,
    chain: Chain,
    pub(crate) bounce: Bounce,
    /// Since when the port is up; `None` while it is down.
    pub(crate) up_since: Option<Instant>,
    /// The port has been down since it was opened.
    pub(crate) was_down: bool,
    /// The device has failed, for good.
    pub(crate) is_dead: bool,
    /// Which queue pair of this transport has a number.
    pub(crate) queues: HashMap<u32, usize>,
}

/// Receives without memory, for immediates, each leading to the next.
struct Chain(Box<[ibv_recv_wr]>);

// SAFETY: its pointers lead into itself, and are used by whoever has it.
unsafe impl Send for Chain {}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} receives", self.0.len())
    }
}

/// Registered memory that messages are copied to, in slots of two lengths. The short ones come first in their numbers.
#[derive(Debug)]
pub(crate) struct Bounce {
    short: Slots,
    long: Long,
    pd: Arc<Pd>,
}

/// The long slots: most transports never need them.
#[derive(Debug)]
enum Long {
    Unmade,
    Made(Slots),
    /// The device or a limit of the process's refused them.
    Refused,
}

/// Slots of one length.
#[derive(Debug)]
struct Slots {
    // Before the pages that it covers.
    mr: Mr,
    pages: Pages,
    bytes: usize,
    free: Vec<u16>,
}

impl Slots {
    fn new(pd: &Arc<Pd>, bytes: usize, count: u16) -> Result<Self> {
        let pages = Pages::new(bytes * usize::from(count)).map_err(Error::system("mmap"))?;
        let memory = pages.memory();
        // SAFETY: the pages are dropped after the registration.
        let mr = unsafe { Mr::new(pd, memory.ptr.as_ptr(), memory.len, 0) }?;
        Ok(Self { mr, pages, bytes, free: (0..count).collect() })
    }
}

impl Bounce {
    fn new(pd: &Arc<Pd>) -> Result<Self> {
        let short = Slots::new(pd, BOUNCE, BOUNCES)?;
        Ok(Self { short, long: Long::Unmade, pd: Arc::clone(pd) })
    }

    /// Whether there is no short slot.
    pub(crate) fn is_empty(&self) -> bool {
        self.short.free.is_empty()
    }

    /// Whether there is a slot for so many bytes.
    pub(crate) fn has(&mut self, len: u64) -> bool {
        if len <= BOUNCE as u64 {
            return !self.is_empty();
        }
        if matches!(self.long, Long::Unmade) {
            let made = Slots::new(&self.pd, LONG_BOUNCE, LONG_BOUNCES);
            self.long = made.map_or(Long::Refused, Long::Made);
        }
        let Long::Made(long) = &self.long else { return false };
        len <= LONG_BOUNCE as u64 && !long.free.is_empty()
    }

    /// Whether there will never be a slot for so many bytes.
    pub(crate) fn refuses(&self, len: u64) -> bool {
        len > LONG_BOUNCE as u64 || len > BOUNCE as u64 && matches!(self.long, Long::Refused)
    }

    /// A slot for so many bytes.
    pub(crate) fn take(&mut self, len: u64) -> Option<u16> {
        if len <= BOUNCE as u64 {
            return self.short.free.pop();
        }
        let Long::Made(long) = &mut self.long else { return None };
        long.free.pop().map(|slot| BOUNCES + slot)
    }

    pub(crate) fn give_back(&mut self, slot: u16) {
        match (slot.checked_sub(BOUNCES), &mut self.long) {
            (None, _) => self.short.free.push(slot),
            (Some(slot), Long::Made(long)) => long.free.push(slot),
            (Some(_), _) => unreachable!("a slot is given back to where it is from"),
        }
    }

    /// The slots that a slot is one of, and which of them.
    fn find(&self, slot: u16) -> (&Slots, usize) {
        match (slot.checked_sub(BOUNCES), &self.long) {
            (None, _) => (&self.short, usize::from(slot)),
            (Some(slot), Long::Made(long)) => (long, usize::from(slot)),
            (Some(_), _) => unreachable!("a slot is found where it is from"),
        }
    }

    pub(crate) fn memory(&self, slot: u16) -> Memory {
        let (slots, at) = self.find(slot);
        slots.pages.memory().part(at * slots.bytes, slots.bytes)
    }

    pub(crate) fn lkey(&self, slot: u16) -> u32 {
        self.find(slot).0.mr.lkey()
    }
}

/// Opens the ports that may be used: at most four, those that are listed first.
///
/// # Errors
/// [`Error::NoPort`] with the reasons.
pub(crate) fn open_all(
    verbs: &'static Verbs,
    allows: &dyn Fn(&str) -> bool,
    gid_index: GidIndex,
) -> Result<Vec<Nic>> {
    let mut why = Vec::new();
    let wanted = |name: &str| {
        let wanted = allows(name);
        if !wanted {
            why.push(format!("{name} is not asked for (DURE_HCA; -d of dure fabric)"));
        }
        wanted
    };
    let contexts = match Context::open_all(verbs, wanted) {
        // What the verb says where the kernel has no RDMA (man ibv_get_device_list).
        Err(Error::Call { source, .. }) if source.raw_os_error() == Some(libc::ENOSYS) => {
            return Err(Error::NoPort { why: Vec::new() });
        }
        contexts => contexts?,
    };
    let addresses = addresses();
    let mut nics = Vec::new();
    for (name, context) in contexts {
        let ports = context.and_then(|context| Ok((context.device()?.phys_port_cnt, context)));
        let (count, context) = match ports {
            Ok(ports) => ports,
            Err(error) => {
                why.push(error.chain());
                continue;
            }
        };
        for number in 1..=count {
            if nics.len() == PORTS {
                break;
            }
            match Nic::open(&context, number, gid_index, &addresses) {
                Ok(nic) => nics.push(nic),
                Err(Unusable::Because(what)) => why.push(format!("{name} port {number} {what}")),
                Err(Unusable::Failed(error)) => why.push(error.chain()),
            }
        }
    }
    if nics.is_empty() { Err(Error::NoPort { why }) } else { Ok(nics) }
}

/// Why a port is not used.
enum Unusable {
    Because(String),
    Failed(Error),
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The addresses of this network namespace with the bits of their subnets.
fn addresses() -> HashMap<IpAddr, u8> {
    let Ok(all) = getifaddrs() else { return HashMap::new() };
    let known = all.filter_map(|interface| {
        let (address, mask) = (interface.address?, interface.netmask?);
        if let (Some(ip), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            let bits = u32::from(mask.ip()).count_ones();
            return Some((IpAddr::V4(ip.ip()), u8::try_from(bits).ok()?));
        }
        let (ip, mask) = (address.as_sockaddr_in6()?, mask.as_sockaddr_in6()?);
        let bits = u128::from(mask.ip()).count_ones();
        Some((IpAddr::V6(ip.ip()), u8::try_from(bits).ok()?))
    });
    known.collect()
}

/// Mb/s of a port, from the numbers of its width and speed (InfiniBand specification, volume 1, 14.2.5.6 "PortInfo";
/// man ibv_query_port).
fn speed(width: u8, speed: u8) -> u32 {
    let lanes = match width {
        2 => 4,
        4 => 8,
        8 => 12,
        16 => 2,
        _ => 1,
    };
    let lane = match speed {
        2 => 5_000,
        4 | 8 => 10_000,
        16 => 14_000,
        32 => 25_000,
        64 => 50_000,
        128 => 100_000,
        _ => 2_500,
    };
    lanes * lane
}

/// Name of a state of a port.
fn state_name(state: ibv_port_state::Type) -> &'static str {
    match state {
        ibv_port_state::IBV_PORT_DOWN => "DOWN: look at cable, switch and `ip link`",
        ibv_port_state::IBV_PORT_INIT => "INIT: it waits for a subnet manager",
        ibv_port_state::IBV_PORT_ARMED => "ARMED: it waits for a subnet manager",
        ibv_port_state::IBV_PORT_ACTIVE_DEFER => "ACTIVE_DEFER: its link has just failed",
        _ => "in no state that messages pass in",
    }
}

/// The usable GIDs of a port, with their indices in its table.
fn gids(
    context: &Context,
    port: u8,
    attr: &ibv_port_attr,
    gid_index: GidIndex,
    addresses: &HashMap<IpAddr, u8>,
) -> Vec<(Gid, u8)> {
    let count = u32::try_from(attr.gid_tbl_len).unwrap_or(0).min(256);
    let wanted = |index: &u32| match gid_index {
        GidIndex::Any => true,
        GidIndex::At(only) => *index == only,
    };
    let usable = |index: u32| {
        let entry = context.gid(port, index)?;
        let kind = Kind::from_number(u8::try_from(entry.gid_type).ok()?)?;
        let [high, low] = entry.gid.map(u64::to_ne_bytes);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low);
        let mut gid = Gid { kind, bytes, prefix: 0 };
        if kind != Kind::InfiniBand {
            // Devices may be listed in every network namespace; this one has the way only from its own addresses.
            gid.prefix = *addresses.get(&gid.ip())?;
        }
        Some((gid, u8::try_from(index).ok()?))
    };
    let mut found: Vec<_> = (0..count).filter(wanted).filter_map(usable).collect();
    // What is preferred travels first: a card has room for four.
    found.sort_by_key(|(gid, index)| {
        let old = gid.kind == Kind::RoceV1;
        (old, gid.ip().is_ipv6(), *index)
    });
    found
}

impl Nic {
    fn open(
        context: &Arc<Context>,
        number: u8,
        gid_index: GidIndex,
        addresses: &HashMap<IpAddr, u8>,
    ) -> std::result::Result<Self, Unusable> {
        let attr = context.port(number)?;
        if attr.state != ibv_port_state::IBV_PORT_ACTIVE {
            return Err(Unusable::Because(format!("is {}", state_name(attr.state))));
        }
        let found = gids(context, number, &attr, gid_index, addresses);
        if found.is_empty() {
            let which = match gid_index {
                GidIndex::Any => "no GID of an address of this network namespace".to_owned(),
                GidIndex::At(index) => {
                    format!("no usable GID at index {index} (DURE_GID_INDEX; -x of dure fabric)")
                }
            };
            return Err(Unusable::Because(format!("has {which}")));
        }
        let device = context.device()?;
        if device.max_srq == 0 {
            return Err(Unusable::Because("has no shared receive queue".to_owned()));
        }
        let receives = RECEIVES.min(device.max_srq_wr.unsigned_abs());
        let entries = (receives + SENDS).min(device.max_cqe.unsigned_abs());
        let pd = Pd::new(context)?;
        let cq = Cq::new(context, entries.cast_signed())?;
        let mut init = ibv_srq_init_attr {
            srq_context: std::ptr::null_mut(),
            attr: ibv_srq_attr { max_wr: receives, max_sge: 1, srq_limit: 0 },
        };
        let srq = Srq::new(&pd, &mut init)?;
        for fd in [cq.fd(), context.async_fd()] {
            set_nonblocking(fd)?;
        }
        let name = context.name();
        let card = PortCard {
            device: name.to_owned(),
            number,
            mtu: 128 << attr.active_mtu.min(5),
            speed: speed(attr.active_width, attr.active_speed),
            lid: if attr.link_layer == ETHERNET { 0 } else { attr.lid },
            gids: found.iter().map(|(gid, _)| *gid).collect(),
        };
        let bounce = Bounce::new(&pd)?;
        let mut nic = Self {
            card,
            gid_indices: found.iter().map(|(_, index)| *index).collect(),
            most: u64::from(attr.max_msg_sz.min(1 << 30)) / 4096 * 4096,
            gather: device.max_sge.unsigned_abs(),
            before: Counters::read(name, number),
            context: Arc::clone(context),
            pd,
            cq,
            srq,
            armed: false,
            outstanding: 0,
            taken: receives,
            chain: Chain::new(),
            bounce,
            up_since: Some(Instant::now()),
            was_down: false,
            is_dead: false,
            queues: HashMap::new(),
        };
        nic.refill()?;
        Ok(nic)
    }

    /// Asks whether the port is up.
    pub(crate) fn is_active(&self) -> bool {
        let attr = self.context.port(self.card.number);
        attr.is_ok_and(|attr| attr.state == ibv_port_state::IBV_PORT_ACTIVE)
    }

    /// Whether messages can pass, as far as this side knows.
    pub(crate) fn is_usable(&self) -> bool {
        let is_up = self.up_since.is_some_and(|since| !self.was_down || since.elapsed() >= SETTLE);
        is_up && !self.is_dead
    }

    /// Whether it is this port of this device.
    pub(crate) fn is_port(&self, context: &Arc<Context>, number: usize) -> bool {
        Arc::ptr_eq(&self.context, context) && usize::from(self.card.number) == number
    }

    /// Makes a queue pair; its stand-in when the device is gone.
    pub(crate) fn make_queue(&mut self, whose: (usize, u32), which: (u16, usize)) -> Result<Queue> {
        if !self.is_dead {
            match Queue::new(self, whose, which) {
                Err(error) if error.is_gone() => self.is_dead = true,
                made => return made,
            }
        }
        Ok(Queue::absent(whose, which))
    }

    /// A receive was taken.
    #[inline]
    pub(crate) fn take_receive(&mut self) -> Result<()> {
        self.taken += 1;
        if self.taken >= REFILL { self.refill() } else { Ok(()) }
    }

    /// Posts all receives that were taken, in chains.
    fn refill(&mut self) -> Result<()> {
        while self.taken > 0 {
            let count = self.taken.min(REFILL);
            let first = (REFILL - count) as usize;
            // SAFETY: the chain leads from any of its entries to its end, and names no memory.
            unsafe { self.srq.post(&mut self.chain.0[first]) }?;
            self.taken -= count;
        }
        Ok(())
    }

    /// Whether so many more sends may report their completion.
    #[inline]
    pub(crate) fn has_room(&self, sends: u32) -> bool {
        self.outstanding + sends <= SENDS
    }
}

impl Chain {
    fn new() -> Self {
        let end = ibv_recv_wr {
            wr_id: 0,
            next: std::ptr::null_mut(),
            sg_list: std::ptr::null_mut(),
            num_sge: 0,
        };
        let mut chain = vec![end; REFILL as usize].into_boxed_slice();
        let start = chain.as_mut_ptr();
        for (index, receive) in chain.iter_mut().enumerate().take(REFILL as usize - 1) {
            receive.next = start.wrapping_add(index + 1);
        }
        Self(chain)
    }
}

fn set_nonblocking(fd: i32) -> Result<()> {
    // SAFETY: libibverbs keeps the descriptor open as long as its object.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Error::system("fcntl"))?;
    Ok(())
}

/// What peers may do with registered memory: write. Nothing reads, and nothing is atomic.
pub(crate) fn access() -> i32 {
    let flags =
        ibv_access_flags::IBV_ACCESS_LOCAL_WRITE | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE;
    flags.0.cast_signed()
}

/// Registers memory on a port's device: host memory by its address, that of a device by the dma-buf that it gave.
///
/// # Errors
/// [`Error::Call`].
///
/// # Safety
/// The memory stays mapped until the registration is dropped.
pub(crate) unsafe fn register(
    pd: &Arc<Pd>,
    memory: Memory,
    dma_buf: Option<&dure_device::DmaBuf>,
) -> Result<Mr> {
    match (memory.space, dma_buf) {
        (Space::Host, _) | (_, None) => {
            // SAFETY: the caller's promise.
            unsafe { Mr::new(pd, memory.ptr.as_ptr(), memory.len, access()) }
        }
        (Space::Device(_), Some(buffer)) => {
            use std::os::fd::AsRawFd;
            let from = (buffer.fd.as_raw_fd(), buffer.offset);
            Mr::of_dma_buf(pd, from, (memory.address() as u64, memory.len), access())
        }
    }
}

/// Whether the driver registers memory by dma-buf: one that does asks for the descriptor first, and there is none.
pub(crate) fn takes_dma_buf(pd: &Arc<Pd>) -> bool {
    match Mr::of_dma_buf(pd, (-1, 0), (0, 4096), access()) {
        Ok(_) => true,
        Err(Error::Call { source, .. }) => source.raw_os_error() == Some(libc::EBADF),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::simulated::pd;

    #[test]
    fn whether_a_driver_takes_dma_bufs_is_found_without_one() {
        assert!(takes_dma_buf(&pd(true)) && !takes_dma_buf(&pd(false)));
    }

    #[test]
    fn speeds_follow_width_and_generation() {
        assert_eq!((speed(2, 32), speed(2, 128), speed(1, 1)), (100_000, 400_000, 2_500));
    }

    #[test]
    fn bounce_slots_are_long_enough_and_apart() {
        let mut bounce = Bounce::new(&pd(true)).unwrap();
        let (short, long) = (BOUNCE as u64, LONG_BOUNCE as u64);
        let mut taken = Vec::new();
        for len in [1, short, short + 1, long] {
            assert!(bounce.has(len));
            let slot = bounce.take(len).unwrap();
            assert!(bounce.memory(slot).len as u64 >= len);
            taken.push(slot);
        }
        for (at, slot) in taken.iter().enumerate() {
            let apart = |other: &u16| !bounce.memory(*slot).overlaps(bounce.memory(*other));
            assert!(taken[..at].iter().all(apart));
        }
        assert!(!bounce.has(long + 1));
        while bounce.has(long) {
            taken.push(bounce.take(long).unwrap());
        }
        assert!(bounce.take(long).is_none() && !bounce.is_empty());
        taken.drain(..).for_each(|slot| bounce.give_back(slot));
        assert!(bounce.has(long));
    }

    #[test]
    fn long_bounce_slots_may_be_refused() {
        let mut bounce = Bounce::new(&pd(true)).unwrap();
        bounce.long = Long::Refused;
        assert!(bounce.has(1) && !bounce.has(LONG_BOUNCE as u64));
        assert!(bounce.refuses(LONG_BOUNCE as u64) && !bounce.refuses(BOUNCE as u64));
    }

    #[test]
    fn a_chain_leads_through_all_its_receives() {
        let Chain(chain) = Chain::new();
        for pair in chain.windows(2) {
            assert!(std::ptr::eq(pair[0].next, &pair[1]));
        }
        assert!(chain[chain.len() - 1].next.is_null());
    }
}
