//! What is computed from times: bandwidth and its peak, latency and its percentiles.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The figures of one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Figures {
    Bandwidth(Bandwidth),
    Latency(Latency),
}

/// Of messages of one size, in one direction or the sum of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bandwidth {
    /// Bytes a second, of the fastest run of messages; 0 where it was not measured.
    pub(crate) peak: f64,
    /// Bytes a second, of all messages.
    pub(crate) average: f64,
    /// Messages a second.
    pub(crate) rate: f64,
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The median.
    pub(crate) typical: f64,
    pub(crate) average: f64,
    /// Standard deviation.
    pub(crate) deviation: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// When messages were posted and completed, in nanoseconds from the first post.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamps {
    pub(crate) posted: Vec<u64>,
    pub(crate) completed: Vec<u64>,
}

/// Posts and completions that are compared for the peak; of more, equally spaced ones are taken.
const PEAK_SAMPLES: usize = 2048;

impl Stamps {
    /// Room for so many messages, so that noting one allocates nothing.
    pub(crate) fn new(messages: usize) -> Self {
        Self { posted: Vec::with_capacity(messages), completed: Vec::with_capacity(messages) }
    }

    /// Messages a second, of the fastest run from a post to a completion at or after it; 0 where nothing was noted.
    pub(crate) fn peak(&self) -> f64 {
        let count = self.posted.len().min(self.completed.len());
        let stride = count.div_ceil(PEAK_SAMPLES).max(1);
        let mut best = 0.0_f64;
        for first in (0..count).step_by(stride) {
            // Runs are whole strides, and the last message ends one.
            let ends = (first + stride - 1..count).step_by(stride).chain(count.checked_sub(1));
            for last in ends.filter(|last| *last >= first) {
                let time = self.completed[last].saturating_sub(self.posted[first]).max(1);
                best = best.max((last - first + 1) as f64 / time as f64);
            }
        }
        best * 1e9
    }
}

impl Bandwidth {
    /// Of `messages` of `size` bytes that took `nanos`; the peak in messages a second.
    pub(crate) fn new(size: u64, messages: u64, nanos: u64, peak: f64) -> Self {
        let rate = messages as f64 * 1e9 / nanos.max(1) as f64;
        Self { peak: peak * size as f64, average: rate * size as f64, rate }
    }

    /// Both directions together.
    pub(crate) fn sum(self, other: Self) -> Self {
        Self {
            peak: self.peak + other.peak,
            average: self.average + other.average,
            rate: self.rate + other.rate,
        }
    }
}

/// Longest time that is told from longer ones: a minute. No wait here is longer.
const LONGEST: u64 = 60_000_000_000;
/// Digits that are kept: times up to 131 us are exact to the nanosecond, longer ones to one part in 100,000.
const DIGITS: u8 = 5;

/// The distribution of times in nanoseconds.
pub(crate) fn distribution(times: &[u64]) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS)
        .expect("the bounds are in order, and the digits at most five");
    times.iter().for_each(|time| histogram.saturating_record(*time));
    histogram
}

impl Latency {
    pub(crate) fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| micros(times.value_at_quantile(quantile) as f64);
        Self {
            min: micros(times.min() as f64),
            max: micros(times.max() as f64),
            typical: at(0.5),
            average: micros(times.mean()),
            deviation: micros(times.stdev()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
        }
    }
}

fn micros(nanos: f64) -> f64 {
    nanos / 1e3
}

/// The distribution as HdrHistogram prints it, in microseconds.
pub(crate) fn dump(times: &Histogram<u64>) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0;
    for step in times.iter_quantiles(5) {
        total += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = micros(step.value_iterated_to() as f64);
        let _ = write!(text, "{value:>12.3} {quantile:>14.12} {total:>10}");
        if quantile < 1.0 {
            let _ = write!(text, " {:>14.2}", 1.0 / (1.0 - quantile));
        }
        text.push('\n');
    }
    let Latency { average, deviation, max, .. } = Latency::of(times);
    let _ = writeln!(text, "#[Mean    = {average:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {:>12}]", times.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_the_nanosecond() {
        let times: Vec<u64> = (1..=1000).map(|time| time * 100 + 7).collect();
        let latency = Latency::of(&distribution(&times));
        let expected = [(latency.min, 0.107), (latency.typical, 50.007), (latency.p99, 99.007)];
        for (got, wanted) in
            expected.into_iter().chain([(latency.p999, 99.907), (latency.max, 100.007)])
        {
            assert!((got - wanted).abs() < 1e-9, "{got} is not {wanted}");
        }
        assert!((latency.average - 50.057).abs() < 1e-6, "{latency:?}");
    }

    #[test]
    fn bandwidth_is_bytes_over_time() {
        let one = Bandwidth::new(1 << 20, 100, 1_000_000_000, 200.0);
        assert!((one.average - 104_857_600.0).abs() < 1e-3 && (one.rate - 100.0).abs() < 1e-9);
        assert!((one.sum(one).peak - 2.0 * 200.0 * 1_048_576.0).abs() < 1e-3);
    }

    #[test]
    fn the_peak_is_the_fastest_run() {
        // A message every 100 ns, but two of them in 50 ns.
        let stamps = Stamps {
            posted: vec![0, 100, 200, 225, 300],
            completed: vec![100, 200, 225, 250, 400],
        };
        assert!((stamps.peak() - 2e9 / 50.0).abs() < 1.0, "{}", stamps.peak());
        assert_eq!(Stamps::default().peak(), 0.0);
        let many: Vec<u64> = (0..100_000).map(|i| i * 10).collect();
        let completed = many.iter().map(|time| time + 10).collect();
        let peak = Stamps { posted: many, completed }.peak();
        assert!((peak - 1e8).abs() < 1e3, "{peak}");
    }

    #[test]
    fn the_dump_ends_at_the_last_time() {
        let text = dump(&distribution(&[1_000, 2_000, 90_000]));
        assert!(text.contains("90.000 1.000000000000          3"), "{text}");
        assert!(text.contains("Total count    =            3]"), "{text}");
    }
}
