//! The rates of a machine: what a round, a message, a byte cost, from times of whole operations.

use super::solve::{Normal, pull};
use super::{FitError, positive_times};

/// A timed operation: how often it does what on its critical path, and the seconds it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<const N: usize> {
    /// How many of each kind: rounds, messages, bytes. None is negative, and one at least is above 0.
    pub counts: [f64; N],
    /// Seconds.
    pub seconds: f64,
}

/// What a rate is taken to be before anything was measured, and how far it may be from that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// Seconds for one.
    pub rate: f64,
    /// One standard deviation of the rate's natural logarithm: 1.5 is a factor of 4.5.
    pub spread: f64,
}

/// Beyond this difference of logarithms a sample pulls no harder.
const SCALE: f64 = 0.5;

/// What a standard deviation from the prior weighs against one sample that is off by a factor of e.
const TRUST: f64 = 0.3;

/// Steps of the iteration: it ends by itself after some ten.
const STEPS: usize = 200;

/// Fits positive rates, such that the sums of counts times rates are near the times in relative error.
///
/// A kind that no sample shows keeps its prior. The method is that of Levenberg and Marquardt over the logarithms of
/// the rates, with a pseudo-Huber loss.
///
/// # Errors
///
/// [`FitError::TooFew`] without samples, [`FitError::Sample`] for a time that is none, [`FitError::Prior`] for a prior that
/// is none.
pub fn fit_rates<const N: usize>(
    samples: &[Sample<N>],
    priors: &[Prior; N],
) -> Result<[f64; N], FitError> {
    if samples.is_empty() {
        return Err(FitError::TooFew { given: 0, least: 1 });
    }
    positive_times(samples.iter().map(|sample| sample.seconds))?;
    check(priors)?;
    let mut logs = priors.map(|prior| prior.rate.ln());
    let mut best = loss(samples, priors, &logs);
    let mut damping = 1e-3;
    for _ in 0..STEPS {
        let normal = around(samples, priors, &logs);
        let Some(step) = damped(normal, damping) else { break };
        let moved: [f64; N] = std::array::from_fn(|i| logs[i] + step[i]);
        let now = loss(samples, priors, &moved);
        if now < best {
            (logs, damping) = (moved, (damping / 5.0).max(1e-9));
            let gained = best - now;
            best = now;
            if gained <= 1e-12 * best {
                break;
            }
        } else {
            damping *= 5.0;
            if damping > 1e9 {
                break;
            }
        }
    }
    Ok(logs.map(f64::exp))
}

fn check(priors: &[Prior]) -> Result<(), FitError> {
    for (index, prior) in priors.iter().enumerate() {
        for value in [prior.rate, prior.spread] {
            if !(value.is_finite() && value > 0.0) {
                return Err(FitError::Prior { index, value });
            }
        }
    }
    Ok(())
}

/// Logarithm of the predicted over the measured time, and the part of each kind in the prediction.
fn residual<const N: usize>(sample: &Sample<N>, logs: &[f64; N]) -> (f64, [f64; N]) {
    let parts: [f64; N] = std::array::from_fn(|i| sample.counts[i] * logs[i].exp());
    // An operation that does nothing is predicted to take next to nothing.
    let total = parts.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    ((total / sample.seconds).ln(), parts.map(|part| part / total))
}

fn loss<const N: usize>(samples: &[Sample<N>], priors: &[Prior; N], logs: &[f64; N]) -> f64 {
    let wrong: f64 =
        samples.iter().map(|sample| (residual(sample, logs).0 / SCALE).hypot(1.0) - 1.0).sum();
    let strayed: f64 = priors
        .iter()
        .zip(logs)
        .map(|(prior, log)| ((log - prior.rate.ln()) / prior.spread).powi(2))
        .sum();
    2.0 * SCALE * SCALE * wrong + TRUST * strayed
}

/// The equations of a step from `logs`, to first order.
fn around<const N: usize>(
    samples: &[Sample<N>],
    priors: &[Prior; N],
    logs: &[f64; N],
) -> Normal<N> {
    let mut normal = Normal::new();
    for sample in samples {
        let (off, slopes) = residual(sample, logs);
        normal.add(&slopes, -off, pull(off, SCALE));
    }
    for (i, prior) in priors.iter().enumerate() {
        let weight = TRUST / (prior.spread * prior.spread);
        normal.matrix[i][i] += weight;
        normal.right[i] += weight * (prior.rate.ln() - logs[i]);
    }
    normal
}

