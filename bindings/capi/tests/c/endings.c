/* Communicators that begin or end otherwise than in order: non-blocking ones, aborted ones, calls that do not match, a
 * peer that dies, settings that cannot be. */
#include "ranks.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

static void *wait_in_barrier(void *comm) {
  return (void *)(intptr_t)dureBarrier((dureComm_t)comm, NULL);
}

static void non_blocking(meeting_t *meeting, int rank, int ranks) {
  dureConfig_t config = DURE_CONFIG_INITIALIZER;
  config.blocking = 0;
  dureComm_t comm = NULL, half = NULL;
  dureResult_t state = dureInProgress;
  EXPECT_RESULT(dureInProgress, dureCommInitRankConfig(&comm, ranks, meeting_id(meeting, rank), rank, &config));
  EXPECT(comm != NULL);
  while (state == dureInProgress) {
    CHECK(dureCommGetAsyncError(comm, &state));
    usleep(1000);
  }
  EXPECT_RESULT(dureSuccess, state);
  EXPECT_RESULT(dureInProgress, dureCommSplit(comm, 0, 0, &half, NULL));
  /* A call waits until it can be made. */
  CHECK(dureBarrier(half, NULL));
  CHECK(dureGroupStart());
  dureComm_t copy = NULL;
  CHECK(dureCommDup(comm, &copy));
  EXPECT_RESULT(dureInProgress, dureGroupEnd());
  CHECK(dureBarrier(copy, NULL));
  CHECK(dureCommDestroy(copy));
  CHECK(dureCommDestroy(half));
  CHECK(dureCommDestroy(comm));
}

/* Nobody else comes: the abort must not wait for them. */
static void abort_while_meeting(meeting_t *meeting, int rank, int ranks) {
  (void)ranks;
  dureConfig_t config = DURE_CONFIG_INITIALIZER;
  config.blocking = 0;
  dureComm_t comm = NULL;
  dureResult_t state;
  EXPECT_RESULT(dureInProgress, dureCommInitRankConfig(&comm, 2, meeting_id(meeting, rank), rank, &config));
  CHECK(dureCommGetAsyncError(comm, &state));
  EXPECT_RESULT(dureInProgress, state);
  EXPECT(strcmp(dureGetLastError(comm), "") == 0);
  CHECK(dureCommAbort(comm));
}

static void missing_rank(meeting_t *meeting, int rank, int ranks) {
  (void)ranks;
  dureConfig_t config = DURE_CONFIG_INITIALIZER;
  config.timeoutMs = 300;
  dureComm_t comm = (dureComm_t)(void *)meeting;
  EXPECT_ERROR(dureTimeout, "rank 1 never came", dureCommInitRankConfig(&comm, 2, meeting_id(meeting, rank), rank, &config));
  EXPECT(comm == NULL);
}

/* One rank waits in a call while another of its threads aborts. */
static void abort_from_thread(meeting_t *meeting, int rank, int ranks) {
  dureComm_t comm = meet(meeting, rank, ranks);
  pthread_t thread;
  void *result;
  if (rank == 0) {
    EXPECT(pthread_create(&thread, NULL, wait_in_barrier, comm) == 0);
    usleep(50 * 1000);
    CHECK(dureCommAbort(comm));
    EXPECT(pthread_join(thread, &result) == 0);
    /* The thread may also have come too late to find the communicator. */
    EXPECT((intptr_t)result == dureRemoteError || (intptr_t)result == dureInvalidArgument);
    EXPECT_ERROR(dureInvalidArgument, "destroyed before", dureCommAbort(comm));
  } else {
    /* Rank 0's barrier waits for this one, which never comes; this receive waits for a message that never comes. */
    int value;
    EXPECT_ERROR(dureRemoteError, "rank 0", dureRecv(&value, 1, dureInt, 0, comm, NULL));
    dureResult_t state;
    CHECK(dureCommGetAsyncError(comm, &state));
    EXPECT_RESULT(dureRemoteError, state);
    EXPECT(strstr(dureGetLastError(comm), "abort") != NULL);
    EXPECT_RESULT(dureRemoteError, dureBarrier(comm, NULL));
    EXPECT_RESULT(dureRemoteError, dureCommDestroy(comm));
  }
}

