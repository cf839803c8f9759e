//! The names of the functions.

#![allow(clippy::too_many_arguments, reason = "the argument lists are NCCL's")]

use dure_c::ffi;
use dure_c::ffi::pointer::{Function, User};

use crate::Dure;

dure_c::export_nccl_2_28! { Dure, "dure" }

dure_c::export! { "dure";
    "CommInitEnv" comm_init_env(comm: Out<CommPtr>, config: ConfigPtr<Dure>) -> c_int
        = ffi::comm::comm_init_env::<Dure>;
    "CommDup" comm_dup(comm: CommPtr, newcomm: Out<CommPtr>) -> c_int = ffi::comm::comm_dup::<Dure>;
    "CommFinalize" comm_finalize(comm: CommPtr) -> c_int = ffi::comm::comm_finalize;
    "CommDevice" comm_device(comm: CommPtr, device: Out<c_int>) -> c_int = ffi::comm::comm_device;
    "Barrier" barrier(comm: CommPtr, stream: StreamPtr) -> c_int = ffi::collective::barrier;
    "AllToAllv" all_to_all_v(
        sendbuff: *const c_void, sendcounts: Array<usize>, sdispls: Array<usize>,
        recvbuff: *mut c_void, recvcounts: Array<usize>, rdispls: Array<usize>, datatype: c_int,
        comm: CommPtr, stream: StreamPtr
    ) -> c_int = ffi::ragged::all_to_all_v;
    "AllGatherv" all_gather_v(
        sendbuff: *const c_void, sendcount: usize, recvbuff: *mut c_void, recvcounts: Array<usize>,
        displs: Array<usize>, datatype: c_int, comm: CommPtr, stream: StreamPtr
    ) -> c_int = ffi::ragged::all_gather_v;
    "ReduceScatterv" reduce_scatter_v(
        sendbuff: *const c_void, sendcounts: Array<usize>, displs: Array<usize>,
        recvbuff: *mut c_void, recvcount: usize, datatype: c_int, op: c_int, comm: CommPtr,
        stream: StreamPtr
    ) -> c_int = ffi::ragged::reduce_scatter_v;
    "Gatherv" gather_v(
        sendbuff: *const c_void, sendcount: usize, recvbuff: *mut c_void, recvcounts: Array<usize>,
        displs: Array<usize>, datatype: c_int, root: c_int, comm: CommPtr, stream: StreamPtr
    ) -> c_int = ffi::ragged::gather_v;
    "Scatterv" scatter_v(
        sendbuff: *const c_void, sendcounts: Array<usize>, displs: Array<usize>,
        recvbuff: *mut c_void, recvcount: usize, datatype: c_int, root: c_int, comm: CommPtr,
        stream: StreamPtr
    ) -> c_int = ffi::ragged::scatter_v;
    "StreamCreate" stream_create(stream: Out<StreamPtr>) -> c_int = ffi::stream::stream_create;
    "StreamJoin" stream_join(native: StreamPtr, device: c_int, stream: Out<StreamPtr>) -> c_int
        = ffi::stream::stream_join::<Dure>;
    "StreamDestroy" stream_destroy(stream: StreamPtr) -> c_int = ffi::stream::stream_destroy;
    "StreamSynchronize" stream_synchronize(stream: StreamPtr) -> c_int
        = ffi::stream::stream_synchronize;
    "StreamQuery" stream_query(stream: StreamPtr) -> c_int = ffi::stream::stream_query;
    "RedOpCreateCustom" red_op_create_custom(
        op: Out<c_int>, function: Option<Function>, user: User, comm: CommPtr
    ) -> c_int = ffi::operation::red_op_create_custom;
    "CommMemAlloc" comm_mem_alloc(comm: CommPtr, ptr: Out<*mut c_void>, size: usize) -> c_int
        = ffi::memory::comm_mem_alloc;
    "CommMemFree" comm_mem_free(comm: CommPtr, ptr: *mut c_void) -> c_int
        = ffi::memory::comm_mem_free::<Dure>;
    "CommMemDevice" comm_mem_device(
        comm: CommPtr, ptr: *const c_void, device: Out<c_int>
    ) -> c_int = ffi::memory::comm_mem_device;
}
