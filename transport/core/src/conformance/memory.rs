//! Regions: made, registered, opened, ended.

use super::Pair;
use super::duo::{Duo, Room, pattern, peer, to};
use crate::{Card, Error, Put};

/// Allocations are zeroed, aligned to 64 bytes, do not share a byte, and have keys that fit a card.
pub fn allocates_zeroed_apart_and_aligned(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    let rooms: Vec<Room> = [1, 63, 64, 65, 4096, 100_000].map(|len| duo.room(1, len)).into();
    for (k, room) in rooms.iter().enumerate() {
        let memory = room.bytes.memory();
        assert_eq!(memory.address() % 64, 0, "alignment of {memory:?}");
        assert_eq!(room.bytes.read(0, memory.len), vec![0; memory.len], "{memory:?} is zeroed");
        assert!(
            rooms[..k].iter().all(|other| !other.bytes.memory().overlaps(memory)),
            "{memory:?} is its own"
        );
        let key = duo.end(1).key(room.region, peer(0)).expect("an allocated region has a key");
        assert!(key.0.len() <= Card::MAX, "a key of {} bytes", key.0.len());
    }
}

/// Regions can be made, used and ended while connected, as often as one likes.
pub fn lets_regions_come_and_go(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    let signal = duo.target(1, 8).signal;
    for round in 0..100 {
        let bytes = pattern(round, 10_000);
        let (source, room) = (duo.source(0, &bytes), duo.room(1, 10_000));
        let key = duo.end(1).key(room.region, peer(0)).expect("an allocated region has a key");
        let remote = duo.end(0).import(peer(1), &key).expect("a key of the peer can be imported");
        duo.send(
            0,
            &Put {
                body: &[source.span(0, 10_000)],
                into: Some(remote),
                signal: Some(signal),
                ..to(1)
            },
        );
        duo.until("the put arrives", |duo| duo.end(1).arrived(signal) == round + 1);
        duo.end(1).acquire(room.span(0, 10_000));
        assert!(room.bytes.read(0, 10_000) == bytes, "round {round}");
        duo.end(0).forget(remote);
        duo.end(0).release(source.region);
        duo.end(1).release(room.region);
    }
}

/// Where the caps say so, memory of the user is registered, sent from and written to; elsewhere it is refused.
pub fn registers_user_memory_as_it_says(open: &mut dyn FnMut() -> Pair) {
    const LEN: usize = 5000;
    let mut duo = Duo::up(open);
    let bytes = pattern(17, LEN);
    let (from, into) = (duo.own(&bytes), duo.own(&[0; LEN + 200]));
    if !duo.end(0).caps(peer(1)).user_memory {
        match duo.register(0, from, 0..LEN) {
            Err(error) => assert!(
                matches!(error, Error::Unsupported { .. }),
                "user memory is refused: {error}"
            ),
            Ok(room) => {
                assert_eq!(duo.end(0).key(room.region, peer(1)), None, "this peer cannot write it")
            }
        }
        return;
    }
    let source = duo.register(0, from, 0..LEN).expect("the caps say so");
    let room = duo.register(1, into, 0..LEN + 200).expect("the caps say so");
    let target = duo.expose(1, room);
    let (body, signal) = ([source.span(0, LEN)], Some(target.signal));
    duo.send(0, &Put { body: &body, into: Some(target.remote), at: 100, signal, ..to(1) });
    duo.arrive(&target, 1);
    assert!(
        duo.arrived_bytes(&target, 0, LEN + 200) == [&[0; 100], &bytes[..], &[0; 100]].concat()
    );
    duo.end(0).release(source.region);
    duo.end(1).release(room.region);
}

/// Where there is a window, it shows what puts wrote, and what is written through it is published by a bare signal.
pub fn opens_windows_on_the_same_bytes(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    let target = duo.target(1, 4096);
    let Some(window) = duo.window(0, target.remote) else { return };
    assert_eq!(window.memory().len, 4096, "a window is as long as its region");
    window.write(10, b"through the window");
    duo.post(0, &Put { signal: Some(target.signal), ..to(1) });
    duo.arrive(&target, 1);
    assert_eq!(duo.arrived_bytes(&target, 10, 18), b"through the window");
    duo.post(
        0,
        &Put { head: b"by a put", into: Some(target.remote), signal: Some(target.signal), ..to(1) },
    );
    duo.arrive(&target, 2);
    assert_eq!(window.read(0, 8), b"by a put");
    duo.end(0).forget(target.remote);
}

/// Memory of the peer that no transport knows can be read, where the transport says so; what is not there is an error.
pub fn reads_memory_of_the_peer(open: &mut dyn FnMut() -> Pair) {
    const LEN: usize = 100_000;
    let mut duo = Duo::up(open);
    let bytes = pattern(23, LEN);
    let (theirs, ours) = (duo.own(&bytes).memory(), duo.own(&vec![0; LEN]));
    let can = duo.end(0).can_read(peer(1));
    let read = duo.read(0, theirs.part(7, LEN - 10), ours.memory().part(3, LEN - 10));
    assert_eq!(read.is_ok(), can, "{read:?}");
    if can {
        assert!(ours.read(3, LEN - 10) == bytes[7..LEN - 3]);
    }
}

/// A region may be released while puts still read it: they arrive as they were, or their connection is given up, and
/// the memory is the user's again.
pub fn reads_no_source_after_its_release(open: &mut dyn FnMut() -> Pair) {
    const LEN: usize = 1 << 20;
    let mut duo = Duo::up(open);
    let bytes = pattern(19, LEN);
    let own = duo.own(&bytes);
    let source = if duo.end(0).caps(peer(1)).any_source {
        duo.register(0, own, 0..LEN).expect("the caps say so")
    } else {
        duo.source(0, &bytes)
    };
    let target = duo.target(1, LEN);
    duo.post(0, &Put { body: &[source.span(0, LEN)], into: Some(target.remote), ..to(1) });
    duo.end(0).release(source.region);
    own.write(0, &vec![0xee; LEN]);
    duo.flush(0, target.signal);
    if !duo.is_lost() {
        assert!(duo.arrived_bytes(&target, 0, LEN) == bytes, "the put arrives as it was posted");
    }
}
