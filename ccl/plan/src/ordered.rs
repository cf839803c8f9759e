//! Another order of ranks: an algorithm that follows the fabric instead of the numbers of ranks.

use std::fmt::Debug;

use crate::algorithm::{Algorithm, Collective, Refusal, Shape, Steps, World};
use crate::host_map::HostMap;
use crate::step::{Buf, Chunks, Rank, Sources, Step};

/// An algorithm whose neighbours are neighbours in an order of the ranks: it runs on the places of that order, and each
/// place is a rank. Rings and trees then cross the fabric as seldom as the order lets them.
///
/// It serves one world, and what the algorithm serves there, but for messages of several blocks: blocks that are
/// neighbours in the order are not neighbours in memory.
///
/// ```
/// use dure_plan::{Collective, Ordered, World, find, verify};
///
/// let world = World { host_of: [0, 1, 0, 1].into(), ..World::flat(4) };
/// let ring = find(Collective::AllReduce, "ring").unwrap();
/// let by_host = Ordered::new(ring, &world, &[0, 2, 1, 3]);
/// assert!(verify(Collective::AllReduce, &world, &by_host, 1).unwrap().bit_equal);
/// ```
#[derive(Clone, Debug)]
pub struct Ordered<'a> {
    by: &'a dyn Algorithm,
    /// The rank at each place.
    rank_at: Box<[u32]>,
    /// The place of each rank.
    place_of: Box<[u32]>,
    /// The world of the places.
    places: World,
}

impl<'a> Ordered<'a> {
    /// `order` names every rank of the world once.
    ///
    /// # Panics
    /// When it does not.
    pub fn new(by: &'a dyn Algorithm, world: &World, order: &[u32]) -> Self {
        let mut place_of = vec![u32::MAX; world.ranks as usize];
        for (place, rank) in (0..).zip(order) {
            place_of[*rank as usize] = place;
        }
        let once = order.len() == place_of.len() && !place_of.contains(&u32::MAX);
        assert!(once, "an order names every rank once");
        let places = World { host_of: hosts(world, order), ..world.clone() };
        Self { by, rank_at: order.into(), place_of: place_of.into(), places }
    }

    fn place(&self, rank: Rank) -> Rank {
        Rank(self.place_of[rank.0 as usize])
    }

    fn rank(&self, place: Rank) -> Rank {
        Rank(self.rank_at[place.0 as usize])
    }

    /// The collective on places.
    fn on_places(&self, what: Collective) -> Collective {
        match what {
            Collective::Broadcast { root } => Collective::Broadcast { root: self.place(root) },
            Collective::Reduce { root } => Collective::Reduce { root: self.place(root) },
            Collective::Gather { root } => Collective::Gather { root: self.place(root) },
            Collective::Scatter { root } => Collective::Scatter { root: self.place(root) },
            Collective::AllReduce
            | Collective::ReduceScatter
            | Collective::AllGather
            | Collective::AllToAll
            | Collective::Barrier => what,
        }
    }

    /// A step of places as a step of ranks.
    fn step(&self, step: Step, blocks: &BlocksOfRanks) -> Step {
        let chunks = |chunks: Chunks| self.chunks(chunks, blocks);
        match step {
            Step::Send { to, src } => Step::Send { to: self.rank(to), src: chunks(src) },
            Step::Recv { from, dst } => Step::Recv { from: self.rank(from), dst: chunks(dst) },
            Step::RecvReduce { from, with, dst } => {
                Step::RecvReduce { from: self.rank(from), with: chunks(with), dst: chunks(dst) }
            }
            Step::Copy { src, dst } => Step::Copy { src: chunks(src), dst: chunks(dst) },
            Step::Reduce { srcs, dst } => {
                let srcs = Sources { own: chunks(srcs.own), ..srcs };
                Step::Reduce { srcs, dst: chunks(dst) }
            }
        }
    }

    fn chunks(&self, chunks: Chunks, blocks: &BlocksOfRanks) -> Chunks {
        let by_rank = match chunks.buf {
            Buf::Input => blocks.input,
            Buf::Output => blocks.output,
            Buf::Scratch => false,
        };
        if !by_rank || chunks.len == 0 {
            return chunks;
        }
        let (block, part) = (chunks.first / blocks.parts, chunks.first % blocks.parts);
        Chunks { first: self.rank_at[block as usize] * blocks.parts + part, ..chunks }
    }
}

/// Which buffers of a rank have a block for each rank.
struct BlocksOfRanks {
    input: bool,
    output: bool,
    parts: u32,
}

impl Algorithm for Ordered<'_> {
    fn name(&self) -> &str {
        self.by.name()
    }

    fn serves(&self, what: Collective, world: &World) -> Result<(), Refusal> {
        let refuse = |why: &str| {
            Err(Refusal {
                algorithm: self.name().to_owned(),
                what: what.to_string(),
                why: why.to_owned(),
            })
        };
        if world.host_of.len() != self.rank_at.len()
            || hosts(world, &self.rank_at) != self.places.host_of
            || world.lanes != self.places.lanes
        {
            return refuse("the order is for another world");
        }
        let inside = self.on_places(what);
        self.by.serves(inside, &self.places)?;
        let shape = self.by.shape(inside, &self.places);
        if what.whole(world.ranks) > 1 && shape.run > 1 {
            return refuse(
                "it sends several blocks at once, which are not neighbours in another order",
            );
        }
        Ok(())
    }

    fn ragged(&self, what: Collective) -> bool {
        self.by.ragged(self.on_places(what))
    }

    fn shape(&self, what: Collective, _: &World) -> Shape {
        self.by.shape(self.on_places(what), &self.places)
    }

    fn steps<'w>(&'w self, what: Collective, _: &'w World, me: Rank, lane: u16) -> Steps<'w> {
        let inside = self.on_places(what);
        let ranks = self.places.ranks;
        let own = what.blocks(ranks, me);
        let blocks = BlocksOfRanks {
            input: own.input > 1,
            output: own.output > 1,
            parts: self.by.shape(inside, &self.places).parts,
        };
        let steps = self.by.steps(inside, &self.places, self.place(me), lane);
        Box::new(steps.map(move |step| self.step(step, &blocks)))
    }
}

/// The hosts of the places of an order, numbered as they first appear there.
fn hosts(world: &World, order: &[u32]) -> HostMap {
    let most = world.host_of.iter().max().map_or(0, |last| *last as usize + 1);
    let mut numbers = vec![None; most];
    let mut next = 0;
    let number = |rank: &u32| {
        *numbers[world.host_of[*rank as usize] as usize].get_or_insert_with(|| {
            next += 1;
            next - 1
        })
    };
    order.iter().map(number).collect()
}
