//! `dure simulate --judge`: how good the planner's choices are where everything was measured.
//!
//! docs/choice.md says how, and has the results.

mod cells;
mod names;
mod places;
mod planner;
mod score;
mod table;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use dure_sim::fit::MachineError;
use serde::Serialize;

use self::cells::{Cell, cells};
use self::places::Places;
use self::planner::{Planner, choose};
use self::score::{Outcome, Score, scores};
use self::table::{Key, read};
use crate::output::{self, Failure, Verdict};

/// What the help says at its end.
pub(super) const HELP: &str = "\
Files are comma-separated, with the columns system, ranks, tasks_per_node, collective, mpi, memory, bytes, algorithm and\n\
median_us in any order; lines that begin with # are comments. A cell is what has the first seven in common. Where both\n\
files say the same, constants are fitted on the cells of even FNV-1a hash of \"system,...,bytes\", and the odd ones are\n\
judged; else all of both. docs/choice.md says which names stand for which algorithms. The exit status is 1 if a bound was\n\
asked for and a system misses it.";

/// What choices must keep to.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Bounds {
    /// Fail if the geometric mean of the regret of a system is above this.
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    max_geomean: Option<f64>,
    /// Fail if more than 5 % of the cells of a system have a regret above this.
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    max_p95: Option<f64>,
}

fn factor(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|factor| *factor >= 1.0 && factor.is_finite());
    number.ok_or_else(|| "not a number from 1".to_owned())
}

impl Bounds {
    fn hold(&self, score: &Score) -> bool {
        self.max_geomean.is_none_or(|most| score.geomean_regret <= most)
            && self.max_p95.is_none_or(|most| score.p95_regret <= most)
    }
}

/// The answer.
#[derive(Debug, Serialize)]
struct Report {
    systems: Vec<Score>,
}

pub(super) fn run(
    judged: &Path,
    fit: &Path,
    bounds: &Bounds,
    json: Option<&Path>,
) -> Result<Verdict, Failure> {
    output::expect_folder(json)?;
    let (fit_rows, judged_rows) = (read(fit)?, read(judged)?);
    let (known, asked) = (cells(&fit_rows), cells(&judged_rows));
    let (known, asked) = split(&known, &asked, fit_rows == judged_rows);
    let systems = scores(&judge(&known, &asked)?);
    if systems.is_empty() {
        return Err(Failure::Usage(format!(
            "{}: no cell with a choice between two of Dure's algorithms (see docs/choice.md)",
            judged.display()
        )));
    }
    let verdict = Verdict::holds_if(systems.iter().all(|score| bounds.hold(score)));
    let report = Report { systems };
    if let Some(to) = json {
        output::write_json(to, &report)?;
    }
    if !json.is_some_and(output::is_standard_output) {
        print(&report)?;
    }
    Ok(verdict)
}

type Cells<'c> = Vec<(&'c Key, &'c Cell)>;

/// The cells to fit on and those to judge: half of them each where both files say the same.
fn split<'c>(
    known: &'c BTreeMap<Key, Cell>,
    asked: &'c BTreeMap<Key, Cell>,
    same: bool,
) -> (Cells<'c>, Cells<'c>) {
    if same {
        return known.iter().partition(|(key, _)| key.is_even());
    }
    (known.iter().collect(), asked.iter().collect())
}

/// Chooses in each cell in which there is a choice.
fn judge(known: &Cells<'_>, asked: &Cells<'_>) -> Result<Vec<Outcome>, Failure> {
    let failed = |error: MachineError| Failure::Failed(format!("the model: {error}"));
    let keys = known.iter().chain(asked).map(|(key, _)| *key);
    let places = Places::of(keys);
    let planner = Planner::fitted(known, &places).map_err(failed)?;
    let with_choice = asked.iter().filter(|(_, cell)| cell.has_choice());
    with_choice.map(|(key, cell)| outcome(&planner, key, cell).map_err(failed)).collect()
}

fn outcome(planner: &Planner<'_>, key: &Key, cell: &Cell) -> Result<Outcome, MachineError> {
    let predicted = planner.predict(key, cell)?;
    let best = cell.best().expect("a cell with a choice has times");
    let chosen = choose(&predicted).expect("a cell with a choice has algorithms");
    let error = |name: &str, seconds: f64| (seconds / cell.seconds[name] - 1.0).abs();
    Ok(Outcome {
        system: key.system.clone(),
        regret: cell.seconds[chosen] / best,
        default_regret: cell.default.map(|seconds| seconds / best),
        errors: predicted.iter().map(|(name, seconds)| error(name, *seconds)).collect(),
    })
}

fn print(report: &Report) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<16} {:>6} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "system", "cells", "geomean", "p95", "worst", "default", "error"
    )?;
    for score in &report.systems {
        let default = score.default_geomean_regret;
        writeln!(
            out,
            "{:<16} {:>6} {:>9.3} {:>9.3} {:>9.3} {:>9} {:>8.1}%",
            score.system,
            score.cells,
            score.geomean_regret,
            score.p95_regret,
            score.worst_regret,
            default.map_or_else(|| "-".to_owned(), |regret| format!("{regret:.3}")),
            100.0 * score.median_abs_error,
        )?;
    }
    Ok(())
}
