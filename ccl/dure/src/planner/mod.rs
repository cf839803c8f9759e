//! Which algorithm serves a call best: every candidate is predicted by the cost model on the cluster's layout, and what
//! was measured corrects the prediction.
//!
//! An answer is a function of the layout, the profile, the settings and the call, all of which the ranks agree on: ranks
//! that chose differently would talk past each other.

pub(crate) mod edges;
pub(crate) mod layout;
mod quarantine;

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, available_parallelism};

use dure_plan::{Algorithm, Collective, Ordered, Rank, Refusal, World, algorithms, find};
pub use dure_sim::Profile;
use dure_sim::{Call, Cost, Network, Options, Timeline, cost, seconds, timeline};
use dure_topology::Cluster;
use serde::{Deserialize, Serialize};

pub use self::quarantine::{Quarantine, QuarantineError};
use crate::config::AlgorithmRules;

/// From this many bytes more than one lane is worth a thought.
const SEVERAL_LANES_FROM: u64 = 256 << 10;

/// From this many ranks on predictions take longer than threads to start.
const THREADS_FROM: u32 = 1024;

/// A way to serve a collective.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// Name of the algorithm.
    pub algorithm: String,
    /// Number of lanes.
    pub lanes: u16,
    /// Whether neighbours in rings and trees are neighbours in the fabric, instead of in the numbers of ranks.
    pub by_fabric: bool,
}

/// With what the planner of a job of so many ranks predicts, where its settings say nothing of slots. When a call of a new
/// size class is made, it simulates so many steps at most for one candidate: enough for three passes of any tree among very
/// many ranks.
pub fn options(ranks: u32) -> Options {
    Options { limit_steps: 200_000.max(300 * u64::from(ranks)), ..Options::default() }
}

/// A call, as far as a choice depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// What it does.
    pub what: Collective,
    /// Bytes of the whole vector: the larger of a rank's input and output.
    pub bytes: u64,
    /// Bytes of an element.
    pub elem: u32,
    /// Whether blocks may differ in length. Predictions are those of equal blocks all the same.
    pub ragged: bool,
}

/// What a candidate would take.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Which.
    pub candidate: Candidate,
    /// Time of the call, seconds: the model's, times `factor`.
    pub seconds: f64,
    /// What measurements of this algorithm make of the model's time; 1 when there are none.
    pub factor: f64,
    /// What the model says.
    pub cost: Cost,
}

/// A candidate that cannot serve, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Name of the algorithm.
    pub algorithm: String,
    /// The reason, for people.
    pub why: String,
}

/// What may serve a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Those that serve, fastest first; equal ones in the order of [`dure_plan::algorithms`].
    pub predictions: Vec<Prediction>,
    /// Those that serve, but whose prediction would take too long; in the order of [`dure_plan::algorithms`].
    pub unpredicted: Vec<Candidate>,
    /// Those that do not serve, of those that know the collective.
    pub refused: Vec<Refused>,
}

impl Answer {
    /// What is to serve: the fastest; where no prediction can be afforded, the first that serves.
    pub fn best(&self) -> Option<&Candidate> {
        let fastest = self.predictions.first().map(|prediction| &prediction.candidate);
        fastest.or_else(|| self.unpredicted.first())
    }
}

impl Display for Candidate {
    /// `ring`, `ring with 2 lanes`, `ring with 2 lanes by fabric`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.algorithm)?;
        if self.lanes > 1 {
            write!(f, " with {} lanes", self.lanes)?;
        }
        if self.by_fabric { f.write_str(" by fabric") } else { Ok(()) }
    }
}

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.algorithm, self.why)
    }
}

/// Predicts and ranks candidates.
#[derive(Clone, Debug)]
pub struct Planner {
    cluster: Arc<Cluster>,
    world: World,
    network: Network,
    profile: Arc<Profile>,
    /// The ranks in the fabric's order, where that is not the order of their numbers.
    order: Option<Box<[u32]>>,
    options: Options,
    rules: AlgorithmRules,
    quarantine: Quarantine,
}

