//! The constants of a machine, from times of whole collectives.

use dure_topology::{Cluster, Source};

use super::FitError;
use super::rates::{Prior, Sample, fit_rates};
use crate::constants::Constants;
use crate::cost::{Call, Cost, Options, cost};
use crate::error::Error;
use crate::network::Network;

/// A call, and how long it took.
#[derive(Clone, Copy, Debug)]
pub struct Timed<'t> {
    /// The call.
    pub call: Call<'t>,
    /// Where its ranks are.
    pub cluster: &'t Cluster,
    /// Seconds until the last rank was done.
    pub seconds: f64,
}

/// What is fitted: latency, overhead and bytes of both classes of wires, reduced and copied bytes, and the rest, which
/// stays as it is.
const KINDS: usize = 9;

/// One standard deviation of the logarithm of a constant before it is measured: a factor of 4.5.
const SPREAD: f64 = 1.5;

/// Rounds of predicting with constants and fitting them to what is then on the critical paths, which change little.
const ROUNDS: usize = 3;

/// Fits the constants of wires and of processors to times of calls. What no call shows stays as it is in `start`, and
/// so do the constants of accelerators and pools.
///
/// The model is not linear in its constants, as they decide which path is critical. But along the critical path it is;
/// so paths and constants are found in turn. Waits are mostly for ports, and count as bytes there.
///
/// # Errors
///
/// Those of [`cost`] but for plans that are too long or have too many edges, which are left out; [`FitError`] where no
/// call is left, or a time is none.
pub fn fit_constants(
    timed: &[Timed<'_>],
    start: &Constants,
    options: &Options,
) -> Result<Constants, MachineError> {
    let mut constants = *start;
    for _ in 0..ROUNDS {
        let mut samples = Vec::with_capacity(timed.len());
        for timed in timed {
            if let Some(cost) = predicted(timed, &constants, options)? {
                samples.push(Sample { counts: counts(&cost, &constants), seconds: timed.seconds });
            }
        }
        let rates = fit_rates(&samples, &priors(start))?;
        let shown = |kind: usize| samples.iter().any(|sample| sample.counts[kind] > 0.0);
        constants = with_rates(start, |kind| shown(kind).then_some(rates[kind]));
    }
    Ok(constants)
}

/// Why constants could not be fitted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MachineError {
    /// A call that cannot be predicted.
    #[error(transparent)]
    Cost(#[from] Error),
    /// Nothing to fit, or times that are none.
    #[error(transparent)]
    Fit(#[from] FitError),
}

/// What a call would take; nothing if its plan is too large to tell.
///
/// # Errors
///
/// Those of [`cost`], but for [`Error::TooManySteps`] and [`Error::TooManyEdges`].
pub fn predicted(
    timed: &Timed<'_>,
    constants: &Constants,
    options: &Options,
) -> Result<Option<Cost>, Error> {
    let network = Network::of(timed.cluster, constants)?;
    match cost(&timed.call, &network, options) {
        Ok(cost) => Ok(Some(cost)),
        Err(Error::TooManySteps { .. } | Error::TooManyEdges { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The constants in the order of [`counts`].
fn rates(of: &Constants) -> [f64; KINDS] {
    let Constants { inside, between, processor, .. } = of;
    [
        between.latency,
        between.overhead,
        between.per_byte,
        inside.latency,
        inside.overhead,
        inside.per_byte,
        processor.reduce_per_byte,
        processor.copy_per_byte,
        1.0,
    ]
}

/// The constants with those rates that were measured.
fn with_rates(start: &Constants, measured: impl Fn(usize) -> Option<f64>) -> Constants {
    let mut fitted = *start;
    let Constants { inside, between, processor, .. } = &mut fitted;
    for (first, wire) in [(0, between), (3, inside)] {
        let places = [&mut wire.latency, &mut wire.overhead, &mut wire.per_byte];
        for (kind, place) in (first..).zip(places) {
            set(place, &mut wire.source, measured(kind));
        }
    }
    for (kind, place) in (6..).zip([&mut processor.reduce_per_byte, &mut processor.copy_per_byte]) {
        set(place, &mut processor.source, measured(kind));
    }
    fitted
}

fn set(constant: &mut f64, source: &mut Source, measured: Option<f64>) {
    if let Some(rate) = measured {
        *constant = rate;
        *source = Source::Measured;
    }
}

/// What constants are taken to be where they are not given: a microsecond, a fast wire, a fast memory.
const USUAL: [f64; KINDS] = [1e-6, 0.25e-6, 0.1e-9, 0.1e-6, 0.1e-6, 0.1e-9, 0.1e-9, 0.1e-9, 1.0];

fn priors(start: &Constants) -> [Prior; KINDS] {
    let given = rates(start);
    let rate = |kind: usize| if given[kind] > 0.0 { given[kind] } else { USUAL[kind] };
    let mut priors = std::array::from_fn(|kind| Prior { rate: rate(kind), spread: SPREAD });
    // As good as fixed.
    priors[KINDS - 1].spread = 1e-3;
    priors
}

/// How often each constant is on the critical path; at last the seconds that come of none of them.
fn counts(cost: &Cost, constants: &Constants) -> [f64; KINDS] {
    let found = &cost.counts;
    let mut counts = [
        found.between.messages,
        found.between.overheads,
        found.between.bytes,
        found.inside.messages,
        found.inside.overheads,
        found.inside.bytes,
        found.reduced_bytes,
        found.copied_bytes,
        0.0,
    ];
    let rates = rates(constants);
    if found.between.messages > 0.0 && rates[2] > 0.0 {
        counts[2] += cost.parts.wait / rates[2];
    }
    let known: f64 = counts.iter().zip(&rates).map(|(count, rate)| count * rate).sum();
    counts[KINDS - 1] = (cost.seconds - known).max(0.0);
    counts
}
