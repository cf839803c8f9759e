//! What a call would take: the plan of all ranks, run against the model.

use dure_plan::{Algorithm, Collective, Rank, Step, World, algorithms};

use crate::engine::{Engine, Outcome, Seen, Watch};
use crate::error::Error;
use crate::network::Network;
use crate::path::{Counts, Parts, Path};
use crate::program::{Program, Sample};
use crate::setup::Setup;
use crate::sizes::Sizes;
use crate::symmetry::{self, Crowds};

/// How the executor would run the plan, and how much simulation it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Slots of an edge, at least 1.
    pub slots: u32,
    /// Bytes of a slot.
    pub slot_bytes: u32,
    /// Most steps that are simulated one by one, all ranks and passes together. It bounds time (some 100 ns a step on a
    /// core) and memory (16 bytes a step of one pass).
    pub limit_steps: u64,
    /// Most peers that a rank may have slots for.
    pub most_edges: u32,
}

impl Default for Options {
    /// The executor's own slots; a few seconds of simulation at most; 4,096 peers, which have 16 GiB of slots a lane.
    fn default() -> Self {
        Self { slots: 4, slot_bytes: 1 << 20, limit_steps: 5_000_000, most_edges: 4096 }
    }
}

/// How a prediction was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Every step of every rank.
    Exact,
    /// One host for all, which all do the same (see docs/cost-model.md).
    Representative,
}

/// What a call would take.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Until the last rank is done, seconds.
    pub seconds: f64,
    /// What these seconds are made of, along the path of the messages and steps that nobody could have been without.
    pub parts: Parts,
    /// What that path consists of.
    pub counts: Counts,
    /// Steps of all ranks and passes.
    pub steps: u64,
    /// Bytes that all messages carry together.
    pub wire_bytes: u64,
    /// Memory of slots at the rank that needs most.
    pub slot_bytes: u64,
    /// Peers of the rank that has most.
    pub edges: u32,
    /// The rank whose core works most.
    pub busiest: Rank,
    /// How it was found out.
    pub how: How,
    /// Passes of the plan.
    pub passes: u32,
    /// Passes that were simulated; the others take as long as these do once they follow one another.
    pub simulated_passes: u32,
}

/// A call that is to be predicted.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// What it does.
    pub what: Collective,
    /// Among whom.
    pub world: &'c World,
    /// By which algorithm.
    pub by: &'c dyn Algorithm,
    /// Bytes of the whole vector, as nccl-tests counts it: the larger of a rank's input and output.
    pub bytes: u64,
    /// Bytes of an element.
    pub elem: u32,
}

/// What a call would take. Equal arguments give equal results, to the last bit, wherever it is asked.
///
/// ```
/// use dure_plan::{Collective, World, find};
/// use dure_sim::{Call, Constants, Network, Options, bound, cost};
/// use dure_topology::Cluster;
///
/// let cluster = Cluster::synthetic("2 host * (4 npu + 4 nic)")?;
/// let network = Network::of(&cluster, &Constants::default())?;
/// let world = World { ranks: 8, host_of: cluster.host_of().into(), lanes: 1 };
/// let (what, bytes) = (Collective::AllReduce, 1 << 10);
/// let took = |name| {
///     let by = find(what, name).unwrap();
///     cost(&Call { what, world: &world, by, bytes, elem: 4 }, &network, &Options::default())
/// };
/// let (ring, doubling) = (took("ring")?, took("recursive-doubling")?);
/// assert!(doubling.seconds < ring.seconds);
/// assert!(doubling.fraction_of(&bound(what, bytes, &network)) > 0.2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Refused`] when the algorithm does not serve, [`Error::TooManyEdges`] when a rank would talk to too many,
/// [`Error::TooManySteps`] when the plan is too long and too uneven to simulate, [`Error::Slots`], [`Error::Options`] or
/// [`Error::Cluster`] when the arguments do not fit together; [`Error::Step`] and [`Error::Stuck`] for a plan that is none.
pub fn cost(call: &Call<'_>, network: &Network, options: &Options) -> Result<Cost, Error> {
    predict(call, network, options, ()).map(|(cost, ())| cost)
}

/// When each rank is done with the call, seconds, if every step is simulated.
///
/// # Errors
/// As [`cost`]; also [`Error::TooManySteps`] where one host would stand for all, or passes for others.
pub fn ends(call: &Call<'_>, network: &Network, options: &Options) -> Result<Vec<f64>, Error> {
    let everybody = vec![0.0; call.world.ranks as usize];
    let (cost, Ends(ends)) = predict(call, network, options, Ends(everybody))?;
    if cost.how != How::Exact || cost.passes > cost.simulated_passes {
        return Err(Error::TooManySteps {
            algorithm: call.by.name().to_owned(),
            limit: options.limit_steps,
        });
    }
    Ok(ends)
}

