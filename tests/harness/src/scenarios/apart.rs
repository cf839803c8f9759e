//! Ranks that leave the library between calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dure::{Error, ReduceOp, Result};

use crate::seat::Seat;

/// Arrivals at all meetings so far, of the threads of one test.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
/// How long ranks wait for one another.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls, and between two of them the ranks, which are threads, wait for one another outside of the library: whatever a
/// call has to send must be on its way when it returns.
pub(super) fn apart(seat: &Seat) -> Result<()> {
    let on = &seat.communicator;
    let mut meetings = 0;
    for count in [1, 20_000] {
        for round in 0..20 {
            let mut data = vec![1_u64; count];
            on.all_reduce(&mut data, ReduceOp::Sum)?;
            meet(seat, &mut meetings)?;
            on.broadcast(&mut data, round % on.size())?;
            meet(seat, &mut meetings)?;
            on.barrier()?;
            meet(seat, &mut meetings)?;
            assert!(data.iter().all(|sum| *sum == u64::from(on.size())));
        }
    }
    on.finalize()
}

/// Waits for all ranks, and makes no call meanwhile.
fn meet(seat: &Seat, meetings: &mut u64) -> Result<()> {
    *meetings += 1;
    ARRIVED.fetch_add(1, Ordering::AcqRel);
    let begin = Instant::now();
    while ARRIVED.load(Ordering::Acquire) < *meetings * u64::from(seat.communicator.size()) {
        if begin.elapsed() > PATIENCE {
            return Err(Error::timeout(format!("not all ranks came to meeting {meetings}")));
        }
        std::thread::yield_now();
    }
    Ok(())
}
