//! What an algorithm takes beyond its model, as a curve over the size and, weakly, the number of ranks.
//!
//! A model of rounds and bytes knows nothing of protocols that change with the size, of how well an implementation
//! overlaps its work, or of the torus below. Measured times do: the curve is the factor between the two.

use serde::{Deserialize, Serialize};

use super::FitError;
use super::solve::{Normal, pull};

/// Sizes at which a fitted curve has its points, as powers of two: 16 B to 256 MiB, close enough to show where a protocol ends.
const POWERS: [u32; POINTS] = [4, 7, 10, 13, 16, 19, 22, 25, 28];
const POINTS: usize = 9;

/// Unknowns of a fit: the points, and the slope over ranks.
const UNKNOWN: usize = POINTS + 1;

/// Beyond this difference of logarithms a sample pulls no harder.
const SCALE: f64 = 0.3;

/// Rounds of reweighting in a robust fit: the weights settle after three or four.
const REWEIGHTS: usize = 5;

/// Measured over modelled time of one algorithm.
///
/// Between its points the curve is straight in the logarithms of size and factor, beyond them it is level. With each
/// doubling of the ranks the factor changes by `per_doubling`, but only within the numbers of ranks that were measured:
/// beyond them the model alone extrapolates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Curve {
    /// Base-2 logarithms of sizes, ascending, and natural logarithms of factors.
    points: Vec<(f64, f64)>,
    /// Natural logarithm of the change of the factor with each doubling of the ranks.
    slope: f64,
    /// Ranks at which the points hold.
    ranks: u32,
    fewest: u32,
    most: u32,
}

/// A curve as it is written to a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    bytes: Vec<u64>,
    factor: Vec<f64>,
    #[serde(default = "level")]
    per_doubling: f64,
    ranks: u32,
    fewest_ranks: u32,
    most_ranks: u32,
}

fn level() -> f64 {
    1.0
}

/// Why a curve of a file was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CurveError {
    /// Sizes and factors do not pair up, or there are none.
    #[error(
        "{sizes} sizes and {factors} factors, where as many of both are needed, and one at least"
    )]
    Pairs {
        /// Number of sizes.
        sizes: usize,
        /// Number of factors.
        factors: usize,
    },
    /// Sizes are not ascending, or one is 0.
    #[error("sizes must be above 0 and ascend")]
    Sizes,
    /// A factor that is none.
    #[error("factor {0}: must be finite and above 0")]
    Factor(f64),
    /// Numbers of ranks contradict each other.
    #[error("ranks {ranks} between {fewest} and {most}: must ascend, from 1")]
    Ranks {
        /// Where the points hold.
        ranks: u32,
        /// Fewest that were measured.
        fewest: u32,
        /// Most that were measured.
        most: u32,
    },
}

impl TryFrom<Raw> for Curve {
    type Error = CurveError;

    fn try_from(raw: Raw) -> Result<Self, CurveError> {
        let (sizes, factors) = (raw.bytes.len(), raw.factor.len());
        if sizes != factors || sizes == 0 {
            return Err(CurveError::Pairs { sizes, factors });
        }
        if raw.bytes[0] == 0 || !raw.bytes.is_sorted_by(|a, b| a < b) {
            return Err(CurveError::Sizes);
        }
        let mut all = raw.factor.iter().chain([&raw.per_doubling]);
        if let Some(&wrong) = all.find(|factor| !(factor.is_finite() && **factor > 0.0)) {
            return Err(CurveError::Factor(wrong));
        }
        let (ranks, fewest, most) = (raw.ranks, raw.fewest_ranks, raw.most_ranks);
        if !(1 <= fewest && fewest <= ranks && ranks <= most) {
            return Err(CurveError::Ranks { ranks, fewest, most });
        }
        let points = raw.bytes.iter().zip(&raw.factor);
        let points = points.map(|(&bytes, factor)| ((bytes as f64).log2(), factor.ln())).collect();
        Ok(Self { points, slope: raw.per_doubling.ln(), ranks, fewest, most })
    }
}

impl From<Curve> for Raw {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes came from u64"
    )]
    fn from(curve: Curve) -> Self {
        Self {
            bytes: curve.points.iter().map(|point| point.0.exp2().round() as u64).collect(),
            factor: curve.points.iter().map(|point| point.1.exp()).collect(),
            per_doubling: curve.slope.exp(),
            ranks: curve.ranks,
            fewest_ranks: curve.fewest,
            most_ranks: curve.most,
        }
    }
}

impl Curve {
    /// What a modelled time of an operation is to be multiplied by.
    pub fn factor(&self, bytes: u64, ranks: u32) -> f64 {
        (self.at(bytes) + self.slope * self.doublings(ranks)).exp()
    }

    fn doublings(&self, ranks: u32) -> f64 {
        doublings(ranks.clamp(self.fewest, self.most), self.ranks)
    }

