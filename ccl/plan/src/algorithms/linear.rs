//! Linear: the root talks to everybody itself. Every byte crosses once, and blocks may have any length.

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::algorithms::build::{alone, copy, only, recv, send, written};
use crate::step::{Rank, Step, input, output};

/// `linear`: gather, scatter.
#[derive(Debug)]
pub(super) struct Linear;

impl Algorithm for Linear {
    fn name(&self) -> &str {
        "linear"
    }

    fn serves(&self, what: Collective, _: &World) -> Result<(), Refusal> {
        only(self, what, matches!(what, Collective::Gather { .. } | Collective::Scatter { .. }))
    }

    fn ragged(&self, what: Collective) -> bool {
        matches!(what, Collective::Gather { .. } | Collective::Scatter { .. })
    }

    fn shape(&self, _: Collective, _: &World) -> Shape {
        Shape { parts: 1, scratch: 0, run: 1 }
    }

    fn steps<'w>(
        &'w self,
        what: Collective,
        world: &'w World,
        Rank(me): Rank,
        _: u16,
    ) -> Steps<'w> {
        let n = world.ranks;
        match what {
            _ if n == 1 => alone(what, 1),
            Collective::Gather { root: Rank(root) } if root == me => Box::new(gather(n, me)),
            Collective::Gather { root } => written(vec![send(root.0, input(0, 1))]),
            Collective::Scatter { root: Rank(root) } if root == me => Box::new(scatter(n, me)),
            other => {
                let Rank(root) = other.root().expect("linear serves rooted collectives only");
                written(vec![recv(root, output(0, 1))])
            }
        }
    }
}

fn gather(n: u32, me: u32) -> impl Iterator<Item = Step> + Send {
    let own = copy(input(0, 1), output(me, 1));
    std::iter::once(own)
        .chain((1..n).map(move |s| (me + s) % n).map(|from| recv(from, output(from, 1))))
}

fn scatter(n: u32, me: u32) -> impl Iterator<Item = Step> + Send {
    let own = copy(input(me, 1), output(0, 1));
    (1..n).map(move |s| (me + s) % n).map(|to| send(to, input(to, 1))).chain(std::iter::once(own))
}
