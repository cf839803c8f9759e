//! Predictions of a sweep, as text and as JSON.

use std::fmt::Write as _;

use dure::planner::{Answer, Prediction};
use dure_sim::{Bound, How};
use serde::Serialize;

use crate::explain::{Constant, per_second, time};
use crate::size;

/// All that `dure simulate` says of a layout.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) layout: String,
    pub(super) ranks: u32,
    pub(super) constants: Vec<Constant>,
    pub(super) collectives: Vec<Swept>,
}

/// A collective, size by size.
#[derive(Debug, Serialize)]
pub(super) struct Swept {
    pub(super) collective: String,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) bytes: u64,
    /// The least time that any algorithm could take, seconds.
    pub(super) bound: f64,
    /// The best candidate of each algorithm, fastest first.
    pub(super) predictions: Vec<Predicted>,
}

#[derive(Debug, Serialize)]
pub(super) struct Predicted {
    pub(super) algorithm: String,
    lanes: u16,
    by_fabric: bool,
    pub(super) seconds: f64,
    /// The bound over `seconds`.
    of_bound: f64,
    /// GB/s, of the whole vector.
    alg_bw: f64,
    /// Predicted from a few ranks that stand for all.
    representative: bool,
    /// The candidate, for people.
    #[serde(skip)]
    name: String,
}

impl Row {
    pub(super) fn new(bytes: u64, answer: &Answer, bound: &Bound) -> Self {
        let mut predictions: Vec<Predicted> = Vec::new();
        for prediction in &answer.predictions {
            let name = &prediction.candidate.algorithm;
            if predictions.iter().all(|faster| faster.algorithm != *name) {
                predictions.push(Predicted::new(bytes, prediction, bound));
            }
        }
        Self { bytes, bound: bound.seconds, predictions }
    }

    /// What the table has of a size, column by column.
    pub(super) fn cells(&self) -> [String; 7] {
        let name = |place: usize| self.predictions.get(place).map(|of| of.name.clone());
        let time_of = |place: usize| self.predictions.get(place).map(Predicted::time);
        let best = self.predictions.first();
        let none = || "-".to_owned();
        [
            size::display(self.bytes),
            name(0).unwrap_or_else(none),
            time_of(0).unwrap_or_else(none),
            best.map_or_else(none, |best| format!("{:.0}%", best.of_bound * 100.0)),
            best.map_or_else(none, |best| format!("{:.2}", best.alg_bw)),
            name(1).unwrap_or_else(none),
            time_of(1).unwrap_or_else(none),
        ]
    }
}

/// Heads of the columns of [`Row::cells`].
pub(super) const HEADS: [&str; 7] =
    ["size", "best", "predicted", "of bound", "GB/s", "runner-up", "predicted"];

/// What the mark says.
pub(super) const MARK: &str = "~ predicted from a few ranks that stand for all";

impl Predicted {
    fn new(bytes: u64, prediction: &Prediction, bound: &Bound) -> Self {
        let Prediction { candidate, seconds, cost, .. } = prediction;
        Self {
            algorithm: candidate.algorithm.clone(),
            lanes: candidate.lanes,
            by_fabric: candidate.by_fabric,
            seconds: *seconds,
            of_bound: if *seconds > 0.0 { bound.seconds / seconds } else { 1.0 },
            alg_bw: per_second(bytes, *seconds),
            representative: cost.how != How::Exact,
            name: candidate.to_string(),
        }
    }

    /// The time for people, with its mark.
    fn time(&self) -> String {
        format!("{}{}", if self.representative { "~" } else { "" }, time(self.seconds))
    }
}

impl Report {
    /// Whether every size has a prediction.
    pub(super) fn is_complete(&self) -> bool {
        let mut rows = self.collectives.iter().flat_map(|swept| &swept.rows);
        rows.all(|row| !row.predictions.is_empty())
    }

    /// Whether something shown was predicted from a few ranks.
    pub(super) fn is_marked(&self) -> bool {
        let mut rows = self.collectives.iter().flat_map(|swept| &swept.rows);
        rows.any(|row| row.predictions.iter().take(2).any(|of| of.representative))
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.layout);
        for Swept { collective, rows } in &self.collectives {
            let _ = writeln!(text, "\n{collective}");
            line(&mut text, HEADS);
            for row in rows {
                line(&mut text, row.cells().each_ref().map(String::as_str));
            }
        }
        text.push_str("\nconstants:\n");
        for Constant { class, source, text: what } in &self.constants {
            let _ = writeln!(text, "  {class:<22} {what} ({source})");
        }
        if self.is_marked() {
            let _ = writeln!(text, "\n{MARK}");
        }
        text
    }
}

fn line(text: &mut String, [size, best, time, of_bound, rate, second, its_time]: [&str; 7]) {
    let _ = writeln!(
        text,
        "{size:>10}  {best:<36} {time:>11} {of_bound:>8} {rate:>9}  {second:<36} {its_time:>11}"
    );
}
