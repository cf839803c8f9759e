//! A group of Dure's calls as the call of MPI's that does the same. MPI's raw interface is used: that of rsmpi asks for
//! the number of ranks in every call, and has no reduce-scatter of blocks of different length.

#![allow(unsafe_code, reason = "MPI's interface is C's, and takes addresses")]

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ops::Range;

use dure::{Action, Collective, Dtype, Memory, RaggedCounts, Rank, ReduceOp, Request};
use mpi::collective::SystemOperation;
use mpi::ffi;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{AsRaw, Communicator, Equivalence};

use super::super::buffer::Arena;
use super::super::collective::{Case, Geometry, Test};

/// Of messages: there are no others to tell them from.
const TAG: c_int = 0;

/// A call, to be made again and again.
pub(crate) struct Calls<'a> {
    comm: ffi::MPI_Comm,
    call: Call,
    dtype: ffi::MPI_Datatype,
    input: *const c_void,
    output: *mut c_void,
    arenas: PhantomData<&'a mut [u8]>,
}

/// Which, with counts in elements as MPI takes them.
enum Call {
    Barrier,
    AllReduce(c_int, ffi::MPI_Op),
    Reduce(c_int, ffi::MPI_Op, c_int),
    Broadcast(c_int, c_int),
    AllGather(c_int),
    ReduceScatter(c_int, ffi::MPI_Op),
    AllToAll(c_int),
    Gather(c_int, c_int),
    Scatter(c_int, c_int),
    SendRecv { count: c_int, to: c_int, from: c_int },
    Ragged(Ragged),
}

/// The v-forms: the blocks of the long buffers, and the length of this rank's own block where that is the short one.
enum Ragged {
    AllGather(c_int, Blocks),
    ReduceScatter(Blocks, ffi::MPI_Op),
    AllToAll(Blocks, Blocks),
    Gather(c_int, Blocks, c_int),
    Scatter(Blocks, c_int, c_int),
}

/// One block a rank.
struct Blocks {
    counts: Vec<c_int>,
    displacements: Vec<c_int>,
}

impl Blocks {
    /// In place of those that MPI does not look at on this rank.
    const NONE: Self = Self { counts: Vec::new(), displacements: Vec::new() };

    fn new(ranges: &[Range<u64>]) -> Self {
        Self {
            counts: ranges.iter().map(|range| int(range.end - range.start)).collect(),
            displacements: ranges.iter().map(|range| int(range.start)).collect(),
        }
    }

    /// Counts and displacements as C has them.
    fn lists(&self) -> (*const c_int, *const c_int) {
        (self.counts.as_ptr(), self.displacements.as_ptr())
    }
}

/// Whether there is something to send, in counts that MPI can take, and an operation for it where one is needed. The
/// displacements of v-forms are up to half as long again as the vector.
pub(super) fn serve(case: &Case, geometry: &Geometry) -> bool {
    let elements = geometry.whole();
    let has_operation =
        || case.op.is_some_and(|op| operation(&op.on(0, case.dtype), case.dtype).is_some());
    case.test == Test::Barrier
        || (elements > 0
            && c_int::try_from(elements + elements / 2).is_ok()
            && (!case.test.reduces() || has_operation()))
}

/// The type of MPI's with elements as long as these. Floating-point numbers that MPI does not have travel as integers.
fn datatype(dtype: Dtype) -> ffi::MPI_Datatype {
    match dtype {
        Dtype::Int8 => i8::equivalent_datatype().as_raw(),
        Dtype::Uint8 | Dtype::F8E4M3 | Dtype::F8E5M2 => u8::equivalent_datatype().as_raw(),
        Dtype::F16 | Dtype::Bf16 => u16::equivalent_datatype().as_raw(),
        Dtype::Int32 => i32::equivalent_datatype().as_raw(),
        Dtype::Uint32 => u32::equivalent_datatype().as_raw(),
        Dtype::Int64 => i64::equivalent_datatype().as_raw(),
        Dtype::Uint64 => u64::equivalent_datatype().as_raw(),
        Dtype::F32 => f32::equivalent_datatype().as_raw(),
        Dtype::F64 => f64::equivalent_datatype().as_raw(),
    }
}

