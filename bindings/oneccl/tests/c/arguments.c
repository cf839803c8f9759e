/* Every function with what it must refuse. Each error names the argument. */
#include "ranks.h"

static onecclComm_t comm;
static float buffer[64];
static void *const out = buffer;
static void *const in = buffer;
/* Where nothing may be read. */
#define QUEUE ((void *)(uintptr_t)0xdead0000)

static void making(void) {
  onecclUniqueId id, wrong;
  onecclComm_t made = NULL;
  CHECK(onecclGetUniqueId(&id));
  memset(&wrong, 0, sizeof wrong);
  EXPECT_UNMADE(onecclInvalidArgument, "nranks 0", onecclCommInitRank(&made, 0, id, 0));
  EXPECT_UNMADE(onecclInvalidArgument, "allowed: 1 to 2147483647", onecclCommInitRank(&made, (size_t)1 << 40, id, 0));
  EXPECT_UNMADE(onecclInvalidArgument, "rank 1 is not a rank (allowed: 0 to 0)", onecclCommInitRank(&made, 1, id, 1));
  EXPECT_UNMADE(onecclInvalidArgument, "rank -1", onecclCommInitRank(&made, 1, id, -1));
  EXPECT_UNMADE(onecclInvalidArgument, "not a unique id", onecclCommInitRank(&made, 2, wrong, 0));
  EXPECT(made == NULL);
  EXPECT_ERROR(onecclInvalidArgument, "ONECCL_SPLIT_NOCOLOR", onecclCommSplit(comm, -2, 0, &made, NULL));
  EXPECT(made == NULL);
  EXPECT_ERROR(onecclInvalidUsage, "onecclSetDevice is not supported", onecclSetDevice(0));
}

