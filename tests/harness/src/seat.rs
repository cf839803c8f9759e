//! What a scenario gets, and how a process takes its place in a job.

use std::fmt::{self, Debug};
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dure::{Builder, Communicator, Config, Device, Error, Result, UniqueId};
use dure_device::software::{self, Options};

use crate::report::Failure;
use crate::scenarios;

/// A rank's place in a scenario.
pub struct Seat {
    /// The communicator of all ranks.
    pub communicator: Communicator,
    /// The settings that it was made with.
    pub config: Config,
    /// Arguments of the scenario, the same on all ranks.
    pub args: Vec<String>,
    /// Whose memory the buffers are in.
    pub device: Arc<dyn Device>,
    /// Tells the test.
    pub(crate) voice: Box<dyn Fn(&str) + Send + Sync>,
    /// Whether the test told something.
    pub(crate) told: Arc<AtomicBool>,
}

impl Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("communicator", &self.communicator).finish_non_exhaustive()
    }
}

impl Seat {
    /// Tells the test something.
    pub fn say(&self, text: &str) {
        (self.voice)(text);
    }

    /// Whether the test has told this rank something: see [`crate::Job::tell`].
    pub fn was_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// An argument of the scenario.
    ///
    /// # Panics
    /// When the test gave too few.
    pub fn arg(&self, index: usize) -> &str {
        self.args.get(index).expect("the test gave the arguments that the scenario takes")
    }
}

/// The device whose memory the buffers are in: the host, or a software NPU of this rank's own.
///
/// # Panics
/// When the NPU cannot be opened.
pub(crate) fn device(npu: bool) -> Arc<dyn Device> {
    if npu {
        software::open(Options::default()).expect("a software NPU can be opened")
    } else {
        dure_device::host::host()
    }
}

/// Names the device to the communicator, unless it is the host, which needs no naming.
pub(crate) fn with_device(builder: Builder, device: &Arc<dyn Device>) -> Builder {
    if device.space() == dure::Space::Host { builder } else { builder.device(Arc::clone(device)) }
}

fn line(text: &str) {
    // The test may be gone, and this process with it in a moment.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The program of one rank: `dure-rank SCENARIO [--npu] [ARG...]`, with `DURE_RANK`, `DURE_SIZE`, and, on all ranks but
/// 0, `DURE_ROOT` in the environment. It reports on standard output; see the crate's documentation.
pub fn serve() -> ExitCode {
    // Whatever happens to the test, its ranks do not stay.
    if nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).is_err() {
        return ExitCode::FAILURE;
    }
    match take_seat() {
        Ok(()) => line("ok"),
        Err(error) => line(&format!("error {}", Failure::new(&error).to_line())),
    }
    ExitCode::SUCCESS
}

fn take_seat() -> Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    let name = args.next().unwrap_or_default();
    let scenario = scenarios::find(&name)
        .ok_or_else(|| Error::invalid_argument(format!("no scenario \"{name}\"")))?;
    let config = Config::from_env()?;
    let npu = args.next_if(|arg| arg == "--npu").is_some();
    let device = match dure::devices::open(&config)?.into_iter().next() {
        Some(device) => device,
        None => device(npu),
    };
    let builder = with_device(meet(&config)?.config(config.clone()), &device);
    let seat = Seat {
        communicator: builder.connect()?,
        config,
        args: args.collect(),
        device,
        voice: Box::new(|text| line(&format!("say {text}"))),
        told: listen(),
    };
    (scenario.run)(&seat)
}

/// Where the ranks meet: an id from rank 0, which tells the test; or an agreed place.
fn meet(config: &Config) -> Result<Builder> {
    let rank = config.rank.unwrap_or(0);
    let size = config.size.unwrap_or(1);
    let builder = Communicator::builder().rank(rank, size);
    match &config.root {
        None if size == 1 => Ok(builder),
        None => {
            let id = UniqueId::new(config)?;
            line(&format!("id {id}"));
            Ok(builder.meet_at(id))
        }
        Some(place) if place.contains(':') => {
            let secret = config.secret.as_ref().map_or("", |secret| &secret.0);
            Ok(builder.meet_at(UniqueId::from_root(place, secret)?))
        }
        Some(id) => Ok(builder.meet_at(id.parse()?)),
    }
}

/// Waits, in a thread of its own, for the first line on standard input.
fn listen() -> Arc<AtomicBool> {
    let told = Arc::new(AtomicBool::new(false));
    let ours = Arc::clone(&told);
    std::thread::spawn(move || {
        let mut text = String::new();
        if std::io::stdin().lock().read_line(&mut text).is_ok_and(|length| length > 0) {
            ours.store(true, Ordering::Release);
        }
    });
    told
}
