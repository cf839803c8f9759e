//! The v-forms: collectives whose blocks differ in length.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Arc;

use dure::{Action, Collective, Dtype, Error, RaggedCounts, Rank, Request, Result};

use super::message::{Call, call, plain};
use super::pointer::{Array, CommPtr, StreamPtr};
use crate::number::{bytes, dtype};

/// Counts and displacements, one a rank, as C gives them; and what they are called.
struct Given {
    counts: (&'static str, Array<usize>),
    displacements: (&'static str, Array<usize>),
}

/// The blocks of a long buffer.
struct Blocks {
    ranges: Arc<[Range<u64>]>,
    /// Bytes from the buffer's begin to the end of the last block.
    bytes: usize,
}

impl Given {
    /// The blocks. Without displacements they follow one another.
    fn read(&self, call: &Call<'_>, dtype: Dtype) -> Result<Blocks> {
        let ranks = usize::try_from(call.size()).expect("addresses have 32 bits at least");
        let (counts_name, counts) = self.counts;
        let counts = counts.read(counts_name, ranks)?;
        let (displacements_name, displacements) = self.displacements;
        let displacements = if displacements.is_null() {
            None
        } else {
            Some(displacements.read(displacements_name, ranks)?)
        };
        let mut end = 0_usize;
        let mut longest = 0;
        let mut ranges = Vec::with_capacity(ranks);
        for (rank, count) in counts.into_iter().enumerate() {
            let start = displacements.as_ref().map_or(end, |displacements| displacements[rank]);
            let too_long =
                || Error::invalid_argument(format!("{counts_name}[{rank}] {count} overflows"));
            end = start.checked_add(count).ok_or_else(too_long)?;
            // An empty block is nowhere, whatever its displacement.
            if count == 0 {
                ranges.push(0..0);
            } else {
                longest = longest.max(end);
                ranges.push(start as u64..end as u64);
            }
        }
        let bytes = bytes(counts_name, longest, 1, dtype)?;
        Ok(Blocks { ranges: ranges.into(), bytes })
    }
}

impl Blocks {
    fn long(&self) -> RaggedCounts {
        RaggedCounts::Long(Arc::clone(&self.ranges))
    }

    /// Checks that this rank's own count, which is given beside the list, is the one in the list.
    fn agree(&self, call: &Call<'_>, (counts, own): (&str, &str), count: usize) -> Result<()> {
        let me = call.me();
        let Range { start, end } =
            self.ranges[usize::try_from(me).expect("addresses have 32 bits at least")];
        if end - start == count as u64 {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "{own} is {count}, and {counts}[{me}] is {}",
            end - start
        )))
    }
}

pub fn all_to_all_v(
    sendbuff: *const c_void,
    sendcounts: Array<usize>,
    sdispls: Array<usize>,
    recvbuff: *mut c_void,
    recvcounts: Array<usize>,
    rdispls: Array<usize>,
    datatype: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let sent =
            Given { counts: ("sendcounts", sendcounts), displacements: ("sdispls", sdispls) }
                .read(call, dtype)?;
        let received =
            Given { counts: ("recvcounts", recvcounts), displacements: ("rdispls", rdispls) }
                .read(call, dtype)?;
        let input = call.reads("sendbuff", sendbuff, sent.bytes)?;
        let output = call.writes("recvbuff", recvbuff, received.bytes)?;
        let counts = RaggedCounts::Both(sent.ranges, received.ranges);
        call.make(plain(Action::Ragged(Collective::AllToAll, counts), input, output, dtype))
    })
}

pub fn all_gather_v(
    sendbuff: *const c_void,
    sendcount: usize,
    recvbuff: *mut c_void,
    recvcounts: Array<usize>,
    displs: Array<usize>,
    datatype: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let blocks =
            Given { counts: ("recvcounts", recvcounts), displacements: ("displs", displs) }
                .read(call, dtype)?;
        blocks.agree(call, ("recvcounts", "sendcount"), sendcount)?;
        let input = call.reads("sendbuff", sendbuff, bytes("sendcount", sendcount, 1, dtype)?)?;
        let output = call.writes("recvbuff", recvbuff, blocks.bytes)?;
        call.make(plain(Action::Ragged(Collective::AllGather, blocks.long()), input, output, dtype))
    })
}

pub fn reduce_scatter_v(
    sendbuff: *const c_void,
    sendcounts: Array<usize>,
    displs: Array<usize>,
    recvbuff: *mut c_void,
    recvcount: usize,
    datatype: c_int,
    op: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let blocks =
            Given { counts: ("sendcounts", sendcounts), displacements: ("displs", displs) }
                .read(call, dtype)?;
        blocks.agree(call, ("sendcounts", "recvcount"), recvcount)?;
        call.make(Request {
            action: Action::Ragged(Collective::ReduceScatter, blocks.long()),
            input: call.reads("sendbuff", sendbuff, blocks.bytes)?,
            output: call.writes("recvbuff", recvbuff, bytes("recvcount", recvcount, 1, dtype)?)?,
            dtype,
            op: call.op(op, dtype)?,
        })
    })
}

pub fn gather_v(
    sendbuff: *const c_void,
    sendcount: usize,
    recvbuff: *mut c_void,
    recvcounts: Array<usize>,
    displs: Array<usize>,
    datatype: c_int,
    root: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let root = call.rank("root", root)?;
        let what = Collective::Gather { root: Rank(root) };
        let input = call.reads("sendbuff", sendbuff, bytes("sendcount", sendcount, 1, dtype)?)?;
        if root != call.me() {
            let action = Action::Ragged(what, RaggedCounts::Own(sendcount as u64));
            return call.make(plain(action, input, call.writes("recvbuff", recvbuff, 0)?, dtype));
        }
        let blocks =
            Given { counts: ("recvcounts", recvcounts), displacements: ("displs", displs) }
                .read(call, dtype)?;
        blocks.agree(call, ("recvcounts", "sendcount"), sendcount)?;
        let output = call.writes("recvbuff", recvbuff, blocks.bytes)?;
        call.make(plain(Action::Ragged(what, blocks.long()), input, output, dtype))
    })
}

pub fn scatter_v(
    sendbuff: *const c_void,
    sendcounts: Array<usize>,
    displs: Array<usize>,
    recvbuff: *mut c_void,
    recvcount: usize,
    datatype: c_int,
    root: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let root = call.rank("root", root)?;
        let what = Collective::Scatter { root: Rank(root) };
        let output = call.writes("recvbuff", recvbuff, bytes("recvcount", recvcount, 1, dtype)?)?;
        if root != call.me() {
            let action = Action::Ragged(what, RaggedCounts::Own(recvcount as u64));
            return call.make(plain(action, call.reads("sendbuff", sendbuff, 0)?, output, dtype));
        }
        let blocks =
            Given { counts: ("sendcounts", sendcounts), displacements: ("displs", displs) }
                .read(call, dtype)?;
        blocks.agree(call, ("sendcounts", "recvcount"), recvcount)?;
        let input = call.reads("sendbuff", sendbuff, blocks.bytes)?;
        call.make(plain(Action::Ragged(what, blocks.long()), input, output, dtype))
    })
}