static void asking(void) {
  onecclResult_t state;
  EXPECT_ERROR(onecclInvalidArgument, "device is NULL", onecclCommDevice(comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "asyncError is NULL", dureOnecclCommGetAsyncError(comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "comm is NULL", dureOnecclCommGetAsyncError(NULL, &state));
  EXPECT_ERROR(onecclInvalidArgument, "comm is NULL", dureOnecclCommFinalize(NULL));
  EXPECT(strstr(dureOnecclGetLastError(NULL), "comm is NULL") != NULL);
  EXPECT(strstr(dureOnecclGetLastError(comm), "asyncError is NULL") == NULL);
}

static void collectives(void) {
  const size_t huge = (size_t)-1 / 2, four = 4;
  const onecclDataType_t type = onecclFloat, no_type = (onecclDataType_t)12;
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclAllReduce(NULL, out, 4, type, onecclSum, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "recvbuff is NULL", onecclAllReduce(in, NULL, 4, type, onecclSum, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "datatype 12", onecclAllReduce(in, out, 4, no_type, onecclSum, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "op 5 is none", onecclAllReduce(in, out, 4, type, onecclNumOps, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "count", onecclAllReduce(in, out, huge, type, onecclSum, comm, NULL));
  CHECK(onecclAllReduce(NULL, NULL, 0, type, onecclSum, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclReduce(NULL, out, 4, type, onecclSum, 0, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "recvbuff is NULL", onecclReduce(in, NULL, 4, type, onecclSum, 0, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "root 1", onecclReduce(in, out, 4, type, onecclSum, 1, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclReduceScatter(NULL, out, 4, type, onecclSum, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "recvbuff is NULL", onecclReduceScatter(in, NULL, 4, type, onecclSum, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclBroadcast(NULL, out, 4, type, 0, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "recvbuff is NULL", onecclBroadcast(in, NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "root -1", onecclBroadcast(in, out, 4, type, -1, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclAllGather(NULL, out, 4, type, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "recvbuff is NULL", onecclAllGather(in, NULL, 4, type, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclAllToAll(NULL, out, 4, type, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "recvbuff is NULL", onecclAllToAll(in, NULL, 4, type, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclScatter(NULL, out, 4, type, 0, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "root 1", onecclScatter(in, out, 4, type, 1, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclAllToAllV(NULL, &four, out, &four, type, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "recvbuff is NULL", onecclAllToAllV(in, &four, NULL, &four, type, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "sendcounts 9223372036854775807", onecclAllToAllV(in, &huge, out, &four, type, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclSend(NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "peer 1", onecclSend(in, 4, type, 1, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "recvbuff is NULL", onecclRecv(NULL, 4, type, 0, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "peer -1", onecclRecv(out, 4, type, -1, comm, NULL));
}

/* A queue of SYCL's: an address of which nothing here knows anything. */
static void queues(void) {
  const size_t four = 4;
  const char *text = "stream is not NULL (allowed: NULL; there is no support for SYCL queues";
  EXPECT_ERROR(onecclInvalidArgument, text, onecclAllReduce(in, out, 4, onecclFloat, onecclSum, comm, QUEUE));
  EXPECT_ERROR(onecclInvalidArgument, text, onecclReduce(in, out, 4, onecclFloat, onecclSum, 0, comm, QUEUE));
  EXPECT_ERROR(onecclInvalidArgument, text, onecclReduceScatter(in, out, 4, onecclFloat, onecclSum, comm, QUEUE));
  EXPECT_ERROR(onecclInvalidArgument, text, onecclBroadcast(in, out, 4, onecclFloat, 0, comm, QUEUE));
  EXPECT_ERROR(onecclInvalidArgument, text, onecclAllGather(in, out, 4, onecclFloat, comm, QUEUE));
  EXPECT_ERROR(onecclInvalidArgument, text, onecclAllToAll(in, out, 4, onecclFloat, comm, QUEUE));
  EXPECT_ERROR(onecclInvalidArgument, text, onecclScatter(in, out, 4, onecclFloat, 0, comm, QUEUE));
  EXPECT_ERROR(onecclInvalidArgument, text, onecclAllToAllV(in, &four, out, &four, onecclFloat, comm, QUEUE));
  EXPECT_ERROR(onecclInvalidArgument, text, onecclSend(in, 4, onecclFloat, 0, comm, QUEUE));
  EXPECT_ERROR(onecclInvalidArgument, text, onecclRecv(out, 4, onecclFloat, 0, comm, QUEUE));
}

static void operations(void) {
  onecclRedOp_t op;
  float factor = 2;
  const onecclScalarResidence_t now = onecclScalarHostImmediate;
  EXPECT_ERROR(onecclInvalidArgument, "op is NULL", onecclRedOpCreatePreMulSum(NULL, &factor, onecclFloat, now, comm));
  EXPECT_ERROR(onecclInvalidArgument, "scalar is NULL", onecclRedOpCreatePreMulSum(&op, NULL, onecclFloat, now, comm));
  EXPECT_ERROR(onecclInvalidArgument, "datatype 40",
               onecclRedOpCreatePreMulSum(&op, &factor, (onecclDataType_t)40, now, comm));
  EXPECT_ERROR(onecclInvalidArgument, "1, onecclScalarHostImmediate",
               onecclRedOpCreatePreMulSum(&op, &factor, onecclFloat, (onecclScalarResidence_t)2, comm));
  EXPECT_ERROR(onecclInvalidArgument, "built in", onecclRedOpDestroy(onecclMax, comm));
  EXPECT_ERROR(onecclInvalidArgument, "is none", onecclRedOpDestroy((onecclRedOp_t)123456, comm));
  CHECK(onecclRedOpCreatePreMulSum(&op, &factor, onecclFloat, now, comm));
  EXPECT_ERROR(onecclInvalidArgument, "made for datatype float", onecclAllReduce(in, out, 4, onecclInt, op, comm, NULL));
  CHECK(onecclRedOpDestroy(op, comm));
}

static void memory(void) {
  void *place = NULL;
  onecclWindow_t window = NULL;
  EXPECT_ERROR(onecclInvalidArgument, "did not come from onecclMemAlloc", onecclMemFree(buffer));
  EXPECT_ERROR(onecclInvalidArgument, "size 0", onecclCommRegister(comm, buffer, 0, &place));
  EXPECT_ERROR(onecclInvalidArgument, "from onecclCommRegister", onecclCommDeregister(comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "ONECCL_WINDOW_COLL_SYMMETRIC, which is 1",
               onecclCommWindowRegister(comm, buffer, 8, &window, (onecclWindowFlags_t)4));
  EXPECT_ERROR(onecclInvalidArgument, "from onecclCommWindowRegister", onecclCommWindowDeregister(comm, NULL));
}

static void groups(void) {
  EXPECT_ERROR(onecclInvalidUsage, "onecclGroupEnd without onecclGroupStart", onecclGroupEnd());
  CHECK(onecclGroupStart());
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclAllReduce(NULL, out, 4, onecclFloat, onecclSum, comm, NULL));
  EXPECT_ERROR(onecclInvalidArgument, "sendbuff is NULL", onecclGroupEnd());
  CHECK(onecclGroupStart());
  EXPECT_ERROR(onecclInvalidArgument, "stream is not NULL", onecclSend(in, 4, onecclFloat, 0, comm, QUEUE));
  EXPECT_ERROR(onecclInvalidArgument, "stream is not NULL", onecclGroupEnd());
}

int main(void) {
  onecclUniqueId id;
  CHECK(onecclGetUniqueId(&id));
  CHECK(onecclCommInitRank(&comm, 1, id, 0));
  making();
  asking();
  collectives();
  queues();
  operations();
  memory();
  groups();
  CHECK(onecclCommDestroy(comm));
  return 0;
}
