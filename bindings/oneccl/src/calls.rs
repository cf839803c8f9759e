//! The functions that oneCCL calls: the plug-in's own, and those of communicators. What they do is in `dure-c`.

#![allow(clippy::too_many_arguments, reason = "the argument lists are oneCCL's")]

use std::ffi::{c_char, c_int, c_void};

use dure::Error;
use dure_c::ffi::comm::{NO_COLOR, RawUniqueId};
use dure_c::ffi::config::ConfigPtr;
use dure_c::ffi::pointer::{Array, Out, ScalarAt, StreamPtr};
use dure_c::ffi::{collective, comm, group, library, memory, operation, ragged};
use dure_c::{code, environment};

use crate::OneCcl;
use crate::layout::{self, Layout};
use crate::result::{self, answer};
use crate::theirs::{Comm, CommAt, UniqueId, nowhere, place, write};

/// What the plug-in answers where oneCCL compares plug-ins: as much as oneCCL's own back end for memory of the host. It asks
/// only those that it knows by name.
const SCORE: c_int = 1000;

/// Defines functions that oneCCL calls, by what gives their results.
macro_rules! functions {
    ($( $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:expr; )+) => { $(
        pub(crate) extern "C" fn $name($($argument: $type),*) -> c_int {
            answer($body)
        }
    )+ };
}

// Those of the plug-in.
functions! {
    init_id(unique_id: Out<RawUniqueId>) = known(|_| comm::get_unique_id::<OneCcl>(unique_id));
    // Its settings have no effect: oneCCL takes a communicator whose ranks have yet to meet for a failure.
    init_comm(comm: CommAt, nranks: usize, id: UniqueId, rank: c_int, _config: *const c_void)
        = known(|layout| make(comm.get(), layout, (nranks, rank), &id));
    init_device(_index: u32) = library::unsupported::<OneCcl>("SetDevice", HOST_ONLY);
    group_start() = group::group_start();
    group_end() = group::group_end::<OneCcl>();
    mem_alloc(ptr: Out<*mut c_void>, size: usize) = memory::mem_alloc::<OneCcl>(ptr, size);
    mem_free(ptr: *mut c_void) = memory::mem_free::<OneCcl>(ptr);
}

const HOST_ONLY: &str = "there is no support for GPUs, only for memory of the host";

/// Reads the settings, so that there is a log from now on. A wrong one is the answer to whatever needs settings.
pub(crate) extern "C" fn init() -> c_int {
    drop(environment::config::<OneCcl>());
    0
}

pub(crate) extern "C" fn platform_score(score: *mut c_int) -> c_int {
    if write(score, SCORE) {
        return 0;
    }
    answer(library::fail(Error::invalid_argument("score is NULL")))
}

