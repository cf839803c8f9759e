//! `dure simulate --bootstrap N`: how long the ranks of a job take to meet, and what memory all of them together take,
//! with the library's own handshakes and messages, in this process.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use dure::rehearsal::Rehearsal;
use serde::Serialize;

use crate::allocator;
use crate::output::{Failure, Verdict, claims_output, complain, expect_folder, write_json};
use crate::size;

/// Runs, each with half as many ranks as the next.
const RUNS: u32 = 4;

/// The bootstrap of very many ranks.
// The command's own arguments are the group of this name.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Let so many ranks meet in this process, and an eighth, a quarter and half as many before.
    #[arg(long, value_name = "RANKS", conflicts_with_all = ["layout", "local"], value_parser = clap::value_parser!(u32).range(8..=1 << 20))]
    pub(crate) bootstrap: Option<u32>,
    /// Ranks of one simulated process, which get the table of ranks once.
    #[arg(long, requires = "bootstrap", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    per_process: u32,
    /// Fail when the largest run takes longer than so many seconds.
    #[arg(long, requires = "bootstrap", value_name = "SECONDS")]
    max_seconds: Option<f64>,
    /// Fail when the largest run takes more memory, as 4G.
    #[arg(long, requires = "bootstrap", value_name = "SIZE", value_parser = size::parse)]
    max_memory: Option<u64>,
    /// Fail when the memory of a rank, over the runs, grows or shrinks by more than this.
    #[arg(long, requires = "bootstrap", value_name = "PERCENT")]
    max_growth: Option<f64>,
}

/// The bootstrap of one number of ranks.
#[derive(Clone, Copy, Debug, Serialize)]
struct Run {
    ranks: u32,
    seconds: f64,
    /// Most bytes that were allocated at a time, of all ranks together.
    peak_bytes: usize,
    /// Bytes that are allocated when all ranks have met.
    retained_bytes: usize,
    /// Bytes that went over connections.
    carried_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    per_process: u32,
    threads: usize,
    runs: Vec<Run>,
    /// Memory per rank of the largest run over that of the smallest: at most, and when all have met.
    peak_growth: f64,
    retained_growth: f64,
    /// Most bytes of memory that this process had, with everything (`VmHWM`).
    process_peak_bytes: Option<u64>,
}

pub(crate) fn run(args: &Args, ranks: u32, json: Option<&PathBuf>) -> Result<Verdict, Failure> {
    expect_folder(json.map(PathBuf::as_path))?;
    allocator::count();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runs =
        (0..RUNS).rev().map(|halvings| measure(ranks >> halvings, args.per_process, threads));
    let runs = runs.collect::<Result<Vec<_>, _>>()?;
    let (first, last) = (runs[0], runs[runs.len() - 1]);
    let growth = |bytes: fn(&Run) -> usize| per_rank(&last, bytes) / per_rank(&first, bytes);
    let outcome = Outcome {
        per_process: args.per_process,
        threads,
        peak_growth: growth(|run| run.peak_bytes),
        retained_growth: growth(|run| run.retained_bytes),
        process_peak_bytes: process_peak(),
        runs,
    };
    if !claims_output(json) {
        print(&outcome)?;
    }
    if let Some(json) = json {
        write_json(json, &outcome)?;
    }
    Ok(Verdict::holds_if(holds(args, &outcome, &last)))
}

/// Lets `ranks` ranks meet. All of them are held until the memory has been looked at.
fn measure(ranks: u32, per_process: u32, threads: usize) -> Result<Run, Failure> {
    let before = allocator::allocated();
    allocator::forget_most();
    let start = Instant::now();
    let job = Rehearsal { ranks, per_process, threads, trouble: None }.run();
    let seconds = start.elapsed().as_secs_f64();
    let run = Run {
        ranks,
        seconds,
        peak_bytes: usize::try_from(allocator::most_allocated() - before).unwrap_or(0),
        retained_bytes: usize::try_from(allocator::allocated() - before).unwrap_or(0),
        carried_bytes: job.carried(),
    };
    if let Some((_, error)) = job.errors().next() {
        return Err(error.into());
    }
    if job.joined() != ranks as usize || job.digests().len() != 1 {
        let (joined, tables) = (job.joined(), job.digests().len());
        let text = format!("{joined} of {ranks} ranks have met, with {tables} different tables");
        return Err(Failure::Failed(text));
    }
    Ok(run)
}

fn per_rank(run: &Run, bytes: impl Fn(&Run) -> usize) -> f64 {
    bytes(run) as f64 / f64::from(run.ranks)
}

fn process_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn print(outcome: &Outcome) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let Outcome { per_process, threads, .. } = outcome;
    writeln!(
        out,
        "# bootstrap in one process: {per_process} ranks a simulated process, {threads} threads"
    )?;
    writeln!(
        out,
        "#    ranks    seconds         peak     retained   peak/rank  retained/rank      carried"
    )?;
    for run in &outcome.runs {
        let bytes = |bytes: usize| size::display(bytes as u64);
        writeln!(
            out,
            "{:>10} {:>10.2} {:>12} {:>12} {:>9.0} B {:>12.0} B {:>12}",
            run.ranks,
            run.seconds,
            bytes(run.peak_bytes),
            bytes(run.retained_bytes),
            per_rank(run, |run| run.peak_bytes),
            per_rank(run, |run| run.retained_bytes),
            size::display(run.carried_bytes),
        )?;
    }
    let (first, last) = (outcome.runs[0].ranks, outcome.runs[outcome.runs.len() - 1].ranks);
    writeln!(
        out,
        "memory of a rank, {last} ranks over {first}: peak x{:.3}, retained x{:.3}",
        outcome.peak_growth, outcome.retained_growth
    )?;
    if let Some(bytes) = outcome.process_peak_bytes {
        writeln!(out, "this process had {} at most", size::display(bytes))?;
    }
    Ok(())
}

/// Whether the limits that were asked for hold; says which do not.
fn holds(args: &Args, outcome: &Outcome, last: &Run) -> bool {
    let mut misses = Vec::new();
    if let Some(most) = args.max_seconds.filter(|most| last.seconds > *most) {
        misses.push(format!("{} ranks took {:.2} s (allowed: {most})", last.ranks, last.seconds));
    }
    let peak = outcome.process_peak_bytes.unwrap_or(last.peak_bytes as u64);
    if let Some(most) = args.max_memory.filter(|most| peak > *most) {
        let (peak, most) = (size::display(peak), size::display(most));
        misses.push(format!("{} ranks took {peak} (allowed: {most})", last.ranks));
    }
    for (name, growth) in [("peak", outcome.peak_growth), ("retained", outcome.retained_growth)] {
        let percent = (growth.max(1.0 / growth) - 1.0) * 100.0;
        if let Some(most) = args.max_growth.filter(|most| percent > *most) {
            misses.push(format!(
                "the {name} memory of a rank changed by {percent:.1} % (allowed: {most} %)"
            ));
        }
    }
    misses.iter().for_each(|miss| complain(miss));
    misses.is_empty()
}
