/*
 * dure.h: the C interface of Dure, collective communication between processes.
 *
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The functions, types and values mirror those of NCCL 2.28 one to one, with the prefix `dure`: the order of arguments
 * and the numbers of the enumerations are the same, so that porting is a search and replace. Two names differ:
 * ncclCommCuDevice is dureCommDevice, and cudaStream_t is dureStream_t. What NCCL lacks is marked [Dure].
 *
 * In this file
 *   1  versions           5  communicators: making them     9  groups
 *   2  results            6  communicators: asking them    10  streams
 *   3  numbers            7  collectives                   11  reductions of one's own
 *   4  settings           8  messages                      12  memory
 *
 * What holds for every function
 *   Results.    A function that returns dureResult_t returns dureSuccess, or dureInProgress where it says so, or an error.
 *               dureGetLastError has the text: what happened, on which rank, because of which peer. Errors that every
 *               function may return are not repeated below: dureInvalidArgument for a NULL, a number or a handle that
 *               cannot be (the text names the argument, and what is allowed), and dureInternalError for a defect of ours.
 *   Failures.   After a fatal error (a peer died, the ranks' calls did not match, a deadline passed, somebody aborted)
 *               every call on the communicator returns that first error, and no call waits for ever: the deadline is
 *               DURE_TIMEOUT, 10 minutes unless set. Then dureCommAbort or dureCommDestroy it, or go on without the dead
 *               ranks by dureCommShrink.
 *   Buffers.    Counts are in elements. A buffer may be used again when the call has returned or, if it was given a
 *               stream or made in a group, when the stream or the group is past it; after an error, when the
 *               communicator is aborted or destroyed. Buffers need no alignment, but aligned ones are faster.
 *               "In place" means that the send buffer is the receive buffer, or this rank's own block of it.
 *   Threads.    Every function may be called from any thread. All ranks must make the calls on a communicator in the same
 *               order, so threads that share one must agree on it.
 *   Settings.   The environment (DURE_TIMEOUT, DURE_TRANSPORT, ...; docs/environment.md lists all) is read once, by the
 *               first function that makes an id or a communicator. If it holds an unknown DURE_ name or a bad value, that
 *               function and all later ones like it return dureInvalidArgument, and the text names the variable.
 *   Handles.    Destroying a handle twice, or using it after it was destroyed, is dureInvalidArgument. Destroying or
 *               freeing NULL does nothing.
 *   Forking.    A process that has a communicator must not use it, or destroy it, in a child that it forks.
 */
#ifndef DURE_H
#define DURE_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 1. Versions --------------------------------------------------------------------------------------------------- */

#define DURE_MAJOR 0
#define DURE_MINOR 1
#define DURE_PATCH 0
#define DURE_VERSION(X, Y, Z) ((X) * 10000 + (Y) * 100 + (Z))
/* The version of this header; dureGetVersion has that of the library. */
#define DURE_VERSION_CODE DURE_VERSION(DURE_MAJOR, DURE_MINOR, DURE_PATCH)

/* ---- 2. Results ---------------------------------------------------------------------------------------------------- */

typedef enum {
  dureSuccess = 0,
  dureUnhandledDeviceError = 1, /* a copy or reduction on a device failed (NCCL: ncclUnhandledCudaError) */
  dureSystemError = 2,          /* this host: the system refused something */
  dureInternalError = 3,        /* us: please report it */
  dureInvalidArgument = 4,      /* the caller: one argument or setting cannot be */
  dureInvalidUsage = 5,         /* the caller: not here and now; or the ranks' calls differ; or this build cannot do it */
  dureRemoteError = 6,          /* a peer died, is unreachable, or somebody ended the communicator by dureCommAbort */
  dureInProgress = 7,           /* not an error: it goes on in the background */
  dureTimeout = 8,              /* the deadline passed; the text says which rank did not do what */
  dureDegraded = 9,             /* no error: all is right, but some wires have failed and it may be slow */
  dureNumResults = 10
} dureResult_t;

