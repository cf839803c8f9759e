//! What this host's processor does with the memory of a pool: how long loads, stores and flushes of a line take, and how many
//! bytes a second go which way.
//!
//! Memory is measured that this process has claimed as any process does that uses the pool, so nobody else writes there. What
//! a flush costs depends on where its line is; so before each round, and outside its time, lines are brought to where they
//! are said to be.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dure_transport::{Error, Peer, Result};

use super::isa::{Isa, LINE};
use super::layout::Shape;
use super::open::Trouble;
use super::seat::{State, Tenancy, members};
use super::{NAME, Options};
use crate::ground::{Estate, Owner, Range};
use crate::region::wide;

/// Bytes that are used where nobody says: beyond most caches' own, and soon done.
const USUAL: u64 = 64 << 20;
/// Least bytes, and what they are a multiple of.
const LEAST: u64 = 1 << 20;
/// Bytes that go at a time where bandwidth is measured: with their source or target, in the first-level cache.
const PIECE: usize = 16 << 10;
/// Bytes that stay in a cache.
const CACHED: usize = 128 << 10;
/// Bytes that single lines are chosen from: few enough that the processor finds their pages without a walk.
const SPAN: usize = 4 << 20;
/// Bytes between lines that may be chosen: x86-64 fetches lines in pairs.
const STRIDE: usize = 2 * LINE;
/// Single lines of a round: few enough that all of them fit into a cache.
const LINES: usize = 1024;
/// Name of the job in the claim.
const JOB: [u8; 16] = *b"dure measurement";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A load of a line that is in no cache, on which the next one depends.
    Load,
    /// A look at a line that the cache holds: drop it, fence, load it. What a rank that waits does again and again.
    Look,
    /// A store of a line past the caches, and the fence behind which it is in memory.
    Store,
    /// Writing back a line that was changed, and the fence.
    WriteBackDirty,
    /// Writing back a line that is in the cache and was not changed, and the fence.
    WriteBackClean,
    /// Dropping a line that was changed, and the fence.
    DropDirty,
    /// Dropping a line that is in the cache and was not changed, and the fence.
    DropClean,
    /// Bytes stored through the cache, then written back.
    StreamThrough,
    /// Bytes stored past the caches.
    StreamPast,
    /// Bytes loaded that are in no cache.
    StreamLoad,
    /// Bytes loaded whose lines are dropped before: what a receiver does.
    StreamFresh,
    /// Bytes loaded that are in a cache.
    StreamCached,
    /// Bytes loaded that are in no cache, and stored past the caches elsewhere in the pool.
    StreamCopy,
}

impl What {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 13] = [
        Self::Load,
        Self::Look,
        Self::Store,
        Self::WriteBackDirty,
        Self::WriteBackClean,
        Self::DropDirty,
        Self::DropClean,
        Self::StreamThrough,
        Self::StreamPast,
        Self::StreamLoad,
        Self::StreamFresh,
        Self::StreamCached,
        Self::StreamCopy,
    ];

    /// Whether its figures are bytes a second; the others' are nanoseconds a line.
    pub fn is_bandwidth(self) -> bool {
        match self {
            Self::Load | Self::Look | Self::Store => false,
            Self::WriteBackDirty | Self::WriteBackClean => false,
            Self::DropDirty | Self::DropClean => false,
            Self::StreamThrough | Self::StreamPast | Self::StreamCopy => true,
            Self::StreamLoad | Self::StreamFresh | Self::StreamCached => true,
        }
    }
}

/// What came out, over all rounds: nanoseconds a line, or bytes a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Of what.
    pub what: What,
    /// The round in the middle; of two, the greater.
    pub median: f64,
    /// The least of all rounds.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// Where it was measured, by what, and what came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The pool.
    pub shape: Shape,
    /// The partition of the member that was used.
    pub partition: u32,
    /// The member, which is free again.
    pub member: u32,
    /// Bytes of it that were used.
    pub bytes: u64,
    /// The instructions that store, write back and drop lines.
    pub instructions: [&'static str; 3],
    /// In the order of [`What::ALL`].
    pub figures: Vec<Figure>,
}

