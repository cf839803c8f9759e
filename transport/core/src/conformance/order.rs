//! Order, counters, back-pressure and tokens.

use std::collections::BTreeMap;

use super::Pair;
use super::duo::{Duo, pattern, peer, to};
use crate::{Flow, Posted, Put, Token};

/// When a counter says `k`, the first `k` puts of its flow are there: with sizes that differ, on all flows at once.
pub fn keeps_order_in_every_flow(open: &mut dyn FnMut() -> Pair) {
    const SLOTS: usize = 8;
    const SLOT: usize = 4096;
    const PUTS: usize = 300;
    let mut duo = Duo::up(open);
    let flows = duo.end(0).caps(peer(1)).flows.min(4);
    let targets: Vec<_> = (0..flows).map(|_| duo.target(1, SLOT * SLOTS)).collect();
    let source = duo.source(0, &pattern(1, SLOT * 2));
    let bytes = pattern(1, SLOT * 2);
    // Put k is a part of the source whose place and length depend on k and on the flow.
    let part = |flow: u16, k: usize| {
        let offset = (k * 37 + usize::from(flow)) % SLOT;
        offset..offset + [1, SLOT, 64, 1500, 8][k % 5]
    };
    let (mut posted, mut seen) = (vec![0; targets.len()], vec![0; targets.len()]);
    duo.until("all puts arrive", |duo| {
        for (flow, target) in (0..flows).zip(&targets) {
            let (posted, seen) = (&mut posted[usize::from(flow)], &mut seen[usize::from(flow)]);
            while (*seen as u64) < duo.end(1).arrived(target.signal) {
                let part = part(flow, *seen);
                let arrived = duo.arrived_bytes(target, *seen % SLOTS * SLOT, part.len());
                assert!(arrived == bytes[part], "put {seen} of flow {flow} is there");
                *seen += 1;
            }
            while *posted < PUTS.min(*seen + SLOTS) {
                let (part, at) = (part(flow, *posted), *posted % SLOTS * SLOT);
                let (body, signal) =
                    ([source.span(part.start as u64, part.len())], Some(target.signal));
                let (flow, into, at) = (Flow(flow), Some(target.remote), at as u64);
                if duo.end(0).put(&Put { flow, body: &body, into, at, signal, ..to(1) }).is_err() {
                    break;
                }
                *posted += 1;
            }
        }
        seen.iter().all(|seen| *seen == PUTS)
    });
}

/// A counter does not wrap where a field of 16 bits would, and counts exactly.
pub fn counts_beyond_16_bits(open: &mut dyn FnMut() -> Pair) {
    const PUTS: u64 = (1 << 16) + 1000;
    let mut duo = Duo::up(open);
    let target = duo.target(1, 8);
    for _ in 0..PUTS {
        duo.post(0, &Put { signal: Some(target.signal), ..to(1) });
    }
    duo.arrive(&target, PUTS);
}

/// A put bumps the counter that it names and no other.
pub fn keeps_counters_apart(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::up(open);
    let targets: [_; 8] = std::array::from_fn(|_| duo.target(1, 8));
    for round in 0..8 {
        for target in &targets[round..] {
            duo.post(
                0,
                &Put {
                    head: &[1],
                    into: Some(target.remote),
                    signal: Some(target.signal),
                    ..to(1)
                },
            );
        }
    }
    for (target, count) in targets.iter().zip(1..) {
        duo.arrive(target, count);
    }
}

/// Nothing that was taken is lost when more is posted than the wire holds, and what was [`Full`](crate::Full) can be
/// posted once the receiver has polled.
pub fn loses_nothing_when_full(open: &mut dyn FnMut() -> Pair) {
    const LEN: usize = 4096;
    /// A wire may take everything at once, such as shared memory.
    const MOST: u64 = 10_000;
    let mut duo = Duo::up(open);
    let target = duo.target(1, LEN + 8);
    let bytes = pattern(5, LEN);
    let body = [duo.source(0, &bytes).span(0, LEN)];
    let (mut taken, mut full) = (0_u64, false);
    while taken < MOST && !full {
        let (head, signal) = (taken.to_le_bytes(), Some(target.signal));
        full = duo
            .end(0)
            .put(&Put { head: &head, body: &body, into: Some(target.remote), signal, ..to(1) })
            .is_err();
        taken += u64::from(!full);
    }
    assert!(taken > 0, "a flow that is idle takes a put");
    let (head, signal) = (taken.to_le_bytes(), Some(target.signal));
    duo.post(0, &Put { head: &head, body: &body, into: Some(target.remote), signal, ..to(1) });
    duo.arrive(&target, taken + 1);
    assert!(
        duo.arrived_bytes(&target, 0, LEN + 8) == [head.as_slice(), &bytes].concat(),
        "the last put is there"
    );
}

/// The token of each pending put comes back once, those of others never; a source may be overwritten as soon as that
/// is known.
pub fn gives_each_token_back_once(open: &mut dyn FnMut() -> Pair) {
    const PUTS: usize = 200;
    const LEN: usize = 16 << 10;
    let mut duo = Duo::up(open);
    let target = duo.target(1, LEN * PUTS);
    let sources: [_; 4] = std::array::from_fn(|_| duo.room(0, LEN));
    let len = |k: usize| [LEN, 1, 5000, 64][k % 7 % 4];
    let mut pending = BTreeMap::new();
    for k in 0..PUTS {
        let (slot, len) = (k % 4, len(k));
        if let Some(token) = pending.get(&slot).copied() {
            duo.until("a pending put is sent", |duo| duo.told[0].sent.contains(&token));
        }
        sources[slot].bytes.write(0, &pattern(k as u64, len));
        let (body, signal, token) =
            ([sources[slot].span(0, len)], Some(target.signal), Token((k as u64) << 32 | 7));
        let put = Put {
            body: &body,
            into: Some(target.remote),
            at: (k * LEN) as u64,
            signal,
            token,
            ..to(1)
        };
        match duo.post(0, &put) {
            Posted::Done => {
                sources[slot].bytes.write(0, &vec![0xee; LEN]);
                pending.remove(&slot);
            }
            Posted::Pending => {
                assert_eq!(pending.insert(slot, token).filter(|t| *t == token), None)
            }
        }
    }
    duo.arrive(&target, PUTS as u64);
    for k in 0..PUTS {
        let bytes = duo.arrived_bytes(&target, k * LEN, len(k));
        assert!(
            bytes == pattern(k as u64, len(k)),
            "put {k} holds what its source held when it was posted"
        );
    }
    duo.until("the last tokens come", |duo| {
        pending.values().all(|token| duo.told[0].sent.contains(token))
    });
    let sent = &mut duo.told[0].sent;
    let all = sent.len();
    sent.sort_by_key(|token| token.0);
    sent.dedup();
    assert_eq!(sent.len(), all, "no token comes twice");
}
