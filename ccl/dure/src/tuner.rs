//! What serves the calls of a communicator, and the plans that were made so far.
//!
//! The choice is a pure function of what all ranks agree on (the call, the layout, the profile, the settings): ranks that
//! chose differently would talk past each other.

use std::collections::HashMap;
use std::sync::Arc;

use dure_exec::Plan;
use dure_plan::{
    Algorithm, Collective, FilePlan, Rank, World, algorithms, find, fixed, to_text, too_many_edges,
};
use dure_sim::fit::{Excess, Shrink};
use dure_sim::{Observed, Profile};

use crate::config::{Config, Tune};
use crate::error::{Error, Result};
use crate::planner::{Answer, Candidate, Planner, Prediction, Question, Refused};
use crate::trial::{Attempt, Trial, fastest, worth_it};

/// What a few calls measured moves a curve so far, and bends it so little.
const SHRINK: Shrink = Shrink { level: 0.5, smooth: 0.1, slope: 1.0 };

/// From this many bytes a call whose algorithm is not chosen by its time uses all lanes: below, a second lane costs more
/// signals than it overlaps.
const LANES_FROM: u64 = 1 << 20;

/// Lanes when the settings leave them open.
pub(crate) const DEFAULT_LANES: u16 = 2;

/// The plans of one rank of one communicator.
#[derive(Debug)]
pub(crate) struct Tuner {
    me: Rank,
    planner: Arc<Planner>,
    config: Arc<Config>,
    /// Plans from a file come before every choice.
    file: Vec<FilePlan>,
    /// What serves every call that it can serve; comes before all else.
    pin: Option<Candidate>,
    plans: HashMap<(Collective, Candidate), Arc<Plan>>,
    /// The decisions so far, and their numbers by collective, size class and kind.
    decisions: Vec<Decision>,
    by_call: HashMap<Class, DecisionId>,
    /// Classes whose candidates are being tried.
    trials: HashMap<Class, Trial<DecisionId>>,
    /// What trials measured.
    observed: Vec<Observed>,
}

/// Calls that are decided alike: the collective, the bits of their size in bytes, and their kind.
type Class = (Collective, u32, Kind);

/// What calls are told apart by, besides what they do on how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Blocks have the same length.
    Even,
    /// Blocks may differ in length.
    Ragged,
    /// A call with which another begins: not the program's, and not tried.
    Own,
}

impl Kind {
    fn is_ragged(self) -> bool {
        self == Self::Ragged
    }
}

/// What serves a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decided {
    pub(crate) id: DecisionId,
    /// It is part of a trial: the next call like it may be served otherwise.
    pub(crate) trying: Option<Trying>,
}

/// A call of a trial.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trying {
    class: Class,
    attempt: Attempt,
}

impl Trying {
    /// Whether the ranks compare after it.
    pub(crate) fn is_last(self) -> bool {
        self.attempt.is_last
    }
}

/// What serves some calls.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    what: Collective,
    pub(crate) plan: Arc<Plan>,
    pub(crate) candidate: Candidate,
    /// Whether it takes blocks of different length as they are.
    pub(crate) ragged: bool,
}

/// The number of a decision of a [`Tuner`]'s: whoever remembers it need not count references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecisionId(usize);

/// An algorithm and the form in which it serves.
type Choosing<'t> = (&'t dyn Algorithm, Candidate);

impl Tuner {
    pub(crate) fn new(
        me: Rank,
        planner: Arc<Planner>,
        config: Arc<Config>,
        file: Vec<FilePlan>,
    ) -> Self {
        Self {
            me,
            planner,
            config,
            file,
            pin: None,
            plans: HashMap::new(),
            decisions: Vec::new(),
            by_call: HashMap::new(),
            trials: HashMap::new(),
            observed: Vec::new(),
        }
    }

    /// What predicts the calls' times.
    pub(crate) fn planner(&self) -> &Planner {
        &self.planner
    }

