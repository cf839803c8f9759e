//! What a peer must not do, and what happens when it is gone.

use super::Pair;
use super::duo::{Duo, Room, Target, pattern, peer, to};
use crate::memory::Bytes;
use crate::{Error, Event, Posted, Put, Signal};

/// A region of side 1 of 64 bytes in the middle of something that must not change, which is given back as well.
fn guarded(duo: &mut Duo) -> (Target, Room, Bytes) {
    let own = duo.own(&pattern(23, 192));
    let room = match duo.end(1).caps(peer(0)).user_memory {
        true => duo.register(1, own, 64..128).expect("the caps say so"),
        false => duo.room(1, 64),
    };
    let target = duo.expose(1, room);
    (target, duo.room(1, 64), own)
}

/// A put past the end of a region is dropped with its signal, or ends the connection with [`Error::Protocol`]; it
/// never writes. (Where there is a window, nobody can be kept from writing.)
pub fn refuses_puts_past_the_end(open: &mut dyn FnMut() -> Pair) {
    for (at, len) in [(64, 1), (60, 8), (0, 65), (4096, 64), (u64::MAX, 1), (u64::MAX - 10, 20)] {
        let mut duo = Duo::up(open);
        let (target, neighbour, own) = guarded(&mut duo);
        if duo.end(0).window(target.remote).is_some() {
            return;
        }
        let bad = duo.end(1).counter(peer(0)).expect("there is room for a counter");
        let body = [duo.source(0, &[0xee; 128]).span(0, len)];
        let taken = duo.end(0).put(&Put {
            body: &body,
            into: Some(target.remote),
            at,
            signal: Some(bad),
            ..to(1)
        });
        duo.flush(0, target.signal);
        let what = format!("{len} bytes at {at}, {taken:?}");
        assert_eq!(duo.end(1).arrived(bad), 0, "{what}: no signal says that they are there");
        assert!(own.read(0, 192) == pattern(23, 192), "{what}: memory of the user is as it was");
        assert_eq!(neighbour.bytes.read(0, 64), [0; 64], "{what}: the region beside is as it was");
        assert_blamed(&mut duo);
    }
}

/// If the connection ended, one side says that the protocol was broken; not always the one that hears of the end first.
fn assert_blamed(duo: &mut Duo) {
    let blames = |error: &Option<Error>| matches!(error, Some(Error::Protocol { .. }));
    if duo.is_lost() {
        duo.until("one side is blamed", |duo| duo.told.iter().any(|told| blames(&told.lost)));
    }
}

/// Puts that reach a region after its release write nowhere: not where it was, and not where the next one is.
pub fn refuses_puts_into_released_regions(open: &mut dyn FnMut() -> Pair) {
    const LEN: usize = 64;
    let mut duo = Duo::up(open);
    let (target, _, own) = guarded(&mut duo);
    // Who writes the memory itself is not kept from it.
    if duo.end(0).window(target.remote).is_some() || duo.end(0).caps(peer(1)).in_place {
        return;
    }
    let body = [duo.source(0, &[0xee; LEN]).span(0, LEN)];
    for _ in 0..4 {
        let _in_flight = duo.end(0).put(&Put { body: &body, into: Some(target.remote), ..to(1) });
    }
    duo.end(1).release(target.room.region);
    let (own_before, next) = (own.read(0, 192), duo.room(1, LEN));
    let _late = duo.end(0).put(&Put { body: &body, into: Some(target.remote), ..to(1) });
    duo.flush(0, target.signal);
    assert!(own.read(0, 192) == own_before, "memory that was released is as it was");
    assert_eq!(next.bytes.read(0, LEN), [0; LEN], "the next region is as it was");
    assert_blamed(&mut duo);
}

/// A signal that the peer was never given bumps nothing that exists.
pub fn refuses_signals_of_nobody(open: &mut dyn FnMut() -> Pair) {
    for number in [u32::MAX, u32::MAX >> 8, 0xffff] {
        let mut duo = Duo::up(open);
        let targets = [duo.target(1, 8), duo.target(1, 8)];
        let _taken = duo.end(0).put(&Put { signal: Some(Signal(number)), ..to(1) });
        duo.flush(0, targets[0].signal);
        assert_eq!(
            duo.end(1).arrived(targets[1].signal),
            0,
            "signal {number:#x} bumps no other counter"
        );
        assert!(
            duo.end(1).arrived(targets[0].signal) <= 1,
            "signal {number:#x} bumps no other counter"
        );
        assert_blamed(&mut duo);
    }
}

/// When a peer goes, the other side hears it once, in the middle of traffic as well; what it posts then is taken and
/// dropped.
pub fn reports_a_lost_peer_once(open: &mut dyn FnMut() -> Pair) {
    const LEN: usize = 1 << 16;
    for (gone, puts) in [(0, 0), (1, 0), (0, 1000), (1, 1000)] {
        let mut duo = Duo::up(open);
        let (left, target) = (1 - gone, duo.target(gone, LEN));
        let body = [duo.source(left, &pattern(1, LEN)).span(0, LEN)];
        let put =
            Put { body: &body, into: Some(target.remote), signal: Some(target.signal), ..to(gone) };
        let _posted = (0..puts).take_while(|_| duo.end(left).put(&put).is_ok()).count();
        duo.close(gone);
        duo.until("the loss is reported", |duo| duo.told[left].lost.is_some());
        for _ in 0..100 {
            let signal = Some(target.signal);
            assert_eq!(
                duo.end(left).put(&Put { signal, ..to(gone) }),
                Ok(Posted::Done),
                "a put to a lost peer"
            );
            let mut events = Vec::new();
            duo.end(left).poll(&mut events);
            assert!(
                !events.iter().any(|event| matches!(event, Event::Lost { .. })),
                "the loss is reported once"
            );
            duo.pause();
        }
    }
}
