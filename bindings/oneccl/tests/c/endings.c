/* Communicators that end otherwise than in order: finalized, aborted, with calls that do not match, with a rank that is
 * killed; and settings that cannot be. */
#include "ranks.h"

#include <pthread.h>

static onecclResult_t barrier(onecclComm_t comm) {
  int value = 0;
  return onecclAllReduce(&value, &value, 1, onecclInt, onecclSum, comm, NULL);
}

static void finalized(meeting_t *meeting, int rank, int ranks) {
  onecclComm_t comm = meet(meeting, rank, ranks);
  onecclResult_t state = onecclError;
  CHECK(barrier(comm));
  CHECK(dureOnecclCommGetAsyncError(comm, &state));
  EXPECT_RESULT(onecclSuccess, state);
  /* Through oneCCL, or past it. */
  CHECK(rank == 0 ? onecclCommFinalize(comm) : dureOnecclCommFinalize(comm));
  EXPECT_ERROR(onecclInvalidUsage, "only onecclCommDestroy may follow", barrier(comm));
  CHECK(onecclCommDestroy(comm));
}

/* Rank 0 aborts; the others wait for it in a call that it does not make. */
static void aborted(meeting_t *meeting, int rank, int ranks) {
  onecclComm_t comm = meet(meeting, rank, ranks);
  onecclResult_t state, result;
  if (rank == 0) {
    CHECK(barrier(comm));
    CHECK(dureOnecclCommAbort(comm));
    EXPECT_ERROR(onecclInvalidUsage, "only onecclCommDestroy may follow", barrier(comm));
    EXPECT_ERROR(onecclInvalidArgument, "aborted or revoked before", dureOnecclCommAbort(comm));
    EXPECT_ERROR(onecclInvalidArgument, "cannot be finalized", dureOnecclCommFinalize(comm));
    CHECK(onecclCommDestroy(comm));
    return;
  }
  do result = barrier(comm);
  while (result == onecclSuccess);
  EXPECT_RESULT(onecclError, result);
  EXPECT(strstr(onecclGetLastError(comm), "rank 0") != NULL);
  CHECK(dureOnecclCommGetAsyncError(comm, &state));
  EXPECT_RESULT(onecclError, state);
  EXPECT(strstr(dureOnecclGetLastError(comm), "abort") != NULL);
  EXPECT_RESULT(onecclError, onecclCommDestroy(comm));
}

static void *abort_it(void *comm) {
  usleep(20000);
  CHECK(dureOnecclCommAbort((onecclComm_t)comm));
  return NULL;
}

/* A thread ends the call in which another one waits for a rank that does not come. */
static void aborted_while_waiting(meeting_t *meeting, int rank, int ranks) {
  onecclComm_t comm = meet(meeting, rank, ranks);
  pthread_t thread;
  if (rank == 0) {
    EXPECT(pthread_create(&thread, NULL, abort_it, comm) == 0);
    EXPECT_RESULT(onecclError, barrier(comm));
    EXPECT(pthread_join(thread, NULL) == 0);
    CHECK(onecclCommDestroy(comm));
    return;
  }
  onecclResult_t state = onecclSuccess;
  while (state == onecclSuccess) {
    CHECK(dureOnecclCommGetAsyncError(comm, &state));
    usleep(1000);
  }
  EXPECT_RESULT(onecclError, state);
}

static void mismatch(meeting_t *meeting, int rank, int ranks) {
  static float values[8];
  onecclComm_t comm = meet(meeting, rank, ranks);
  EXPECT_ERROR(onecclInvalidUsage, "all-reduce",
               onecclAllReduce(values, values, rank == 0 ? 4 : 8, onecclFloat, onecclSum, comm, NULL));
  const char *text = dureOnecclGetLastError(NULL);
  EXPECT(strstr(text, "4 float") != NULL && strstr(text, "8 float") != NULL);
  CHECK(dureOnecclCommAbort(comm));
}

/* The last rank is killed, in a process below the one that is waited for. */
static void killed(meeting_t *meeting, int rank, int ranks) {
  if (rank == ranks - 1) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
      onecclComm_t comm = meet(meeting, rank, ranks);
      CHECK(barrier(comm));
      raise(SIGKILL);
    }
    EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return;
  }
  onecclComm_t comm = meet(meeting, rank, ranks);
  onecclResult_t result, state;
  do result = barrier(comm);
  while (result == onecclSuccess);
  EXPECT_RESULT(onecclError, result);
  CHECK(dureOnecclCommGetAsyncError(comm, &state));
  EXPECT_RESULT(onecclError, state);
  EXPECT(strstr(dureOnecclGetLastError(comm), "rank 2") != NULL);
  EXPECT_RESULT(onecclError, onecclCommDestroy(comm));
}

static void missing_rank(meeting_t *meeting, int rank, int ranks) {
  (void)ranks;
  onecclComm_t comm = NULL;
  setenv("DURE_TIMEOUT", "300ms", 1);
  EXPECT_UNMADE(onecclError, "rank 1 never came", onecclCommInitRank(&comm, 2, meeting_id(meeting, rank), rank));
  EXPECT(comm == NULL);
}

static void bad_environment(meeting_t *meeting, int rank, int ranks) {
  (void)meeting, (void)rank, (void)ranks;
  onecclUniqueId id;
  setenv("DURE_ALGO", "rnig", 1);
  EXPECT_ERROR(onecclInvalidArgument, "DURE_ALGO", onecclGetUniqueId(&id));
}

int main(void) {
  struct {
    const char *name;
    int ranks;
    void (*body)(meeting_t *, int, int);
  } tests[] = {
      {"finalized", 3, finalized}, {"aborted", 3, aborted},           {"aborted while waiting", 2, aborted_while_waiting},
      {"mismatch", 2, mismatch},   {"killed", 3, killed},             {"missing rank", 1, missing_rank},
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
