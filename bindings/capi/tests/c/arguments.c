/* Every function with what it must refuse: NULL for each pointer, numbers that are none, lengths that overflow, handles
 * that are gone. Each error names the argument. */
#include "ranks.h"

static dureComm_t comm;
static char buffer[64];
static size_t counts[1] = {4};

static void library(void) {
  EXPECT_ERROR(dureInvalidArgument, "version is NULL", dureGetVersion(NULL));
  int version = 0;
  CHECK(dureGetVersion(&version));
  EXPECT(version == DURE_VERSION_CODE);
  for (int result = -1; result <= dureNumResults; result++) EXPECT(strlen(dureGetErrorString((dureResult_t)result)) > 0);
  EXPECT(strcmp(dureGetErrorString(dureSuccess), "no error") == 0);
  dureResetDebugInit();
}

static void making(void) {
  dureUniqueId id, wrong;
  dureComm_t made = NULL;
  EXPECT_ERROR(dureInvalidArgument, "uniqueId is NULL", dureGetUniqueId(NULL));
  CHECK(dureGetUniqueId(&id));
  memset(&wrong, 0, sizeof wrong);
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommInitRank(NULL, 1, id, 0));
  EXPECT_ERROR(dureInvalidArgument, "nranks 0", dureCommInitRank(&made, 0, id, 0));
  EXPECT_ERROR(dureInvalidArgument, "nranks -3", dureCommInitRank(&made, -3, id, 0));
  EXPECT_ERROR(dureInvalidArgument, "rank 1 is not a rank (allowed: 0 to 0)", dureCommInitRank(&made, 1, id, 1));
  EXPECT_ERROR(dureInvalidArgument, "rank -1", dureCommInitRank(&made, 1, id, -1));
  EXPECT_ERROR(dureInvalidArgument, "not a unique id", dureCommInitRank(&made, 2, wrong, 0));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommInitRankConfig(NULL, 1, id, 0, NULL));
  EXPECT_ERROR(dureInvalidArgument, "commIds is NULL", dureCommInitRankScalable(&made, 1, 0, 1, NULL, NULL));
  EXPECT_ERROR(dureInvalidArgument, "nId is 2", dureCommInitRankScalable(&made, 1, 0, 2, &id, NULL));
  EXPECT_ERROR(dureInvalidArgument, "myrank 4", dureCommInitRankScalable(&made, 2, 4, 1, &id, NULL));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommInitEnv(NULL, NULL));
  EXPECT_ERROR(dureInvalidUsage, "DURE_ROOT", dureCommInitEnv(&made, NULL));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommInitAll(NULL, 1, NULL));
  EXPECT_ERROR(dureInvalidArgument, "ndev 0", dureCommInitAll(&made, 0, NULL));
  int device = 3;
  EXPECT_ERROR(dureInvalidArgument, "device 3", dureCommInitAll(&made, 1, &device));
  dureConfig_t config;
  memset(&config, 0, sizeof config);
  EXPECT_ERROR(dureInvalidArgument, "DURE_CONFIG_INITIALIZER", dureCommInitRankConfig(&made, 1, id, 0, &config));
  dureConfig_t other = DURE_CONFIG_INITIALIZER;
  other.netName = "pigeon";
  EXPECT_ERROR(dureInvalidArgument, "config->netName", dureCommInitRankConfig(&made, 1, id, 0, &other));
  EXPECT(made == NULL);
}

