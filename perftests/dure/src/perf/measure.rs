//! One row: calls to warm up, calls to measure, calls to check.

pub(crate) mod regret;

use std::sync::Arc;
use std::time::Instant;

use dure::{Action, Communicator, Device, Dtype, Memory, ReduceOp, Request};

use super::args::Args;
use super::buffer::{Arena, Calls, GUARD};
use super::collective::{Case, Geometry, Origin};
use super::latency::{self, Percentiles, Report};
use super::mpi::Mpi;
use super::pattern::Pattern;

/// Measures rows on one communicator.
pub(crate) struct Bench<'c> {
    comm: &'c Communicator,
    /// Makes the same calls, if it was asked for.
    mpi: Option<&'c Mpi>,
    iterations: u32,
    warmups: u32,
    checks: u32,
    /// Separate input and output; in place, the second alone.
    arenas: [Arena<'c>; 2],
    pattern: Pattern,
}

/// What is known of one row, on rank 0.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) case: Case,
    /// Bytes of the whole vector.
    pub(crate) size: u64,
    /// Elements as passed to the call.
    pub(crate) count: u64,
    pub(crate) out_of_place: Figures,
    /// None where input and output cannot be the same memory.
    pub(crate) in_place: Option<Figures>,
    /// None where MPI was not asked for, or has no such call.
    pub(crate) mpi: Option<Figures>,
    pub(crate) algorithm: String,
    pub(crate) lanes: u16,
}

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Mean over ranks of the time of a call, in microseconds.
    pub(crate) time: f64,
    /// GB/s, 10^9 bytes.
    pub(crate) alg_bw: f64,
    pub(crate) bus_bw: f64,
    /// Wrong elements on all ranks; none if nothing was checked.
    pub(crate) wrong: Option<u64>,
    /// Of the calls of all ranks.
    pub(crate) all: Percentiles,
    /// Of the calls of each rank.
    pub(crate) by_rank: Vec<Percentiles>,
    /// Of each rank, wires that have failed and are not back: a sentence for each peer.
    pub(crate) degraded: Vec<Vec<String>>,
}

/// MPI's times over Dure's: above 1 where Dure is faster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratios {
    pub(crate) time: f64,
    pub(crate) p50: f64,
}

impl Row {
    /// The figures of Dure that MPI's are compared with: those of the calls in place where MPI has no others.
    pub(crate) fn rival(&self) -> Option<&Figures> {
        if self.case.test.has_one_buffer_in_mpi() {
            self.in_place.as_ref()
        } else {
            Some(&self.out_of_place)
        }
    }

    /// None where MPI has no figures.
    pub(crate) fn ratios(&self) -> Option<Ratios> {
        let (mpi, dure) = (self.mpi.as_ref()?, self.rival()?);
        Some(Ratios { time: mpi.time / dure.time, p50: mpi.all.p50 / dure.all.p50 })
    }
}

/// What one rank has of one placement; the figures are rank 0's.
struct Measured {
    figures: Option<Figures>,
    mpi: Option<Figures>,
    choice: Choice,
}

/// Input and output of one call of one case, on this rank.
struct Placement {
    /// Arena and first byte of the input, and how many.
    input: Run,
    output: Run,
}

#[derive(Clone, Copy)]
struct Run {
    arena: usize,
    at: usize,
    len: usize,
}

impl<'c> Bench<'c> {
    /// Buffers for the longest of the cases.
    pub(crate) fn new(
        comm: &'c Communicator,
        (args, device): (&Args, Option<&Arc<dyn Device>>),
        mpi: Option<&'c Mpi>,
        cases: &[Case],
    ) -> dure::Result<Self> {
        let longest = |elements: fn(&Geometry, u32) -> u64| {
            let bytes = |case: &Case| {
                elements(&Geometry::new(case, comm.size()), comm.rank()) * case.dtype.size() as u64
            };
            memory_size(cases.iter().map(bytes).max().unwrap_or(0))
        };
        let (input, output) = (longest(Geometry::input), longest(Geometry::output));
        let from = (args.alloc, device);
        let arenas = [Arena::new(comm, from, input)?, Arena::new(comm, from, input.max(output))?];
        let pattern = Pattern::new(Dtype::Uint8, None, comm.size());
        let (iterations, warmups, checks) = (args.iterations, args.warmups, args.checks);
        Ok(Self { comm, mpi, iterations, warmups, checks, arenas, pattern })
    }