/// MPI's operation that does the same on elements of a type.
fn operation(op: &ReduceOp, dtype: Dtype) -> Option<ffi::MPI_Op> {
    if dtype.is_float() && !matches!(dtype, Dtype::F32 | Dtype::F64) {
        return None;
    }
    let operation = match op {
        ReduceOp::Sum => SystemOperation::sum(),
        ReduceOp::Prod => SystemOperation::product(),
        ReduceOp::Max => SystemOperation::max(),
        ReduceOp::Min => SystemOperation::min(),
        ReduceOp::BitAnd => SystemOperation::bitwise_and(),
        ReduceOp::BitOr => SystemOperation::bitwise_or(),
        ReduceOp::BitXor => SystemOperation::bitwise_xor(),
        _ => return None,
    };
    Some(operation.as_raw())
}

fn int(count: u64) -> c_int {
    c_int::try_from(count).expect("`serve` was asked whether counts fit")
}

fn root_of(root: Rank) -> c_int {
    int(u64::from(root.0))
}

impl<'a> Calls<'a> {
    /// What `requests` ask for, which name parts of `_arenas` only; those stay borrowed.
    pub(super) fn new(
        world: &SimpleCommunicator,
        requests: &[Request],
        _arenas: &'a mut [Arena<'_>; 2],
    ) -> Self {
        let (call, input, output) = match requests {
            [one] => (Call::of(one, world.rank()), one.input, one.output),
            [send, receive] => (Call::messages(send, receive), send.input, receive.output),
            _ => unreachable!("a test makes one call, or sends and receives"),
        };
        Self {
            comm: world.as_raw(),
            call,
            dtype: datatype(requests[0].dtype),
            input: address(input).cast_const(),
            output: address(output),
            arenas: PhantomData,
        }
    }

    /// Makes the call, and waits until it is done here. When one fails MPI ends the job: so it is set unless told
    /// otherwise, and the results of its functions say nothing.
    pub(crate) fn make(&self) {
        let Self { comm, dtype, input, output, .. } = *self;
        // SAFETY: the arenas are borrowed for longer than this call, which returns when it is done with them; counts are
        // those of Dure's requests, so that MPI stays inside of the parts of the arenas that these name, and they are the
        // same on all ranks. Where both buffers are used, they are different ones.
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of them is executed")]
        unsafe {
            match self.call {
                Call::Barrier => ffi::MPI_Barrier(comm),
                Call::AllReduce(n, op) => ffi::MPI_Allreduce(input, output, n, dtype, op, comm),
                Call::Reduce(n, op, root) => {
                    ffi::MPI_Reduce(input, output, n, dtype, op, root, comm)
                }
                Call::Broadcast(n, root) => ffi::MPI_Bcast(output, n, dtype, root, comm),
                Call::AllGather(n) => ffi::MPI_Allgather(input, n, dtype, output, n, dtype, comm),
                Call::ReduceScatter(n, op) => {
                    ffi::MPI_Reduce_scatter_block(input, output, n, dtype, op, comm)
                }
                Call::AllToAll(n) => ffi::MPI_Alltoall(input, n, dtype, output, n, dtype, comm),
                Call::Gather(n, root) => {
                    ffi::MPI_Gather(input, n, dtype, output, n, dtype, root, comm)
                }
                Call::Scatter(n, root) => {
                    ffi::MPI_Scatter(input, n, dtype, output, n, dtype, root, comm)
                }
                Call::SendRecv { count: n, to, from } => {
                    let status = ffi::RSMPI_STATUS_IGNORE;
                    ffi::MPI_Sendrecv(
                        input, n, dtype, to, TAG, output, n, dtype, from, TAG, comm, status,
                    )
                }
                Call::Ragged(ref what) => self.make_ragged(what),
            }
        };
    }

    fn make_ragged(&self, what: &Ragged) -> c_int {
        let Self { comm, dtype, input, output, .. } = *self;
        // SAFETY: as in `make`; the lists have one number a rank where MPI reads them.
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of them is executed")]
        unsafe {
            match *what {
                Ragged::AllGather(n, ref all) => {
                    let (counts, places) = all.lists();
                    ffi::MPI_Allgatherv(input, n, dtype, output, counts, places, dtype, comm)
                }
                Ragged::ReduceScatter(ref all, op) => {
                    // Blocks follow one another: no places are needed.
                    ffi::MPI_Reduce_scatter(input, output, all.lists().0, dtype, op, comm)
                }
                Ragged::AllToAll(ref to, ref from) => {
                    let ((gives, at), (gets, into)) = (to.lists(), from.lists());
                    ffi::MPI_Alltoallv(input, gives, at, dtype, output, gets, into, dtype, comm)
                }
                Ragged::Gather(n, ref all, root) => {
                    let (counts, places) = all.lists();
                    ffi::MPI_Gatherv(input, n, dtype, output, counts, places, dtype, root, comm)
                }
                Ragged::Scatter(ref all, n, root) => {
                    let (counts, places) = all.lists();
                    ffi::MPI_Scatterv(input, counts, places, dtype, output, n, dtype, root, comm)
                }
            }
        }
    }
}

