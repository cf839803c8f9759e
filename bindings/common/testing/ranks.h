/* Ranks for tests: child processes that meet by an id in shared memory, and checks that say where they failed. Of each
 * interface: API(Success) is API(Success) or ncclSuccess. */
#ifndef RANKS_H
#define RANKS_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(call) EXPECT_RESULT(API(Success), call)

#define EXPECT_RESULT(wanted, call)                                                                              \
  do {                                                                                                           \
    API(Result_t) result_ = (call);                                                                               \
    if (result_ != (wanted)) {                                                                                   \
      fprintf(stderr, "%s:%d: %s returned %d (%s) instead of %d: %s\n", __FILE__, __LINE__, #call, (int)result_, \
              API(GetErrorString)(result_), (int)(wanted), API(GetLastError)(NULL));                               \
      _exit(1);                                                                                                  \
    }                                                                                                            \
  } while (0)

#define EXPECT(condition)                                                          \
  do {                                                                             \
    if (!(condition)) {                                                            \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);    \
      _exit(1);                                                                    \
    }                                                                              \
  } while (0)

/* The call fails with `wanted`, and the text of its error contains `text`. */
#define EXPECT_ERROR(wanted, text, call)                                                                        \
  do {                                                                                                          \
    EXPECT_RESULT(wanted, call);                                                                                \
    if (strstr(API(GetLastError)(NULL), text) == NULL) {                                                         \
      fprintf(stderr, "%s:%d: \"%s\" does not contain \"%s\"\n", __FILE__, __LINE__, API(GetLastError)(NULL), text); \
      _exit(1);                                                                                                 \
    }                                                                                                           \
  } while (0)

typedef struct {
  volatile int ready;
  API(UniqueId) id;
} meeting_t;

/* The id, which rank 0 makes and the others wait for. */
static inline API(UniqueId) meeting_id(meeting_t *meeting, int rank) {
  if (rank == 0) {
    CHECK(API(GetUniqueId)(&meeting->id));
    __atomic_store_n(&meeting->ready, 1, __ATOMIC_RELEASE);
  }
  while (!__atomic_load_n(&meeting->ready, __ATOMIC_ACQUIRE)) usleep(1000);
  return meeting->id;
}

static inline meeting_t *new_meeting(void) {
  void *memory = mmap(NULL, sizeof(meeting_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  return (meeting_t *)memory;
}

/* Runs `body` in `ranks` child processes; the result is 0 when all ended well. */
static inline int run_ranks(int ranks, void (*body)(meeting_t *, int rank, int ranks)) {
  meeting_t *meeting = new_meeting();
  pid_t children[64];
  int failed = 0;
  for (int rank = 0; rank < ranks; rank++) {
    children[rank] = fork();
    if (children[rank] == 0) {
      body(meeting, rank, ranks);
      exit(0);
    }
  }
  for (int ended = 0; ended < ranks; ended++) {
    int status = 0;
    pid_t child = wait(&status);
    if (status == 0) continue;
    failed = 1;
    /* The others would wait for it until the deadline. */
    for (int rank = 0; rank < ranks; rank++)
      if (children[rank] != child) kill(children[rank], SIGKILL);
  }
  munmap(meeting, sizeof *meeting);
  return failed;
}

/* As run_ranks, with a communicator. */
static inline API(Comm_t) meet(meeting_t *meeting, int rank, int ranks) {
  API(Comm_t) comm = NULL;
  CHECK(API(CommInitRank)(&comm, ranks, meeting_id(meeting, rank), rank));
  return comm;
}

static inline int argument(int argc, char **argv, int otherwise) {
  return argc > 1 ? atoi(argv[1]) : otherwise;
}

#endif
