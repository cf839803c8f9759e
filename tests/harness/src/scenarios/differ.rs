//! Ranks that do not call the same thing.

use dure::{Communicator, ReduceOp, Result};

use crate::seat::Seat;

/// A few calls that agree, then the last rank makes another call than the others do: the argument says in what it
/// differs. After that come calls that agree again: at the latest the last of them must fail.
pub(super) fn differ(seat: &Seat) -> Result<()> {
    let on = &seat.communicator;
    for _ in 0..3 {
        on.all_reduce(&mut [1u32; 10], ReduceOp::Sum)?;
    }
    differing(on, seat.arg(0), on.rank() == on.size() - 1)?;
    on.all_reduce(&mut [1u32; 10], ReduceOp::Sum)?;
    on.finalize()
}

fn differing(on: &Communicator, what: &str, other: bool) -> Result<()> {
    let last = on.size() - 1;
    match what {
        "count" => on.all_reduce(&mut vec![1u64; if other { 101 } else { 100 }], ReduceOp::Sum),
        "long-count" => {
            let count = if other { 300_000 } else { 400_000 };
            on.all_reduce(&mut vec![1u64; count], ReduceOp::Sum)
        }
        "type" if other => on.all_reduce(&mut [1i32; 100], ReduceOp::Sum),
        "type" => on.all_reduce(&mut [1f32; 100], ReduceOp::Sum),
        "op" => {
            let op = if other { ReduceOp::Max } else { ReduceOp::Sum };
            on.all_reduce(&mut [1u64; 100], op)
        }
        "collective" if other => {
            on.all_gather(&[1u64; 100], &mut vec![0; 100 * on.size() as usize])
        }
        "collective" => on.all_reduce(&mut [1u64; 100], ReduceOp::Sum),
        "root" => on.broadcast(&mut [1u64; 100], if other { last } else { 0 }),
        "order" if other => {
            on.barrier()?;
            on.all_reduce(&mut [1u64; 100], ReduceOp::Sum)
        }
        "order" => {
            on.all_reduce(&mut [1u64; 100], ReduceOp::Sum)?;
            on.barrier()
        }
        // One rank makes one call less.
        "number" if other => Ok(()),
        "number" => on.barrier(),
        _ => unreachable!("the test names one of these"),
    }
}
