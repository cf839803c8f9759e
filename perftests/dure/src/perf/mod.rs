//! `dure perf`: how fast collectives are, and whether their results are right.

pub(crate) mod args;
mod buffer;
mod collective;
pub(crate) mod latency;
pub(crate) mod launch;
mod measure;
mod memory;
#[cfg_attr(not(feature = "mpi"), path = "no_mpi.rs")]
mod mpi;
mod operation;
mod pattern;
mod report;
mod table;

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use dure::{Communicator, Config, Device, Launch};
use indicatif::ProgressBar;

pub(crate) use self::args::Args;
use self::args::Rival;
pub(crate) use self::args::settings;
use self::measure::regret::Regret;
use self::measure::{Bench, Row};
use self::memory::Memory;
use self::mpi::Mpi;
use self::report::{Report, Totals};
use crate::output::{self, Failure, Verdict, complain};

/// What a run is about, for the lines around its results.
struct Setup<'a> {
    args: &'a Args,
    /// The settings of the flags, for people.
    settings: String,
    /// Name and version of the MPI that is measured beside.
    mpi: Option<String>,
}

/// Measures and prints, as one rank, or as the parent of local ranks.
pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    let config = args.settings()?;
    output::expect_folder(args.json.as_deref())?;
    if let Some(size) = args.ranks_to_start() {
        // What is wrong with the call is said once, before any rank starts.
        args.cases(size)?;
        return match args.vs {
            Some(Rival::Mpi) => Err(mpi::become_mpirun(size)),
            None => launch::run(size, &config),
        };
    }
    if let Some(parent) = args.child_of {
        launch::follow(parent)?;
    }
    log(&config);
    let mpi = args.vs.map(|Rival::Mpi| Mpi::start(args.local, &config)).transpose()?;
    let (comm, device) = connect_on_device(&args.device, config, mpi.as_ref())?;
    let library = mpi.as_ref().map(|mpi| mpi.library().to_owned());
    let setup = Setup { args, settings: describe(args), mpi: library };
    let measured = measure(&comm, (&setup, device.as_ref()), mpi.as_ref())?;
    let totals = measured.totals;
    // The others wait for this rank to leave, whatever becomes of the file.
    let written = match &args.json {
        Some(to) if comm.rank() == 0 => {
            output::write_json(to, &Report::new(&comm, &setup, &measured))
        }
        _ => Ok(()),
    };
    comm.finalize()?;
    if let Some(mpi) = mpi {
        mpi.finish();
    }
    written?;
    if totals.wrong > 0 {
        complain(&format!("{} wrong values", totals.wrong));
    }
    Ok(Verdict::holds_if(totals.wrong == 0))
}

/// Becomes a rank of a job of two or more; or, to start `local` ranks, their parent, who breaks with what became of them.
/// `what` needs them, for people. `child_of` is the parent that started this process.
pub(crate) fn join(
    what: &str,
    config: &Config,
    (local, child_of): (Option<u32>, Option<u32>),
) -> Result<ControlFlow<Verdict, Communicator>, Failure> {
    match (local, child_of) {
        (_, Some(parent)) => launch::follow(parent)?,
        (Some(size), None) => return launch::run(size, config).map(ControlFlow::Break),
        (None, None) => {}
    }
    log(config);
    let comm = connect(config, None)?;
    if comm.size() < 2 {
        let text =
            format!("{what} needs two ranks at least: give --local N, or start it by a launcher");
        return Err(Failure::Usage(text));
    }
    Ok(ControlFlow::Continue(comm))
}

/// Meets the other ranks, with the device that the list has for this rank, if it has one.
pub(crate) fn connect_on_device(
    devices: &[String],
    config: Config,
    mpi: Option<&Mpi>,
) -> Result<(Communicator, Option<Arc<dyn Device>>), Failure> {
    let launch = if mpi.is_some() { None } else { Launch::from_env(&config)? };
    let Some(name) = args::device_of(devices, launch.map_or(0, |launch| launch.rank))? else {
        return Ok((connect(&config, mpi)?, None));
    };
    let config = config.device(vec![name]);
    let opened = dure::devices::open(&config)?.into_iter().next();
    let device = opened.map(|device| -> Arc<dyn Device> { device });
    Ok((connect(&config, mpi)?, device))
}

