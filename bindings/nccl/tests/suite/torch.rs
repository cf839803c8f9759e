//! What PyTorch asks of the library that it is linked to.

use crate::dynamic::exported;

/// Functions that `libtorch_cuda.so` of PyTorch 2.15.0 leaves undefined, without the prefix.
const UNDEFINED: &str = "AllGather AllReduce AlltoAll Bcast Broadcast CommAbort CommCount CommDeregister CommDestroy \
    CommFinalize CommGetAsyncError CommGetUniqueId CommGrow CommInitAll CommInitRank CommInitRankConfig \
    CommInitRankScalable CommMemStats CommRegister CommResume CommRevoke CommShrink CommSplit CommSuspend CommUserRank \
    CommWindowDeregister CommWindowRegister DevCommCreate DevCommDestroy Gather GetErrorString GetLastError \
    GetLsaMultimemDevicePointer GetPeerDevicePointer GetUniqueId GetVersion GroupEnd GroupSimulateEnd GroupStart \
    MemAlloc MemFree PutSignal Recv RedOpCreatePreMulSum RedOpDestroy Reduce ReduceScatter Send Signal WaitSignal \
    WinGetUserPtr";

#[test]
fn every_name_that_it_leaves_undefined_is_there() {
    let names: Vec<&str> = UNDEFINED.split_whitespace().collect();
    assert_eq!(names.len(), 51);
    let exported = exported();
    for name in names {
        assert!(exported.contains(&format!("nccl{name}")), "nccl{name}");
    }
}
