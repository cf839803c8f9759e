/* What the tests need of oneCCL's public header, where oneCCL is not installed: its names and numbers, in our words. */
#ifndef IMITATED_CCL_H
#define IMITATED_CCL_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct onecclComm *onecclComm_t;
typedef void *onecclWindow_t;

typedef struct {
  char data[4096];
} onecclUniqueId;

typedef enum {
  onecclSuccess,
  onecclError,
  onecclSystemError,
  onecclInternalError,
  onecclInvalidArgument,
  onecclInvalidUsage,
  onecclInProgress,
  onecclFailureGPU,
  onecclFailureCPU,
  onecclAllocFailureCPU,
  onecclAllocFailureGPU,
  onecclPluginException,
  onecclNotImplemented
} onecclResult_t;

typedef enum {
  onecclInt8,
  onecclUint8,
  onecclInt32,
  onecclInt = onecclInt32,
  onecclUint32,
  onecclInt64,
  onecclUint64,
  onecclFloat16,
  onecclFloat32,
  onecclFloat = onecclFloat32,
  onecclFloat64,
  onecclDouble = onecclFloat64,
  onecclBfloat16
} onecclDataType_t;

typedef enum {
  onecclSum,
  onecclProd,
  onecclMax,
  onecclMin,
  onecclAvg,
  onecclNumOps,
  onecclMaxRedOp = INT_MAX
} onecclRedOp_t;

typedef enum { onecclScalarDevice, onecclScalarHostImmediate } onecclScalarResidence_t;
typedef enum { ONECCL_WINDOW_DEFAULT, ONECCL_WINDOW_COLL_SYMMETRIC } onecclWindowFlags_t;

#define ONECCL_SPLIT_NOCOLOR (-1)

typedef struct {
  size_t size;
  unsigned magic, version;
  int blocking, cgaClusterSize, minCTAs, maxCTAs;
  const char *netName;
  int splitShare, multiThreaded;
  unsigned plugin;
} onecclConfig_t;

#define ONECCL_CONFIG_INITIALIZER \
  { sizeof(onecclConfig_t), 0xcafebeef, 20220200, INT_MIN, INT_MIN, INT_MIN, INT_MIN, NULL, INT_MIN, INT_MIN, 0 }

onecclResult_t onecclGetVersion(int *version);
const char *onecclGetErrorString(onecclResult_t result);
const char *onecclGetLastError(onecclComm_t comm);
onecclResult_t onecclGetUniqueId(onecclUniqueId *id);
onecclResult_t onecclCommInitRank(onecclComm_t *comm, size_t nranks, onecclUniqueId id, int rank);
onecclResult_t onecclCommInitRankConfig(onecclComm_t *comm, size_t nranks, onecclUniqueId id, int rank,
                                        const onecclConfig_t *config);
onecclResult_t onecclCommSplit(onecclComm_t comm, int color, int key, onecclComm_t *newcomm, onecclConfig_t *config);
onecclResult_t onecclCommFinalize(onecclComm_t comm);
onecclResult_t onecclCommDestroy(onecclComm_t comm);
onecclResult_t onecclCommCount(onecclComm_t comm, int *size);
onecclResult_t onecclCommUserRank(onecclComm_t comm, int *rank);
onecclResult_t onecclCommDevice(onecclComm_t comm, int *device);
onecclResult_t onecclSetDevice(uint32_t index);
onecclResult_t onecclGroupStart(void);
onecclResult_t onecclGroupEnd(void);
onecclResult_t onecclMemAlloc(void **ptr, size_t size);
onecclResult_t onecclMemFree(void *ptr);
onecclResult_t onecclCommRegister(onecclComm_t comm, void *buff, size_t size, void **handle);
onecclResult_t onecclCommDeregister(onecclComm_t comm, void *handle);
onecclResult_t onecclCommWindowRegister(onecclComm_t comm, void *buff, size_t size, onecclWindow_t *window,
                                        onecclWindowFlags_t flags);
onecclResult_t onecclCommWindowDeregister(onecclComm_t comm, onecclWindow_t window);
onecclResult_t onecclRedOpCreatePreMulSum(onecclRedOp_t *op, void *scalar, onecclDataType_t type,
                                          onecclScalarResidence_t residence, onecclComm_t comm);
onecclResult_t onecclRedOpDestroy(onecclRedOp_t op, onecclComm_t comm);
onecclResult_t onecclAllReduce(void *send, void *recv, size_t count, onecclDataType_t type, onecclRedOp_t op,
                               onecclComm_t comm, void *stream);
onecclResult_t onecclReduce(const void *send, void *recv, size_t count, onecclDataType_t type, onecclRedOp_t op, int root,
                            onecclComm_t comm, void *stream);
onecclResult_t onecclReduceScatter(const void *send, void *recv, size_t count, onecclDataType_t type, onecclRedOp_t op,
                                   onecclComm_t comm, void *stream);
onecclResult_t onecclBroadcast(const void *send, void *recv, size_t count, onecclDataType_t type, int root,
                               onecclComm_t comm, void *stream);
onecclResult_t onecclAllGather(const void *send, void *recv, size_t count, onecclDataType_t type, onecclComm_t comm,
                               void *stream);
onecclResult_t onecclAllToAll(const void *send, void *recv, size_t count, onecclDataType_t type, onecclComm_t comm,
                              void *stream);
onecclResult_t onecclAllToAllV(const void *send, const size_t *send_counts, void *recv, const size_t *recv_counts,
                               onecclDataType_t type, onecclComm_t comm, void *stream);
onecclResult_t onecclScatter(const void *send, void *recv, size_t count, onecclDataType_t type, int root, onecclComm_t comm,
                             void *stream);
onecclResult_t onecclSend(const void *send, size_t count, onecclDataType_t type, int peer, onecclComm_t comm, void *stream);
onecclResult_t onecclRecv(void *recv, size_t count, onecclDataType_t type, int peer, onecclComm_t comm, void *stream);

#ifdef __cplusplus
}
#endif

#endif
