//! How a long message is cut into work requests, and how a flow's messages keep their order over several rails.
//!
//! A flow has a queue pair on each rail, one of them its *home*. A message that is not long goes over the home alone. A
//! long one is cut in proportion to the bandwidths; the parts on other rails end with the immediate [`PART`], and the
//! part on the home ends with the message's own, which is marked as [`Immediate::striped`]. As each queue pair keeps its
//! order, the k-th marked message of the home is whole when k parts have arrived on every other rail. What arrives on the
//! home behind it waits until then.

use std::collections::VecDeque;

/// Parts end at multiples of this many bytes: the largest path MTU, so that no packet is short.
const GRAIN: u64 = 4096;

/// A message of at least this many bytes is cut: below, a second completion costs more than a second rail gains.
pub(crate) const STRIPED_BYTES: u64 = 256 << 10;

/// One work request of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Over which rail.
    pub(crate) rail: usize,
    /// First byte of the message.
    pub(crate) from: u64,
    /// Length in bytes.
    pub(crate) len: u64,
    /// Whether it is the last one on its rail.
    pub(crate) last: bool,
}

/// Cuts a message of `len` bytes over rails of the given bandwidths, in requests of at most `most` bytes, which is a
/// multiple of 4096. Each rail gets at least one request if the message is long enough to be striped. The home's come
/// first, and the first byte is among them.
pub(crate) fn cut(len: u64, bandwidths: &[u64], home: usize, most: u64) -> Vec<Part> {
    let rails = bandwidths.len();
    let striped = rails > 1 && len >= STRIPED_BYTES;
    let order = (0..rails).map(|k| (home + k) % rails).take(if striped { rails } else { 1 });
    let total: u64 = bandwidths.iter().sum::<u64>().max(1);
    let (mut parts, mut from, mut given) = (Vec::new(), 0, 0);
    for rail in order {
        given += bandwidths[rail];
        let whole = !striped || given == total;
        let fair = u128::from(len) * u128::from(given) / u128::from(total);
        let fair =
            u64::try_from(fair).expect("a part is not longer than the whole") / GRAIN * GRAIN;
        let end = if whole { len } else { fair.max(from + GRAIN).min(len) };
        let mut at = from;
        loop {
            let len = (end - at).min(most);
            parts.push(Part { rail, from: at, len, last: at + len == end });
            at += len;
            if at == end {
                break;
            }
        }
        from = end;
    }
    parts
}

/// What travels in 32 bits beside the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Immediate {
    /// The counter to bump.
    pub(crate) signal: Option<u32>,
    /// Whether parts on the other rails belong to it.
    pub(crate) striped: bool,
}

const STRIPED: u32 = 1 << 31;
/// In place of a counter, when none is to be bumped.
const NOBODY: u32 = STRIPED - 1;
/// Ends the part of a message on a rail that is not its home.
pub(crate) const PART: u32 = u32::MAX;
/// Most counters that a rank can have.
pub(crate) const SIGNALS: u32 = NOBODY - 1;

impl Immediate {
    pub(crate) fn encode(self) -> u32 {
        self.signal.unwrap_or(NOBODY) | if self.striped { STRIPED } else { 0 }
    }

    pub(crate) fn decode(word: u32) -> Self {
        let signal = word & NOBODY;
        Self { signal: (signal != NOBODY).then_some(signal), striped: word & STRIPED != 0 }
    }
}

/// What has arrived on a flow, and may not count yet.
#[derive(Debug)]
pub(crate) struct Order {
    /// Parts that arrived, by rail; the home's stay at 0.
    parts: Box<[u64]>,
    home: usize,
    /// Messages that counted.
    counted: u64,
    /// Those of them that were striped.
    striped: u64,
    waiting: VecDeque<Immediate>,
}

impl Order {
    pub(crate) fn new(rails: usize, home: usize) -> Self {
        Self {
            parts: vec![0; rails].into(),
            home,
            counted: 0,
            striped: 0,
            waiting: VecDeque::new(),
        }
    }

