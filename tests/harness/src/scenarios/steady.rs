//! Calls one after the other, each checked to the last bit, while somebody else breaks wires.

use std::time::{Duration, Instant};

use dure::{ReduceOp, Result};

use crate::seat::Seat;

/// All-reduces of as many f32 as the second argument says, for as many seconds as the first says. Says what health says when
/// that changes, with the longest call since; and at the end how many calls there were.
///
/// # Panics
/// When a result differs by a bit from what it has to be.
pub(super) fn steady(seat: &Seat) -> Result<()> {
    let seconds: u64 = seat.arg(0).parse().expect("a number of seconds");
    let count: usize = seat.arg(1).parse().expect("a number of elements");
    let (me, ranks) = (seat.communicator.rank(), seat.communicator.size());
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut data, mut calls, mut longest) = (vec![0.0; count], 0_u32, Duration::ZERO);
    let mut health = seat.communicator.health()?;
    loop {
        for (index, element) in data.iter_mut().enumerate() {
            *element = value(index, calls, me);
        }
        // Rank 0 says in the first element whether this is the last call.
        data[0] = if me == 0 && Instant::now() >= end { 1.0 } else { 0.0 };
        let begin = Instant::now();
        seat.communicator.all_reduce(&mut data, ReduceOp::Sum)?;
        longest = longest.max(begin.elapsed());
        for (index, sum) in data.iter().enumerate().skip(1) {
            let expected: f32 = (0..ranks).map(|rank| value(index, calls, rank)).sum();
            assert_eq!(sum.to_bits(), expected.to_bits(), "element {index} of call {calls}");
        }
        calls += 1;
        let now = seat.communicator.health()?;
        if now != health {
            let detours: Vec<_> = now.detours.iter().map(ToString::to_string).collect();
            let text =
                if detours.is_empty() { "whole again".to_owned() } else { detours.join("; ") };
            seat.say(&format!("call {calls}, longest {} ms: {text}", longest.as_millis()));
            (health, longest) = (now, Duration::ZERO);
        }
        if data[0] > 0.0 {
            break;
        }
    }
    seat.say(&format!("{calls} calls, all right, longest {} ms", longest.as_millis()));
    seat.communicator.finalize()
}

/// Small whole numbers, whose sums are exact in any order.
fn value(index: usize, call: u32, rank: u32) -> f32 {
    let place = u32::try_from(index % 509).expect("it is below 509");
    let mixed = place * 7 + call * 3 + rank * 11;
    f32::from(u16::try_from(mixed % 1021).expect("it is below 1021"))
}
