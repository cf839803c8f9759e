/* Communicators that end otherwise than in order: aborted, revoked, with calls that do not match, with a peer that dies; and
 * settings that cannot be. */
#include "ranks.h"

static ncclResult_t barrier(ncclComm_t comm) {
  int value = 0;
  return ncclAllReduce(&value, &value, 1, ncclInt, ncclSum, comm, NULL);
}

/* Nobody else comes: the abort must not wait for them. */
static void abort_while_meeting(meeting_t *meeting, int rank, int ranks) {
  (void)ranks;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = NULL;
  ncclResult_t state;
  EXPECT_RESULT(ncclInProgress, ncclCommInitRankConfig(&comm, 2, meeting_id(meeting, rank), rank, &config));
  CHECK(ncclCommGetAsyncError(comm, &state));
  EXPECT_RESULT(ncclInProgress, state);
  CHECK(ncclCommAbort(comm));
}

/* Rank 0 aborts; the others wait for it in a call that it does not make. */
static void aborted(meeting_t *meeting, int rank, int ranks) {
  ncclComm_t comm = meet(meeting, rank, ranks);
  ncclResult_t state, result;
  if (rank == 0) {
    CHECK(barrier(comm));
    CHECK(ncclCommAbort(comm));
    return;
  }
  do result = barrier(comm);
  while (result == ncclSuccess);
  EXPECT_RESULT(ncclRemoteError, result);
  EXPECT(strstr(ncclGetLastError(NULL), "rank 0") != NULL);
  CHECK(ncclCommGetAsyncError(comm, &state));
  EXPECT_RESULT(ncclRemoteError, state);
  EXPECT(strstr(ncclGetLastError(comm), "abort") != NULL);
  EXPECT_RESULT(ncclRemoteError, ncclCommDestroy(comm));
}

/* All ranks give up, and go on without the last. */
static void revoked(meeting_t *meeting, int rank, int ranks) {
  ncclComm_t comm = meet(meeting, rank, ranks), rest = NULL;
  ncclResult_t state, result = barrier(comm);
  int last = ranks - 1;
  /* Others may have given up before this one was through. */
  EXPECT(result == ncclSuccess || result == ncclRemoteError);
  CHECK(ncclCommRevoke(comm, NCCL_REVOKE_DEFAULT));
  CHECK(ncclCommGetAsyncError(comm, &state));
  EXPECT_RESULT(ncclSuccess, state);
  EXPECT_ERROR(ncclInvalidUsage, "only ncclCommShrink and ncclCommDestroy may follow", barrier(comm));
  EXPECT_ERROR(ncclInvalidArgument, "revoked before", ncclCommRevoke(comm, NCCL_REVOKE_DEFAULT));
  EXPECT_ERROR(ncclInvalidArgument, "cannot be finalized", ncclCommFinalize(comm));
  if (rank < last) {
    CHECK(ncclCommShrink(comm, &last, 1, &rest, NULL, NCCL_SHRINK_DEFAULT));
    CHECK(barrier(rest));
    CHECK(ncclCommDestroy(rest));
  }
  CHECK(ncclCommDestroy(comm));
}

static void mismatch(meeting_t *meeting, int rank, int ranks) {
  static float values[8];
  ncclComm_t comm = meet(meeting, rank, ranks);
  EXPECT_ERROR(ncclInvalidUsage, "all-reduce",
               ncclAllReduce(values, values, rank == 0 ? 4 : 8, ncclFloat, ncclSum, comm, NULL));
  const char *text = ncclGetLastError(NULL);
  EXPECT(strstr(text, "4 float") != NULL && strstr(text, "8 float") != NULL);
  CHECK(ncclCommAbort(comm));
}

static void dead_peer(meeting_t *meeting, int rank, int ranks) {
  ncclComm_t comm = meet(meeting, rank, ranks), rest = NULL;
  int last = ranks - 1;
  if (rank == last) {
    CHECK(barrier(comm));
    _exit(0);
  }
  ncclResult_t result;
  do result = barrier(comm);
  while (result == ncclSuccess);
  EXPECT_RESULT(ncclRemoteError, result);
  CHECK(ncclCommShrink(comm, &last, 1, &rest, NULL, NCCL_SHRINK_ABORT));
  CHECK(barrier(rest));
  CHECK(ncclCommDestroy(rest));
  CHECK(ncclCommAbort(comm));
}

static void missing_rank(meeting_t *meeting, int rank, int ranks) {
  (void)ranks;
  ncclComm_t comm = (ncclComm_t)(void *)meeting;
  setenv("DURE_TIMEOUT", "300ms", 1);
  EXPECT_ERROR(ncclTimeout, "rank 1 never came", ncclCommInitRank(&comm, 2, meeting_id(meeting, rank), rank));
  EXPECT(comm == NULL);
}

static void bad_environment(meeting_t *meeting, int rank, int ranks) {
  (void)meeting, (void)rank, (void)ranks;
  ncclUniqueId id;
  ncclComm_t comm;
  setenv("NCCL_ALGO", "rnig", 1);
  EXPECT_ERROR(ncclInvalidArgument, "NCCL_ALGO=\"rnig\"", ncclGetUniqueId(&id));
  unsetenv("NCCL_ALGO");
  /* It is read once. */
  EXPECT_ERROR(ncclInvalidArgument, "NCCL_ALGO=\"rnig\"", ncclCommInitAll(&comm, 1, NULL));
}

int main(void) {
  struct {
    const char *name;
    int ranks;
    void (*body)(meeting_t *, int, int);
  } tests[] = {
      {"abort while meeting", 1, abort_while_meeting}, {"aborted", 3, aborted},
      {"revoked", 3, revoked},                         {"mismatch", 2, mismatch},
      {"dead peer", 3, dead_peer},                     {"missing rank", 1, missing_rank},
      {"bad environment", 1, bad_environment},
  };
  int failed = 0;
  for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
    if (run_ranks(tests[i].ranks, tests[i].body)) {
      fprintf(stderr, "failed: %s\n", tests[i].name);
      failed = 1;
    }
  return failed;
}