    /// Measures one case. Collective; rank 0 gets the row.
    pub(crate) fn row(&mut self, case: &Case) -> dure::Result<Option<Row>> {
        if !self.pattern.is_for(case.dtype, case.op) {
            self.pattern = Pattern::new(case.dtype, case.op, self.comm.size());
        }
        let geometry = Geometry::new(case, self.comm.size());
        let Measured { figures, mpi, choice } = self.measured(case, &geometry, false)?;
        let (in_place, mpi_in_place) = if case.test.has_in_place() {
            let measured = self.measured(case, &geometry, true)?;
            (measured.figures, measured.mpi)
        } else {
            (None, None)
        };
        Ok(figures.map(|out_of_place| Row {
            case: *case,
            size: size_of(case, &geometry),
            count: geometry.count(),
            out_of_place,
            in_place,
            mpi: mpi.or(mpi_in_place),
            algorithm: choice.algorithm,
            lanes: choice.lanes,
        }))
    }

    fn measured(
        &mut self,
        case: &Case,
        geometry: &Geometry,
        in_place: bool,
    ) -> dure::Result<Measured> {
        let placement = self.placement(case, geometry, in_place);
        let requests = self.requests(case, geometry, &placement);
        self.prepare(&placement)?;
        let mut report = self.measure(requests.clone())?;
        let choice = Choice::of(self.comm, case);
        // Right after Dure's loop, on the same buffers: what else the machine does meets both.
        let mpi = if in_place == case.test.has_one_buffer_in_mpi() {
            self.measure_mpi(case, geometry, &requests)?
        } else {
            None
        };
        for _ in 0..self.checks {
            self.prepare(&placement)?;
            Calls::new(self.comm, requests.clone(), &mut self.arenas).make()?;
            for (arena, len) in placement.extents() {
                self.arenas[arena].download(len)?;
            }
            report.wrong += self.wrong(case, geometry, &placement);
        }
        let figures = self.figures(case, geometry, &report, self.checks > 0)?;
        let mpi = match &mpi {
            Some(report) => self.figures(case, geometry, report, false)?,
            None => None,
        };
        Ok(Measured { figures, mpi, choice })
    }

    /// What the reports of all ranks say. Collective; for rank 0.
    fn figures(
        &self,
        case: &Case,
        geometry: &Geometry,
        mine: &Report,
        checked: bool,
    ) -> dure::Result<Option<Figures>> {
        let size = size_of(case, geometry);
        let bus_factor = case.test.bus_factor(self.comm.size());
        let reports = latency::gather(self.comm, mine)?;
        Ok(reports
            .map(|reports| Figures::new(&reports, self.iterations, size, bus_factor, checked)))
    }

    fn measure(&mut self, requests: Vec<Request>) -> dure::Result<Report> {
        let Self { comm, warmups, iterations, .. } = *self;
        let calls = Calls::new(comm, requests, &mut self.arenas);
        let mut report = timed(warmups, iterations, || comm.barrier(), || calls.make())?;
        report.degraded = comm.health()?.detours.iter().map(ToString::to_string).collect();
        Ok(report)
    }

    /// None where MPI was not asked for, or has no such call.
    fn measure_mpi(
        &mut self,
        case: &Case,
        geometry: &Geometry,
        requests: &[Request],
    ) -> dure::Result<Option<Report>> {
        let Some(mpi) = self.mpi.filter(|mpi| mpi.serves(case, geometry)) else {
            return Ok(None);
        };
        let (warmups, iterations) = (self.warmups, self.iterations);
        let calls = mpi.calls(requests, &mut self.arenas);
        let barrier = || {
            mpi.barrier();
            Ok(())
        };
        let call = || {
            calls.make();
            Ok(())
        };
        timed(warmups, iterations, barrier, call).map(Some)
    }

    fn placement(&self, case: &Case, geometry: &Geometry, in_place: bool) -> Placement {
        let bytes = |elements: u64| memory_size(elements * case.dtype.size() as u64);
        let me = self.comm.rank();
        let run = |arena, at, elements| Run { arena, at: bytes(at), len: bytes(elements) };
        let (input, output) = (geometry.input(me), geometry.output(me));
        if in_place {
            let at = geometry.in_place(me);
            Placement { input: run(1, at.input, input), output: run(1, at.output, output) }
        } else {
            Placement { input: run(0, 0, input), output: run(1, 0, output) }
        }
    }

