/* Two processes add up what they have, through oneCCL: first prints 11 22 33. */
#include <oneapi/ccl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  int ends[2];
  if (pipe(ends) != 0) return 1;
  int rank = fork() == 0;

  onecclUniqueId id;
  if (rank == 0) {
    onecclGetUniqueId(&id);
    if (write(ends[1], &id, sizeof id) < 0) return 1;
  } else if (read(ends[0], &id, sizeof id) < 0) {
    return 1;
  }
  onecclComm_t comm;
  onecclCommInitRank(&comm, 2, id, rank);

  float x[2][3] = {{1, 2, 3}, {10, 20, 30}};
  if (onecclAllReduce(x[rank], x[rank], 3, onecclFloat, onecclSum, comm, NULL) != onecclSuccess) {
    fprintf(stderr, "%s\n", onecclGetLastError(comm));
    return 1;
  }
  onecclCommDestroy(comm);
  if (rank == 0) {
    printf("%g %g %g\n", x[0][0], x[0][1], x[0][2]);
    wait(NULL);
  }
}
