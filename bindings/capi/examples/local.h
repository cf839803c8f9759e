/* For the examples: starts ranks as child processes of this program, which meet by an id from a pipe.
 * A job has a launcher for this (torchrun, mpirun, srun) and calls dureCommInitEnv. */
#ifndef LOCAL_H
#define LOCAL_H

#include <dure.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Ends the program with the library's text when a call fails. */
#define CHECK(call)                                                                                    \
  do {                                                                                                 \
    dureResult_t result_ = (call);                                                                     \
    if (result_ != dureSuccess) {                                                                      \
      fprintf(stderr, "%s: %s: %s\n", #call, dureGetErrorString(result_), dureGetLastError(NULL));     \
      exit(1);                                                                                         \
    }                                                                                                  \
  } while (0)

/* Runs `body` as `ranks` processes. The result is that of main: 0 when all of them ended well. */
static int run_local(int ranks, void (*body)(dureComm_t comm, int rank, int ranks)) {
  int ids[2]; /* Rank 0 writes the id once for each of the others. */
  if (pipe(ids) != 0) {
    perror("pipe");
    return 1;
  }
  /* A process that has a communicator must not fork, so the parent has none. */
  for (int rank = 0; rank < ranks; rank++) {
    pid_t child = fork();
    if (child < 0) {
      perror("fork");
      return 1;
    }
    if (child > 0) continue;
    dureUniqueId id;
    if (rank == 0) {
      CHECK(dureGetUniqueId(&id));
      for (int other = 1; other < ranks; other++)
        if (write(ids[1], &id, sizeof id) != sizeof id) exit(1);
    } else {
      close(ids[1]); /* So that the read ends when rank 0 does. */
      if (read(ids[0], &id, sizeof id) != sizeof id) exit(1);
    }
    dureComm_t comm;
    CHECK(dureCommInitRank(&comm, ranks, id, rank));
    body(comm, rank, ranks);
    CHECK(dureCommDestroy(comm));
    exit(0);
  }
  close(ids[0]);
  close(ids[1]);
  int failed = 0, status;
  while (wait(&status) > 0) failed |= status != 0;
  return failed;
}

#endif
