//! Doorbells: nobody sleeps through what happens.

use std::time::Instant;

use super::duo::{Duo, pattern, to};
use super::{DEADLINE, Pair};
use crate::Put;

/// Waits for the doorbell of a side, while only the other side is polled.
fn wait_for_ring(duo: &mut Duo, side: usize, what: &str) {
    let begin = Instant::now();
    while !duo.rings(side) {
        assert!(begin.elapsed() < DEADLINE, "the doorbell does not ring: {what}");
        duo.poll(1 - side);
        duo.pause();
    }
}

/// Polls a side until it may sleep.
fn put_to_bed(duo: &mut Duo, side: usize) {
    duo.until("one side may sleep", |duo| {
        duo.poll(side);
        duo.end(side).arm()
    });
}

/// Whoever arms, is told true and sleeps is woken by a signal, whether it comes before `arm` or after; and sleeps again
/// when there is nothing more.
pub fn rings_for_a_signal(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    let target = duo.target(1, 8);
    if duo.end(1).doorbell().is_none() {
        return;
    }
    for round in 0..50 {
        let put =
            Put { head: &[1], into: Some(target.remote), signal: Some(target.signal), ..to(1) };
        if round % 2 == 0 {
            put_to_bed(&mut duo, 1);
            while duo.end(0).put(&put).is_err() {
                duo.poll(0);
            }
            wait_for_ring(&mut duo, 1, "a signal after arm");
        } else {
            while duo.end(0).put(&put).is_err() {
                duo.poll(0);
            }
            duo.poll(0);
            // What arm says depends on whether the signal is here yet; what counts is that nobody sleeps on.
            if duo.end(1).arm() && duo.end(1).arrived(target.signal) == round {
                wait_for_ring(&mut duo, 1, "a signal around arm");
            }
        }
        duo.arrive(&target, round + 1);
    }
}

/// Whoever sleeps is woken when the peer goes.
pub fn rings_for_a_lost_peer(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    if duo.end(1).doorbell().is_none() {
        return;
    }
    put_to_bed(&mut duo, 1);
    duo.close(0);
    wait_for_ring(&mut duo, 1, "the peer has gone");
    duo.until("the loss is reported", |duo| duo.told[1].lost.is_some());
}

/// Whoever sleeps because a flow was full is woken when it takes puts again.
pub fn rings_when_a_full_flow_drains(open: &mut dyn FnMut() -> Pair) {
    const LEN: usize = 1 << 20;
    let mut duo = Duo::up(open);
    let target = duo.target(1, LEN);
    if duo.end(0).doorbell().is_none() {
        return;
    }
    let body = [duo.source(0, &pattern(1, LEN)).span(0, LEN)];
    let put = Put { body: &body, into: Some(target.remote), signal: Some(target.signal), ..to(1) };
    // A wire that takes 256 MiB without a poll of the receiver is never full.
    let mut taken = (0..256).take_while(|_| duo.end(0).put(&put).is_ok()).count();
    if taken == 256 {
        return;
    }
    let begin = Instant::now();
    while taken < 300 {
        assert!(begin.elapsed() < DEADLINE, "the flow drains: {taken} puts taken");
        duo.poll(0);
        if duo.end(0).put(&put).is_ok() {
            taken += 1;
        } else if duo.end(0).arm() {
            wait_for_ring(&mut duo, 0, "room in a full flow");
        }
    }
    duo.arrive(&target, taken as u64);
}
