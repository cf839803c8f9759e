//! The results as JSON, in the layout of nccl-tests' version 3, and a little more.

use dure::Communicator;
use serde::Serialize;

use super::args::Args;
use super::latency::Percentiles;
use super::measure::regret::{Regret, summary};
use super::measure::{Figures, Ratios, Row};
use super::memory::Memory;
use super::{Measured, Setup};

/// What the rows add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Wrong elements, and bytes written beside buffers.
    pub(crate) wrong: u64,
    bandwidth: f64,
    measurements: u32,
    /// Logarithms of the ratios to MPI, added up, and of how many rows.
    log_time: f64,
    log_p50: f64,
    ratios: u32,
}

impl Totals {
    pub(crate) fn add(&mut self, row: &Row) {
        for figures in std::iter::once(&row.out_of_place).chain(&row.in_place) {
            self.wrong += figures.wrong.unwrap_or(0);
            self.bandwidth += figures.bus_bw;
            self.measurements += 1;
        }
        if let Some(Ratios { time, p50 }) = row.ratios() {
            self.log_time += time.ln();
            self.log_p50 += p50.ln();
            self.ratios += 1;
        }
    }

    /// Geometric means over the rows that MPI has.
    pub(crate) fn mean_ratios(&self) -> Option<Ratios> {
        let mean = |sum: f64| (sum / f64::from(self.ratios)).exp();
        (self.ratios > 0).then(|| Ratios { time: mean(self.log_time), p50: mean(self.log_p50) })
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
    /// With `--vs mpi` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    mpi: Option<MpiTotals>,
    /// With `--memory` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    /// With `--regret` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    regret: Option<Regrets>,
}

#[derive(Debug, Serialize)]
struct Regrets {
    geomean: f64,
    worst: f64,
    rows: Vec<Regret>,
}

#[derive(Debug, Serialize)]
struct MpiTotals {
    library: String,
    /// Geometric means over the rows that MPI has; null when it has none.
    mean_ratio: Option<f64>,
    mean_ratio_p50: Option<f64>,
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
    /// With `--vs mpi` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    mpi: Option<MpiResult>,
    /// Percentiles of each rank, out of place.
    ranks: Vec<RankTimes>,
    /// Whether wires had failed and were not back when the row ended, on any rank.
    degraded: bool,
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

/// What MPI did with the same call; null where it has no such call.
#[derive(Debug, Serialize)]
struct MpiResult {
    #[serde(flatten)]
    figures: Measurement,
    /// Which measurement of Dure's the ratios are to: `out_of_place` or `in_place`.
    to: &'static str,
    /// MPI's time over Dure's, above 1 where Dure is faster; and the same of the medians.
    ratio: Option<f64>,
    ratio_p50: Option<f64>,
}

#[derive(Debug, Serialize)]
struct RankTimes {
    rank: u32,
    /// A sentence for each peer to whom wires have failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    degraded: Vec<String>,
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
    pub(crate) fn new(comm: &Communicator, setup: &Setup<'_>, measured: &Measured) -> Self {
        let Measured { rows, totals, memory, regrets } = measured;
        let Setup { args, settings, mpi } = setup;
        let rank = |rank| RankInfo {
            rank,
            pid: comm.process_id(rank).unwrap_or(0),
            hostname: comm.host_name(rank).unwrap_or_default().to_owned(),
            transport: comm.transport_to(rank),
        };
        let transport = transports(comm);
        let result = |row| Result::new(row, &transport, mpi.is_some());
        Self {
            version: 3,
            dure_version: env!("CARGO_PKG_VERSION"),
            config: Settings::new(args, comm.size(), settings),
            ranks: (0..comm.size()).map(rank).collect(),
            results: rows.iter().map(result).collect(),
            out_of_bounds: OutOfBounds { count: totals.wrong, okay: totals.wrong == 0 },
            average_bus_bandwidth: Bandwidth {
                bandwidth: totals.average_bus_bandwidth(),
                okay: "unchecked",
            },
            mpi: mpi.as_ref().map(|library| MpiTotals::new(library, totals)),
            memory: memory.clone(),
            regret: args.regret.then(|| Regrets::new(regrets)),
        }
    }
}

impl Regrets {
    fn new(rows: &[Regret]) -> Self {
        let (geomean, worst) = summary(rows);
        Self { geomean, worst, rows: rows.to_vec() }
    }
}

impl MpiTotals {
    fn new(library: &str, totals: &Totals) -> Self {
        let means = totals.mean_ratios();
        Self {
            library: library.to_owned(),
            mean_ratio: means.map(|means| means.time),
            mean_ratio_p50: means.map(|means| means.p50),
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
    fn new(row: &Row, transport: &str, with_mpi: bool) -> Self {
        let Percentiles { p50, p90, p99, p999, .. } = row.out_of_place.all;
        let Figures { by_rank, degraded, .. } = &row.out_of_place;
        let times = |(rank, (percentiles, degraded)): (u32, (&Percentiles, &Vec<String>))| {
            RankTimes { rank, degraded: degraded.clone(), percentiles: *percentiles }
        };
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
            mpi: with_mpi.then(|| MpiResult::new(row)),
            ranks: (0..).zip(by_rank.iter().zip(degraded)).map(times).collect(),
            degraded: degraded.iter().any(|peers| !peers.is_empty()),
        }
    }
}

impl MpiResult {
    fn new(row: &Row) -> Self {
        let ratios = row.ratios();
        Self {
            figures: row.mpi.as_ref().map(Measurement::new).unwrap_or_default(),
            to: if row.case.test.has_one_buffer_in_mpi() { "in_place" } else { "out_of_place" },
            ratio: ratios.map(|ratios| ratios.time),
            ratio_p50: ratios.map(|ratios| ratios.p50),
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
            degraded: vec![Vec::new(), vec!["to rank 0".to_owned()]],
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
            mpi: None,
            algorithm: "binomial".to_owned(),
            lanes: 2,
        }
    }

