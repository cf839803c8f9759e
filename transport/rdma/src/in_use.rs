//! Which rails a pair uses, and how much of a long message each gets.

use std::time::Duration;

use crate::card::{PORTS, Rail};
use crate::stripe::Order;

/// The rails of a pair that are in use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InUse {
    /// Places among the pair's rails.
    places: [u8; PORTS],
    /// Of each, in Mb/s: what the ports are made for, and more and more what was measured.
    bandwidths: [u64; PORTS],
    count: usize,
}

impl InUse {
    /// Those whose bits are set.
    pub(crate) fn new(rails: &[Rail], bits: u8) -> Self {
        let mut in_use = Self::default();
        for (place, rail) in (0_u8..).zip(rails).filter(|(place, _)| bits & 1 << place != 0) {
            in_use.places[in_use.count] = place;
            in_use.bandwidths[in_use.count] = rail.speed.into();
            in_use.count += 1;
        }
        in_use
    }

    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The place of the `turn`-th among the pair's rails.
    #[inline]
    pub(crate) fn place(&self, turn: usize) -> usize {
        self.places[turn].into()
    }

    pub(crate) fn bandwidths(&self) -> &[u64] {
        &self.bandwidths[..self.count]
    }

    /// So many bytes of a striped message took so long on one of them. Only the ratios to one another matter, and a rail that
    /// others load as well is as slow as it looks.
    pub(crate) fn measured(&mut self, turn: usize, bytes: u64, took: Duration) {
        let nanos = took.as_nanos().clamp(1, u64::MAX.into());
        let now = u64::try_from(u128::from(bytes) * 8000 / nanos).unwrap_or(u64::MAX);
        let known = &mut self.bandwidths[turn];
        // An eighth of the new one each time, so that one late completion changes little.
        *known = (*known - *known / 8).saturating_add(now / 8).clamp(1, u32::MAX.into());
    }

    /// The turn of the rail whose queue pair carries what a flow does not stripe.
    #[inline]
    pub(crate) fn home(&self, flow: u16) -> usize {
        usize::from(flow) % self.count.max(1)
    }

    /// How a flow's messages keep their order over them.
    pub(crate) fn order(&self, flow: u16) -> Order {
        Order::new(self.count, self.home(flow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stripe::cut;

    fn rail(place: usize) -> Rail {
        Rail { here: place, there: place, gids: (0, 0), speed: 100_000, mtu: 4096 }
    }

    #[test]
    fn the_bits_say_which_are_in_use() {
        let in_use = InUse::new(&[rail(0), rail(1), rail(2)], 0b101);
        assert_eq!((in_use.count(), in_use.place(0), in_use.place(1)), (2, 0, 2));
        assert_eq!([0, 1, 2].map(|flow| in_use.home(flow)), [0, 1, 0]);
        let none = InUse::new(&[rail(0)], 0);
        assert_eq!((none.count(), none.home(3)), (0, 0));
    }

    #[test]
    fn a_rail_that_is_slower_than_its_port_gets_less() {
        let mut in_use = InUse::new(&[rail(0), rail(1)], 0b11);
        let len = 8 << 20;
        // GB/s that the rails really have.
        let really = [12.0, 4.0];
        let share = |in_use: &InUse| {
            let parts = cut(len, in_use.bandwidths(), 0, 1 << 30);
            parts.iter().map(|part| part.len).collect::<Vec<_>>()
        };
        assert_eq!(share(&in_use), [len / 2, len / 2]);
        for _ in 0..60 {
            for (turn, bytes) in share(&in_use).into_iter().enumerate() {
                let seconds = f64::from(u32::try_from(bytes).unwrap()) / (really[turn] * 1e9);
                in_use.measured(turn, bytes, Duration::from_secs_f64(seconds));
            }
        }
        let first = share(&in_use)[0];
        assert!((len * 73 / 100..len * 77 / 100).contains(&first), "{first} of {len}");
    }

    #[test]
    fn no_measurement_leaves_a_rail_without_a_share() {
        let mut in_use = InUse::new(&[rail(0), rail(1)], 0b11);
        for _ in 0..300 {
            in_use.measured(0, 0, Duration::from_secs(1));
            in_use.measured(1, u64::MAX, Duration::ZERO);
        }
        assert!(in_use.bandwidths()[0] >= 1);
        assert_eq!(cut(1 << 20, in_use.bandwidths(), 0, 1 << 30).len(), 2);
    }
}