    fn requests(&self, case: &Case, geometry: &Geometry, placement: &Placement) -> Vec<Request> {
        let me = self.comm.rank();
        let memory = |run: Run| self.arenas[run.arena].part(run.at, run.len);
        let op = case.op.map_or(ReduceOp::Sum, |op| op.on(me, case.dtype));
        let request = |action: Action| {
            let (input, output) = match action {
                Action::Send(_) => (memory(placement.input), Memory::EMPTY),
                Action::Recv(_) => (Memory::EMPTY, memory(placement.output)),
                _ => (memory(placement.input), memory(placement.output)),
            };
            Request { action, input, output, dtype: case.dtype, op: op.clone() }
        };
        geometry.actions(me).into_iter().map(request).collect()
    }

    /// Poison in the output, known values in the input, guards around both.
    fn prepare(&mut self, placement: &Placement) -> dure::Result<()> {
        for (arena, len) in placement.extents() {
            self.arenas[arena].poison(len);
        }
        let Run { arena, at, len } = placement.input;
        self.pattern.fill(self.arenas[arena].bytes_mut(at, len), Origin::Rank(self.comm.rank()), 0);
        placement.extents().try_for_each(|(arena, len)| self.arenas[arena].upload(len))
    }

    /// Elements of the output that are wrong, elements of a separate input that changed, and bytes written beside.
    fn wrong(&mut self, case: &Case, geometry: &Geometry, placement: &Placement) -> u64 {
        let Self { comm, arenas, pattern, .. } = self;
        let mut wrong = 0;
        for segment in geometry.segments(comm.rank()) {
            let bytes = |elements: u64| memory_size(elements * case.dtype.size() as u64);
            let (start, end) = (bytes(segment.at.start), bytes(segment.at.end));
            let found =
                arenas[placement.output.arena].bytes(placement.output.at + start, end - start);
            wrong += pattern.wrong(found, segment.of, segment.start);
        }
        let Run { arena, at, len } = placement.input;
        if arena != placement.output.arena {
            wrong += pattern.wrong(arenas[arena].bytes(at, len), Origin::Rank(comm.rank()), 0);
        }
        wrong + placement.extents().map(|(arena, len)| arenas[arena].overruns(len)).sum::<u64>()
    }
}

/// The measured loop. One reading of the clock a call gives both the mean and the percentiles.
fn timed(
    warmups: u32,
    iterations: u32,
    barrier: impl Fn() -> dure::Result<()>,
    call: impl Fn() -> dure::Result<()>,
) -> dure::Result<Report> {
    for _ in 0..warmups {
        call()?;
    }
    let mut stamps = Vec::with_capacity(iterations as usize);
    barrier()?;
    let begin = Instant::now();
    for _ in 0..iterations {
        call()?;
        stamps.push(Instant::now());
    }
    let mut histogram = latency::histogram();
    let mut last = begin;
    for stamp in stamps {
        let nanos =
            u64::try_from((stamp - last).as_nanos()).expect("a call is shorter than centuries");
        histogram.saturating_record(nanos);
        last = stamp;
    }
    Ok(Report { elapsed: last - begin, wrong: 0, degraded: Vec::new(), histogram })
}

/// Bytes of the whole vector.
fn size_of(case: &Case, geometry: &Geometry) -> u64 {
    geometry.whole() * case.dtype.size() as u64
}

impl Placement {
    /// The arenas in use, and how much of each.
    fn extents(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let end = |run: Run| run.at + run.len;
        let (input, output) = (self.input, self.output);
        let shared = input.arena == output.arena;
        let first = (input.arena, if shared { end(input).max(end(output)) } else { end(input) });
        std::iter::once(first).chain((!shared).then_some((output.arena, end(output))))
    }
}

