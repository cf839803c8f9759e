/* Every function with what it must refuse, and the result that NCCL has for it. Each error names the argument. */
#include "ranks.h"

static ncclComm_t comm;
static float buffer[64];
static void *const out = buffer;
static const void *const in = buffer;
/* Where nothing may be read. */
#define FOREIGN_STREAM ((cudaStream_t)(uintptr_t)0xdead0000)

static void library(void) {
  EXPECT_ERROR(ncclInvalidArgument, "version is NULL", ncclGetVersion(NULL));
  for (int result = -1; result <= ncclNumResults; result++) EXPECT(strlen(ncclGetErrorString((ncclResult_t)result)) > 0);
  EXPECT(strcmp(ncclGetErrorString(ncclSuccess), pncclGetErrorString(ncclSuccess)) == 0);
  EXPECT(strstr(pncclGetLastError(NULL), "version is NULL") != NULL);
  ncclResetDebugInit();
  pncclResetDebugInit();
}

static void making(void) {
  ncclUniqueId id, wrong;
  ncclComm_t made = NULL;
  int device = 0;
  EXPECT_ERROR(ncclInvalidArgument, "uniqueId is NULL", ncclGetUniqueId(NULL));
  CHECK(ncclGetUniqueId(&id));
  memset(&wrong, 0, sizeof wrong);
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommInitRank(NULL, 1, id, 0));
  EXPECT_ERROR(ncclInvalidArgument, "nranks 0", ncclCommInitRank(&made, 0, id, 0));
  EXPECT_ERROR(ncclInvalidArgument, "rank 1 is not a rank (allowed: 0 to 0)", ncclCommInitRank(&made, 1, id, 1));
  EXPECT_ERROR(ncclInvalidArgument, "rank -1", ncclCommInitRank(&made, 1, id, -1));
  EXPECT_ERROR(ncclInvalidArgument, "not a unique id", ncclCommInitRank(&made, 2, wrong, 0));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommInitRankConfig(NULL, 1, id, 0, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommInitRankScalable(NULL, 1, 0, 1, &id, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "commIds is NULL", ncclCommInitRankScalable(&made, 1, 0, 1, NULL, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "nId is 0", ncclCommInitRankScalable(&made, 1, 0, 0, &id, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommInitAll(NULL, 1, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "ndev 0", ncclCommInitAll(&made, 0, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "device 0, which is none (allowed: -1, the host)", ncclCommInitAll(&made, 1, &device));
  EXPECT(made == NULL);
}

static void settings(void) {
  ncclUniqueId id;
  ncclComm_t made = NULL;
  ncclConfig_t config;
  CHECK(ncclGetUniqueId(&id));
  memset(&config, 0, sizeof config);
  EXPECT_ERROR(ncclInvalidArgument, "NCCL_CONFIG_INITIALIZER", ncclCommInitRankConfig(&made, 1, id, 0, &config));
#define REFUSED(field, value, text)                                                             \
  do {                                                                                          \
    ncclConfig_t bad = NCCL_CONFIG_INITIALIZER;                                                 \
    bad.field = value;                                                                          \
    EXPECT_ERROR(ncclInvalidArgument, text, ncclCommInitRankConfig(&made, 1, id, 0, &bad));     \
  } while (0)
  REFUSED(blocking, 2, "config->blocking is 2 (allowed: 0, 1)");
  REFUSED(cgaClusterSize, 9, "config->cgaClusterSize is 9");
  REFUSED(minCTAs, 0, "config->minCTAs is 0");
  REFUSED(maxCTAs, -1, "config->maxCTAs is -1");
  REFUSED(netName, "pigeon", "config->netName is \"pigeon\" (allowed: Socket, IB)");
  REFUSED(splitShare, 2, "config->splitShare is 2");
  REFUSED(numRmaCtx, 0, "config->numRmaCtx is 0");
  EXPECT(made == NULL);
  /* The structure of NCCL 2.14 ends after `blocking`: what lies behind it is not read. */
  ncclConfig_t old = NCCL_CONFIG_INITIALIZER;
  old.size = offsetof(ncclConfig_t, cgaClusterSize);
  old.version = NCCL_VERSION(2, 14, 3);
  old.blocking = 1;
  old.splitShare = 7;
  CHECK(ncclCommInitRankConfig(&made, 1, id, 0, &old));
  CHECK(ncclCommDestroy(made));
}

static void children(void) {
  ncclComm_t made = NULL;
  ncclUniqueId id;
  int excluded = 0;
  CHECK(ncclGetUniqueId(&id));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommSplit(NULL, 0, 0, &made, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "newcomm is NULL", ncclCommSplit(comm, 0, 0, NULL, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "NCCL_SPLIT_NOCOLOR", ncclCommSplit(comm, -2, 0, &made, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommShrink(NULL, &excluded, 1, &made, NULL, 0));
  EXPECT_ERROR(ncclInvalidArgument, "newcomm is NULL", ncclCommShrink(comm, &excluded, 1, NULL, NULL, 0));
  EXPECT_ERROR(ncclInvalidArgument, "NCCL_SHRINK_ABORT", ncclCommShrink(comm, &excluded, 1, &made, NULL, 2));
  EXPECT_ERROR(ncclInvalidArgument, "excludeRanksCount is 0", ncclCommShrink(comm, NULL, 0, &made, NULL, 0));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommGetUniqueId(NULL, &id));
  EXPECT_ERROR(ncclInvalidArgument, "uniqueId is NULL", ncclCommGetUniqueId(comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "newcomm is NULL", ncclCommGrow(comm, 2, NULL, -1, NULL, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "nRanks 1 (allowed: more", ncclCommGrow(comm, 1, NULL, -1, &made, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "rank 3 (allowed: -1", ncclCommGrow(comm, 2, NULL, 3, &made, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "newcomm is NULL", ncclCommGrow(NULL, 2, &id, 1, NULL, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "uniqueId is NULL", ncclCommGrow(NULL, 2, NULL, 1, &made, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "rank 5 is not a rank", ncclCommGrow(NULL, 2, &id, 5, &made, NULL));
  EXPECT_ERROR(ncclInvalidUsage, "gave no id", ncclCommGrow(comm, 2, NULL, -1, &made, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "revokeFlags 1", ncclCommRevoke(comm, 1));
  CHECK(ncclCommRevoke(NULL, 0));
  EXPECT(made == NULL);
}

static void asking(void) {
  ncclResult_t result;
  int number;
  uint64_t value = 1;
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommGetAsyncError(NULL, &result));
  EXPECT_ERROR(ncclInvalidArgument, "asyncError is NULL", ncclCommGetAsyncError(comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommCount(NULL, &number));
  EXPECT_ERROR(ncclInvalidArgument, "count is NULL", ncclCommCount(comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommUserRank(NULL, &number));
  EXPECT_ERROR(ncclInvalidArgument, "rank is NULL", ncclCommUserRank(comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommCuDevice(NULL, &number));
  EXPECT_ERROR(ncclInvalidArgument, "device is NULL", ncclCommCuDevice(comm, NULL));
  EXPECT(strstr(ncclGetLastError(comm), "device is NULL") != NULL);
  CHECK(ncclCommCuDevice(comm, &number));
  EXPECT(number == -1);
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommMemStats(NULL, ncclStatGpuMemTotal, &value));
  EXPECT_ERROR(ncclInvalidArgument, "value is NULL", ncclCommMemStats(comm, ncclStatGpuMemTotal, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "stat 4", ncclCommMemStats(comm, (ncclCommMemStat_t)4, &value));
  CHECK(ncclCommMemStats(comm, ncclStatGpuMemTotal, &value));
  EXPECT(value == 0);
  /* As NCCL has it, nothing is no error where something is ended. */
  CHECK(ncclCommFinalize(NULL));
  CHECK(ncclCommDestroy(NULL));
  CHECK(ncclCommAbort(NULL));
}

static void collectives(void) {
  const size_t huge = (size_t)-1 / 2;
  const ncclDataType_t type = ncclFloat, no_type = (ncclDataType_t)12;
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclAllReduce(in, out, 4, type, ncclSum, NULL, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "sendbuff is NULL", ncclAllReduce(NULL, out, 4, type, ncclSum, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "recvbuff is NULL", ncclAllReduce(in, NULL, 4, type, ncclSum, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "datatype 12", ncclAllReduce(in, out, 4, no_type, ncclSum, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "op 5 is none", ncclAllReduce(in, out, 4, type, ncclNumOps, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "op -7", ncclAllReduce(in, out, 4, type, (ncclRedOp_t)-7, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "count", ncclAllReduce(in, out, huge, type, ncclSum, comm, NULL));
  CHECK(ncclAllReduce(NULL, NULL, 0, type, ncclSum, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "sendbuff is NULL", ncclReduce(NULL, out, 4, type, ncclSum, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "recvbuff is NULL", ncclReduce(in, NULL, 4, type, ncclSum, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "root 1", ncclReduce(in, out, 4, type, ncclSum, 1, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "sendbuff is NULL", ncclReduceScatter(NULL, out, 4, type, ncclSum, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "recvbuff is NULL", ncclReduceScatter(in, NULL, 4, type, ncclSum, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "sendbuff is NULL", ncclBroadcast(NULL, out, 4, type, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "recvbuff is NULL", ncclBroadcast(in, NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "root -1", ncclBroadcast(in, out, 4, type, -1, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "buff is NULL", ncclBcast(NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "sendbuff is NULL", ncclAllGather(NULL, out, 4, type, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "recvbuff is NULL", ncclAllGather(in, NULL, 4, type, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "sendbuff is NULL", ncclAlltoAll(NULL, out, 4, type, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "recvbuff is NULL", ncclAlltoAll(in, NULL, 4, type, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "sendbuff is NULL", ncclGather(NULL, out, 4, type, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "recvbuff is NULL", ncclGather(in, NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "sendbuff is NULL", ncclScatter(NULL, out, 4, type, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "recvbuff is NULL", ncclScatter(in, NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "sendbuff is NULL", ncclSend(NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "peer 1", ncclSend(in, 4, type, 1, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "recvbuff is NULL", ncclRecv(NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "peer -1", ncclRecv(out, 4, type, -1, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "comm is not a handle",
               ncclAllReduce(in, out, 4, type, ncclSum, (ncclComm_t)(void *)((char *)buffer + 1), NULL));
}

static void streams(void) {
  cudaStream_t stream = NULL;
  EXPECT_ERROR(ncclInvalidArgument, "stream is NULL", ncclDureStreamCreate(NULL));
  CHECK(ncclDureStreamCreate(&stream));
  CHECK(ncclAllReduce(in, out, 4, ncclFloat, ncclSum, comm, stream));
  CHECK(ncclDureStreamSynchronize(stream));
  CHECK(ncclDureStreamQuery(stream));
  CHECK(ncclDureStreamDestroy(stream));
  EXPECT_ERROR(ncclInvalidArgument, "stream was destroyed", ncclAllReduce(in, out, 4, ncclFloat, ncclSum, comm, stream));
  CHECK(ncclDureStreamDestroy(NULL));
  CHECK(ncclDureStreamSynchronize(NULL));
  CHECK(ncclDureStreamQuery(NULL));
  /* CUDA's: a number, and an address of which nothing here knows anything. */
  for (uintptr_t number = 1; number <= 2; number++)
    EXPECT_ERROR(ncclInvalidArgument, "DURE_DEVICE names no device",
                 ncclAllReduce(in, out, 4, ncclFloat, ncclSum, comm, (cudaStream_t)number));
  EXPECT_ERROR(ncclInvalidArgument, "DURE_DEVICE names no device",
               ncclAllReduce(in, out, 4, ncclFloat, ncclSum, comm, FOREIGN_STREAM));
  EXPECT_ERROR(ncclInvalidArgument, "stream is not a handle", ncclDureStreamQuery(FOREIGN_STREAM));
  EXPECT_ERROR(ncclInvalidArgument, "stream is not a handle", ncclDureStreamDestroy(FOREIGN_STREAM));
}

static void operations(void) {
  ncclRedOp_t op;
  float factor = 2;
  EXPECT_ERROR(ncclInvalidArgument, "op is NULL",
               ncclRedOpCreatePreMulSum(NULL, &factor, ncclFloat, ncclScalarHostImmediate, comm));
  EXPECT_ERROR(ncclInvalidArgument, "scalar is NULL",
               ncclRedOpCreatePreMulSum(&op, NULL, ncclFloat, ncclScalarHostImmediate, comm));
  EXPECT_ERROR(ncclInvalidArgument, "datatype 40",
               ncclRedOpCreatePreMulSum(&op, &factor, (ncclDataType_t)40, ncclScalarHostImmediate, comm));
  EXPECT_ERROR(ncclInvalidArgument, "1, ncclScalarHostImmediate",
               ncclRedOpCreatePreMulSum(&op, &factor, ncclFloat, (ncclScalarResidence_t)2, comm));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL",
               ncclRedOpCreatePreMulSum(&op, &factor, ncclFloat, ncclScalarHostImmediate, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "built in", ncclRedOpDestroy(ncclMax, comm));
  EXPECT_ERROR(ncclInvalidArgument, "is none", ncclRedOpDestroy((ncclRedOp_t)123456, comm));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclRedOpDestroy(ncclMax, NULL));
  CHECK(ncclRedOpCreatePreMulSum(&op, &factor, ncclFloat, ncclScalarHostImmediate, comm));
  EXPECT_ERROR(ncclInvalidArgument, "made for datatype float", ncclAllReduce(in, out, 4, ncclInt, op, comm, NULL));
  CHECK(ncclRedOpDestroy(op, comm));
}

static void memory(void) {
  void *place = NULL;
  ncclWindow_t window = NULL;
  EXPECT_ERROR(ncclInvalidArgument, "ptr is NULL", ncclMemAlloc(NULL, 8));
  EXPECT_ERROR(ncclInvalidArgument, "did not come from ncclMemAlloc", ncclMemFree(buffer));
  CHECK(ncclMemFree(NULL));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommRegister(NULL, buffer, 8, &place));
  EXPECT_ERROR(ncclInvalidArgument, "buff is NULL", ncclCommRegister(comm, NULL, 8, &place));
  EXPECT_ERROR(ncclInvalidArgument, "size 0", ncclCommRegister(comm, buffer, 0, &place));
  EXPECT_ERROR(ncclInvalidArgument, "handle is NULL", ncclCommRegister(comm, buffer, 8, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "from ncclCommRegister", ncclCommDeregister(comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommDeregister(NULL, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclCommWindowRegister(NULL, buffer, 8, &window, 0));
  EXPECT_ERROR(ncclInvalidArgument, "win is NULL", ncclCommWindowRegister(comm, buffer, 8, NULL, 0));
  EXPECT_ERROR(ncclInvalidArgument, "NCCL_WIN_STRICT_ORDERING, which is 2",
               ncclCommWindowRegister(comm, buffer, 8, &window, 4));
  EXPECT_ERROR(ncclInvalidArgument, "from ncclCommWindowRegister", ncclCommWindowDeregister(comm, NULL));
  CHECK(ncclCommWindowRegister(comm, buffer, sizeof buffer, &window, NCCL_WIN_COLL_SYMMETRIC | NCCL_WIN_STRICT_ORDERING));
  EXPECT_ERROR(ncclInvalidArgument, "outUserPtr is NULL", ncclWinGetUserPtr(comm, window, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "from ncclCommWindowRegister", ncclWinGetUserPtr(comm, NULL, &place));
  EXPECT_ERROR(ncclInvalidArgument, "comm is NULL", ncclWinGetUserPtr(NULL, window, &place));
  CHECK(ncclWinGetUserPtr(comm, window, &place));
  EXPECT(place == buffer);
  CHECK(ncclCommWindowDeregister(comm, window));
}

static void groups(void) {
  ncclSimInfo_t info = NCCL_SIM_INFO_INITIALIZER;
  EXPECT_ERROR(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart", ncclGroupEnd());
  EXPECT_ERROR(ncclInvalidUsage, "without ncclGroupStart", ncclGroupSimulateEnd(&info));
  CHECK(ncclGroupStart());
  EXPECT_ERROR(ncclInvalidUsage, "does not estimate", ncclGroupSimulateEnd(NULL));
  info.magic = 0;
  CHECK(ncclGroupStart());
  EXPECT_ERROR(ncclInvalidArgument, "NCCL_SIM_INFO_INITIALIZER", ncclGroupSimulateEnd(&info));
  CHECK(ncclGroupStart());
  EXPECT_ERROR(ncclInvalidArgument, "root 7", ncclBcast(buffer, 4, ncclFloat, 7, comm, NULL));
  EXPECT_ERROR(ncclInvalidArgument, "root 7", ncclGroupEnd());
}

static void not_supported(void) {
  void *place = NULL;
  EXPECT_ERROR(ncclInvalidUsage, "ncclCommSuspend is not supported", ncclCommSuspend(comm, NCCL_SUSPEND_MEM));
  EXPECT_ERROR(ncclInvalidUsage, "ncclCommResume is not supported", ncclCommResume(comm));
  EXPECT_ERROR(ncclInvalidUsage, "ncclPutSignal is not supported",
               ncclPutSignal(in, 4, ncclFloat, 0, NULL, 0, 0, 0, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidUsage, "ncclSignal is not supported", ncclSignal(0, 0, 0, 0, comm, NULL));
  EXPECT_ERROR(ncclInvalidUsage, "ncclWaitSignal is not supported", ncclWaitSignal(0, NULL, comm, NULL));
  EXPECT_ERROR(ncclInvalidUsage, "ncclDevCommCreate is not supported", ncclDevCommCreate(comm, NULL, NULL));
  EXPECT_ERROR(ncclInvalidUsage, "ncclDevCommDestroy is not supported", ncclDevCommDestroy(comm, NULL));
  EXPECT_ERROR(ncclInvalidUsage, "ncclGetLsaMultimemDevicePointer is not supported",
               ncclGetLsaMultimemDevicePointer(NULL, 0, &place));
  EXPECT_ERROR(ncclInvalidUsage, "ncclGetPeerDevicePointer is not supported", ncclGetPeerDevicePointer(NULL, 0, 0, &place));
}

int main(void) {
  library();
  making();
  settings();
  CHECK(ncclCommInitAll(&comm, 1, NULL));
  children();
  asking();
  collectives();
  streams();
  operations();
  memory();
  groups();
  not_supported();
  CHECK(ncclCommFinalize(comm));
  EXPECT_ERROR(ncclInvalidUsage, "only ncclCommDestroy may follow", ncclBcast(buffer, 4, ncclFloat, 0, comm, NULL));
  CHECK(ncclCommDestroy(comm));
  EXPECT_ERROR(ncclInvalidArgument, "comm was destroyed before", ncclCommDestroy(comm));
  EXPECT_ERROR(ncclInvalidArgument, "comm was destroyed before", ncclCommAbort(comm));
  return 0;
}