/* ---- 3. Numbers ---------------------------------------------------------------------------------------------------- */

/* A communicator: one rank's membership in a group of processes. */
typedef struct dureComm *dureComm_t;
/* Memory that was registered by dureCommWindowRegister. */
typedef struct dureWindow *dureWindow_t;
/* A sequence of calls that nobody waits for until they are asked about. NULL: calls are done when they return. */
typedef struct dureStream *dureStream_t;

#define DURE_COMM_NULL NULL
#define DURE_STREAM_NULL NULL

#define DURE_UNIQUE_ID_BYTES 128
/* By this the ranks of a communicator find each other. It holds a secret: whoever has it can join the job. */
typedef struct {
  char internal[DURE_UNIQUE_ID_BYTES];
} dureUniqueId;

typedef enum {
  dureInt8 = 0, dureChar = 0,
  dureUint8 = 1,
  dureInt32 = 2, dureInt = 2,
  dureUint32 = 3,
  dureInt64 = 4,
  dureUint64 = 5,
  dureFloat16 = 6, dureHalf = 6, /* IEEE 754 binary16 */
  dureFloat32 = 7, dureFloat = 7,
  dureFloat64 = 8, dureDouble = 8,
  dureBfloat16 = 9,     /* the upper half of a binary32 */
  dureFloat8e4m3 = 10,  /* OCP 8-bit floating point: 4 bits of exponent, no infinities */
  dureFloat8e5m2 = 11,  /* OCP 8-bit floating point: 5 bits of exponent */
  dureNumTypes = 12
} dureDataType_t;

/* How elements are combined. Values from dureNumOps up to dureBitAnd are those of dureRedOpCreate... */
typedef enum {
  dureSum = 0,  /* integers wrap */
  dureProd = 1, /* integers wrap */
  dureMax = 2,  /* NaN if any is NaN */
  dureMin = 3,  /* NaN if any is NaN */
  dureAvg = 4,  /* sum divided by the number of ranks; integers truncate towards zero */
  dureNumOps = 5,
  dureBitAnd = 0x7ffffff0, /* [Dure] bitwise, integers only */
  dureBitOr = 0x7ffffff1,  /* [Dure] bitwise, integers only */
  dureBitXor = 0x7ffffff2, /* [Dure] bitwise, integers only */
  dureMaxRedOp = 0x7fffffff
} dureRedOp_t;

/* ---- 4. Settings --------------------------------------------------------------------------------------------------- */

#define DURE_CONFIG_UNDEF_INT INT_MIN
#define DURE_CONFIG_UNDEF_PTR NULL
#define DURE_UNDEF_FLOAT (-1.0f)
#define DURE_API_MAGIC 0xcafebeef

/* The device number of the host's memory; see dureCommInitAll. [Dure] */
#define DURE_DEVICE_HOST (-1)

/* Settings of one communicator. Begin with DURE_CONFIG_INITIALIZER and set what matters: what is not set is as the
 * environment says, or as in the communicator that this one is made from. Settings up to nvlinkCentricSched are those of
 * NCCL. Later versions add fields at the end; a program that was built with an older header goes on working. */
typedef struct dureConfig {
  size_t size;          /* set by the initializer, like the next two */
  unsigned int magic;
  unsigned int version;
  int blocking;           /* 1 (as when not set): making the communicator waits. 0: see dureCommInitRankConfig */
  int cgaClusterSize;     /* of no effect: says how NCCL uses a GPU. Values that NCCL would not take are errors, */
  int minCTAs;            /*   here and in the other fields "of no effect" */
  int maxCTAs;            /* of no effect */
  const char *netName;    /* transports that may be used, as DURE_TRANSPORT: "tcp", "pool,tcp", "^pool" */
  int splitShare;         /* of no effect: what can be shared is */
  int trafficClass;       /* of no effect yet */
  const char *commName;   /* begins the texts of this communicator's errors */
  int collnetEnable;      /* of no effect */
  int CTAPolicy;          /* of no effect */
  int shrinkShare;        /* of no effect: what can be shared is */
  int nvlsCTAs;           /* of no effect */
  int nChannelsPerNetPeer; /* of no effect */
  int nvlinkCentricSched; /* of no effect */
  int timeoutMs;          /* [Dure] the deadline in milliseconds, as DURE_TIMEOUT */
  int deterministic;      /* [Dure] 1: equal inputs give bit-equal results, whatever the lanes, transports and timing */
  int check;              /* [Dure] 1 (as when not set): ranks compare what they call, so that a mismatch is an error */
  int lanes;              /* [Dure] parallel lanes, as DURE_LANES */
  int slots;              /* [Dure] messages under way per lane and peer, as DURE_SLOTS */
  int slotBytes;          /* [Dure] bytes of each, a multiple of 64, as DURE_SLOT_BYTES */
  const char *algo;       /* [Dure] algorithms that may be used, as DURE_ALGO: "allreduce:tree,ring;*:^pairwise" */
} dureConfig_t;

