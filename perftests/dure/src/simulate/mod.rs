//! `dure simulate`: what plans and jobs would cost where they were not run, and how well that predicts what was measured.

mod bootstrap;
mod html;
mod judge;
mod plot;
mod sweep;
mod table;

use std::path::PathBuf;

use crate::output::{Failure, Verdict};

/// Say what plans and jobs would cost where they were not run, and judge that by measured times.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = judge::HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    sweep: sweep::Sweep,
    #[command(flatten)]
    bootstrap: bootstrap::Args,
    /// Times of many algorithms: choose for each cell as the planner would, and compare with the best measured.
    #[arg(long, value_name = "FILE.csv", requires = "fit", conflicts_with_all = ["bootstrap", "layout", "local"])]
    judge: Option<PathBuf>,
    /// Times to fit the constants on. The same file: half of its cells, and the other half are judged.
    #[arg(long, value_name = "FILE.csv", requires = "judge")]
    fit: Option<PathBuf>,
    #[command(flatten)]
    bounds: judge::Bounds,
    /// Write the result as JSON; with - to standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    if let (Some(judge), Some(fit)) = (&args.judge, &args.fit) {
        return judge::run(judge, fit, &args.bounds, args.json.as_deref());
    }
    if let Some(ranks) = args.bootstrap.bootstrap {
        return bootstrap::run(&args.bootstrap, ranks, args.json.as_ref());
    }
    if !args.sweep.layout.is_given() {
        let text = "nothing to simulate (allowed: --layout TEXT or FILE, --local N, --bootstrap RANKS, --judge FILE --fit FILE)";
        return Err(Failure::Usage(text.to_owned()));
    }
    sweep::run(&args.sweep, args.json.as_ref())
}
