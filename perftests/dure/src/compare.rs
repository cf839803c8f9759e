//! `dure compare`: two results of `dure perf`, row by row.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::output::{self, Failure, Verdict};

/// Compare two results of `dure perf --json`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "A ratio is the time in B over the time in A: above 1, B is slower. Rows meet by collective, size, type,\n\
    operation and root. The exit status is 1 if a row is slower than the limit allows, or B has wrong values."
)]
pub(crate) struct Args {
    /// The result to compare with.
    a: PathBuf,
    /// The result to judge.
    b: PathBuf,
    /// By how many percent a row of B may be slower.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    limit: Option<f64>,
    /// Write the comparison as JSON; with - to standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim().parse::<f64>().ok();
    number
        .filter(|percent| *percent >= 0.0 && percent.is_finite())
        .ok_or_else(|| "not a number from 0".to_owned())
}

/// What of a result is looked at. nccl-tests' files are read as well: their roots are text, and they name no collective.
#[derive(Debug, Deserialize)]
struct Results {
    #[serde(default)]
    config: Settings,
    results: Vec<Row>,
}

#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(default)]
    collective: String,
}

#[derive(Debug, Deserialize)]
struct Row {
    size: u64,
    #[serde(rename = "type")]
    dtype: String,
    redop: String,
    root: Root,
    out_of_place: Option<Measurement>,
    in_place: Option<Measurement>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Root {
    Number(i64),
    Text(String),
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Measurement {
    time: Option<f64>,
    nwrong: Option<f64>,
}

/// What rows meet by. Equal rows, as of sizes that were rounded to the same, meet in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct Key {
    size: u64,
    #[serde(rename = "type")]
    dtype: String,
    redop: String,
    root: i64,
    #[serde(skip)]
    turn: usize,
}

#[derive(Debug, Serialize)]
struct Comparison {
    limit_percent: Option<f64>,
    rows: Vec<Compared>,
    /// Geometric mean and largest of all ratios.
    mean_ratio: f64,
    worst_ratio: f64,
    /// Rows that are slower than the limit allows.
    past_limit: usize,
    /// Wrong values in B.
    wrong: f64,
    only_in_a: Vec<Key>,
    only_in_b: Vec<Key>,
}

#[derive(Debug, Serialize)]
struct Compared {
    #[serde(flatten)]
    key: Key,
    out_of_place: Option<Ratio>,
    in_place: Option<Ratio>,
    past_limit: bool,
}

/// Microseconds, and the second over the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Ratio {
    a: f64,
    b: f64,
    ratio: f64,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    let comparison = compare(&read(&args.a)?, &read(&args.b)?, args.limit)?;
    if let Some(to) = &args.json {
        output::write_json(to, &comparison)?;
    }
    if !output::claims_output(args.json.as_ref()) {
        io::stdout().lock().write_all(table(&comparison).as_bytes())?;
    }
    Ok(Verdict::holds_if(comparison.past_limit == 0 && comparison.wrong == 0.0))
}

fn read(path: &Path) -> Result<Results, Failure> {
    let text = fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Failure::Usage(format!("{}: no such file", path.display())),
        _ => Failure::system(path.display().to_string(), source),
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::Usage(format!("{}: not a result of dure perf --json: {error}", path.display()))
    })
}

fn keys(results: &Results) -> Vec<Key> {
    let mut turns = HashMap::new();
    let key = |row: &Row| {
        let root = match &row.root {
            Root::Number(root) => *root,
            Root::Text(root) => root.trim().parse().unwrap_or(-1),
        };
        let (dtype, redop) = (row.dtype.clone(), row.redop.clone());
        let mut key = Key { size: row.size, dtype, redop, root, turn: 0 };
        let turn = turns.entry(key.clone()).or_insert(0);
        key.turn = *turn;
        *turn += 1;
        key
    };
    results.results.iter().map(key).collect()
}

