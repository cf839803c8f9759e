//! What can be measured, and its definitions: which elements lie where, and how bandwidth is counted.
//!
//! The definitions are nccl-tests' (`doc/PERFORMANCE.md` there). A size is that of the whole vector: for all-gather,
//! reduce-scatter, all-to-all, gather and scatter, one block a rank, rounded down to whole elements a block.

use std::ops::Range;

use clap::ValueEnum;
use dure::{Action, Collective, Dtype, RaggedCounts, Rank};

use super::operation::Op;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Test {
    #[value(alias = "all_reduce", alias = "allreduce")]
    AllReduce,
    #[value(alias = "all_gather", alias = "allgather")]
    AllGather,
    #[value(alias = "all_gather_v", alias = "allgatherv")]
    AllGatherV,
    #[value(alias = "reduce_scatter", alias = "reducescatter")]
    ReduceScatter,
    #[value(alias = "reduce_scatter_v", alias = "reducescatterv")]
    ReduceScatterV,
    #[value(alias = "all_to_all", alias = "alltoall")]
    AllToAll,
    #[value(alias = "all_to_all_v", alias = "alltoallv")]
    AllToAllV,
    Broadcast,
    Reduce,
    Gather,
    #[value(alias = "gatherv")]
    GatherV,
    Scatter,
    #[value(alias = "scatterv")]
    ScatterV,
    /// Every rank sends to the next and receives from the one before.
    #[value(name = "sendrecv", alias = "send-recv")]
    SendRecv,
    Barrier,
}

impl Test {
    /// Its name on the command line and in JSON.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().expect("no test is hidden").get_name().to_owned()
    }

    /// The collective behind it; none for messages.
    pub(crate) fn collective(self, root: u32) -> Option<Collective> {
        let root = Rank(root);
        Some(match self {
            Self::AllReduce => Collective::AllReduce,
            Self::AllGather | Self::AllGatherV => Collective::AllGather,
            Self::ReduceScatter | Self::ReduceScatterV => Collective::ReduceScatter,
            Self::AllToAll | Self::AllToAllV => Collective::AllToAll,
            Self::Broadcast => Collective::Broadcast { root },
            Self::Reduce => Collective::Reduce { root },
            Self::Gather | Self::GatherV => Collective::Gather { root },
            Self::Scatter | Self::ScatterV => Collective::Scatter { root },
            Self::Barrier => Collective::Barrier,
            Self::SendRecv => return None,
        })
    }

    pub(crate) fn is_rooted(self) -> bool {
        self.collective(0).is_some_and(|what| what.root().is_some())
    }

    pub(crate) fn reduces(self) -> bool {
        self.collective(0).is_some_and(Collective::reduces)
    }

    /// Whether blocks differ in length.
    pub(crate) fn is_ragged(self) -> bool {
        matches!(
            self,
            Self::AllGatherV
                | Self::ReduceScatterV
                | Self::AllToAllV
                | Self::GatherV
                | Self::ScatterV
        )
    }

    /// Whether input and output can be the same memory.
    pub(crate) fn has_in_place(self) -> bool {
        !matches!(self, Self::AllToAll | Self::AllToAllV | Self::SendRecv | Self::Barrier)
    }

    /// Whether the call of MPI's that does the same has one buffer for input and output.
    pub(crate) fn has_one_buffer_in_mpi(self) -> bool {
        self == Self::Broadcast
    }

    /// What algorithm bandwidth is multiplied with to give the bandwidth of the wires, whatever the number of ranks.
    pub(crate) fn bus_factor(self, ranks: u32) -> f64 {
        let ranks = f64::from(ranks);
        match self {
            Self::AllReduce => 2.0 * (ranks - 1.0) / ranks,
            Self::Broadcast | Self::Reduce | Self::SendRecv | Self::Barrier => 1.0,
            _ => (ranks - 1.0) / ranks,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) test: Test,
    /// Bytes asked for.
    pub(crate) bytes: u64,
    pub(crate) dtype: Dtype,
    /// How elements are combined; none where nothing is.
    pub(crate) op: Option<Op>,
    /// The distinguished rank; none where there is none.
    pub(crate) root: Option<u32>,
}

/// Where the elements of a case lie in the buffers of all ranks. Counts are in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    test: Test,
    ranks: u32,
    root: u32,
    /// Length of the vector, or of the block that one rank gives to another.
    base: u64,
}

/// A run of the output, and what belongs there: the elements from `start` of `of`'s input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) at: Range<u64>,
    pub(crate) of: Origin,
    pub(crate) start: u64,
}

/// Whose input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// One rank's.
    Rank(u32),
    /// The combination of all ranks'.
    All,
}

/// Where input and output begin in one piece of memory, when the call is in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InPlace {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

