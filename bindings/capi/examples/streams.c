/* Streams: calls that run while the program computes. Gradients of a network's layers are averaged as soon as each layer
 * has them, while the next layer is still being worked on. */
#include "local.h"

enum { LAYERS = 8, SIZE = 1 << 16 };

/* Stands for the work of a layer. */
static void compute(float *gradient, int layer, int rank) {
  for (int i = 0; i < SIZE; i++) gradient[i] = (float)(layer + 2 * rank);
}

static void body(dureComm_t comm, int rank, int ranks) {
  dureStream_t stream;
  float *gradients[LAYERS];
  CHECK(dureStreamCreate(&stream));
  for (int layer = LAYERS - 1; layer >= 0; layer--) {
    CHECK(dureCommMemAlloc(comm, (void **)&gradients[layer], SIZE * sizeof(float)));
    compute(gradients[layer], layer, rank);
    CHECK(dureAllReduce(gradients[layer], gradients[layer], SIZE, dureFloat, dureAvg, comm, stream));
  }
  /* The gradients belong to the stream until here. */
  CHECK(dureStreamSynchronize(stream));
  for (int layer = 0; layer < LAYERS; layer++) {
    for (int i = 0; i < SIZE; i++)
      if (gradients[layer][i] != (float)(layer + ranks - 1)) {
        fprintf(stderr, "rank %d, layer %d: %g instead of %d\n", rank, layer, gradients[layer][i], layer + ranks - 1);
        exit(1);
      }
    CHECK(dureCommMemFree(comm, gradients[layer]));
  }
  CHECK(dureStreamDestroy(stream));
  if (rank == 0) printf("%d ranks: the averages of %d layers are right\n", ranks, LAYERS);
}

int main(int argc, char **argv) {
  return run_local(argc > 1 ? atoi(argv[1]) : 2, body);
}
