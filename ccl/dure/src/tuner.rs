//! Which algorithm and how many lanes serve a call, and the plans that were made so far.
//!
//! The choice is a pure function of what all ranks agree on (the call, the world, the settings): ranks that chose
//! differently would talk past each other.

use std::collections::HashMap;
use std::sync::Arc;

use dure_exec::Plan;
use dure_plan::{
    Algorithm, Choice, Collective, FilePlan, Rank, World, algorithms, choose, to_text,
};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::net::POOL;

/// From this many bytes a call uses all lanes: below it, a second lane costs more signals than it overlaps.
const LANES_FROM: u64 = 1 << 20;

/// Lanes when the settings leave them open.
pub(crate) const DEFAULT_LANES: u16 = 2;

/// The plans of one rank of one communicator.
#[derive(Debug)]
pub(crate) struct Tuner {
    me: Rank,
    world: World,
    config: Arc<Config>,
    /// Plans from a file come before every other choice.
    file: Vec<FilePlan>,
    plans: HashMap<(Collective, String, u16), Arc<Plan>>,
    /// The decisions so far, and their numbers by collective, size class and kind.
    decisions: Vec<Decision>,
    by_call: HashMap<(Collective, u32, bool), DecisionId>,
}

/// What serves some calls.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) plan: Arc<Plan>,
    pub(crate) chosen: Chosen,
}

/// The number of a decision of a [`Tuner`]'s: whoever remembers it need not count references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecisionId(usize);

/// What was chosen, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Name of the algorithm.
    pub algorithm: String,
    /// Number of lanes.
    pub lanes: u16,
    /// Whether it takes blocks of different length as they are.
    pub(crate) ragged: bool,
}

impl Tuner {
    pub(crate) fn new(me: Rank, world: World, config: Arc<Config>, file: Vec<FilePlan>) -> Self {
        Self {
            me,
            world,
            config,
            file,
            plans: HashMap::new(),
            decisions: Vec::new(),
            by_call: HashMap::new(),
        }
    }

    /// What was decided.
    pub(crate) fn decision(&self, id: DecisionId) -> &Decision {
        &self.decisions[id.0]
    }

    /// What serves a call of `bytes` bytes.
    ///
    /// # Errors
    /// `InvalidArgument` when the settings leave no algorithm that serves.
    pub(crate) fn decide(
        &mut self,
        what: Collective,
        bytes: u64,
        ragged: bool,
    ) -> Result<DecisionId> {
        let class = bytes.checked_ilog2().map_or(0, |log| log + 1);
        if let Some(id) = self.by_call.get(&(what, class, ragged)) {
            return Ok(*id);
        }
        // The smallest size of the class stands for all of them, so that the cache is a cache.
        let bytes = if class == 0 { 0 } else { 1 << (class - 1) };
        let file = self.file.iter().find(|plan| self.fits(plan, what, ragged));
        let lanes = match file {
            Some(plan) => plan.world().lanes,
            None if bytes >= LANES_FROM => self.world.lanes,
            None => 1,
        };
        let world = World { lanes, ..self.world.clone() };
        let by: &dyn Algorithm = match file {
            Some(plan) => plan,
            None => self.choose(what, bytes, &world, ragged)?,
        };
        let (name, takes_ragged) = (by.name().to_owned(), by.ragged(what));
        let key = (what, name.clone(), lanes);
        let plan = match self.plans.get(&key) {
            Some(plan) => Arc::clone(plan),
            None => {
                self.dump(what, &world, by);
                Arc::new(Plan::collect(what, &world, by, self.me))
            }
        };
        self.plans.insert(key, Arc::clone(&plan));
        let chosen = Chosen { algorithm: name, lanes, ragged: takes_ragged };
        tracing::debug!(target: "dure::tune", collective = %what, bytes, algorithm = chosen.algorithm, lanes, steps = plan.steps());
        let id = DecisionId(self.decisions.len());
        self.decisions.push(Decision { plan, chosen });
        self.by_call.insert((what, class, ragged), id);
        Ok(id)
    }

    /// Memory of all plans, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.plans.values().map(|plan| plan.bytes()).sum()
    }

    /// Whether a plan from a file is for this collective, these ranks and lanes.
    fn fits(&self, plan: &FilePlan, what: Collective, ragged: bool) -> bool {
        let lanes = plan.world().lanes;
        let world = World { lanes, ..self.world.clone() };
        lanes <= self.world.lanes
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

    fn choose(
        &self,
        what: Collective,
        bytes: u64,
        world: &World,
        ragged: bool,
    ) -> Result<&'static dyn Algorithm> {
        // Settings that differed here would leave ranks of one host that do not reach each other.
        let wired = !self.config.transport.allows(POOL);
        let options = Choice { deterministic: self.config.deterministic, ragged, wired };
        let default = choose(what, bytes, world, options);
        let rules = &self.config.algo;
        let fits = |by: &dyn Algorithm| {
            rules.allows(what.name(), by.name())
                && by.serves(what, world).is_ok()
                && (!ragged || by.ragged(what) || what == Collective::AllToAll)
        };
        if fits(default) {
            return Ok(default);
        }
        if self.config.deterministic {
            let text = format!(
                "no algorithm of DURE_ALGO={rules} is deterministic for {what}: {} is",
                default.name()
            );
            return Err(Error::invalid_argument(text).on(self.me.0));
        }
        algorithms().iter().copied().find(|by| fits(*by)).ok_or_else(|| {
            let reasons: Vec<String> = algorithms()
                .iter()
                .filter(|by| rules.allows(what.name(), by.name()))
                .filter_map(|by| match by.serves(what, world) {
                    Err(refusal) => Some(refusal.to_string()),
                    Ok(()) => (ragged && !by.ragged(what))
                        .then(|| format!("{} needs blocks of equal length", by.name())),
                })
                .collect();
            let text =
                format!("no algorithm of DURE_ALGO={rules} serves {what}: {}", reasons.join("; "));
            Error::invalid_argument(text).on(self.me.0)
        })
    }
}