    /// What was decided.
    pub(crate) fn decision(&self, id: DecisionId) -> &Decision {
        &self.decisions[id.0]
    }

    /// What serves a call of `bytes` bytes.
    ///
    /// # Errors
    /// `InvalidArgument` when the settings leave no algorithm that serves.
    pub(crate) fn decide(&mut self, what: Collective, bytes: u64, kind: Kind) -> Result<Decided> {
        let class = (what, bytes.checked_ilog2().map_or(0, |log| log + 1), kind);
        if let Some(id) = self.by_call.get(&class) {
            return Ok(Decided { id: *id, trying: None });
        }
        if let Some(trial) = self.trials.get_mut(&class) {
            return Ok(attempt(class, trial));
        }
        if let Some(mut trial) = self.trial(class) {
            let first = attempt(class, &mut trial);
            self.trials.insert(class, trial);
            return Ok(first);
        }
        let (by, candidate) = match self.set(what, kind.is_ragged()) {
            Some(set) => set,
            None => self.choose(what, smallest(class), kind.is_ragged())?,
        };
        let decision = self.plan(what, by, candidate);
        let id = self.keep(decision);
        self.by_call.insert(class, id);
        Ok(Decided { id, trying: None })
    }

    /// The candidates of a class, where they are to be tried and there are several.
    fn trial(&mut self, class: Class) -> Option<Trial<DecisionId>> {
        let (what, _, kind) = class;
        let is_free =
            self.config.tune == Tune::Online && !self.config.deterministic && kind == Kind::Even;
        if !is_free || self.set(what, false).is_some() {
            return None;
        }
        let answer = self.explain(what, smallest(class));
        let candidates = worth_it(&answer.predictions);
        if candidates.len() < 2 {
            return None;
        }
        let mut ids = Vec::with_capacity(candidates.len());
        for Prediction { candidate, .. } in candidates {
            let by = find(what, &candidate.algorithm).expect("candidates are known algorithms");
            let decision = self.plan(what, by, candidate.clone());
            ids.push(self.keep(decision));
        }
        Some(Trial::new(ids))
    }

    /// A call of a trial took so long here.
    pub(crate) fn took(&mut self, trying: Trying, seconds: f64) {
        if let Some(trial) = self.trials.get_mut(&trying.class) {
            trial.took(trying.attempt, seconds);
        }
    }

    /// Per candidate of a trial the shortest time on this rank, seconds.
    pub(crate) fn shortest(&self, trying: Trying) -> &[f32] {
        self.trials.get(&trying.class).map_or(&[], Trial::shortest)
    }

    /// The ranks agree on the slowest one's times: the fastest candidate serves all further calls.
    pub(crate) fn settle(&mut self, trying: Trying, slowest: &[f32]) {
        let class = trying.class;
        let Some(trial) = self.trials.remove(&class) else { return };
        let id = *trial.candidate(fastest(slowest));
        for (index, seconds) in slowest.iter().enumerate() {
            self.observe(class, *trial.candidate(index), f64::from(*seconds));
        }
        let candidate = &self.decision(id).candidate;
        tracing::debug!(target: "dure::tune", collective = %class.0, bytes = smallest(class), algorithm = %candidate, "tried");
        self.by_call.insert(class, id);
    }

    /// Remembers how far the model was off, for a profile.
    fn observe(&mut self, class: Class, id: DecisionId, seconds: f64) {
        let what = class.0;
        let question = Question { what, bytes: smallest(class), elem: 1, ragged: false };
        let candidate = &self.decision(id).candidate;
        let Ok(prediction) = self.planner.predict(&question, candidate) else { return };
        let log = (seconds / prediction.cost.seconds).ln();
        if log.is_finite() {
            let excess =
                Excess { bytes: question.bytes.max(1), ranks: self.planner.world().ranks, log };
            self.observed.push(Observed { what, algorithm: candidate.algorithm.clone(), excess });
        }
    }