    #[test]
    fn results_have_the_keys_of_nccl_tests_and_ours() {
        let json = serde_json::to_value(Result::new(&row(), "pool", false)).unwrap();
        assert!(json.get("mpi").is_none(), "nobody asked for it");
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
        assert_eq!(json["degraded"], true);
        assert_eq!(json["ranks"][1]["degraded"][0], "to rank 0");
        assert!(json["ranks"][0].get("degraded").is_none());
        assert_eq!((&json["ranks"][1]["rank"], &json["ranks"][1]["p99"]), (&1.into(), &4.0.into()));
    }

    #[test]
    fn what_makes_no_sense_is_null() {
        let bare = Row { in_place: None, ..row() };
        let json = serde_json::to_value(Result::new(&bare, "pool", true)).unwrap();
        assert!(json["in_place"]["time"].is_null() && json["in_place"]["nwrong"].is_null());
        assert!(json["mpi"]["time"].is_null() && json["mpi"]["ratio"].is_null());
    }

    #[test]
    fn ratios_are_of_the_calls_that_are_alike() {
        let slower = |by: f64| {
            let figures = row().out_of_place;
            let all = Percentiles { p50: 2.0 * by * figures.all.p50, ..figures.all };
            Some(Figures { time: by * figures.time, all, ..figures })
        };
        let out_of_place = Row { mpi: slower(2.0), ..row() };
        let json = serde_json::to_value(Result::new(&out_of_place, "pool", true)).unwrap();
        let mpi = &json["mpi"];
        assert_eq!(
            (&mpi["time"], &mpi["ratio"], &mpi["ratio_p50"]),
            (&5.0.into(), &2.0.into(), &4.0.into())
        );
        assert_eq!((&mpi["to"], &mpi["percentiles"]["p50"]), (&"out_of_place".into(), &8.0.into()));

        let mut broadcast = Row { mpi: slower(8.0), ..row() };
        broadcast.case.test = Test::Broadcast;
        broadcast.in_place.as_mut().unwrap().time = 10.0;
        assert_eq!(broadcast.ratios(), Some(Ratios { time: 2.0, p50: 16.0 }));

        let mut totals = Totals::default();
        assert_eq!(totals.mean_ratios(), None);
        totals.add(&out_of_place);
        totals.add(&broadcast);
        totals.add(&row());
        let means = totals.mean_ratios().unwrap();
        assert!((means.time - 2.0).abs() < 1e-9 && (means.p50 - 8.0).abs() < 1e-9, "{means:?}");
    }

    #[test]
    fn totals_count_both_placements() {
        let mut totals = Totals::default();
        totals.add(&row());
        assert_eq!((totals.wrong, totals.average_bus_bandwidth()), (7, 3.0));
        assert_eq!(Totals::default().average_bus_bandwidth(), 0.0);
    }
}
