/*
 * nccl.h: Dure, collective communication between processes, under the names and numbers of NCCL 2.29.7.
 *
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * For programs that are written against NCCL: compiled with this header or with NCCL's own, they run on libnccl.so.2 of
 * Dure. README.md beside this folder has a table of all functions. dure.h has the same functions under Dure's own names,
 * more of them, and says more about each.
 *
 * What holds for every function
 *   Results.  ncclSuccess; ncclInProgress where it says so; or an error, of which ncclGetLastError has the text. Errors that
 *             every function may return are not repeated below: ncclInvalidArgument for a NULL, a number or a handle that
 *             cannot be (the text names the argument, and what is allowed), and ncclInternalError for a defect of ours.
 *   Memory.   Buffers are memory of the host, of any alignment. There is no support for GPUs yet.
 *   Streams.  NULL: the call is done when it returns or, in a group, when the group has ended. Otherwise a stream of
 *             ncclDureStreamCreate, and the call is done when the stream is past it. Other streams are
 *             ncclInvalidArgument; nothing is done to them, and nothing is read where they point to.
 *   Twins.    Each function is there as pnccl... too, for tools that put an nccl... of their own in front.
 *   Settings. The environment (DURE_..., and some of NCCL_...: see README.md) is read once, by the first function that makes
 *             an id or a communicator.
 */
#ifndef NCCL_H_
#define NCCL_H_

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NCCL_MAJOR 2
#define NCCL_MINOR 29
#define NCCL_PATCH 7
#define NCCL_SUFFIX ""
#define NCCL_VERSION(X, Y, Z) \
  (((X) <= 2 && (Y) <= 8) ? (X) * 1000 + (Y) * 100 + (Z) : (X) * 10000 + (Y) * 100 + (Z))
#define NCCL_VERSION_CODE 22907

/* This header is Dure's. */
#define NCCL_DURE 1

/* Declares a function and its twin. */
#define NCCL_DURE_FUNCTION(result, name, arguments) \
  result name arguments;                            \
  result p##name arguments

/* ---- Types and numbers ---------------------------------------------------------------------------------------------- */

/* As CUDA defines it. */
typedef struct CUstream_st *cudaStream_t;

/* A communicator: one rank's membership in a group. */
typedef struct ncclComm *ncclComm_t;
#define NCCL_COMM_NULL NULL
/* Memory that was registered by ncclCommWindowRegister. */
typedef struct ncclWindow_vidmem *ncclWindow_t;
/* Types of NCCL's device code, of which there is none here. */
typedef struct ncclDevComm ncclDevComm_t;
typedef struct ncclDevCommRequirements ncclDevCommRequirements_t;

#define NCCL_UNIQUE_ID_BYTES 128
/* By this the ranks of a communicator find each other. It holds a secret: whoever has it can join the job. */
typedef struct {
  char internal[NCCL_UNIQUE_ID_BYTES];
} ncclUniqueId;

typedef enum {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1, /* a copy or reduction on a device failed */
  ncclSystemError = 2,        /* this host: the system refused something */
  ncclInternalError = 3,      /* us: please report it */
  ncclInvalidArgument = 4,    /* the caller: one argument or setting cannot be */
  ncclInvalidUsage = 5,       /* the caller: not here and now; or the ranks' calls differ; or it is not supported */
  ncclRemoteError = 6,        /* a peer died, is unreachable, or ended the communicator */
  ncclInProgress = 7,         /* not an error: it goes on in the background */
  ncclTimeout = 8,            /* the deadline (DURE_TIMEOUT) passed; the text says which rank did not do what */
  ncclNumResults = 9
} ncclResult_t;

typedef enum {
  ncclInt8 = 0, ncclChar = 0,
  ncclUint8 = 1,
  ncclInt32 = 2, ncclInt = 2,
  ncclUint32 = 3,
  ncclInt64 = 4,
  ncclUint64 = 5,
  ncclFloat16 = 6, ncclHalf = 6,
  ncclFloat32 = 7, ncclFloat = 7,
  ncclFloat64 = 8, ncclDouble = 8,
  ncclBfloat16 = 9,
  ncclFloat8e4m3 = 10,
  ncclFloat8e5m2 = 11,
  ncclNumTypes = 12
} ncclDataType_t;

/* How elements are combined. Values from ncclNumOps on are those of ncclRedOpCreatePreMulSum. */
typedef enum {
  ncclSum = 0,
  ncclProd = 1,
  ncclMax = 2,
  ncclMin = 3,
  ncclAvg = 4, /* the sum divided by the number of ranks */
  ncclNumOps = 5,
  ncclMaxRedOp = 0x7fffffff
} ncclRedOp_t;

