//! The verifier: runs a plan of all ranks on symbols instead of numbers.
//!
//! It proves, for one world and one number of slots:
//!
//! - **values**: every chunk of every output is what the collective says, and each contribution is in it exactly once;
//! - **reads**: no step reads what was not written in the same pass;
//! - **messages**: the k-th send and the k-th receive on an edge have the same number of chunks, and every chunk lands
//!   where chunks have its length; nothing is left over after a pass;
//! - **progress**: no deadlock. In-order ranks and first-in-first-out edges make this independent of timing;
//! - **in place**: all of this with separate buffers and with shared ones. As a rank sends the same symbols either
//!   way, it also holds when some ranks call in place and others do not.
//!
//! Two passes are run, so that scratch and slots are used again. More passes add nothing: a wait never points to a
//! later pass, hence a circle of waits lies within one pass, and every pass is the same.

use std::collections::{HashMap, VecDeque};

use crate::algorithm::{Algorithm, Collective, Shape as Cut, World};
use crate::check;
use crate::flaw::{Flaw, Place};
use crate::memory::{Expected, Memory, Symbol, Who};
use crate::schedule::{At, Halt, Lane, Machine};
use crate::shapes::{Shape, Shapes};
use crate::step::{Buf, Chunks, Rank, Sources, Step};

/// What the verifier found out about a plan that has no flaw.
///
/// Counts are for one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Steps of all ranks on all lanes.
    pub steps: u64,
    /// Messages on the longest chain in which each is sent after the one before was received: the delay of a small
    /// message, in message times.
    pub rounds: u32,
    /// Most messages that one rank sends on one lane.
    pub most_messages: u32,
    /// Most chunks that one rank sends on one lane.
    pub most_chunks: u32,
    /// Most edges that begin or end at one rank on one lane.
    pub most_edges: u32,
    /// Whether all ranks that get the same element get it from the same sum: bit-equal results in floating point,
    /// whatever the rounding. True if nothing is reduced.
    pub bit_equal: bool,
    /// Whether all elements of a block come from the same sum, on whatever lane and in whatever part: results do not
    /// depend on how the vector is cut. True if nothing is reduced.
    pub uniform: bool,
}

/// Passes that are run.
const PASSES: u32 = 2;

/// Proves an algorithm for one collective in one world, with `slots` slots on each edge.
///
/// # Errors
/// The first [`Flaw`] found.
///
/// ```
/// use dure_plan::{Collective, World, find, verify};
///
/// let ring = find(Collective::AllReduce, "ring").unwrap();
/// let proof = verify(Collective::AllReduce, &World::flat(5), ring, 1)?;
/// assert_eq!(proof.rounds, 8);
/// assert!(proof.bit_equal && !proof.uniform);
/// # Ok::<(), dure_plan::Flaw>(())
/// ```
pub fn verify(
    what: Collective,
    world: &World,
    by: &dyn Algorithm,
    slots: u32,
) -> Result<Proof, Flaw> {
    check::world(what, world, slots)?;
    by.serves(what, world)?;
    let cut = by.shape(what, world);
    let ragged = by.ragged(what);
    check::cut(what, world, cut)?;
    check::ragged(by, what, cut, ragged)?;
    let mut shapes = Shapes::new(world.ranks);
    let mut results = Results::default();
    let mut proof = Proof {
        steps: 0,
        rounds: 0,
        most_messages: 0,
        most_chunks: 0,
        most_edges: 0,
        bit_equal: true,
        uniform: true,
    };
    for number in 0..world.lanes {
        let lane = Lane::collect(what, world, by, number);
        check::steps(what, world, cut, &lane)?;
        count(&lane, &mut proof);
        let mut symbols = Symbols::new(what, world, cut, &lane, &mut shapes);
        symbols.ragged = ragged;
        symbols.run(slots)?;
        proof.rounds = proof.rounds.max(symbols.depth.iter().copied().max().unwrap_or(0));
        results.add(&symbols);
        if !matches!(what, Collective::AllToAll | Collective::Barrier) {
            symbols.begin_in_place();
            symbols.run(slots)?;
        }
    }
    if what.reduces() {
        (proof.bit_equal, proof.uniform) = (results.bit_equal, results.uniform);
    }
    Ok(proof)
}