#define DURE_CONFIG_INITIALIZER {                                             \
  sizeof(dureConfig_t),    /* size */                                         \
  DURE_API_MAGIC,          /* magic */                                        \
  DURE_VERSION_CODE,       /* version */                                      \
  DURE_CONFIG_UNDEF_INT,   /* blocking */                                     \
  DURE_CONFIG_UNDEF_INT,   /* cgaClusterSize */                               \
  DURE_CONFIG_UNDEF_INT,   /* minCTAs */                                      \
  DURE_CONFIG_UNDEF_INT,   /* maxCTAs */                                      \
  DURE_CONFIG_UNDEF_PTR,   /* netName */                                      \
  DURE_CONFIG_UNDEF_INT,   /* splitShare */                                   \
  DURE_CONFIG_UNDEF_INT,   /* trafficClass */                                 \
  DURE_CONFIG_UNDEF_PTR,   /* commName */                                     \
  DURE_CONFIG_UNDEF_INT,   /* collnetEnable */                                \
  DURE_CONFIG_UNDEF_INT,   /* CTAPolicy */                                    \
  DURE_CONFIG_UNDEF_INT,   /* shrinkShare */                                  \
  DURE_CONFIG_UNDEF_INT,   /* nvlsCTAs */                                     \
  DURE_CONFIG_UNDEF_INT,   /* nChannelsPerNetPeer */                          \
  DURE_CONFIG_UNDEF_INT,   /* nvlinkCentricSched */                           \
  DURE_CONFIG_UNDEF_INT,   /* timeoutMs */                                    \
  DURE_CONFIG_UNDEF_INT,   /* deterministic */                                \
  DURE_CONFIG_UNDEF_INT,   /* check */                                        \
  DURE_CONFIG_UNDEF_INT,   /* lanes */                                        \
  DURE_CONFIG_UNDEF_INT,   /* slots */                                        \
  DURE_CONFIG_UNDEF_INT,   /* slotBytes */                                    \
  DURE_CONFIG_UNDEF_PTR    /* algo */                                         \
}

/* Values of CTAPolicy, as NCCL has them. */
#define DURE_CTA_POLICY_DEFAULT 0x00
#define DURE_CTA_POLICY_EFFICIENCY 0x01
#define DURE_CTA_POLICY_ZERO 0x02

/* DURE_MAJOR, MINOR and PATCH of the library, as DURE_VERSION(X, Y, Z). */
dureResult_t dureGetVersion(int *version);

/* What a result means, in a few words. Never NULL; any number may be given. */
const char *dureGetErrorString(dureResult_t result);

/* The text of the last error: on this communicator, in whatever thread and including what happened to it in the
 * background; or, for NULL, of this thread. Empty if there was none. It stays until the same thread calls this function
 * again. Success does not erase it. */
const char *dureGetLastError(dureComm_t comm);

/* Does nothing: deprecated in NCCL, and here for its name. DURE_LOG is read with the rest of the environment. */
void dureResetDebugInit(void);

/* ---- 5. Communicators: making them --------------------------------------------------------------------------------- */

