//! The names of the functions, each twice: as `nccl...`, and as `pnccl...`, which whoever has put an `nccl...` of his own in
//! front of ours calls.

#![allow(clippy::too_many_arguments, reason = "the argument lists are NCCL's")]

/// Exports all functions.
macro_rules! export_all {
    ($prefix:literal) => {
        use dure_c::ffi;

        use crate::Nccl;

        dure_c::export_nccl_2_28! { Nccl, $prefix }

        dure_c::export! { $prefix;
            "CommCuDevice" comm_cu_device(comm: CommPtr, device: Out<c_int>) -> c_int
                = ffi::comm::comm_device;
            "CommFinalize" comm_finalize(comm: CommPtr) -> c_int = super::finalize;

            "CommRevoke" comm_revoke(comm: CommPtr, revoke_flags: c_int) -> c_int
                = ffi::comm::comm_revoke;
            "CommGetUniqueId" comm_get_unique_id(comm: CommPtr, unique_id: Out<RawUniqueId>) -> c_int
                = ffi::comm::comm_get_unique_id::<Nccl>;
            "CommGrow" comm_grow(
                comm: CommPtr, n_ranks: c_int, unique_id: Array<RawUniqueId>, rank: c_int,
                newcomm: Out<CommPtr>, config: ConfigPtr<Nccl>
            ) -> c_int = ffi::comm::comm_grow::<Nccl>;
            "CommMemStats" comm_mem_stats(comm: CommPtr, stat: c_int, value: Out<u64>) -> c_int
                = ffi::memory::comm_mem_stats;
            "WinGetUserPtr" win_get_user_ptr(
                comm: CommPtr, win: *mut c_void, out_user_ptr: Out<*mut c_void>
            ) -> c_int = ffi::memory::win_get_user_ptr::<Nccl>;

            "CommSuspend" comm_suspend(_comm: CommPtr, _flags: c_int) -> c_int
                = |_, _| super::unsupported("CommSuspend", super::NO_GPU_MEMORY);
            "CommResume" comm_resume(_comm: CommPtr) -> c_int
                = |_| super::unsupported("CommResume", super::NO_GPU_MEMORY);
            "PutSignal" put_signal(
                _localbuff: *const c_void, _count: usize, _datatype: c_int, _peer: c_int,
                _peer_win: *mut c_void, _peer_win_offset: usize, _sig_idx: c_int, _ctx: c_int,
                _flags: c_uint, _comm: CommPtr, _stream: StreamPtr
            ) -> c_int = |_, _, _, _, _, _, _, _, _, _, _| super::unsupported("PutSignal", super::ONE_SIDED);
            "Signal" signal(
                _peer: c_int, _sig_idx: c_int, _ctx: c_int, _flags: c_uint, _comm: CommPtr, _stream: StreamPtr
            ) -> c_int = |_, _, _, _, _, _| super::unsupported("Signal", super::ONE_SIDED);
            "WaitSignal" wait_signal(
                _n_desc: c_int, _signal_descs: *mut c_void, _comm: CommPtr, _stream: StreamPtr
            ) -> c_int = |_, _, _, _| super::unsupported("WaitSignal", super::ONE_SIDED);
            "DevCommCreate" dev_comm_create(
                _comm: CommPtr, _reqs: *const c_void, _out_dev_comm: *mut c_void
            ) -> c_int = |_, _, _| super::unsupported("DevCommCreate", super::DEVICE_CODE);
            "DevCommDestroy" dev_comm_destroy(_comm: CommPtr, _dev_comm: *const c_void) -> c_int
                = |_, _| super::unsupported("DevCommDestroy", super::DEVICE_CODE);
            "GetLsaMultimemDevicePointer" get_lsa_multimem_device_pointer(
                _window: *mut c_void, _offset: usize, _out_ptr: Out<*mut c_void>
            ) -> c_int = |_, _, _| super::unsupported("GetLsaMultimemDevicePointer", super::DEVICE_CODE);
            "GetPeerDevicePointer" get_peer_device_pointer(
                _window: *mut c_void, _offset: usize, _peer: c_int, _out_ptr: Out<*mut c_void>
            ) -> c_int = |_, _, _, _| super::unsupported("GetPeerDevicePointer", super::DEVICE_CODE);

            "DureStreamCreate" stream_create(stream: Out<StreamPtr>) -> c_int = ffi::stream::stream_create;
            "DureStreamDestroy" stream_destroy(stream: StreamPtr) -> c_int = ffi::stream::stream_destroy;
            "DureStreamSynchronize" stream_synchronize(stream: StreamPtr) -> c_int
                = ffi::stream::stream_synchronize;
            "DureStreamQuery" stream_query(stream: StreamPtr) -> c_int = ffi::stream::stream_query;
        }
    };
}

mod nccl {
    use std::ffi::c_uint;

    export_all! { "nccl" }
}

mod pnccl {
    use std::ffi::c_uint;

    export_all! { "pnccl" }
}

use std::ffi::c_int;

use dure_c::ffi::comm::comm_finalize;
use dure_c::ffi::pointer::CommPtr;
use dure_c::{code, ffi};

use crate::Nccl;

const NO_GPU_MEMORY: &str = "a communicator has no memory of a GPU that it could give back";
const ONE_SIDED: &str = "there are no one-sided operations; use ncclSend and ncclRecv";
const DEVICE_CODE: &str = "code on a device cannot communicate";

/// As NCCL has it, nothing is no error.
fn finalize(comm: CommPtr) -> c_int {
    if comm.is_null() { code::SUCCESS } else { comm_finalize(comm) }
}

fn unsupported(name: &str, why: &str) -> c_int {
    ffi::library::unsupported::<Nccl>(name, why)
}
