//! The first calls of a size class under `DURE_TUNE=online`: each candidate that is predicted to be nearly the fastest
//! serves a few of them, and the fastest by the ranks' clocks serves the rest.
//!
//! Which candidate serves which call follows from the number of the call, which is the same on all ranks. The clocks are
//! each rank's own: before they decide, the ranks agree on the slowest one's.

use crate::planner::Prediction;

/// Calls that each candidate serves. The first connects and fills caches, and is not counted.
const CALLS_EACH: u32 = 4;
/// Most candidates.
const MOST: usize = 4;
/// A candidate that is predicted to take more than so many times the best one's time is not tried.
const WITHIN: f64 = 1.5;

/// What is known of the candidates of a size class so far.
#[derive(Clone, Debug)]
pub(crate) struct Trial<T> {
    candidates: Vec<T>,
    calls: u32,
    /// Per candidate the shortest time on this rank, seconds.
    shortest: Vec<f32>,
}

/// A call of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Which candidate serves it.
    pub(crate) candidate: usize,
    /// Its time is to be counted.
    pub(crate) counts: bool,
    /// It is the last: the ranks compare.
    pub(crate) is_last: bool,
}

/// The predictions that are worth a trial, best first; one alone needs none.
pub(crate) fn worth_it(predictions: &[Prediction]) -> &[Prediction] {
    let Some(best) = predictions.first() else { return &[] };
    let near = predictions.iter().take_while(|one| one.seconds <= WITHIN * best.seconds).count();
    &predictions[..near.min(MOST)]
}

impl<T> Trial<T> {
    pub(crate) fn new(candidates: Vec<T>) -> Self {
        let shortest = vec![f32::INFINITY; candidates.len()];
        Self { candidates, calls: 0, shortest }
    }

    pub(crate) fn candidate(&self, index: usize) -> &T {
        &self.candidates[index]
    }

    /// The next call.
    pub(crate) fn next(&mut self) -> Attempt {
        let call = self.calls;
        self.calls += 1;
        let candidate = (call / CALLS_EACH) as usize;
        Attempt {
            candidate,
            counts: !call.is_multiple_of(CALLS_EACH),
            is_last: candidate + 1 == self.candidates.len()
                && (call + 1).is_multiple_of(CALLS_EACH),
        }
    }

    /// A call took so long here.
    #[expect(clippy::cast_possible_truncation, reason = "a time needs no more than seven digits")]
    pub(crate) fn took(&mut self, attempt: Attempt, seconds: f64) {
        if attempt.counts {
            let shortest = &mut self.shortest[attempt.candidate];
            *shortest = shortest.min(seconds as f32);
        }
    }

    /// Per candidate the shortest time on this rank; infinite where it was never measured.
    pub(crate) fn shortest(&self) -> &[f32] {
        &self.shortest
    }
}

/// The candidate to keep, when the slowest rank's shortest times are these; the first where none was measured.
pub(crate) fn fastest(slowest: &[f32]) -> usize {
    let best = (0..slowest.len()).min_by(|a, b| slowest[*a].total_cmp(&slowest[*b]));
    best.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_serves_as_many_calls_and_the_first_does_not_count() {
        let mut trial = Trial::new(vec!["a", "b", "c"]);
        let calls: Vec<_> = (0..3 * CALLS_EACH).map(|_| trial.next()).collect();
        for (call, attempt) in (0..).zip(&calls) {
            assert_eq!(attempt.candidate, (call / CALLS_EACH) as usize);
            assert_eq!(attempt.counts, call % CALLS_EACH > 0);
            assert_eq!(attempt.is_last, call + 1 == 3 * CALLS_EACH);
        }
        // Candidate c is the fastest, but for its first call.
        for (attempt, seconds) in
            calls.iter().zip([1.0, 5.0, 6.0, 7.0, 0.1, 4.0, 8.0, 8.0, 99.0, 9.0, 3.0, 9.0])
        {
            trial.took(*attempt, seconds);
        }
        assert_eq!(trial.shortest(), [5.0, 4.0, 3.0]);
        assert_eq!((fastest(trial.shortest()), *trial.candidate(2)), (2, "c"));
        assert_eq!(fastest(&[f32::INFINITY; 2]), 0);
    }
}
