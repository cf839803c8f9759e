/* Collectives, messages, groups, reductions of one's own and memory, between `argv[1]` processes, as a program that was
 * written against NCCL's documentation makes them. */
#include "ranks.h"

enum { COUNT = 5000, MOST = 4 };

/* What rank `rank` has for rank `to`. */
static int mark(int rank, int to, int i) {
  return rank * 1000 + to * 100 + i;
}

static int send_buffer[MOST * COUNT], receive_buffer[MOST * COUNT];

static void fill(int rank, int ranks) {
  for (int to = 0; to < ranks; to++)
    for (int i = 0; i < COUNT; i++) send_buffer[to * COUNT + i] = mark(rank, to, i);
  memset(receive_buffer, 0xff, sizeof receive_buffer);
}

static void reductions(ncclComm_t comm, int rank, int ranks) {
  const struct {
    ncclRedOp_t op;
    int64_t wanted;
  } ops[] = {
      {ncclSum, ranks * (ranks + 1) / 2},
      {ncclProd, ranks == 2 ? 2 : 24},
      {ncclMax, ranks},
      {ncclMin, 1},
      {ncclAvg, (ranks + 1) / 2},
  };
  static int64_t in[MOST * COUNT], sum[COUNT], part[COUNT];
  for (size_t which = 0; which < sizeof ops / sizeof *ops; which++) {
    for (int i = 0; i < ranks * COUNT; i++) in[i] = rank + 1;
    CHECK(ncclAllReduce(in, sum, COUNT, ncclInt64, ops[which].op, comm, NULL));
    for (int i = 0; i < COUNT; i++) EXPECT(sum[i] == ops[which].wanted);
    memset(sum, 0, sizeof sum);
    CHECK(ncclReduce(in, rank == ranks - 1 ? sum : NULL, COUNT, ncclInt64, ops[which].op, ranks - 1, comm, NULL));
    for (int i = 0; i < COUNT; i++) EXPECT(sum[i] == (rank == ranks - 1 ? ops[which].wanted : 0));
    CHECK(ncclReduceScatter(in, part, COUNT, ncclInt64, ops[which].op, comm, NULL));
    for (int i = 0; i < COUNT; i++) EXPECT(part[i] == ops[which].wanted);
    CHECK(ncclAllReduce(in, in, COUNT, ncclInt64, ops[which].op, comm, NULL));
    for (int i = 0; i < COUNT; i++) EXPECT(in[i] == ops[which].wanted);
  }
}

