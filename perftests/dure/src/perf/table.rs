//! The table, in the columns of nccl-tests.

use std::fmt::Write as _;

use dure::Communicator;

use super::args::Args;
use super::measure::{Figures, Row};
use super::report::Totals;

/// The lines before the rows.
pub(crate) fn header(comm: &Communicator, args: &Args, settings: &str) -> String {
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
    text.push_str(COLUMNS);
    text
}

const COLUMNS: &str = "\
#
#                                                           out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw  #wrong     time   algbw   busbw  #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)              (us)  (GB/s)  (GB/s)
";

/// One row.
pub(crate) fn row(row: &Row) -> String {
    let op = row.case.op.map_or("none", |op| op.name());
    let root = row.case.root.map_or_else(|| "-1".to_owned(), |root| root.to_string());
    let (size, count, dtype) = (row.size, row.count, row.case.dtype.name());
    format!(
        "{size:>12}  {count:>12}  {dtype:>8}  {op:>6}  {root:>6}{}{}\n",
        figures(Some(&row.out_of_place)),
        figures(row.in_place.as_ref())
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

/// The lines after the rows.
pub(crate) fn footer(args: &Args, totals: &Totals) -> String {
    let verdict = if totals.wrong == 0 { "OK" } else { "FAILED" };
    format!(
        "# Out of bounds values : {} {verdict}\n# Avg bus bandwidth    : {:.6}\n#\n# Collective test concluded: {}\n",
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
        Figures { time: 12.345, alg_bw: 1.5, bus_bw: 1234.5, wrong, all, by_rank }
    }

    #[test]
    fn rows_have_the_columns_of_the_header() {
        let case = Case {
            test: Test::AllReduce,
            bytes: 8,
            dtype: Dtype::F32,
            op: Some(Op::Sum),
            root: None,
        };
        let sample = Row {
            case,
            size: 8,
            count: 2,
            out_of_place: figures(Some(0)),
            in_place: None,
            algorithm: "ring".to_owned(),
            lanes: 1,
        };
        let text = row(&sample);
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            [
                "8", "2", "float", "sum", "-1", "12.35", "1.50", "1234.5", "0", "N/A", "N/A",
                "N/A", "N/A"
            ]
        );
        let header = COLUMNS.lines().nth(2).unwrap();
        assert_eq!(header.split_whitespace().count(), 1 + 13);
        assert_eq!(text.trim_end().len(), header.len(), "columns end below their names");
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
