//! Ranks that die, stop or give up, and what the others do then.

use std::time::Duration;

use dure::{Communicator, Error, ErrorKind, ReduceOp, Result};

use crate::seat::Seat;

/// One all-reduce, long enough to be cut into several passes, and short enough to be repeated.
fn all_reduce(on: &Communicator) -> Result<()> {
    let mut data = vec![u64::from(on.rank()); 50_000];
    on.all_reduce(&mut data, ReduceOp::Sum)?;
    let sum = u64::from(on.size()) * u64::from(on.size() - 1) / 2;
    assert!(data.iter().all(|value| *value == sum));
    Ok(())
}

/// All-reduces until one fails; says `looping` after the first few.
fn loop_until_failure(seat: &Seat) -> Error {
    for time in 0u64.. {
        if let Err(error) = all_reduce(&seat.communicator) {
            return error;
        }
        if time == 10 {
            seat.say("looping");
        }
    }
    unreachable!("the loop ends with a failure")
}

/// All-reduces until one fails. The communicator returns the same error from then on.
pub(super) fn until_failure(seat: &Seat) -> Result<()> {
    let first = loop_until_failure(seat);
    expect_broken(&seat.communicator, &first);
    Err(first)
}

fn expect_broken(on: &Communicator, first: &Error) {
    let again =
        [on.barrier(), all_reduce(on), on.health().map(drop), on.synchronize(), on.finalize()];
    for result in again {
        let error = result.expect_err("a broken communicator makes no calls");
        assert_eq!(error.to_string(), first.to_string(), "the first error stays");
    }
}

/// All-reduces until rank 0 is told to stop, by the sum of all ranks' flags.
pub(super) fn until_told(seat: &Seat) -> Result<()> {
    let on = &seat.communicator;
    for time in 0u64.. {
        all_reduce(on)?;
        let mut stop = [u32::from(on.rank() == 0 && seat.was_told())];
        on.all_reduce(&mut stop, ReduceOp::Sum)?;
        if stop != [0] {
            break;
        }
        if time == 10 {
            seat.say("looping");
        }
    }
    on.finalize()
}

/// Rank 0 waits for a message that never comes, the others in an all-reduce without rank 0; another thread of rank 0
/// aborts when it is told to.
pub(super) fn abort(seat: &Seat) -> Result<()> {
    let on = &seat.communicator;
    on.barrier()?;
    let waited = std::thread::scope(|scope| {
        if on.rank() == 0 {
            scope.spawn(|| {
                while !seat.was_told() {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                on.abort();
            });
        }
        seat.say("waiting");
        if on.rank() == 0 { on.recv(&mut [0u8; 8], 1) } else { all_reduce(on) }
    });
    let error = waited.expect_err("nobody sends, and rank 0 does not come");
    expect_broken(on, &error);
    Err(error)
}

/// All-reduces until a rank dies; the others go on without it.
pub(super) fn go_on(seat: &Seat) -> Result<()> {
    let error = loop_until_failure(seat);
    let Some(dead) = error.peer.filter(|_| error.kind == ErrorKind::Remote) else {
        return Err(error);
    };
    let rest = seat.communicator.shrink(&[dead])?;
    assert_eq!(rest.size(), seat.communicator.size() - 1);
    for _ in 0..20 {
        all_reduce(&rest)?;
    }
    rest.finalize()
}