/* Makes an id, which the program carries to the other ranks by its own means. Call it in one process, on a rank of the
 * communicator or not: this process receives the ranks that meet by the id, so it must live until they have met, and one
 * id makes one communicator.
 * Errors: dureSystemError when no port can be had. */
dureResult_t dureGetUniqueId(dureUniqueId *uniqueId);

/* Makes this process rank `rank` of the `nranks` ranks that meet by the id, and waits for all of them. Several ranks of
 * one communicator in one process need threads, or a group.
 * Errors: dureTimeout names the ranks that did not come; dureInvalidUsage names the rank and the setting in which ranks
 * differ, or which came twice; dureRemoteError, dureSystemError as they come. On an error *comm is NULL. */
dureResult_t dureCommInitRank(dureComm_t *comm, int nranks, dureUniqueId commId, int rank);

/* As dureCommInitRank, with settings; NULL for none.
 * With config->blocking = 0 it returns dureInProgress and a communicator at once, and the ranks meet in the background.
 * dureCommGetAsyncError says dureInProgress until they have; dureCommAbort need not wait either. Any other call on the
 * communicator waits first. Only making communicators is affected: calls without a stream still wait until they are
 * done. */
dureResult_t dureCommInitRankConfig(dureComm_t *comm, int nranks, dureUniqueId commId, int rank, dureConfig_t *config);

/* As dureCommInitRankConfig, with `nId` ids (1 to nranks), the same on all ranks. The ranks meet by the first one: they
 * meet in a tree, which needs no more. */
dureResult_t dureCommInitRankScalable(dureComm_t *newcomm, int nranks, int myrank, int nId, dureUniqueId *commIds,
                                      dureConfig_t *config);

/* [Dure] As dureCommInitRankConfig, with rank, number of ranks and meeting place from the environment that torchrun, Open
 * MPI, MPICH, PMIx or Slurm left, or from DURE_RANK, DURE_SIZE, DURE_ROOT (host:port) and DURE_SECRET.
 * Errors: dureInvalidUsage when there is no launcher's environment; dureInvalidArgument when it contradicts itself. */
dureResult_t dureCommInitEnv(dureComm_t *comm, dureConfig_t *config);

/* Makes a communicator of `ndev` ranks that are all in this process: comm[0] to comm[ndev - 1]. `devlist` is NULL, or
 * holds one device number a rank; in this version DURE_DEVICE_HOST, which is what NULL stands for, is the only one. */
dureResult_t dureCommInitAll(dureComm_t *comm, int ndev, const int *devlist);

#define DURE_SPLIT_NOCOLOR (-1)

/* Makes communicators of the ranks that give the same `color` (0 or more), ordered by `key` and then by rank. All ranks
 * call it. A rank that gives DURE_SPLIT_NOCOLOR gets NULL, and waits for the others' choice even if `blocking` is 0. With
 * NULL for `config` settings are those of `comm`.
 * Errors: as dureCommInitRank. */
dureResult_t dureCommSplit(dureComm_t comm, int color, int key, dureComm_t *newcomm, dureConfig_t *config);

/* [Dure] Makes a communicator of the same ranks with a sequence of calls of its own. All ranks call it.
 * Errors: as dureCommInitRank. */
dureResult_t dureCommDup(dureComm_t comm, dureComm_t *newcomm);

#define DURE_SHRINK_DEFAULT 0x00
#define DURE_SHRINK_ABORT 0x01 /* first end calls under way on comm, which is of no use afterwards */

/* Makes a communicator of all ranks but `excludeRanksCount` (1 or more), which `excludeRanksList` names. The ranks that
 * stay call it, with the same list. It works on a communicator that failed, so that a job can go on without the ranks
 * that died. Settings are those of `comm`: `config` may say nothing else but blocking and commName.
 * Errors: as dureCommInitRank. */
dureResult_t dureCommShrink(dureComm_t comm, int *excludeRanksList, int excludeRanksCount, dureComm_t *newcomm,
                            dureConfig_t *config, int shrinkFlags);