/* ---- Settings of one communicator ----------------------------------------------------------------------------------- */

#define NCCL_CONFIG_UNDEF_INT INT_MIN
#define NCCL_CONFIG_UNDEF_PTR NULL
#define NCCL_UNDEF_FLOAT (-1.0f)
#define NCCL_API_MAGIC 0xcafebeef

#define NCCL_CTA_POLICY_DEFAULT 0x00
#define NCCL_CTA_POLICY_EFFICIENCY 0x01
#define NCCL_CTA_POLICY_ZERO 0x02

/* Begin with NCCL_CONFIG_INITIALIZER, and set what matters. Of a structure of another version the fields are read that both
 * it and this library have. Fields "of no effect" say how a GPU is used; values that NCCL would not take are errors. */
typedef struct ncclConfig {
  size_t size;             /* set by the initializer, like the next two */
  unsigned int magic;
  unsigned int version;
  int blocking;            /* 1 (as when not set): making the communicator waits. 0: see ncclCommInitRankConfig */
  int cgaClusterSize;      /* of no effect */
  int minCTAs;             /* of no effect */
  int maxCTAs;             /* of no effect */
  const char *netName;     /* the network between hosts: "Socket" or "IB" */
  int splitShare;          /* of no effect: what can be shared is */
  int trafficClass;        /* of no effect yet */
  const char *commName;    /* begins the texts of this communicator's errors */
  int collnetEnable;       /* of no effect */
  int CTAPolicy;           /* of no effect */
  int shrinkShare;         /* of no effect: what can be shared is */
  int nvlsCTAs;            /* of no effect */
  int nChannelsPerNetPeer; /* of no effect */
  int nvlinkCentricSched;  /* of no effect */
  int graphUsageMode;      /* of no effect */
  int numRmaCtx;           /* of no effect */
} ncclConfig_t;

#define NCCL_CONFIG_INITIALIZER {                                              \
  sizeof(ncclConfig_t),    /* size */                                          \
  NCCL_API_MAGIC,          /* magic */                                         \
  NCCL_VERSION_CODE,       /* version */                                       \
  NCCL_CONFIG_UNDEF_INT,   /* blocking */                                      \
  NCCL_CONFIG_UNDEF_INT,   /* cgaClusterSize */                                \
  NCCL_CONFIG_UNDEF_INT,   /* minCTAs */                                       \
  NCCL_CONFIG_UNDEF_INT,   /* maxCTAs */                                       \
  NCCL_CONFIG_UNDEF_PTR,   /* netName */                                       \
  NCCL_CONFIG_UNDEF_INT,   /* splitShare */                                    \
  NCCL_CONFIG_UNDEF_INT,   /* trafficClass */                                  \
  NCCL_CONFIG_UNDEF_PTR,   /* commName */                                      \
  NCCL_CONFIG_UNDEF_INT,   /* collnetEnable */                                 \
  NCCL_CONFIG_UNDEF_INT,   /* CTAPolicy */                                     \
  NCCL_CONFIG_UNDEF_INT,   /* shrinkShare */                                   \
  NCCL_CONFIG_UNDEF_INT,   /* nvlsCTAs */                                      \
  NCCL_CONFIG_UNDEF_INT,   /* nChannelsPerNetPeer */                           \
  NCCL_CONFIG_UNDEF_INT,   /* nvlinkCentricSched */                            \
  NCCL_CONFIG_UNDEF_INT,   /* graphUsageMode */                                \
  NCCL_CONFIG_UNDEF_INT    /* numRmaCtx */                                     \
}

/* ---- The library ---------------------------------------------------------------------------------------------------- */

/* The version of NCCL whose functions are here, as NCCL_VERSION. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclGetVersion, (int *version));

/* What a result means, in a few words. Never NULL; any number may be given. */
NCCL_DURE_FUNCTION(const char *, ncclGetErrorString, (ncclResult_t result));

/* The text of the last error: on this communicator or, for NULL, of this thread. Empty if there was none. It stays until the
 * same thread calls this function again. */
NCCL_DURE_FUNCTION(const char *, ncclGetLastError, (ncclComm_t comm));

/* Does nothing: deprecated in NCCL. */
NCCL_DURE_FUNCTION(void, ncclResetDebugInit, (void));

/* ---- Communicators -------------------------------------------------------------------------------------------------- */

