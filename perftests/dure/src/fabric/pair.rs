//! Two sides of one path: what they open, and how they make a row together.

use hdrhistogram::Histogram;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use std::time::Duration;

use super::args::Settings;
use super::control::{Control, Message, unexpected};
use super::cxl;
use super::device::{self, Before, Port};
use super::figures::{Bandwidth, Figures, Latency, distribution};
use super::header::Header;
use super::link::Links;
use super::net::{Devices, Me, Net};
use super::row::{Counters, Part, Row};
use super::test::Kind;
#[cfg(feature = "verbs")]
use super::verbs;
use super::wait::Count;
use super::write::{self, Sent, Shape};
use crate::output::Failure;

/// Sides of a path, as ranks.
const SERVER: u32 = 0;
const CLIENT: u32 = 1;

/// One side.
pub(super) struct Pair {
    client: bool,
    way: Way,
    ports: Vec<Port>,
    pool: cxl::Pool,
    ends: [String; 2],
    mtu: Option<u32>,
    inline: u64,
}

/// What is measured.
enum Way {
    /// The transport.
    Links(Box<Links>),
    /// Verbs beneath it.
    #[cfg(feature = "verbs")]
    Raw(Box<device::Raw>, Duration),
}

/// What one side has of a row.
#[derive(Default)]
struct Half {
    sent: Sent,
    /// Round trips in nanoseconds; of the client of a latency test.
    times: Option<Vec<u64>>,
    wrong: u64,
}

/// The rows: a size, and whether there is load.
pub(super) fn shapes(settings: &Settings) -> impl Iterator<Item = (u64, bool)> + use<> {
    let loads: &[bool] = if settings.load { &[false, true] } else { &[false] };
    let rows: Vec<_> =
        settings.sizes.iter().flat_map(|size| loads.iter().map(|load| (*size, *load))).collect();
    let again = if settings.forever { usize::MAX } else { 1 };
    std::iter::repeat_n(rows, again).flatten()
}

/// Takes the signals that end programs from a file instead, so that a run without end ends after a row.
pub(super) fn watch() -> Result<SignalFd, Failure> {
    let watched: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    let file = watched.thread_block().and_then(|()| {
        SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
    });
    file.map_err(|error| Failure::system("signalfd", error))
}

/// Whether a run without end goes on, which the client decides.
pub(super) fn goes_on(
    control: &mut Control,
    interrupts: Option<&SignalFd>,
) -> Result<bool, Failure> {
    let Some(interrupts) = interrupts else {
        return match control.receive()? {
            Message::Ready => Ok(true),
            Message::End => Ok(false),
            other => Err(unexpected(&other)),
        };
    };
    let interrupted =
        interrupts.read_signal().map_err(|error| Failure::system("signalfd", error))?;
    let goes_on = interrupted.is_none();
    control.send(if goes_on { &Message::Ready } else { &Message::End })?;
    Ok(goes_on)
}

impl Pair {
    pub(super) fn open(
        settings: &Settings,
        devices: Devices,
        (client, key): (bool, [u8; 32]),
        patience: Duration,
        control: &mut Control,
    ) -> Result<Self, Failure> {
        let rdma = settings.transport == Kind::Rdma;
        let ports = if rdma { device::ports(&devices.rdma)? } else { Vec::new() };
        let here = control.addresses()?;
        let ends = here.map(|address| address.to_string());
        let mut pair = Self {
            client,
            way: Way::open(settings, &devices, (client, key), here[0], patience)?,
            ports,
            pool: devices.pool,
            ends,
            mtu: None,
            inline: u64::from(settings.inline.unwrap_or(0)),
        };
        pair.connect(settings, control)?;
        Ok(pair)
    }

