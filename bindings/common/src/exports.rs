//! The functions that C programs call, under the names of an interface.

/// Exports functions: of each the name after the prefix, a name in Rust, the arguments, the result, and what is called.
#[macro_export]
macro_rules! export {
    ($prefix:literal; $(
        $name:literal $function:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty = $body:expr;
    )+) => { $(
        #[unsafe(export_name = concat!($prefix, $name))]
        extern "C" fn $function($($argument: $type),*) -> $result {
            $body($($argument),*)
        }
    )+ };
}

/// Exports the functions of NCCL 2.28 that do the same under every interface. It belongs into a module of its own, and
/// imports the types of arguments for further ones.
#[macro_export]
macro_rules! export_nccl_2_28 {
    ($interface:ty, $prefix:literal) => {
        use ::std::ffi::{c_char, c_int, c_void};

        use $crate::ffi::comm::RawUniqueId;
        use $crate::ffi::config::ConfigPtr;
        use $crate::ffi::group::RawSimInfo;
        use $crate::ffi::pointer::{Array, CommPtr, Out, ScalarAt, StreamPtr};

        $crate::export! { $prefix;
            "GetVersion" get_version(version: Out<c_int>) -> c_int
                = $crate::ffi::library::get_version::<$interface>;
            "GetErrorString" get_error_string(result: c_int) -> *const c_char
                = $crate::ffi::library::get_error_string;
            "GetLastError" get_last_error(comm: CommPtr) -> *const c_char
                = $crate::ffi::library::get_last_error;
            "ResetDebugInit" reset_debug_init() -> () = $crate::ffi::library::reset_debug_init;
            "GetUniqueId" get_unique_id(unique_id: Out<RawUniqueId>) -> c_int
                = $crate::ffi::comm::get_unique_id::<$interface>;
            "CommInitRank" comm_init_rank(
                comm: Out<CommPtr>, nranks: c_int, comm_id: RawUniqueId, rank: c_int
            ) -> c_int = $crate::ffi::comm::comm_init_rank::<$interface>;
            "CommInitRankConfig" comm_init_rank_config(
                comm: Out<CommPtr>, nranks: c_int, comm_id: RawUniqueId, rank: c_int,
                config: ConfigPtr<$interface>
            ) -> c_int = $crate::ffi::comm::comm_init_rank_config::<$interface>;
            "CommInitRankScalable" comm_init_rank_scalable(
                newcomm: Out<CommPtr>, nranks: c_int, myrank: c_int, n_id: c_int,
                comm_ids: Array<RawUniqueId>, config: ConfigPtr<$interface>
            ) -> c_int = $crate::ffi::comm::comm_init_rank_scalable::<$interface>;
            "CommInitAll" comm_init_all(
                comm: Out<CommPtr>, ndev: c_int, devlist: Array<c_int>
            ) -> c_int = $crate::ffi::comm::comm_init_all::<$interface>;
            "CommSplit" comm_split(
                comm: CommPtr, color: c_int, key: c_int, newcomm: Out<CommPtr>,
                config: ConfigPtr<$interface>
            ) -> c_int = $crate::ffi::comm::comm_split::<$interface>;
            "CommShrink" comm_shrink(
                comm: CommPtr, exclude_ranks_list: Array<c_int>, exclude_ranks_count: c_int,
                newcomm: Out<CommPtr>, config: ConfigPtr<$interface>, shrink_flags: c_int
            ) -> c_int = $crate::ffi::comm::comm_shrink::<$interface>;
            "CommDestroy" comm_destroy(comm: CommPtr) -> c_int = $crate::ffi::comm::comm_destroy;
            "CommAbort" comm_abort(comm: CommPtr) -> c_int = $crate::ffi::comm::comm_abort;
            "CommGetAsyncError" comm_get_async_error(
                comm: CommPtr, async_error: Out<c_int>
            ) -> c_int = $crate::ffi::comm::comm_get_async_error::<$interface>;
            "CommCount" comm_count(comm: CommPtr, count: Out<c_int>) -> c_int
                = $crate::ffi::comm::comm_count;
            "CommUserRank" comm_user_rank(comm: CommPtr, rank: Out<c_int>) -> c_int
                = $crate::ffi::comm::comm_user_rank;
            "AllReduce" all_reduce(
                sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int,
                op: c_int, comm: CommPtr, stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::all_reduce;
            "Reduce" reduce(
                sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int,
                op: c_int, root: c_int, comm: CommPtr, stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::reduce;
            "ReduceScatter" reduce_scatter(
                sendbuff: *const c_void, recvbuff: *mut c_void, recvcount: usize, datatype: c_int,
                op: c_int, comm: CommPtr, stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::reduce_scatter;
            "Broadcast" broadcast(
                sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int,
                root: c_int, comm: CommPtr, stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::broadcast;
            "Bcast" bcast(
                buff: *mut c_void, count: usize, datatype: c_int, root: c_int, comm: CommPtr,
                stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::bcast;
            "AllGather" all_gather(
                sendbuff: *const c_void, recvbuff: *mut c_void, sendcount: usize, datatype: c_int,
                comm: CommPtr, stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::all_gather;
            "AlltoAll" all_to_all(
                sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int,
                comm: CommPtr, stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::all_to_all;
            "Gather" gather(
                sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int,
                root: c_int, comm: CommPtr, stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::gather;
            "Scatter" scatter(
                sendbuff: *const c_void, recvbuff: *mut c_void, count: usize, datatype: c_int,
                root: c_int, comm: CommPtr, stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::scatter;
            "Send" send(
                sendbuff: *const c_void, count: usize, datatype: c_int, peer: c_int, comm: CommPtr,
                stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::send;
            "Recv" recv(
                recvbuff: *mut c_void, count: usize, datatype: c_int, peer: c_int, comm: CommPtr,
                stream: StreamPtr
            ) -> c_int = $crate::ffi::collective::recv;
            "GroupStart" group_start() -> c_int = $crate::ffi::group::group_start;
            "GroupEnd" group_end() -> c_int = $crate::ffi::group::group_end::<$interface>;
            "GroupSimulateEnd" group_simulate_end(sim_info: Out<RawSimInfo>) -> c_int
                = $crate::ffi::group::group_simulate_end::<$interface>;
            "RedOpCreatePreMulSum" red_op_create_pre_mul_sum(
                op: Out<c_int>, scalar: ScalarAt, datatype: c_int, residence: c_int, comm: CommPtr
            ) -> c_int = $crate::ffi::operation::red_op_create_pre_mul_sum::<$interface>;
            "RedOpDestroy" red_op_destroy(op: c_int, comm: CommPtr) -> c_int
                = $crate::ffi::operation::red_op_destroy;
            "MemAlloc" mem_alloc(ptr: Out<*mut c_void>, size: usize) -> c_int
                = $crate::ffi::memory::mem_alloc::<$interface>;
            "MemFree" mem_free(ptr: *mut c_void) -> c_int
                = $crate::ffi::memory::mem_free::<$interface>;
            "CommRegister" comm_register(
                comm: CommPtr, buff: *mut c_void, size: usize, handle: Out<*mut c_void>
            ) -> c_int = $crate::ffi::memory::comm_register;
            "CommDeregister" comm_deregister(comm: CommPtr, handle: *mut c_void) -> c_int
                = $crate::ffi::memory::comm_deregister::<$interface>;
            "CommWindowRegister" comm_window_register(
                comm: CommPtr, buff: *mut c_void, size: usize, win: Out<*mut c_void>,
                win_flags: c_int
            ) -> c_int = $crate::ffi::memory::comm_window_register::<$interface>;
            "CommWindowDeregister" comm_window_deregister(comm: CommPtr, win: *mut c_void) -> c_int
                = $crate::ffi::memory::comm_window_deregister::<$interface>;
        }
    };
}
