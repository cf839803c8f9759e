//! Geometry turns chunk numbers into byte ranges. Plans know no bytes; this is the only place that does.
//!
//! Each block of a buffer is first shared out to the lanes, then swept in passes, and the piece that a pass covers is
//! cut into parts. Every cut falls on a multiple of `unit` elements (64 bytes where that is possible), so that chunks
//! keep the alignment of the buffer.

use std::ops::Range;
use std::sync::Arc;

use dure_plan::{Blocks, Buf, Chunks, Collective, Rank, Shape};

use crate::Error;

/// Cuts fall on multiples of this many bytes: a cache line, and the widest vector register.
const ALIGN: u64 = 64;

/// Where the blocks of a buffer are, in elements.
#[derive(Clone, Debug)]
pub enum Layout {
    /// Block `b` has `elems` elements and begins at element `b * elems`.
    Even {
        /// Elements per block.
        elems: u64,
        /// Number of blocks.
        blocks: u32,
    },
    /// Each block where its range says.
    Ragged(Arc<[Range<u64>]>),
}

impl Layout {
    /// No blocks at all.
    pub const NONE: Self = Self::Even { elems: 0, blocks: 0 };

    fn block(&self, block: u32) -> Range<u64> {
        match self {
            Self::Even { elems, .. } => u64::from(block) * elems..(u64::from(block) + 1) * elems,
            Self::Ragged(ranges) => ranges[block as usize].clone(),
        }
    }

    fn longest(&self) -> u64 {
        match self {
            Self::Even { elems, blocks } => {
                if *blocks == 0 {
                    0
                } else {
                    *elems
                }
            }
            Self::Ragged(ranges) => ranges.iter().map(|r| r.end - r.start).max().unwrap_or(0),
        }
    }

    /// Elements from the start of the buffer to the end of the block that ends last.
    pub fn extent(&self) -> u64 {
        match self {
            Self::Even { elems, blocks } => elems * u64::from(*blocks),
            Self::Ragged(ranges) => ranges.iter().map(|r| r.end).max().unwrap_or(0),
        }
    }
}

/// The layouts of a call's buffers.
#[derive(Clone, Debug)]
pub struct Layouts {
    /// Size of an element in bytes.
    pub elem: u32,
    /// The input's blocks.
    pub input: Layout,
    /// The output's blocks.
    pub output: Layout,
    /// The whole vector's, which sizes the scratch ([`dure_plan::Collective::whole`]).
    pub whole: Layout,
    /// Blocks differ in length, on some rank at least; the same on all ranks.
    pub ragged: bool,
}

impl Layouts {
    /// Those of a collective on rank `me` of `ranks` whose blocks all have `elems` elements of `elem` bytes.
    pub fn even(what: Collective, (ranks, me): (u32, Rank), elem: u32, elems: u64) -> Self {
        let Blocks { input, output } = what.blocks(ranks, me);
        let even = |blocks| Layout::Even { elems, blocks };
        let whole = even(what.whole(ranks));
        Self { elem, input: even(input), output: even(output), whole, ragged: false }
    }

    /// Memory of the lists of blocks, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let list = |layout: &Layout| match layout {
            Layout::Even { .. } => 0,
            Layout::Ragged(ranges) => size_of_val(&**ranges),
        };
        list(&self.input) + list(&self.output) + list(&self.whole)
    }
}

/// The byte ranges of every chunk in every pass, for one lane of one call.
#[derive(Clone, Debug)]
pub struct Geometry {
    layouts: Layouts,
    parts: u32,
    /// Blocks times parts of the whole vector, at least 1.
    period: u32,
    /// Elements between two scratch chunks: the longest chunk.
    stride: u64,
    /// Cuts fall on multiples of this many elements.
    unit: u64,
    lane: u64,
    lanes: u64,
    passes: u32,
}

impl Geometry {
    /// The geometry of a call whose messages fit slots of `slot` bytes, on lane `lane` of `lanes`.
    ///
    /// # Errors
    /// [`Error::SlotTooSmall`] when not even one element of each chunk of the plan's longest message fits.
    pub fn new(
        layouts: Layouts,
        shape: Shape,
        slot: u32,
        lane: u16,
        lanes: u16,
    ) -> Result<Self, Error> {
        let elem = u64::from(layouts.elem);
        let fits = u64::from(slot) / (elem * u64::from(shape.run));
        if fits == 0 {
            return Err(Error::SlotTooSmall { slot, chunks: shape.run, elem: layouts.elem });
        }
        let unit = (ALIGN / elem).clamp(1, fits);
        let stride = fits / unit * unit;
        let whole = match &layouts.whole {
            Layout::Even { blocks, .. } => *blocks,
            Layout::Ragged(ranges) => {
                u32::try_from(ranges.len()).expect("there are no more blocks than ranks")
            }
        };
        let mut geometry = Self {
            parts: shape.parts,
            period: (whole * shape.parts).max(1),
            stride,
            unit,
            lane: lane.into(),
            lanes: lanes.into(),
            passes: 1,
            layouts,
        };
        let longest = geometry.layouts.input.longest().max(geometry.layouts.output.longest());
        let passes = geometry
            .share(longest)
            .end
            .saturating_sub(geometry.share(longest).start)
            .div_ceil(geometry.pass());
        geometry.passes = u32::try_from(passes.max(1)).map_err(|_| Error::SlotTooSmall {
            slot,
            chunks: shape.run,
            elem: geometry.layouts.elem,
        })?;
        Ok(geometry)
    }

