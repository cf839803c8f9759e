//! `dure topo diff`: how two descriptions differ, in sentences.

mod compare;
mod pairs;

use std::io::{self, Write};
use std::path::PathBuf;

use self::compare::Comparison;
use super::load::Description;
use crate::output::{Failure, Verdict};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// What `dure topo show --from` takes; / for this host.
    a: PathBuf,
    /// The same.
    b: PathBuf,
    /// Figures that differ by less are the same.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    within: f64,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    if args.within.is_nan() || args.within < 0.0 {
        return Err(Failure::Usage(format!(
            "--within {}: not a number of at least 0",
            args.within
        )));
    }
    let (a, b) = (Description::load(&args.a)?, Description::load(&args.b)?);
    let comparison = Comparison::of((&a, &b), args.within / 100.0);
    let mut out = io::stdout().lock();
    for note in &comparison.notes {
        writeln!(out, "not compared: {note}")?;
    }
    for sentence in &comparison.differences {
        writeln!(out, "{sentence}")?;
    }
    match comparison.differences.len() {
        0 => writeln!(out, "no difference")?,
        1 => writeln!(out, "1 difference")?,
        count => writeln!(out, "{count} differences")?,
    }
    Ok(Verdict::holds_if(comparison.differences.is_empty()))
}