    /// The profile that predictions rest on, corrected by what trials measured.
    pub(crate) fn profile(&self) -> Profile {
        let profile = self.planner.profile();
        match profile.corrections.fitted(&self.observed, SHRINK) {
            Ok(corrections) => Profile { constants: profile.constants, corrections },
            Err(_) => profile.clone(),
        }
    }

    /// The plan of an algorithm, made once.
    fn plan(&self, what: Collective, by: &dyn Algorithm, candidate: Candidate) -> Decision {
        let ragged = by.ragged(what);
        let plan = match self.plans.get(&(what, candidate.clone())) {
            Some(plan) => Arc::clone(plan),
            None => self.planner.with(by, &candidate, |by, world| {
                self.dump(what, world, by);
                Arc::new(Plan::collect(what, world, by, self.me))
            }),
        };
        tracing::debug!(target: "dure::tune", collective = %what, algorithm = %candidate, steps = plan.steps());
        Decision { what, plan, candidate, ragged }
    }

    fn keep(&mut self, decision: Decision) -> DecisionId {
        self.plans.insert((decision.what, decision.candidate.clone()), Arc::clone(&decision.plan));
        self.decisions.push(decision);
        DecisionId(self.decisions.len() - 1)
    }

    /// Whether something can be pinned.
    ///
    /// # Errors
    /// `InvalidArgument` names what is wrong, and what is allowed.
    pub(crate) fn check(&self, pin: Option<&Candidate>) -> Result<()> {
        let Some(Candidate { algorithm, lanes, by_fabric }) = pin else { return Ok(()) };
        if !algorithms().iter().any(|by| by.name() == algorithm) {
            let names: Vec<_> = algorithms().iter().map(|by| by.name()).collect();
            let text = format!("no algorithm \"{algorithm}\" (known: {})", names.join(", "));
            return Err(Error::invalid_argument(text));
        }
        let most = self.planner.world().lanes;
        if *lanes == 0 || *lanes > most {
            let text = format!("{lanes} lanes (allowed: 1 to {most})");
            return Err(Error::invalid_argument(text));
        }
        if *by_fabric && self.planner.order().is_none() {
            let text = "no order by the fabric: it is that of the ranks' numbers here";
            return Err(Error::invalid_argument(text));
        }
        Ok(())
    }

    /// From now on `pin` serves every call that it can serve; with `None` calls are decided one by one again. Decisions
    /// made so far are forgotten.
    pub(crate) fn pin(&mut self, pin: Option<Candidate>) {
        self.pin = pin;
        self.by_call.clear();
        self.trials.clear();
        self.decisions.clear();
    }

    /// What may serve a call whose blocks have the same length, and what each would take.
    pub(crate) fn explain(&self, what: Collective, bytes: u64) -> Answer {
        self.planner.answer(&Question { what, bytes, elem: 1, ragged: false })
    }