/// Per rank, when it did its last step.
struct Ends(Vec<f64>);

impl Watch for Ends {
    fn step(&mut self, seen: &Seen) {
        let end = &mut self.0[seen.rank as usize];
        *end = end.max(seen.span.1);
    }
}

/// A prediction of which somebody sees the steps: of all ranks, or of those that stand for all.
pub(crate) fn predict<W: Watch>(
    call: &Call<'_>,
    network: &Network,
    options: &Options,
    watch: W,
) -> Result<(Cost, W), Error> {
    let run = Run { call, network, options, most: f64::INFINITY };
    let (simulated, watch) = run.simulate(watch)?.expect("nothing lasts longer than for ever");
    Ok((run.cost_of(&simulated), watch))
}

/// Until the last rank is done, seconds, as [`cost`] has it; `None` when that is more than `most`, which is found out
/// sooner.
///
/// # Errors
/// As [`cost`].
pub fn seconds(
    call: &Call<'_>,
    network: &Network,
    options: &Options,
    most: f64,
) -> Result<Option<f64>, Error> {
    let run = Run { call, network, options, most };
    let simulated = run.simulate(())?;
    Ok(simulated.map(|(simulated, ())| run.end(&simulated).at).filter(|end| *end <= most))
}

/// A simulation that has ended.
struct Simulated {
    program: Program,
    sample: Sample,
    sizes: Sizes,
    outcome: Outcome,
}

/// A call on a network, of interest if it takes `most` seconds at most.
struct Run<'c> {
    call: &'c Call<'c>,
    network: &'c Network,
    options: &'c Options,
    most: f64,
}

