/* Two ranks in one process add up what they have: first prints 11 22 33. */
#include <nccl.h>
#include <stdio.h>

int main(void) {
  ncclComm_t comm[2];
  float x[2][3] = {{1, 2, 3}, {10, 20, 30}};
  ncclCommInitAll(comm, 2, NULL);
  ncclGroupStart();
  for (int rank = 0; rank < 2; rank++)
    ncclAllReduce(x[rank], x[rank], 3, ncclFloat, ncclSum, comm[rank], NULL);
  if (ncclGroupEnd() != ncclSuccess) {
    fprintf(stderr, "%s\n", ncclGetLastError(NULL));
    return 1;
  }
  printf("%g %g %g\n", x[0][0], x[0][1], x[0][2]);
  for (int rank = 0; rank < 2; rank++) ncclCommDestroy(comm[rank]);
}