/* Waits for the calls on a communicator, checks that all ranks made the same ones, and leaves it: only dureCommDestroy
 * may follow. All ranks call it, and it waits for them. Of several ranks in one process the last one waits for all, so
 * that one thread may finalize them one after the other.
 * Errors: the first fatal error of the communicator; dureInvalidUsage when ranks made different calls. */
dureResult_t dureCommFinalize(dureComm_t comm);

/* Frees a communicator; before that it does what dureCommFinalize does, if that was not done. What is still registered or
 * allocated on it goes too. The handle is destroyed whatever the result.
 * Errors: as dureCommFinalize. */
dureResult_t dureCommDestroy(dureComm_t comm);

/* Ends a communicator on all ranks, now, and frees it here. Whoever waits on it, in other threads and on other ranks,
 * returns dureRemoteError. */
dureResult_t dureCommAbort(dureComm_t comm);

/* ---- 6. Communicators: asking them --------------------------------------------------------------------------------- */

/* *asyncError is dureSuccess, dureInProgress while a non-blocking communicator is being made, its first fatal error, or
 * dureDegraded [Dure] while it works but wires have failed: dureGetLastError(comm) says which. */
dureResult_t dureCommGetAsyncError(dureComm_t comm, dureResult_t *asyncError);

/* Number of ranks. */
dureResult_t dureCommCount(const dureComm_t comm, int *count);

/* Number of this rank, from 0. */
dureResult_t dureCommUserRank(const dureComm_t comm, int *rank);

/* Device of this rank: DURE_DEVICE_HOST in this version. (NCCL: ncclCommCuDevice.) */
dureResult_t dureCommDevice(const dureComm_t comm, int *device);

/* ---- 7. Collectives ------------------------------------------------------------------------------------------------ */

/* All ranks make the same call. With a stream the call returns at once, dureSuccess meaning that it was begun; without
 * one, outside of a group, it returns when it is done on this rank.
 * Errors: what ended the communicator. dureInvalidUsage: the ranks' calls differ (operation, count, type, root or order);
 * the text shows both sides. dureRemoteError: a peer is gone; the text names it. dureTimeout: the text names who did not
 * come. */

/* Every rank gets the reduction of all ranks' `count` elements. In place: sendbuff == recvbuff. */
dureResult_t dureAllReduce(const void *sendbuff, void *recvbuff, size_t count, dureDataType_t datatype, dureRedOp_t op,
                           dureComm_t comm, dureStream_t stream);

/* The root gets the reduction of all ranks' `count` elements; recvbuff is not used on others. In place: sendbuff ==
 * recvbuff. */
dureResult_t dureReduce(const void *sendbuff, void *recvbuff, size_t count, dureDataType_t datatype, dureRedOp_t op,
                        int root, dureComm_t comm, dureStream_t stream);

/* Rank r gets block r, of `recvcount` elements, of the reduction of all ranks' recvcount * nranks elements.
 * In place: recvbuff == sendbuff + rank * recvcount. */
dureResult_t dureReduceScatter(const void *sendbuff, void *recvbuff, size_t recvcount, dureDataType_t datatype,
                               dureRedOp_t op, dureComm_t comm, dureStream_t stream);

/* Every rank gets the root's `count` elements; sendbuff is not used on others. In place: sendbuff == recvbuff. */
dureResult_t dureBroadcast(const void *sendbuff, void *recvbuff, size_t count, dureDataType_t datatype, int root,
                           dureComm_t comm, dureStream_t stream);

/* As dureBroadcast, in place. */
dureResult_t dureBcast(void *buff, size_t count, dureDataType_t datatype, int root, dureComm_t comm, dureStream_t stream);

/* Every rank gets all ranks' `sendcount` elements, one after the other. In place: sendbuff == recvbuff + rank *
 * sendcount. */
dureResult_t dureAllGather(const void *sendbuff, void *recvbuff, size_t sendcount, dureDataType_t datatype,
                           dureComm_t comm, dureStream_t stream);