/// Adds the counts of one lane.
fn count(lane: &Lane, proof: &mut Proof) {
    let mut edges = vec![0; lane.steps.len()];
    for edge in &lane.edges {
        edges[edge.from.0 as usize] += 1;
        edges[edge.to.0 as usize] += 1;
    }
    proof.most_edges = edges.into_iter().fold(proof.most_edges, u32::max);
    for steps in &lane.steps {
        let sends = steps.iter().filter_map(|step| {
            if let Step::Send { src, .. } = step { Some(src.len) } else { None }
        });
        let (messages, chunks) =
            sends.fold((0, 0_u32), |(m, c), len| (m + 1, c.saturating_add(len)));
        proof.most_messages = proof.most_messages.max(messages);
        proof.most_chunks = proof.most_chunks.max(chunks);
        proof.steps += steps.len() as u64;
    }
}

/// Which sums the chunks of the results are.
struct Results {
    bit_equal: bool,
    uniform: bool,
    /// The sum of each block that was seen first.
    of_block: HashMap<u32, Shape>,
}

impl Default for Results {
    fn default() -> Self {
        Self { bit_equal: true, uniform: true, of_block: HashMap::new() }
    }
}

impl Results {
    /// Looks at the results of one lane.
    fn add(&mut self, symbols: &Symbols<'_>) {
        let mut of_chunk: HashMap<u32, Shape> = HashMap::new();
        for result in symbols.results.iter().flatten() {
            let block = result.key / symbols.cut.parts;
            self.bit_equal &= *of_chunk.entry(result.key).or_insert(result.shape) == result.shape;
            self.uniform &= *self.of_block.entry(block).or_insert(result.shape) == result.shape;
        }
    }
}

/// The head of a message in flight.
struct Head {
    pass: u32,
    index: u32,
    len: u32,
    depth: u32,
}

/// The machine whose numbers are symbols.
struct Symbols<'a> {
    what: Collective,
    world: &'a World,
    cut: Cut,
    lane: &'a Lane,
    shapes: &'a mut Shapes,
    ragged: bool,
    in_place: bool,
    memories: Vec<Memory>,
    /// Per edge, the messages in flight.
    heads: Vec<VecDeque<Head>>,
    /// Per edge, their chunks.
    bodies: Vec<VecDeque<Symbol>>,
    /// Per edge, who is known to have come, with each message of a barrier.
    news: Vec<VecDeque<Box<[bool]>>>,
    /// Per rank, the length of the longest chain of messages that ends there.
    depth: Vec<u32>,
    /// Per rank, what it sent in its first pass when nothing was in place, in order.
    sent: Vec<Vec<Symbol>>,
    /// How many of them it has sent again in place.
    sent_again: Vec<usize>,
    /// Per rank, its results of the first pass.
    results: Vec<Vec<Symbol>>,
}

impl<'a> Symbols<'a> {
    fn new(
        what: Collective,
        world: &'a World,
        cut: Cut,
        lane: &'a Lane,
        shapes: &'a mut Shapes,
    ) -> Self {
        let ranks = world.ranks as usize;
        let memories =
            (0..world.ranks).map(|me| Memory::new(what, world, cut, Rank(me), false)).collect();
        let queues = lane.edges.len();
        Self {
            what,
            world,
            cut,
            lane,
            shapes,
            ragged: false,
            in_place: false,
            memories,
            heads: (0..queues).map(|_| VecDeque::new()).collect(),
            bodies: (0..queues).map(|_| VecDeque::new()).collect(),
            news: (0..queues).map(|_| VecDeque::new()).collect(),
            depth: vec![0; ranks],
            sent: vec![Vec::new(); ranks],
            sent_again: vec![0; ranks],
            results: vec![Vec::new(); ranks],
        }
    }

