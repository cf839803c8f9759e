//! The table, in the columns of nccl-tests.

use std::fmt::Write as _;

use dure::Communicator;

use super::Setup;
use super::args::Args;
use super::measure::regret::{Regret, Timed, summary};
use super::measure::{Figures, Ratios, Row};
use super::report::Totals;

/// The lines before the rows.
pub(crate) fn header(comm: &Communicator, setup: &Setup<'_>) -> String {
    let Setup { args, settings, mpi } = setup;
    let mut text = format!("# dure {}\n", env!("CARGO_PKG_VERSION"));
    let (step, kind) = args.step.map_or_else(|| (args.factor(), "factor"), |step| (step, "bytes"));
    let lines = [
        format!("# Collective test starting: {}", args.test.name()),
        format!(
            "# nRanks {} minBytes {} maxBytes {} step: {step}({kind}) warmup iters: {} iters: {} validation: {}",
            comm.size(),
            args.min,
            args.max,
            args.warmups,
            args.iterations,
            args.checks
        ),
        format!("# Settings: {settings}"),
        "#".to_owned(),
        "# Using ranks".to_owned(),
    ];
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    for rank in 0..comm.size() {
        let pid = comm.process_id(rank).unwrap_or(0);
        let host = comm.host_name(rank).unwrap_or("?");
        let transport = comm.transport_to(rank);
        let _ = writeln!(text, "#  Rank {rank:2} Pid {pid:6} on {host:>10} by {transport}");
    }
    match mpi {
        _ if args.regret => text.push_str(REGRET_COLUMNS),
        Some(library) => {
            let placement =
                if args.test.has_one_buffer_in_mpi() { "in-place" } else { "out-of-place" };
            let _ = writeln!(
                text,
                "#\n# MPI: {library}. ratio: its time over Dure's {placement}; above 1 Dure is faster"
            );
            text.push_str(&columns(&MPI_COLUMNS));
        }
        None => text.push_str(&columns(&[""; 4])),
    }
    text
}

/// The lines that head the columns, which nccl-tests has, each with its end.
fn columns(more: &[&str; 4]) -> String {
    COLUMNS
        .iter()
        .zip(more)
        .map(|(line, more)| format!("{}\n", format!("{line}{more}").trim_end()))
        .collect()
}

const COLUMNS: [&str; 4] = [
    "#                                                                                                                    ",
    "#                                                           out-of-place                       in-place              ",
    "#       size         count      type   redop    root     time   algbw   busbw  #wrong     time   algbw   busbw  #wrong",
    "#        (B)    (elements)                               (us)  (GB/s)  (GB/s)              (us)  (GB/s)  (GB/s)        ",
];

const MPI_COLUMNS: [&str; 4] = [
    "",
    "        time of              p50 of",
    "      MPI   ratio     Dure      MPI   ratio",
    "     (us)             (us)     (us)",
];

const REGRET_COLUMNS: &str = "#
\
    #       size         count                              chosen      time                             fastest      time  regret
\
    #        (B)    (elements)                                          (us)                                          (us)
";

/// One row of `--regret`.
pub(crate) fn regret(row: &Regret) -> String {
    let timed =
        |timed: &Timed| format!("{:>34}  {}", timed.candidate.to_string(), number(timed.time, 8));
    let (chosen, fastest) = (timed(&row.chosen), timed(&row.candidates[0]));
    format!("{:>12}  {:>12}  {chosen}  {fastest}  {:>6.2}\n", row.size, row.count, row.regret)
}

/// The lines after the rows of `--regret`.
pub(crate) fn regret_footer(rows: &[Regret]) -> String {
    let (mean, worst) = summary(rows);
    format!("# Regret: {mean:.3} in the geometric mean, {worst:.2} at worst\n")
}

/// One row, with MPI's columns or without.
pub(crate) fn row(row: &Row, with_mpi: bool) -> String {
    let op = row.case.op.map_or("none", |op| op.name());
    let root = row.case.root.map_or_else(|| "-1".to_owned(), |root| root.to_string());
    let (size, count, dtype) = (row.size, row.count, row.case.dtype.name());
    format!(
        "{size:>12}  {count:>12}  {dtype:>8}  {op:>6}  {root:>6}{}{}{}\n",
        figures(Some(&row.out_of_place)),
        figures(row.in_place.as_ref()),
        if with_mpi { mpi(row) } else { String::new() }
    )
}

fn mpi(row: &Row) -> String {
    let (Some(mpi), Some(dure), Some(Ratios { time, p50 })) = (&row.mpi, row.rival(), row.ratios())
    else {
        return format!("  {:>7}  {:>6}  {:>7}  {:>7}  {:>6}", "N/A", "N/A", "N/A", "N/A", "N/A");
    };
    format!(
        "  {}  {}  {}  {}  {}",
        number(mpi.time, 7),
        number(time, 6),
        number(dure.all.p50, 7),
        number(mpi.all.p50, 7),
        number(p50, 6)
    )
}