fn address(memory: Memory) -> *mut c_void {
    memory.ptr.as_ptr().cast()
}

impl Call {
    /// The call of rank `me` for one request.
    fn of(request: &Request, me: mpi::Rank) -> Self {
        let op = || {
            operation(&request.op, request.dtype).expect("`serve` was asked whether there is one")
        };
        match &request.action {
            Action::Collective(what, count) => Self::even(*what, int(*count), op),
            Action::Ragged(what, counts) => Self::Ragged(Ragged::of(*what, counts, me, op)),
            Action::Send(_) | Action::Recv(_) => unreachable!("messages come in pairs"),
        }
    }

    fn even(what: Collective, count: c_int, op: impl Fn() -> ffi::MPI_Op) -> Self {
        match what {
            Collective::AllReduce => Self::AllReduce(count, op()),
            Collective::Reduce { root } => Self::Reduce(count, op(), root_of(root)),
            Collective::Broadcast { root } => Self::Broadcast(count, root_of(root)),
            Collective::AllGather => Self::AllGather(count),
            Collective::ReduceScatter => Self::ReduceScatter(count, op()),
            Collective::AllToAll => Self::AllToAll(count),
            Collective::Gather { root } => Self::Gather(count, root_of(root)),
            Collective::Scatter { root } => Self::Scatter(count, root_of(root)),
            Collective::Barrier => Self::Barrier,
        }
    }

    fn messages(send: &Request, receive: &Request) -> Self {
        let (Action::Send(to), Action::Recv(from)) = (&send.action, &receive.action) else {
            unreachable!("of two requests one sends and the other receives");
        };
        let count = int((send.input.len / send.dtype.size()) as u64);
        Self::SendRecv { count, to: int(u64::from(*to)), from: int(u64::from(*from)) }
    }
}

impl Ragged {
    fn of(
        what: Collective,
        counts: &RaggedCounts,
        me: mpi::Rank,
        op: impl Fn() -> ffi::MPI_Op,
    ) -> Self {
        let me = usize::try_from(me).expect("ranks are not negative");
        // All blocks, where this rank has them, and the length of its own one.
        let (all, own) = match counts {
            RaggedCounts::Both(to, from) => {
                return Self::AllToAll(Blocks::new(to), Blocks::new(from));
            }
            RaggedCounts::Long(ranges) => {
                let all = Blocks::new(ranges);
                let own = all.counts[me];
                (all, own)
            }
            RaggedCounts::Own(count) => (Blocks::NONE, int(*count)),
        };
        match what {
            Collective::AllGather => Self::AllGather(own, all),
            Collective::ReduceScatter => Self::ReduceScatter(all, op()),
            Collective::Gather { root } => Self::Gather(own, all, root_of(root)),
            Collective::Scatter { root } => Self::Scatter(all, own, root_of(root)),
            _ => unreachable!("{what:?} has no such v-form"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::args::tests::args;
    use super::*;

    fn served(line: &str) -> bool {
        let case = args(line).cases(2).unwrap()[0];
        serve(&case, &Geometry::new(&case, 2))
    }

    #[test]
    fn what_mpi_has_no_call_for_is_left_out() {
        assert!(served("all-reduce -b 8") && served("all-reduce -b 8 -d int8 -o bxor"));
        assert!(served("all-gather -b 8 -d bfloat16"), "no operation is needed");
        assert!(served("barrier"));
        for line in [
            "all-reduce -b 8 -d bfloat16",
            "all-reduce -b 8 -d half -o max",
            "reduce -b 8 -d f8e4m3",
            "all-reduce -b 8 -o avg",
            "reduce-scatter -b 8 -o mulsum",
            "all-reduce -b 0",
            "all-gather -b 2G -e 2G -d int8",
        ] {
            assert!(!served(line), "{line}");
        }
    }

    #[test]
    fn blocks_are_counts_and_places() {
        let blocks = Blocks::new(&[0..3, 3..3, 3..7]);
        assert_eq!((blocks.counts, blocks.displacements), (vec![3, 0, 4], vec![0, 3, 3]));
    }
}
