//! The planner: predicts with profiles that were fitted to measured cells, and chooses.
//!
//! Constants are fitted for each system, library and memory. The curves of the algorithms are fitted on all of them
//! together first: what an algorithm takes beyond its model is mostly its own. Then those of each system, library and
//! memory start from there. So a system on which an algorithm was never measured still knows something of it.

use std::collections::BTreeMap;

use dure_plan::{Algorithm, Collective, find};
use dure_sim::fit::{Excess, MachineError, Shrink, Timed, fit_constants, predicted};
use dure_sim::{Call, Constants, Corrections, Observed, Options, Profile};

use super::cells::Cell;
use super::places::Places;
use super::table::Key;

/// How far a curve that all systems share may bend.
const SHARED: Shrink = Shrink { level: 1.0, smooth: 1.0, slope: 20.0 };

/// How far a system's own may bend away from that.
const OWN: Shrink = Shrink { level: 0.5, smooth: 1.0, slope: 20.0 };

/// Bytes of an element, as it was measured.
const ELEMENT: u32 = 4;

/// Whole messages, as the measured libraries send them: a slot holds any of them. A symmetric plan is soon told from one
/// host; another one is simulated in full if it must.
const SHORT: Options =
    Options { slots: 4, slot_bytes: u32::MAX, limit_steps: 400_000, most_edges: u32::MAX };
const LONG: Options = Options { limit_steps: 40_000_000, ..SHORT };

/// What has constants of its own.
type Group = (String, String, String);

fn group(key: &Key) -> Group {
    (key.system.clone(), key.mpi.clone(), key.memory.clone())
}

/// Profiles of what was measured.
#[derive(Debug)]
pub(super) struct Planner<'c> {
    places: &'c Places,
    own: BTreeMap<Group, Profile>,
    /// For another library or memory of a known system.
    systems: BTreeMap<String, Profile>,
    /// For unknown systems.
    any: Profile,
}

/// Predicted seconds of the algorithms of a cell.
pub(super) type Predicted = BTreeMap<&'static str, f64>;

/// A measured time.
struct Measured<'c> {
    key: &'c Key,
    what: Collective,
    by: &'static dyn Algorithm,
    seconds: f64,
}

impl<'c> Planner<'c> {
    /// Fits profiles to cells.
    ///
    /// # Errors
    ///
    /// What the model refuses, or that there is nothing to fit.
    pub(super) fn fitted(
        cells: &[(&'c Key, &'c Cell)],
        places: &'c Places,
    ) -> Result<Self, MachineError> {
        let measured: Vec<_> = cells.iter().flat_map(|(key, cell)| measured(key, cell)).collect();
        let all: Vec<_> = measured.iter().collect();
        let own = constants_by(&all, places, |one| group(one.key))?;
        let systems = constants_by(&all, places, |one| one.key.system.clone())?;
        let any = constants_by(&all, places, |_| ())?.remove(&()).unwrap_or_default();
        let mut observed = BTreeMap::<Group, Vec<Observed>>::new();
        for one in &measured {
            let of = group(one.key);
            if let Some(seen) = observe(one, &own[&of], places)? {
                observed.entry(of).or_default().push(seen);
            }
        }
        let together: Vec<_> = observed.values().flatten().cloned().collect();
        let shared = Corrections::default().fitted(&together, SHARED)?;
        let with = |constants| Profile { constants, corrections: shared.clone() };
        let mut profiles = BTreeMap::new();
        for (of, constants) in own {
            let seen = observed.get(&of).map_or(&[][..], Vec::as_slice);
            let corrections = shared.fitted(seen, OWN)?;
            profiles.insert(of, Profile { constants, corrections });
        }
        let systems = systems.into_iter().map(|(system, of)| (system, with(of))).collect();
        Ok(Self { places, own: profiles, systems, any: with(any) })
    }

    fn profile(&self, key: &Key) -> &Profile {
        let own = self.own.get(&group(key));
        own.or_else(|| self.systems.get(&key.system)).unwrap_or(&self.any)
    }

    /// Predicts the algorithms that were measured in a cell. One whose plan is too long to tell is never chosen: its
    /// time is infinite.
    ///
    /// # Errors
    ///
    /// What the model refuses.
    pub(super) fn predict(&self, key: &Key, cell: &Cell) -> Result<Predicted, MachineError> {
        let profile = self.profile(key);
        let mut predictions = Predicted::new();
        for (one, name) in measured(key, cell).zip(cell.seconds.keys()) {
            let modelled = modelled(&one, &profile.constants, self.places)?;
            let (bytes, ranks) = (key.bytes, key.ranks);
            let factor = profile.corrections.factor(one.what, name, bytes, ranks);
            predictions.insert(*name, modelled.map_or(f64::INFINITY, |seconds| seconds * factor));
        }
        Ok(predictions)
    }
}

/// The algorithm that is predicted to take least; of equal ones the first by name.
pub(super) fn choose(predicted: &Predicted) -> Option<&'static str> {
    predicted.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|(name, _)| *name)
}

/// The times of a cell, by the names of the algorithms.
fn measured<'c>(key: &'c Key, cell: &'c Cell) -> impl Iterator<Item = Measured<'c>> {
    cell.seconds.iter().map(move |(name, seconds)| {
        let what = key.what().expect("cells are of collectives that Dure has");
        let by = find(what, name).expect("a test compares the names of the table");
        Measured { key, what, by, seconds: *seconds }
    })
}

fn timed<'t>(one: &Measured<'_>, places: &'t Places) -> Timed<'t> {
    let place = places.get(one.key);
    let call = Call {
        what: one.what,
        world: &place.world,
        by: one.by,
        bytes: one.key.bytes,
        elem: ELEMENT,
    };
    Timed { call, cluster: &place.cluster, seconds: one.seconds }
}

/// Fits constants for each of what `of` tells apart.
fn constants_by<'m, 'c, K: Ord>(
    measured: &[&'m Measured<'c>],
    places: &Places,
    of: impl Fn(&'m Measured<'c>) -> K,
) -> Result<BTreeMap<K, Constants>, MachineError> {
    let mut timed_by = BTreeMap::<K, Vec<Timed<'_>>>::new();
    for one in measured {
        timed_by.entry(of(one)).or_default().push(timed(one, places));
    }
    let fit =
        |(of, timed): (K, Vec<_>)| Ok((of, fit_constants(&timed, &Constants::default(), &SHORT)?));
    timed_by.into_iter().map(fit).collect()
}

/// Seconds by the model alone.
fn modelled(
    one: &Measured<'_>,
    constants: &Constants,
    places: &Places,
) -> Result<Option<f64>, MachineError> {
    let timed = timed(one, places);
    let cost = match predicted(&timed, constants, &SHORT)? {
        Some(cost) => Some(cost),
        None => predicted(&timed, constants, &LONG)?,
    };
    Ok(cost.map(|cost| cost.seconds))
}

/// How far the model is off.
fn observe(
    one: &Measured<'_>,
    constants: &Constants,
    places: &Places,
) -> Result<Option<Observed>, MachineError> {
    let modelled = modelled(one, constants, places)?;
    Ok(modelled.map(|modelled| Observed {
        what: one.what,
        algorithm: one.by.name().to_owned(),
        excess: Excess {
            bytes: one.key.bytes,
            ranks: one.key.ranks,
            log: (one.seconds / modelled).ln(),
        },
    }))
}
