//! The results as JSON, in the layout of nccl-tests' version 3, and a little more.

use dure::Communicator;
use serde::Serialize;

use super::args::Args;
use super::latency::Percentiles;
use super::measure::{Figures, Row};

/// What the rows add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Wrong elements, and bytes written beside buffers.
    pub(crate) wrong: u64,
    bandwidth: f64,
    measurements: u32,
}

impl Totals {
    pub(crate) fn add(&mut self, row: &Row) {
        for figures in std::iter::once(&row.out_of_place).chain(&row.in_place) {
            self.wrong += figures.wrong.unwrap_or(0);
            self.bandwidth += figures.bus_bw;
            self.measurements += 1;
        }
    }

    /// Mean over rows, in place and not, as nccl-tests has it.
    pub(crate) fn average_bus_bandwidth(&self) -> f64 {
        if self.measurements == 0 { 0.0 } else { self.bandwidth / f64::from(self.measurements) }
    }
}

/// The whole file.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: u32,
    dure_version: &'static str,
    config: Settings,
    ranks: Vec<RankInfo>,
    results: Vec<Result>,
    out_of_bounds: OutOfBounds,
    average_bus_bandwidth: Bandwidth,
}

#[derive(Debug, Serialize)]
struct Settings {
    collective: String,
    minimum_bytes: u64,
    maximum_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    step_factor: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step_bytes: Option<u64>,
    warmup_iters: u32,
    iterations: u32,
    validation: u32,
    ranks: u32,
    /// What was asked for of the library.
    settings: String,
}

#[derive(Debug, Serialize)]
struct RankInfo {
    rank: u32,
    pid: u32,
    hostname: String,
    /// How rank 0 reaches it.
    transport: &'static str,
}

#[derive(Debug, Serialize)]
struct Result {
    size: u64,
    count: u64,
    #[serde(rename = "type")]
    dtype: &'static str,
    redop: &'static str,
    root: i64,
    out_of_place: Measurement,
    in_place: Measurement,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    algorithm: String,
    transport: String,
    lanes: u16,
    /// Percentiles of each rank, out of place.
    ranks: Vec<RankTimes>,
}

/// Microseconds and GB/s; null where the measurement makes no sense, and where nothing was checked.
#[derive(Debug, Default, Serialize)]
struct Measurement {
    time: Option<f64>,
    alg_bw: Option<f64>,
    bus_bw: Option<f64>,
    nwrong: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentiles: Option<Percentiles>,
}

#[derive(Debug, Serialize)]
struct RankTimes {
    rank: u32,
    #[serde(flatten)]
    percentiles: Percentiles,
}

#[derive(Debug, Serialize)]
struct OutOfBounds {
    count: u64,
    okay: bool,
}

#[derive(Debug, Serialize)]
struct Bandwidth {
    bandwidth: f64,
    /// nccl-tests has a threshold here; ours are in `dure compare`.
    okay: &'static str,
}

/// The transports by which rank 0 reaches the others: `pool`, `tcp`, `pool,tcp`; `self` when it is alone.
pub(crate) fn transports(comm: &Communicator) -> String {
    let mut names: Vec<_> = (1..comm.size()).map(|rank| comm.transport_to(rank)).collect();
    if names.is_empty() {
        names.push(comm.transport_to(0));
    }
    names.sort_unstable();
    names.dedup();
    names.join(",")
}

impl Report {
    pub(crate) fn new(
        comm: &Communicator,
        args: &Args,
        settings: &str,
        rows: &[Row],
        totals: &Totals,
    ) -> Self {
        let rank = |rank| RankInfo {
            rank,
            pid: comm.process_id(rank).unwrap_or(0),
            hostname: comm.host_name(rank).unwrap_or_default().to_owned(),
            transport: comm.transport_to(rank),
        };
        let transport = transports(comm);
        Self {
            version: 3,
            dure_version: env!("CARGO_PKG_VERSION"),
            config: Settings::new(args, comm.size(), settings),
            ranks: (0..comm.size()).map(rank).collect(),
            results: rows.iter().map(|row| Result::new(row, &transport)).collect(),
            out_of_bounds: OutOfBounds { count: totals.wrong, okay: totals.wrong == 0 },
            average_bus_bandwidth: Bandwidth {
                bandwidth: totals.average_bus_bandwidth(),
                okay: "unchecked",
            },
        }
    }
}