    /// An immediate arrived on a rail. Calls `count` for each counter that is to be bumped now, in order.
    #[inline]
    pub(crate) fn arrive(&mut self, rail: usize, word: u32, mut count: impl FnMut(u32)) {
        if rail == self.home {
            let immediate = Immediate::decode(word);
            if !immediate.striped && self.waiting.is_empty() {
                self.counted += 1;
                return immediate.signal.into_iter().for_each(count);
            }
            self.waiting.push_back(immediate);
        } else {
            self.parts[rail] += 1;
        }
        while let Some(first) = self.waiting.front() {
            if first.striped && !self.is_whole() {
                break;
            }
            self.counted += 1;
            self.striped += u64::from(first.striped);
            first.signal.into_iter().for_each(&mut count);
            self.waiting.pop_front();
        }
    }

    /// Messages that have counted.
    pub(crate) fn counted(&self) -> u64 {
        self.counted
    }

    /// Messages that have arrived and may not count yet.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether all parts of the next striped message are there.
    fn is_whole(&self) -> bool {
        let mut parts = self.parts.iter().enumerate();
        parts.all(|(rail, parts)| rail == self.home || *parts > self.striped)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_messages_stay_whole_and_long_ones_follow_the_bandwidths() {
        let whole = Part { rail: 1, from: 0, len: 1000, last: true };
        assert_eq!(cut(1000, &[100, 100], 1, 1 << 30), [whole]);
        let parts = cut(4 << 20, &[100, 300], 0, 1 << 30);
        assert_eq!(parts.iter().map(|part| part.len).collect::<Vec<_>>(), [1 << 20, 3 << 20]);
        let parts = cut(5 << 20, &[100], 0, 2 << 20);
        assert_eq!(parts.iter().map(|part| part.last).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn immediates_keep_what_they_were_made_of() {
        for (signal, striped) in [(None, true), (Some(0), false), (Some(SIGNALS - 1), true)] {
            let immediate = Immediate { signal, striped };
            assert_eq!(Immediate::decode(immediate.encode()), immediate);
        }
    }

    proptest! {
        #[test]
        fn parts_cover_the_message_once(
            len in 0_u64..(16 << 20),
            bandwidths in prop::collection::vec(1_u64..500, 1..5),
            home in 0_usize..4,
            most in 1_u64..256,
        ) {
            let home = home % bandwidths.len();
            let parts = cut(len, &bandwidths, home, most * GRAIN);
            let mut at = 0;
            for part in &parts {
                prop_assert_eq!(part.from, at);
                prop_assert!(part.len <= most * GRAIN);
                at += part.len;
            }
            prop_assert_eq!(at, len);
            prop_assert_eq!(parts[0].rail, home);
            let last = parts.iter().filter(|part| part.last).count();
            let rails = if bandwidths.len() > 1 && len >= STRIPED_BYTES { bandwidths.len() } else { 1 };
            prop_assert_eq!(last, rails);
        }

        #[test]
        fn messages_count_in_order_when_all_their_parts_are_there(
            striped in prop::collection::vec(any::<bool>(), 0..20),
            choices in prop::collection::vec(0_usize..3, 200),
        ) {
            let (rails, home) = (3, 1);
            let mut order = Order::new(rails, home);
            // What is under way on each rail: on the home all messages, on the others the parts of the striped ones.
            let marks: VecDeque<u32> = (0..).zip(&striped).filter(|(_, s)| **s).map(|(k, _)| k).collect();
            let mut home_left: VecDeque<u32> = (0..).zip(&striped).map(|(k, _)| k).collect();
            let mut parts_left = [marks.clone(), VecDeque::new(), marks];
            let mut counted = Vec::new();
            for rail in choices.into_iter().chain((0..3).cycle().take(100)) {
                let mut now = Vec::new();
                if rail == home {
                    let Some(k) = home_left.pop_front() else { continue };
                    let word = Immediate { signal: Some(k), striped: striped[k as usize] }.encode();
                    order.arrive(rail, word, |signal| now.push(signal));
                } else {
                    if parts_left[rail].pop_front().is_none() { continue }
                    order.arrive(rail, PART, |signal| now.push(signal));
                }
                for k in now {
                    prop_assert!(!home_left.contains(&k));
                    prop_assert!(!parts_left[0].contains(&k) && !parts_left[2].contains(&k));
                    counted.push(k);
                }
            }
            prop_assert_eq!(order.counted(), striped.len() as u64);
            prop_assert_eq!(counted, (0..).zip(&striped).map(|(k, _)| k).collect::<Vec<u32>>());
        }
    }
}
