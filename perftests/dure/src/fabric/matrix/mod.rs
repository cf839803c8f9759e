//! `dure fabric matrix`: bandwidth and latency of every path of a job, one after the other, and those that fall out.

mod draw;
mod job;
mod outlier;
mod text;

use std::fs;
use std::ops::ControlFlow;
use std::time::Duration;

use dure::{Communicator, Config};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::job::Job;
use self::outlier::{Outlier, outliers};
use super::Args;
use super::figures::Latency;
use super::report::of_counters;
use super::row::Counters;
use super::table::Unit;
use super::test::Kind;
use crate::output::{self, Failure, Verdict, complain};
use crate::perf;

/// What was measured from one rank to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    from: u32,
    to: u32,
    transport: String,
    /// Bytes a second.
    bandwidth: f64,
    latency: Latency,
    /// Under load.
    loaded: Option<Latency>,
    /// Bytes that arrived and are not what they should be, at the rank of the row.
    wrong: u64,
}

/// What one rank knows: the cells of its row; and, of every row, what its devices counted and what arrived wrong here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    cells: Vec<Cell>,
    counters: Vec<Counters>,
    wrong: u64,
}

/// How the cells are measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Bytes of a message of the bandwidth, and how many.
    size: u64,
    messages: u64,
    depth: u32,
    load: bool,
    patience: Duration,
}

/// Bytes of a message of the latency.
const PING_BYTES: u64 = 8;
/// Messages of a cell where no flag says otherwise.
const MESSAGES: u64 = 200;
/// Bytes of a message of the bandwidth where no flag says otherwise.
const SIZE: u64 = 65_536;
const DEPTH: u32 = 128;

/// What is shown: the ranks and all that was measured.
pub(super) struct Matrix {
    plan: Plan,
    unit: Unit,
    /// Host and process of each rank.
    ranks: Vec<String>,
    cells: Vec<Cell>,
    /// By row, then by rank.
    counters: Vec<Vec<Counters>>,
    wrong: u64,
    outliers: Vec<Outlier>,
}

/// Runs as one rank of a job, or as the parent of local ranks.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let plan = plan(args)?;
    output::expect_folder(args.svg.as_deref())?;
    let config = Config::from_env()?;
    let comm = match perf::join("a matrix", &config, (args.local, args.child_of))? {
        ControlFlow::Break(verdict) => return Ok(verdict),
        ControlFlow::Continue(comm) => comm,
    };
    let report = Job::open(&comm, &config, args, plan)?.measure()?;
    let reports = gather(&comm, &report)?;
    let verdict = match reports {
        Some(reports) => show(&comm, args, plan, reports)?,
        None => Verdict::Holds,
    };
    comm.finalize()?;
    Ok(verdict)
}

/// What the flags say, or the flag that means nothing here.
fn plan(args: &Args) -> Result<Plan, Failure> {
    let refused = [
        (args.host.is_some(), "HOST"),
        (args.all, "-a"),
        (args.seconds.is_some(), "-D"),
        (args.both, "-b"),
        (args.queues.is_some(), "-q"),
        (args.inline.is_some(), "-I"),
        (args.receives.is_some(), "-r"),
        (args.moderation.is_some(), "-Q"),
        (args.outstanding.is_some(), "-o"),
        (args.limit_rate.is_some(), "-y"),
        (args.forever, "--run_infinitely"),
        (args.histogram, "-H"),
    ];
    if let Some((_, flag)) = refused.iter().find(|(given, _)| *given) {
        let text = format!(
            "{flag} is not for matrix (allowed: -s, -n, -t, -d, -i, -x, -m, -w, --limit_lat, --load, --transport, --pool, --pool-partition, --pool-coherence, --local, --json, --svg)"
        );
        return Err(Failure::Usage(text));
    }
    if let Some(transport) = args.transport {
        transport.offers(args.test)?;
    }
    let Args { pool, pool_partition, pool_coherence, .. } = args;
    let names_pool = !pool.is_empty() || pool_partition.is_some() || pool_coherence.is_some();
    if names_pool && args.transport != Some(Kind::Cxl) {
        let text = "--pool, --pool-partition and --pool-coherence are for --transport cxl";
        return Err(Failure::Usage(text.to_owned()));
    }
    Ok(Plan {
        size: args.size.unwrap_or(SIZE),
        messages: args.iterations.unwrap_or(MESSAGES),
        depth: args.depth.unwrap_or(DEPTH),
        load: args.load,
        patience: args.patience(),
    })
}

/// Brings the reports of all ranks to rank 0.
fn gather(comm: &Communicator, mine: &Report) -> Result<Option<Vec<Report>>, Failure> {
    let wrong = |error: serde_json::Error| Failure::Failed(format!("a report: {error}"));
    let bytes = serde_json::to_vec(mine).map_err(wrong)?;
    let Some(all) = perf::latency::bring(comm, bytes)? else { return Ok(None) };
    let read = |bytes: &Vec<u8>| serde_json::from_slice(bytes).map_err(wrong);
    all.iter().map(read).collect::<Result<_, _>>().map(Some)
}

