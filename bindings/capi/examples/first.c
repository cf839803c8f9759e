/* The shortest program that does something: the ranks of a job add up what each of them has.
 * Start it with torchrun, mpirun or srun, or by hand, as README.md shows. */
#include <dure.h>
#include <stdio.h>

int main(void) {
  dureComm_t comm;
  float x[3] = {1, 2, 3};
  if (dureCommInitEnv(&comm, NULL) != dureSuccess ||
      dureAllReduce(x, x, 3, dureFloat, dureSum, comm, NULL) != dureSuccess) {
    fprintf(stderr, "%s\n", dureGetLastError(NULL));
    return 1;
  }
  printf("%g %g %g\n", x[0], x[1], x[2]);
  return dureCommDestroy(comm) != dureSuccess;
}
