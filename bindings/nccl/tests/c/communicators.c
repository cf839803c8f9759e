/* Communicators of every origin, between `argv[1]` processes: blocking and not, in groups, split, shrunk, grown, revoked, all
 * ranks in one thread. */
#include "ranks.h"

enum { MOST = 4 };

static void expect_members(ncclComm_t comm, int rank, int ranks) {
  int me, count, sum = 1;
  CHECK(ncclCommUserRank(comm, &me));
  CHECK(ncclCommCount(comm, &count));
  EXPECT(me == rank && count == ranks);
  CHECK(ncclAllReduce(&sum, &sum, 1, ncclInt, ncclSum, comm, NULL));
  EXPECT(sum == ranks);
}

static void await(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) {
    CHECK(ncclCommGetAsyncError(comm, &state));
    usleep(1000);
  }
  EXPECT_RESULT(ncclSuccess, state);
}

static void made(meeting_t *meeting, int rank, int ranks) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  ncclUniqueId id = meeting_id(meeting, rank);
  ncclComm_t comm = NULL, half = NULL, reversed = NULL, some = (ncclComm_t)(void *)&config, rest = NULL;
  config.blocking = 0;
  EXPECT_RESULT(ncclInProgress, ncclCommInitRankConfig(&comm, ranks, id, rank, &config));
  await(comm);
  expect_members(comm, rank, ranks);

  config.blocking = 1;
  config.commName = "the half";
  CHECK(ncclCommSplit(comm, rank % 2, rank, &half, &config));
  expect_members(half, rank / 2, (ranks + 1 - rank % 2) / 2);
  EXPECT_ERROR(ncclInvalidArgument, "the half: root 99", ncclBcast(&rank, 1, ncclInt, 99, half, NULL));
  /* Without settings a child is as its parent: not blocking. */
  CHECK(ncclGroupStart());
  CHECK(ncclCommSplit(comm, 7, -rank, &reversed, NULL));
  EXPECT_RESULT(ncclInProgress, ncclGroupEnd());
  await(reversed);
  expect_members(reversed, ranks - 1 - rank, ranks);
  CHECK(ncclCommSplit(comm, rank == 0 ? 3 : NCCL_SPLIT_NOCOLOR, 0, &some, &config));
  EXPECT((some == NULL) == (rank != 0));
  CHECK(ncclCommDestroy(half));
  CHECK(ncclCommDestroy(reversed));
  CHECK(ncclCommDestroy(some));

  int last = ranks - 1;
  if (rank < last) {
    config.commName = "the rest";
    CHECK(ncclCommShrink(comm, &last, 1, &rest, &config, NCCL_SHRINK_DEFAULT));
    expect_members(rest, rank, ranks - 1);
    CHECK(ncclCommDestroy(rest));
  }
  CHECK(ncclCommDestroy(comm));
}

/* Where the id of the grown communicator is carried over; shared by all ranks. */
static meeting_t *growing;

/* The last rank comes later. */
static void grown(meeting_t *meeting, int rank, int ranks) {
  ncclComm_t comm = NULL, larger = NULL;
  const int before = ranks - 1;
  if (rank < before) {
    CHECK(ncclCommInitRank(&comm, before, meeting_id(meeting, rank), rank));
    if (rank == 0) {
      CHECK(ncclCommGetUniqueId(comm, &growing->id));
      __atomic_store_n(&growing->ready, 1, __ATOMIC_RELEASE);
    }
    CHECK(ncclCommGrow(comm, ranks, NULL, -1, &larger, NULL));
    CHECK(ncclCommDestroy(comm));
  } else {
    ncclUniqueId id = meeting_id(growing, rank);
    CHECK(ncclCommGrow(NULL, ranks, &id, rank, &larger, NULL));
  }
  expect_members(larger, rank, ranks);
  CHECK(ncclCommDestroy(larger));
}

/* One thread acts for all ranks, as with NCCL for several devices. */
static void one_thread(ncclComm_t *comms, int ranks) {
  int values[MOST], halves_values[MOST];
  ncclComm_t halves[MOST];
  for (int rank = 0; rank < ranks; rank++) values[rank] = rank, halves_values[rank] = 1;
  CHECK(ncclGroupStart());
  for (int rank = 0; rank < ranks; rank++)
    CHECK(ncclAllReduce(&values[rank], &values[rank], 1, ncclInt, ncclSum, comms[rank], NULL));
  CHECK(ncclGroupEnd());
  for (int rank = 0; rank < ranks; rank++) EXPECT(values[rank] == ranks * (ranks - 1) / 2);
  CHECK(ncclGroupStart());
  for (int rank = 0; rank < ranks; rank++) CHECK(ncclCommSplit(comms[rank], rank % 2, 0, &halves[rank], NULL));
  EXPECT_ERROR(ncclInvalidUsage, "call ncclGroupEnd first", ncclBcast(values, 1, ncclInt, 0, halves[0], NULL));
  EXPECT_ERROR(ncclInvalidUsage, "call ncclGroupEnd first", ncclGroupEnd());
  CHECK(ncclGroupStart());
  for (int rank = 0; rank < ranks; rank++) CHECK(ncclCommSplit(comms[rank], rank % 2, 0, &halves[rank], NULL));
  CHECK(ncclGroupEnd());
  CHECK(ncclGroupStart());
  for (int rank = 0; rank < ranks; rank++)
    CHECK(ncclAllReduce(&halves_values[rank], &halves_values[rank], 1, ncclInt, ncclSum, halves[rank], NULL));
  CHECK(ncclGroupEnd());
  for (int rank = 0; rank < ranks; rank++) EXPECT(halves_values[rank] == (ranks + 1 - rank % 2) / 2);
  for (int rank = 0; rank < ranks; rank++) CHECK(ncclCommDestroy(halves[rank]));
  for (int rank = 0; rank < ranks; rank++) CHECK(ncclCommDestroy(comms[rank]));
}

static void one_process(meeting_t *meeting, int rank, int ranks) {
  (void)meeting, (void)rank, (void)ranks;
  ncclComm_t comms[MOST] = {NULL}, larger[MOST] = {NULL};
  ncclUniqueId ids[2];
  CHECK(ncclCommInitAll(comms, MOST, (int[]){-1, -1, -1, -1}));
  one_thread(comms, MOST);
  CHECK(ncclGetUniqueId(&ids[0]));
  CHECK(ncclGetUniqueId(&ids[1]));
  CHECK(ncclGroupStart());
  for (int each = 0; each < 2; each++) CHECK(ncclCommInitRankScalable(&comms[each], 2, each, 2, ids, NULL));
  CHECK(ncclGroupEnd());
  CHECK(ncclCommGetUniqueId(comms[1], &ids[0]));
  CHECK(ncclGroupStart());
  for (int each = 0; each < 2; each++) CHECK(ncclCommGrow(comms[each], 3, NULL, -1, &larger[each], NULL));
  CHECK(ncclCommGrow(NULL, 3, &ids[0], 2, &larger[2], NULL));
  CHECK(ncclGroupEnd());
  one_thread(comms, 2);
  one_thread(larger, 3);
}

int main(int argc, char **argv) {
  int ranks = argument(argc, argv, 2);
  growing = new_meeting();
  return run_ranks(ranks, made) || run_ranks(ranks, grown) || run_ranks(1, one_process);
}