impl Run<'_> {
    fn name(&self) -> String {
        self.call.by.name().to_owned()
    }

    fn too_long(&self) -> Error {
        Error::TooManySteps { algorithm: self.name(), limit: self.options.limit_steps }
    }

    fn sizes(&self) -> Result<Sizes, Error> {
        let Call { what, world, by, bytes, elem } = *self.call;
        Sizes::new((what, world), by.shape(what, world), (bytes, elem), self.options)
    }

    fn check(&self) -> Result<(), Error> {
        let Self { call: Call { what, world, by, bytes, elem }, network, options, .. } = *self;
        let refuse = |what, got, allowed| Err(Error::Options { what, got, allowed });
        match (options.slots, *elem) {
            (0, _) => return refuse("slots", 0, "1 or more"),
            (_, 0) => return refuse("the size of an element", 0, "1 byte or more"),
            _ if *bytes > MOST_BYTES => return refuse("the vector's size", *bytes, "2^50 at most"),
            _ => {}
        }
        if world.ranks != network.ranks() || world.host_of.len() != world.ranks as usize {
            return Err(Error::Cluster(format!(
                "it has {} ranks, the world {}, on {} places",
                network.ranks(),
                world.ranks,
                world.host_of.len()
            )));
        }
        if world.lanes == 0 {
            return refuse("lanes", 0, "1 or more");
        }
        if let Some(Rank(root)) = what.root().filter(|Rank(root)| *root >= world.ranks) {
            return refuse("the root", root.into(), "one of the ranks");
        }
        by.serves(*what, world)?;
        self.check_edges()
    }

    /// A flat exchange has an edge to everybody at the first rank, the last one or the root.
    fn check_edges(&self) -> Result<(), Error> {
        let Call { what, world, by, .. } = *self.call;
        let root = what.root().map_or(0, |Rank(root)| root);
        for rank in [0, world.ranks - 1, root] {
            let peers = |step: Step| step.peer().map(|Rank(peer)| peer);
            let mut peers: Vec<u32> =
                by.steps(what, world, Rank(rank), 0).filter_map(peers).collect();
            peers.sort_unstable();
            peers.dedup();
            let edges = u32::try_from(peers.len()).expect("peers are numbered by u32");
            if edges > self.options.most_edges {
                return Err(self.too_many_edges(edges));
            }
        }
        Ok(())
    }

    fn too_many_edges(&self, edges: u32) -> Error {
        let Call { what, world, .. } = *self.call;
        let fewer: Vec<&str> = algorithms()
            .iter()
            .filter(|by| by.name() != self.call.by.name() && by.serves(what, world).is_ok())
            .map(|by| by.name())
            .filter(|name| FEW_EDGES.contains(name))
            .collect();
        Error::TooManyEdges {
            algorithm: self.name(),
            edges,
            slot_bytes: self.slot_bytes(u64::from(edges) * u64::from(world.lanes)),
            allowed: self.options.most_edges,
            instead: match fewer.is_empty() {
                true => "no algorithm of fewer edges serves".to_owned(),
                false => format!(
                    "{} {} fewer",
                    fewer.join(", "),
                    if fewer.len() == 1 { "has" } else { "have" }
                ),
            },
        }
    }

    /// Memory of the slots of so many edges.
    fn slot_bytes(&self, edges: u64) -> u64 {
        edges * u64::from(self.options.slots) * u64::from(self.options.slot_bytes)
    }

    /// Simulates all ranks, or one host for all. `None` when it takes too long.
    fn simulate<W: Watch>(&self, watch: W) -> Result<Option<(Simulated, W)>, Error> {
        self.check()?;
        let (sizes, ranks) = (self.sizes()?, self.call.world.ranks);
        let everybody = Sample { ranks, size: ranks };
        if let Some(program) = self.collect(everybody, &sizes)? {
            let passes = self.passes(&program, sizes.passes());
            return self.simulate_passes((program, everybody), (sizes, passes), watch);
        }
        let sample =
            symmetry::sample(self.network, self.call.world).ok_or_else(|| self.too_long())?;
        let program = self.collect(sample, &sizes)?.ok_or_else(|| self.too_long())?;
        let passes = self.passes(&program, sizes.passes());
        match self.simulate_passes((program, sample), (sizes.levelled(), passes), watch) {
            // What the first host sends is not what it would receive.
            Err(Error::Stuck { .. }) => Err(self.too_long()),
            done => done,
        }
    }

    /// The steps of a sample, unless they are too many.
    fn collect(&self, sample: Sample, sizes: &Sizes) -> Result<Option<Program>, Error> {
        let Call { what, world, by, .. } = *self.call;
        let limit = self.options.limit_steps / FEWEST_PASSES.min(sizes.passes().max(1).into());
        // Before all are collected in vain: what the middle rank has, everybody has.
        let middle = by.steps(what, world, Rank(sample.size / 2), 0);
        let most = limit / (u64::from(sample.size) * u64::from(world.lanes)).max(1);
        let some = usize::try_from(most).unwrap_or(usize::MAX).saturating_add(1);
        if middle.take(some).count() as u64 > most {
            return Ok(None);
        }
        Program::collect((what, world), by, sample, limit)
    }

    /// Passes to simulate: all, or as many as it takes until each is like the one before and slots were used again. More than
    /// the fewest only take half of what is allowed, which is there for plans that are long.
    fn passes(&self, program: &Program, all: u32) -> u32 {
        let enough = u64::from(4 * self.options.slots.min(MOST_SLOTS) + 8);
        let affordable = self.options.limit_steps / 2 / (program.ops.len() as u64).max(1);
        let passes = enough.min(affordable.max(FEWEST_PASSES)).min(u64::from(all));
        u32::try_from(passes).expect("no more than all of them")
    }

    fn simulate_passes<W: Watch>(
        &self,
        (program, sample): (Program, Sample),
        (sizes, passes): (Sizes, u32),
        watch: W,
    ) -> Result<Option<(Simulated, W)>, Error> {
        let mut crowds = (sample.size < sample.ranks).then(|| Crowds::new(self.network, sample));
        let lanes = self.call.world.lanes;
        let setup = Setup::new(
            &program,
            (&sizes, passes, self.options.slots),
            (self.network, lanes),
            |from, to| crowds.as_mut().and_then(|crowds| crowds.of(from, to)),
        );
        let Some((outcome, watch)) = Engine::run(setup, watch, self.most) else { return Ok(None) };
        self.check_end(&outcome)?;
        Ok(Some((Simulated { program, sample, sizes, outcome }, watch)))
    }

    fn check_end(&self, outcome: &Outcome) -> Result<(), Error> {
        let stuck = |rank, step| Err(Error::Stuck { algorithm: self.name(), rank, step });
        let lanes = u32::from(self.call.world.lanes);
        let waits =
            (0..).zip(&outcome.ends).find_map(|(process, end)| end.err().map(|at| (process, at)));
        match waits {
            Some((process, step)) => stuck(process / lanes, step),
            None if outcome.matched => Ok(()),
            None => stuck(0, 0),
        }
    }

    /// When the last rank is done.
    fn end(&self, Simulated { sizes, outcome, .. }: &Simulated) -> Path {
        total(&outcome.passes, (sizes.passes(), sizes.full_passes()), self.options.slots)
    }

    fn cost_of(&self, simulated: &Simulated) -> Cost {
        let path = self.end(simulated);
        let Simulated { program, sample, sizes, outcome } = simulated;
        let sample = *sample;
        let times = u64::from(sample.ranks / sample.size);
        let (all, simulated) = (sizes.passes(), outcome.passes.len());
        let lanes = usize::from(self.call.world.lanes);
        let busy = outcome.busy.chunks(lanes).map(|rank| rank.iter().sum::<f64>());
        let (busiest, _) = (0..)
            .zip(busy)
            .fold((0, -1.0), |most, (rank, busy)| if busy > most.1 { (rank, busy) } else { most });
        let scale =
            if all as usize > simulated { sizes.full_passes() / simulated as f64 } else { 1.0 };
        let edges = program.peers(sample);
        Cost {
            seconds: path.at,
            parts: path.parts,
            counts: path.counts,
            steps: program.ops.len() as u64 * times * u64::from(all),
            wire_bytes: whole(outcome.bytes as f64 * times as f64 * scale),
            slot_bytes: self.slot_bytes(edges.most_in),
            edges: edges.most_peers,
            busiest: Rank(busiest),
            how: if times == 1 { How::Exact } else { How::Representative },
            passes: all,
            simulated_passes: u32::try_from(simulated).unwrap_or(all),
        }
    }
}

