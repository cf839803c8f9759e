//! Every algorithm of dure-plan, each in a communicator that may use no other.

use std::collections::BTreeSet;

use dure::config::AlgorithmRules;
use dure::{Collective, Dtype, Error, Rank, ReduceOp, Result};
use dure_plan::{World, algorithms as all_algorithms};

use crate::call::Call;
use crate::seat::Seat;

use super::collectives::roots;

/// Arguments: how many hosts the ranks are on, in blocks of equal length; then elements of the whole vector, in place
/// every other time.
pub(super) fn algorithms(seat: &Seat) -> Result<()> {
    let on = &seat.communicator;
    let ranks = on.size();
    let hosts: u32 = seat.arg(0).parse().expect("the number of hosts");
    let host_of = (0..ranks).map(|rank| rank / ranks.div_ceil(hosts)).collect();
    let world = World { host_of, ..World::flat(ranks) };
    let roots = roots(on);
    let rooted = roots.iter().flat_map(|&root| {
        let root = Rank(root);
        [
            Collective::Broadcast { root },
            Collective::Reduce { root },
            Collective::Gather { root },
            Collective::Scatter { root },
        ]
    });
    let collectives: Vec<Collective> =
        [Collective::AllReduce, Collective::ReduceScatter, Collective::AllGather]
            .into_iter()
            .chain([Collective::AllToAll, Collective::Barrier])
            .chain(rooted)
            .collect();
    let names: BTreeSet<&str> = all_algorithms().iter().map(|by| by.name()).collect();
    for name in names {
        let serves = |what: &&Collective| {
            all_algorithms().iter().any(|by| by.name() == name && by.serves(**what, &world).is_ok())
        };
        let served: Vec<Collective> = collectives.iter().filter(serves).copied().collect();
        one(seat, name, &served)?;
    }
    on.finalize()
}

fn one(seat: &Seat, name: &str, served: &[Collective]) -> Result<()> {
    let rules = AlgorithmRules::parse(name).map_err(Error::invalid_argument)?;
    let config = seat.config.clone().algo(rules);
    let on = seat.communicator.split_with(Some(0), 0, config)?.expect("every rank gave a color");
    let counts: Vec<u64> =
        seat.args[1..].iter().map(|arg| arg.parse().expect("counts are numbers")).collect();
    for &what in served {
        let blocks = u64::from(what.whole(on.size()).max(1));
        for (i, count) in counts.iter().map(|count| count / blocks).enumerate() {
            let in_place = i % 2 == 1;
            if what == Collective::Barrier {
                on.barrier()?;
            } else {
                let call = Call { what, count, dtype: Dtype::Int32, op: ReduceOp::Sum, in_place };
                call.check(&on, &seat.device)?;
            }
            let chosen = on.last_choice().expect("there was a call");
            assert_eq!(chosen.algorithm, name, "for {what}");
        }
    }
    on.finalize()
}