/* Block s, of `count` elements, of rank r's recvbuff is block r of rank s's sendbuff. In place: sendbuff == recvbuff, at
 * the price of a copy. */
dureResult_t dureAlltoAll(const void *sendbuff, void *recvbuff, size_t count, dureDataType_t datatype, dureComm_t comm,
                          dureStream_t stream);

/* The root gets all ranks' `count` elements, one after the other; recvbuff is not used on others. In place on the root:
 * sendbuff == recvbuff + root * count. */
dureResult_t dureGather(const void *sendbuff, void *recvbuff, size_t count, dureDataType_t datatype, int root,
                        dureComm_t comm, dureStream_t stream);

/* Rank r gets block r, of `count` elements, of the root's sendbuff, which is not used on others. In place on the root:
 * recvbuff == sendbuff + root * count. */
dureResult_t dureScatter(const void *sendbuff, void *recvbuff, size_t count, dureDataType_t datatype, int root,
                         dureComm_t comm, dureStream_t stream);

/* [Dure] No rank's call is done before every rank has made it. */
dureResult_t dureBarrier(dureComm_t comm, dureStream_t stream);

/* [Dure] The v-forms: blocks of different lengths. `...counts` has one element count a rank, and `...displs` the
 * displacement of each block in elements, or NULL: blocks then follow one another. Both are read before the call returns.
 * A count that is given beside a list, for this rank's own block, must be the one in the list. */

/* [Dure] sendcounts[s] elements go to rank s, which expects as many in its recvcounts. */
dureResult_t dureAllToAllv(const void *sendbuff, const size_t sendcounts[], const size_t sdispls[], void *recvbuff,
                           const size_t recvcounts[], const size_t rdispls[], dureDataType_t datatype, dureComm_t comm,
                           dureStream_t stream);

/* [Dure] Every rank gets recvcounts[s] elements of rank s. All ranks give the same recvcounts. */
dureResult_t dureAllGatherv(const void *sendbuff, size_t sendcount, void *recvbuff, const size_t recvcounts[],
                            const size_t displs[], dureDataType_t datatype, dureComm_t comm, dureStream_t stream);

/* [Dure] Rank r gets the reduction of all ranks' block r, sendcounts[r] elements. All ranks give the same sendcounts. */
dureResult_t dureReduceScatterv(const void *sendbuff, const size_t sendcounts[], const size_t displs[], void *recvbuff,
                                size_t recvcount, dureDataType_t datatype, dureRedOp_t op, dureComm_t comm,
                                dureStream_t stream);

/* [Dure] The root gets recvcounts[s] elements of rank s; recvbuff, recvcounts and displs are not used on others. */
dureResult_t dureGatherv(const void *sendbuff, size_t sendcount, void *recvbuff, const size_t recvcounts[],
                         const size_t displs[], dureDataType_t datatype, int root, dureComm_t comm, dureStream_t stream);

/* [Dure] Rank r gets the root's block r, sendcounts[r] elements; sendbuff, sendcounts and displs are not used on others. */
dureResult_t dureScatterv(const void *sendbuff, const size_t sendcounts[], const size_t displs[], void *recvbuff,
                          size_t recvcount, dureDataType_t datatype, int root, dureComm_t comm, dureStream_t stream);

/* ---- 8. Messages --------------------------------------------------------------------------------------------------- */

/* Sends `count` elements to a rank. The k-th send to a rank meets its k-th receive from this one; count and type must be
 * the same. It may wait for the receive: sends and receives that depend on each other belong into one group, and those of
 * a rank to itself always do.
 * Errors: as for collectives. */
dureResult_t dureSend(const void *sendbuff, size_t count, dureDataType_t datatype, int peer, dureComm_t comm,
                      dureStream_t stream);

/* Receives `count` elements from a rank: see dureSend. */
dureResult_t dureRecv(void *recvbuff, size_t count, dureDataType_t datatype, int peer, dureComm_t comm,
                      dureStream_t stream);

/* ---- 9. Groups ----------------------------------------------------------------------------------------------------- */