static void mismatch(meeting_t *meeting, int rank, int ranks) {
  static float values[8];
  dureComm_t comm = meet(meeting, rank, ranks);
  CHECK(dureBarrier(comm, NULL));
  EXPECT_ERROR(dureInvalidUsage, "all-reduce", dureAllReduce(values, values, rank == 0 ? 4 : 8, dureFloat, dureSum, comm, NULL));
  const char *text = dureGetLastError(NULL);
  EXPECT(strstr(text, "4 float") != NULL && strstr(text, "8 float") != NULL);
  CHECK(dureCommAbort(comm));
}

static void dead_peer(meeting_t *meeting, int rank, int ranks) {
  dureComm_t comm = meet(meeting, rank, ranks);
  dureComm_t rest = NULL;
  int last = ranks - 1;
  if (rank == last) {
    CHECK(dureBarrier(comm, NULL));
    _exit(0);
  }
  dureResult_t result;
  do result = dureBarrier(comm, NULL);
  while (result == dureSuccess);
  EXPECT_RESULT(dureRemoteError, result);
  char name[32];
  snprintf(name, sizeof name, "peer %d", last);
  EXPECT(strstr(dureGetLastError(comm), name) != NULL);
  /* The others go on without it. */
  CHECK(dureCommShrink(comm, &last, 1, &rest, NULL, DURE_SHRINK_ABORT));
  int sum = 1;
  CHECK(dureAllReduce(&sum, &sum, 1, dureInt, dureSum, rest, NULL));
  EXPECT(sum == ranks - 1);
  CHECK(dureCommDestroy(rest));
  CHECK(dureCommAbort(comm));
}

static void bad_environment(meeting_t *meeting, int rank, int ranks) {
  (void)meeting, (void)rank, (void)ranks;
  dureUniqueId id;
  dureComm_t comm;
  setenv("DURE_LANE", "2", 1);
  EXPECT_ERROR(dureInvalidArgument, "did you mean DURE_LANES?", dureGetUniqueId(&id));
  unsetenv("DURE_LANE");
  /* It is read once. */
  EXPECT_ERROR(dureInvalidArgument, "did you mean DURE_LANES?", dureCommInitAll(&comm, 1, NULL));
  EXPECT_ERROR(dureInvalidArgument, "did you mean DURE_LANES?", dureCommInitEnv(&comm, NULL));
}

/* A port that is free now. */
static int free_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT(fd >= 0 && bind(fd, (struct sockaddr *)&address, length) == 0);
  EXPECT(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
  close(fd);
  return ntohs(address.sin_port);
}

static int launch_port;

static void set_number(const char *name, int number) {
  char text[16];
  snprintf(text, sizeof text, "%d", number);
  setenv(name, text, 1);
}

static void launched(meeting_t *meeting, int rank, int ranks) {
  (void)meeting;
  char root[32];
  snprintf(root, sizeof root, "127.0.0.1:%d", launch_port);
  set_number("DURE_RANK", rank);
  set_number("DURE_SIZE", ranks);
  setenv("DURE_ROOT", root, 1);
  setenv("DURE_SECRET", "only for this test", 1);
  dureComm_t comm = NULL;
  CHECK(dureCommInitEnv(&comm, NULL));
  int me, count;
  CHECK(dureCommUserRank(comm, &me));
  CHECK(dureCommCount(comm, &count));
  EXPECT(me == rank && count == ranks);
  CHECK(dureBarrier(comm, NULL));
  CHECK(dureCommDestroy(comm));
}

int main(void) {
  struct {
    const char *name;
    int ranks;
    void (*body)(meeting_t *, int, int);
  } tests[] = {
      {"non-blocking", 2, non_blocking},  {"abort while meeting", 1, abort_while_meeting},
      {"missing rank", 1, missing_rank},  {"abort from a thread", 3, abort_from_thread},
      {"mismatch", 2, mismatch},          {"dead peer", 3, dead_peer},
      {"bad environment", 1, bad_environment}, {"launched", 2, launched},
  };
  int failed = 0;
  launch_port = free_port();
  for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
    if (run_ranks(tests[i].ranks, tests[i].body)) {
      fprintf(stderr, "failed: %s\n", tests[i].name);
      failed = 1;
    }
  return failed;
}
