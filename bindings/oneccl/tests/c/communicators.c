/* Communicators of every origin, between `argv[1]` processes: with settings, split, in groups, several ranks in one process. */
#include "ranks.h"

#include <pthread.h>

enum { MOST = 4 };

static void expect_members(onecclComm_t comm, int rank, int ranks) {
  int me, count, device, sum = 1;
  CHECK(onecclCommUserRank(comm, &me));
  CHECK(onecclCommCount(comm, &count));
  CHECK(onecclCommDevice(comm, &device));
  EXPECT(me == rank && count == ranks && device == -1);
  CHECK(onecclAllReduce(&sum, &sum, 1, onecclInt, onecclSum, comm, NULL));
  EXPECT(sum == ranks);
}

static void made(meeting_t *meeting, int rank, int ranks) {
  onecclConfig_t config = ONECCL_CONFIG_INITIALIZER;
  onecclComm_t comm = NULL, half = NULL, reversed = NULL, some = (onecclComm_t)(void *)&config;
  config.blocking = 1;
  CHECK(onecclCommInitRankConfig(&comm, ranks, meeting_id(meeting, rank), rank, &config));
  expect_members(comm, rank, ranks);
  CHECK(onecclCommSplit(comm, rank % 2, rank, &half, &config));
  expect_members(half, rank / 2, (ranks + 1 - rank % 2) / 2);
  CHECK(onecclCommSplit(comm, 7, -rank, &reversed, NULL));
  expect_members(reversed, ranks - 1 - rank, ranks);
  CHECK(onecclCommSplit(comm, rank == 0 ? 3 : ONECCL_SPLIT_NOCOLOR, 0, &some, NULL));
  EXPECT((some == NULL) == (rank != 0));
  if (rank == 0) {
    expect_members(some, 0, 1);
    CHECK(onecclCommDestroy(some));
  }
  CHECK(onecclCommDestroy(half));
  CHECK(onecclCommDestroy(reversed));
  CHECK(onecclCommDestroy(comm));
}

/* One thread acts for all ranks: what makes communicators, and what uses them, is in groups. */
static void one_thread(meeting_t *meeting, int rank, int ranks) {
  (void)meeting, (void)rank, (void)ranks;
  onecclUniqueId id;
  onecclComm_t comms[MOST], halves[MOST];
  int values[MOST];
  CHECK(onecclGetUniqueId(&id));
  CHECK(onecclGroupStart());
  for (int each = 0; each < MOST; each++) CHECK(onecclCommInitRank(&comms[each], MOST, id, each));
  EXPECT_ERROR(onecclInvalidUsage, "call onecclGroupEnd first", onecclCommDestroy(comms[0]));
  EXPECT_ERROR(onecclInvalidUsage, "call onecclGroupEnd first", onecclGroupEnd());
  /* The group has failed as a whole, and left communicators that are none. */
  for (int each = 0; each < MOST; each++) {
    EXPECT_ERROR(onecclInvalidArgument, "comm is NULL", onecclBroadcast(values, values, 1, onecclInt, 0, comms[each], NULL));
    CHECK(onecclCommDestroy(comms[each]));
  }
  CHECK(onecclGroupStart());
  for (int each = 0; each < MOST; each++) CHECK(onecclCommInitRank(&comms[each], MOST, id, each));
  CHECK(onecclGroupEnd());
  CHECK(onecclGroupStart());
  for (int each = 0; each < MOST; each++)
    CHECK(onecclCommSplit(comms[each], each == 0 ? ONECCL_SPLIT_NOCOLOR : 1, 0, &halves[each], NULL));
  CHECK(onecclGroupEnd());
  EXPECT(halves[0] == NULL);
  CHECK(onecclGroupStart());
  for (int each = 0; each < MOST; each++) {
    values[each] = each;
    CHECK(onecclAllReduce(&values[each], &values[each], 1, onecclInt, onecclSum, comms[each], NULL));
  }
  CHECK(onecclGroupEnd());
  for (int each = 0; each < MOST; each++) EXPECT(values[each] == MOST * (MOST - 1) / 2);
  for (int each = 1; each < MOST; each++) CHECK(onecclCommDestroy(halves[each]));
  for (int each = 0; each < MOST; each++) CHECK(onecclCommDestroy(comms[each]));
}

typedef struct {
  pthread_t thread;
  int rank;
  meeting_t *meeting;
} member_t;

static void *member(void *argument) {
  const member_t *me = (const member_t *)argument;
  onecclComm_t comm = meet(me->meeting, me->rank, MOST);
  expect_members(comm, me->rank, MOST);
  CHECK(onecclCommDestroy(comm));
  return NULL;
}

/* A thread for each rank: oneCCL takes the plug-in anew in each. */
static void threads(meeting_t *meeting, int rank, int ranks) {
  (void)rank, (void)ranks;
  member_t members[MOST];
  for (int each = 0; each < MOST; each++) {
    members[each].rank = each;
    members[each].meeting = meeting;
    EXPECT(pthread_create(&members[each].thread, NULL, member, &members[each]) == 0);
  }
  for (int each = 0; each < MOST; each++) EXPECT(pthread_join(members[each].thread, NULL) == 0);
}

int main(int argc, char **argv) {
  return run_ranks(argument(argc, argv, 2), made) || run_ranks(1, one_thread) || run_ranks(1, threads);
}
