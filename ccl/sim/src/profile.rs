//! A profile: the constants of a machine, and what was measured of each algorithm beyond them. Measured models override
//! computed ones.

use std::collections::BTreeMap;

use dure_plan::Collective;
use serde::{Deserialize, Serialize};

use crate::constants::Constants;
use crate::error::Error;
use crate::fit::{Curve, Excess, FitError, Shrink, fit_curve};

/// What is known of a machine. It is saved and loaded as JSON.
///
/// ```
/// use dure_sim::Profile;
///
/// let profile = Profile::default();
/// assert_eq!(Profile::from_json(&profile.to_json())?, profile);
/// # Ok::<(), dure_sim::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What messages and work cost.
    pub constants: Constants,
    /// What the algorithms take beyond that.
    #[serde(default)]
    pub corrections: Corrections,
}

impl Profile {
    /// The profile as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and names are always written")
    }

    /// Reads a profile.
    ///
    /// # Errors
    ///
    /// [`Error::Profile`] says where the text is none, or which constant or curve makes no sense.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let profile: Self =
            serde_json::from_str(text).map_err(|error| Error::Profile(error.to_string()))?;
        profile.constants.check()?;
        Ok(profile)
    }
}

/// Curves of algorithms, by collective and name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Corrections {
    by_collective: BTreeMap<String, BTreeMap<String, Curve>>,
}

/// A modelled call that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// What it did.
    pub what: Collective,
    /// Name of the algorithm.
    pub algorithm: String,
    /// How far the model was off.
    pub excess: Excess,
}

impl Corrections {
    /// The curve of an algorithm, if it was measured.
    pub fn get(&self, what: Collective, algorithm: &str) -> Option<&Curve> {
        self.by_collective.get(what.name())?.get(algorithm)
    }

    /// What the modelled time of a call is to be multiplied by; 1 for what was never measured.
    pub fn factor(&self, what: Collective, algorithm: &str, bytes: u64, ranks: u32) -> f64 {
        self.get(what, algorithm).map_or(1.0, |curve| curve.factor(bytes, ranks))
    }

    /// Fits a curve for each algorithm of which something was measured. Curves of `self` are what they start from, and
    /// stay for the others.
    ///
    /// # Errors
    ///
    /// [`FitError::Sample`] for an excess that is not finite.
    pub fn fitted(&self, observed: &[Observed], shrink: Shrink) -> Result<Self, FitError> {
        let mut samples = BTreeMap::<(&str, &str), Vec<Excess>>::new();
        for one in observed {
            let of = (one.what.name(), one.algorithm.as_str());
            samples.entry(of).or_default().push(one.excess);
        }
        let mut fitted = self.clone();
        for ((what, algorithm), samples) in samples {
            let curves = fitted.by_collective.entry(what.to_owned()).or_default();
            let curve = fit_curve(&samples, curves.get(algorithm), shrink)?;
            curves.insert(algorithm.to_owned(), curve);
        }
        Ok(fitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHRINK: Shrink = Shrink { level: 0.01, smooth: 0.01, slope: 1.0 };

    fn twice(what: Collective, algorithm: &str) -> Vec<Observed> {
        let excess = |log| Excess { bytes: 1_u64 << log, ranks: 8, log: 2.0_f64.ln() };
        let observed =
            |log| Observed { what, algorithm: algorithm.to_owned(), excess: excess(log) };
        (4..30).map(observed).collect()
    }

    #[test]
    fn only_what_was_measured_is_corrected() {
        let what = Collective::AllReduce;
        let corrections = Corrections::default().fitted(&twice(what, "ring"), SHRINK).unwrap();
        assert!((corrections.factor(what, "ring", 4096, 8) - 2.0).abs() < 0.01);
        assert_eq!(corrections.factor(what, "linear", 4096, 8), 1.0);
        assert_eq!(corrections.factor(Collective::AllGather, "ring", 4096, 8), 1.0);
    }

    #[test]
    fn later_measurements_start_from_earlier_ones() {
        let what = Collective::AllReduce;
        let first = Corrections::default().fitted(&twice(what, "ring"), SHRINK).unwrap();
        let second = first.fitted(&twice(what, "linear"), SHRINK).unwrap();
        assert_eq!(second.get(what, "ring"), first.get(what, "ring"));
        let third = second.fitted(&twice(what, "ring"), SHRINK).unwrap();
        assert!((third.factor(what, "ring", 4096, 8) - 2.0).abs() < 0.01);
    }

    #[test]
    fn a_profile_is_read_as_it_was_written() {
        let what = Collective::Broadcast { root: dure_plan::Rank(3) };
        let corrections = Corrections::default().fitted(&twice(what, "chain"), SHRINK).unwrap();
        let profile = Profile { corrections, ..Profile::default() };
        let read = Profile::from_json(&profile.to_json()).unwrap();
        assert_eq!(read.constants, profile.constants);
        let factor = |of: &Profile| of.corrections.factor(what, "chain", 5000, 8);
        assert!((factor(&read) / factor(&profile) - 1.0).abs() < 1e-9);
        for broken in ["{", "{\"constants\":{}}", "{\"corrections\":{}}"] {
            assert!(matches!(Profile::from_json(broken), Err(Error::Profile(_))), "{broken}");
        }
    }
}