static void children(void) {
  dureComm_t made = NULL;
  int excluded = 0;
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommSplit(NULL, 0, 0, &made, NULL));
  EXPECT_ERROR(dureInvalidArgument, "newcomm is NULL", dureCommSplit(comm, 0, 0, NULL, NULL));
  EXPECT_ERROR(dureInvalidArgument, "color -2", dureCommSplit(comm, -2, 0, &made, NULL));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommDup(NULL, &made));
  EXPECT_ERROR(dureInvalidArgument, "newcomm is NULL", dureCommDup(comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommShrink(NULL, &excluded, 1, &made, NULL, 0));
  EXPECT_ERROR(dureInvalidArgument, "newcomm is NULL", dureCommShrink(comm, &excluded, 1, NULL, NULL, 0));
  EXPECT_ERROR(dureInvalidArgument, "shrinkFlags 2", dureCommShrink(comm, &excluded, 1, &made, NULL, 2));
  EXPECT_ERROR(dureInvalidArgument, "excludeRanksCount is 0", dureCommShrink(comm, &excluded, 0, &made, NULL, 0));
  EXPECT_ERROR(dureInvalidArgument, "excludeRanksCount is -1", dureCommShrink(comm, &excluded, -1, &made, NULL, 0));
}

static void asking(void) {
  dureResult_t result;
  int number;
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommGetAsyncError(NULL, &result));
  EXPECT_ERROR(dureInvalidArgument, "asyncError is NULL", dureCommGetAsyncError(comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommCount(NULL, &number));
  EXPECT_ERROR(dureInvalidArgument, "count is NULL", dureCommCount(comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommUserRank(NULL, &number));
  EXPECT_ERROR(dureInvalidArgument, "rank is NULL", dureCommUserRank(comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommDevice(NULL, &number));
  EXPECT_ERROR(dureInvalidArgument, "device is NULL", dureCommDevice(comm, NULL));
  EXPECT(strstr(dureGetLastError(comm), "device is NULL") != NULL);
  CHECK(dureCommDevice(comm, &number));
  EXPECT(number == DURE_DEVICE_HOST);
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommFinalize(NULL));
  CHECK(dureCommDestroy(NULL));
  CHECK(dureCommAbort(NULL));
}

static void collectives(void) {
  void *const out = buffer;
  const void *const in = buffer;
  const size_t huge = (size_t)-1 / 2;
  const dureDataType_t no_type = (dureDataType_t)12, type = dureFloat;
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureAllReduce(in, out, 4, type, dureSum, NULL, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL", dureAllReduce(NULL, out, 4, type, dureSum, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL", dureAllReduce(in, NULL, 4, type, dureSum, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "datatype 12 is none (allowed: 0 to 11)",
               dureAllReduce(in, out, 4, no_type, dureSum, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "datatype -1", dureAllReduce(in, out, 4, (dureDataType_t)-1, dureSum, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "op 5 is none", dureAllReduce(in, out, 4, type, dureNumOps, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "op -7 is none", dureAllReduce(in, out, 4, type, (dureRedOp_t)-7, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "integers", dureAllReduce(in, out, 4, type, dureBitXor, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "count", dureAllReduce(in, out, huge, type, dureSum, comm, NULL));
  CHECK(dureAllReduce(NULL, NULL, 0, type, dureSum, comm, NULL));

  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL", dureReduce(NULL, out, 4, type, dureSum, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL", dureReduce(in, NULL, 4, type, dureSum, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "root 1", dureReduce(in, out, 4, type, dureSum, 1, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "op 99", dureReduce(in, out, 4, type, (dureRedOp_t)99, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL", dureReduceScatter(NULL, out, 4, type, dureSum, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL", dureReduceScatter(in, NULL, 4, type, dureSum, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvcount", dureReduceScatter(in, out, huge, type, dureSum, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL", dureBroadcast(NULL, out, 4, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL", dureBroadcast(in, NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "root -1", dureBroadcast(in, out, 4, type, -1, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "buff is NULL", dureBcast(NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "root 9", dureBcast(out, 4, type, 9, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL", dureAllGather(NULL, out, 4, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL", dureAllGather(in, NULL, 4, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendcount", dureAllGather(in, out, huge, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL", dureAlltoAll(NULL, out, 4, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL", dureAlltoAll(in, NULL, 4, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "datatype 12", dureAlltoAll(in, out, 4, no_type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL", dureGather(NULL, out, 4, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL", dureGather(in, NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "root 2", dureGather(in, out, 4, type, 2, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL", dureScatter(NULL, out, 4, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL", dureScatter(in, NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "root 2", dureScatter(in, out, 4, type, 2, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureBarrier(NULL, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL", dureSend(NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "peer 1", dureSend(in, 4, type, 1, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL", dureRecv(NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "peer -1", dureRecv(out, 4, type, -1, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "stream is not a handle", dureBarrier(comm, (dureStream_t)(void *)comm));
  EXPECT_ERROR(dureInvalidArgument, "comm is not a handle", dureBarrier((dureComm_t)(void *)(buffer + 1), NULL));
}

static void ragged(void) {
  void *const out = buffer;
  const void *const in = buffer;
  const dureDataType_t type = dureFloat;
  size_t wrong[1] = {3}, huge[1] = {(size_t)-1}, far[1] = {2};
  EXPECT_ERROR(dureInvalidArgument, "sendcounts is NULL",
               dureAllToAllv(in, NULL, NULL, out, counts, NULL, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvcounts is NULL",
               dureAllToAllv(in, counts, NULL, out, NULL, NULL, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL",
               dureAllToAllv(NULL, counts, NULL, out, counts, NULL, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL",
               dureAllToAllv(in, counts, NULL, NULL, counts, NULL, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendcounts[0]", dureAllToAllv(in, huge, far, out, counts, NULL, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvcounts", dureAllToAllv(in, counts, NULL, out, huge, NULL, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendcount is 4, and recvcounts[0] is 3",
               dureAllGatherv(in, 4, out, wrong, NULL, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvcounts is NULL", dureAllGatherv(in, 4, out, NULL, NULL, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendbuff is NULL", dureAllGatherv(NULL, 4, out, counts, NULL, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvbuff is NULL", dureAllGatherv(in, 4, NULL, counts, NULL, type, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvcount is 4, and sendcounts[0] is 3",
               dureReduceScatterv(in, wrong, NULL, out, 4, type, dureSum, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendcounts is NULL",
               dureReduceScatterv(in, NULL, NULL, out, 4, type, dureSum, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "op 77",
               dureReduceScatterv(in, counts, NULL, out, 4, type, (dureRedOp_t)77, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "recvcounts is NULL", dureGatherv(in, 4, out, NULL, NULL, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "root 5", dureGatherv(in, 4, out, counts, NULL, type, 5, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "sendcounts is NULL", dureScatterv(in, NULL, NULL, out, 4, type, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "root 5", dureScatterv(in, counts, NULL, out, 4, type, 5, comm, NULL));
}

static void made_operations(void) {
  dureRedOp_t op;
  float factor = 2;
  EXPECT_ERROR(dureInvalidArgument, "op is NULL",
               dureRedOpCreatePreMulSum(NULL, &factor, dureFloat, dureScalarHostImmediate, comm));
  EXPECT_ERROR(dureInvalidArgument, "scalar is NULL",
               dureRedOpCreatePreMulSum(&op, NULL, dureFloat, dureScalarHostImmediate, comm));
  EXPECT_ERROR(dureInvalidArgument, "datatype 40",
               dureRedOpCreatePreMulSum(&op, &factor, (dureDataType_t)40, dureScalarHostImmediate, comm));
  EXPECT_ERROR(dureInvalidArgument, "residence 2",
               dureRedOpCreatePreMulSum(&op, &factor, dureFloat, (dureScalarResidence_t)2, comm));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL",
               dureRedOpCreatePreMulSum(&op, &factor, dureFloat, dureScalarHostImmediate, NULL));
  EXPECT_ERROR(dureInvalidArgument, "function is NULL", dureRedOpCreateCustom(&op, NULL, NULL, comm));
  EXPECT_ERROR(dureInvalidArgument, "built in", dureRedOpDestroy(dureMax, comm));
  EXPECT_ERROR(dureInvalidArgument, "is none", dureRedOpDestroy((dureRedOp_t)123456, comm));
  CHECK(dureRedOpCreatePreMulSum(&op, &factor, dureFloat, dureScalarHostImmediate, comm));
  EXPECT_ERROR(dureInvalidArgument, "made for datatype float",
               dureAllReduce(buffer, buffer, 4, dureInt, op, comm, NULL));
  CHECK(dureRedOpDestroy(op, comm));
  EXPECT_ERROR(dureInvalidArgument, "is none", dureAllReduce(buffer, buffer, 4, dureFloat, op, comm, NULL));
}

static void memory(void) {
  void *place = NULL;
  dureWindow_t window = NULL;
  EXPECT_ERROR(dureInvalidArgument, "ptr is NULL", dureMemAlloc(NULL, 8));
  EXPECT_ERROR(dureInvalidArgument, "size", dureMemAlloc(&place, (size_t)-1));
  EXPECT_ERROR(dureInvalidArgument, "dureMemAlloc", dureMemFree(buffer));
  CHECK(dureMemFree(NULL));
  CHECK(dureMemAlloc(&place, 10000));
  EXPECT((uintptr_t)place % DURE_WIN_REQUIRED_ALIGNMENT == 0);
  for (int i = 0; i < 10000; i++) EXPECT(((char *)place)[i] == 0);
  CHECK(dureMemFree(place));
  EXPECT_ERROR(dureInvalidArgument, "was freed", dureMemFree(place));

  EXPECT_ERROR(dureInvalidArgument, "ptr is NULL", dureCommMemAlloc(comm, NULL, 8));
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommMemAlloc(NULL, &place, 8));
  EXPECT_ERROR(dureInvalidArgument, "size", dureCommMemAlloc(comm, &place, (size_t)-1));
  EXPECT_ERROR(dureInvalidArgument, "dureCommMemAlloc", dureCommMemFree(comm, buffer));
  CHECK(dureCommMemFree(comm, NULL));
  CHECK(dureCommMemAlloc(comm, &place, 10000));
  memset(place, 1, 10000);
  CHECK(dureCommMemFree(comm, place));
  EXPECT_ERROR(dureInvalidArgument, "was freed", dureCommMemFree(comm, place));

  int device = 7;
  EXPECT_ERROR(dureInvalidArgument, "comm is NULL", dureCommMemDevice(NULL, buffer, &device));
  EXPECT_ERROR(dureInvalidArgument, "device is NULL", dureCommMemDevice(comm, buffer, NULL));
  CHECK(dureCommMemDevice(comm, buffer, &device));
  EXPECT(device == DURE_DEVICE_HOST);

  EXPECT_ERROR(dureInvalidArgument, "buff is NULL", dureCommRegister(comm, NULL, 8, &place));
  EXPECT_ERROR(dureInvalidArgument, "size 0", dureCommRegister(comm, buffer, 0, &place));
  EXPECT_ERROR(dureInvalidArgument, "handle is NULL", dureCommRegister(comm, buffer, 8, NULL));
  EXPECT_ERROR(dureInvalidArgument, "handle did not", dureCommDeregister(comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "win is NULL", dureCommWindowRegister(comm, buffer, 8, NULL, 0));
  EXPECT_ERROR(dureInvalidArgument, "winFlags 0x8", dureCommWindowRegister(comm, buffer, 8, &window, 8));
  EXPECT_ERROR(dureInvalidArgument, "win did not", dureCommWindowDeregister(comm, NULL));
  CHECK(dureCommRegister(comm, buffer, sizeof buffer, &place));
  CHECK(dureCommWindowRegister(comm, buffer, sizeof buffer, &window, DURE_WIN_COLL_SYMMETRIC));
  EXPECT_ERROR(dureInvalidArgument, "win did not", dureCommWindowDeregister(comm, (dureWindow_t)place));
  CHECK(dureCommDeregister(comm, place));
  EXPECT_ERROR(dureInvalidArgument, "was ended", dureCommDeregister(comm, place));
  CHECK(dureCommWindowDeregister(comm, window));
}

static void groups_and_streams(void) {
  dureStream_t stream = NULL;
  dureSimInfo_t info = DURE_SIM_INFO_INITIALIZER;
  EXPECT_ERROR(dureInvalidUsage, "without dureGroupStart", dureGroupEnd());
  EXPECT_ERROR(dureInvalidUsage, "without dureGroupStart", dureGroupSimulateEnd(&info));
  CHECK(dureGroupStart());
  EXPECT_ERROR(dureInvalidUsage, "does not estimate", dureGroupSimulateEnd(&info));
  EXPECT(info.estimatedTime == DURE_UNDEF_FLOAT);
  info.magic = 0;
  CHECK(dureGroupStart());
  EXPECT_ERROR(dureInvalidArgument, "DURE_SIM_INFO_INITIALIZER", dureGroupSimulateEnd(&info));
  CHECK(dureGroupStart());
  EXPECT_ERROR(dureInvalidArgument, "root 7", dureBcast(buffer, 4, dureFloat, 7, comm, NULL));
  EXPECT_ERROR(dureInvalidArgument, "root 7", dureGroupEnd());
  CHECK(dureGroupStart());
  CHECK(dureGroupEnd());

  EXPECT_ERROR(dureInvalidArgument, "stream is NULL", dureStreamCreate(NULL));
  EXPECT_ERROR(dureInvalidArgument, "stream is NULL", dureStreamJoin(NULL, 0, NULL));
  EXPECT_ERROR(dureInvalidArgument, "device 0 is none: DURE_DEVICE names no devices", dureStreamJoin(NULL, 0, &stream));
  CHECK(dureStreamDestroy(NULL));
  CHECK(dureStreamSynchronize(NULL));
  CHECK(dureStreamQuery(NULL));
  CHECK(dureStreamCreate(&stream));
  CHECK(dureStreamQuery(stream));
  CHECK(dureStreamSynchronize(stream));
  CHECK(dureGroupStart());
  CHECK(dureBcast(buffer, 4, dureFloat, 0, comm, NULL));
  EXPECT_ERROR(dureInvalidUsage, "same stream", dureBcast(buffer, 4, dureFloat, 0, comm, stream));
  EXPECT_ERROR(dureInvalidUsage, "same stream", dureGroupEnd());
  CHECK(dureStreamDestroy(stream));
  EXPECT_ERROR(dureInvalidArgument, "stream was destroyed", dureStreamDestroy(stream));
  EXPECT_ERROR(dureInvalidArgument, "stream was destroyed", dureStreamQuery(stream));
  EXPECT_ERROR(dureInvalidArgument, "stream was destroyed", dureBarrier(comm, stream));
}

int main(void) {
  library();
  making();
  CHECK(dureCommInitAll(&comm, 1, NULL));
  children();
  asking();
  collectives();
  ragged();
  made_operations();
  memory();
  groups_and_streams();
  CHECK(dureBarrier(comm, NULL));
  CHECK(dureCommFinalize(comm));
  EXPECT_ERROR(dureInvalidUsage, "was finalized", dureBarrier(comm, NULL));
  CHECK(dureCommDestroy(comm));
  EXPECT_ERROR(dureInvalidArgument, "comm was destroyed before", dureCommDestroy(comm));
  EXPECT_ERROR(dureInvalidArgument, "comm was destroyed before", dureCommAbort(comm));
  EXPECT_ERROR(dureInvalidArgument, "comm was destroyed before", dureBarrier(comm, NULL));
  EXPECT(strstr(dureGetLastError(comm), "destroyed") != NULL);
  return 0;
}
