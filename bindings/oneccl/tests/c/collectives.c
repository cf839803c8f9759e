/* Collectives, messages, groups, reductions of one's own and memory, between `argv[1]` processes, as a program that was
 * written against oneCCL's documentation makes them. */
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

static void reductions(onecclComm_t comm, int rank, int ranks) {
  const struct {
    onecclRedOp_t op;
    int64_t wanted;
  } ops[] = {
      {onecclSum, ranks * (ranks + 1) / 2},
      {onecclProd, ranks == 2 ? 2 : 24},
      {onecclMax, ranks},
      {onecclMin, 1},
      {onecclAvg, (ranks + 1) / 2},
  };
  static int64_t in[MOST * COUNT], sum[COUNT], part[COUNT];
  for (size_t which = 0; which < sizeof ops / sizeof *ops; which++) {
    for (int i = 0; i < ranks * COUNT; i++) in[i] = rank + 1;
    CHECK(onecclAllReduce(in, sum, COUNT, onecclInt64, ops[which].op, comm, NULL));
    for (int i = 0; i < COUNT; i++) EXPECT(sum[i] == ops[which].wanted);
    memset(sum, 0, sizeof sum);
    CHECK(onecclReduce(in, rank == ranks - 1 ? sum : NULL, COUNT, onecclInt64, ops[which].op, ranks - 1, comm, NULL));
    for (int i = 0; i < COUNT; i++) EXPECT(sum[i] == (rank == ranks - 1 ? ops[which].wanted : 0));
    CHECK(onecclReduceScatter(in, part, COUNT, onecclInt64, ops[which].op, comm, NULL));
    for (int i = 0; i < COUNT; i++) EXPECT(part[i] == ops[which].wanted);
    CHECK(onecclAllReduce(in, in, COUNT, onecclInt64, ops[which].op, comm, NULL));
    for (int i = 0; i < COUNT; i++) EXPECT(in[i] == ops[which].wanted);
  }
}

/* Every type that oneCCL has; values that all of them hold. */
static void types(onecclComm_t comm, int rank, int ranks) {
  static double in[COUNT], out[COUNT];
  const struct {
    onecclDataType_t type;
    int size;
    /* 1 and 2 in the first rank's bytes: an element of each, and what their sum is. */
    unsigned char one[8], two[8];
  } all[] = {
      {onecclInt8, 1, {1}, {2}},
      {onecclUint8, 1, {1}, {2}},
      {onecclInt32, 4, {1}, {2}},
      {onecclUint32, 4, {1}, {2}},
      {onecclInt64, 8, {1}, {2}},
      {onecclUint64, 8, {1}, {2}},
      {onecclFloat16, 2, {0, 0x3c}, {0, 0x40}},
      {onecclFloat32, 4, {0, 0, 0x80, 0x3f}, {0, 0, 0, 0x40}},
      {onecclFloat64, 8, {0, 0, 0, 0, 0, 0, 0xf0, 0x3f}, {0, 0, 0, 0, 0, 0, 0, 0x40}},
      {onecclBfloat16, 2, {0x80, 0x3f}, {0, 0x40}},
  };
  for (size_t which = 0; which < sizeof all / sizeof *all; which++) {
    for (int i = 0; i < COUNT; i++) memcpy((char *)in + i * all[which].size, all[which].one, all[which].size);
    /* One is added to itself by the first two ranks; the others have nothing. */
    if (rank >= 2) memset(in, 0, sizeof in);
    CHECK(onecclAllReduce(in, out, COUNT, all[which].type, onecclSum, comm, NULL));
    for (int i = 0; i < COUNT; i++) EXPECT(memcmp((char *)out + i * all[which].size, all[which].two, all[which].size) == 0);
  }
  (void)ranks;
}