    /// From here on calls are in place.
    fn begin_in_place(&mut self) {
        self.in_place = true;
        for (me, memory) in (0..).zip(&mut self.memories) {
            *memory = Memory::new(self.what, self.world, self.cut, Rank(me), true);
        }
    }

    fn run(&mut self, slots: u32) -> Result<(), Flaw> {
        let lane = self.lane;
        lane.run(slots, PASSES, self).map_err(|halt| match halt {
            Halt::Machine(flaw) => flaw,
            Halt::Stuck(at) => Flaw::Deadlock(at.into_iter().map(|at| self.place(at)).collect()),
            Halt::Leftover(edge) => self.leftover(edge),
        })
    }

    fn place(&self, at: At) -> Place {
        let step = self.lane.steps[at.rank as usize][at.index as usize];
        Place { rank: Rank(at.rank), lane: self.lane.number, index: at.index, step }
    }

    /// The oldest message on an edge is nobody's.
    fn leftover(&self, edge: usize) -> Flaw {
        let head =
            self.heads[edge].front().expect("an edge with a message in flight has one queued");
        Flaw::Leftover { at: self.sender(edge, head) }
    }

    fn sender(&self, edge: usize, head: &Head) -> Place {
        self.place(At { rank: self.lane.edges[edge].from.0, pass: head.pass, index: head.index })
    }

    fn send(&mut self, at: At, src: Chunks, edge: usize) -> Result<(), Flaw> {
        let me = at.rank as usize;
        for i in 0..src.len {
            let symbol = self.read(at, Chunks { first: src.first + i, len: 1, ..src })?;
            self.bodies[edge].push_back(symbol);
            if at.pass == 0 && !self.in_place {
                self.sent[me].push(symbol);
            } else if at.pass == 0 {
                self.same_as_before(at, symbol)?;
            }
        }
        if self.what == Collective::Barrier {
            self.news[edge].push_back(self.memories[me].heard().into());
        }
        self.heads[edge].push_back(Head {
            pass: at.pass,
            index: at.index,
            len: src.len,
            depth: self.depth[me] + 1,
        });
        Ok(())
    }

    fn same_as_before(&mut self, at: At, symbol: Symbol) -> Result<(), Flaw> {
        let again = &mut self.sent_again[at.rank as usize];
        let before = self.sent[at.rank as usize][*again];
        *again += 1;
        if symbol == before {
            return Ok(());
        }
        Err(Flaw::InPlace {
            at: self.place(at),
            found: self.describe(symbol),
            wanted: self.describe(before),
        })
    }

    /// Takes the head of the next message and checks it.
    fn receive(&mut self, at: At, len: u32, edge: usize) -> Result<(), Flaw> {
        let head =
            self.heads[edge].pop_front().expect("a receive runs only when a message is there");
        if head.pass != at.pass {
            return Err(Flaw::Leftover { at: self.sender(edge, &head) });
        }
        if head.len != len {
            return Err(Flaw::Mismatch {
                at: self.place(at),
                sent: head.len,
                by: self.sender(edge, &head),
            });
        }
        let depth = &mut self.depth[at.rank as usize];
        if at.pass == 0 {
            *depth = head.depth.max(*depth);
        }
        if self.what == Collective::Barrier {
            let news = self.news[edge].pop_front().expect("each message of a barrier brings news");
            self.memories[at.rank as usize].hear(&news, at.index);
        }
        Ok(())
    }

    /// The symbol of one chunk.
    fn read(&self, at: At, chunk: Chunks) -> Result<Symbol, Flaw> {
        let symbol = self.memories[at.rank as usize].read(chunk);
        symbol.ok_or_else(|| Flaw::Unset { at: self.place(at), chunk })
    }

