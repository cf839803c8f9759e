/* All-reduce: every rank gets the sum of what all ranks have. `all_reduce [RANKS]` starts its ranks itself. */
#include "local.h"

enum { COUNT = 1 << 20 };

static void body(dureComm_t comm, int rank, int ranks) {
  float *mine = (float *)malloc(COUNT * sizeof *mine), *sum = (float *)malloc(COUNT * sizeof *sum);
  for (int i = 0; i < COUNT; i++) mine[i] = (float)(rank + i % 1000);

  CHECK(dureAllReduce(mine, sum, COUNT, dureFloat, dureSum, comm, NULL));

  for (int i = 0; i < COUNT; i++) {
    float expected = (float)(ranks * (i % 1000) + ranks * (ranks - 1) / 2);
    if (sum[i] != expected) {
      fprintf(stderr, "rank %d: element %d is %g instead of %g\n", rank, i, sum[i], expected);
      exit(1);
    }
  }
  if (rank == 0) printf("%d ranks: %d sums are right, the last is %g\n", ranks, COUNT, sum[COUNT - 1]);
  free(mine);
  free(sum);
}

int main(int argc, char **argv) {
  return run_local(argc > 1 ? atoi(argv[1]) : 2, body);
}
