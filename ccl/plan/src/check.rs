//! What the verifier can see without running anything.

use std::ops::Range;

use crate::algorithm::{Algorithm, Collective, Shape as Cut, World};
use crate::flaw::{Flaw, Place};
use crate::memory::Places;
use crate::schedule::Lane;
use crate::step::{Buf, Chunks, Rank, Step};

/// The arguments of a proof make sense.
pub(crate) fn world(what: Collective, world: &World, slots: u32) -> Result<(), Flaw> {
    let why = if world.ranks == 0 {
        "there are no ranks"
    } else if world.lanes == 0 {
        "there are no lanes"
    } else if slots == 0 {
        "there are no slots"
    } else if world.host_of.len() != world.ranks as usize {
        "the world does not name one host per rank"
    } else if what.root().is_some_and(|root| root.0 >= world.ranks) {
        "the root is no rank"
    } else {
        return Ok(());
    };
    Err(Flaw::Unprovable(why.to_owned()))
}

/// Most chunks that all ranks together may have: what a proof may use of memory, about a gigabyte.
const MOST_CELLS: u64 = 1 << 26;

/// The shape makes sense, and all ranks' chunks can be kept.
pub(crate) fn cut(what: Collective, world: &World, cut: Cut) -> Result<(), Flaw> {
    if cut.parts == 0 || cut.run == 0 {
        return Err(Flaw::Unprovable(
            "blocks need at least one part, and messages room for one chunk".to_owned(),
        ));
    }
    let blocks = u128::from(what.whole(world.ranks).max(1)) * 2;
    let cells =
        u128::from(world.ranks) * (blocks * u128::from(cut.parts) + u128::from(cut.scratch));
    if cells > u128::from(MOST_CELLS) {
        return Err(Flaw::Unprovable(format!(
            "{cells} chunks on all ranks are more than {MOST_CELLS}"
        )));
    }
    Ok(())
}

/// Where blocks differ in length, nobody knows how long a chunk of scratch is.
pub(crate) fn ragged(
    by: &dyn Algorithm,
    what: Collective,
    cut: Cut,
    ragged: bool,
) -> Result<(), Flaw> {
    if ragged && cut.scratch > 0 {
        return Err(Flaw::Unprovable(format!(
            "{} says that {what} may be ragged, but needs scratch",
            by.name()
        )));
    }
    Ok(())
}

/// Every step keeps the rules for single steps, in place and not.
pub(crate) fn steps(what: Collective, world: &World, cut: Cut, lane: &Lane) -> Result<(), Flaw> {
    for (rank, steps) in (0..).map(Rank).zip(&lane.steps) {
        let places =
            [false, true].map(|in_place| Places::new(what, world.ranks, cut, rank, in_place));
        for (index, &step) in (0..).zip(steps) {
            let at = Place { rank, lane: lane.number, index, step };
            let rule = Rules { at, ranks: world.ranks, run: cut.run, places };
            rule.peer()?;
            rule.chunks()?;
        }
    }
    Ok(())
}

/// The rules for one step.
struct Rules {
    at: Place,
    ranks: u32,
    run: u32,
    /// Not in place, and in place.
    places: [Places; 2],
}

impl Rules {
    fn broken(&self, rule: &'static str) -> Flaw {
        Flaw::Malformed { at: self.at, rule }
    }

    fn ensure(&self, holds: bool, rule: &'static str) -> Result<(), Flaw> {
        if holds { Ok(()) } else { Err(self.broken(rule)) }
    }

    /// A message goes to another rank.
    fn peer(&self) -> Result<(), Flaw> {
        let Some(peer) = self.at.step.peer() else { return Ok(()) };
        self.ensure(peer != self.at.rank, "a rank does not talk to itself")?;
        self.ensure(peer.0 < self.ranks, "there is no such rank")
    }

    fn chunks(&self) -> Result<(), Flaw> {
        match self.at.step {
            Step::Send { src, .. } => {
                self.exists(src)?;
                self.message(src)
            }
            Step::Recv { dst, .. } => {
                self.target(dst)?;
                self.message(dst)
            }
            Step::RecvReduce { with, dst, .. } => {
                self.target(dst)?;
                self.message(dst)?;
                self.operand(with, dst)
            }
            Step::Copy { src, dst } => {
                self.target(dst)?;
                self.operand(src, dst)
            }
            Step::Reduce { srcs, dst } => {
                self.target(dst)?;
                self.ensure(srcs.at < srcs.groups, "the own operand is none of the operands")?;
                for group in 0..srcs.groups {
                    self.operand(srcs.operand(group, dst.len), dst)?;
                    self.ensure(group < self.ranks, "there are more operands than ranks")?;
                }
                Ok(())
            }
        }
    }

    fn exists(&self, chunks: Chunks) -> Result<(), Flaw> {
        let limit = self.places[0].limit(chunks.buf);
        // Nothing is nowhere: a message of no chunks may name any buffer.
        if chunks.len > 0 && chunks.first.checked_add(chunks.len).is_none_or(|end| end > limit) {
            return Err(Flaw::OutOfRange { at: self.at, chunks, limit });
        }
        Ok(())
    }

    fn message(&self, chunks: Chunks) -> Result<(), Flaw> {
        self.ensure(chunks.len <= self.run, "the message has more chunks than the shape allows")
    }

    fn target(&self, dst: Chunks) -> Result<(), Flaw> {
        self.exists(dst)?;
        self.ensure(dst.buf != Buf::Input || dst.len == 0, "the input is never written")
    }

    /// A local operand is as long as the target, and is all of it or apart from it.
    fn operand(&self, src: Chunks, dst: Chunks) -> Result<(), Flaw> {
        self.exists(src)?;
        self.ensure(src.len == dst.len, "source and target differ in length")?;
        let apart = self.places.iter().all(|places| {
            let cells =
                |chunks| -> Range<u32> { places.cell(chunks)..places.cell(chunks) + src.len };
            let (a, b) = (cells(src), cells(dst));
            a == b || a.end <= b.start || b.end <= a.start
        });
        self.ensure(apart || src.len == 0, "source and target overlap, but are not the same")
    }
}