    /// Passes of the call, at least 1.
    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// Bytes of scratch that a plan of `chunks` scratch chunks needs.
    pub fn scratch_bytes(&self, chunks: u32) -> u64 {
        u64::from(chunks) * self.stride * u64::from(self.layouts.elem)
    }

    /// The layouts this was made from.
    pub fn layouts(&self) -> &Layouts {
        &self.layouts
    }

    /// Elements of a block that one pass covers.
    fn pass(&self) -> u64 {
        self.stride * u64::from(self.parts)
    }

    /// Share `index` of `count` of `elems` elements, cut at units.
    #[inline]
    fn cut(&self, elems: u64, index: u64, count: u64) -> Range<u64> {
        if count == 1 {
            return 0..elems;
        }
        let units = elems.div_ceil(self.unit);
        // The first shares get one unit more where the division leaves a rest.
        let (each, more) = (units / count, units % count);
        let at = |i: u64| (each * i + more.min(i)) * self.unit;
        at(index).min(elems)..at(index + 1).min(elems)
    }

    /// This lane's share of a block of `elems` elements.
    fn share(&self, elems: u64) -> Range<u64> {
        self.cut(elems, self.lane, self.lanes)
    }

    /// The elements of part `part` in pass `pass` of a block of `elems` elements, counted from the block's start.
    fn part(&self, elems: u64, part: u32, pass: u32) -> Range<u64> {
        let share = self.share(elems);
        let start = (share.start + u64::from(pass) * self.pass()).min(share.end);
        let end = (start + self.pass()).min(share.end);
        let part = self.cut(end - start, part.into(), self.parts.into());
        start + part.start..start + part.end
    }

    /// The bytes of chunk `chunk` of `buf` in pass `pass`, from the start of the buffer. May be empty.
    #[inline]
    pub fn chunk(&self, buf: Buf, chunk: u32, pass: u32) -> Range<u64> {
        match buf {
            Buf::Input => self.place(&self.layouts.input, chunk, pass),
            Buf::Output => self.place(&self.layouts.output, chunk, pass),
            Buf::Scratch => {
                let like = self.place(&self.layouts.whole, chunk % self.period, pass);
                let start = u64::from(chunk) * self.stride * u64::from(self.layouts.elem);
                start..start + (like.end - like.start)
            }
        }
    }

    fn place(&self, layout: &Layout, chunk: u32, pass: u32) -> Range<u64> {
        let elem = u64::from(self.layouts.elem);
        let block = layout.block(chunk / self.parts);
        let part = self.part(block.end - block.start, chunk % self.parts, pass);
        (block.start + part.start) * elem..(block.start + part.end) * elem
    }

    /// The bytes of chunk `chunk` of `buf` in pass `pass`, from the start of its block.
    pub fn within_block(&self, buf: Buf, chunk: u32, pass: u32) -> Range<u64> {
        let bytes = self.chunk(buf, chunk, pass);
        let start = self.block_start(buf, chunk);
        bytes.start - start..bytes.end - start
    }

    /// The bytes of a chunk of the whole vector in pass `pass`: where it is in the output of a rank that gets it, when
    /// blocks have the same length everywhere.
    pub fn in_whole(&self, chunk: u32, pass: u32) -> Range<u64> {
        self.place(&self.layouts.whole, chunk, pass)
    }

    /// First byte of the block that `chunk` of the input or output is in.
    pub fn block_start(&self, buf: Buf, chunk: u32) -> u64 {
        let layout = if buf == Buf::Input { &self.layouts.input } else { &self.layouts.output };
        layout.block(chunk / self.parts).start * u64::from(self.layouts.elem)
    }