static void moves(ncclComm_t comm, int rank, int ranks) {
  const int root = ranks - 1;
  fill(rank, ranks);
  CHECK(ncclAllGather(send_buffer, receive_buffer, COUNT, ncclInt, comm, NULL));
  for (int i = 0; i < ranks * COUNT; i++) EXPECT(receive_buffer[i] == mark(i / COUNT, 0, i % COUNT));
  CHECK(ncclAlltoAll(send_buffer, receive_buffer, COUNT, ncclInt, comm, NULL));
  for (int i = 0; i < ranks * COUNT; i++) EXPECT(receive_buffer[i] == mark(i / COUNT, rank, i % COUNT));
  CHECK(ncclBroadcast(rank == root ? send_buffer : NULL, receive_buffer, COUNT, ncclInt, root, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(receive_buffer[i] == mark(root, 0, i));
  CHECK(ncclGather(send_buffer, rank == root ? receive_buffer : NULL, COUNT, ncclInt, root, comm, NULL));
  for (int i = 0; i < ranks * COUNT && rank == root; i++) EXPECT(receive_buffer[i] == mark(i / COUNT, 0, i % COUNT));
  CHECK(ncclScatter(rank == root ? send_buffer : NULL, receive_buffer, COUNT, ncclInt, root, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(receive_buffer[i] == mark(root, rank, i));
  CHECK(ncclBcast(send_buffer, COUNT, ncclInt, 0, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(send_buffer[i] == mark(0, 0, i));
}

/* All ranks with all, by messages of one group; under the names of the twins. */
static void messages(ncclComm_t comm, int rank, int ranks, cudaStream_t stream) {
  fill(rank, ranks);
  CHECK(pncclGroupStart());
  for (int peer = 0; peer < ranks; peer++) {
    CHECK(pncclSend(send_buffer + peer * COUNT, COUNT, ncclInt, peer, comm, stream));
    CHECK(pncclRecv(receive_buffer + peer * COUNT, COUNT, ncclInt, peer, comm, stream));
  }
  CHECK(pncclGroupEnd());
  CHECK(ncclDureStreamSynchronize(stream));
  for (int i = 0; i < ranks * COUNT; i++) EXPECT(receive_buffer[i] == mark(i / COUNT, rank, i % COUNT));
}

static void on_a_stream(ncclComm_t comm, int rank, int ranks) {
  cudaStream_t stream, other;
  int value = rank + 1;
  CHECK(ncclDureStreamCreate(&stream));
  CHECK(ncclDureStreamCreate(&other));
  messages(comm, rank, ranks, stream);
  /* Each call uses what the one before it wrote. */
  for (int call = 0; call < 10; call++) CHECK(ncclAllReduce(&value, &value, 1, ncclInt, ncclMax, comm, stream));
  CHECK(ncclAllReduce(&value, &value, 1, ncclInt, ncclSum, comm, stream));
  CHECK(ncclDureStreamSynchronize(stream));
  EXPECT(value == ranks * ranks);
  CHECK(ncclGroupStart());
  CHECK(ncclBcast(&value, 1, ncclInt, 0, comm, stream));
  EXPECT_ERROR(ncclInvalidUsage, "same stream", ncclBcast(&value, 1, ncclInt, 0, comm, other));
  EXPECT_ERROR(ncclInvalidUsage, "same stream", ncclGroupEnd());
  CHECK(ncclDureStreamDestroy(stream));
  CHECK(ncclDureStreamDestroy(other));
}

static void pre_multiplied(ncclComm_t comm, int rank, int ranks) {
  static double values[COUNT], sums[COUNT];
  double factor = rank + 1;
  ncclRedOp_t now, later;
  CHECK(ncclRedOpCreatePreMulSum(&now, &factor, ncclDouble, ncclScalarHostImmediate, comm));
  CHECK(ncclRedOpCreatePreMulSum(&later, &factor, ncclDouble, ncclScalarDevice, comm));
  EXPECT(now >= ncclNumOps && later >= ncclNumOps && now != later);
  factor = 10;
  for (int i = 0; i < COUNT; i++) values[i] = i;
  CHECK(ncclAllReduce(values, sums, COUNT, ncclDouble, now, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(sums[i] == (double)i * (ranks * (ranks + 1) / 2));
  CHECK(ncclAllReduce(values, sums, COUNT, ncclDouble, later, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(sums[i] == (double)i * 10 * ranks);
  CHECK(ncclRedOpDestroy(now, comm));
  CHECK(ncclRedOpDestroy(later, comm));
}

static void registered(ncclComm_t comm, int rank, int ranks) {
  enum { LONG = 1 << 18 };
  int *mine, *theirs;
  void *handle;
  ncclWindow_t window;
  CHECK(ncclMemAlloc((void **)&mine, LONG * sizeof(int)));
  CHECK(ncclMemAlloc((void **)&theirs, LONG * sizeof(int)));
  EXPECT((uintptr_t)mine % NCCL_WIN_REQUIRED_ALIGNMENT == 0);
  CHECK(ncclCommRegister(comm, mine, LONG * sizeof(int), &handle));
  CHECK(ncclCommWindowRegister(comm, theirs, LONG * sizeof(int), &window, NCCL_WIN_COLL_SYMMETRIC));
  for (int i = 0; i < LONG; i++) mine[i] = rank + i;
  CHECK(ncclAllReduce(mine, theirs, LONG, ncclInt, ncclMax, comm, NULL));
  for (int i = 0; i < LONG; i++) EXPECT(theirs[i] == ranks - 1 + i);
  CHECK(ncclCommWindowDeregister(comm, window));
  CHECK(ncclCommDeregister(comm, handle));
  CHECK(ncclMemFree(theirs));
  CHECK(ncclMemFree(mine));
}

static void body(meeting_t *meeting, int rank, int ranks) {
  ncclComm_t comm = meet(meeting, rank, ranks);
  reductions(comm, rank, ranks);
  moves(comm, rank, ranks);
  messages(comm, rank, ranks, NULL);
  on_a_stream(comm, rank, ranks);
  pre_multiplied(comm, rank, ranks);
  registered(comm, rank, ranks);
  CHECK(ncclCommFinalize(comm));
  CHECK(ncclCommDestroy(comm));
}

int main(int argc, char **argv) {
  return run_ranks(argument(argc, argv, 2), body);
}