/* Calls of this thread between dureGroupStart and dureGroupEnd are checked when they are made and run when the group
 * ends, all at once: sends and receives of a group do not wait for one another, and one thread can act for several ranks.
 * A group may hold collectives and messages, and calls that make communicators (dureCommInitRank..., dureCommInitEnv,
 * dureCommSplit, dureCommDup, dureCommShrink), which are made before anything else runs; the place that a new handle is
 * written to must stay until the group ends, and calls on it belong into the next group. Everything else happens at once.
 * Collectives of a group on one communicator run in the order given; its calls must name one stream, or none. No call may
 * use what another one of the group writes. Groups nest: the outermost one counts. */
dureResult_t dureGroupStart(void);

/* Ends a group, and waits for what was given no stream. dureInProgress: it began to make a non-blocking communicator.
 * Errors: the first error since the group began, in which case nothing of it was done; dureInvalidUsage without
 * dureGroupStart; otherwise the first error of what was asked for. If one of its communicators cannot be made, none is,
 * and their handles are NULL. */
dureResult_t dureGroupEnd(void);

typedef struct dureSimInfo {
  size_t size;
  unsigned int magic;
  unsigned int version;
  float estimatedTime;
} dureSimInfo_t;

#define DURE_SIM_INFO_INITIALIZER {                                           \
  sizeof(dureSimInfo_t),   /* size */                                         \
  0x74685283,              /* magic */                                        \
  DURE_VERSION_CODE,       /* version */                                      \
  DURE_UNDEF_FLOAT         /* estimatedTime */                                \
}

/* Ends a group without running it, to estimate its time. This version makes no estimates: it returns dureInvalidUsage,
 * leaves *simInfo as it is, and the group is discarded. simInfo may be NULL. */
dureResult_t dureGroupSimulateEnd(dureSimInfo_t *simInfo);

/* ---- 10. Streams --------------------------------------------------------------------------------------------------- */

/* A stream is a sequence of calls, on any communicators: each begins when the one before it is done, and a thread of the
 * library moves them on. A call that cannot be made at all returns its error; what goes wrong later is returned by
 * dureStreamSynchronize and dureStreamQuery, and by dureCommGetAsyncError of its communicator. */

/* [Dure] Makes a stream without calls. */
dureResult_t dureStreamCreate(dureStream_t *stream);

/* [Dure] Makes a stream whose calls keep the order of one of a device's maker, such as a cudaStream_t: each begins when all is done
 * that was given to that before the call, and what is given to it later begins when the call is done. `native` is that stream, and
 * is not ended before this one and its calls; NULL is the maker's default stream. `device` is which of the devices that DURE_DEVICE
 * names it is of, counted from 0. dureStreamSynchronize and dureStreamQuery are about the calls, not about what else it holds.
 * Errors: dureInvalidArgument names device; dureUnhandledDeviceError when it has no streams that can be joined. */
dureResult_t dureStreamJoin(void *native, int device, dureStream_t *stream);

/* [Dure] Destroys a stream and returns at once: calls that it holds go on to their end. */
dureResult_t dureStreamDestroy(dureStream_t stream);

/* [Dure] Waits for all calls that the stream holds. NULL holds none.
 * Errors: the error of its last call. (A call that failed ended its communicator, and so failed those after it on it.) */
dureResult_t dureStreamSynchronize(dureStream_t stream);

/* [Dure] dureSuccess when all calls that the stream holds are done, dureInProgress while one is not.
 * Errors: as dureStreamSynchronize. */
dureResult_t dureStreamQuery(dureStream_t stream);

/* ---- 11. Reductions of one's own ----------------------------------------------------------------------------------- */

typedef enum {
  dureScalarDevice = 0,       /* *scalar is read by every call that uses the operation, when the call is made. Host memory */
  dureScalarHostImmediate = 1 /* *scalar is read now */
} dureScalarResidence_t;

/* Makes an operation: the sum of elements, each multiplied by its own rank's *scalar first. It is for elements of
 * `datatype`, which is also the type of *scalar, and for calls on `comm`. */