impl Planner {
    /// A planner for the ranks of a cluster, which have `lanes` lanes at most.
    ///
    /// # Errors
    /// [`dure_sim::Error`] when cluster or profile make no sense.
    pub fn new(
        cluster: &Cluster,
        lanes: u16,
        profile: Arc<Profile>,
        options: Options,
    ) -> Result<Self, dure_sim::Error> {
        let network = Network::of(cluster, &profile.constants)?;
        let world = World { ranks: cluster.size(), host_of: cluster.host_of().into(), lanes };
        let order = cluster.order();
        let differs = (0..).zip(&order).any(|(place, rank)| place != *rank);
        Ok(Self {
            cluster: Arc::new(cluster.clone()),
            world,
            network,
            profile,
            order: differs.then_some(order),
            options,
            rules: AlgorithmRules::default(),
            quarantine: Quarantine::default(),
        })
    }

    /// With these algorithms only, and without those that the quarantine names.
    #[must_use]
    pub fn restricted(mut self, rules: AlgorithmRules, quarantine: Quarantine) -> Self {
        (self.rules, self.quarantine) = (rules, quarantine);
        self
    }

    /// The ranks in the fabric's order, where that is not the order of their numbers.
    pub fn order(&self) -> Option<&[u32]> {
        self.order.as_deref()
    }

    /// The ranks, their hosts, and the most lanes.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What was discovered or described.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The network that predictions are made on.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What predictions rest on.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Every way to serve a call, and why the others do not.
    pub(crate) fn candidates(&self, question: &Question) -> (Vec<Candidate>, Vec<Refused>) {
        let (mut all, mut refused) = (Vec::new(), Vec::new());
        let pair = World::flat(2);
        for by in algorithms() {
            let name = by.name();
            let refuse = |why: String| Refused { algorithm: name.to_owned(), why };
            let flat = World { lanes: 1, ..self.world.clone() };
            if let Err(refusal) = by.serves(question.what, &flat) {
                // What never serves this collective was not a candidate.
                if by.serves(question.what, &pair).is_ok() {
                    refused.push(refuse(refusal.why));
                }
            } else if !self.rules.allows(question.what.name(), name) {
                refused.push(refuse(format!("DURE_ALGO={} leaves it out", self.rules)));
            } else if question.ragged && !by.ragged(question.what) {
                refused.push(refuse("it needs blocks of equal length".to_owned()));
            } else if let Some(why) = edges::refusal(question.what, *by, &self.world, &self.options)
            {
                refused.push(refuse(why));
            } else if let Some(why) = self.quarantine.why(question, self.world.ranks, name) {
                refused.push(refuse(format!("in quarantine: {why}")));
            } else {
                all.extend(self.variants(*by, question));
            }
        }
        (all, refused)
    }

    /// An algorithm in every number of lanes and every order that it may have.
    fn variants(&self, by: &'static dyn Algorithm, question: &Question) -> Vec<Candidate> {
        let several = question.bytes >= SEVERAL_LANES_FROM && self.world.lanes > 1;
        let lanes = [Some(1), several.then_some(self.world.lanes)];
        let orders = [Some(false), self.order.as_ref().map(|_| true)];
        let mut variants = Vec::new();
        for lanes in lanes.into_iter().flatten() {
            for by_fabric in orders.into_iter().flatten() {
                let candidate = Candidate { algorithm: by.name().to_owned(), lanes, by_fabric };
                let serves =
                    |by: &dyn Algorithm, world: &World| by.serves(question.what, world).is_ok();
                if self.with(by, &candidate, serves) {
                    variants.push(candidate);
                }
            }
        }
        variants
    }

    /// Hands on a candidate's algorithm, in its order and with its world.
    pub(crate) fn with<R>(
        &self,
        by: &dyn Algorithm,
        candidate: &Candidate,
        with: impl FnOnce(&dyn Algorithm, &World) -> R,
    ) -> R {
        let world = World { lanes: candidate.lanes, ..self.world.clone() };
        match &self.order {
            Some(order) if candidate.by_fabric => with(&Ordered::new(by, &world, order), &world),
            _ => with(by, &world),
        }
    }

