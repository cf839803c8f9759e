//! Coming up.

use super::Pair;
use super::duo::{Duo, pattern, peer, to};
use crate::{Card, Put};

/// Each side comes up with the other's hello, also when that is empty; its caps and its address keep the limits.
pub fn greets_both_sides(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::apart(open());
    for side in [0, 1] {
        let (caps, address) = (duo.end(side).caps(peer(1 - side)), duo.end(side).address());
        assert!(caps.head >= 64 && caps.gather >= 1 && caps.flows >= 1, "caps {caps:?}");
        assert!(address.0.len() <= Card::MAX, "an address of {} bytes", address.0.len());
    }
    let hello = Card(b"I am 1".as_slice().into());
    duo.connect([&Card::default(), &hello]);
    assert_eq!(duo.told[0].hello.as_ref(), Some(&hello));
    assert_eq!(duo.told[1].hello, Some(Card::default()));
}

/// A hello of [`Card::MAX`] bytes arrives whole, in both directions.
pub fn greets_with_the_longest_card(open: &mut dyn FnMut() -> Pair) {
    let mut duo = Duo::apart(open());
    let hellos = [1, 2].map(|seed| Card(pattern(seed, Card::MAX).into()));
    duo.connect([&hellos[0], &hellos[1]]);
    assert_eq!(duo.told[1].hello.as_ref(), Some(&hellos[0]));
    assert_eq!(duo.told[0].hello.as_ref(), Some(&hellos[1]));
}

/// What is no address and no key is an error where it is used, and changes nothing.
pub fn refuses_cards_of_others(open: &mut dyn FnMut() -> Pair) {
    let cards = [0, 1, 7, 100, Card::MAX].map(|len| Card(pattern(3, len).into()));
    for card in &cards {
        let mut duo = Duo::apart(open());
        assert!(duo.end(0).connect(peer(1), card, &Card::default()).is_err(), "address {card:?}");
    }
    let mut duo = Duo::up(open);
    for card in &cards {
        assert!(duo.end(0).import(peer(1), card).is_err(), "key {card:?}");
    }
    let target = duo.target(1, 64);
    duo.post(
        0,
        &Put { head: b"still up", into: Some(target.remote), signal: Some(target.signal), ..to(1) },
    );
    duo.arrive(&target, 1);
    assert_eq!(duo.arrived_bytes(&target, 0, 8), b"still up");
}
