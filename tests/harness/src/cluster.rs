//! Ranks, and where they are put.

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dure::{Communicator, Config, Result, UniqueId};

use crate::job::Job;
use crate::network::Network;
use crate::report::{Ended, Failure, Outcome, Report, Said};
use crate::scenarios::{self, Scenario};
use crate::seat::{self, Seat};

/// Where ranks run.
#[derive(Clone, Debug)]
pub enum Place {
    /// Threads of the test.
    Threads,
    /// Processes on this host.
    Processes,
    /// Processes in network namespaces, which are hosts of their own to the library: the ranks in blocks of equal length
    /// (the last may be shorter).
    Namespaces(Arc<Network>),
}

/// Ranks that run the same scenario.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The program `dure-rank`.
    pub program: PathBuf,
    /// Where the ranks run.
    pub place: Place,
    /// How many there are.
    pub ranks: u32,
    /// Settings: names and values of `DURE_` variables.
    pub settings: Vec<(String, String)>,
    /// Settings of single ranks, which count more.
    pub exceptions: Vec<(u32, String, String)>,
    /// A command that processes are started by, in front of the program and its arguments.
    pub prefix: Vec<String>,
    /// Buffers are in the memory of a software NPU, one a rank.
    pub npu: bool,
    /// Whoever is still there after this time is killed.
    pub deadline: Duration,
}

impl Cluster {
    /// `ranks` ranks with the default settings, but for a timeout of 60 s.
    pub fn new(program: impl Into<PathBuf>, place: Place, ranks: u32) -> Self {
        let cluster = Self {
            program: program.into(),
            place,
            ranks,
            settings: Vec::new(),
            exceptions: Vec::new(),
            prefix: Vec::new(),
            npu: false,
            deadline: Duration::from_secs(100),
        };
        cluster.set("DURE_TIMEOUT", "60s")
    }

    /// With this setting on all ranks.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this setting on one rank.
    #[must_use]
    pub fn set_on(mut self, rank: u32, name: &str, value: &str) -> Self {
        self.exceptions.push((rank, name.to_owned(), value.to_owned()));
        self
    }

    /// With buffers in the memory of software NPUs.
    #[must_use]
    pub fn on_npus(mut self) -> Self {
        self.npu = true;
        self
    }

    /// With processes that are started by another command.
    #[must_use]
    pub fn started_by(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Runs a scenario on all ranks, to the end.
    ///
    /// # Panics
    /// When there is no such scenario, or a process cannot be started.
    pub fn run(&self, scenario: &str, args: &[&str]) -> Report {
        if matches!(self.place, Place::Threads) {
            return self.run_threads(scenarios::find(scenario).expect("the scenario exists"), args);
        }
        self.start(scenario, args).finish()
    }

    /// Starts a scenario on all ranks, which are processes.
    ///
    /// # Panics
    /// When a process cannot be started.
    pub fn start(&self, scenario: &str, args: &[&str]) -> Job {
        let all: Vec<u32> = (0..self.ranks).collect();
        self.start_only(&all, scenario, args)
    }

    /// Starts processes of these ranks only, in this order; a rank may be there more than once. Unless a meeting place is
    /// set, the first is rank 0.
    ///
    /// # Panics
    /// When a process cannot be started.
    pub fn start_only(&self, ranks: &[u32], scenario: &str, args: &[&str]) -> Job {
        let mut job = Job::new(self.deadline);
        for &rank in ranks {
            self.start_one(&mut job, rank, scenario, args);
        }
        job
    }

    /// Starts one more process.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_one(&self, job: &mut Job, rank: u32, scenario: &str, args: &[&str]) {
        let mut command = self.command(rank);
        command.arg(scenario).args(self.npu.then_some("--npu")).args(args);
        let makes_id = self.ranks > 1 && !self.settings.iter().any(|(name, _)| name == "DURE_ROOT");
        if makes_id && let Some(id) = job.id() {
            command.env("DURE_ROOT", id);
        }
        job.spawn(rank, command);
        if makes_id {
            job.wait_for_id();
        }
    }

    fn command(&self, rank: u32) -> Command {
        let mut words = self.prefix.clone();
        if let Place::Namespaces(network) = &self.place {
            let hosts = network.hosts();
            words.extend(network.enter(rank / self.ranks.div_ceil(hosts)));
        }
        words.push(self.program.to_string_lossy().into_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("DURE_")) {
            command.env_remove(name);
        }
        command.env("DURE_RANK", rank.to_string()).env("DURE_SIZE", self.ranks.to_string());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        let own = self.exceptions.iter().filter(|(who, ..)| *who == rank);
        command.envs(own.map(|(_, name, value)| (name, value)));
        command
    }

    fn run_threads(&self, scenario: &Scenario, args: &[&str]) -> Report {
        let config = Config::from_pairs(self.settings.iter().map(|(n, v)| (n, v)))
            .expect("the test's settings are right");
        let id = (self.ranks > 1).then(|| UniqueId::new(&config).expect("an id can be made"));
        let outcomes = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.ranks)
                .map(|rank| {
                    let config = config.clone();
                    scope.spawn(move || self.one_thread(scenario, args, config, (rank, id)))
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Outcome>| {
                thread.join().expect("panics of scenarios are caught")
            };
            threads.into_iter().map(join).collect()
        });
        Report { outcomes }
    }

    fn one_thread(
        &self,
        scenario: &Scenario,
        args: &[&str],
        config: Config,
        (rank, id): (u32, Option<UniqueId>),
    ) -> Outcome {
        let (sender, receiver) = mpsc::channel();
        let sit = || -> Result<Seat> {
            let device = seat::device(self.npu);
            let builder = Communicator::builder().rank(rank, self.ranks).config(config.clone());
            let builder = id.into_iter().fold(builder, dure::Builder::meet_at);
            Ok(Seat {
                communicator: seat::with_device(builder, &device).connect()?,
                config,
                args: args.iter().map(|&arg| arg.to_owned()).collect(),
                device,
                voice: Box::new(move |text| {
                    // The receiver lives in this function, past the scenario.
                    let _ = sender.send(Said { at: Instant::now(), text: text.to_owned() });
                }),
                told: Arc::new(AtomicBool::new(false)),
            })
        };
        let ended = match sit() {
            Err(error) => Ended::Failed(Failure::new(&error)),
            Ok(seat) => match catch_unwind(AssertUnwindSafe(|| (scenario.run)(&seat))) {
                Ok(Ok(())) => Ended::Well,
                Ok(Err(error)) => Ended::Failed(Failure::new(&error)),
                Err(_) => {
                    seat.communicator.abort();
                    Ended::Died("it panicked".to_owned())
                }
            },
        };
        let said = receiver.try_iter().collect();
        Outcome { rank, ended, at: Instant::now(), said, stderr: String::new() }
    }
}

/// A TCP port that nobody listens on, below those that the kernel hands out, so that no unrelated socket takes it
/// before the test does.
///
/// # Panics
/// When all are taken.
pub fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 8_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests in other processes begin elsewhere.
    let start = u16::try_from(std::process::id() % 200).expect("a remainder below 200") * 40;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free from {FIRST} to {}", FIRST + COUNT);
}
