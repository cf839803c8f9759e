//! `dure profile`: what the cost model rests on, made from measurements.

mod measure;
mod sweep;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use dure::planner::{self, Planner, Question};
use dure_sim::fit::{Excess, Shrink};
use dure_sim::{Constants, Corrections, Observed, Profile, Wires};

use self::sweep::Sweep;
use crate::output::{self, Failure, Verdict};

/// Make profiles, which the cost model rests on.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Fit a profile to what `dure perf --regret --json FILE` measured.
    Fit(Fit),
    /// Measure the wires between ranks in some seconds, and write a profile with that.
    Measure(measure::Args),
}

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "A profile is for one kind of place: the files must be of one transport, and of ranks that all have a core each, or\n\
        all have not. Ranks use it with DURE_PROFILE=FILE; dure explain with --profile FILE."
)]
struct Fit {
    /// Results of dure perf --regret --json, of as many collectives and numbers of ranks as there are.
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// Cores of each host that was measured; by default, this machine's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cores: Option<u32>,
    /// The profile; - for standard output.
    #[arg(short = 'o', long, value_name = "FILE.json")]
    output: PathBuf,
}

/// How hard a curve is held to 1, to being straight, and to being the same for all numbers of ranks: lightly, since sweeps
/// have every algorithm at every size.
const SHRINK: Shrink = Shrink { level: 0.01, smooth: 0.003, slope: 0.1 };

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    match &args.command {
        Command::Fit(args) => fit(args),
        Command::Measure(args) => measure::run(args),
    }
}

fn fit(fit: &Fit) -> Result<Verdict, Failure> {
    output::expect_folder(Some(&fit.output))?;
    let sweeps = fit.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let cores = fit.cores.unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        u32::try_from(cores).unwrap_or(u32::MAX)
    });
    one_kind(&fit.files, &sweeps, cores)?;
    let mut observed = Vec::new();
    for sweep in &sweeps {
        observed.extend(excesses(sweep, cores)?);
    }
    let corrections = Corrections::default()
        .fitted(&observed, SHRINK)
        .map_err(|error| Failure::Failed(format!("no curve fits: {error}")))?;
    let profile = Profile { constants: constants(&sweeps[0]), corrections };
    output::write_json(&fit.output, &profile)?;
    Ok(Verdict::Holds)
}

fn read(path: &Path) -> Result<Sweep, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|source| Failure::system(path.display().to_string(), source))?;
    Sweep::parse(&text).map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))
}

/// Refuses sweeps that no one profile can be for.
fn one_kind(files: &[PathBuf], sweeps: &[Sweep], cores: u32) -> Result<(), Failure> {
    let kind = |sweep: &Sweep| (sweep.transport().to_owned(), sweep.cluster(cores).is_crowded());
    let first = kind(&sweeps[0]);
    for (file, sweep) in files.iter().zip(sweeps) {
        if kind(sweep) != first {
            let text = format!(
                "{} is of another transport than {}, or only one of them has a core for each rank",
                file.display(),
                files[0].display()
            );
            return Err(Failure::Usage(text));
        }
    }
    Ok(())
}

/// The usual constants of what joined the ranks.
fn constants(sweep: &Sweep) -> Constants {
    let names = sweep.transport();
    Wires { shared_memory: names.contains("pool"), rdma: names.contains("rdma") }.constants()
}

/// How far the model is off for each candidate of a sweep.
fn excesses(sweep: &Sweep, cores: u32) -> Result<Vec<Observed>, Failure> {
    let cluster = sweep.cluster(cores);
    let profile = Arc::new(Profile { constants: constants(sweep), ..Profile::default() });
    let planner = Planner::new(&cluster, sweep.lanes(), profile, planner::options(cluster.size()))
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let what = sweep.collective().map_err(Failure::Usage)?;
    let mut observed = Vec::new();
    for row in sweep.rows() {
        let question = Question { what, bytes: row.size, elem: 1, ragged: false };
        for (candidate, seconds) in row.candidates() {
            let Ok(prediction) = planner.predict(&question, &candidate) else { continue };
            let excess = Excess {
                bytes: row.size.max(1),
                ranks: cluster.size(),
                log: (seconds / prediction.cost.seconds).ln(),
            };
            observed.push(Observed { what, algorithm: candidate.algorithm, excess });
        }
    }
    Ok(observed)
}