// Those of communicators.
functions! {
    all_reduce(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int, op: c_int, comm: Comm,
        stream: StreamPtr,
    ) = at_once(stream, |now| {
        collective::all_reduce(sendbuff, recvbuff, count, datatype, op, comm.ours(), now)
    });
    reduce(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int, op: c_int, root: c_int,
        comm: Comm, stream: StreamPtr,
    ) = at_once(stream, |now| {
        collective::reduce(sendbuff, recvbuff, count, datatype, op, root, comm.ours(), now)
    });
    reduce_scatter(
        sendbuff: *const c_void, recvbuff: *mut c_void, recvcount: usize, datatype: c_int, op: c_int, comm: Comm,
        stream: StreamPtr,
    ) = at_once(stream, |now| {
        collective::reduce_scatter(sendbuff, recvbuff, recvcount, datatype, op, comm.ours(), now)
    });
    broadcast(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int, root: c_int, comm: Comm,
        stream: StreamPtr,
    ) = at_once(stream, |now| {
        collective::broadcast(sendbuff, recvbuff, count, datatype, root, comm.ours(), now)
    });
    all_gather(
        sendbuff: *const c_void, recvbuff: *mut c_void, sendcount: usize, datatype: c_int, comm: Comm,
        stream: StreamPtr,
    ) = at_once(stream, |now| {
        collective::all_gather(sendbuff, recvbuff, sendcount, datatype, comm.ours(), now)
    });
    all_to_all(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int, comm: Comm, stream: StreamPtr,
    ) = at_once(stream, |now| {
        collective::all_to_all(sendbuff, recvbuff, count, datatype, comm.ours(), now)
    });
    all_to_all_v(
        sendbuff: *const c_void, send_counts: Array<usize>, recvbuff: *mut c_void, recv_counts: Array<usize>,
        datatype: c_int, comm: Comm, stream: StreamPtr,
    ) = at_once(stream, |now| {
        let none = Array::NONE;
        ragged::all_to_all_v(
            sendbuff, send_counts, none, recvbuff, recv_counts, none, datatype, comm.ours(), now,
        )
    });
    scatter(
        sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int, root: c_int, comm: Comm,
        stream: StreamPtr,
    ) = at_once(stream, |now| {
        collective::scatter(sendbuff, recvbuff, count, datatype, root, comm.ours(), now)
    });
    send(
        sendbuff: *const c_void, count: usize, datatype: c_int, peer: c_int, comm: Comm, stream: StreamPtr,
    ) = at_once(stream, |now| collective::send(sendbuff, count, datatype, peer, comm.ours(), now));
    recv(
        recvbuff: *mut c_void, count: usize, datatype: c_int, peer: c_int, comm: Comm, stream: StreamPtr,
    ) = at_once(stream, |now| collective::recv(recvbuff, count, datatype, peer, comm.ours(), now));
    barrier(comm: Comm) = collective::barrier(comm.ours(), StreamPtr::NULL);

    get_rank(comm: Comm, rank: Out<c_int>) = comm::comm_user_rank(comm.ours(), rank);
    get_size(comm: Comm, size: Out<c_int>) = comm::comm_count(comm.ours(), size);
    get_device(comm: Comm, device: Out<c_int>) = comm::comm_device(comm.ours(), device);
    comm_register(comm: Comm, buff: *mut c_void, size: usize, handle: Out<*mut c_void>)
        = memory::comm_register(comm.ours(), buff, size, handle);
    comm_deregister(comm: Comm, handle: *mut c_void)
        = memory::comm_deregister::<OneCcl>(comm.ours(), handle);
    comm_window_register(comm: Comm, buff: *mut c_void, size: usize, window: Out<*mut c_void>, flags: c_int)
        = memory::comm_window_register::<OneCcl>(comm.ours(), buff, size, window, flags);
    comm_window_deregister(comm: Comm, window: *mut c_void)
        = memory::comm_window_deregister::<OneCcl>(comm.ours(), window);
    create_pre_mul_sum(op: Out<c_int>, scalar: ScalarAt, datatype: c_int, residence: c_int, comm: Comm)
        = operation::red_op_create_pre_mul_sum::<OneCcl>(op, scalar, datatype, residence, comm.ours());
    reduction_destroy(op: c_int, comm: Comm) = operation::red_op_destroy(op, comm.ours());

    split(comm: Comm, color: c_int, key: c_int, newcomm: CommAt, _config: *const c_void)
        = known(|layout| divide(comm, layout, (color, key), newcomm));
    destroy(comm: Comm) = comm::comm_destroy(comm.ours());
    finalize(comm: Comm) = comm::comm_finalize(comm.ours());
    // oneCCL keeps the structure, so its handle stays too, for `destroy`.
    abort(comm: Comm) = comm::comm_revoke(comm.ours(), 0);
}

// Those that only Dure's own header asks for.

pub(crate) extern "C" fn async_error(comm: Comm, state: *mut c_int) -> c_int {
    let mut code = code::SUCCESS;
    let asked = comm::comm_get_async_error::<OneCcl>(comm.ours(), place(&mut code));
    if asked == code::SUCCESS && !write(state, result::of(code)) {
        return answer(library::fail(Error::invalid_argument("asyncError is NULL")));
    }
    answer(asked)
}

