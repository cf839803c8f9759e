//! The matrices as text.

use std::fmt::Write as _;

use super::outlier::Figure;
use super::{Matrix, PING_BYTES};

/// Width of a column.
const WIDTH: usize = 11;

impl Matrix {
    /// The heading of a figure.
    pub(super) fn heading(&self, figure: Figure) -> String {
        match figure {
            Figure::Bandwidth => {
                format!("Bandwidth of {} B messages, {}", self.plan.size, self.unit.name())
            }
            Figure::Latency => format!("Typical latency of {PING_BYTES} B messages, usec"),
            Figure::Loaded => {
                format!("Typical latency of {PING_BYTES} B messages under load, usec")
            }
        }
    }

    /// A figure of a path, in the unit of the heading.
    pub(super) fn value(&self, figure: Figure, from: u32, to: u32) -> Option<f64> {
        let value = figure.of(self.cell(from, to)?)?;
        Some(if figure == Figure::Bandwidth { self.unit.of(value) } else { value })
    }

    pub(super) fn is_outlier(&self, figure: Figure, from: u32, to: u32) -> bool {
        let is = |outlier: &super::Outlier| {
            (outlier.figure, outlier.from, outlier.to) == (figure, from, to)
        };
        self.outliers.iter().any(is)
    }

    /// The figures that were measured.
    pub(super) fn figures(&self) -> impl Iterator<Item = Figure> {
        Figure::ALL.into_iter().filter(|figure| *figure != Figure::Loaded || self.plan.load)
    }

    /// Numbers of the ranks.
    pub(super) fn numbers(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.ranks.len()).unwrap_or(u32::MAX)
    }
}

/// All of it, for people.
pub(super) fn text(matrix: &Matrix, all_counters: bool) -> String {
    let mut text = format!("# dure {}\n# Matrix Test\n#\n", env!("CARGO_PKG_VERSION"));
    for (rank, name) in matrix.ranks.iter().enumerate() {
        let number = u32::try_from(rank).unwrap_or(u32::MAX);
        let mut ways: Vec<_> = matrix
            .cells
            .iter()
            .filter(|cell| cell.from == number)
            .map(|cell| cell.transport.as_str())
            .collect();
        ways.sort_unstable();
        ways.dedup();
        let _ = writeln!(text, "#  Rank {rank:3} on {name} by {}", ways.join(", "));
    }
    for figure in matrix.figures() {
        let _ = writeln!(
            text,
            "#\n# {}: from the rank of the row to that of the column, * is an outlier",
            matrix.heading(figure)
        );
        text.push_str(&grid(matrix, figure));
    }
    text.push_str("#\n");
    for (row, counters) in matrix.counters.iter().enumerate() {
        for (rank, counters) in counters.iter().enumerate() {
            let traffic = counters.traffic.iter().filter(|_| all_counters);
            let moved: Vec<_> = counters
                .errors
                .iter()
                .chain(traffic)
                .map(|(name, by)| format!("{name} +{by}"))
                .collect();
            if !moved.is_empty() {
                let _ = writeln!(text, "# Row {row}, devices of rank {rank}: {}", moved.join(", "));
            }
        }
    }
    let _ = writeln!(text, "# Outliers: {}", matrix.outliers.len());
    for outlier in &matrix.outliers {
        let _ = writeln!(text, "#  {}", outlier.sentence(matrix.unit));
    }
    text
}

fn grid(matrix: &Matrix, figure: Figure) -> String {
    let mut text = format!("#{:>WIDTH$}", "");
    for to in matrix.numbers() {
        let _ = write!(text, "{to:>WIDTH$} ");
    }
    text = format!("{}\n", text.trim_end());
    for from in matrix.numbers() {
        let _ = write!(text, "{from:>width$}", width = WIDTH + 1);
        for to in matrix.numbers() {
            let mark = if matrix.is_outlier(figure, from, to) { '*' } else { ' ' };
            match matrix.value(figure, from, to) {
                Some(value) => _ = write!(text, "{value:>WIDTH$.2}{mark}"),
                None => _ = write!(text, "{:>WIDTH$} ", "-"),
            }
        }
        text = format!("{}\n", text.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn every_path_has_its_place_and_outliers_a_star() {
        let matrix = sample();
        let text = text(&matrix, false);
        let grid = grid(&matrix, Figure::Bandwidth);
        let row: Vec<_> = grid.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(row, ["1", "953.67", "-", "972.75", "95.37*"]);
        assert_eq!(grid.lines().count(), 5);
        for part in [
            "Rank   0 on host<0> by tcp",
            "under load, usec",
            "# Outliers: 3",
            "rank 2 to rank 0: latency 50.00",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
