//! The memory of one rank, in which every chunk holds a symbol instead of bytes.

use crate::algorithm::{Collective, Shape as Cut, World};
use crate::shapes::Shape;
use crate::step::{Buf, Chunks, Rank};

/// What a chunk holds: the sum, of that shape, of what its contributors have as input chunk `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) key: u32,
    pub(crate) shape: Shape,
}

/// What a chunk of the output must hold in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) key: u32,
    pub(crate) who: Who,
}

/// Whose contributions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// One rank's, as it is.
    One(Rank),
    /// The sum of all ranks'.
    All,
}

impl Expected {
    /// Of chunk `chunk` of the output of rank `me`.
    pub(crate) fn of(what: Collective, parts: u32, me: Rank, chunk: u32) -> Self {
        let (block, part) = (chunk / parts, chunk % parts);
        let mine = me.0 * parts + part;
        let (key, who) = match what {
            Collective::AllReduce | Collective::Reduce { .. } | Collective::Barrier => {
                (chunk, Who::All)
            }
            Collective::ReduceScatter => (mine, Who::All),
            Collective::AllGather | Collective::Gather { .. } => (part, Who::One(Rank(block))),
            Collective::AllToAll => (mine, Who::One(Rank(block))),
            Collective::Broadcast { root } => (chunk, Who::One(root)),
            Collective::Scatter { root } => (mine, Who::One(root)),
        };
        Self { key, who }
    }
}

/// Where the buffers of a rank begin, in cells of one chunk. In place, input and output overlap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    input: u32,
    output: u32,
    scratch: u32,
    /// Chunks of input and output.
    inputs: u32,
    outputs: u32,
    end: u32,
}

impl Places {
    /// Of rank `me`. The shape must have passed [`crate::check::cut`].
    pub(crate) fn new(what: Collective, ranks: u32, cut: Cut, me: Rank, in_place: bool) -> Self {
        let blocks = what.blocks(ranks, me);
        let (inputs, outputs) = (blocks.input * cut.parts, blocks.output * cut.parts);
        let own = me.0 * cut.parts;
        let (input, output) = if !in_place || inputs == 0 || outputs == 0 {
            (0, inputs)
        } else if inputs == outputs {
            (0, 0)
        } else if inputs > outputs {
            (0, own)
        } else {
            (own, 0)
        };
        let scratch = (input + inputs).max(output + outputs);
        Self { input, output, scratch, inputs, outputs, end: scratch + cut.scratch }
    }

    /// The first cell of a run of chunks.
    pub(crate) fn cell(&self, chunks: Chunks) -> u32 {
        chunks.first
            + match chunks.buf {
                Buf::Input => self.input,
                Buf::Output => self.output,
                Buf::Scratch => self.scratch,
            }
    }

    /// Chunks of a buffer.
    pub(crate) fn limit(&self, buf: Buf) -> u32 {
        match buf {
            Buf::Input => self.inputs,
            Buf::Output => self.outputs,
            Buf::Scratch => self.end - self.scratch,
        }
    }
}

/// Nothing: the shape of a cell that was not written, and the writer of one that no step wrote.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Cell {
    symbol: Symbol,
    /// The step that wrote it last.
    writer: u32,
}

/// All cells of one rank.
#[derive(Debug)]
pub(crate) struct Memory {
    me: Rank,
    places: Places,
    cells: Vec<Cell>,
    /// Barrier only: the ranks that this one knows to have come.
    heard: Vec<bool>,
    /// Barrier only: the step that heard last.
    last_heard: Option<u32>,
}

impl Memory {
    pub(crate) fn new(what: Collective, world: &World, cut: Cut, me: Rank, in_place: bool) -> Self {
        let places = Places::new(what, world.ranks, cut, me, in_place);
        let unset = Cell { symbol: Symbol { key: 0, shape: NONE }, writer: NONE };
        let ranks = if what == Collective::Barrier { world.ranks as usize } else { 0 };
        let mut memory = Self {
            me,
            places,
            cells: vec![unset; places.end as usize],
            heard: vec![false; ranks],
            last_heard: None,
        };
        memory.begin_pass();
        memory
    }

    /// A new pass: the input is there, nothing else.
    pub(crate) fn begin_pass(&mut self) {
        for cell in &mut self.cells {
            cell.symbol.shape = NONE;
            cell.writer = NONE;
        }
        let first = self.places.input as usize;
        let inputs = &mut self.cells[first..first + self.places.inputs as usize];
        for (key, cell) in (0..).zip(inputs) {
            cell.symbol = Symbol { key, shape: self.me.0 };
        }
        self.heard.fill(false);
        if let Some(me) = self.heard.get_mut(self.me.0 as usize) {
            *me = true;
        }
        self.last_heard = None;
    }

    /// The symbol of one chunk, unless it was never written.
    pub(crate) fn read(&self, chunk: Chunks) -> Option<Symbol> {
        let symbol = self.cells[self.places.cell(chunk) as usize].symbol;
        (symbol.shape != NONE).then_some(symbol)
    }

    /// Step `writer` stores the symbol of one chunk.
    pub(crate) fn write(&mut self, chunk: Chunks, symbol: Symbol, writer: u32) {
        self.cells[self.places.cell(chunk) as usize] = Cell { symbol, writer };
    }

    /// The step that wrote a chunk last.
    pub(crate) fn writer(&self, chunk: Chunks) -> Option<u32> {
        let writer = self.cells[self.places.cell(chunk) as usize].writer;
        (writer != NONE).then_some(writer)
    }

    /// Chunks of the output.
    pub(crate) fn outputs(&self) -> u32 {
        self.places.outputs
    }

    /// The symbols of the output. Only called when all are there.
    pub(crate) fn results(&self) -> Vec<Symbol> {
        let first = self.places.output as usize;
        self.cells[first..first + self.places.outputs as usize]
            .iter()
            .map(|cell| cell.symbol)
            .collect()
    }

    /// The ranks that this one knows to have come.
    pub(crate) fn heard(&self) -> &[bool] {
        &self.heard
    }

    /// Learns what a peer knew; step `index` received it.
    pub(crate) fn hear(&mut self, news: &[bool], index: u32) {
        for (mine, theirs) in self.heard.iter_mut().zip(news) {
            *mine |= theirs;
        }
        self.last_heard = Some(index);
    }

    /// The step that heard last.
    pub(crate) fn last_heard(&self) -> Option<u32> {
        self.last_heard
    }
}