    /// Memory of all plans, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.plans.values().map(|plan| plan.bytes()).sum()
    }

    /// What serves whatever the size: what is pinned, or a plan from a file.
    fn set(&self, what: Collective, ragged: bool) -> Option<Choosing<'_>> {
        self.pinned(what, ragged).or_else(|| {
            let plan = self.file.iter().find(|plan| self.fits(plan, what, ragged))?;
            Some((plan, plain(plan.name(), plan.world().lanes)))
        })
    }

    /// What is pinned, if it serves.
    fn pinned(&self, what: Collective, ragged: bool) -> Option<Choosing<'_>> {
        let pin = self.pin.as_ref()?;
        let by = find(what, &pin.algorithm)?;
        let serves = |by: &dyn Algorithm, world: &World| {
            by.serves(what, world).is_ok() && (!ragged || by.ragged(what))
        };
        self.planner.with(by, pin, serves).then(|| (by, pin.clone()))
    }

    /// Whether a plan from a file is for this collective, these ranks and lanes.
    fn fits(&self, plan: &FilePlan, what: Collective, ragged: bool) -> bool {
        let lanes = plan.world().lanes;
        let world = World { lanes, ..self.planner.world().clone() };
        lanes <= self.planner.world().lanes
            && plan.serves(what, &world).is_ok()
            && (!ragged || plan.ragged(what))
    }

    /// Writes a plan that comes into use, when the settings name a place for it. Rank 0 does, for all ranks.
    fn dump(&self, what: Collective, world: &World, by: &dyn Algorithm) {
        let Some(prefix) = self.config.plan_dump.as_ref().filter(|_| self.me.0 == 0) else {
            return;
        };
        let path = format!("{}.{}.{}.plan", prefix.display(), what.name(), by.name());
        let text = to_text(what, world, by).unwrap_or_else(|refusal| refusal.to_string());
        if let Err(error) = std::fs::write(&path, text) {
            tracing::warn!(target: "dure::tune", path, %error, "the plan could not be written");
        }
    }

    /// What is chosen for a call: by its time, unless it must have the same algorithm whatever its size.
    fn choose(&self, what: Collective, bytes: u64, ragged: bool) -> Result<Choosing<'_>> {
        if let Some(by) = fixed(what, self.config.deterministic, ragged) {
            return self.choose_fixed(what, bytes, ragged, by);
        }
        let best = self
            .planner
            .choose(&Question { what, bytes, elem: 1, ragged })
            .map_err(|refused| self.nothing_serves(what, &refused))?;
        let by = find(what, &best.algorithm).expect("candidates are known algorithms");
        Ok((by, best))
    }

    /// The fixed algorithm; where the settings leave it out, another that takes what it takes.
    fn choose_fixed(
        &self,
        what: Collective,
        bytes: u64,
        ragged: bool,
        by: &'static dyn Algorithm,
    ) -> Result<Choosing<'_>> {
        let lanes = if bytes >= LANES_FROM { self.planner.world().lanes } else { 1 };
        let rules = &self.config.algo;
        if rules.allows(what.name(), by.name())
            && too_many_edges(what, by, self.planner.world()).is_none()
        {
            return Ok((by, plain(by.name(), lanes)));
        }
        if self.config.deterministic && what.reduces() {
            let text = format!(
                "no algorithm of DURE_ALGO={rules} is deterministic for {what}: {} is",
                by.name()
            );
            return Err(Error::invalid_argument(text).on(self.me.0));
        }
        // The padded form serves an all-to-all by any algorithm.
        let ragged = ragged && what != Collective::AllToAll;
        let (candidates, refused) =
            self.planner.candidates(&Question { what, bytes, elem: 1, ragged });
        let Some(candidate) = candidates.into_iter().find(|candidate| candidate.lanes == lanes)
        else {
            return Err(self.nothing_serves(what, &refused));
        };
        let by = find(what, &candidate.algorithm).expect("candidates are known algorithms");
        Ok((by, candidate))
    }

    /// An error with the reasons of those that the settings name.
    fn nothing_serves(&self, what: Collective, refused: &[Refused]) -> Error {
        let rules = &self.config.algo;
        let named = refused.iter().filter(|one| rules.allows(what.name(), &one.algorithm));
        let reasons: Vec<String> = named.map(ToString::to_string).collect();
        let text =
            format!("no algorithm of DURE_ALGO={rules} serves {what}: {}", reasons.join("; "));
        Error::invalid_argument(text).on(self.me.0)
    }
}

/// The smallest size of a class, which stands for all of them.
fn smallest((_, bits, _): Class) -> u64 {
    if bits == 0 { 0 } else { 1 << (bits - 1) }
}

/// The next call of a trial.
fn attempt(class: Class, trial: &mut Trial<DecisionId>) -> Decided {
    let attempt = trial.next();
    Decided { id: *trial.candidate(attempt.candidate), trying: Some(Trying { class, attempt }) }
}

/// An algorithm in the order of the ranks' numbers.
fn plain(algorithm: &str, lanes: u16) -> Candidate {
    Candidate { algorithm: algorithm.to_owned(), lanes, by_fabric: false }
}
