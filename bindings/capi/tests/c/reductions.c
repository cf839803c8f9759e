/* Reductions of one's own, and streams: pre-multiplied sums, functions, calls that nobody waits for. */
#include "ranks.h"

enum { COUNT = 5000 };

static void pre_multiplied(dureComm_t comm, int rank, int ranks) {
  static double values[COUNT], sums[COUNT];
  static uint8_t bytes[COUNT];
  double factor = rank + 1;
  uint8_t two = 2;
  dureRedOp_t now, later, integers;
  CHECK(dureRedOpCreatePreMulSum(&now, &factor, dureDouble, dureScalarHostImmediate, comm));
  CHECK(dureRedOpCreatePreMulSum(&later, &factor, dureDouble, dureScalarDevice, comm));
  CHECK(dureRedOpCreatePreMulSum(&integers, &two, dureUint8, dureScalarHostImmediate, comm));
  EXPECT(now >= dureNumOps && later > now);
  factor = 10;
  for (int i = 0; i < COUNT; i++) values[i] = i;
  CHECK(dureAllReduce(values, sums, COUNT, dureDouble, now, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(sums[i] == (double)i * (ranks * (ranks + 1) / 2));
  CHECK(dureAllReduce(values, sums, COUNT, dureDouble, later, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(sums[i] == (double)i * 10 * ranks);
  for (int i = 0; i < COUNT; i++) EXPECT(values[i] == i);
  for (int i = 0; i < COUNT; i++) bytes[i] = (uint8_t)i;
  CHECK(dureAllReduce(bytes, bytes, COUNT, dureUint8, integers, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(bytes[i] == (uint8_t)(i * 2 * ranks));
  CHECK(dureRedOpDestroy(now, comm));
  CHECK(dureRedOpDestroy(later, comm));
  CHECK(dureRedOpDestroy(integers, comm));
}

/* The one with the larger absolute value wins; counts the elements that it saw. */
static void larger(const void *in, void *inout, size_t count, dureDataType_t datatype, void *user) {
  EXPECT(datatype == dureInt);
  EXPECT((uintptr_t)in % sizeof(int) == 0 && (uintptr_t)inout % sizeof(int) == 0);
  const int *theirs = (const int *)in;
  int *ours = (int *)inout;
  for (size_t i = 0; i < count; i++)
    if (abs(theirs[i]) > abs(ours[i])) ours[i] = theirs[i];
  __atomic_fetch_add((size_t *)user, count, __ATOMIC_RELAXED);
}

static void custom(dureComm_t comm, int rank, int ranks) {
  /* Unaligned on purpose. */
  static char room[COUNT * sizeof(int) + 1];
  size_t seen = 0;
  dureRedOp_t op;
  CHECK(dureRedOpCreateCustom(&op, larger, &seen, comm));
  for (int i = 0; i < COUNT; i++) {
    int value = rank % 2 ? -(rank + i) : rank + i;
    memcpy(room + 1 + (size_t)i * sizeof value, &value, sizeof value);
  }
  CHECK(dureAllReduce(room + 1, room + 1, COUNT, dureInt, op, comm, NULL));
  for (int i = 0; i < COUNT; i++) {
    int value, last = ranks - 1;
    memcpy(&value, room + 1 + (size_t)i * sizeof value, sizeof value);
    EXPECT(value == (last % 2 ? -(last + i) : last + i));
  }
  EXPECT(ranks == 1 || seen > 0);
  CHECK(dureRedOpDestroy(op, comm));
}

static void streams(dureComm_t comm, int rank, int ranks) {
  enum { CALLS = 20 };
  static int values[COUNT], other[COUNT];
  dureStream_t stream, second;
  dureComm_t copy;
  CHECK(dureCommDup(comm, &copy));
  CHECK(dureStreamCreate(&stream));
  CHECK(dureStreamCreate(&second));
  for (int i = 0; i < COUNT; i++) values[i] = 1, other[i] = rank;
  /* Each call uses what the one before it wrote, on alternating communicators. */
  for (int call = 0; call < CALLS; call++)
    CHECK(dureAllReduce(values, values, COUNT, dureInt, dureBitOr, call % 2 ? copy : comm, stream));
  CHECK(dureGroupStart());
  CHECK(dureSend(&rank, 1, dureInt, (rank + 1) % ranks, copy, stream));
  CHECK(dureRecv(other, 1, dureInt, (rank + ranks - 1) % ranks, copy, stream));
  CHECK(dureGroupEnd());
  CHECK(dureStreamSynchronize(stream));
  CHECK(dureStreamQuery(stream));
  EXPECT(other[0] == (rank + ranks - 1) % ranks);
  for (int i = 0; i < COUNT; i++) EXPECT(values[i] == 1);
  CHECK(dureAllReduce(values, values, COUNT, dureInt, dureSum, comm, second));
  dureResult_t result;
  while ((result = dureStreamQuery(second)) == dureInProgress) usleep(100);
  EXPECT_RESULT(dureSuccess, result);
  for (int i = 0; i < COUNT; i++) EXPECT(values[i] == ranks);
  CHECK(dureStreamDestroy(stream));
  CHECK(dureStreamDestroy(second));
  CHECK(dureCommDestroy(copy));
}

static void registered(dureComm_t comm, int rank, int ranks) {
  enum { LONG = 1 << 18 };
  int *mine, *theirs;
  void *handle;
  dureWindow_t window;
  CHECK(dureCommMemAlloc(comm, (void **)&mine, LONG * sizeof(int)));
  CHECK(dureMemAlloc((void **)&theirs, LONG * sizeof(int)));
  CHECK(dureCommRegister(comm, theirs, LONG * sizeof(int), &handle));
  CHECK(dureCommWindowRegister(comm, theirs, LONG * sizeof(int), &window, DURE_WIN_COLL_SYMMETRIC));
  for (int i = 0; i < LONG; i++) mine[i] = rank + i;
  CHECK(dureAllReduce(mine, theirs, LONG, dureInt, dureMax, comm, NULL));
  for (int i = 0; i < LONG; i++) EXPECT(theirs[i] == ranks - 1 + i);
  CHECK(dureBcast(mine, LONG, dureInt, ranks - 1, comm, NULL));
  for (int i = 0; i < LONG; i++) EXPECT(mine[i] == ranks - 1 + i);
  CHECK(dureCommWindowDeregister(comm, window));
  CHECK(dureCommDeregister(comm, handle));
  CHECK(dureMemFree(theirs));
  CHECK(dureCommMemFree(comm, mine));
}

static void body(meeting_t *meeting, int rank, int ranks) {
  dureComm_t comm = meet(meeting, rank, ranks);
  pre_multiplied(comm, rank, ranks);
  custom(comm, rank, ranks);
  streams(comm, rank, ranks);
  registered(comm, rank, ranks);
  CHECK(dureCommDestroy(comm));
}

int main(int argc, char **argv) {
  return run_ranks(argument(argc, argv, 2), body);
}