/// Measures memory of a pool in so many rounds, at least one, on a member that no process has: `bytes` of it, in units of
/// 1 MiB, or, if that is not said, 64 MiB or as much as there is.
///
/// # Errors
/// [`Error::Failed`] with [`Trouble`], or because another process took the member meanwhile; [`Error::Exhausted`] when no
/// member is free, or has so many bytes.
pub fn measure(
    devices: &[PathBuf],
    bytes: Option<u64>,
    rounds: u32,
    patience: Duration,
) -> Result<Measured> {
    let trouble = |source| Error::Failed { transport: NAME, source: Box::new(source) };
    let isa = Isa::detect().ok_or(Trouble::NoFlush).map_err(trouble)?;
    let (shape, states) = members(devices, patience)?;
    let (partition, member) = free(&states)?;
    let options = Options {
        partition,
        member,
        job: JOB,
        patience,
        ..Options::new(devices.to_vec(), Peer(0), 1)
    };
    let probe = Probe::new(Tenancy::take(&options)?, isa, bytes)?;
    let mut samples = vec![Vec::new(); What::ALL.len()];
    for _ in 0..rounds.max(1) {
        for (what, samples) in What::ALL.into_iter().zip(&mut samples) {
            samples.push(probe.measure(what));
        }
    }
    let figures = What::ALL.into_iter().zip(samples).map(|(what, of)| figure(what, of)).collect();
    let (bytes, instructions) = (probe.range.len, isa.names());
    Ok(Measured { shape, partition, member, bytes, instructions, figures })
}

/// The last member that nobody has: jobs begin with the first ones.
fn free(states: &[Vec<State>]) -> Result<(u32, u32)> {
    let numbered = (0..).zip(states).flat_map(|(partition, states)| {
        (0..).zip(states).map(move |(member, state)| ((partition, member), state))
    });
    let free = numbered.filter(|(_, state)| **state == State::Free).map(|(place, _)| place).last();
    free.ok_or_else(|| Error::Exhausted { transport: NAME, what: "a member to measure".to_owned() })
}

fn figure(what: What, mut of: Vec<f64>) -> Figure {
    of.sort_by(f64::total_cmp);
    Figure { what, median: of[of.len() / 2], least: of[0], most: of[of.len() - 1] }
}

/// Memory that is measured.
#[derive(Debug)]
struct Probe {
    seat: Arc<Tenancy>,
    isa: Isa,
    range: Range,
    /// Where single lines are, in an order that no prefetcher guesses.
    order: Vec<usize>,
    source: Vec<u8>,
}

impl Probe {
    fn new(seat: Arc<Tenancy>, isa: Isa, bytes: Option<u64>) -> Result<Self> {
        let mut len = bytes.unwrap_or(USUAL).max(LEAST) / LEAST * LEAST;
        let range = loop {
            match Owner::take(&**seat, len) {
                Some(range) => break Range { len, ..range },
                None if bytes.is_none() && len > LEAST => len /= 2,
                None => {
                    let what = format!("{len} bytes to measure");
                    return Err(Error::Exhausted { transport: NAME, what });
                }
            }
        };
        // The first store to a page is not one that is measured.
        seat.view.zero(range.at, range.len);
        let len = usize::try_from(range.len).expect("it is mapped");
        let order = order(len.min(SPAN) / STRIDE, LINES).into_iter().map(|at| at * STRIDE);
        Ok(Self { seat, isa, range, order: order.collect(), source: vec![0x5a; PIECE] })
    }

    fn len(&self) -> usize {
        usize::try_from(self.range.len).expect("it is mapped")
    }

    /// Bytes of the memory: mapped as long as `self`, and written by nobody else.
    fn at(&self, at: usize, len: usize) -> *mut u8 {
        assert!(at + len <= self.len(), "{len} bytes at {at} of {}", self.len());
        self.seat.view.memory(self.range.at + wide(at), wide(len)).ptr.as_ptr()
    }

    fn measure(&self, what: What) -> f64 {
        match what {
            What::Load => self.chase(),
            What::Look => {
                self.touch(false);
                self.each_line(|at| {
                    self.drop_lines(at, LINE);
                    self.load(at);
                })
            }
            What::Store => {
                self.drop_lines(0, self.span());
                self.each_line(|at| self.store(at, LINE))
            }
            What::WriteBackDirty | What::WriteBackClean => {
                self.touch(what == What::WriteBackDirty);
                self.each_line(|at| self.write_back(at, LINE))
            }
            What::DropDirty | What::DropClean => {
                self.touch(what == What::DropDirty);
                self.each_line(|at| self.drop_lines(at, LINE))
            }
            _ => self.stream(what),
        }
    }

