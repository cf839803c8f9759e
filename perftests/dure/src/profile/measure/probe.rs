//! The measuring: what each rank does, in the same order as all others.

use std::time::{Duration, Instant};

use dure::{Communicator, ReduceOp};
use serde::{Deserialize, Serialize};

use super::pairs;
use crate::median::median;
use crate::perf::latency;

/// Bytes of the messages, from the shortest to the longest.
pub(super) const SIZES: [usize; 5] = [SHORTEST, 4 << 10, 64 << 10, 1 << 20, LONGEST];
const SHORTEST: usize = 8;
const LONGEST: usize = 8 << 20;

/// Repeats whose median counts, at least and at most.
const LEAST: u64 = 3;
const MOST: u64 = 1000;

/// How it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    /// All pairs of a round sent a short message there and back.
    Ping,
    /// One pair alone sent in one direction.
    Alone,
    /// All pairs of a round sent in both directions.
    Together,
}

/// The time of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) way: Way,
    /// From the first to the second.
    pub(super) ranks: [u32; 2],
    pub(super) bytes: u64,
    pub(super) seconds: f64,
}

impl Sample {
    /// GB/s.
    #[expect(clippy::cast_precision_loss, reason = "messages are shorter than 2^53 bytes")]
    pub(super) fn rate(&self) -> f64 {
        self.bytes as f64 / self.seconds / 1e9
    }
}

/// What a rank does while something is measured.
#[derive(Clone, Copy)]
enum Part {
    /// Sends so many bytes, and waits for a short answer.
    Ask(u32, usize),
    Answer(u32, usize),
    /// Sends and receives so many bytes at once.
    Exchange(u32, usize),
    Rest,
}

/// A rank that measures.
pub(super) struct Probe<'c> {
    comm: &'c Communicator,
    /// Time for each thing that is measured.
    share: Duration,
    given: Vec<u8>,
    got: Vec<u8>,
}

/// Measures all rounds, within about so much time if the wires let it. Collective; rank 0 gets the samples of all ranks.
/// `hosts` has the host of each rank, and is the same on all ranks.
pub(super) fn measure(
    comm: &Communicator,
    hosts: &[u32],
    budget: Duration,
) -> dure::Result<Option<Vec<Sample>>> {
    let alone = pairs::first_of_classes(hosts);
    let rounds = pairs::rounds(comm.size());
    let lengths = u32::try_from(SIZES.len()).expect("there are a few sizes");
    let pairs = u32::try_from(alone.len()).expect("there are two classes");
    let things = rounds * (1 + lengths) + 2 * pairs * lengths;
    let share = budget / things.max(1);
    let mut probe = Probe { comm, share, given: vec![1; LONGEST], got: vec![2; LONGEST] };
    let mut samples = Vec::new();
    for round in 0..rounds {
        samples.extend(probe.round(round)?);
    }
    for [a, b] in alone {
        samples.extend(probe.alone(a, b)?);
        samples.extend(probe.alone(b, a)?);
    }
    let unread = |error: serde_json::Error| {
        dure::Error::new(dure::ErrorKind::Internal, format!("the samples of a rank: {error}"))
    };
    let bytes = serde_json::to_vec(&samples).map_err(unread)?;
    let Some(all) = latency::bring(comm, bytes)? else { return Ok(None) };
    let mut samples = Vec::new();
    for bytes in &all {
        samples.extend(serde_json::from_slice::<Vec<Sample>>(bytes).map_err(unread)?);
    }
    Ok(Some(samples))
}

impl Probe<'_> {
    /// All pairs at once. The lower rank of each has the samples.
    fn round(&mut self, round: u32) -> dure::Result<Vec<Sample>> {
        let me = self.comm.rank();
        let partner = pairs::partner(me, round, self.comm.size());
        let keeps = partner.filter(|partner| me < *partner);
        let part = match partner {
            Some(peer) if me < peer => Part::Ask(peer, SHORTEST),
            Some(peer) => Part::Answer(peer, SHORTEST),
            None => Part::Rest,
        };
        let there_and_back = self.median(part)?;
        let mut samples = Vec::new();
        let mut keep = |way, bytes: usize, seconds| {
            if let Some(peer) = keeps {
                samples.push(Sample { way, ranks: [me, peer], bytes: bytes as u64, seconds });
            }
        };
        keep(Way::Ping, SHORTEST, there_and_back / 2.0);
        for bytes in SIZES {
            let part = partner.map_or(Part::Rest, |peer| Part::Exchange(peer, bytes));
            let seconds = self.median(part)?;
            keep(Way::Together, bytes, seconds);
        }
        Ok(samples)
    }

    /// One pair, one direction, while the others rest. The sender has the samples.
    fn alone(&mut self, from: u32, to: u32) -> dure::Result<Vec<Sample>> {
        let me = self.comm.rank();
        let (mut samples, mut answer) = (Vec::new(), 0.0);
        for bytes in SIZES {
            let part = match me {
                _ if me == from => Part::Ask(to, bytes),
                _ if me == to => Part::Answer(from, bytes),
                _ => Part::Rest,
            };
            let there_and_back = self.median(part)?;
            if bytes == SHORTEST {
                answer = there_and_back / 2.0;
            }
            if me == from {
                // A time is above 0 also where the answer took longer than before.
                let seconds = (there_and_back - answer).max(there_and_back / 2.0);
                let ranks = [from, to];
                samples.push(Sample { way: Way::Alone, ranks, bytes: bytes as u64, seconds });
            }
        }
        Ok(samples)
    }

    /// The median of as many times as the slowest rank has time for. Collective: all ranks repeat equally often.
    fn median(&mut self, part: Part) -> dure::Result<f64> {
        // The first makes the connection.
        self.once(part)?;
        let mut slowest = [nanos(self.once(part)?)];
        self.comm.all_reduce(&mut slowest, ReduceOp::Max)?;
        let count = (nanos(self.share) / slowest[0].max(1)).clamp(LEAST, MOST);
        self.comm.barrier()?;
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(self.once(part)?.as_secs_f64());
        }
        Ok(median(times))
    }

    fn once(&mut self, part: Part) -> dure::Result<Duration> {
        let Self { comm, given, got, .. } = self;
        let begin = Instant::now();
        match part {
            Part::Ask(peer, bytes) => {
                comm.send(&given[..bytes], peer)?;
                comm.recv(&mut got[..SHORTEST], peer)?;
            }
            Part::Answer(peer, bytes) => {
                comm.recv(&mut got[..bytes], peer)?;
                comm.send(&given[..SHORTEST], peer)?;
            }
            Part::Exchange(peer, bytes) => comm.group(|group| {
                group.send(&given[..bytes], peer)?;
                group.recv(&mut got[..bytes], peer)
            })?,
            Part::Rest => {}
        }
        Ok(begin.elapsed())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
