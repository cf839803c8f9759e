//! Neighbor exchange: ranks of a ring pair up with their neighbors to the one side and to the other in turn, and pass on
//! the two blocks that came last. Half the rounds of a ring, with the same bytes.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, only, recv, send, written};
use crate::step::{Rank, input, output};

/// `neighbor-exchange`: all-gather of an even number of ranks (or one).
#[derive(Debug)]
pub(super) struct NeighborExchange;

impl Algorithm for NeighborExchange {
    fn name(&self) -> &str {
        "neighbor-exchange"
    }

    fn serves(&self, what: Collective, world: &World) -> Result<(), Refusal> {
        only(self, what, what == Collective::AllGather)?;
        if world.ranks == 1 || world.ranks.is_multiple_of(2) {
            return Ok(());
        }
        Err(Refusal {
            algorithm: self.name().to_owned(),
            what: what.to_string(),
            why: format!("{} ranks do not pair up: their number must be even", world.ranks),
        })
    }

    fn ragged(&self, _: Collective) -> bool {
        true
    }

    fn shape(&self, _: Collective, _: &World) -> Shape {
        Shape { parts: 1, scratch: 0, run: 2 }
    }

    /// Pairs are numbered along the ring. In round `2k-1` the lower rank of pair `p` gets the blocks of pair `p-k` from
    /// below, in round `2k` those of pair `p+k` from its partner; for the upper rank it is the other way round.
    fn steps<'w>(
        &'w self,
        what: Collective,
        world: &'w World,
        Rank(me): Rank,
        _: u16,
    ) -> Steps<'w> {
        let n = world.ranks;
        if n == 1 {
            return alone(what, 1);
        }
        let (pairs, pair, is_lower) = (n / 2, me / 2, me.is_multiple_of(2));
        let partner = me ^ 1;
        let outside = if is_lower { (me + n - 1) % n } else { (me + 1) % n };
        let mut steps = vec![
            send(partner, input(0, 1)),
            copy(input(0, 1), output(me, 1)),
            recv(partner, output(partner, 1)),
        ];
        let mut last = pair;
        for round in 1..pairs {
            let (with, away) = (if round % 2 == 1 { outside } else { partner }, round.div_ceil(2));
            let comes_from_below = is_lower == (round % 2 == 1);
            let next = if comes_from_below { pair + pairs - away } else { pair + away } % pairs;
            steps.push(send(with, output(2 * last, 2)));
            steps.push(recv(with, output(2 * next, 2)));
            last = next;
        }
        written(steps)
    }
}