    /// Stores the symbol of one chunk, if chunks there have its length.
    fn write(&mut self, at: At, chunk: Chunks, symbol: Symbol) -> Result<(), Flaw> {
        let parts = self.cut.parts;
        if symbol.key % parts != chunk.first % parts {
            let wanted = format!("part {} of a block", chunk.first % parts);
            return Err(self.wrong(at, chunk, symbol, wanted));
        }
        if self.ragged {
            let expected = self.expected(at, chunk.first);
            let alone =
                if let Who::One(Rank(rank)) = expected.who { symbol.shape == rank } else { true };
            if symbol.key != expected.key || !alone {
                return Err(self.wrong(at, chunk, symbol, self.describe_expected(expected)));
            }
        }
        self.memories[at.rank as usize].write(chunk, symbol, at.index);
        Ok(())
    }

    /// What chunk `chunk` of the output of a rank must be in the end.
    fn expected(&self, at: At, chunk: u32) -> Expected {
        Expected::of(self.what, self.cut.parts, Rank(at.rank), chunk)
    }

    fn reduce(&mut self, at: At, chunk: Chunks, a: Symbol, b: Symbol) -> Result<Symbol, Flaw> {
        if a.key != b.key {
            return Err(self.wrong(at, chunk, b, self.describe(a)));
        }
        match self.shapes.pair(a.shape, b.shape) {
            Ok(shape) => Ok(Symbol { shape, ..a }),
            Err(of) => Err(Flaw::CountedTwice { at: self.place(at), of: Rank(of) }),
        }
    }

    /// One chunk of an n-ary reduction.
    fn reduce_all(&mut self, at: At, srcs: Sources, dst: Chunks, i: u32) -> Result<(), Flaw> {
        let chunk = Chunks { first: dst.first + i, len: 1, ..dst };
        let mut operands = Vec::new();
        let mut key = None;
        for group in 0..srcs.groups {
            let operand = srcs.operand(group, dst.len);
            let symbol = self.read(at, Chunks { first: operand.first + i, len: 1, ..operand })?;
            let first = *key.get_or_insert(symbol);
            if symbol.key != first.key {
                return Err(self.wrong(at, chunk, symbol, self.describe(first)));
            }
            operands.push(symbol.shape);
        }
        let first = key.expect("a reduction has operands");
        let shape = if operands.len() == 1 { Ok(first.shape) } else { self.shapes.many(&operands) };
        let shape = shape.map_err(|of| Flaw::CountedTwice { at: self.place(at), of: Rank(of) })?;
        self.write(at, chunk, Symbol { shape, ..first })
    }

    fn wrong(&self, at: At, chunk: Chunks, found: Symbol, wanted: String) -> Flaw {
        Flaw::Wrong { at: self.place(at), chunk, found: self.describe(found), wanted }
    }

    fn describe(&self, symbol: Symbol) -> String {
        let (block, part) = (symbol.key / self.cut.parts, symbol.key % self.cut.parts);
        let mut members = self.shapes.members(symbol.shape, true);
        match (members.next(), members.count()) {
            (Some(rank), 0) => format!("part {part} of block {block} of rank {rank}"),
            (_, more) => format!("part {part} of block {block} summed over {} ranks", more + 1),
        }
    }

    fn describe_expected(&self, expected: Expected) -> String {
        let (block, part) = (expected.key / self.cut.parts, expected.key % self.cut.parts);
        match expected.who {
            Who::One(Rank(rank)) => format!("part {part} of block {block} of rank {rank}"),
            Who::All => format!("part {part} of block {block} summed over all ranks"),
        }
    }

