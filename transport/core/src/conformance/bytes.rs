//! What a put carries arrives, and nothing else changes.

use super::Pair;
use super::duo::{Duo, Target, pattern, peer, to};
use crate::{Posted, Put, Span};

/// Checks that a target holds `bytes` from `at`, and zeros elsewhere.
fn assert_holds(duo: &mut Duo, target: &Target, at: usize, bytes: &[u8]) {
    let len = target.room.bytes.memory().len;
    let mut expected = vec![0; len];
    expected[at..at + bytes.len()].copy_from_slice(bytes);
    assert!(
        duo.arrived_bytes(target, 0, len) == expected,
        "{} bytes at {at}, zeros around them",
        bytes.len()
    );
}

/// A head of any length up to [`Caps::head`](crate::Caps::head) arrives at its place.
pub fn moves_a_head(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    let longest = duo.end(0).caps(peer(1)).head;
    for len in [1, 8, 63, 64, longest] {
        let target = duo.target(1, longest + 100);
        let mut head = pattern(len as u64, len);
        let put = Put {
            head: &head,
            into: Some(target.remote),
            at: 50,
            signal: Some(target.signal),
            ..to(1)
        };
        duo.post(0, &put);
        // It was copied: what becomes of it now does not matter.
        let sent = std::mem::replace(&mut head, vec![0xee; len]);
        duo.arrive(&target, 1);
        assert_holds(&mut duo, &target, 50, &sent);
    }
}

/// A body of any length arrives at its place.
pub fn moves_a_body(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    for len in [1, 7, 64, 4096, 65_537, 1 << 20] {
        let (bytes, target) = (pattern(len as u64, len), duo.target(1, len + 128));
        let body = [duo.source(0, &bytes).span(0, len)];
        duo.send(
            0,
            &Put {
                body: &body,
                into: Some(target.remote),
                at: 64,
                signal: Some(target.signal),
                ..to(1)
            },
        );
        duo.arrive(&target, 1);
        assert_holds(&mut duo, &target, 64, &bytes);
    }
}

/// The body follows the head without a gap.
pub fn moves_head_and_body(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    for (head_len, body_len) in [(1, 1), (64, 64), (32, 10_000), (13, 100_001)] {
        let bytes = pattern(7, head_len + body_len);
        let (head, rest) = bytes.split_at(head_len);
        let (body, target) =
            ([duo.source(0, rest).span(0, body_len)], duo.target(1, bytes.len() + 9));
        let signal = Some(target.signal);
        duo.send(0, &Put { head, body: &body, into: Some(target.remote), at: 4, signal, ..to(1) });
        duo.arrive(&target, 1);
        assert_holds(&mut duo, &target, 4, &bytes);
    }
}

/// As many spans as [`Caps::gather`](crate::Caps::gather) says, of different regions, arrive in their order.
pub fn gathers_as_many_spans_as_it_says(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    let spans = duo.end(0).caps(peer(1)).gather;
    let lens = (0..spans).map(|k| [100, 1, 3000, 64][k % 4]);
    let parts: Vec<Vec<u8>> = lens.zip(0..).map(|(len, seed)| pattern(seed, len)).collect();
    let body: Vec<Span> =
        parts.iter().map(|part| duo.source(0, part).span(0, part.len())).collect();
    let bytes = [b"head".as_slice(), &parts.concat()].concat();
    let target = duo.target(1, bytes.len() + 2);
    let signal = Some(target.signal);
    duo.send(
        0,
        &Put { head: b"head", body: &body, into: Some(target.remote), at: 1, signal, ..to(1) },
    );
    duo.arrive(&target, 1);
    assert_holds(&mut duo, &target, 1, &bytes);
}

/// Spans may be empty, and neither end of a copy needs to be aligned.
pub fn moves_empty_and_unaligned_spans(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    let bytes = pattern(11, 3000);
    let source = duo.source(0, &bytes);
    for (offset, len, at) in [(0, 0, 0), (5, 1001, 3), (1, 1, 1), (2999, 1, 2047), (3000, 0, 2048)]
    {
        let target = duo.target(1, 2048);
        let body = [source.span(offset, len)];
        duo.send(
            0,
            &Put {
                body: &body,
                into: Some(target.remote),
                at,
                signal: Some(target.signal),
                ..to(1)
            },
        );
        duo.arrive(&target, 1);
        let from = usize::try_from(offset).expect("small");
        assert_holds(
            &mut duo,
            &target,
            usize::try_from(at).expect("small"),
            &bytes[from..from + len],
        );
    }
}

/// A put without bytes bumps its counter, wherever it points; without a signal it does nothing.
pub fn bumps_without_bytes(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    let target = duo.target(1, 64);
    assert_eq!(duo.post(0, &Put { signal: Some(target.signal), ..to(1) }), Posted::Done);
    duo.post(0, &to(1));
    duo.post(
        0,
        &Put { into: Some(target.remote), at: u64::MAX, signal: Some(target.signal), ..to(1) },
    );
    duo.arrive(&target, 2);
    assert_holds(&mut duo, &target, 0, &[]);
}

/// A signal publishes all that was put before it on its flow, also without signals and into other regions.
pub fn publishes_bytes_put_earlier(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    let bytes = pattern(13, 200_000);
    let source = duo.source(0, &bytes);
    let targets = [duo.target(1, 200_000), duo.target(1, 100)];
    let bodies = [[source.span(0, 200_000)], [source.span(17, 100)]];
    for (target, body) in targets.iter().zip(&bodies) {
        duo.post(0, &Put { body, into: Some(target.remote), ..to(1) });
    }
    duo.post(0, &Put { signal: Some(targets[1].signal), ..to(1) });
    duo.arrive(&targets[1], 1);
    assert_holds(&mut duo, &targets[0], 0, &bytes);
    assert_holds(&mut duo, &targets[1], 0, &bytes[17..117]);
}

/// 8 MiB in both directions at once arrive while both sides poll in turn.
pub fn moves_large_bodies_both_ways_at_once(open: &mut dyn FnMut() -> Pair) {
    const LEN: usize = 8 << 20;
    let mut duo = Duo::up(open);
    let bytes = [0, 1].map(|seed| pattern(seed, LEN));
    let targets = [0, 1].map(|side| duo.target(side, LEN));
    for from in [0, 1] {
        let (body, target) = ([duo.source(from, &bytes[from]).span(0, LEN)], targets[1 - from]);
        let signal = Some(target.signal);
        duo.post(from, &Put { body: &body, into: Some(target.remote), signal, ..to(1 - from) });
    }
    for from in [0, 1] {
        duo.arrive(&targets[1 - from], 1);
        assert_holds(&mut duo, &targets[1 - from], 0, &bytes[from]);
    }
}
