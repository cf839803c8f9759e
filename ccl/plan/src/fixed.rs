//! The algorithms of calls whose ranks cannot compare times.

use crate::algorithm::{Algorithm, Collective};
use crate::algorithms::find;

/// The algorithm of a call that must have the same one whatever its size, if it must; it serves in any world.
///
/// With `ragged` blocks (the v-forms) of an exchange, each rank knows no more than the lengths of its own. With
/// `deterministic`, the same inputs give bit-equal results whatever the size of slots, the lanes, the transport and the
/// placement: a collective that reduces then has one algorithm for all sizes, and a uniform one (see
/// [`crate::Proof::uniform`]). Collectives that only move data give the same bits anyhow.
///
/// ```
/// use dure_plan::{Collective, fixed};
///
/// assert_eq!(fixed(Collective::AllReduce, true, false).unwrap().name(), "halving-doubling");
/// assert!(fixed(Collective::AllReduce, false, false).is_none());
/// ```
pub fn fixed(
    what: Collective,
    deterministic: bool,
    ragged: bool,
) -> Option<&'static dyn Algorithm> {
    let name = match what {
        Collective::AllToAll | Collective::ReduceScatter if ragged => "pairwise",
        Collective::Gather { .. } | Collective::Scatter { .. } if ragged => "linear",
        Collective::Reduce { .. } if deterministic => "binomial",
        Collective::AllReduce | Collective::ReduceScatter if deterministic => "halving-doubling",
        _ => return None,
    };
    Some(find(what, name).expect("these serve the collective"))
}