    /// The logarithm of the factor at a size, for the ranks at which the points hold.
    fn at(&self, bytes: u64) -> f64 {
        let size = (bytes.max(1) as f64).log2();
        let after = self.points.partition_point(|point| point.0 <= size);
        let Some(next) = self.points.get(after) else {
            return self.points.last().map_or(0.0, |point| point.1);
        };
        let Some(last) = after.checked_sub(1).map(|before| self.points[before]) else {
            return next.1;
        };
        let part = (size - last.0) / (next.0 - last.0);
        part.mul_add(next.1 - last.1, last.1)
    }
}

/// By how many doublings `ranks` are more than `than`.
fn doublings(ranks: u32, than: u32) -> f64 {
    (f64::from(ranks.max(1)) / f64::from(than.max(1))).log2()
}

/// How far a measured time is from the modelled one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    /// Size of the operation.
    pub bytes: u64,
    /// Ranks that took part.
    pub ranks: u32,
    /// Natural logarithm of measured over modelled.
    pub log: f64,
}

/// What holds a curve back from following every sample: the weight of a difference of 1, beside that of one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shrink {
    /// Of a point from 0, divided by the number of points.
    pub level: f64,
    /// Of neighbouring points from each other.
    pub smooth: f64,
    /// Of the slope over ranks from 0.
    pub slope: f64,
}

/// Fits the curve of one algorithm; without a sample, a curve that changes nothing.
///
/// Least squares over the logarithms, with a pseudo-Huber weight for each sample and a ridge as of `shrink`.
/// `start` is a curve from elsewhere, as of the same algorithm on other machines: the fit is of what differs from it,
/// and of its place where nothing was measured nothing changes.
///
/// # Errors
///
/// [`FitError::Sample`] for an excess that is not finite.
pub fn fit_curve(
    samples: &[Excess],
    start: Option<&Curve>,
    shrink: Shrink,
) -> Result<Curve, FitError> {
    if let Some(index) = samples.iter().position(|sample| !sample.log.is_finite()) {
        let value = samples[index].log;
        return Err(FitError::Sample { index, value, unit: "of the logarithm of a ratio" });
    }
    let start = start.cloned().unwrap_or_else(|| flat(samples));
    let mut unknown = [0.0; UNKNOWN];
    for _ in 0..REWEIGHTS {
        let mut normal = ridge(shrink);
        for sample in samples {
            let row = basis(sample, start.ranks);
            let rest = sample.log - start.factor(sample.bytes, sample.ranks).ln();
            let fitted: f64 = row.iter().zip(&unknown).map(|(a, b)| a * b).sum();
            normal.add(&row, rest, pull(rest - fitted, SCALE));
        }
        match normal.solve() {
            Some(solved) => unknown = solved,
            None => break,
        }
    }
    Ok(sum(&start, samples, &unknown))
}

/// A curve that changes nothing, around the middle of the measured ranks.
fn flat(samples: &[Excess]) -> Curve {
    let fewest = samples.iter().map(|sample| sample.ranks).min().unwrap_or(1).max(1);
    let most = samples.iter().map(|sample| sample.ranks).max().unwrap_or(1).max(1);
    let ranks = fewest.midpoint(most);
    let points = POWERS.iter().map(|&power| (f64::from(power), 0.0)).collect();
    Curve { points, slope: 0.0, ranks, fewest, most }
}

/// The weights of the points around the size of a sample, and its doublings of the ranks.
fn basis(sample: &Excess, ranks: u32) -> [f64; UNKNOWN] {
    let size = (sample.bytes.max(1) as f64).log2();
    let mut row = [0.0; UNKNOWN];
    row[POINTS] = doublings(sample.ranks, ranks);
    let step = f64::from(POWERS[1] - POWERS[0]);
    for (weight, power) in row.iter_mut().zip(POWERS) {
        *weight = (1.0 - (size - f64::from(power)).abs() / step).max(0.0);
    }
    if size < f64::from(POWERS[0]) {
        row[0] = 1.0;
    }
    if size > f64::from(POWERS[POINTS - 1]) {
        row[POINTS - 1] = 1.0;
    }
    row
}

fn ridge(shrink: Shrink) -> Normal<UNKNOWN> {
    let mut normal = Normal::new();
    for point in 0..POINTS {
        normal.matrix[point][point] += shrink.level / POINTS as f64;
    }
    for point in 1..POINTS {
        let mut apart = [0.0; UNKNOWN];
        (apart[point - 1], apart[point]) = (-1.0, 1.0);
        normal.add(&apart, 0.0, shrink.smooth);
    }
    normal.matrix[POINTS][POINTS] += shrink.slope;
    normal
}