impl Geometry {
    pub(crate) fn new(case: &Case, ranks: u32) -> Self {
        let elements = case.bytes / case.dtype.size() as u64;
        let base = match case.test {
            Test::Barrier => 0,
            Test::AllReduce | Test::Broadcast | Test::Reduce | Test::SendRecv => elements,
            _ => elements / u64::from(ranks),
        };
        Self { test: case.test, ranks, root: case.root.unwrap_or(0), base }
    }

    /// The count that is passed to the call, and printed.
    pub(crate) fn count(&self) -> u64 {
        self.base
    }

    /// Elements of the whole vector. For v-forms that of equal blocks: theirs are as long on average over three ranks.
    pub(crate) fn whole(&self) -> u64 {
        match self.test.collective(self.root) {
            None => self.base,
            Some(what) => self.base * u64::from(what.whole(self.ranks)),
        }
    }

    /// Length of the block that `from` gives to `to`. Blocks of v-forms are half as long again, or half as long, or as
    /// they would be in the other form.
    fn block(&self, from: u32, to: u32) -> u64 {
        let key = match self.test {
            Test::AllGatherV | Test::GatherV => from,
            Test::ReduceScatterV | Test::ScatterV => to,
            Test::AllToAllV => from + to,
            _ => return self.base,
        };
        match key % 3 {
            0 => self.base + self.base / 2,
            1 => self.base - self.base / 2,
            _ => self.base,
        }
    }

    /// One block a rank, one after the other.
    fn list(&self, length: impl Fn(u32) -> u64) -> Vec<Range<u64>> {
        let mut end = 0;
        let next = |rank| {
            let start = end;
            end += length(rank);
            start..end
        };
        (0..self.ranks).map(next).collect()
    }

    /// The blocks that a rank gives.
    fn gives(&self, me: u32) -> Vec<Range<u64>> {
        self.list(|to| self.block(me, to))
    }

    /// The blocks that a rank gets.
    fn gets(&self, me: u32) -> Vec<Range<u64>> {
        self.list(|from| self.block(from, me))
    }

    /// Elements of the input of a rank; 0 where it has none.
    pub(crate) fn input(&self, me: u32) -> u64 {
        let Some(what) = self.test.collective(self.root) else { return self.base };
        match what.blocks(self.ranks, Rank(me)).input {
            0 => 0,
            1 => self.block(me, self.root),
            _ => total(&self.gives(me)),
        }
    }

    /// Elements of the output of a rank; 0 where it has none.
    pub(crate) fn output(&self, me: u32) -> u64 {
        let Some(what) = self.test.collective(self.root) else { return self.base };
        match what.blocks(self.ranks, Rank(me)).output {
            0 => 0,
            1 => self.block(self.root, me),
            _ => total(&self.gets(me)),
        }
    }

    /// What the output of a rank must be.
    pub(crate) fn segments(&self, me: u32) -> Vec<Segment> {
        let own = me as usize;
        let one = |of, start| vec![Segment { at: 0..self.output(me), of, start }];
        let each = |start: &dyn Fn(u32) -> u64| {
            let segment = |(from, at)| Segment { at, of: Origin::Rank(from), start: start(from) };
            (0..).zip(self.gets(me)).map(segment).collect()
        };
        match self.test {
            Test::AllReduce => one(Origin::All, 0),
            Test::Reduce if me == self.root => one(Origin::All, 0),
            Test::ReduceScatter | Test::ReduceScatterV => {
                one(Origin::All, self.gives(me)[own].start)
            }
            Test::Broadcast => one(Origin::Rank(self.root), 0),
            Test::Scatter | Test::ScatterV => {
                one(Origin::Rank(self.root), self.gives(self.root)[own].start)
            }
            Test::SendRecv => one(Origin::Rank((me + self.ranks - 1) % self.ranks), 0),
            Test::AllGather | Test::AllGatherV => each(&|_| 0),
            Test::Gather | Test::GatherV if me == self.root => each(&|_| 0),
            Test::AllToAll | Test::AllToAllV => each(&|from| self.gives(from)[own].start),
            Test::Reduce | Test::Gather | Test::GatherV | Test::Barrier => Vec::new(),
        }
    }

    /// Where the buffers of a rank begin when they share memory: the short one is the rank's own block of the long one.
    pub(crate) fn in_place(&self, me: u32) -> InPlace {
        let own = me as usize;
        let (mut input, mut output) = (0, 0);
        match self.test {
            Test::AllGather | Test::AllGatherV => input = self.gets(me)[own].start,
            Test::Gather | Test::GatherV if me == self.root => input = self.gets(me)[own].start,
            Test::ReduceScatter | Test::ReduceScatterV => output = self.gives(me)[own].start,
            Test::Scatter | Test::ScatterV if me == self.root => output = self.gives(me)[own].start,
            _ => {}
        }
        InPlace { input, output }
    }