fn figures(figures: Option<&Figures>) -> String {
    let Some(Figures { time, alg_bw, bus_bw, wrong, .. }) = figures else {
        return format!("  {:>7}  {:>6}  {:>6}  {:>6}", "N/A", "N/A", "N/A", "N/A");
    };
    let wrong = wrong.map_or_else(|| "N/A".to_owned(), |wrong| wrong.to_string());
    format!("  {}  {}  {}  {wrong:>6}", number(*time, 7), number(*alg_bw, 6), number(*bus_bw, 6))
}

/// A number with as many decimals, at most two, as the width has room for.
fn number(value: f64, width: usize) -> String {
    let fits =
        |decimals| Some(format!("{value:width$.decimals$}")).filter(|text| text.len() <= width);
    fits(2).or_else(|| fits(1)).unwrap_or_else(|| format!("{value:width$.0}"))
}

/// Wires that have failed: a line for each rank and peer.
pub(crate) fn degraded(row: &Row) -> String {
    let ranks = (0_u32..).zip(&row.out_of_place.degraded);
    let lines = ranks.flat_map(|(rank, peers)| {
        peers.iter().map(move |peer| format!("# rank {rank} is {peer}\n"))
    });
    lines.collect()
}

/// The lines after the rows.
pub(crate) fn footer(args: &Args, totals: &Totals) -> String {
    let verdict = if totals.wrong == 0 { "OK" } else { "FAILED" };
    let mpi = totals.mean_ratios().map_or_else(String::new, |Ratios { time, p50 }| {
        format!("# Mean of MPI's ratios  : {time:.2} of time, {p50:.2} of p50\n")
    });
    format!(
        "# Out of bounds values : {} {verdict}\n# Avg bus bandwidth    : {:.6}\n{mpi}#\n# Collective test concluded: {}\n",
        totals.wrong,
        totals.average_bus_bandwidth(),
        args.test.name()
    )
}

#[cfg(test)]
mod tests {
    use dure::Dtype;

    use super::super::collective::{Case, Test};
    use super::super::latency::Percentiles;
    use super::super::operation::Op;
    use super::*;

    fn figures(wrong: Option<u64>) -> Figures {
        let (all, by_rank) = (Percentiles::default(), vec![Percentiles::default()]);
        Figures {
            time: 12.345,
            alg_bw: 1.5,
            bus_bw: 1234.5,
            wrong,
            all,
            by_rank,
            degraded: Vec::new(),
        }
    }

    fn sample() -> Row {
        let case = Case {
            test: Test::AllReduce,
            bytes: 8,
            dtype: Dtype::F32,
            op: Some(Op::Sum),
            root: None,
        };
        Row {
            case,
            size: 8,
            count: 2,
            out_of_place: figures(Some(0)),
            in_place: None,
            mpi: None,
            algorithm: "ring".to_owned(),
            lanes: 1,
        }
    }

    fn words(text: &str) -> Vec<&str> {
        text.split_whitespace().collect()
    }

    const DURE: [&str; 13] = [
        "8", "2", "float", "sum", "-1", "12.35", "1.50", "1234.5", "0", "N/A", "N/A", "N/A", "N/A",
    ];

    #[test]
    fn rows_have_the_columns_of_the_header() {
        let text = row(&sample(), false);
        assert_eq!(words(&text), DURE);
        let header = columns(&[""; 4]);
        let names = header.lines().nth(2).unwrap();
        assert_eq!(words(names).len(), 1 + 13);
        assert_eq!(text.trim_end().len(), names.len(), "columns end below their names");
        assert!(header.lines().all(|line| line == line.trim_end()), "{header}");
    }

    #[test]
    fn rows_beside_mpi_have_columns_more() {
        let mut sample = sample();
        let empty = row(&sample, true);
        assert_eq!(words(&empty)[13..], ["N/A"; 5]);
        let mpi = Percentiles { p50: 3.0, ..Percentiles::default() };
        sample.mpi = Some(Figures { time: 24.69, all: mpi, ..figures(None) });
        sample.out_of_place.all.p50 = 2.0;
        let text = row(&sample, true);
        assert_eq!(words(&text)[..13], DURE);
        assert_eq!(words(&text)[13..], ["24.69", "2.00", "2.00", "3.00", "1.50"]);
        let header = columns(&MPI_COLUMNS);
        let names = header.lines().nth(2).unwrap();
        assert_eq!(words(names).len(), 1 + 13 + 5);
        assert_eq!(
            [text.trim_end().len(), empty.trim_end().len()],
            [names.len(); 2],
            "{header}{text}"
        );
    }

    #[test]
    fn numbers_fit_their_width() {
        assert_eq!(number(0.0, 6), "  0.00");
        assert_eq!(number(999.99, 6), "999.99");
        assert_eq!(number(99_999.99, 6), "100000");
        assert_eq!(number(1234.5, 6), "1234.5");
        assert_eq!(number(123_456.7, 7), " 123457");
        assert_eq!(number(12_345_678.9, 7), "12345679");
    }
}
