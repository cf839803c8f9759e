//! `dure simulate --layout TEXT`: what collectives would take on a layout, size by size.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use dure::planner::{self, Planner, Question};
use dure_plan::Rank;
use dure_sim::bound;

use super::html;
use super::table::{Report, Row, Swept};
use crate::explain::constants;
use crate::layout::Layout;
use crate::output::{self, Failure, Verdict};
use crate::plan::What;
use crate::size;

/// What is predicted when nobody says.
const USUAL: [What; 5] =
    [What::AllReduce, What::AllGather, What::ReduceScatter, What::AllToAll, What::Broadcast];

/// Collectives on a layout.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Sweep {
    /// Collectives to predict; by default all-reduce, all-gather, reduce-scatter, all-to-all and broadcast.
    #[arg(value_enum, value_name = "COLLECTIVE", conflicts_with_all = ["bootstrap", "judge"])]
    collectives: Vec<What>,
    #[command(flatten)]
    pub(super) layout: Layout,
    /// Sizes of the whole vector, as 1K..256M*4: from, to, and the factor between them (4 when it is left out).
    #[arg(long, value_name = "SIZES", default_value = "1K..256M*4", value_parser = sizes)]
    sweep: Sizes,
    /// Most lanes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    lanes: u16,
    /// Write a page with plots and tables.
    #[arg(long, value_name = "FILE.html", conflicts_with_all = ["bootstrap", "judge"])]
    html: Option<PathBuf>,
}

/// Sizes in ascending order, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sizes(Vec<u64>);

/// Reads `A`, `A..B` or `A..B*FACTOR`.
///
/// # Errors
/// Says what may be written.
fn sizes(text: &str) -> Result<Sizes, String> {
    let (range, factor) = text.split_once('*').unwrap_or((text, "4"));
    let (first, last) = range.split_once("..").unwrap_or((range, range));
    let (first, last) = (size::parse(first)?, size::parse(last)?);
    let factor: u64 = factor
        .trim()
        .parse()
        .ok()
        .filter(|factor| *factor >= 2)
        .ok_or_else(|| format!("the factor \"{factor}\" is not a number from 2"))?;
    if first == 0 || first > last {
        return Err(format!("\"{range}\" is not A..B, with 1 <= A <= B"));
    }
    let next = |size: &u64| size.checked_mul(factor).filter(|size| *size <= last);
    Ok(Sizes(std::iter::successors(Some(first), next).collect()))
}

/// Predicts, and writes what was asked for. It holds if every size has a prediction.
pub(super) fn run(args: &Sweep, json: Option<&PathBuf>) -> Result<Verdict, Failure> {
    output::expect_folder(json.map(PathBuf::as_path))?;
    output::expect_folder(args.html.as_deref())?;
    if args.collectives.contains(&What::Barrier) {
        return Err(Failure::Usage("a barrier has no sizes (see dure explain barrier)".to_owned()));
    }
    let report = predict(args)?;
    if let Some(to) = &args.html {
        fs::write(to, html::page(&report))
            .map_err(|source| Failure::system(to.display().to_string(), source))?;
    }
    if let Some(to) = json {
        output::write_json(to, &report)?;
    }
    if !output::claims_output(json) {
        io::stdout().lock().write_all(report.text().as_bytes())?;
    }
    Ok(Verdict::holds_if(report.is_complete()))
}

fn predict(args: &Sweep) -> Result<Report, Failure> {
    let cluster = args.layout.cluster()?;
    let profile = args.layout.profile(&cluster)?;
    let planner = Planner::new(&cluster, args.lanes, profile, planner::options(cluster.size()))
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let asked = if args.collectives.is_empty() { &USUAL[..] } else { &args.collectives };
    let total = asked.len() * args.sweep.0.len();
    let progress = output::progress_bar(true, total as u64, "sizes");
    let row = |what, bytes| {
        let question = Question { what, bytes, elem: 1, ragged: false };
        let row =
            Row::new(bytes, &planner.answer(&question), &bound(what, bytes, planner.network()));
        progress.inc(1);
        row
    };
    let swept = |what: &What| {
        let what = what.with(Rank(0));
        let rows = args.sweep.0.iter().map(|bytes| row(what, *bytes)).collect();
        Swept { collective: what.to_string(), rows }
    };
    let collectives = asked.iter().map(swept).collect();
    progress.finish_and_clear();
    Ok(Report {
        layout: cluster.to_string(),
        ranks: cluster.size(),
        constants: constants(&planner),
        collectives,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_go_from_size_to_size() {
        assert_eq!(sizes("1K..64K*8"), Ok(Sizes(vec![1 << 10, 8 << 10, 64 << 10])));
        assert_eq!(sizes("1..20"), Ok(Sizes(vec![1, 4, 16])));
        assert_eq!(sizes("2M"), Ok(Sizes(vec![2 << 20])));
        let all = sizes("1..16777215T*2").unwrap();
        assert_eq!(all.0.len(), 64);
        for wrong in ["", "0..4", "4..2", "1K..", "1K..2K*1", "1K..2K*x", "1..2..3", "a..b"] {
            assert!(sizes(wrong).is_err(), "{wrong}");
        }
    }
}
