//! Paths that fall out of what paths of the same transport have.

use super::Cell;
use crate::fabric::table::Unit;
use crate::median::median;

/// How far from the median a path must be, in deviations of paths: of a normal distribution, one in 16,000 is.
const DEVIATIONS: f64 = 4.0;
/// The standard deviation over the median absolute deviation, of a normal distribution.
const SIGMA_OF_MAD: f64 = 1.4826;
/// Least distance from the median, as a part of it: nobody looks for a cable because of less. Latency varies more.
const LEAST_BANDWIDTH: f64 = 0.2;
const LEAST_LATENCY: f64 = 0.5;
/// With fewer paths there is no telling which one falls out.
const FEWEST: usize = 4;

/// In what a path falls out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Bandwidth,
    Latency,
    Loaded,
}

/// A path that does.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outlier {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) figure: Figure,
    transport: String,
    value: f64,
    median: f64,
}

impl Figure {
    pub(super) const ALL: [Self; 3] = [Self::Bandwidth, Self::Latency, Self::Loaded];

    /// Bytes a second, or microseconds.
    pub(super) fn of(self, cell: &Cell) -> Option<f64> {
        match self {
            Self::Bandwidth => Some(cell.bandwidth),
            Self::Latency => Some(cell.latency.typical),
            Self::Loaded => cell.loaded.map(|latency| latency.typical),
        }
    }

    /// Whether a value is worse than the median by more than so much.
    fn is_worse(self, value: f64, median: f64, deviation: f64) -> bool {
        let least = if self == Self::Bandwidth { LEAST_BANDWIDTH } else { LEAST_LATENCY };
        let far = (DEVIATIONS * deviation).max(least * median);
        if self == Self::Bandwidth { value < median - far } else { value > median + far }
    }
}

/// The outliers among all cells: bandwidth below, or latency above, what cells of the same transport have.
pub(super) fn outliers(cells: &[Cell]) -> Vec<Outlier> {
    let mut transports: Vec<_> = cells.iter().map(|cell| cell.transport.as_str()).collect();
    transports.sort_unstable();
    transports.dedup();
    let mut found = Vec::new();
    for (transport, figure) in
        transports.iter().flat_map(|name| Figure::ALL.map(|figure| (*name, figure)))
    {
        let alike: Vec<_> = cells
            .iter()
            .filter(|cell| cell.transport == transport)
            .filter_map(|cell| Some((cell, figure.of(cell)?)))
            .collect();
        if alike.len() < FEWEST {
            continue;
        }
        let middle = median(alike.iter().map(|(_, value)| *value).collect());
        let distances = alike.iter().map(|(_, value)| (value - middle).abs()).collect();
        let deviation = SIGMA_OF_MAD * median(distances);
        for (cell, value) in alike {
            if figure.is_worse(value, middle, deviation) {
                let (from, to, transport) = (cell.from, cell.to, transport.to_owned());
                found.push(Outlier { from, to, figure, transport, value, median: middle });
            }
        }
    }
    found
}

impl Outlier {
    pub(super) fn is_of(&self, cell: &Cell) -> bool {
        (self.from, self.to) == (cell.from, cell.to)
    }

    pub(super) fn sentence(&self, unit: Unit) -> String {
        let (what, value, median, unit) = match self.figure {
            Figure::Bandwidth => {
                ("bandwidth", unit.of(self.value), unit.of(self.median), unit.name())
            }
            Figure::Latency => ("latency", self.value, self.median, "usec"),
            Figure::Loaded => ("latency under load", self.value, self.median, "usec"),
        };
        format!(
            "rank {} to rank {}: {what} {value:.2} {unit}, {:.2} times the median of {} paths, {median:.2}",
            self.from,
            self.to,
            self.value / self.median,
            self.transport
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_slow_path_and_the_late_one_fall_out() {
        let found: Vec<_> =
            sample().outliers.iter().map(|one| (one.from, one.to, one.figure)).collect();
        assert_eq!(
            found,
            [(1, 3, Figure::Bandwidth), (2, 0, Figure::Latency), (2, 0, Figure::Loaded)]
        );
        let said = sample().outliers[0].sentence(Unit { gbits: false });
        assert!(
            said.starts_with("rank 1 to rank 3: bandwidth 95.37 MiB/sec, 0.10 times"),
            "{said}"
        );
    }

    #[test]
    fn few_paths_and_small_differences_do_not() {
        let matrix = sample();
        assert!(outliers(&matrix.cells[..3]).is_empty());
        let even = matrix.cells.iter().filter(|cell| cell.from == 0).cloned();
        let even: Vec<_> = even.clone().chain(even).collect();
        assert!(outliers(&even).is_empty());
    }

    #[test]
    fn transports_are_not_compared_with_one_another() {
        let mut cells = sample().cells;
        cells.retain(|cell| (cell.from, cell.to) != (1, 3) && (cell.from, cell.to) != (2, 0));
        for cell in cells.iter_mut().filter(|cell| cell.from == 3) {
            cell.transport = "pool".to_owned();
            cell.bandwidth *= 30.0;
        }
        assert!(outliers(&cells).is_empty());
    }
}
