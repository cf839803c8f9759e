//! What the samples say: figures and constants of each class of pairs, and the pairs that fall behind.

use std::fmt::Write as _;

use dure_sim::fit::{FitError, fit_wire};
use dure_sim::{Constants, Wire};
use dure_topology::Source;
use serde::Serialize;

use super::probe::{SIZES, Sample, Way};
use crate::median::median;

/// How many times slower than the median of its class a pair must be to be named.
const SLOW: f64 = 1.5;

/// A rank, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Name {
    pub(super) rank: u32,
    pub(super) host: String,
}

/// Pairs of one kind.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Class {
    class: &'static str,
    /// Pairs that were measured.
    pairs: usize,
    /// Half of the round trip of a short message, all pairs of a round at once, microseconds.
    latency: f64,
    /// Of the longest message in one direction, one pair alone, GB/s.
    alone: f64,
    /// The same, in each direction of all pairs of a round at once.
    together: f64,
    /// What the line through the times of the pair alone has: seconds, and seconds a byte.
    fitted: [f64; 2],
    slow: Vec<Slow>,
}

/// A pair that falls behind.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Slow {
    ranks: [Name; 2],
    /// GB/s, all pairs at once.
    together: f64,
    median: f64,
}

impl Class {
    /// What the samples of a class say; nothing if it has no pairs.
    ///
    /// # Errors
    /// No line fits.
    pub(super) fn of(
        class: &'static str,
        samples: &[&Sample],
        name: impl Fn(u32) -> Name,
    ) -> Result<Option<Self>, FitError> {
        let of = |way: Way| samples.iter().filter(move |sample| sample.way == way);
        let longest = |way| of(way).filter(|sample| sample.bytes == SIZES[SIZES.len() - 1] as u64);
        let pings: Vec<f64> = of(Way::Ping).map(|sample| sample.seconds).collect();
        if pings.is_empty() {
            return Ok(None);
        }
        let alone: Vec<_> = of(Way::Alone).map(|sample| (sample.bytes, sample.seconds)).collect();
        let line = fit_wire(&alone)?;
        let rates: Vec<_> =
            longest(Way::Together).map(|sample| (sample.ranks, sample.rate())).collect();
        let together = median(rates.iter().map(|(_, rate)| *rate).collect());
        let slow = slow(&rates, together).map(|(ranks, rate)| Slow {
            ranks: ranks.map(&name),
            together: rate,
            median: together,
        });
        Ok(Some(Self {
            class,
            pairs: pings.len(),
            latency: 1e6 * median(pings),
            alone: median(longest(Way::Alone).map(|sample| sample.rate()).collect()),
            together,
            fitted: [line.latency, line.per_byte],
            slow: slow.collect(),
        }))
    }

    /// Puts what was measured in place of a wire's constants. A short message takes the latency and the work of both ends;
    /// the receiver of a long one through shared memory reads and copies each byte. What the model counts there stays
    /// there.
    pub(super) fn apply(&self, wire: &mut Wire, copy_per_byte: f64) {
        let [latency, per_byte] = self.fitted;
        let copied = if wire.shared { copy_per_byte } else { 0.0 };
        wire.latency = (latency - 2.0 * wire.overhead).max(0.0);
        wire.per_byte = (per_byte - copied).max(0.0);
        wire.source = Source::Measured;
    }
}

/// The usual constants with those that were measured.
pub(super) fn constants(usual: Constants, [inside, between]: [&Option<Class>; 2]) -> Constants {
    let mut constants = usual;
    let copy = constants.processor.copy_per_byte;
    if let Some(class) = inside {
        class.apply(&mut constants.inside, copy);
    }
    if let Some(class) = between {
        class.apply(&mut constants.between, copy);
    }
    constants
}

/// The classes as a table, and a sentence for each slow pair.
pub(super) fn text<'a>(classes: impl Iterator<Item = &'a Class> + Clone) -> String {
    let mut text = format!(
        "{:<14} {:>6} {:>12} {:>11} {:>16}\n",
        "class", "pairs", "latency us", "GB/s alone", "GB/s all at once"
    );
    for Class { class, pairs, latency, alone, together, .. } in classes.clone() {
        let _ =
            writeln!(text, "{class:<14} {pairs:>6} {latency:>12.2} {alone:>11.2} {together:>16.2}");
    }
    for slow in classes.flat_map(|class| &class.slow) {
        let _ = writeln!(text, "{}", slow.sentence());
    }
    text
}

impl Slow {
    fn sentence(&self) -> String {
        let [a, b] =
            self.ranks.each_ref().map(|Name { rank, host }| format!("rank {rank} (host {host})"));
        format!("{a} and {b}: {:.1} GB/s, others of their class {:.1}", self.together, self.median)
    }
}

/// The pairs whose rate is so far below the median.
fn slow(rates: &[([u32; 2], f64)], median: f64) -> impl Iterator<Item = ([u32; 2], f64)> {
    rates.iter().copied().filter(move |(_, rate)| rate * SLOW < median)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A class of pairs with 1 us and 10 GB/s, but for one with so many GB/s.
    fn class(odd: f64) -> Class {
        let mut samples = Vec::new();
        for (ranks, rate) in [([0, 1], 10.0), ([2, 3], 10.0), ([4, 5], 10.0), ([6, 7], odd)] {
            let mut add = |way, bytes, seconds| {
                samples.push(Sample { way, ranks, bytes, seconds });
            };
            add(Way::Ping, 8, 1e-6);
            for bytes in SIZES.map(|bytes| bytes as u64) {
                add(Way::Together, bytes, bytes as f64 / rate / 1e9);
                if ranks == [0, 1] {
                    add(Way::Alone, bytes, 1e-6 + bytes as f64 * 0.1e-9);
                }
            }
        }
        let name = |rank| Name { rank, host: format!("h{}", rank / 4) };
        Class::of("between hosts", &samples.iter().collect::<Vec<_>>(), name).unwrap().unwrap()
    }

    #[test]
    fn pairs_that_fall_behind_are_named() {
        assert_eq!(class(6.7).slow, []);
        let class = class(6.6);
        let text = text([&class].into_iter());
        let expected =
            "rank 6 (host h1) and rank 7 (host h1): 6.6 GB/s, others of their class 10.0";
        assert_eq!(text.lines().nth(2), Some(expected));
        assert_eq!(class.slow.len(), 1);
    }

    #[test]
    fn what_was_measured_is_in_the_place_of_what_is_usual() {
        let class = Some(class(10.0));
        let usual = Constants::tcp();
        let made = constants(usual, [&None, &class]);
        assert_eq!((made.inside, made.processor), (usual.inside, usual.processor));
        assert_eq!(made.between.source, Source::Measured);
        assert!((made.between.per_byte - 0.1e-9).abs() < 1e-13, "{:?}", made.between);
        // TCP's two ends work longer than all of it took.
        assert_eq!(made.between.latency, 0.0);
        let made = constants(usual, [&class, &None]);
        assert!((made.inside.latency - 0.84e-6).abs() < 1e-10, "{:?}", made.inside);
        assert!((made.inside.per_byte - 0.02e-9).abs() < 1e-13, "{:?}", made.inside);
        assert_eq!(made.between, usual.between);
    }

    #[test]
    fn a_class_without_pairs_has_no_figures() {
        let name = |rank| Name { rank, host: String::new() };
        assert!(Class::of("inside a host", &[], name).unwrap().is_none());
    }
}
