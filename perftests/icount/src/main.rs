//! Instruction counts of all-reduces of 8 B and 64 KiB by two ranks that one thread cranks, per call of both ranks
//! together: over shared memory, TCP and the simulated transport. Counts do not depend on what else the machine does, so
//! that they can be compared from change to change.
//!
//! ```text
//! cargo run --release -p dure-icount            counts, and compares with perftests/icount/counts.txt
//! cargo run --release -p dure-icount -- record  counts, and writes that file
//! ```
//!
//! Exit status 1: a count is more than [`LIMIT`] percent above the recorded one. 2: it could not be counted.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

mod count;
mod job;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::count::Counts;
use crate::job::{Case, Job};

/// Percent by which a count may grow.
const LIMIT: f64 = 3.0;
/// Calls that are counted, after as many that are not.
const CALLS: u32 = 200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.txt");
    let done = match arguments[..] {
        [] => compare(&recorded),
        ["record"] => record(&recorded),
        ["run", case] => run(case),
        _ => Err("arguments: none, or `record`".to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("icount: {error}");
            ExitCode::from(2)
        }
    }
}

/// What valgrind runs: the calls of one case.
fn run(case: &str) -> Result<bool, String> {
    let case = Case::parse(case)?;
    let mut job = Job::new(case).map_err(|error| error.to_string())?;
    for _ in 0..CALLS {
        job.call().map_err(|error| error.to_string())?;
    }
    counted(&mut job).map_err(|error| error.to_string())?;
    Ok(true)
}

/// The calls that are counted; valgrind knows the function by its name.
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(unsafe_code, improper_ctypes_definitions, reason = "only its name is for others")]
extern "C" fn dure_icount_counted(job: &mut Job) -> Result<(), dure_exec::Error> {
    for _ in 0..CALLS {
        job.call()?;
    }
    Ok(())
}

use dure_icount_counted as counted;

fn record(file: &Path) -> Result<bool, String> {
    let mut text =
        "# Instructions per call of both ranks: cargo run --release -p dure-icount -- record\n"
            .to_owned();
    for (case, instructions) in Counts::measure()? {
        println!("{case:<20} {instructions:>8}");
        writeln!(text, "{case} {instructions}").expect("a string takes all");
    }
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(true)
}

fn compare(file: &Path) -> Result<bool, String> {
    let recorded = Counts::read(file)?;
    let mut fine = true;
    println!("{:<20} {:>8} {:>8} {:>7}", "# case", "recorded", "now", "change");
    for (case, now) in Counts::measure()? {
        let before = recorded.of(&case).ok_or_else(|| format!("{case} is not recorded"))?;
        let change = (now as f64 / before as f64 - 1.0) * 100.0;
        let verdict = if change > LIMIT { "too many" } else { "" };
        println!("{case:<20} {before:>8} {now:>8} {change:>+6.1}% {verdict}");
        fine &= change <= LIMIT;
    }
    Ok(fine)
}