fn compare(a: &Results, b: &Results, limit: Option<f64>) -> Result<Comparison, Failure> {
    let (what_a, what_b) = (&a.config.collective, &b.config.collective);
    if what_a != what_b && !what_a.is_empty() && !what_b.is_empty() {
        return Err(Failure::Usage(format!(
            "the results are of different collectives: {what_a} and {what_b}"
        )));
    }
    let (keys_a, keys_b) = (keys(a), keys(b));
    let of_b: HashMap<&Key, &Row> = keys_b.iter().zip(&b.results).collect();
    let mut rows = Vec::new();
    for (key, row) in keys_a.iter().zip(&a.results) {
        if let Some(other) = of_b.get(key) {
            rows.push(Compared::new(key, row, other, limit));
        }
    }
    let ratios: Vec<f64> = rows.iter().flat_map(Compared::ratios).collect();
    if ratios.is_empty() {
        return Err(Failure::Usage("the results have no row in common".to_owned()));
    }
    let lost = |keys: &[Key], others: &[Key]| {
        keys.iter().filter(|key| !others.contains(key)).cloned().collect()
    };
    Ok(Comparison {
        limit_percent: limit,
        mean_ratio: geometric_mean(&ratios),
        worst_ratio: ratios.iter().copied().fold(0.0, f64::max),
        past_limit: rows.iter().filter(|row| row.past_limit).count(),
        wrong: b.results.iter().flat_map(Row::measurements).filter_map(|m| m.nwrong).sum(),
        only_in_a: lost(&keys_a, &keys_b),
        only_in_b: lost(&keys_b, &keys_a),
        rows,
    })
}

#[expect(clippy::cast_precision_loss, reason = "nobody compares 2^53 rows")]
fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

impl Row {
    fn measurements(&self) -> impl Iterator<Item = &Measurement> {
        self.out_of_place.iter().chain(&self.in_place)
    }
}

impl Compared {
    fn new(key: &Key, a: &Row, b: &Row, limit: Option<f64>) -> Self {
        let out_of_place = Ratio::of(a.out_of_place, b.out_of_place);
        let in_place = Ratio::of(a.in_place, b.in_place);
        let mut row = Self { key: key.clone(), out_of_place, in_place, past_limit: false };
        row.past_limit =
            limit.is_some_and(|limit| row.ratios().any(|ratio| (ratio - 1.0) * 100.0 > limit));
        row
    }

    fn ratios(&self) -> impl Iterator<Item = f64> {
        self.out_of_place.iter().chain(&self.in_place).map(|ratio| ratio.ratio)
    }
}

impl Ratio {
    /// None where one of the two has no time.
    fn of(a: Option<Measurement>, b: Option<Measurement>) -> Option<Self> {
        let (a, b) = (a?.time?, b?.time?);
        (a > 0.0 && b > 0.0).then_some(Self { a, b, ratio: b / a })
    }
}

fn table(comparison: &Comparison) -> String {
    let mut text = String::from(
        "#                                            out-of-place                 in-place\n\
         #       size      type   redop    root       A       B   ratio       A       B   ratio\n\
         #        (B)                              (us)    (us)            (us)    (us)\n",
    );
    for Compared { key, out_of_place, in_place, past_limit } in &comparison.rows {
        let Key { size, dtype, redop, root, .. } = key;
        let (out, inside) = (cells(*out_of_place), cells(*in_place));
        let mark = if *past_limit { "  past the limit" } else { "" };
        text.push_str(&format!(
            "{size:>12}  {dtype:>8}  {redop:>6}  {root:>6}{out}{inside}{mark}\n"
        ));
    }
    for (keys, which) in [(&comparison.only_in_a, "A"), (&comparison.only_in_b, "B")] {
        for Key { size, dtype, redop, root, .. } in keys {
            text.push_str(&format!(
                "{size:>12}  {dtype:>8}  {redop:>6}  {root:>6}  only in {which}\n"
            ));
        }
    }
    let Comparison { mean_ratio, worst_ratio, past_limit, wrong, limit_percent, .. } = comparison;
    text.push_str(&format!(
        "# Ratio of times B/A     : mean {mean_ratio:.3}, worst {worst_ratio:.3}\n"
    ));
    if let Some(limit) = limit_percent {
        let verdict = if *past_limit == 0 { "OK" } else { "FAILED" };
        text.push_str(&format!("# Rows past {limit} %         : {past_limit} {verdict}\n"));
    }
    if *wrong > 0.0 {
        text.push_str(&format!("# Wrong values in B      : {wrong} FAILED\n"));
    }
    text
}