fn damped<const N: usize>(mut normal: Normal<N>, damping: f64) -> Option<[f64; N]> {
    for i in 0..N {
        normal.matrix[i][i] *= 1.0 + damping;
    }
    normal.solve()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PRIORS: [Prior; 3] = [
        Prior { rate: 2e-6, spread: 1.5 },
        Prior { rate: 1e-10, spread: 1.5 },
        Prior { rate: 1e-10, spread: 1.5 },
    ];

    /// Rounds, bytes and reduced bytes of rings and doublings.
    fn samples(rates: [f64; 3]) -> Vec<Sample<3>> {
        let mut samples = Vec::new();
        for ranks in [4_u32, 8, 16, 32] {
            for log in (3..30).step_by(3) {
                let (n, bytes) = (f64::from(ranks), f64::from(1_u32 << log));
                let share = bytes * (n - 1.0) / n;
                let rounds = f64::from(ranks.ilog2());
                for counts in [
                    [2.0 * (n - 1.0), 2.0 * share, share],
                    [n - 1.0, share, 0.0],
                    [rounds, rounds * bytes, rounds * bytes],
                ] {
                    let seconds = counts.iter().zip(&rates).map(|(c, r)| c * r).sum();
                    samples.push(Sample { counts, seconds });
                }
            }
        }
        samples
    }

    fn off(found: [f64; 3], rates: [f64; 3]) -> f64 {
        found.iter().zip(&rates).map(|(a, b)| (a / b).ln().abs()).fold(0.0, f64::max)
    }

    #[test]
    fn a_kind_that_no_sample_shows_keeps_its_prior() {
        let one = [Sample { counts: [2.0, 0.0, 0.0], seconds: 6e-6 }; 200];
        let found = fit_rates(&one, &PRIORS).unwrap();
        assert!((found[0] / 3e-6 - 1.0).abs() < 0.01, "{found:?}");
        assert!((found[1] / 1e-10 - 1.0).abs() < 1e-9 && (found[2] / 1e-10 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn wild_times_do_not_move_the_rates() {
        let rates = [3e-6, 0.5e-10, 2e-10];
        let mut samples = samples(rates);
        for sample in samples.iter_mut().step_by(9) {
            sample.seconds *= 30.0;
        }
        let found = fit_rates(&samples, &PRIORS).unwrap();
        assert!(off(found, rates) < 0.15, "{found:?}");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        assert_eq!(fit_rates(&[], &PRIORS), Err(FitError::TooFew { given: 0, least: 1 }));
        let zero = [Sample { counts: [1.0, 0.0, 0.0], seconds: 0.0 }];
        assert!(matches!(fit_rates(&zero, &PRIORS), Err(FitError::Sample { index: 0, .. })));
        let one = [Sample { counts: [1.0; 3], seconds: 1.0 }];
        let priors = [PRIORS[0], PRIORS[1], Prior { rate: 0.0, spread: 1.5 }];
        assert_eq!(fit_rates(&one, &priors), Err(FitError::Prior { index: 2, value: 0.0 }));
        let nothing = [Sample { counts: [0.0; 3], seconds: 1.0 }];
        assert!(fit_rates(&nothing, &PRIORS).unwrap().iter().all(|rate| rate.is_finite()));
    }

    proptest! {
        /// Whatever the rates of a machine are, times are predicted as they were: kinds that always come together may
        /// share their sum otherwise, as their priors say.
        #[test]
        fn exact_times_are_predicted(
            round in 3e-7_f64..3e-5,
            byte in 1e-11_f64..1e-9,
            reduced in 2e-11_f64..1e-9,
        ) {
            let samples = samples([round, byte, reduced]);
            let found = fit_rates(&samples, &PRIORS).unwrap();
            for sample in &samples {
                let off = residual(sample, &found.map(f64::ln)).0;
                prop_assert!(off.abs() < 0.1, "{found:?}: {sample:?} by {off}");
            }
        }
    }
}