impl Figures {
    fn new(reports: &[Report], iterations: u32, size: u64, bus_factor: f64, checked: bool) -> Self {
        let ranks = f64::from(u32::try_from(reports.len()).expect("ranks are counted in 32 bits"));
        let seconds: f64 =
            reports.iter().map(|report| report.elapsed.as_secs_f64()).sum::<f64>() / ranks;
        let seconds = seconds / f64::from(iterations);
        let alg_bw = if seconds > 0.0 { giga(size) / seconds } else { 0.0 };
        Self {
            time: seconds * 1e6,
            alg_bw,
            bus_bw: alg_bw * bus_factor,
            wrong: checked.then(|| reports.iter().map(|report| report.wrong).sum()),
            all: Percentiles::of(&latency::merged(reports)),
            by_rank: reports.iter().map(|report| Percentiles::of(&report.histogram)).collect(),
            degraded: reports.iter().map(|report| report.degraded.clone()).collect(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a bandwidth has no use for more than 53 bits")]
fn giga(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// Bytes of buffers that exist, or are about to.
fn memory_size(bytes: u64) -> usize {
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes < usize::MAX / 2 - GUARD)
        .unwrap_or(usize::MAX / 2 - GUARD)
}

/// How the library served the measured calls.
struct Choice {
    algorithm: String,
    lanes: u16,
}

impl Choice {
    fn of(comm: &Communicator, case: &Case) -> Self {
        let chosen = comm.last_choice().filter(|_| case.test.collective(0).is_some());
        match chosen {
            Some(chosen) => Self { algorithm: chosen.algorithm, lanes: chosen.lanes },
            None => Self { algorithm: "message".to_owned(), lanes: 1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::args::tests::args;
    use super::*;

    #[test]
    fn bandwidth_is_that_of_nccl_tests() {
        let report = |millis, wrong| Report {
            elapsed: Duration::from_millis(millis),
            wrong,
            degraded: Vec::new(),
            histogram: latency::histogram(),
        };
        let figures = Figures::new(&[report(9, 2), report(11, 0)], 10, 1_000_000, 1.5, true);
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
        assert!(
            close(figures.time, 1000.0) && close(figures.alg_bw, 1.0) && close(figures.bus_bw, 1.5),
            "{figures:?}"
        );
        assert_eq!(figures.wrong, Some(2));
        assert_eq!(Figures::new(&[report(1, 0)], 1, 0, 1.0, false).wrong, None);
    }

    #[test]
    fn in_place_uses_one_arena_and_guards_its_longer_buffer() {
        let extents = |input, output| Placement { input, output }.extents().collect::<Vec<_>>();
        let run = |arena, at, len| Run { arena, at, len };
        assert_eq!(extents(run(0, 0, 8), run(1, 0, 32)), [(0, 8), (1, 32)]);
        assert_eq!(extents(run(1, 16, 8), run(1, 0, 32)), [(1, 32)]);
    }

    /// Prepares a reduce-scatter of one rank, writes the right result by hand, spoils something, and counts.
    fn wrong_after(spoil: impl FnOnce(&mut Bench<'_>, &Placement)) -> u64 {
        let comm = Communicator::builder().connect().unwrap();
        let args = args("reduce-scatter -b 64K -e 64K -d half");
        let case = args.cases(1).unwrap()[0];
        let mut bench = Bench::new(&comm, (&args, None), None, &[case]).unwrap();
        bench.pattern = Pattern::new(case.dtype, case.op, 1);
        let geometry = Geometry::new(&case, 1);
        let placement = bench.placement(&case, &geometry, false);
        bench.prepare(&placement).unwrap();
        let Run { arena, at, len } = placement.output;
        bench.pattern.fill(bench.arenas[arena].bytes_mut(at, len), Origin::All, 0);
        spoil(&mut bench, &placement);
        bench.wrong(&case, &geometry, &placement)
    }

    #[test]
    fn wrong_elements_changed_inputs_and_overruns_count() {
        assert_eq!(wrong_after(|_, _| ()), 0);
        let flip = |run: Run, at: usize| {
            move |bench: &mut Bench<'_>| bench.arenas[run.arena].bytes_mut(at, 1)[0] ^= 1
        };
        assert_eq!(wrong_after(|bench, place| flip(place.output, 100)(bench)), 1, "one element");
        assert_eq!(wrong_after(|bench, place| flip(place.input, 100)(bench)), 1, "the input");
        assert_eq!(
            wrong_after(|bench, place| flip(place.output, place.output.len)(bench)),
            1,
            "behind"
        );
        assert_eq!(
            wrong_after(|bench, place| bench.arenas[place.output.arena].poison(place.output.len)),
            32_768
        );
    }
}
