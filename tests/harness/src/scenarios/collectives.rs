//! Every collective, type and operation, with every byte of the result checked.

use dure::{Collective, Communicator, Dtype, Rank, ReduceOp, Result};

use crate::call::Call;
use crate::data::operations;
use crate::seat::Seat;

/// The collectives that move data, each root from `roots`.
fn moving(roots: &[u32]) -> Vec<Collective> {
    let rooted = roots.iter().flat_map(|&root| {
        let root = Rank(root);
        [Collective::Broadcast { root }, Collective::Gather { root }, Collective::Scatter { root }]
    });
    [Collective::AllGather, Collective::AllToAll].into_iter().chain(rooted).collect()
}

/// The collectives that combine elements.
fn reducing(roots: &[u32]) -> Vec<Collective> {
    let rooted = roots.iter().map(|&root| Collective::Reduce { root: Rank(root) });
    [Collective::AllReduce, Collective::ReduceScatter].into_iter().chain(rooted).collect()
}

/// First and last rank.
pub(super) fn roots(on: &Communicator) -> Vec<u32> {
    let mut roots = vec![0, on.size() - 1];
    roots.dedup();
    roots
}

/// Every collective with blocks of the lengths in the arguments, in place and not.
pub(super) fn collectives(seat: &Seat) -> Result<()> {
    for arg in &seat.args {
        of_count(seat, arg.parse().expect("counts are numbers"))?;
    }
    seat.communicator.finalize()
}

/// Every collective with blocks of `count` elements.
pub(super) fn of_count(seat: &Seat, count: u64) -> Result<()> {
    let on = &seat.communicator;
    let roots = roots(on);
    for what in moving(&roots).into_iter().chain(reducing(&roots)) {
        for in_place in [false, true] {
            let call = Call { what, count, dtype: Dtype::Int64, op: ReduceOp::Sum, in_place };
            call.check(on, &seat.device)?;
        }
    }
    on.barrier()
}

/// Every collective, with operations that devices know: none of it passes through memory of the host, nor is the device's memory
/// mapped in this process.
pub(super) fn on_devices_alone(seat: &Seat) -> Result<()> {
    let on = &seat.communicator;
    let roots = roots(on);
    // When ranks connect, in the first round, each reads a page of the other's device to the host, to compare it.
    for round in 0..2 {
        for arg in &seat.args {
            let count: u64 = arg.parse().expect("counts are numbers");
            for what in moving(&roots).into_iter().chain(reducing(&roots)) {
                for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Avg] {
                    for in_place in [false, true] {
                        let op = op.clone();
                        let call = Call { what, count, dtype: Dtype::F32, op, in_place };
                        let crossed = call.check_crossing(on, &seat.device)?;
                        let me = on.rank();
                        assert!(
                            round == 0 || crossed == Some(0),
                            "rank {me}: {crossed:?} {call:?}"
                        );
                    }
                }
            }
        }
    }
    let maps = std::fs::read_to_string("/proc/self/maps").expect("a process sees its own mappings");
    assert!(!maps.contains("memfd:npu"), "memory of a device is mapped here:\n{maps}");
    on.finalize()
}

/// Every type with every operation that it has, in place and not, and moved by every collective.
pub(super) fn types(seat: &Seat) -> Result<()> {
    let on = &seat.communicator;
    let last = on.size() - 1;
    for dtype in Dtype::ALL {
        for (count, in_place) in [(1, false), (37, true), (300, false)] {
            for what in moving(&[last]) {
                let call = Call { what, count, dtype, op: ReduceOp::Sum, in_place };
                call.check(on, &seat.device)?;
            }
            for op in operations(dtype, on.rank()) {
                for what in reducing(&[last]) {
                    let call = Call { what, count, dtype, op: op.clone(), in_place };
                    call.check(on, &seat.device)?;
                }
            }
        }
    }
    on.finalize()
}

/// Many all-reduces of 8 bytes.
pub(super) fn small_loop(seat: &Seat) -> Result<()> {
    let on = &seat.communicator;
    let times: u64 = seat.arg(0).parse().expect("the number of calls");
    for time in 0..times {
        let mut data = [time + u64::from(on.rank())];
        on.all_reduce(&mut data, ReduceOp::Max)?;
        assert_eq!(data, [time + u64::from(on.size()) - 1]);
    }
    on.finalize()
}