/* Makes an id, in one process, which must live until the ranks have met. One id makes one communicator. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclGetUniqueId, (ncclUniqueId *uniqueId));

/* Makes this process rank `rank` of `nranks`, and waits for all of them. On an error *comm is NULL.
 * Errors: ncclTimeout names the ranks that did not come; ncclInvalidUsage the rank and the setting in which ranks differ. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommInitRank, (ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank));

/* As ncclCommInitRank, with settings; NULL for none. With config->blocking = 0 it returns ncclInProgress and a communicator
 * at once; ncclCommGetAsyncError says ncclInProgress until all ranks have met. Other calls on it wait first. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommInitRankConfig,
                   (ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank, ncclConfig_t *config));

/* As ncclCommInitRankConfig, with `nId` ids (1 to nranks), the same on all ranks. They meet by the first one. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommInitRankScalable,
                   (ncclComm_t *newcomm, int nranks, int myrank, int nId, ncclUniqueId *commIds, ncclConfig_t *config));

/* Makes a communicator of `ndev` ranks that are all in this process. `devlist` is NULL, or holds -1, the host, ndev times. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommInitAll, (ncclComm_t *comm, int ndev, const int *devlist));

#define NCCL_SPLIT_NOCOLOR (-1)

/* Makes communicators of the ranks that give the same `color`, ordered by `key` and then by rank. All ranks call it; those
 * that give NCCL_SPLIT_NOCOLOR get NULL. Settings that are not given are those of `comm`. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommSplit,
                   (ncclComm_t comm, int color, int key, ncclComm_t *newcomm, ncclConfig_t *config));

#define NCCL_SHRINK_DEFAULT 0x00
#define NCCL_SHRINK_ABORT 0x01 /* first end calls under way on comm, which is of no use afterwards */

/* Makes a communicator without the ranks that `excludeRanksList` names. Those that stay call it, with the same list; comm
 * may have failed. `config` may say nothing but blocking and commName. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommShrink,
                   (ncclComm_t comm, int *excludeRanksList, int excludeRanksCount, ncclComm_t *newcomm,
                    ncclConfig_t *config, int shrinkFlags));

/* Makes the id by which new ranks meet those of `comm` in the next ncclCommGrow. One rank calls it. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommGetUniqueId, (ncclComm_t comm, ncclUniqueId *uniqueId));

/* Makes a communicator of `nRanks` ranks: those of `comm`, which keep their numbers, and new ones behind them. Ranks of
 * `comm` give rank -1 and, for uniqueId, NULL (or the id). New ranks give NULL for comm, the id, and their number. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommGrow,
                   (ncclComm_t comm, int nRanks, const ncclUniqueId *uniqueId, int rank, ncclComm_t *newcomm,
                    ncclConfig_t *config));

#define NCCL_REVOKE_DEFAULT 0x00

/* Ends calls under way on `comm`, on all ranks, and keeps the handle: ncclCommShrink, ncclCommDestroy and ncclCommAbort may
 * follow. Calls that it ends, here and elsewhere, return ncclRemoteError; later ones on this rank ncclInvalidUsage. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommRevoke, (ncclComm_t comm, int revokeFlags));

/* Waits for the calls on a communicator, checks that all ranks made the same ones, and leaves it. All ranks call it. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommFinalize, (ncclComm_t comm));

/* Frees a communicator; before that it does what ncclCommFinalize does, if that was not done. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommDestroy, (ncclComm_t comm));

/* Ends a communicator on all ranks, now, and frees it here. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommAbort, (ncclComm_t comm));

/* *asyncError is ncclSuccess, ncclInProgress while a non-blocking communicator is being made, or its first fatal error. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommGetAsyncError, (ncclComm_t comm, ncclResult_t *asyncError));

/* Number of ranks. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommCount, (const ncclComm_t comm, int *count));

/* Device of this rank: -1, the host. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommCuDevice, (const ncclComm_t comm, int *device));

/* Number of this rank, from 0. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommUserRank, (const ncclComm_t comm, int *rank));

#define NCCL_SUSPEND_MEM 0x01

/* Not supported: ncclInvalidUsage. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommSuspend, (ncclComm_t comm, int flags));
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommResume, (ncclComm_t comm));

typedef enum {
  ncclStatGpuMemSuspend = 0,
  ncclStatGpuMemSuspended = 1,
  ncclStatGpuMemPersist = 2,
  ncclStatGpuMemTotal = 3
} ncclCommMemStat_t;

/* *value is 0: a communicator has no memory of a GPU. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommMemStats, (ncclComm_t comm, ncclCommMemStat_t stat, uint64_t *value));

/* ---- Collectives and messages --------------------------------------------------------------------------------------- */