/// Algorithms that serve many ranks with few edges, by name.
const FEW_EDGES: [&str; 4] = ["two-level", "two-level-doubling", "bruck", "binomial"];

/// Longest vector: lengths are added up.
const MOST_BYTES: u64 = 1 << 50;

/// Fewest passes from which the others can be told.
const FEWEST_PASSES: u64 = 3;

/// More slots than this do not make the first passes of a plan more alike.
const MOST_SLOTS: u32 = 8;

/// When the last of `all` passes is done, the bytes of which are those of `full` full ones.
///
/// Passes that are not simulated take as long as those of the second half of the ones that are: the first fill the pipe. The
/// last count as little as there are enough others: while they are done nobody sends ahead any more.
fn total(passes: &[Path], (all, full): (u32, f64), slots: u32) -> Path {
    let simulated = passes.len();
    let last = passes.last().copied().unwrap_or_default();
    if simulated == all as usize {
        return last;
    }
    let begin = simulated / 2;
    let rest = simulated.saturating_sub(1 + begin);
    let end = begin + rest - (rest / 2).min(slots as usize);
    let steady = (end - begin) as f64;
    last.extended((&passes[begin], &passes[end]), (full - simulated as f64) / steady)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of bytes, rounded and never negative"
)]
fn whole(bytes: f64) -> u64 {
    bytes.round() as u64
}

#[cfg(test)]
mod tests {
    use dure_plan::Shape;
    use dure_topology::Cluster;

    use super::*;
    use crate::Constants;

    /// 60 passes, of which 24 are simulated, against all 60.
    #[test]
    fn passes_that_are_not_simulated_take_as_long_as_those_that_are() {
        let layout = "fattree levels=2 over=2 leaf=2 / 6 host * (2 npu[gb_per_s=100] + 2 nic)";
        let cluster = Cluster::synthetic(layout).unwrap();
        let network = Network::of(&cluster, &Constants::default()).unwrap();
        let world = World { ranks: 12, host_of: cluster.host_of().into(), lanes: 2 };
        let options = Options { slot_bytes: 1 << 16, ..Options::default() };
        for what in Collective::all(Rank(0)).into_iter().filter(|what| *what != Collective::Barrier)
        {
            for by in algorithms().iter().filter(|by| by.serves(what, &world).is_ok()) {
                let Shape { parts, run, .. } = by.shape(what, &world);
                // So many bytes of the whole vector are a pass of both lanes.
                let pass = 2 * (1_u64 << 16) / u64::from(run) * u64::from(parts * what.whole(12));
                let call = Call { what, world: &world, by: *by, bytes: 60 * pass, elem: 4 };
                let run =
                    Run { call: &call, network: &network, options: &options, most: f64::INFINITY };
                let sizes = run.sizes().unwrap();
                let everybody = Sample { ranks: 12, size: 12 };
                let program = run.collect(everybody, &sizes).unwrap().unwrap();
                let (few, ()) = run.simulate(()).unwrap().unwrap();
                let few = run.cost_of(&few);
                assert_eq!((few.simulated_passes, few.passes >= 60), (24, true), "{by:?}");
                let sizes = run.sizes().unwrap();
                let passes = sizes.passes();
                let all = (sizes, passes);
                let (all, ()) =
                    run.simulate_passes((program, everybody), all, ()).unwrap().unwrap();
                let all = run.cost_of(&all);
                let ratio = few.seconds / all.seconds;
                assert!((ratio - 1.0).abs() < 0.05, "{what} by {}: {ratio}", by.name());
            }
        }
    }
}
