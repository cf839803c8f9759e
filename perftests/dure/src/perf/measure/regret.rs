//! `--regret`: every way to serve a call, measured in turns, and how far what the library chooses is from the best.

use std::time::{Duration, Instant};

use dure::planner::Prediction;
use dure::{Candidate, Communicator, ReduceOp, Request};
use serde::Serialize;

use super::super::buffer::Calls;
use super::super::collective::{Case, Geometry};
use super::{Bench, size_of};

/// Turns of all candidates: a candidate's time is the median of its turns.
const TURNS: usize = 5;
/// A turn is about so long, and has at most the calls that were asked for.
const TURN: Duration = Duration::from_millis(50);

/// What is known of one size, on rank 0.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Regret {
    pub(crate) size: u64,
    pub(crate) count: u64,
    /// Fastest first.
    pub(crate) candidates: Vec<Timed>,
    /// What the library chooses: one of the candidates.
    pub(crate) chosen: Timed,
    /// Its time over that of the fastest.
    pub(crate) regret: f64,
}

/// A candidate and its time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Timed {
    #[serde(flatten)]
    pub(crate) candidate: Candidate,
    /// Microseconds a call: the mean over calls and ranks of a turn, and of the turns the median.
    pub(crate) time: f64,
    /// What the library predicts, microseconds.
    pub(crate) predicted: f64,
}

impl Bench<'_> {
    /// Measures one case by every candidate. Collective; rank 0 gets the answer. None for messages and v-forms.
    pub(crate) fn regret(&mut self, case: &Case) -> dure::Result<Option<Regret>> {
        let Some(what) =
            case.test.collective(case.root.unwrap_or(0)).filter(|_| !case.test.is_ragged())
        else {
            return Ok(None);
        };
        let comm = self.comm;
        let geometry = Geometry::new(case, comm.size());
        let placement = self.placement(case, &geometry, false);
        let requests = self.requests(case, &geometry, &placement);
        self.prepare(&placement)?;
        let chosen = self.chosen(&requests)?;
        let predictions = comm.explain(what, size_of(case, &geometry)).predictions;
        let mut turns = Vec::with_capacity(predictions.len());
        for Prediction { candidate, .. } in &predictions {
            turns.push(self.first_turn(candidate, &requests)?);
        }
        let mut times = vec![Vec::with_capacity(TURNS); predictions.len()];
        for turn in 0..TURNS {
            // Each begins once in a while, so that what the machine does meets all.
            for place in 0..predictions.len() {
                let index = (place + turn) % predictions.len();
                let candidate = &predictions[index].candidate;
                times[index].push(self.turn(candidate, &requests, turns[index])?);
            }
        }
        comm.pin(None)?;
        let timed = predictions.into_iter().zip(times).map(|(prediction, mut times)| {
            times.sort_by(f64::total_cmp);
            let Prediction { candidate, seconds, .. } = prediction;
            Timed { candidate, time: times[TURNS / 2] * 1e6, predicted: seconds * 1e6 }
        });
        Ok((comm.rank() == 0).then(|| judged(case, &geometry, timed.collect(), &chosen)))
    }

    /// What the library chooses.
    fn chosen(&mut self, requests: &[Request]) -> dure::Result<Candidate> {
        self.comm.pin(None)?;
        Calls::new(self.comm, requests.to_vec(), &mut self.arenas).make()?;
        Ok(self.comm.last_choice().expect("a collective was called"))
    }

    /// How many calls make a turn of a candidate, the same on all ranks. The first call also connects.
    fn first_turn(&mut self, candidate: &Candidate, requests: &[Request]) -> dure::Result<u32> {
        let seconds =
            self.turn(candidate, requests, 1).and_then(|_| self.turn(candidate, requests, 1))?;
        let calls = (TURN.as_secs_f64() / seconds.max(1e-9)).clamp(1.0, self.iterations.into());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a u32"
        )]
        Ok(calls as u32)
    }

    /// Seconds a call of one turn: the mean over ranks, known to all of them.
    fn turn(
        &mut self,
        candidate: &Candidate,
        requests: &[Request],
        count: u32,
    ) -> dure::Result<f64> {
        let comm = self.comm;
        comm.pin(Some(candidate))?;
        let calls = Calls::new(comm, requests.to_vec(), &mut self.arenas);
        calls.make()?;
        comm.barrier()?;
        let begin = Instant::now();
        for _ in 0..count {
            calls.make()?;
        }
        let mine = begin.elapsed().as_secs_f64() / f64::from(count);
        comm.pin(None)?;
        mean(comm, mine)
    }
}

fn mean(comm: &Communicator, mine: f64) -> dure::Result<f64> {
    let mut all = [mine];
    comm.all_reduce(&mut all, ReduceOp::Avg)?;
    Ok(all[0])
}

/// The candidates by time, and where the chosen one is among them.
fn judged(
    case: &Case,
    geometry: &Geometry,
    mut candidates: Vec<Timed>,
    chosen: &Candidate,
) -> Regret {
    candidates.sort_by(|a, b| a.time.total_cmp(&b.time));
    let is_chosen = |timed: &&Timed| timed.candidate == *chosen;
    let chosen =
        candidates.iter().find(is_chosen).expect("the library chooses a candidate").clone();
    let regret = chosen.time / candidates[0].time;
    Regret { size: size_of(case, geometry), count: geometry.count(), candidates, chosen, regret }
}

/// Geometric mean, and the largest.
pub(crate) fn summary(rows: &[Regret]) -> (f64, f64) {
    let logs: f64 = rows.iter().map(|row| row.regret.ln()).sum();
    let count = u32::try_from(rows.len()).map_or(f64::INFINITY, f64::from).max(1.0);
    (((logs / count).exp()), rows.iter().map(|row| row.regret).fold(1.0, f64::max))
}