    /// Tells the other side where this one is, and waits until both are connected.
    fn connect(&mut self, settings: &Settings, control: &mut Control) -> Result<(), Failure> {
        let card = self.way.card()?;
        control.send(&Message::Card { card })?;
        let Message::Card { card } = control.receive()? else {
            return Err(Failure::Failed("the other side did not say where it is".to_owned()));
        };
        let card = dure_transport::Card(card.into());
        match &mut self.way {
            Way::Links(links) => {
                let peer = if self.client { SERVER } else { CLIENT };
                let most = settings.sizes.iter().max().copied().unwrap_or(1);
                let at = links.begin(peer, &card, most)?;
                links.wait_up()?;
                if settings.queues > links.most_flows(at) {
                    return Err(Failure::Usage(format!(
                        "-q {} is more than the transport has (allowed: 1 to {})",
                        settings.queues,
                        links.most_flows(at)
                    )));
                }
                if let Some((ends, mtu)) = links.ends(at) {
                    (self.ends, self.mtu) = (ends, Some(mtu));
                }
                if settings.inline.is_some() {
                    self.inline = self.inline.min(links.most_copied(at));
                }
            }
            #[cfg(feature = "verbs")]
            Way::Raw(raw, _) => {
                raw.connect(&card, self.client).map_err(device::failed)?;
                if let Some(wire) = raw.wires().next() {
                    (self.ends, self.mtu) = (device::ends(wire), Some(wire.mtu));
                }
            }
        }
        control.meet()
    }

    pub(super) fn header(&self, settings: &Settings) -> Header {
        Header {
            settings: settings.clone(),
            ports: self.ports.clone(),
            pool: self.pool.clone(),
            mtu: self.mtu,
            inline: self.inline,
            ends: self.ends.clone(),
        }
    }

    /// Makes a row with the other side. On the client with the distribution of its latencies.
    pub(super) fn row(
        &mut self,
        settings: &Settings,
        (size, loaded): (u64, bool),
        number: u64,
        control: &mut Control,
    ) -> Result<(Row, Option<Histogram<u64>>), Failure> {
        let before = Before::read(&self.ports);
        let half = self.half(settings, (size, loaded), number, control)?;
        let counters = before.after();
        let bandwidth = (half.sent.messages > 0)
            .then(|| Bandwidth::new(size, half.sent.messages, half.sent.nanos, half.sent.peak));
        if !self.client {
            control.send(&Message::Part(Part { bandwidth, wrong: half.wrong, counters }))?;
            return match control.receive()? {
                Message::Row(row) => Ok((row, None)),
                other => Err(unexpected(&other)),
            };
        }
        let Message::Part(theirs) = control.receive()? else {
            return Err(Failure::Failed("the server said nothing of its part of a row".to_owned()));
        };
        let halves = if settings.test.is_half() { 2 } else { 1 };
        let times = half.times.map(|mut times| {
            times.iter_mut().for_each(|time| *time /= halves);
            distribution(&times)
        });
        let figures = match &times {
            Some(times) => Figures::Latency(Latency::of(times)),
            None => Figures::Bandwidth(
                bandwidth.unwrap_or_default().sum(theirs.bandwidth.unwrap_or_default()),
            ),
        };
        let counters: [Counters; 2] = [counters, theirs.counters];
        let messages = times.as_ref().map_or(half.sent.messages, Histogram::len);
        let row =
            Row { size, messages, loaded, figures, wrong: half.wrong + theirs.wrong, counters };
        control.send(&Message::Row(row.clone()))?;
        Ok((row, times))
    }

    fn half(
        &mut self,
        settings: &Settings,
        (size, loaded): (u64, bool),
        seed: u64,
        control: &mut Control,
    ) -> Result<Half, Failure> {
        let bandwidth = settings.test.is_bandwidth();
        let flows = u64::from(settings.queues);
        let count = match settings.seconds {
            Some(seconds) => Count::For(Duration::from_secs(seconds)),
            None => Count::Messages(settings.iterations * if bandwidth { flows } else { 1 }),
        };
        let sends = self.client || settings.both;
        match &mut self.way {
            Way::Links(links) => {
                control.meet()?;
                let copied = if settings.inline.is_some() { self.inline } else { 0 };
                let Settings { depth, moderation, queues, .. } = *settings;
                let shape = Shape { size, count, flows: queues, depth, moderation, copied, seed };
                let receives = !self.client || settings.both;
                over_links(links, &shape, bandwidth, write::Part { sends, receives }, loaded)
            }
            #[cfg(feature = "verbs")]
            Way::Raw(raw, patience) => {
                let shape = verbs::Shape {
                    test: settings.test,
                    size: u32::try_from(size).unwrap_or(u32::MAX),
                    count,
                    queues: settings.queues,
                    seed,
                    patience: *patience,
                };
                beneath(raw, control, &shape, (self.client, sends))
            }
        }
    }

