//! `dure perf`: how fast collectives are, and whether their results are right.

mod args;
mod buffer;
mod collective;
mod latency;
mod launch;
mod measure;
mod operation;
mod pattern;
mod report;
mod table;

use std::io::{self, IsTerminal, Write};

use dure::{Communicator, Config, Launch};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub(crate) use self::args::Args;
use self::measure::{Bench, Row};
use self::report::{Report, Totals};
use crate::output::{self, Failure, Verdict, complain};

/// Measures and prints, as one rank, or as the parent of local ranks.
pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    let config = args.settings()?;
    output::expect_folder(args.json.as_deref())?;
    match (args.child_of, args.local) {
        (Some(parent), _) => launch::follow(parent)?,
        (None, Some(size)) => {
            // What is wrong with the call is said once, before any rank starts.
            args.cases(size)?;
            return launch::run(size, &config);
        }
        (None, None) => {}
    }
    log(&config);
    let comm = connect(&config)?;
    let settings = describe(args);
    let (rows, totals) = measure(&comm, args, &settings)?;
    // The others wait for this rank to leave, whatever becomes of the file.
    let written = match &args.json {
        Some(to) if comm.rank() == 0 => {
            output::write_json(to, &Report::new(&comm, args, &settings, &rows, &totals))
        }
        _ => Ok(()),
    };
    comm.finalize()?;
    written?;
    if totals.wrong > 0 {
        complain(&format!("{} wrong values", totals.wrong));
    }
    Ok(Verdict::holds_if(totals.wrong == 0))
}

/// Meets the other ranks of the job that the environment names.
fn connect(config: &Config) -> Result<Communicator, Failure> {
    let mut builder = Communicator::builder().config(config.clone());
    if let Some(launch) = Launch::from_env(config)? {
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

/// Measures all rows. Rank 0 knows them and what they add up to; the others know of none.
fn measure(
    comm: &Communicator,
    args: &Args,
    settings: &str,
) -> Result<(Vec<Row>, Totals), Failure> {
    let cases = args.cases(comm.size())?;
    let mut screen = (comm.rank() == 0).then(|| Screen::new(args, cases.len() as u64));
    if let Some(screen) = &screen {
        screen.print(&table::header(comm, args, settings))?;
    }
    let mut bench = Bench::new(comm, args, &cases)?;
    let mut rows: Vec<Row> = Vec::new();
    let mut totals = Totals::default();
    for case in &cases {
        let row = bench.row(case)?;
        if let (Some(row), Some(screen)) = (row, &mut screen) {
            totals.add(&row);
            screen.print(&table::row(&row))?;
            screen.bar.inc(1);
            rows.push(row);
        }
    }
    if let Some(screen) = screen {
        screen.bar.finish_and_clear();
        screen.print(&table::footer(args, &totals))?;
    }
    Ok((rows, totals))
}

/// The settings of the flags, for people.
fn describe(args: &Args) -> String {
    let given = [
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
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {eta} left")
            .expect("the template is right");
        let bar = ProgressBar::with_draw_target(Some(rows), target).with_style(style);
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
