/* Groups, and several ranks in one thread: messages of all with all, communicators that one thread makes for every rank,
 * split, shrink and duplicate. */
#include "ranks.h"

enum { COUNT = 1000, MOST = 4 };

/* Every rank sends to every rank, itself too, and reduces, as one group. */
static void exchange(dureComm_t comm, int rank, int ranks) {
  static int out[MOST][COUNT], in[MOST][COUNT], sum[COUNT];
  for (int peer = 0; peer < ranks; peer++)
    for (int i = 0; i < COUNT; i++) out[peer][i] = rank * 100 + peer * 10 + i;
  CHECK(dureGroupStart());
  for (int peer = 0; peer < ranks; peer++) {
    CHECK(dureSend(out[peer], COUNT, dureInt, peer, comm, NULL));
    CHECK(dureRecv(in[peer], COUNT, dureInt, peer, comm, NULL));
  }
  CHECK(dureGroupStart());
  CHECK(dureAllReduce(out[0], sum, COUNT, dureInt, dureMax, comm, NULL));
  CHECK(dureGroupEnd());
  CHECK(dureGroupEnd());
  for (int peer = 0; peer < ranks; peer++)
    for (int i = 0; i < COUNT; i++) EXPECT(in[peer][i] == peer * 100 + rank * 10 + i);
  for (int i = 0; i < COUNT; i++) EXPECT(sum[i] == (ranks - 1) * 100 + i);
}

static void expect_members(dureComm_t comm, int rank, int ranks) {
  int me, count, sum = 1;
  CHECK(dureCommUserRank(comm, &me));
  CHECK(dureCommCount(comm, &count));
  EXPECT(me == rank && count == ranks);
  CHECK(dureAllReduce(&sum, &sum, 1, dureInt, dureSum, comm, NULL));
  EXPECT(sum == ranks);
}

static void children(dureComm_t comm, int rank, int ranks) {
  dureComm_t half = NULL, reversed = NULL, some = (dureComm_t)(void *)&half, copy = NULL, rest = NULL;
  dureConfig_t config = DURE_CONFIG_INITIALIZER;
  config.lanes = 1;
  config.commName = "the half";
  CHECK(dureCommSplit(comm, rank % 2, rank, &half, &config));
  expect_members(half, rank / 2, (ranks + 1 - rank % 2) / 2);
  EXPECT_ERROR(dureInvalidArgument, "the half: root 99", dureBcast(&rank, 1, dureInt, 99, half, NULL));
  CHECK(dureCommSplit(comm, 7, -rank, &reversed, NULL));
  expect_members(reversed, ranks - 1 - rank, ranks);
  CHECK(dureCommSplit(comm, rank == 0 ? 3 : DURE_SPLIT_NOCOLOR, 0, &some, NULL));
  EXPECT((some == NULL) == (rank != 0));
  CHECK(dureCommDup(comm, &copy));
  expect_members(copy, rank, ranks);
  CHECK(dureCommDestroy(half));
  CHECK(dureCommDestroy(reversed));
  CHECK(dureCommDestroy(some));
  CHECK(dureCommDestroy(copy));
  if (ranks == 1) return;
  int last = ranks - 1;
  config.lanes = 2;
  EXPECT_ERROR(dureInvalidUsage, "keeps the settings", dureCommShrink(comm, &last, 1, &rest, &config, 0));
  if (rank < last) {
    CHECK(dureCommShrink(comm, &last, 1, &rest, NULL, DURE_SHRINK_DEFAULT));
    expect_members(rest, rank, ranks - 1);
    CHECK(dureCommDestroy(rest));
  }
}

static void body(meeting_t *meeting, int rank, int ranks) {
  dureComm_t comm = meet(meeting, rank, ranks);
  exchange(comm, rank, ranks);
  children(comm, rank, ranks);
  CHECK(dureCommDestroy(comm));
}

/* One thread acts for all ranks, as with NCCL for several devices. */
static void one_thread(dureComm_t *comms, int ranks) {
  static float in[MOST][COUNT], out[MOST][COUNT];
  dureComm_t halves[MOST];
  for (int rank = 0; rank < ranks; rank++)
    for (int i = 0; i < COUNT; i++) in[rank][i] = (float)(rank + i);
  CHECK(dureGroupStart());
  for (int rank = 0; rank < ranks; rank++)
    CHECK(dureAllReduce(in[rank], out[rank], COUNT, dureFloat, dureSum, comms[rank], NULL));
  CHECK(dureGroupEnd());
  for (int rank = 0; rank < ranks; rank++)
    for (int i = 0; i < COUNT; i++) EXPECT(out[rank][i] == (float)(ranks * i + ranks * (ranks - 1) / 2));
  CHECK(dureGroupStart());
  for (int rank = 0; rank < ranks; rank++) CHECK(dureCommSplit(comms[rank], rank % 2, 0, &halves[rank], NULL));
  EXPECT_ERROR(dureInvalidUsage, "call dureGroupEnd first", dureBarrier(halves[0], NULL));
  EXPECT_ERROR(dureInvalidUsage, "call dureGroupEnd first", dureGroupEnd());
  for (int rank = 0; rank < ranks; rank++) EXPECT(halves[rank] == NULL);
  CHECK(dureGroupStart());
  for (int rank = 0; rank < ranks; rank++) CHECK(dureCommSplit(comms[rank], rank % 2, 0, &halves[rank], NULL));
  CHECK(dureGroupEnd());
  CHECK(dureGroupStart());
  for (int rank = 0; rank < ranks; rank++) CHECK(dureBarrier(halves[rank], NULL));
  CHECK(dureGroupEnd());
  for (int rank = 0; rank < ranks; rank++) CHECK(dureCommDestroy(halves[rank]));
  for (int rank = 0; rank < ranks; rank++) CHECK(dureCommFinalize(comms[rank]));
  for (int rank = 0; rank < ranks; rank++) CHECK(dureCommDestroy(comms[rank]));
}

static void one_process(void) {
  dureComm_t comms[MOST] = {NULL};
  CHECK(dureCommInitAll(comms, MOST, NULL));
  one_thread(comms, MOST);
  dureUniqueId id;
  CHECK(dureGetUniqueId(&id));
  CHECK(dureGroupStart());
  for (int rank = 0; rank < 3; rank++) CHECK(dureCommInitRank(&comms[rank], 3, id, rank));
  CHECK(dureGroupEnd());
  one_thread(comms, 3);
}

static void alone(meeting_t *meeting, int rank, int ranks) {
  (void)meeting, (void)rank, (void)ranks;
  one_process();
}

int main(int argc, char **argv) {
  int ranks = argument(argc, argv, 2);
  return run_ranks(ranks, body) || run_ranks(1, alone);
}
