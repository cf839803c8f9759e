/* Dure under the measuring core of an external harness of peers: one rank, found by its DURE_ environment.
 *
 * The harness's library, libpb.so, allocates the buffers, calls the collectives by number, checks their results and takes
 * the times. PB_DURE_ALLOC=dure gives it memory that peers of the same host write directly, instead of malloc's.
 * extra.py beside this file builds and runs it. */
#include <dure.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From libpb.so. `run` does one collective: `bytes` is the size of the whole vector, `block` that of one rank's share. */
int pb_run(int rank, int n, const char *shm, void (*barrier)(void), void (*progress)(void),
           void (*run)(int op, char *send, char *recv, size_t bytes, size_t block), int in_place);

static dureComm_t comm;

static void expect(dureResult_t result) {
  if (result == dureSuccess) return;
  fprintf(stderr, "%s: %s\n", dureGetErrorString(result), dureGetLastError(NULL));
  exit(1);
}

static void barrier(void) { expect(dureBarrier(comm, NULL)); }

static void run(int op, char *send, char *recv, size_t bytes, size_t block) {
  const size_t count = bytes / sizeof(float), share = block / sizeof(float);
  switch (op) {
    case 0: expect(dureAllReduce(send, recv, count, dureFloat, dureSum, comm, NULL)); break;
    case 1: expect(dureAlltoAll(send, recv, share, dureFloat, comm, NULL)); break;
    case 2: expect(dureReduceScatter(send, recv, share, dureFloat, dureSum, comm, NULL)); break;
    case 3: expect(dureAllGather(send, recv, share, dureFloat, comm, NULL)); break;
    case 4: expect(dureBcast(recv, count, dureFloat, 0, comm, NULL)); break;
    default: fprintf(stderr, "no collective has number %d\n", op); exit(1);
  }
}

/* How many of this thread's next allocations are the harness's two buffers. */
static _Thread_local int buffers_to_come;

/* Stands before the C library's function of this name, by which libpb.so gets its buffers, and which it never frees. */
int posix_memalign(void **place, size_t alignment, size_t size) {
  if (buffers_to_come > 0) {
    /* Counted first: the library allocates too, on this thread. */
    buffers_to_come--;
    expect(dureCommMemAlloc(comm, place, size));
    return 0;
  }
  *place = aligned_alloc(alignment, size);
  return *place == NULL;
}

int main(void) {
  const char *alloc = getenv("PB_DURE_ALLOC"), *shm = getenv("PB_SHM");
  int rank, size;
  expect(dureCommInitEnv(&comm, NULL));
  expect(dureCommUserRank(comm, &rank));
  expect(dureCommCount(comm, &size));
  if (alloc && strcmp(alloc, "dure") == 0) buffers_to_come = 2;
  pb_run(rank, size, shm ? shm : "/dev/shm/peers-bench", barrier, NULL, run, 0);
  expect(dureCommDestroy(comm));
  return 0;
}