/* All ranks make the same call. Counts are in elements. "In place" means that the send buffer is the receive buffer, or this
 * rank's own block of it.
 * Errors: ncclInvalidUsage: the ranks' calls differ; the text shows both sides. ncclRemoteError: a peer is gone.
 * ncclTimeout: the text names who did not come. */

/* Every rank gets the reduction of all ranks' `count` elements. In place: sendbuff == recvbuff. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclAllReduce,
                   (const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op,
                    ncclComm_t comm, cudaStream_t stream));

/* The root gets it; recvbuff is not used on others. In place: sendbuff == recvbuff. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclReduce,
                   (const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op, int root,
                    ncclComm_t comm, cudaStream_t stream));

/* Rank r gets block r, of `recvcount` elements, of it. In place: recvbuff == sendbuff + rank * recvcount. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclReduceScatter,
                   (const void *sendbuff, void *recvbuff, size_t recvcount, ncclDataType_t datatype, ncclRedOp_t op,
                    ncclComm_t comm, cudaStream_t stream));

/* Every rank gets the root's `count` elements; sendbuff is not used on others. In place: sendbuff == recvbuff. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclBroadcast,
                   (const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, int root, ncclComm_t comm,
                    cudaStream_t stream));

/* As ncclBroadcast, in place. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclBcast,
                   (void *buff, size_t count, ncclDataType_t datatype, int root, ncclComm_t comm, cudaStream_t stream));

/* Every rank gets all ranks' `sendcount` elements. In place: sendbuff == recvbuff + rank * sendcount. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclAllGather,
                   (const void *sendbuff, void *recvbuff, size_t sendcount, ncclDataType_t datatype, ncclComm_t comm,
                    cudaStream_t stream));

/* Block s, of `count` elements, of rank r's recvbuff is block r of rank s's sendbuff. In place: sendbuff == recvbuff. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclAlltoAll,
                   (const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, ncclComm_t comm,
                    cudaStream_t stream));

/* The root gets all ranks' `count` elements; recvbuff is not used on others. In place on the root:
 * sendbuff == recvbuff + root * count. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclGather,
                   (const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, int root, ncclComm_t comm,
                    cudaStream_t stream));

/* Rank r gets block r, of `count` elements, of the root's sendbuff, which is not used on others. In place on the root:
 * recvbuff == sendbuff + root * count. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclScatter,
                   (const void *sendbuff, void *recvbuff, size_t count, ncclDataType_t datatype, int root, ncclComm_t comm,
                    cudaStream_t stream));

/* Sends `count` elements to a rank. It may wait for the receive: sends and receives that depend on each other belong into
 * one group. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclSend,
                   (const void *sendbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm,
                    cudaStream_t stream));

/* Receives `count` elements from a rank. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclRecv,
                   (void *recvbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm, cudaStream_t stream));

typedef struct {
  int opCnt;
  int peer;
  int sigIdx;
  int ctx;
} ncclWaitSignalDesc_t;

/* Not supported: ncclInvalidUsage. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclPutSignal,
                   (const void *localbuff, size_t count, ncclDataType_t datatype, int peer, ncclWindow_t peerWin,
                    size_t peerWinOffset, int sigIdx, int ctx, unsigned int flags, ncclComm_t comm, cudaStream_t stream));
NCCL_DURE_FUNCTION(ncclResult_t, ncclSignal,
                   (int peer, int sigIdx, int ctx, unsigned int flags, ncclComm_t comm, cudaStream_t stream));
NCCL_DURE_FUNCTION(ncclResult_t, ncclWaitSignal,
                   (int nDesc, ncclWaitSignalDesc_t *signalDescs, ncclComm_t comm, cudaStream_t stream));

/* ---- Groups --------------------------------------------------------------------------------------------------------- */

