//! Two ranks of one process, cranked by one thread.

use std::fmt;
use std::sync::Arc;

use dure_device::{Combine, Dtype, Memory};
use dure_exec::{Call, Error, Executor, Layouts, Plan, Prepared, Settings, Track};
use dure_plan::{Collective, Rank, World, find};
use dure_tcp::{Port, PortOptions};
use dure_transport::proof::Key;
use dure_transport::{Card, Peer, Transport, simulated};

/// The settings of a communicator that was given none, with one lane: one thread does the work of all.
const SETTINGS: Settings = Settings {
    lanes: 1,
    slots: 4,
    slot_bytes: 256 << 10,
    landing_bytes: 64 << 10,
    reading_bytes: 16 << 10,
    shares_cores: false,
};

/// What the messages go over.
#[derive(Clone, Copy)]
enum Medium {
    Pool,
    Tcp,
    Simulated,
}

/// One thing that is counted: an all-reduce of so many bytes over a medium.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    medium: Medium,
    bytes: u64,
}

impl Case {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Medium::Pool, Medium::Tcp, Medium::Simulated]
            .into_iter()
            .flat_map(|medium| [8, 64 << 10].map(|bytes| Self { medium, bytes }))
    }

    /// Reads what `to_string` wrote.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::all().find(|case| case.to_string() == text).ok_or_else(|| format!("no case {text}"))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let medium = match self.medium {
            Medium::Pool => "pool",
            Medium::Tcp => "tcp",
            Medium::Simulated => "simulated",
        };
        write!(f, "{medium}-{}", self.bytes)
    }
}

/// What can go wrong before the first call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUp {
    #[error("the transport")]
    Transport(#[from] dure_transport::Error),
    #[error("the device")]
    Device(#[from] dure_device::Error),
    #[error("the executor")]
    Executor(#[from] Error),
}

/// One rank and its part of the call.
struct Member {
    executor: Executor,
    prepared: Arc<Prepared>,
    input: Memory,
    output: Memory,
}

/// Both ranks.
pub(crate) struct Job {
    members: Vec<Member>,
    clock: Option<simulated::World>,
    digest: u32,
}

impl Job {
    pub(crate) fn new(Case { medium, bytes }: Case) -> Result<Self, SetUp> {
        let (clock, nets) = open(medium)?;
        let addresses: Box<[Card]> = nets.iter().map(|net| net.address()).collect();
        let world = World::flat(2);
        let by = find(Collective::AllReduce, "recursive-doubling").expect("it is in the library");
        // The same on both ranks.
        let layouts = Layouts::even(Collective::AllReduce, (2, Rank(0)), 4, bytes / 4);
        let host = dure_device::host::host();
        let len = usize::try_from(bytes).expect("a few pages");
        let member = |(rank, net)| {
            let queues = vec![(host.space(), host.queue()?)];
            let plan = Arc::new(Plan::collect(Collective::AllReduce, &world, by, Rank(rank)));
            let sum = (Dtype::F32, Combine::Sum);
            Ok(Member {
                executor: Executor::new(net, addresses.clone(), SETTINGS, queues),
                prepared: Arc::new(Prepared::new(plan, &layouts, SETTINGS, sum)?),
                input: host.alloc(len)?,
                output: host.alloc(len)?,
            })
        };
        let members = (0..).zip(nets).map(member).collect::<Result<_, SetUp>>()?;
        Ok(Self { members, clock, digest: 0 })
    }

    /// One all-reduce of both ranks, from the submission to the end.
    pub(crate) fn call(&mut self) -> Result<(), Error> {
        self.digest += 1;
        for Member { executor, prepared, input, output } in &mut self.members {
            let (prepared, input, output) = (Arc::clone(prepared), *input, *output);
            let call = Call { prepared, input, output, digest: self.digest };
            // SAFETY: the buffers are never freed, and used by these calls alone, one after the other.
            #[expect(unsafe_code, reason = "buffers of a call are raw memory")]
            unsafe { executor.submit(call, Track::Collective) }?;
        }
        loop {
            let mut moved = false;
            for Member { executor, .. } in &mut self.members {
                moved |= executor.poll()?;
            }
            if self.members.iter().all(|member| member.executor.is_idle()) {
                return Ok(());
            }
            if let (false, Some(clock)) = (moved, &self.clock) {
                clock.step();
            }
        }
    }
}

/// The transports of two ranks, and the clock that moves them if there is one.
type Nets = (Option<simulated::World>, Vec<Box<dyn Transport>>);

fn open(medium: Medium) -> Result<Nets, dure_transport::Error> {
    let key = || Key::new([7; 32]);
    match medium {
        Medium::Simulated => {
            let (clock, nets) = simulated::World::new(2, &simulated::Options::default());
            Ok((Some(clock), nets))
        }
        Medium::Pool => {
            let options = |rank| dure_pool::Options {
                rank: Peer(rank),
                key: key(),
                capacity: Some(64 << 20),
                huge_pages: false,
            };
            let pool = |rank| -> dure_transport::Result<Box<dyn Transport>> {
                Ok(Box::new(dure_pool::Pool::open(options(rank))?))
            };
            Ok((None, vec![pool(0)?, pool(1)?]))
        }
        Medium::Tcp => {
            let port = Port::bind(PortOptions::default())?;
            let loopback = (std::net::Ipv4Addr::LOCALHOST, port.number()).into();
            let options = |rank: u8| dure_tcp::Options {
                me: Peer(rank.into()),
                id: [rank; 16],
                key: key(),
                port: Arc::clone(&port),
                addresses: vec![loopback],
                flows: 1,
                driver: dure_tcp::Driver::Poll,
            };
            Ok((None, vec![dure_tcp::open(options(0))?, dure_tcp::open(options(1))?]))
        }
    }
}