    /// Simulates a call by one candidate, and remembers what at most `most` ranks do and when. Corrections by measurement
    /// are left out.
    ///
    /// # Errors
    /// As [`Planner::predict`].
    pub fn timeline(
        &self,
        question: &Question,
        candidate: &Candidate,
        most: usize,
    ) -> Result<Timeline, dure_sim::Error> {
        let Question { what, bytes, elem, .. } = *question;
        let by = find(what, &candidate.algorithm).ok_or_else(|| unknown(question, candidate))?;
        self.with(by, candidate, |by, world| {
            let call = Call { what, world, by, bytes, elem };
            timeline(&call, &self.network, &self.options, most)
        })
    }

    /// Predicts what one candidate would take.
    ///
    /// # Errors
    /// [`dure_sim::Error`] for an algorithm that does not serve, or cannot be afforded or predicted here.
    pub fn predict(
        &self,
        question: &Question,
        candidate: &Candidate,
    ) -> Result<Prediction, dure_sim::Error> {
        let Question { what, bytes, elem, .. } = *question;
        let by = find(what, &candidate.algorithm).ok_or_else(|| unknown(question, candidate))?;
        let cost = self.with(by, candidate, |by, world| {
            cost(&Call { what, world, by, bytes, elem }, &self.network, &self.options)
        })?;
        let factor = self.factor(question, candidate);
        Ok(Prediction {
            candidate: candidate.clone(),
            seconds: cost.seconds * factor,
            factor,
            cost,
        })
    }

    /// What is to serve a call: what [`Answer::best`] of [`Planner::answer`] is, found sooner, as a candidate is dropped once
    /// it is slower than another.
    ///
    /// # Errors
    /// Nothing serves: why each does not.
    pub(crate) fn choose(&self, question: &Question) -> Result<Candidate, Vec<Refused>> {
        let (candidates, mut refused) = self.candidates(question);
        let mut best: Option<(f64, usize)> = None;
        let mut unpredicted: Option<usize> = None;
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        // Plans of few steps are soon simulated, and seldom much slower than the fastest.
        order.sort_by_cached_key(|at| self.steps(question, &candidates[*at]));
        for at in order {
            let candidate = &candidates[at];
            let most = best.map_or(f64::INFINITY, |(seconds, _)| seconds);
            match self.seconds(question, candidate, most) {
                Ok(None) => {}
                // Among equals the first of the list, as in an answer.
                Ok(Some(seconds)) if best.is_none_or(|best| (seconds, at) < best) => {
                    best = Some((seconds, at));
                }
                Ok(Some(_)) => {}
                Err(dure_sim::Error::TooManySteps { .. }) => {
                    unpredicted = Some(unpredicted.map_or(at, |first| first.min(at)));
                }
                Err(error) => refused.push(Refused {
                    algorithm: candidate.algorithm.clone(),
                    why: error.to_string(),
                }),
            }
        }
        let best = best.map(|(_, at)| at).or(unpredicted);
        best.map(|at| candidates[at].clone()).ok_or(refused)
    }

    /// Steps of the rank in the middle on one lane.
    fn steps(&self, question: &Question, candidate: &Candidate) -> usize {
        let by = find(question.what, &candidate.algorithm).expect("candidates are known");
        let middle = Rank(self.world.ranks / 2);
        self.with(by, candidate, |by, world| by.steps(question.what, world, middle, 0).count())
    }

    /// The time of a candidate, corrected; none if that is more than `most`.
    fn seconds(
        &self,
        question: &Question,
        candidate: &Candidate,
        most: f64,
    ) -> Result<Option<f64>, dure_sim::Error> {
        let Question { what, bytes, elem, .. } = *question;
        let by = find(what, &candidate.algorithm).expect("candidates are known");
        let factor = self.factor(question, candidate);
        // What is as fast as the fastest is not to be lost to rounding.
        let most = most / factor * (1.0 + 1e-9);
        let seconds = self.with(by, candidate, |by, world| {
            let call = Call { what, world, by, bytes, elem };
            seconds(&call, &self.network, &self.options, most)
        })?;
        Ok(seconds.map(|seconds| seconds * factor))
    }

