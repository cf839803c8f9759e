//! How long single calls took: histograms, one a rank, and their merging on rank 0.

use std::time::Duration;

use dure::{Communicator, ErrorKind};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::Serialize;

/// What one rank saw of one row.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Time of all measured calls together.
    pub(crate) elapsed: Duration,
    /// Wrong elements; none if nothing was checked.
    pub(crate) wrong: u64,
    /// Wires that have failed and are not back, a sentence for each peer.
    pub(crate) degraded: Vec<String>,
    /// Nanoseconds of each call.
    pub(crate) histogram: Histogram<u64>,
}

/// Longest time that is told from longer ones: an hour.
const LONGEST: u64 = 3_600_000_000_000;
/// Digits that are kept of each time.
const DIGITS: u8 = 3;

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS)
        .expect("the bounds are in order, and the digits at most five")
}

/// Times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Self {
            min: micros(histogram.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(histogram.max()),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "times are shorter than 2^53 ns, which are 104 days"
)]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// The histograms of all ranks as one.
pub(crate) fn merged(reports: &[Report]) -> Histogram<u64> {
    let mut all = histogram();
    for report in reports {
        all.add(&report.histogram).expect("all histograms have the same bounds");
    }
    all
}

/// Brings bytes of all ranks to rank 0, in order of rank; the others get none.
pub(crate) fn bring(comm: &Communicator, mut bytes: Vec<u8>) -> dure::Result<Option<Vec<Vec<u8>>>> {
    let length = |length: u64| usize::try_from(length).expect("reports are short");
    let mut lengths = vec![0_u64; comm.size() as usize];
    comm.all_gather(&[bytes.len() as u64], &mut lengths)?;
    // Padded to the longest: an algorithm that was asked for by name may serve equal blocks only.
    let longest = length(lengths.iter().max().copied().expect("there is at least one rank"));
    bytes.resize(longest, 0);
    let is_root = comm.rank() == 0;
    let mut all = vec![0_u8; if is_root { longest * lengths.len() } else { 0 }];
    comm.gather(&bytes, is_root.then_some(&mut all[..]), 0)?;
    let blocks = || all.chunks_exact(longest).zip(&lengths);
    Ok(is_root.then(|| blocks().map(|(block, len)| block[..length(*len)].to_vec()).collect()))
}

/// Brings the reports of all ranks to rank 0, in order of rank; the others get none.
pub(crate) fn gather(comm: &Communicator, mine: &Report) -> dure::Result<Option<Vec<Report>>> {
    let Some(all) = bring(comm, mine.encode())? else { return Ok(None) };
    let decode = |(rank, report): (u32, &Vec<u8>)| {
        Report::decode(report).ok_or_else(|| {
            let text = format!(
                "the report of rank {rank} cannot be read: gather does not give what was sent"
            );
            dure::Error::new(ErrorKind::Internal, text)
        })
    };
    (0..).zip(&all).map(decode).collect::<dure::Result<Vec<_>>>().map(Some)
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        let elapsed = u64::try_from(self.elapsed.as_nanos())
            .expect("a run is shorter than five hundred years");
        let degraded = self.degraded.join("\n");
        let numbers = [elapsed, self.wrong, degraded.len() as u64].map(u64::to_le_bytes);
        let mut bytes = [&numbers.concat(), degraded.as_bytes()].concat();
        V2Serializer::new().serialize(&self.histogram, &mut bytes).expect("vectors take all bytes");
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (elapsed, rest) = bytes.split_first_chunk()?;
        let (wrong, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        let (degraded, mut rest) = rest.split_at_checked(len)?;
        let degraded = std::str::from_utf8(degraded).ok()?.lines().map(str::to_owned).collect();
        let histogram = Deserializer::new().deserialize(&mut rest).ok()?;
        let (elapsed, wrong) = (u64::from_le_bytes(*elapsed), u64::from_le_bytes(*wrong));
        Some(Self { elapsed: Duration::from_nanos(elapsed), wrong, degraded, histogram })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(times: &[u64]) -> Report {
        let mut histogram = histogram();
        for time in times {
            histogram.saturating_record(*time);
        }
        let degraded = vec!["to rank 1".to_owned(), "to rank 4".to_owned()];
        Report { elapsed: Duration::from_nanos(times.iter().sum()), wrong: 3, degraded, histogram }
    }

    #[test]
    fn reports_survive_the_wire() {
        let sent = report(&[1_000, 2_000, 900_000]);
        let got = Report::decode(&sent.encode()).unwrap();
        assert_eq!((got.elapsed, got.wrong, got.degraded), (sent.elapsed, 3, sent.degraded));
        assert_eq!(Percentiles::of(&got.histogram), Percentiles::of(&sent.histogram));
        assert!(Report::decode(&[0; 20]).is_none() && Report::decode(&[]).is_none());
    }

    #[test]
    fn merging_keeps_the_slowest_rank() {
        let all = merged(&[report(&[1_000; 99]), report(&[50_000])]);
        let percentiles = Percentiles::of(&all);
        assert!(
            (percentiles.p50 - 1.0).abs() < 0.01 && (percentiles.max - 50.0).abs() < 0.1,
            "{percentiles:?}"
        );
        assert!((percentiles.p99 - 1.0).abs() < 0.01 && percentiles.p999 > 49.0, "{percentiles:?}");
    }
}
