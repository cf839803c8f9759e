/* A group of messages: every rank sends its neighbours on a ring the borders of its part of a grid, and gets theirs.
 * Without the group, ranks that all send first could wait for one another. */
#include "local.h"

enum { WIDTH = 512, ROWS = 64 };

static void body(dureComm_t comm, int rank, int ranks) {
  /* Row 0 and row ROWS + 1 are copies of the neighbours' borders. */
  static double grid[ROWS + 2][WIDTH];
  int above = (rank + ranks - 1) % ranks, below = (rank + 1) % ranks;
  for (int row = 1; row <= ROWS; row++)
    for (int column = 0; column < WIDTH; column++) grid[row][column] = rank * ROWS + row - 1;

  CHECK(dureGroupStart());
  CHECK(dureSend(grid[1], WIDTH, dureDouble, above, comm, NULL));
  CHECK(dureSend(grid[ROWS], WIDTH, dureDouble, below, comm, NULL));
  CHECK(dureRecv(grid[ROWS + 1], WIDTH, dureDouble, below, comm, NULL));
  CHECK(dureRecv(grid[0], WIDTH, dureDouble, above, comm, NULL));
  CHECK(dureGroupEnd());

  int rows = ranks * ROWS, first = rank * ROWS;
  double before = (first + rows - 1) % rows, after = (first + ROWS) % rows;
  for (int column = 0; column < WIDTH; column++)
    if (grid[0][column] != before || grid[ROWS + 1][column] != after) {
      fprintf(stderr, "rank %d: column %d has %g and %g instead of %g and %g\n", rank, column, grid[0][column],
              grid[ROWS + 1][column], before, after);
      exit(1);
    }
  if (rank == 0) printf("%d ranks: the borders of %d rows are right\n", ranks, rows);
}

int main(int argc, char **argv) {
  return run_local(argc > 1 ? atoi(argv[1]) : 2, body);
}