/// On rank 0: prints, draws and writes.
fn show(
    comm: &Communicator,
    args: &Args,
    plan: Plan,
    reports: Vec<Report>,
) -> Result<Verdict, Failure> {
    let name = |rank| {
        let host = comm.host_name(rank).unwrap_or("?");
        format!("{host} (process {})", comm.process_id(rank).unwrap_or(0))
    };
    let wrong = reports.iter().map(|report| report.wrong).sum();
    let counters = (0..reports.len())
        .map(|row| reports.iter().map(|report| report.counters[row].clone()).collect())
        .collect();
    let cells: Vec<_> = reports.into_iter().flat_map(|report| report.cells).collect();
    let matrix = Matrix {
        plan,
        unit: Unit { gbits: args.gbits },
        ranks: (0..comm.size()).map(name).collect(),
        outliers: outliers(&cells),
        cells,
        counters,
        wrong,
    };
    let json = args.json_file();
    if !output::claims_output(json.as_ref()) {
        use std::io::Write as _;
        std::io::stdout().lock().write_all(text::text(&matrix, args.counters).as_bytes())?;
    }
    if let Some(to) = &json {
        output::write_json(to, &matrix.json())?;
    }
    if let Some(to) = &args.svg {
        let written = fs::write(to, draw::svg(&matrix));
        written.map_err(|source| Failure::system(to.display().to_string(), source))?;
    }
    let wrong = matrix.judge(args);
    wrong.iter().for_each(|what| complain(what));
    Ok(Verdict::holds_if(wrong.is_empty()))
}

impl Matrix {
    fn cell(&self, from: u32, to: u32) -> Option<&Cell> {
        self.cells.iter().find(|cell| (cell.from, cell.to) == (from, to))
    }

    /// What falls short of the limits, and bytes that are wrong. Outliers are told, and no failure.
    fn judge(&self, args: &Args) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.wrong > 0 {
            wrong.push(format!("{} wrong bytes arrived", self.wrong));
        }
        for cell in &self.cells {
            let path = format!("from rank {} to rank {}", cell.from, cell.to);
            let (bandwidth, unit) = (self.unit.of(cell.bandwidth), self.unit.name());
            if let Some(limit) = args.limit_bw.filter(|limit| bandwidth < *limit) {
                wrong.push(format!("{path}: {bandwidth:.2} {unit} is below the limit {limit}"));
            }
            let typical = cell.latency.typical;
            if let Some(limit) = args.limit_lat.filter(|limit| typical > *limit) {
                wrong.push(format!("{path}: {typical:.2} usec is above the limit {limit}"));
            }
        }
        wrong
    }

    fn json(&self) -> Value {
        let cell = |cell: &Cell| {
            let of = |latency: &Latency| super::report::of_latency(latency);
            json!({
                "from": cell.from,
                "to": cell.to,
                "transport": cell.transport,
                "bandwidth": self.unit.of(cell.bandwidth),
                "latency": of(&cell.latency),
                "latency_under_load": cell.loaded.as_ref().map(of),
                "outlier": self.outliers.iter().any(|outlier| outlier.is_of(cell)),
            })
        };
        let row = |(from, counters): (usize, &Vec<Counters>)| {
            let of = |(rank, counters): (usize, &Counters)| json!({ "rank": rank, "counters": of_counters(counters) });
            let cells: Vec<_> =
                self.cells.iter().filter(|cell| cell.from as usize == from).map(cell).collect();
            let counters: Vec<_> = counters.iter().enumerate().map(of).collect();
            json!({ "rank": from, "cells": cells, "devices": counters })
        };
        json!({
            "version": 1,
            "test_info": {
                "test": "Matrix_Test",
                "MsgSize": self.plan.size,
                "latency_MsgSize": PING_BYTES,
                "n_iterations": self.plan.messages,
                "TX_depth": self.plan.depth,
                "BW_unit": self.unit.name(),
            },
            "ranks": self.ranks,
            "rows": self.counters.iter().enumerate().map(row).collect::<Vec<_>>(),
            "outliers": self.outliers.iter().map(|outlier| outlier.sentence(self.unit)).collect::<Vec<_>>(),
            "wrong_bytes": self.wrong,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four ranks, with one slow path and one late one.
    pub(super) fn sample() -> Matrix {
        let pairs = (0..4).flat_map(|from| (0..4).map(move |to| (from, to)));
        let cell = |(from, to)| {
            let slow = (from, to) == (1, 3);
            let late = (from, to) == (2, 0);
            let typical = if late { 50.0 } else { 5.0 + f64::from(from) / 10.0 };
            let bandwidth = if slow { 1e8 } else { 1e9 + f64::from(to) * 1e7 };
            let latency = Latency { typical, ..Latency::default() };
            let transport = "tcp".to_owned();
            Cell { from, to, transport, bandwidth, latency, loaded: Some(latency), wrong: 0 }
        };
        let cells: Vec<_> = pairs.filter(|(from, to)| from != to).map(cell).collect();
        let patience = Duration::from_secs(1);
        Matrix {
            plan: Plan { size: 65_536, messages: 10, depth: 4, load: true, patience },
            unit: Unit { gbits: false },
            ranks: (0..4).map(|rank| format!("host<{rank}>")).collect(),
            outliers: outliers(&cells),
            cells,
            counters: vec![vec![Counters::default(); 4]; 4],
            wrong: 0,
        }
    }

    #[test]
    fn json_has_a_row_a_rank_and_marks_outliers() {
        let json = sample().json();
        let rows = json["rows"].as_array().unwrap();
        assert_eq!((rows.len(), rows[1]["cells"].as_array().unwrap().len()), (4, 3));
        assert_eq!(
            (&rows[1]["cells"][2]["outlier"], &rows[1]["cells"][0]["outlier"]),
            (&true.into(), &false.into())
        );
        assert_eq!(json["outliers"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn limits_hold_for_every_path() {
        let args = |line: &str| super::super::args::tests::args(line);
        assert!(sample().judge(&args("matrix")).is_empty());
        assert_eq!(sample().judge(&args("matrix -w 500")).len(), 1);
        assert_eq!(sample().judge(&args("matrix --limit_lat 20")).len(), 1);
    }
}