/// Meets the other ranks: those of MPI's job, or those of the job that the environment names.
fn connect(config: &Config, mpi: Option<&Mpi>) -> Result<Communicator, Failure> {
    let mut builder = Communicator::builder().config(config.clone());
    if let Some(mpi) = mpi {
        builder = builder.rank(mpi.rank(), mpi.size()).meet_at(mpi.unique_id(config)?);
    } else if let Some(launch) = Launch::from_env(config)? {
        builder = builder.rank(launch.rank, launch.size);
        if let Some(id) = launch.unique_id()? {
            builder = builder.meet_at(id);
        }
    }
    Ok(builder.connect()?)
}

/// Logs to standard error what the settings ask for.
fn log(config: &Config) {
    let filter =
        tracing_subscriber::EnvFilter::try_new(&config.log).unwrap_or_else(|_| "warn".into());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second subscriber cannot come: this is called once, by the program.
    let _ = subscriber.with_ansi(io::stderr().is_terminal()).try_init();
}

/// All rows and what they add up to, as rank 0 knows them; the others know of none.
#[derive(Default)]
struct Measured {
    rows: Vec<Row>,
    totals: Totals,
    /// With `--memory` only.
    memory: Option<Memory>,
    /// With `--regret` only, and then instead of the rows.
    regrets: Vec<Regret>,
}

/// Measures all rows.
fn measure(
    comm: &Communicator,
    (setup, device): (&Setup<'_>, Option<&Arc<dyn Device>>),
    mpi: Option<&Mpi>,
) -> Result<Measured, Failure> {
    let args = setup.args;
    let cases = args.cases(comm.size())?;
    let mut screen = (comm.rank() == 0).then(|| Screen::new(args, cases.len() as u64));
    if let Some(screen) = &screen {
        screen.print(&table::header(comm, setup))?;
    }
    let mut bench = Bench::new(comm, (args, device), mpi, &cases)?;
    let mut measured = Measured::default();
    for case in &cases {
        if args.regret {
            if let (Some(regret), Some(screen)) = (bench.regret(case)?, &mut screen) {
                screen.print(&table::regret(&regret))?;
                screen.bar.inc(1);
                measured.regrets.push(regret);
            }
            continue;
        }
        let row = bench.row(case)?;
        if let (Some(row), Some(screen)) = (row, &mut screen) {
            measured.totals.add(&row);
            screen.print(&table::row(&row, mpi.is_some()))?;
            screen.print(&table::degraded(&row))?;
            screen.bar.inc(1);
            measured.rows.push(row);
        }
    }
    if args.memory {
        measured.memory = memory::take(comm)?;
    }
    if let Some(screen) = screen {
        screen.bar.finish_and_clear();
        if args.regret {
            screen.print(&table::regret_footer(&measured.regrets))?;
        } else {
            screen.print(&table::footer(args, &measured.totals))?;
        }
        screen.print(&measured.memory.as_ref().map_or_else(String::new, Memory::lines))?;
    }
    Ok(measured)
}

/// The settings of the flags, for people.
fn describe(args: &Args) -> String {
    let on_device = args.device != ["host"];
    let given = [
        ("device", on_device.then(|| args.device.join(","))),
        ("transport", args.transport.clone()),
        ("algorithm", args.algo.clone()),
        ("lanes", args.lanes.map(|lanes| lanes.to_string())),
        ("timeout", args.timeout.clone()),
    ];
    let mut text = format!(
        "buffers {}",
        if args.alloc == buffer::Alloc::Dure { "registered" } else { "plain" }
    );
    for (name, value) in given {
        if let Some(value) = value {
            text = format!("{text}, {name} {value}");
        }
    }
    text
}

/// The table on standard output, and a progress bar below it on a terminal.
struct Screen {
    silent: bool,
    bar: ProgressBar,
}

impl Screen {
    fn new(args: &Args, rows: u64) -> Self {
        let bar = output::progress_bar(true, rows, "rows");
        Self { silent: output::claims_output(args.json.as_ref()), bar }
    }

    /// Prints at once, so that a row is seen when it is measured.
    fn print(&self, text: &str) -> Result<(), Failure> {
        if self.silent {
            return Ok(());
        }
        self.bar.suspend(|| {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            Ok(out.flush()?)
        })
    }
}