    /// The bytes of a run of chunks in pass `pass`, as few ranges as possible, none empty, in order.
    pub fn segments(&self, chunks: Chunks, pass: u32, into: &mut Vec<Range<u64>>) {
        into.clear();
        if chunks.len == 1 {
            let bytes = self.chunk(chunks.buf, chunks.first, pass);
            if !bytes.is_empty() {
                into.push(bytes);
            }
            return;
        }
        for chunk in chunks.first..chunks.first + chunks.len {
            let bytes = self.chunk(chunks.buf, chunk, pass);
            if bytes.is_empty() {
                continue;
            }
            match into.last_mut() {
                Some(last) if last.end == bytes.start => last.end = bytes.end,
                _ => into.push(bytes),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dure_plan::{input, output, scratch};
    use proptest::prelude::*;

    use super::*;

    fn even(elems: u64, blocks: u32) -> Layout {
        Layout::Even { elems, blocks }
    }

    fn layouts(elem: u32, elems: u64, blocks: u32) -> Layouts {
        Layouts {
            elem,
            input: even(elems, blocks),
            output: even(elems, blocks),
            whole: even(elems, blocks),
            ragged: false,
        }
    }

    #[test]
    fn a_run_of_parts_is_one_segment_and_blocks_are_separate_in_several_passes() {
        let shape = Shape { parts: 4, scratch: 0, run: 4 };
        let g = Geometry::new(layouts(4, 1 << 20, 2), shape, 1 << 16, 0, 1).unwrap();
        let mut segments = Vec::new();
        g.segments(input(0, 4), 0, &mut segments);
        assert_eq!(segments, std::iter::once(0..1 << 16).collect::<Vec<_>>());
        g.segments(output(0, 8), 1, &mut segments);
        assert_eq!(segments, [1 << 16..2 << 16, (1 << 22) + (1 << 16)..(1 << 22) + (2 << 16)]);
    }

    #[test]
    fn an_element_that_does_not_fit_is_refused() {
        let shape = Shape { parts: 1, scratch: 0, run: 16 };
        assert!(matches!(
            Geometry::new(layouts(8, 4, 1), shape, 64, 0, 1),
            Err(Error::SlotTooSmall { .. })
        ));
    }

    #[test]
    fn nothing_still_has_one_pass() {
        let shape = Shape { parts: 3, scratch: 2, run: 1 };
        let g = Geometry::new(layouts(4, 0, 1), shape, 4096, 0, 1).unwrap();
        assert_eq!(g.passes(), 1);
        assert!(g.chunk(Buf::Scratch, 1, 0).is_empty());
    }

    proptest! {
        /// Lanes, passes and parts cover every element of every block exactly once, no chunk outgrows its share of a
        /// slot, and scratch chunks do not overlap.
        #[test]
        fn chunks_tile_the_buffer(
            elems in proptest::collection::vec(0u64..5000, 1..4), elem in prop::sample::select(vec![1u32, 2, 4, 8]),
            parts in 1u32..5, run in 1u32..4, slot in 64u32..4096, lanes in 1u16..4,
        ) {
            let mut start = 0;
            let ranges: Arc<[Range<u64>]> = elems.iter().map(|e| { start += e + 3; start - e..start }).collect();
            let ragged = Layout::Ragged(Arc::clone(&ranges));
            let layouts = Layouts { elem, input: ragged.clone(), output: ragged.clone(), whole: ragged, ragged: true };
            let shape = Shape { parts, scratch: 2 * parts, run };
            let mut seen = vec![0u8; usize::try_from(start * u64::from(elem)).unwrap()];
            for lane in 0..lanes {
                let g = Geometry::new(layouts.clone(), shape, slot, lane, lanes).unwrap();
                for pass in 0..g.passes() {
                    for chunk in 0..u32::try_from(ranges.len()).unwrap() * parts {
                        let bytes = g.chunk(Buf::Input, chunk, pass);
                        prop_assert!(bytes.end - bytes.start <= u64::from(slot / run));
                        for b in bytes { seen[usize::try_from(b).unwrap()] += 1; }
                    }
                    let mut segments = Vec::new();
                    g.segments(scratch(0, 2 * parts), pass, &mut segments);
                    for pair in segments.windows(2) { prop_assert!(pair[0].end <= pair[1].start); }
                    if let Some(last) = segments.last() { prop_assert!(last.end <= g.scratch_bytes(2 * parts)); }
                }
            }
            for (i, range) in ranges.iter().enumerate() {
                for b in range.start * u64::from(elem)..range.end * u64::from(elem) {
                    prop_assert_eq!(seen[usize::try_from(b).unwrap()], 1, "block {} byte {}", i, b);
                }
            }
            prop_assert_eq!(seen.iter().map(|s| u64::from(*s)).sum::<u64>(), elems.iter().sum::<u64>() * u64::from(elem));
        }
    }
}