/* Calls of this thread between ncclGroupStart and ncclGroupEnd are checked when they are made and run when the group ends,
 * all at once. A group may hold collectives, messages, and calls that make communicators; of one communicator all calls
 * name the same stream. Groups nest. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclGroupStart, (void));

/* Ends a group. ncclInProgress: it began to make a non-blocking communicator.
 * Errors: the first error since the group began, in which case nothing of it was done; ncclInvalidUsage without
 * ncclGroupStart; otherwise the first error of what was asked for. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclGroupEnd, (void));

typedef struct ncclSimInfo {
  size_t size;
  unsigned int magic;
  unsigned int version;
  float estimatedTime;
} ncclSimInfo_t;

#define NCCL_SIM_INFO_INITIALIZER {                                            \
  sizeof(ncclSimInfo_t),   /* size */                                          \
  0x74685283,              /* magic */                                         \
  NCCL_VERSION_CODE,       /* version */                                       \
  NCCL_UNDEF_FLOAT         /* estimatedTime */                                 \
}

/* Discards a group and returns ncclInvalidUsage: there are no estimates. simInfo may be NULL. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclGroupSimulateEnd, (ncclSimInfo_t *simInfo));

/* ---- Streams of the host -------------------------------------------------------------------------------------------- */

/* Dure's own: a sequence of calls that nobody waits for until it is asked about. See dureStreamCreate of dure.h. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclDureStreamCreate, (cudaStream_t *stream));

/* Returns at once: calls that the stream holds go on to their end. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclDureStreamDestroy, (cudaStream_t stream));

/* Waits for all calls that the stream holds. Errors: the error of its last call. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclDureStreamSynchronize, (cudaStream_t stream));

/* ncclSuccess when all calls that the stream holds are done, ncclInProgress while one is not. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclDureStreamQuery, (cudaStream_t stream));

/* ---- Reductions and memory ------------------------------------------------------------------------------------------ */

typedef enum {
  ncclScalarDevice = 0,       /* *scalar, in memory of the host, is read by every call, when the call is made */
  ncclScalarHostImmediate = 1 /* *scalar is read now */
} ncclScalarResidence_t;

/* Makes an operation: the sum of elements, each multiplied by its own rank's *scalar first. It is for elements of
 * `datatype`, which is also the type of *scalar, and for calls on `comm`. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclRedOpCreatePreMulSum,
                   (ncclRedOp_t *op, void *scalar, ncclDataType_t datatype, ncclScalarResidence_t residence,
                    ncclComm_t comm));

/* Destroys an operation. Calls that were made with it go on. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclRedOpDestroy, (ncclRedOp_t op, ncclComm_t comm));

/* Allocates `size` bytes of the host's memory, zeroed, at the begin of a page. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclMemAlloc, (void **ptr, size_t size));

/* Frees memory of ncclMemAlloc. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclMemFree, (void *ptr));

/* Makes memory known to the transports, which saves a copy for long messages. It must stay mapped until
 * ncclCommDeregister or the communicator's end. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommRegister, (const ncclComm_t comm, void *buff, size_t size, void **handle));

/* Ends a registration. No call on the memory may be under way. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommDeregister, (const ncclComm_t comm, void *handle));

#define NCCL_WIN_DEFAULT 0x00
#define NCCL_WIN_COLL_SYMMETRIC 0x01  /* taken note of */
#define NCCL_WIN_STRICT_ORDERING 0x02 /* taken note of */
#define NCCL_WIN_REQUIRED_ALIGNMENT 4096 /* ncclMemAlloc has it; any address is taken */

/* As ncclCommRegister. It does not wait for other ranks. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommWindowRegister,
                   (ncclComm_t comm, void *buff, size_t size, ncclWindow_t *win, int winFlags));

/* Ends the registration of a window. No call on the memory may be under way. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclCommWindowDeregister, (ncclComm_t comm, ncclWindow_t win));

/* Where the memory of a window is. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclWinGetUserPtr, (ncclComm_t comm, ncclWindow_t win, void **outUserPtr));

/* The host's side of NCCL's device code. Not supported: ncclInvalidUsage. */
NCCL_DURE_FUNCTION(ncclResult_t, ncclDevCommCreate,
                   (ncclComm_t comm, const ncclDevCommRequirements_t *reqs, ncclDevComm_t *outDevComm));
NCCL_DURE_FUNCTION(ncclResult_t, ncclDevCommDestroy, (ncclComm_t comm, const ncclDevComm_t *devComm));
NCCL_DURE_FUNCTION(ncclResult_t, ncclGetLsaMultimemDevicePointer, (ncclWindow_t window, size_t offset, void **outPtr));
NCCL_DURE_FUNCTION(ncclResult_t, ncclGetPeerDevicePointer,
                   (ncclWindow_t window, size_t offset, int peer, void **outPtr));

#ifdef __cplusplus
}
#endif

#endif /* NCCL_H_ */