    /// Both sides part together: whoever is early would look like one that died.
    pub(super) fn close(self, control: &mut Control) -> Result<(), Failure> {
        control.meet()
    }
}

impl Way {
    fn open(
        settings: &Settings,
        devices: &Devices,
        (client, key): (bool, [u8; 32]),
        here: std::net::IpAddr,
        patience: Duration,
    ) -> Result<Self, Failure> {
        if settings.test.is_write() {
            let me = Me {
                rank: if client { CLIENT } else { SERVER },
                ranks: 2,
                key,
                addresses: vec![here],
                // Load has a flow of its own.
                flows: settings.queues.max(if settings.load { 2 } else { 1 }),
                devices,
            };
            let net = Net::open(settings.transport, &me)?;
            return Ok(Self::Links(Box::new(Links::new(settings.transport, net, patience))));
        }
        #[cfg(feature = "verbs")]
        {
            Ok(Self::Raw(Box::new(raw(settings, &devices.rdma)?), patience))
        }
        #[cfg(not(feature = "verbs"))]
        {
            Err(Failure::Usage(
                "reads, sends and atomics are not offered: this build has no RDMA".to_owned(),
            ))
        }
    }

    /// Where the other side finds this one.
    fn card(&mut self) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Links(links) => Ok(links.address().0.into()),
            #[cfg(feature = "verbs")]
            Self::Raw(raw, _) => Ok(raw.card().map_err(device::failed)?.0.into()),
        }
    }
}

#[cfg(feature = "verbs")]
fn raw(settings: &Settings, choice: &device::Choice) -> Result<device::Raw, Failure> {
    let most = settings.sizes.iter().max().copied().unwrap_or(8).max(8);
    let options = device::RawOptions {
        queues: settings.queues,
        depth: settings.depth,
        receives: settings.receives,
        moderation: settings.moderation,
        inline: settings.inline.unwrap_or(0),
        outstanding: settings.outstanding,
        bytes: usize::try_from(most).unwrap_or(usize::MAX),
    };
    let raw = device::Raw::open(choice, options).map_err(device::failed)?;
    if settings.test == super::test::Test::AtomicLat && !raw.is_atomic().map_err(device::failed)? {
        let text = format!("atomic-lat is not offered: {} has no atomic operations", raw.port());
        return Err(Failure::Usage(text));
    }
    Ok(raw)
}

fn over_links(
    links: &mut Links,
    shape: &Shape,
    bandwidth: bool,
    part: write::Part,
    loaded: bool,
) -> Result<Half, Failure> {
    if bandwidth {
        let (sent, wrong) = write::bandwidth(links, 0, shape, part)?;
        return Ok(Half { sent, times: None, wrong });
    }
    if part.sends {
        let (times, wrong) = write::ping(links, 0, shape, loaded)?;
        return Ok(Half { times: Some(times), wrong, ..Half::default() });
    }
    let wrong = write::pong(links, 0, shape)?;
    Ok(Half { wrong, ..Half::default() })
}

#[cfg(feature = "verbs")]
fn beneath(
    raw: &mut device::Raw,
    control: &mut Control,
    shape: &verbs::Shape,
    (client, sends): (bool, bool),
) -> Result<Half, Failure> {
    verbs::prepare(raw, control, shape)?;
    if shape.test.is_bandwidth() {
        let (sent, theirs) = verbs::bandwidth(raw, control, shape, sends)?;
        let read = sends && !shape.test.is_send() && verbs::wrong(raw, shape, false) > 0;
        let wrong = if read { verbs::wrong(raw, shape, false) } else { 0 };
        let arrived = if theirs > 0 { verbs::wrong(raw, shape, true) } else { 0 };
        return Ok(Half { sent, times: None, wrong: wrong + arrived });
    }
    if client {
        let times = verbs::latency(raw, control, shape)?;
        let wrong = verbs::wrong(raw, shape, shape.test.is_send());
        return Ok(Half { times: Some(times), wrong, ..Half::default() });
    }
    let asked = verbs::answer(raw, control, shape)?;
    let mut wrong = verbs::wrong(raw, shape, true);
    if shape.test == super::test::Test::AtomicLat {
        let sum: Vec<u8> = asked.to_le_bytes().into();
        wrong = super::memory::differing(&raw.shared(8), &sum);
    }
    Ok(Half { wrong, ..Half::default() })
}