pub(crate) extern "C" fn last_error(comm: Comm) -> *const c_char {
    library::get_last_error(comm.ours())
}

/// The functions of communicators that there are here, under their names in [`Layout`].
const SERVED: &[(&str, Address)] = &[
    ("allreduce", || all_reduce as *const c_void),
    ("allgather", || all_gather as *const c_void),
    ("alltoall", || all_to_all as *const c_void),
    ("alltoallv", || all_to_all_v as *const c_void),
    ("broadcast", || broadcast as *const c_void),
    ("reduce", || reduce as *const c_void),
    ("reduce_scatter", || reduce_scatter as *const c_void),
    ("scatter", || scatter as *const c_void),
    ("send", || send as *const c_void),
    ("recv", || recv as *const c_void),
    ("barrier", || barrier as *const c_void),
    ("get_rank", || get_rank as *const c_void),
    ("get_size", || get_size as *const c_void),
    ("get_device", || get_device as *const c_void),
    ("mem_alloc", || mem_alloc as *const c_void),
    ("mem_free", || mem_free as *const c_void),
    ("comm_register", || comm_register as *const c_void),
    ("comm_deregister", || comm_deregister as *const c_void),
    ("comm_window_register", || comm_window_register as *const c_void),
    ("comm_window_deregister", || comm_window_deregister as *const c_void),
    ("create_pre_mul_sum", || create_pre_mul_sum as *const c_void),
    ("reduction_destroy", || reduction_destroy as *const c_void),
    ("split", || split as *const c_void),
    ("destroy", || destroy as *const c_void),
    ("finalize", || finalize as *const c_void),
    ("abort", || abort as *const c_void),
];

type Address = fn() -> *const c_void;

/// Makes a call that is done when it returns.
#[inline(always)]
fn at_once(stream: StreamPtr, call: impl FnOnce(StreamPtr) -> c_int) -> c_int {
    if stream.is_null() { call(stream) } else { library::fail(no_queues()) }
}

#[cold]
fn no_queues() -> Error {
    Error::invalid_argument(
        "stream is not NULL (allowed: NULL; there is no support for SYCL queues, only for memory of the host)",
    )
}

/// Does something with communicators of oneCCL's, if its version is known.
fn known(body: impl FnOnce(&Layout) -> c_int) -> c_int {
    layout::current().map_or_else(library::fail, body)
}

/// Makes a communicator.
fn make(comm: Comm, layout: &Layout, (nranks, rank): (usize, c_int), id: &UniqueId) -> c_int {
    let Ok(nranks) = c_int::try_from(nranks) else {
        let text =
            format!("nranks {nranks} is not a number of ranks (allowed: 1 to {})", c_int::MAX);
        return library::fail(Error::invalid_argument(text));
    };
    let made = comm::comm_init_rank::<OneCcl>(comm.place_of_ours(), nranks, id.dure(), rank);
    if made == code::SUCCESS {
        fill(comm, layout);
    }
    made
}

/// Splits a communicator. oneCCL has made a structure for the new one, which a rank that gets none gives back.
fn divide(parent: Comm, layout: &Layout, (color, key): (c_int, c_int), newcomm: CommAt) -> c_int {
    let child = newcomm.get();
    let place = if color == NO_COLOR { nowhere() } else { child.place_of_ours() };
    let divided =
        comm::comm_split::<OneCcl>(parent.ours(), color, key, place, ConfigPtr::<OneCcl>::NONE);
    if divided == code::SUCCESS {
        if color == NO_COLOR { newcomm.abandon() } else { fill(child, layout) }
    }
    divided
}

/// Writes the functions into a new communicator. oneCCL answers for those that are not here.
fn fill(comm: Comm, layout: &Layout) {
    for (name, offset) in layout.functions() {
        if let Some((_, address)) = SERVED.iter().find(|(served, _)| *served == name) {
            comm.set(offset, address());
        }
    }
}
