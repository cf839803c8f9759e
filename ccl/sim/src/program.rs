//! The steps of the ranks that are simulated, with their edges.

use dure_plan::{Algorithm, Chunks, Collective, Rank, Step, World};

use crate::error::Error;

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Send,
    Recv,
    RecvReduce,
    Copy,
    Reduce,
}

/// A step: what it does, on which edge (of a reduction, how many operands it has), and the run of chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) act: Act,
    pub(crate) edge: u32,
    pub(crate) first: u32,
    pub(crate) len: u32,
    /// It sends the same bytes as the step before it.
    pub(crate) again: bool,
}

/// An ordered stream of messages from one process to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    /// The sender, who is simulated.
    pub(crate) from: Rank,
    /// The receiver; where one host stands for all, its image is simulated.
    pub(crate) to: Rank,
    /// Process of the receiver, or of its image.
    pub(crate) receiver: u32,
    /// Process of the sender.
    pub(crate) sender: u32,
    /// Messages of one pass.
    pub(crate) sends: u32,
}

/// Which ranks are simulated: all, or the first `size` for all others, who do the same a multiple of `size` ranks on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) ranks: u32,
    pub(crate) size: u32,
}

impl Sample {
    /// The rank that stands for a rank.
    pub(crate) fn image(self, rank: u32) -> u32 {
        if self.size == self.ranks { rank } else { rank % self.size }
    }
}

/// The steps of the sample, lane by lane: process `rank * lanes + lane`.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) ops: Vec<Op>,
    /// Where the steps of each process end.
    pub(crate) ends: Vec<u32>,
    pub(crate) edges: Vec<Edge>,
    /// Per process, the edges that leave it, by how far the receiver is, which goes around.
    out: Vec<Vec<(u32, u32)>>,
}

impl Program {
    /// Collects the steps of a sample; `None` when there are more than `limit`.
    ///
    /// # Errors
    /// [`Error::Step`] for a step that no rank of the world can do: it comes from a plan that was not verified.
    pub(crate) fn collect(
        (what, world): (Collective, &World),
        by: &dyn Algorithm,
        sample: Sample,
        limit: u64,
    ) -> Result<Option<Self>, Error> {
        let lanes = u32::from(world.lanes);
        let processes = sample.size as usize * usize::from(world.lanes);
        let mut program = Self { out: vec![Vec::new(); processes], ..Self::default() };
        for rank in 0..sample.size {
            for lane in 0..world.lanes {
                let place = Place { sample, lanes, me: rank, lane: lane.into() };
                let mut before: Option<Step> = None;
                for step in by.steps(what, world, Rank(rank), lane) {
                    if program.ops.len() as u64 >= limit {
                        return Ok(None);
                    }
                    let op =
                        program.op(place, step).filter(|op| op.first.checked_add(op.len).is_some());
                    let op = op.ok_or_else(|| Error::Step {
                        algorithm: by.name().to_owned(),
                        rank,
                        step: step.to_string(),
                    })?;
                    let again = before.is_some_and(|before| step.sends_again(&before));
                    program.ops.push(Op { again, ..op });
                    before = Some(step);
                }
                let Ok(end) = u32::try_from(program.ops.len()) else { return Ok(None) };
                program.ends.push(end);
            }
        }
        Ok(Some(program))
    }

    /// The step; `None` when its peer is no rank.
    fn op(&mut self, place: Place, step: Step) -> Option<Op> {
        let me = place.me;
        if step.peer().is_some_and(|Rank(peer)| peer >= place.sample.ranks) {
            return None;
        }
        let of = |act, edge, Chunks { first, len, .. }: Chunks| Op {
            act,
            edge,
            first,
            len,
            again: false,
        };
        Some(match step {
            Step::Send { to, src } => {
                let edge = self.edge(place, me, to.0);
                self.edges[edge as usize].sends += 1;
                of(Act::Send, edge, src)
            }
            Step::Recv { from, dst } => of(Act::Recv, self.edge(place, from.0, me), dst),
            Step::RecvReduce { from, dst, .. } => {
                of(Act::RecvReduce, self.edge(place, from.0, me), dst)
            }
            Step::Copy { dst, .. } => of(Act::Copy, 0, dst),
            Step::Reduce { srcs, dst } => of(Act::Reduce, srcs.groups, dst),
        })
    }

    fn edge(&mut self, place: Place, from: u32, to: u32) -> u32 {
        let Place { sample, lanes, lane, .. } = place;
        let away = (to + sample.ranks - from) % sample.ranks;
        let image = sample.image(from);
        let sender = image * lanes + lane;
        let out = &mut self.out[sender as usize];
        match out.binary_search_by_key(&away, |(away, _)| *away) {
            Ok(at) => out[at].1,
            Err(at) => {
                let edge = u32::try_from(self.edges.len()).expect("fewer edges than steps");
                out.insert(at, (away, edge));
                let to = (image + away) % sample.ranks;
                let receiver = sample.image(to) * lanes + lane;
                self.edges.push(Edge {
                    from: Rank(image),
                    to: Rank(to),
                    receiver,
                    sender,
                    sends: 0,
                });
                edge
            }
        }
    }

    /// The edges of the rank that has most.
    pub(crate) fn peers(&self, sample: Sample) -> Edges {
        let ranks = sample.ranks;
        let mut peers = Vec::with_capacity(2 * self.edges.len());
        let mut arriving = vec![0_u64; sample.size as usize];
        for Edge { from, to, .. } in &self.edges {
            let away = (to.0 + ranks - from.0) % ranks;
            let receiver = sample.image(to.0);
            peers.push((from.0, away));
            peers.push((receiver, (ranks - away) % ranks));
            arriving[receiver as usize] += 1;
        }
        peers.sort_unstable();
        peers.dedup();
        let most_peers = peers.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).max().unwrap_or(0);
        Edges {
            most_peers: u32::try_from(most_peers).expect("peers are numbered by u32"),
            most_in: arriving.into_iter().max().unwrap_or(0),
        }
    }
}

/// How many edges there are at one rank, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edges {
    /// Peers.
    pub(crate) most_peers: u32,
    /// Edges by which messages come, on all lanes.
    pub(crate) most_in: u64,
}

/// Whose step it is.
#[derive(Clone, Copy)]
struct Place {
    sample: Sample,
    lanes: u32,
    me: u32,
    lane: u32,
}