/// The curve of a fit: the one it started from, and the difference.
fn sum(start: &Curve, samples: &[Excess], unknown: &[f64; UNKNOWN]) -> Curve {
    let points = POWERS
        .iter()
        .zip(unknown)
        .map(|(&power, difference)| (f64::from(power), start.at(1 << power) + difference));
    let ranks = || samples.iter().map(|sample| sample.ranks.max(1));
    Curve {
        points: points.collect(),
        slope: start.slope + unknown[POINTS],
        ranks: start.ranks,
        fewest: ranks().min().map_or(start.fewest, |fewest| fewest.min(start.fewest)),
        most: ranks().max().map_or(start.most, |most| most.max(start.most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOSE: Shrink = Shrink { level: 1e-6, smooth: 1e-6, slope: 1e-6 };
    const USUAL: Shrink = Shrink { level: 1.0, smooth: 1.0, slope: 20.0 };

    fn samples(of: impl Fn(u32, u32) -> f64) -> Vec<Excess> {
        let mut samples = Vec::new();
        for ranks in [4, 16, 64] {
            for log in (4..30).step_by(2) {
                samples.push(Excess { bytes: 1 << log, ranks, log: of(log, ranks) });
            }
        }
        samples
    }

    #[test]
    fn a_curve_follows_what_was_measured() {
        let curve = fit_curve(
            &samples(|log, ranks| 0.1 * f64::from(log) + 0.2 * f64::from(ranks.ilog2())),
            None,
            LOOSE,
        )
        .unwrap();
        for (bytes, ranks, log) in [(16, 4, 0.8), (1 << 20, 16, 2.8), (1 << 28, 64, 4.0)] {
            assert!((curve.factor(bytes, ranks).ln() - log).abs() < 1e-3, "{bytes} {ranks}");
        }
    }

    #[test]
    fn beyond_what_was_measured_a_curve_is_level() {
        let curve =
            fit_curve(&samples(|_, ranks| 0.2 * f64::from(ranks.ilog2())), None, LOOSE).unwrap();
        assert_eq!(curve.factor(1 << 29, 64), curve.factor(1 << 40, 10_240));
        assert_eq!(curve.factor(16, 4), curve.factor(0, 1));
    }

    #[test]
    fn few_samples_move_a_curve_little_and_many_do_wholly() {
        let one = [Excess { bytes: 1024, ranks: 8, log: 1.0 }];
        let few = fit_curve(&one, None, USUAL).unwrap().factor(1024, 8).ln();
        let many = fit_curve(&[one[0]; 100], None, USUAL).unwrap().factor(1024, 8).ln();
        assert!(few < 0.7 && many > 0.95, "{few} {many}");
    }

    #[test]
    fn a_wild_sample_moves_a_curve_little() {
        let mut samples = samples(|_, _| 0.5);
        samples[10].log = 6.0;
        let curve = fit_curve(&samples, None, USUAL).unwrap();
        assert!((curve.factor(samples[10].bytes, 4).ln() - 0.5).abs() < 0.15);
    }

    #[test]
    fn without_samples_a_curve_is_the_one_it_started_from() {
        let none = fit_curve(&[], None, USUAL).unwrap();
        assert_eq!(none.factor(12_345, 67), 1.0);
        let start = fit_curve(&samples(|log, _| 0.1 * f64::from(log)), None, LOOSE).unwrap();
        let same = fit_curve(&[], Some(&start), USUAL).unwrap();
        assert!((same.factor(5000, 9) / start.factor(5000, 9) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_curve_is_read_as_it_was_written() {
        let curve = fit_curve(&samples(|log, _| 0.1 * f64::from(log)), None, USUAL).unwrap();
        let text = serde_json::to_string(&curve).unwrap();
        let read: Curve = serde_json::from_str(&text).unwrap();
        for log in 0..34 {
            let ratio = curve.factor(1 << log, 16) / read.factor(1 << log, 16);
            assert!((ratio - 1.0).abs() < 1e-9, "{text}");
        }
    }

    #[test]
    fn a_curve_of_a_file_that_is_none_is_refused() {
        let raw = |bytes: &str, factor: &str, rest: &str| {
            let text = format!("{{\"bytes\":{bytes},\"factor\":{factor},{rest}}}");
            serde_json::from_str::<Curve>(&text).map_err(|error| error.to_string())
        };
        let ranks = "\"ranks\":8,\"fewest_ranks\":4,\"most_ranks\":16";
        assert!(raw("[8,64]", "[1.0,2.0]", ranks).is_ok());
        assert!(raw("[8]", "[1.0,2.0]", ranks).unwrap_err().contains("1 sizes and 2 factors"));
        assert!(raw("[]", "[]", ranks).unwrap_err().contains("0 sizes"));
        assert!(raw("[8,8]", "[1.0,2.0]", ranks).unwrap_err().contains("ascend"));
        assert!(raw("[8]", "[0.0]", ranks).unwrap_err().contains("factor 0"));
        let wrong = "\"ranks\":8,\"fewest_ranks\":9,\"most_ranks\":16";
        assert!(raw("[8]", "[1.0]", wrong).unwrap_err().contains("between 9 and 16"));
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let nan = [Excess { bytes: 8, ranks: 2, log: f64::NAN }];
        assert!(matches!(fit_curve(&nan, None, USUAL), Err(FitError::Sample { index: 0, .. })));
    }
}