static void moves(onecclComm_t comm, int rank, int ranks) {
  const int root = ranks - 1;
  fill(rank, ranks);
  CHECK(onecclAllGather(send_buffer, receive_buffer, COUNT, onecclInt, comm, NULL));
  for (int i = 0; i < ranks * COUNT; i++) EXPECT(receive_buffer[i] == mark(i / COUNT, 0, i % COUNT));
  CHECK(onecclAllToAll(send_buffer, receive_buffer, COUNT, onecclInt, comm, NULL));
  for (int i = 0; i < ranks * COUNT; i++) EXPECT(receive_buffer[i] == mark(i / COUNT, rank, i % COUNT));
  CHECK(onecclBroadcast(rank == root ? send_buffer : NULL, receive_buffer, COUNT, onecclInt, root, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(receive_buffer[i] == mark(root, 0, i));
  CHECK(onecclScatter(rank == root ? send_buffer : NULL, receive_buffer, COUNT, onecclInt, root, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(receive_buffer[i] == mark(root, rank, i));
  /* Rank r has r + t + 1 elements for rank t, one block behind the other. */
  size_t sent[MOST], received[MOST];
  int *send = send_buffer, *receive = receive_buffer;
  for (int peer = 0; peer < ranks; peer++) {
    sent[peer] = received[peer] = rank + peer + 1;
    for (size_t i = 0; i < sent[peer]; i++) *send++ = mark(rank, peer, i);
  }
  CHECK(onecclAllToAllV(send_buffer, sent, receive_buffer, received, onecclInt, comm, NULL));
  for (int peer = 0; peer < ranks; peer++)
    for (size_t i = 0; i < received[peer]; i++) EXPECT(*receive++ == mark(peer, rank, i));
  /* Nothing is something too. */
  CHECK(onecclAllGather(NULL, NULL, 0, onecclInt, comm, NULL));
}

/* All ranks with all, by messages of one group. */
static void messages(onecclComm_t comm, int rank, int ranks) {
  fill(rank, ranks);
  CHECK(onecclGroupStart());
  for (int peer = 0; peer < ranks; peer++) {
    CHECK(onecclSend(send_buffer + peer * COUNT, COUNT, onecclInt, peer, comm, NULL));
    CHECK(onecclRecv(receive_buffer + peer * COUNT, COUNT, onecclInt, peer, comm, NULL));
  }
  CHECK(onecclGroupEnd());
  for (int i = 0; i < ranks * COUNT; i++) EXPECT(receive_buffer[i] == mark(i / COUNT, rank, i % COUNT));
  /* And around, without a group. */
  if (rank == 0) CHECK(onecclSend(send_buffer, COUNT, onecclInt, 1, comm, NULL));
  if (rank == 1) {
    CHECK(onecclRecv(receive_buffer, COUNT, onecclInt, 0, comm, NULL));
    for (int i = 0; i < COUNT; i++) EXPECT(receive_buffer[i] == mark(0, 0, i));
  }
}

static void pre_multiplied(onecclComm_t comm, int rank, int ranks) {
  static double values[COUNT], sums[COUNT];
  double factor = rank + 1;
  onecclRedOp_t now, later;
  CHECK(onecclRedOpCreatePreMulSum(&now, &factor, onecclDouble, onecclScalarHostImmediate, comm));
  CHECK(onecclRedOpCreatePreMulSum(&later, &factor, onecclDouble, onecclScalarDevice, comm));
  EXPECT(now >= onecclNumOps && later >= onecclNumOps && now != later);
  factor = 10;
  for (int i = 0; i < COUNT; i++) values[i] = i;
  CHECK(onecclAllReduce(values, sums, COUNT, onecclDouble, now, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(sums[i] == (double)i * (ranks * (ranks + 1) / 2));
  CHECK(onecclAllReduce(values, sums, COUNT, onecclDouble, later, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(sums[i] == (double)i * 10 * ranks);
  CHECK(onecclRedOpDestroy(now, comm));
  CHECK(onecclRedOpDestroy(later, comm));
}

static void registered(onecclComm_t comm, int rank, int ranks) {
  enum { LONG = 1 << 18 };
  int *mine, *theirs;
  void *handle;
  onecclWindow_t window;
  CHECK(onecclMemAlloc((void **)&mine, LONG * sizeof(int)));
  CHECK(onecclMemAlloc((void **)&theirs, LONG * sizeof(int)));
  EXPECT((uintptr_t)mine % 4096 == 0);
  CHECK(onecclCommRegister(comm, mine, LONG * sizeof(int), &handle));
  CHECK(onecclCommWindowRegister(comm, theirs, LONG * sizeof(int), &window, ONECCL_WINDOW_COLL_SYMMETRIC));
  for (int i = 0; i < LONG; i++) mine[i] = rank + i;
  CHECK(onecclAllReduce(mine, theirs, LONG, onecclInt, onecclMax, comm, NULL));
  for (int i = 0; i < LONG; i++) EXPECT(theirs[i] == ranks - 1 + i);
  CHECK(onecclCommWindowDeregister(comm, window));
  CHECK(onecclCommDeregister(comm, handle));
  CHECK(onecclMemFree(theirs));
  CHECK(onecclMemFree(mine));
}

static void body(meeting_t *meeting, int rank, int ranks) {
  onecclComm_t comm = meet(meeting, rank, ranks);
  reductions(comm, rank, ranks);
  types(comm, rank, ranks);
  moves(comm, rank, ranks);
  messages(comm, rank, ranks);
  pre_multiplied(comm, rank, ranks);
  registered(comm, rank, ranks);
  CHECK(onecclCommDestroy(comm));
}

int main(int argc, char **argv) {
  return run_ranks(argument(argc, argv, 2), body);
}