    /// Checks the chunks of the output of a rank.
    fn check_output(&self, at: At) -> Result<(), Flaw> {
        let memory = &self.memories[at.rank as usize];
        for first in 0..memory.outputs() {
            let chunk = Chunks { buf: Buf::Output, first, len: 1 };
            let expected = self.expected(at, first);
            let last = memory.writer(chunk).map(|index| self.place(At { index, ..at }));
            let (rank, lane) = (Rank(at.rank), self.lane.number);
            let missing = |of| Flaw::Missing { rank, lane, chunk, of, last };
            let Some(symbol) = memory.read(chunk) else {
                return Err(missing(match expected.who {
                    Who::One(rank) => vec![rank],
                    Who::All => (0..self.world.ranks).map(Rank).collect(),
                }));
            };
            let complete = match expected.who {
                Who::One(rank) => symbol.shape == rank.0,
                Who::All => self.shapes.members(symbol.shape, false).next().is_none(),
            };
            if symbol.key == expected.key && complete {
                continue;
            }
            if symbol.key == expected.key && expected.who == Who::All {
                return Err(missing(self.shapes.members(symbol.shape, false).map(Rank).collect()));
            }
            // In place an output that no step wrote still has the input.
            let Some(at) = last else { return Err(missing(vec![rank])) };
            let (found, wanted) = (self.describe(symbol), self.describe_expected(expected));
            return Err(Flaw::Wrong { at, chunk, found, wanted });
        }
        Ok(())
    }

    /// Checks that a rank has heard of all others.
    fn check_barrier(&self, at: At) -> Result<(), Flaw> {
        let memory = &self.memories[at.rank as usize];
        let of: Vec<Rank> = (0..)
            .map(Rank)
            .zip(memory.heard())
            .filter(|(_, heard)| !**heard)
            .map(|(rank, _)| rank)
            .collect();
        if of.is_empty() {
            return Ok(());
        }
        let last = memory.last_heard().map(|index| self.place(At { index, ..at }));
        let chunk = Chunks { buf: Buf::Output, first: 0, len: 0 };
        Err(Flaw::Missing { rank: Rank(at.rank), lane: self.lane.number, chunk, of, last })
    }
}

impl Machine for Symbols<'_> {
    type Error = Flaw;

    fn step(&mut self, at: At, step: Step, edge: usize) -> Result<(), Flaw> {
        let one = |chunks: Chunks, i| Chunks { first: chunks.first + i, len: 1, ..chunks };
        match step {
            Step::Send { src, .. } => self.send(at, src, edge)?,
            Step::Recv { dst, .. } => {
                self.receive(at, dst.len, edge)?;
                for i in 0..dst.len {
                    let symbol = self.bodies[edge]
                        .pop_front()
                        .expect("a message has as many chunks as its head says");
                    self.write(at, one(dst, i), symbol)?;
                }
            }
            Step::RecvReduce { with, dst, .. } => {
                self.receive(at, dst.len, edge)?;
                for i in 0..dst.len {
                    let symbol = self.bodies[edge]
                        .pop_front()
                        .expect("a message has as many chunks as its head says");
                    let own = self.read(at, one(with, i))?;
                    let sum = self.reduce(at, one(dst, i), own, symbol)?;
                    self.write(at, one(dst, i), sum)?;
                }
            }
            Step::Copy { src, dst } => {
                for i in 0..dst.len {
                    let symbol = self.read(at, one(src, i))?;
                    self.write(at, one(dst, i), symbol)?;
                }
            }
            Step::Reduce { srcs, dst } => {
                (0..dst.len).try_for_each(|i| self.reduce_all(at, srcs, dst, i))?
            }
        }
        Ok(())
    }

    fn end_of_pass(&mut self, at: At) -> Result<(), Flaw> {
        self.check_output(at)?;
        if self.what == Collective::Barrier {
            self.check_barrier(at)?;
        }
        let memory = &mut self.memories[at.rank as usize];
        if at.pass == 0 && !self.in_place {
            self.results[at.rank as usize] = memory.results();
        }
        memory.begin_pass();
        Ok(())
    }
}
