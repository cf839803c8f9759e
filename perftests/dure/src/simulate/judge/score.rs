//! Scores choices: how much longer the chosen algorithm took than the best one.

use serde::Serialize;

/// What came of a cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) system: String,
    /// Time of the chosen algorithm over that of the best: 1 or more.
    pub(super) regret: f64,
    /// Time of the library's own choice over that of the best: below 1 where the library has a better one that Dure lacks.
    pub(super) default_regret: Option<f64>,
    /// Predicted over measured time, less 1, without sign: of each algorithm.
    pub(super) errors: Vec<f64>,
}

/// The line of a system.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Score {
    pub(super) system: String,
    /// Cells in which there was a choice.
    pub(super) cells: usize,
    pub(super) geomean_regret: f64,
    /// So that 95 % of the cells have no more.
    pub(super) p95_regret: f64,
    pub(super) worst_regret: f64,
    /// None where the library's choice was not measured.
    pub(super) default_geomean_regret: Option<f64>,
    pub(super) median_abs_error: f64,
}

/// Scores the systems, in order of their names.
pub(super) fn scores(outcomes: &[Outcome]) -> Vec<Score> {
    let mut systems: Vec<&str> = outcomes.iter().map(|outcome| outcome.system.as_str()).collect();
    systems.sort_unstable();
    systems.dedup();
    systems
        .into_iter()
        .map(|system| {
            let cells: Vec<_> =
                outcomes.iter().filter(|outcome| outcome.system == system).collect();
            score(system, &cells)
        })
        .collect()
}

fn score(system: &str, cells: &[&Outcome]) -> Score {
    let regrets = || cells.iter().map(|cell| cell.regret);
    let defaults: Vec<_> = cells.iter().filter_map(|cell| cell.default_regret).collect();
    let errors: Vec<_> = cells.iter().flat_map(|cell| cell.errors.iter().copied()).collect();
    Score {
        system: system.to_owned(),
        cells: cells.len(),
        geomean_regret: geomean(regrets()),
        p95_regret: percentile(regrets().collect(), 95),
        worst_regret: regrets().fold(1.0, f64::max),
        default_geomean_regret: (!defaults.is_empty()).then(|| geomean(defaults.into_iter())),
        median_abs_error: percentile(errors, 50),
    }
}

/// Geometric mean; 1 of nothing.
fn geomean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut logs, mut count) = (0.0, 0_u32);
    for value in values {
        logs += value.ln();
        count += 1;
    }
    (logs / f64::from(count.max(1))).exp()
}

/// The smallest value such that `percent` of all values are no larger (nearest rank); 0 of nothing.
fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(system: &str, regret: f64, default_regret: Option<f64>) -> Outcome {
        Outcome { system: system.to_owned(), regret, default_regret, errors: vec![0.5, 0.1] }
    }

    #[test]
    fn a_mean_of_factors_is_geometric() {
        assert!((geomean([1.0, 4.0].into_iter()) - 2.0).abs() < 1e-12);
        assert_eq!(geomean(std::iter::empty()), 1.0);
    }

    #[test]
    fn a_percentile_is_a_value_that_enough_do_not_exceed() {
        let hundred: Vec<_> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(hundred.clone(), 95), 95.0);
        assert_eq!(percentile(hundred, 50), 50.0);
        // Of 20 values 19 are 95 %, of 19 only all of them are.
        assert_eq!(percentile((1..=20).map(f64::from).collect(), 95), 19.0);
        assert_eq!(percentile((1..=19).map(f64::from).collect(), 95), 19.0);
        assert_eq!(percentile(vec![3.0], 95), 3.0);
        assert_eq!(percentile(vec![], 95), 0.0);
    }

    #[test]
    fn systems_are_scored_apart() {
        let outcomes = [
            outcome("b", 1.0, Some(2.0)),
            outcome("a", 1.0, None),
            outcome("b", 4.0, Some(0.5)),
            outcome("b", 1.0, None),
        ];
        let scores = scores(&outcomes);
        assert_eq!(
            scores.iter().map(|score| score.system.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        let (a, b) = (&scores[0], &scores[1]);
        assert_eq!((a.cells, a.geomean_regret, a.default_geomean_regret), (1, 1.0, None));
        assert!((b.geomean_regret - 4.0_f64.cbrt()).abs() < 1e-12);
        assert_eq!((b.cells, b.p95_regret, b.worst_regret), (3, 4.0, 4.0));
        assert!((b.default_geomean_regret.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(b.median_abs_error, 0.1);
    }

    #[test]
    fn names_in_json_are_the_contract() {
        let json = serde_json::to_value(&scores(&[outcome("a", 1.5, Some(1.0))])[0]).unwrap();
        let mut names: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "cells",
                "default_geomean_regret",
                "geomean_regret",
                "median_abs_error",
                "p95_regret",
                "system",
                "worst_regret"
            ]
        );
    }
}
