//! How many bytes chunks have: what the executor's geometry says, made quick to ask.

use dure_exec::{Geometry, Layouts};
use dure_plan::{Collective, Rank, Shape, World};

use crate::cost::Options;
use crate::error::Error;

/// The bytes of runs of chunks, by lane and pass. Blocks are all of one length, so that a chunk has as many bytes as
/// its part, whatever its buffer and block.
#[derive(Debug)]
pub(crate) struct Sizes {
    parts: u32,
    lanes: Box<[Lane]>,
}

/// One lane.
#[derive(Debug)]
struct Lane {
    /// Where each part begins in a full pass, and where the last one ends.
    full: Box<[u64]>,
    /// The same in the last pass.
    last: Box<[u64]>,
    passes: u32,
}

impl Sizes {
    /// Those of a call on `bytes` bytes of the whole vector.
    pub(crate) fn new(
        (what, world): (Collective, &World),
        shape: Shape,
        (bytes, elem): (u64, u32),
        options: &Options,
    ) -> Result<Self, Error> {
        let blocks = u64::from(what.whole(world.ranks).max(1));
        let elems = if what.whole(world.ranks) == 0 {
            0
        } else {
            bytes.div_ceil(u64::from(elem)).div_ceil(blocks)
        };
        let lane = |lane| {
            let layouts = Layouts::even(what, (world.ranks, Rank(0)), elem, elems);
            let geometry = Geometry::new(layouts, shape, options.slot_bytes, lane, world.lanes)
                .map_err(|error| Error::Slots(error.to_string()))?;
            Ok(Lane::new(&geometry, shape.parts, what.whole(world.ranks) > 0))
        };
        let lanes = (0..world.lanes).map(lane).collect::<Result<_, Error>>()?;
        Ok(Self { parts: shape.parts, lanes })
    }

    /// Passes of the lane that has most.
    pub(crate) fn passes(&self) -> u32 {
        self.lanes.iter().map(|lane| lane.passes).max().unwrap_or(1)
    }

    /// Full passes that would carry as many bytes as all passes do, on the lane that has most.
    pub(crate) fn full_passes(&self) -> f64 {
        let lane = |lane: &Lane| {
            let end = |parts: &[u64]| parts.last().copied().unwrap_or(0) as f64;
            let last = if end(&lane.full) > 0.0 { end(&lane.last) / end(&lane.full) } else { 1.0 };
            f64::from(lane.passes - 1) + last
        };
        self.lanes.iter().map(lane).fold(1.0, f64::max)
    }

    /// Bytes of `len` chunks from `first` on. All passes but a lane's last are full ones; none after it has any.
    #[inline]
    pub(crate) fn bytes(&self, lane: u16, pass: u32, (first, len): (u32, u32)) -> u64 {
        let lane = &self.lanes[usize::from(lane)];
        let parts = match (pass + 1).cmp(&lane.passes) {
            std::cmp::Ordering::Less => &lane.full,
            std::cmp::Ordering::Equal => &lane.last,
            std::cmp::Ordering::Greater => return 0,
        };
        let upto = |chunk: u32| {
            u64::from(chunk / self.parts) * parts[self.parts as usize]
                + parts[(chunk % self.parts) as usize]
        };
        upto(first + len) - upto(first)
    }

    /// All chunks of the same length: what they have on average, but where there are fewer bytes than chunks, as long as
    /// those that are not empty. Where all ranks do the same with different chunks, this is what any of them does.
    pub(crate) fn levelled(&self) -> Self {
        let level = |parts: &[u64]| -> Box<[u64]> {
            let count = parts.len() as u64 - 1;
            let longest = parts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            let shortest = parts.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(0);
            let all = parts.last().copied().unwrap_or(0);
            let each = if shortest == 0 { longest } else { all.div_ceil(count.max(1)) };
            (0..=count).map(|part| part * each).collect()
        };
        let lane = |lane: &Lane| Lane {
            full: level(&lane.full),
            last: level(&lane.last),
            passes: lane.passes,
        };
        Self { parts: self.parts, lanes: self.lanes.iter().map(lane).collect() }
    }
}

impl Lane {
    fn new(geometry: &Geometry, parts: u32, has_blocks: bool) -> Self {
        let table = |pass| -> Box<[u64]> {
            if !has_blocks {
                return (0..=parts).map(|_| 0).collect();
            }
            let begin = geometry.in_whole(0, pass).start;
            let ends = (0..parts).map(|part| geometry.in_whole(part, pass).end - begin);
            std::iter::once(0).chain(ends).collect()
        };
        let passes = geometry.passes();
        Self { full: table(0), last: table(passes - 1), passes }
    }
}
