//! Constants from measurements: the line of a wire, the rates of a machine, and what each algorithm takes beyond them.
//!
//! All fits are in relative error where times differ by orders of magnitude, are robust against single samples, and
//! give the same answer for the same samples in the same order.

mod curve;
mod line;
mod machine;
mod rates;
mod solve;

pub use self::curve::{Curve, CurveError, Excess, Shrink, fit_curve};
pub use self::line::{Line, fit_wire};
pub use self::machine::{MachineError, Timed, fit_constants, predicted};
pub use self::rates::{Prior, Sample, fit_rates};

/// Why a fit was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// There is nothing to fit, or too little for this kind of fit.
    #[error("{given} usable samples, where at least {least} are needed")]
    TooFew {
        /// Samples that could be used.
        given: usize,
        /// Samples that are needed.
        least: usize,
    },
    /// A sample that cannot be a measurement.
    #[error("sample {index}: {value} {unit}, where a finite number above 0 is needed")]
    Sample {
        /// Its place, from 0.
        index: usize,
        /// What it says.
        value: f64,
        /// In what unit.
        unit: &'static str,
    },
    /// A prior that cannot be one.
    #[error("prior {index}: {value}, where finite numbers above 0 are needed")]
    Prior {
        /// Its place, from 0.
        index: usize,
        /// Its rate or its spread.
        value: f64,
    },
}

/// Refuses what cannot be a time.
fn positive_times(times: impl Iterator<Item = f64>) -> Result<(), FitError> {
    for (index, value) in times.enumerate() {
        if !(value.is_finite() && value > 0.0) {
            return Err(FitError::Sample { index, value, unit: "seconds" });
        }
    }
    Ok(())
}