    /// Bytes a second of a way of access.
    fn stream(&self, what: What) -> f64 {
        let mut sink = vec![0; PIECE];
        let all = self.len();
        self.drop_lines(0, all);
        match what {
            What::StreamThrough => bandwidth(all, |at| {
                self.fill(at);
                self.write_back(at, PIECE);
            }),
            What::StreamPast => bandwidth(all, |at| self.store(at, PIECE)),
            What::StreamFresh => bandwidth(all, |at| {
                self.drop_lines(at, PIECE);
                self.load_piece(at, &mut sink);
            }),
            What::StreamCached => {
                (0..CACHED).step_by(PIECE).for_each(|at| self.load_piece(at, &mut sink));
                bandwidth(all, |at| self.load_piece(at % CACHED, &mut sink))
            }
            What::StreamCopy => bandwidth(all / 2, |at| self.forward(at, all / 2 + at)),
            _ => bandwidth(all, |at| self.load_piece(at, &mut sink)),
        }
    }

    /// Nanoseconds of one load of many, each of which says where the next one is.
    fn chase(&self) -> f64 {
        let span = self.span();
        for (index, at) in self.order.iter().enumerate() {
            self.change(*at, wide(self.order[(index + 1) % self.order.len()]));
        }
        self.drop_lines(0, span);
        let mut at = self.order[0];
        let begin = Instant::now();
        for _ in &self.order {
            // Whatever memory holds, it is a line of the span.
            at = usize::try_from(self.load(at)).unwrap_or(0) % span / LINE * LINE;
        }
        black_box(at);
        nanos_each(begin, self.order.len())
    }

    /// Nanoseconds of what is done to a line, one after the other.
    fn each_line(&self, act: impl Fn(usize)) -> f64 {
        let begin = Instant::now();
        self.order.iter().copied().for_each(act);
        nanos_each(begin, self.order.len())
    }

    /// Brings the single lines into the cache, and changes them or does not.
    fn touch(&self, dirty: bool) {
        self.drop_lines(0, self.span());
        for at in &self.order {
            let held = self.load(*at);
            if dirty {
                self.change(*at, !held);
            }
        }
    }

    /// Bytes that single lines are chosen from.
    fn span(&self) -> usize {
        self.len().min(SPAN)
    }

    /// The first word of a line.
    fn load(&self, at: usize) -> u64 {
        // SAFETY: `at` gives a whole line that is mapped, and lines are aligned.
        unsafe { self.at(at, LINE).cast::<u64>().read_volatile() }
    }

    /// Changes the first word of a line, in the cache.
    fn change(&self, at: usize, word: u64) {
        // SAFETY: as for `load`; nobody else reads or writes the memory.
        unsafe { self.at(at, LINE).cast::<u64>().write_volatile(word) };
    }

    /// Changes a piece, in the cache.
    fn fill(&self, at: usize) {
        // SAFETY: both are so long and apart, and nobody else reads or writes the memory.
        unsafe { self.at(at, PIECE).copy_from_nonoverlapping(self.source.as_ptr(), PIECE) };
    }

    fn load_piece(&self, at: usize, sink: &mut [u8]) {
        let piece = self.at(at, sink.len());
        // SAFETY: so many bytes are mapped there, nobody writes them meanwhile, and the sink is apart from them.
        unsafe { piece.copy_to_nonoverlapping(sink.as_mut_ptr(), sink.len()) };
        black_box(sink);
    }

    /// Stores a piece at most past the caches, and fences.
    fn store(&self, at: usize, len: usize) {
        let from = &self.source[..len];
        // SAFETY: both are so long and apart, and nobody else reads or writes the memory.
        unsafe { self.isa.store(self.at(at, len), from.as_ptr(), len) };
        self.isa.fence();
    }

