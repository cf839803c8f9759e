/* The sizes, offsets and numbers of NCCL, which programs that were built against its header rely on. Only one thing is left
 * to find out by running: the version of the library. */
#include "ranks.h"

#define PIN(expression, value) _Static_assert((long long)(expression) == (value), #expression)

PIN(sizeof(ncclUniqueId), 128);
PIN(sizeof(ncclComm_t), 8);
PIN(sizeof(ncclWindow_t), 8);
PIN(sizeof(cudaStream_t), 8);

PIN(ncclSuccess, 0);
PIN(ncclUnhandledCudaError, 1);
PIN(ncclSystemError, 2);
PIN(ncclInternalError, 3);
PIN(ncclInvalidArgument, 4);
PIN(ncclInvalidUsage, 5);
PIN(ncclRemoteError, 6);
PIN(ncclInProgress, 7);
PIN(ncclTimeout, 8);
PIN(ncclNumResults, 9);
PIN(sizeof(ncclResult_t), 4);

PIN(ncclInt8, 0);
PIN(ncclChar, 0);
PIN(ncclUint8, 1);
PIN(ncclInt32, 2);
PIN(ncclInt, 2);
PIN(ncclUint32, 3);
PIN(ncclInt64, 4);
PIN(ncclUint64, 5);
PIN(ncclFloat16, 6);
PIN(ncclHalf, 6);
PIN(ncclFloat32, 7);
PIN(ncclFloat, 7);
PIN(ncclFloat64, 8);
PIN(ncclDouble, 8);
PIN(ncclBfloat16, 9);
PIN(ncclFloat8e4m3, 10);
PIN(ncclFloat8e5m2, 11);
PIN(ncclNumTypes, 12);
PIN(sizeof(ncclDataType_t), 4);

PIN(ncclSum, 0);
PIN(ncclProd, 1);
PIN(ncclMax, 2);
PIN(ncclMin, 3);
PIN(ncclAvg, 4);
PIN(ncclNumOps, 5);
PIN(ncclMaxRedOp, 0x7fffffff);
PIN(sizeof(ncclRedOp_t), 4);

PIN(ncclScalarDevice, 0);
PIN(ncclScalarHostImmediate, 1);
PIN(ncclStatGpuMemSuspend, 0);
PIN(ncclStatGpuMemSuspended, 1);
PIN(ncclStatGpuMemPersist, 2);
PIN(ncclStatGpuMemTotal, 3);

PIN(sizeof(ncclConfig_t), 88);
PIN(offsetof(ncclConfig_t, size), 0);
PIN(offsetof(ncclConfig_t, magic), 8);
PIN(offsetof(ncclConfig_t, version), 12);
PIN(offsetof(ncclConfig_t, blocking), 16);
PIN(offsetof(ncclConfig_t, cgaClusterSize), 20);
PIN(offsetof(ncclConfig_t, minCTAs), 24);
PIN(offsetof(ncclConfig_t, maxCTAs), 28);
PIN(offsetof(ncclConfig_t, netName), 32);
PIN(offsetof(ncclConfig_t, splitShare), 40);
PIN(offsetof(ncclConfig_t, trafficClass), 44);
PIN(offsetof(ncclConfig_t, commName), 48);
PIN(offsetof(ncclConfig_t, collnetEnable), 56);
PIN(offsetof(ncclConfig_t, CTAPolicy), 60);
PIN(offsetof(ncclConfig_t, shrinkShare), 64);
PIN(offsetof(ncclConfig_t, nvlsCTAs), 68);
PIN(offsetof(ncclConfig_t, nChannelsPerNetPeer), 72);
PIN(offsetof(ncclConfig_t, nvlinkCentricSched), 76);
PIN(offsetof(ncclConfig_t, graphUsageMode), 80);
PIN(offsetof(ncclConfig_t, numRmaCtx), 84);
PIN(NCCL_API_MAGIC, 0xcafebeef);
PIN(NCCL_CONFIG_UNDEF_INT, INT_MIN);

PIN(sizeof(ncclSimInfo_t), 24);
PIN(offsetof(ncclSimInfo_t, magic), 8);
PIN(offsetof(ncclSimInfo_t, version), 12);
PIN(offsetof(ncclSimInfo_t, estimatedTime), 16);
PIN(sizeof(ncclWaitSignalDesc_t), 16);
PIN(offsetof(ncclWaitSignalDesc_t, ctx), 12);

PIN(NCCL_VERSION(2, 8, 4), 2804);
PIN(NCCL_VERSION(2, 9, 6), 20906);
PIN(NCCL_VERSION_CODE, NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH));
PIN(NCCL_SPLIT_NOCOLOR, -1);
PIN(NCCL_SHRINK_DEFAULT, 0);
PIN(NCCL_SHRINK_ABORT, 1);
PIN(NCCL_REVOKE_DEFAULT, 0);
PIN(NCCL_SUSPEND_MEM, 1);
PIN(NCCL_WIN_DEFAULT, 0);
PIN(NCCL_WIN_COLL_SYMMETRIC, 1);
PIN(NCCL_WIN_STRICT_ORDERING, 2);
PIN(NCCL_WIN_REQUIRED_ALIGNMENT, 4096);
PIN(NCCL_CTA_POLICY_ZERO, 2);

int main(void) {
  int version = 0;
  CHECK(ncclGetVersion(&version));
  EXPECT(version == NCCL_VERSION_CODE);
  CHECK(pncclGetVersion(&version));
  EXPECT(version == NCCL_VERSION_CODE);
  return 0;
}