fn cells(ratio: Option<Ratio>) -> String {
    match ratio {
        Some(Ratio { a, b, ratio }) => format!(" {a:>7.1} {b:>7.1} {ratio:>7.3}"),
        None => format!(" {:>7} {:>7} {:>7}", "N/A", "N/A", "N/A"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(rows: &[(u64, f64, Option<f64>)]) -> Results {
        let row = |(size, out, inside): &(u64, f64, Option<f64>)| {
            serde_json::json!({
                "size": size, "count": 1, "type": "float", "redop": "sum", "root": -1,
                "out_of_place": {"time": out, "alg_bw": 1.0, "bus_bw": 1.0, "nwrong": 0},
                "in_place": {"time": inside, "alg_bw": null, "bus_bw": null, "nwrong": null},
            })
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        serde_json::from_value(
            serde_json::json!({"config": {"collective": "all-reduce"}, "results": rows}),
        )
        .unwrap()
    }

    #[test]
    fn rows_meet_by_what_they_are() {
        let a = results(&[(8, 2.0, Some(4.0)), (16, 3.0, None), (32, 1.0, None)]);
        let b = results(&[(16, 6.0, None), (8, 1.0, Some(4.0)), (64, 1.0, None)]);
        let result = compare(&a, &b, Some(10.0)).unwrap();
        let ratios: Vec<_> = result
            .rows
            .iter()
            .map(|row| (row.key.size, row.ratios().collect::<Vec<_>>()))
            .collect();
        assert_eq!(ratios, [(8, vec![0.5, 1.0]), (16, vec![2.0])]);
        assert_eq!((result.past_limit, result.worst_ratio), (1, 2.0));
        assert_eq!((result.only_in_a[0].size, result.only_in_b[0].size), (32, 64));
        assert!((result.mean_ratio - 1.0).abs() < 1e-9);
        assert!(table(&result).contains("past the limit") && table(&result).contains("only in B"));
    }

    #[test]
    fn without_a_limit_nothing_is_past_it() {
        let (a, b) = (results(&[(8, 1.0, None)]), results(&[(8, 9.0, None)]));
        assert_eq!(compare(&a, &b, None).unwrap().past_limit, 0);
        assert_eq!(compare(&a, &b, Some(800.0)).unwrap().past_limit, 0);
        assert_eq!(compare(&a, &b, Some(799.0)).unwrap().past_limit, 1);
    }

    #[test]
    fn equal_rows_meet_in_order() {
        let (a, b) = (
            results(&[(0, 1.0, None), (0, 2.0, None)]),
            results(&[(0, 1.0, None), (0, 4.0, None)]),
        );
        let ratios: Vec<_> = compare(&a, &b, None)
            .unwrap()
            .rows
            .iter()
            .flat_map(|r| r.ratios().collect::<Vec<_>>())
            .collect();
        assert_eq!(ratios, [1.0, 2.0]);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let (a, mut b) = (results(&[(8, 1.0, None)]), results(&[(16, 1.0, None)]));
        assert_eq!(compare(&a, &b, None).unwrap_err().status(), 2);
        b.config.collective = "reduce".to_owned();
        assert!(compare(&a, &b, None).unwrap_err().to_string().contains("different collectives"));
        assert!(percent("-1").is_err() && percent("x").is_err() && percent("5%") == Ok(5.0));
    }

    #[test]
    fn files_of_nccl_tests_are_read() {
        let row = r#"{"size":8,"count":2,"type":"float","redop":"sum","root":"    -1","out_of_place":null,
                      "in_place":{"time":1.5,"alg_bw":1,"bus_bw":1,"nwrong":0.0}}"#;
        let results: Results =
            serde_json::from_str(&format!("{{\"version\":3,\"results\":[{row}]}}")).unwrap();
        assert_eq!(keys(&results)[0].root, -1);
        assert_eq!(compare(&results, &results, None).unwrap().worst_ratio, 1.0);
    }
}