    /// Stores a piece of the memory elsewhere in it, past the caches, and fences.
    fn forward(&self, from: usize, into: usize) {
        assert!(from.abs_diff(into) >= PIECE, "pieces do not overlap");
        // SAFETY: both are so long and apart, and nobody else reads or writes the memory.
        unsafe { self.isa.store(self.at(into, PIECE), self.at(from, PIECE), PIECE) };
        self.isa.fence();
    }

    /// Writes lines back, and fences.
    fn write_back(&self, at: usize, len: usize) {
        // SAFETY: the range is mapped.
        unsafe { self.isa.write_back(self.at(at, len), len) };
        self.isa.fence();
    }

    /// Drops lines, and fences.
    fn drop_lines(&self, at: usize, len: usize) {
        // SAFETY: the range is mapped.
        unsafe { self.isa.drop_lines(self.at(at, len), len) };
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.seat.inherit(Estate { ranges: vec![self.range], peers: Vec::new() });
    }
}

/// Nanoseconds of each of so many.
fn nanos_each(begin: Instant, count: usize) -> f64 {
    begin.elapsed().as_secs_f64() * 1e9 / count as f64
}

/// Bytes a second of what is done to each piece of so many bytes.
fn bandwidth(bytes: usize, mut act: impl FnMut(usize)) -> f64 {
    let begin = Instant::now();
    for at in (0..bytes).step_by(PIECE) {
        act(at);
    }
    bytes as f64 / begin.elapsed().as_secs_f64().max(1e-9)
}

/// So many of the numbers below `limit`, or all, in an order that looks random.
fn order(limit: usize, count: usize) -> Vec<usize> {
    let mut all: Vec<_> = (0..limit).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..limit).rev() {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = state % (wide(at) + 1);
        all.swap(at, usize::try_from(other).expect("it is below a length"));
    }
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::fd::{AsRawFd, OwnedFd};

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::unistd::ftruncate;

    use super::super::open::{Plan, create};
    use super::*;

    /// A pool on a file without a name, of this process.
    fn pool(bytes: i64, members: u32) -> (OwnedFd, Vec<PathBuf>) {
        let file = memfd_create("dure-measure", MFdFlags::MFD_CLOEXEC).unwrap();
        ftruncate(&file, bytes).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let devices = vec![path];
        create(&devices, Plan { members, partitions: 1, granule: 2 << 20 }).unwrap();
        (file, devices)
    }

    #[test]
    fn every_figure_is_there_and_the_member_is_free_again() {
        let (_file, devices) = pool(8 << 20, 3);
        let patience = Duration::from_secs(1);
        let measured = measure(&devices, None, 3, patience).unwrap();
        assert_eq!((measured.partition, measured.member, measured.bytes), (0, 2, 1 << 20));
        let whats: Vec<_> = measured.figures.iter().map(|figure| figure.what).collect();
        assert_eq!(whats, What::ALL);
        for Figure { what, median, least, most } in measured.figures {
            assert!(0.0 < least && least <= median && median <= most, "{what:?}");
            assert!(most.is_finite(), "{what:?}");
        }
        let (_, states) = members(&devices, patience).unwrap();
        assert!(states[0].iter().all(|state| *state == State::Free), "{states:?}");
    }

    #[test]
    fn what_is_not_there_is_not_measured() {
        let (_file, devices) = pool(8 << 20, 3);
        let patience = Duration::from_secs(5);
        let told = measure(&devices, Some(64 << 20), 1, patience).unwrap_err();
        assert!(
            matches!(&told, Error::Exhausted { what, .. } if what.contains("67108864")),
            "{told}"
        );
        let holder =
            Options { member: 2, job: JOB, patience, ..Options::new(devices.clone(), Peer(0), 1) };
        let _seat = Tenancy::take(&holder).unwrap();
        let (_, states) = members(&devices, patience).unwrap();
        assert_eq!(free(&states).unwrap(), (0, 1));
        assert!(free(&[vec![states[0][2]; 2]]).is_err());
    }

    #[test]
    fn an_order_has_each_number_once() {
        for (limit, count) in [(1, 5), (100, 100), (32_768, 1024)] {
            let order = order(limit, count);
            let different: HashSet<_> = order.iter().collect();
            assert_eq!((order.len(), different.len()), (count.min(limit), count.min(limit)));
            assert!(order.iter().all(|at| *at < limit));
        }
    }
}