    /// What measurements make of the model's time.
    fn factor(&self, question: &Question, candidate: &Candidate) -> f64 {
        let Question { what, bytes, .. } = *question;
        self.profile.corrections.factor(what, &candidate.algorithm, bytes, self.world.ranks)
    }

    /// Predicts what every candidate would take.
    pub fn answer(&self, question: &Question) -> Answer {
        let (candidates, mut refused) = self.candidates(question);
        let mut predictions = Vec::with_capacity(candidates.len());
        let mut unpredicted = Vec::new();
        let predicted = self.predict_all(question, &candidates);
        for (candidate, predicted) in candidates.into_iter().zip(predicted) {
            match predicted {
                Ok(prediction) => predictions.push(prediction),
                Err(dure_sim::Error::TooManySteps { .. }) => unpredicted.push(candidate),
                Err(error) => {
                    refused
                        .push(Refused { algorithm: candidate.algorithm, why: error.to_string() });
                }
            }
        }
        // A stable sort: among equals the first of the list stays first, on every rank.
        predictions.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        Answer { predictions, unpredicted, refused }
    }

    /// Predicts all candidates, by several threads where that is worth their while.
    fn predict_all(
        &self,
        question: &Question,
        candidates: &[Candidate],
    ) -> Vec<Result<Prediction, dure_sim::Error>> {
        let predict = |candidate| self.predict(question, candidate);
        let threads = available_parallelism().map_or(1, usize::from);
        if self.world.ranks < THREADS_FROM || threads < 2 {
            return candidates.iter().map(predict).collect();
        }
        let next = AtomicUsize::new(0);
        let predicted: Vec<OnceLock<_>> = candidates.iter().map(|_| OnceLock::new()).collect();
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(candidate) = candidates.get(at) else { return };
                predicted[at].get_or_init(|| predict(candidate));
            }
        };
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        let all = predicted.into_iter().map(OnceLock::into_inner);
        all.map(|one| one.expect("each was some thread's")).collect()
    }
}

fn unknown(question: &Question, candidate: &Candidate) -> dure_sim::Error {
    let refusal = Refusal {
        algorithm: candidate.algorithm.clone(),
        what: question.what.to_string(),
        why: "there is no such algorithm".to_owned(),
    };
    refusal.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planner(layout: &str) -> Planner {
        let cluster = Cluster::synthetic(layout).unwrap();
        let options = options(cluster.size());
        Planner::new(&cluster, 2, Arc::default(), options).unwrap()
    }

    #[test]
    fn a_choice_is_the_best_of_the_answer() {
        for layout in ["1 host * 4 npu", "3 host * (2 npu + 2 nic)", "2 rack * 8 host * 1 cpu"] {
            let planner = planner(layout);
            for what in Collective::all(Rank(1)) {
                for bytes in [0, 1 << 10, 1 << 18, 1 << 24] {
                    let question = Question { what, bytes, elem: 1, ragged: false };
                    let answer = planner.answer(&question);
                    let chosen = planner.choose(&question).unwrap();
                    assert_eq!(Some(&chosen), answer.best(), "{layout}: {what} of {bytes}");
                }
            }
        }
    }

    /// With many ranks most plans are not alike on all hosts, and so cannot be told from one.
    #[test]
    fn plans_of_few_steps_are_predicted_among_many_ranks() {
        let planner = planner("fattree levels=3 over=2 / 160 host * (8 npu + 8 nic)");
        let question =
            Question { what: Collective::AllReduce, bytes: 1 << 10, elem: 1, ragged: false };
        let answer = planner.answer(&question);
        let by =
            |name: &str| answer.predictions.iter().position(|one| one.candidate.algorithm == name);
        assert!(by("recursive-doubling").unwrap() < by("two-level-ring").unwrap());
        assert_eq!(planner.choose(&question).ok().as_ref(), answer.best());
    }
}
