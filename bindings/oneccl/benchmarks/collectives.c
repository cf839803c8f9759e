/* Times onecclAllReduce and onecclAllToAll on buffers of the host, whatever serves them: collectives FILE, in each of the
 * processes that mpiexec has started (PMI_RANK, PMI_SIZE). FILE is where rank 0 leaves the unique id. Rank 0 prints, for each
 * collective and number of bytes of a rank's buffer, microseconds of a call: the median of several runs. Every result is
 * checked once. */
#define _GNU_SOURCE
#include <oneapi/ccl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RUNS = 5, MOST = 16 << 20 };

static int rank, ranks;
static onecclComm_t comm;
static float *in, *out;

static void check(onecclResult_t result, const char *what) {
  if (result == onecclSuccess) return;
  fprintf(stderr, "rank %d: %s: %s\n", rank, what, onecclGetErrorString(result));
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void all_reduce(size_t elements) {
  check(onecclAllReduce(in, out, elements, onecclFloat, onecclSum, comm, NULL), "all-reduce");
}

static void all_to_all(size_t elements) {
  check(onecclAllToAll(in, out, elements / ranks, onecclFloat, comm, NULL), "all-to-all");
}

static int all_reduced(size_t elements) {
  const float wanted = ranks * (ranks + 1) / 2;
  for (size_t i = 0; i < elements; i++)
    if (out[i] != wanted) return 0;
  return 1;
}

static int all_swapped(size_t elements) {
  const size_t each = elements / ranks;
  for (size_t i = 0; i < each * ranks; i++)
    if (out[i] != i / each + 1) return 0;
  return 1;
}

static int smaller_first(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double run(void (*call)(size_t), size_t elements, int calls) {
  const double begin = now();
  for (int i = 0; i < calls; i++) call(elements);
  return (now() - begin) / calls;
}

static void measure(const char *name, void (*call)(size_t), int (*right)(size_t), size_t bytes) {
  const size_t elements = bytes / sizeof(float) < (size_t)ranks ? (size_t)ranks : bytes / sizeof(float);
  double times[RUNS];
  memset(out, 0, elements * sizeof(float));
  call(elements);
  if (!right(elements)) {
    fprintf(stderr, "rank %d: %s of %zu bytes is wrong\n", rank, name, bytes);
    exit(1);
  }
  /* A run takes about 50 ms; rank 0 says how many calls that are. */
  float calls = 50e3 / run(call, elements, 3);
  check(onecclBroadcast(&calls, &calls, 1, onecclFloat, 0, comm, NULL), "broadcast");
  if (calls < 2) calls = 2;
  if (calls > 20000) calls = 20000;
  for (int i = 0; i < RUNS; i++) times[i] = run(call, elements, (int)calls);
  qsort(times, RUNS, sizeof *times, smaller_first);
  if (rank == 0) printf("%s %zu %.2f\n", name, bytes, times[RUNS / 2]);
}

/* The id, which rank 0 makes and leaves in a file. */
static onecclUniqueId meet(const char *path) {
  onecclUniqueId id;
  char part[4096];
  snprintf(part, sizeof part, "%s.part", path);
  if (rank == 0) {
    check(onecclGetUniqueId(&id), "unique id");
    FILE *file = fopen(part, "wb");
    if (file == NULL || fwrite(&id, sizeof id, 1, file) != 1 || fclose(file) != 0 || rename(part, path) != 0) exit(1);
    return id;
  }
  while (access(path, R_OK) != 0) usleep(1000);
  FILE *file = fopen(path, "rb");
  if (file == NULL || fread(&id, sizeof id, 1, file) != 1) exit(1);
  fclose(file);
  return id;
}

int main(int argc, char **argv) {
  static const size_t sizes[] = {8, 64 << 10, 1 << 20, MOST};
  const char *my_rank = getenv("PMI_RANK"), *all_ranks = getenv("PMI_SIZE");
  if (argc != 2 || my_rank == NULL || all_ranks == NULL) {
    fprintf(stderr, "usage: mpiexec -n RANKS %s FILE\n", argv[0]);
    return 2;
  }
  rank = atoi(my_rank);
  ranks = atoi(all_ranks);
  /* A core for each rank, where there are as many. */
  if (ranks <= sysconf(_SC_NPROCESSORS_ONLN)) {
    cpu_set_t core;
    CPU_ZERO(&core);
    CPU_SET(rank, &core);
    sched_setaffinity(0, sizeof core, &core);
  }
  in = (float *)aligned_alloc(4096, MOST);
  out = (float *)aligned_alloc(4096, MOST);
  for (size_t i = 0; i < MOST / sizeof(float); i++) in[i] = rank + 1;
  check(onecclCommInitRank(&comm, ranks, meet(argv[1]), rank), "communicator");
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) measure("all-reduce", all_reduce, all_reduced, sizes[i]);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) measure("all-to-all", all_to_all, all_swapped, sizes[i]);
  fflush(stdout);
  check(onecclCommDestroy(comm), "destroy");
  return 0;
}