impl Settings {
    fn new(args: &Args, ranks: u32, settings: &str) -> Self {
        Self {
            collective: args.test.name(),
            minimum_bytes: args.min,
            maximum_bytes: args.max,
            step_factor: args.step.is_none().then(|| args.factor()),
            step_bytes: args.step,
            warmup_iters: args.warmups,
            iterations: args.iterations,
            validation: args.checks,
            ranks,
            settings: settings.to_owned(),
        }
    }
}

impl Result {
    fn new(row: &Row, transport: &str) -> Self {
        let Percentiles { p50, p90, p99, p999, .. } = row.out_of_place.all;
        let by_rank = (0..).zip(&row.out_of_place.by_rank);
        Self {
            size: row.size,
            count: row.count,
            dtype: row.case.dtype.name(),
            redop: row.case.op.map_or("none", |op| op.name()),
            root: row.case.root.map_or(-1, i64::from),
            out_of_place: Measurement::new(&row.out_of_place),
            in_place: row.in_place.as_ref().map(Measurement::new).unwrap_or_default(),
            p50,
            p90,
            p99,
            p999,
            algorithm: row.algorithm.clone(),
            transport: transport.to_owned(),
            lanes: row.lanes,
            ranks: by_rank
                .map(|(rank, percentiles)| RankTimes { rank, percentiles: *percentiles })
                .collect(),
        }
    }
}

impl Measurement {
    fn new(figures: &Figures) -> Self {
        Self {
            time: Some(figures.time),
            alg_bw: Some(figures.alg_bw),
            bus_bw: Some(figures.bus_bw),
            nwrong: figures.wrong,
            percentiles: Some(figures.all),
        }
    }
}

#[cfg(test)]
mod tests {
    use dure::Dtype;

    use super::super::collective::{Case, Test};
    use super::super::operation::Op;
    use super::*;

    fn row() -> Row {
        let all = Percentiles { min: 1.0, p50: 2.0, p90: 3.0, p99: 4.0, p999: 5.0, max: 6.0 };
        let figures = Figures {
            time: 2.5,
            alg_bw: 3.0,
            bus_bw: 4.5,
            wrong: Some(0),
            all,
            by_rank: vec![all; 2],
        };
        let case = Case {
            test: Test::Reduce,
            bytes: 8,
            dtype: Dtype::F16,
            op: Some(Op::Max),
            root: Some(1),
        };
        let in_place = Some(Figures { wrong: Some(7), bus_bw: 1.5, ..figures.clone() });
        Row {
            case,
            size: 8,
            count: 4,
            out_of_place: figures,
            in_place,
            algorithm: "binomial".to_owned(),
            lanes: 2,
        }
    }

    #[test]
    fn results_have_the_keys_of_nccl_tests_and_ours() {
        let json = serde_json::to_value(Result::new(&row(), "pool")).unwrap();
        assert_eq!(
            (&json["size"], &json["count"], &json["root"]),
            (&8.into(), &4.into(), &1.into())
        );
        assert_eq!((&json["type"], &json["redop"]), (&"half".into(), &"max".into()));
        assert_eq!(json["out_of_place"]["time"], 2.5);
        assert_eq!(
            (&json["in_place"]["nwrong"], &json["in_place"]["bus_bw"]),
            (&7.into(), &1.5.into())
        );
        assert_eq!((&json["p50"], &json["p999"]), (&2.0.into(), &5.0.into()));
        assert_eq!(
            (&json["algorithm"], &json["transport"], &json["lanes"]),
            (&"binomial".into(), &"pool".into(), &2.into())
        );
        assert_eq!((&json["ranks"][1]["rank"], &json["ranks"][1]["p99"]), (&1.into(), &4.0.into()));
    }

    #[test]
    fn what_makes_no_sense_is_null() {
        let json =
            serde_json::to_value(Result::new(&Row { in_place: None, ..row() }, "pool")).unwrap();
        assert!(json["in_place"]["time"].is_null() && json["in_place"]["nwrong"].is_null());
    }

    #[test]
    fn totals_count_both_placements() {
        let mut totals = Totals::default();
        totals.add(&row());
        assert_eq!((totals.wrong, totals.average_bus_bandwidth()), (7, 3.0));
        assert_eq!(Totals::default().average_bus_bandwidth(), 0.0);
    }
}
