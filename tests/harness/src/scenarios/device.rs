//! Calls on the memory of a device that is reset, or disappears.

use dure::{Action, Collective, Dtype, Error, ReduceOp, Request, Result};

use crate::seat::Seat;

/// All-reduces on this rank's device until one fails; says `looping` after the first few.
pub(super) fn until_failure(seat: &Seat) -> Result<()> {
    const ELEMS: usize = 100_000;
    let memory = seat.device.alloc(ELEMS * 4).expect("the device has room for test data");
    let request = Request {
        action: Action::Collective(Collective::AllReduce, ELEMS as u64),
        input: memory,
        output: memory,
        dtype: Dtype::Int32,
        op: ReduceOp::Sum,
    };
    let mut time = 0_u64;
    let error: Error = loop {
        // SAFETY: the memory is this function's, and stays until the communicator has failed.
        if let Err(error) = unsafe { seat.communicator.call(&request) } {
            break error;
        }
        time += 1;
        if time == 3 {
            seat.say("looping");
        }
    };
    let again = seat.communicator.barrier().expect_err("a broken communicator makes no calls");
    assert_eq!(again.to_string(), error.to_string(), "the first error stays");
    Err(error)
}
