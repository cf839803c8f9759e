//! Collectives and messages whose blocks all have one length. They are inlined into the functions that are exported: on the
//! way of a short call every instruction counts.

use std::ffi::{c_int, c_void};

use dure::{Action, Collective, Dtype, Memory, Rank, Request};

use super::message::{call, plain};
use super::pointer::{CommPtr, StreamPtr};
use crate::number::{bytes, dtype};

#[inline]
pub fn all_reduce(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: c_int,
    op: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let length = bytes("count", count, 1, dtype)?;
        let input = call.reads("sendbuff", sendbuff, length)?;
        let output = call.writes("recvbuff", recvbuff, length)?;
        let op = call.op(op, dtype)?;
        let action = Action::Collective(Collective::AllReduce, count as u64);
        call.make(Request { action, input, output, dtype, op })
    })
}

#[inline]
pub fn reduce(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: c_int,
    op: c_int,
    root: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let length = bytes("count", count, 1, dtype)?;
        let root = call.rank("root", root)?;
        call.make(Request {
            action: Action::Collective(Collective::Reduce { root: Rank(root) }, count as u64),
            input: call.reads("sendbuff", sendbuff, length)?,
            output: call.writes(
                "recvbuff",
                recvbuff,
                if root == call.me() { length } else { 0 },
            )?,
            dtype,
            op: call.op(op, dtype)?,
        })
    })
}

#[inline]
pub fn reduce_scatter(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    recvcount: usize,
    datatype: c_int,
    op: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        call.make(Request {
            action: Action::Collective(Collective::ReduceScatter, recvcount as u64),
            input: call.reads(
                "sendbuff",
                sendbuff,
                bytes("recvcount", recvcount, call.size(), dtype)?,
            )?,
            output: call.writes("recvbuff", recvbuff, bytes("recvcount", recvcount, 1, dtype)?)?,
            dtype,
            op: call.op(op, dtype)?,
        })
    })
}

#[inline]
pub fn broadcast(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: c_int,
    root: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let length = bytes("count", count, 1, dtype)?;
        let root = call.rank("root", root)?;
        let action = Action::Collective(Collective::Broadcast { root: Rank(root) }, count as u64);
        let input = call.reads("sendbuff", sendbuff, if root == call.me() { length } else { 0 })?;
        call.make(plain(action, input, call.writes("recvbuff", recvbuff, length)?, dtype))
    })
}

#[inline]
pub fn bcast(
    buff: *mut c_void,
    count: usize,
    datatype: c_int,
    root: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let root = call.rank("root", root)?;
        let action = Action::Collective(Collective::Broadcast { root: Rank(root) }, count as u64);
        let memory = call.writes("buff", buff, bytes("count", count, 1, dtype)?)?;
        let input = if root == call.me() { memory } else { Memory::EMPTY };
        call.make(plain(action, input, memory, dtype))
    })
}

#[inline]
pub fn all_gather(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    sendcount: usize,
    datatype: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let input = call.reads("sendbuff", sendbuff, bytes("sendcount", sendcount, 1, dtype)?)?;
        let output =
            call.writes("recvbuff", recvbuff, bytes("sendcount", sendcount, call.size(), dtype)?)?;
        call.make(plain(
            Action::Collective(Collective::AllGather, sendcount as u64),
            input,
            output,
            dtype,
        ))
    })
}

#[inline]
pub fn all_to_all(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let length = bytes("count", count, call.size(), dtype)?;
        let input = call.reads("sendbuff", sendbuff, length)?;
        let output = call.writes("recvbuff", recvbuff, length)?;
        call.make(plain(
            Action::Collective(Collective::AllToAll, count as u64),
            input,
            output,
            dtype,
        ))
    })
}

#[inline]
pub fn gather(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: c_int,
    root: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let root = call.rank("root", root)?;
        let whole = bytes("count", count, call.size(), dtype)?;
        let action = Action::Collective(Collective::Gather { root: Rank(root) }, count as u64);
        let input = call.reads("sendbuff", sendbuff, bytes("count", count, 1, dtype)?)?;
        let output =
            call.writes("recvbuff", recvbuff, if root == call.me() { whole } else { 0 })?;
        call.make(plain(action, input, output, dtype))
    })
}

#[inline]
pub fn scatter(
    sendbuff: *const c_void,
    recvbuff: *mut c_void,
    count: usize,
    datatype: c_int,
    root: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let root = call.rank("root", root)?;
        let whole = bytes("count", count, call.size(), dtype)?;
        let action = Action::Collective(Collective::Scatter { root: Rank(root) }, count as u64);
        let input = call.reads("sendbuff", sendbuff, if root == call.me() { whole } else { 0 })?;
        let output = call.writes("recvbuff", recvbuff, bytes("count", count, 1, dtype)?)?;
        call.make(plain(action, input, output, dtype))
    })
}

#[inline]
pub fn barrier(comm: CommPtr, stream: StreamPtr) -> c_int {
    let action = Action::Collective(Collective::Barrier, 0);
    call(comm, stream, |call| call.make(plain(action, Memory::EMPTY, Memory::EMPTY, Dtype::Uint8)))
}

#[inline]
pub fn send(
    sendbuff: *const c_void,
    count: usize,
    datatype: c_int,
    peer: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let peer = call.rank("peer", peer)?;
        let input = call.reads("sendbuff", sendbuff, bytes("count", count, 1, dtype)?)?;
        call.make(plain(Action::Send(peer), input, Memory::EMPTY, dtype))
    })
}

#[inline]
pub fn recv(
    recvbuff: *mut c_void,
    count: usize,
    datatype: c_int,
    peer: c_int,
    comm: CommPtr,
    stream: StreamPtr,
) -> c_int {
    call(comm, stream, |call| {
        let dtype = dtype(datatype)?;
        let peer = call.rank("peer", peer)?;
        let output = call.writes("recvbuff", recvbuff, bytes("count", count, 1, dtype)?)?;
        call.make(plain(Action::Recv(peer), Memory::EMPTY, output, dtype))
    })
}
