//! Algorithms that are refused because each rank would have an edge to every other of very many.

use dure_plan::{Algorithm, Collective, MOST_PEERS, World, too_many_edges};
use dure_sim::Options;

/// Why an algorithm may not serve a collective in so large a world, for people: its edges, their memory, and what to use
/// instead. `None` when it may.
pub(crate) fn refusal(
    what: Collective,
    by: &dyn Algorithm,
    world: &World,
    options: &Options,
) -> Option<String> {
    let peers = too_many_edges(what, by, world)?;
    let slots = u64::from(peers) * u64::from(world.lanes) * u64::from(options.slots);
    let memory = (slots * u64::from(options.slot_bytes)).div_ceil(1 << 30);
    Some(format!(
        "it gives each rank {peers} edges (allowed: {MOST_PEERS}), whose slots take up to {memory} GiB of it; two-level and bruck need few"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dure_plan::Rank;

    use super::*;
    use crate::config::{AlgorithmRules, Config};
    use crate::error::ErrorKind;
    use crate::planner::{Planner, Quarantine, options};
    use crate::tuner::{Kind, Tuner};
    use dure_sim::Profile;
    use dure_topology::Cluster;

    /// 10,240 ranks on hosts of eight, and what serves an all-to-all of them under rules.
    fn decide(rules: &str, bytes: u64, ragged: bool) -> crate::Result<String> {
        let host_of: Vec<u32> = (0..10_240).map(|rank| rank / 8).collect();
        let cluster = Cluster::of_processors(&host_of, &[8; 1280], None);
        let rules = AlgorithmRules::parse(rules).unwrap();
        let planner = Planner::new(&cluster, 2, Arc::new(Profile::default()), options(10_240))
            .unwrap()
            .restricted(rules.clone(), Quarantine::default());
        let config = Config::default().algo(rules);
        let mut tuner = Tuner::new(Rank(4711), Arc::new(planner), Arc::new(config), Vec::new());
        let kind = if ragged { Kind::Ragged } else { Kind::Even };
        let decided = tuner.decide(Collective::AllToAll, bytes, kind)?;
        Ok(tuner.decision(decided.id).candidate.algorithm.clone())
    }

    #[test]
    fn very_many_ranks_exchange_on_two_levels() {
        for (bytes, ragged) in [(1 << 10, false), (1 << 30, false), (0, true)] {
            let free = decide("", bytes, ragged).unwrap();
            assert!(["two-level", "bruck"].contains(&free.as_str()), "{free}");
            assert_eq!(decide("alltoall:pairwise,bruck", bytes, ragged).unwrap(), "bruck");
            let error = decide("alltoall:pairwise,all-pairs", bytes, ragged).unwrap_err();
            assert_eq!((error.kind, error.rank), (ErrorKind::InvalidArgument, Some(4711)));
        }
        let error = decide("alltoall:pairwise", 1 << 30, false).unwrap_err();
        assert_eq!(
            error.what,
            "no algorithm of DURE_ALGO=all-to-all:pairwise serves all-to-all: pairwise: it gives each rank 10239 edges \
             (allowed: 2048), whose slots take up to 80 GiB of it; two-level and bruck need few"
        );
    }
}