    /// What to ask the library for, in one group.
    pub(crate) fn actions(&self, me: u32) -> Vec<Action> {
        let Some(what) = self.test.collective(self.root) else {
            let (next, previous) = ((me + 1) % self.ranks, (me + self.ranks - 1) % self.ranks);
            return vec![Action::Send(next), Action::Recv(previous)];
        };
        if !self.test.is_ragged() {
            return vec![Action::Collective(what, self.base)];
        }
        let counts = match what {
            Collective::AllToAll => RaggedCounts::Both(self.gives(me).into(), self.gets(me).into()),
            Collective::AllGather => RaggedCounts::Long(self.gets(me).into()),
            Collective::ReduceScatter => RaggedCounts::Long(self.gives(me).into()),
            Collective::Gather { .. } if me == self.root => {
                RaggedCounts::Long(self.gets(me).into())
            }
            Collective::Scatter { .. } if me == self.root => {
                RaggedCounts::Long(self.gives(me).into())
            }
            Collective::Gather { .. } => RaggedCounts::Own(self.input(me)),
            _ => RaggedCounts::Own(self.output(me)),
        };
        vec![Action::Ragged(what, counts)]
    }
}

fn total(blocks: &[Range<u64>]) -> u64 {
    blocks.last().map_or(0, |last| last.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(test: Test, bytes: u64, ranks: u32) -> Geometry {
        let case = Case { test, bytes, dtype: Dtype::F32, op: None, root: Some(1) };
        Geometry::new(&case, ranks)
    }

    #[test]
    fn bus_factors_are_those_of_nccl_tests() {
        assert_eq!(Test::AllReduce.bus_factor(4), 1.5);
        for test in
            [Test::AllGather, Test::ReduceScatter, Test::AllToAll, Test::Gather, Test::Scatter]
        {
            assert_eq!(test.bus_factor(4), 0.75, "{test:?}");
        }
        for test in [Test::Broadcast, Test::Reduce, Test::SendRecv] {
            assert_eq!(test.bus_factor(4), 1.0, "{test:?}");
        }
        assert_eq!(Test::AllReduce.bus_factor(1), 0.0);
    }

    #[test]
    fn sizes_are_of_the_whole_vector() {
        let sizes = |test| {
            let g = geometry(test, 1024, 4);
            (g.count(), g.whole(), g.input(0), g.output(0), g.input(1), g.output(1))
        };
        assert_eq!(sizes(Test::AllReduce), (256, 256, 256, 256, 256, 256));
        assert_eq!(sizes(Test::AllGather), (64, 256, 64, 256, 64, 256));
        assert_eq!(sizes(Test::ReduceScatter), (64, 256, 256, 64, 256, 64));
        assert_eq!(sizes(Test::AllToAll), (64, 256, 256, 256, 256, 256));
        assert_eq!(sizes(Test::Gather), (64, 256, 64, 0, 64, 256));
        assert_eq!(sizes(Test::Scatter), (64, 256, 0, 64, 256, 64));
        assert_eq!(sizes(Test::Broadcast), (256, 256, 0, 256, 256, 256));
        assert_eq!(sizes(Test::Reduce), (256, 256, 256, 0, 256, 256));
        assert_eq!(sizes(Test::SendRecv), (256, 256, 256, 256, 256, 256));
        assert_eq!(sizes(Test::Barrier), (0, 0, 0, 0, 0, 0));
    }

    #[test]
    fn names_are_those_of_the_contract() {
        let names: Vec<String> = Test::value_variants().iter().map(|test| test.name()).collect();
        for name in
            ["all-reduce", "all-to-all", "reduce-scatter", "sendrecv", "barrier", "all-to-all-v"]
        {
            assert!(names.iter().any(|known| known == name), "{name} of {names:?}");
        }
    }

    /// Every block that a rank expects is as long as the one that the other gives.
    #[test]
    fn ragged_blocks_meet() {
        let g = geometry(Test::AllToAllV, 4000, 5);
        for me in 0..5 {
            for segment in g.segments(me) {
                let Origin::Rank(from) = segment.of else { panic!("nothing is combined") };
                let given = &g.gives(from)[me as usize];
                assert_eq!(
                    (segment.at.end - segment.at.start, segment.start),
                    (given.end - given.start, given.start)
                );
            }
        }
        assert_eq!(
            g.gives(0).iter().map(|b| b.end - b.start).collect::<Vec<_>>(),
            [300, 100, 200, 300, 100]
        );
    }

    #[test]
    fn in_place_is_the_own_block() {
        let g = geometry(Test::AllGather, 1024, 4);
        assert_eq!(g.in_place(2), InPlace { input: 128, output: 0 });
        let g = geometry(Test::ReduceScatterV, 1024, 4);
        assert_eq!(g.in_place(2), InPlace { input: 0, output: 128 });
        let g = geometry(Test::Scatter, 1024, 4);
        assert_eq!(g.in_place(1), InPlace { input: 0, output: 64 });
        assert_eq!(g.in_place(2), InPlace { input: 0, output: 0 });
    }
}