dureResult_t dureRedOpCreatePreMulSum(dureRedOp_t *op, void *scalar, dureDataType_t datatype,
                                      dureScalarResidence_t residence, dureComm_t comm);

/* [Dure] Combines: inout[i] = in[i] op inout[i], for `count` elements, which are aligned. It is called on any thread, on
 * several at once for calls of several communicators, and any number of times per call. It must not call Dure, throw, or
 * leave by longjmp. */
typedef void (*dureRedOpFunction_t)(const void *in, void *inout, size_t count, dureDataType_t datatype, void *user);

/* [Dure] Makes an operation of a function, for all types. It must be associative and commutative as far as results are to
 * be the same on all ranks. All ranks make the custom operations of a communicator in the same order: the k-th of one
 * rank is the k-th of another. `user` is handed to the function; both must last until the operation is destroyed and the
 * calls with it are done. */
dureResult_t dureRedOpCreateCustom(dureRedOp_t *op, dureRedOpFunction_t function, void *user, dureComm_t comm);

/* Destroys an operation. Calls that were made with it go on. */
dureResult_t dureRedOpDestroy(dureRedOp_t op, dureComm_t comm);

/* ---- 12. Memory ---------------------------------------------------------------------------------------------------- */

/* Any memory of the process may be given to a call, and memory of the devices that DURE_DEVICE names (docs/devices.md). Registered
 * memory saves a copy for long messages: worth it for buffers that are used again and again. */

/* Allocates `size` bytes, zeroed: on the first device that DURE_DEVICE names, or else of the host, at the begin of a
 * page. It belongs to no communicator, so no peer can map it: memory that peers of the same host write directly is had
 * from dureCommMemAlloc.
 * Errors: dureSystemError when there is no memory. */
dureResult_t dureMemAlloc(void **ptr, size_t size);

/* Frees memory of dureMemAlloc. */
dureResult_t dureMemFree(void *ptr);

/* [Dure] Allocates `size` bytes, zeroed and aligned to 64 bytes at least, which the transports know and which peers of
 * the same host write directly. dureCommDestroy and dureCommAbort free it, if nobody did before.
 * Errors: dureSystemError when there is no memory. */
dureResult_t dureCommMemAlloc(dureComm_t comm, void **ptr, size_t size);

/* [Dure] Frees memory of dureCommMemAlloc. No call on it may be under way. */
dureResult_t dureCommMemFree(dureComm_t comm, void *ptr);

/* [Dure] Whose memory an address is to calls on comm: *device is the position, counted from 0, of a device among those
 * that DURE_DEVICE names, each counted once, or DURE_DEVICE_HOST. That is the answer too for memory that no device
 * knows: a call takes it for the host's. The memory itself is not touched. */
dureResult_t dureCommMemDevice(const dureComm_t comm, const void *ptr, int *device);

/* Makes memory known to the transports. It must stay mapped until dureCommDeregister or the communicator's end. *handle
 * is for dureCommDeregister only.
 * Errors: dureSystemError when the transports have no room for it. */
dureResult_t dureCommRegister(const dureComm_t comm, void *buff, size_t size, void **handle);

/* Ends a registration. No call on the memory may be under way. */
dureResult_t dureCommDeregister(const dureComm_t comm, void *handle);

#define DURE_WIN_DEFAULT 0x00
#define DURE_WIN_COLL_SYMMETRIC 0x01 /* the buffers of all ranks are used in the same way: taken note of */
#define DURE_WIN_REQUIRED_ALIGNMENT 4096 /* NCCL asks for it, and dureMemAlloc has it; Dure takes any address */

/* As dureCommRegister. NCCL makes it a collective; here it does not wait for other ranks. */
dureResult_t dureCommWindowRegister(dureComm_t comm, void *buff, size_t size, dureWindow_t *win, int winFlags);

/* Ends the registration of a window. No call on the memory may be under way. */
dureResult_t dureCommWindowDeregister(dureComm_t comm, dureWindow_t win);

#ifdef __cplusplus
}
#endif

#endif /* DURE_H */
