/* A program of MPI: MPI starts the ranks and has them meet, Dure does the collectives, and MPI goes on with what it is used for.
 * mpicc mpi.c $(pkg-config --cflags --libs dure) -o mpi && mpirun -n 4 ./mpi */
#include <dure.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(call)                                                  \
  do {                                                               \
    if ((call) != dureSuccess) {                                     \
      fprintf(stderr, "%s: %s\n", #call, dureGetLastError(NULL));    \
      MPI_Abort(MPI_COMM_WORLD, 1);                                  \
    }                                                                \
  } while (0)

enum { COUNT = 1 << 20 };

int main(int argc, char **argv) {
  int rank, ranks, wrong = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);

  dureUniqueId id;
  if (rank == 0) CHECK(dureGetUniqueId(&id));
  MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
  dureComm_t comm;
  CHECK(dureCommInitRank(&comm, ranks, id, rank));

  int *mine = malloc(COUNT * sizeof *mine), *by_dure = malloc(COUNT * sizeof *by_dure);
  int *by_mpi = malloc(COUNT * sizeof *by_mpi);
  for (int i = 0; i < COUNT; i++) mine[i] = rank * 7 + i;
  CHECK(dureAllReduce(mine, by_dure, COUNT, dureInt, dureSum, comm, NULL));
  MPI_Allreduce(mine, by_mpi, COUNT, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  for (int i = 0; i < COUNT; i++) wrong += by_dure[i] != by_mpi[i];
  if (rank == 0) printf("%d ranks: %d of %d sums are MPI's\n", ranks, COUNT - wrong, COUNT);

  free(mine), free(by_dure), free(by_mpi);
  CHECK(dureCommDestroy(comm));
  MPI_Finalize();
  return wrong != 0;
}
