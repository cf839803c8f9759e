//! `dure pool`: makes pools of memory that hosts share, shows who uses them, and measures what they cost.

mod measure;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use dure_pool::cxl::{self, Plan, Shape, State};
use dure_transport::Error;

use crate::output::{Failure, Verdict};
use crate::size;

/// Make pools of memory that hosts share, show who uses them, and measure them.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Make a pool of devices. One host does, before any job uses it; jobs then name the same devices in DURE_POOL.
    Create(Create),
    /// Show what a pool is made of, and which processes use it; status 1 when some have died and left their members.
    Show(Show),
    /// Free the members of a partition whose processes have died.
    Release(Release),
    /// Measure what this host's processor does with a pool's memory: latencies, costs of flushes, bandwidth by access type.
    Measure(measure::Measure),
}

#[derive(Clone, Debug, clap::Args)]
struct Create {
    /// /dev/dax devices, or files.
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<PathBuf>,
    /// Make files of this size where there are none.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: Option<u64>,
    /// Most processes of a job.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    members: u32,
    /// Most jobs at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    partitions: u32,
    /// Bytes that follow each other on one device: a multiple of 2M.
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = size::parse)]
    granule: u64,
    /// Although processes that have died have left members of a pool there.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct Show {
    /// The devices of the pool.
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
struct Release {
    /// The devices of the pool.
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<PathBuf>,
    /// The partition.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    partition: u32,
}

/// Pulses beat every 100 ms: who shows none for so long is dead.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    match &args.command {
        Command::Create(args) => create(args),
        Command::Show(args) => show(args),
        Command::Release(args) => release(args),
        Command::Measure(args) => measure::run(args),
    }
}

fn create(args: &Create) -> Result<Verdict, Failure> {
    // Whoever has a pool there would lose it.
    if let Ok((_, states)) = cxl::members(&args.devices, PATIENCE) {
        for state in states.iter().flatten() {
            match state {
                State::Living(holder) => {
                    return Err(Failure::Failed(format!("in use: {holder}")));
                }
                State::Dead(holder) if !args.force => {
                    return Err(Failure::Failed(format!(
                        "left by a process that has died: {holder}; --force makes a new pool there"
                    )));
                }
                State::Dead(_) | State::Free => {}
            }
        }
    }
    if let Some(bytes) = args.size {
        args.devices.iter().try_for_each(|path| make_file(path, bytes))?;
    }
    let Create { members, partitions, granule, .. } = *args;
    let shape = cxl::create(&args.devices, Plan { members, partitions, granule })
        .map_err(|source| wire("the pool cannot be made", source))?;
    describe(&shape)?;
    Ok(Verdict::Holds)
}

/// Makes a file, unless there is something of that name.
fn make_file(path: &Path, bytes: u64) -> Result<(), Failure> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => {
            file.set_len(bytes).map_err(|error| Failure::system(path.display().to_string(), error))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Failure::system(path.display().to_string(), error)),
    }
}

fn show(args: &Show) -> Result<Verdict, Failure> {
    let (shape, states) = cxl::members(&args.devices, PATIENCE)
        .map_err(|source| wire("the pool cannot be read", source))?;
    describe(&shape)?;
    let mut out = io::stdout().lock();
    for (partition, states) in states.iter().enumerate() {
        for state in states {
            match state {
                State::Free => {}
                State::Living(holder) => writeln!(out, "partition {partition}: {holder}, lives")?,
                State::Dead(holder) => writeln!(out, "partition {partition}: {holder}, has died")?,
            }
        }
    }
    let all = || states.iter().flatten();
    let free = all().filter(|state| **state == State::Free).count();
    writeln!(out, "{free} of {} members free", all().count())?;
    Ok(Verdict::holds_if(!all().any(|state| matches!(state, State::Dead(_)))))
}

fn release(args: &Release) -> Result<Verdict, Failure> {
    let freed =
        cxl::release(&args.devices, args.partition, PATIENCE).map_err(|error| match error {
            Error::Exhausted { what, .. } => Failure::Usage(what),
            source => wire("the pool cannot be read", source),
        })?;
    let mut out = io::stdout().lock();
    freed.iter().try_for_each(|holder| writeln!(out, "freed {holder}"))?;
    Ok(Verdict::Holds)
}

/// What a pool is made of, in one line.
fn describe(shape: &Shape) -> Result<(), Failure> {
    let Shape { id, devices, bytes, granule, members, partitions } = shape;
    writeln!(
        io::stdout().lock(),
        "pool {id:016x}: {devices} devices of {}, striped by {}; {partitions} partitions of {members} members",
        size::display(*bytes),
        size::display(*granule),
    )?;
    Ok(())
}

fn wire(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Wire { what: what.to_owned(), source: Box::new(source) }
}
