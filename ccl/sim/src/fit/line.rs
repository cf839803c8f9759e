//! The line of a wire: what a message takes whatever its size, and what each byte adds.

use serde::{Deserialize, Serialize};

use super::{FitError, positive_times};

/// What a message takes on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Seconds that a message without bytes takes.
    pub latency: f64,
    /// Seconds that each byte adds.
    pub per_byte: f64,
}

impl Line {
    /// Seconds that a message of `bytes` takes.
    pub fn seconds(&self, bytes: u64) -> f64 {
        self.per_byte.mul_add(bytes as f64, self.latency)
    }
}

/// Fits a line to samples of bytes and seconds, such that up to a quarter of wild samples hardly move it.
///
/// The slope is the median of the slopes between all pairs of samples (Theil 1950, Sen 1968), each pair weighted by how far
/// its sizes are apart for its time: noise grows with time, and of a short distance it is most of the slope. The latency
/// is the median of what is left of each sample, weighted by the inverse of its time, so that small messages decide.
/// Neither is below 0. The work grows with the square of the samples.
///
/// # Errors
///
/// [`FitError::TooFew`] for samples of fewer than two sizes, [`FitError::Sample`] for a time that is none.
pub fn fit_wire(samples: &[(u64, f64)]) -> Result<Line, FitError> {
    positive_times(samples.iter().map(|sample| sample.1))?;
    let mut slopes = Vec::new();
    for (at, &(bytes, seconds)) in samples.iter().enumerate() {
        for &(more, longer) in &samples[at + 1..] {
            let apart = more as f64 - bytes as f64;
            if apart != 0.0 {
                slopes.push(((longer - seconds) / apart, apart.abs() / seconds.max(longer)));
            }
        }
    }
    let Some(slope) = weighted_median(slopes) else {
        return Err(FitError::TooFew { given: samples.len().min(1), least: 2 });
    };
    let per_byte = slope.max(0.0);
    let rests = samples
        .iter()
        .map(|&(bytes, seconds)| (per_byte.mul_add(-(bytes as f64), seconds), seconds.recip()));
    let latency = weighted_median(rests.collect()).unwrap_or(0.0).max(0.0);
    Ok(Line { latency, per_byte })
}

/// The value at which half of the weight is reached; of two such values the mean.
fn weighted_median(mut weighted: Vec<(f64, f64)>) -> Option<f64> {
    weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = weighted.iter().map(|pair| pair.1).sum::<f64>() / 2.0;
    let mut reached = 0.0;
    for (at, &(value, weight)) in weighted.iter().enumerate() {
        reached += weight;
        // Sums of equal weights meet the half exactly or miss it by rounding.
        if (reached - half).abs() <= half * 1e-12 {
            let next = weighted.get(at + 1).map_or(value, |pair| pair.0);
            return Some(f64::midpoint(value, next));
        }
        if reached > half {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(latency: f64, per_byte: f64) -> Vec<(u64, f64)> {
        let wire = Line { latency, per_byte };
        (3..24).map(|log| (1 << log, wire.seconds(1 << log))).collect()
    }

    fn near(a: f64, b: f64, part: f64) -> bool {
        (a - b).abs() <= part * b.abs()
    }

    #[test]
    fn a_median_is_where_half_of_the_weight_is() {
        assert_eq!(weighted_median(vec![]), None);
        assert_eq!(weighted_median(vec![(7.0, 1.0)]), Some(7.0));
        assert_eq!(weighted_median(vec![(3.0, 1.0), (1.0, 1.0), (2.0, 1.0)]), Some(2.0));
        assert_eq!(weighted_median(vec![(1.0, 1.0), (2.0, 1.0)]), Some(1.5));
        assert_eq!(weighted_median(vec![(1.0, 1.0), (2.0, 1.0), (3.0, 5.0)]), Some(3.0));
    }

    #[test]
    fn samples_on_a_line_give_that_line() {
        let wire = fit_wire(&exact(2e-6, 1e-10)).unwrap();
        assert!(near(wire.latency, 2e-6, 1e-6) && near(wire.per_byte, 1e-10, 1e-6), "{wire:?}");
    }

    #[test]
    fn wild_samples_do_not_move_the_line() {
        let mut samples = exact(2e-6, 1e-10);
        for at in [0, 5, 12, 20] {
            samples[at].1 *= 50.0;
        }
        let wire = fit_wire(&samples).unwrap();
        assert!(near(wire.latency, 2e-6, 0.05) && near(wire.per_byte, 1e-10, 0.05), "{wire:?}");
    }

    #[test]
    fn a_line_needs_two_sizes_and_times_that_are_times() {
        assert_eq!(fit_wire(&[]), Err(FitError::TooFew { given: 0, least: 2 }));
        assert_eq!(fit_wire(&[(8, 1e-6), (8, 2e-6)]), Err(FitError::TooFew { given: 1, least: 2 }));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refused = fit_wire(&[(8, 1e-6), (16, seconds)]);
            assert!(matches!(refused, Err(FitError::Sample { index: 1, .. })), "{refused:?}");
        }
    }

    #[test]
    fn faster_for_more_bytes_is_no_slope() {
        let wire = fit_wire(&[(8, 2e-6), (1024, 1e-6)]).unwrap();
        assert_eq!(wire.per_byte, 0.0);
        assert!(wire.latency >= 1e-6);
    }

    proptest! {
        /// Any wire is found again from times with an error of up to 5 %.
        #[test]
        fn a_noisy_line_is_found(
            latency in 1e-7_f64..1e-4,
            rate in 1e8_f64..1e11,
            noise in prop::collection::vec(-0.05_f64..0.05, 63),
        ) {
            let wire = Line { latency, per_byte: rate.recip() };
            let samples: Vec<_> = noise
                .iter()
                .zip((0..3).flat_map(|_| 3..24))
                .map(|(noise, log)| (1_u64 << log, wire.seconds(1 << log) * (1.0 + noise)))
                .collect();
            let found = fit_wire(&samples).unwrap();
            for log in [3, 12, 23] {
                prop_assert!(near(found.seconds(1 << log), wire.seconds(1 << log), 0.12));
            }
        }
    }
}
