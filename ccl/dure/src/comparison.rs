//! The end of a trial: the ranks agree on the times of its candidates by an all-reduce of the library's own, behind the
//! last call of the trial.

use std::sync::Arc;

use dure_device::{Combine, Dtype, Memory};
use dure_exec::{Call, Layout, Layouts, Track};
use dure_plan::Collective;

use crate::engine::Engine;
use crate::tuner::{Kind, Trying, Tuner};

/// An all-reduce of times under way.
#[derive(Debug)]
pub(crate) struct Comparison {
    trying: Trying,
    /// This rank's times, and the slowest rank's when the all-reduce is done.
    times: [Box<[f32]>; 2],
}

impl Comparison {
    /// All times are known.
    pub(crate) fn settle(self, tuner: &mut Tuner) {
        tuner.settle(self.trying, &self.times[1]);
    }
}

impl Engine {
    /// Counts the time of the batch under way, if it is a call of a trial, and starts a comparison if it was the last of
    /// one. Whether it did.
    pub(crate) fn compare(&mut self) -> Result<bool, dure_exec::Error> {
        let active = self.active.as_mut().expect("only called with a batch under way");
        let seconds = active.began.take().map(|began| began.elapsed().as_secs_f64());
        for trying in &active.trying {
            if let Some(seconds) = seconds {
                self.tuner.took(*trying, seconds);
            }
        }
        active.trying.retain(|trying| trying.is_last());
        let Some(trying) = active.trying.pop() else { return Ok(false) };
        let mine: Box<[f32]> = self.tuner.shortest(trying).into();
        let mut times = [mine.clone(), mine];
        let decided =
            self.tuner.decide(Collective::AllReduce, size_of_val(&*times[0]) as u64, Kind::Own);
        let Ok(decided) = decided else {
            // The settings leave no all-reduce: the prediction stands, on all ranks.
            self.tuner.settle(trying, &[]);
            return Ok(false);
        };
        let plan = Arc::clone(&self.tuner.decision(decided.id).plan);
        let elems = Layout::Even { elems: times[0].len() as u64, blocks: 1 };
        let layouts = Layouts {
            elem: 4,
            input: elems.clone(),
            output: elems.clone(),
            whole: elems,
            ragged: false,
        };
        let prepared = self.prepare(plan, &layouts, (Dtype::F32, Combine::Max))?;
        let memory =
            |times: &mut Box<[f32]>| Memory::host(times.as_mut_ptr().cast(), size_of_val(&**times));
        let [input, output] = times.each_mut().map(memory);
        let call = Call { prepared, input, output, digest: !self.digest() };
        let active = self.active.as_mut().expect("it was there just now");
        active.calls.push((call, Track::Collective));
        active.comparison = Some(Comparison { trying, times });
        active.run_calls();
        Ok(true)
    }
}
