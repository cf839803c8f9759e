/* A program's own stream, as NCCL's programs give it to calls. */
#include "ranks.h"

typedef cudaStream_t stream_t;

#include "../../../common/testing/join.h"

static void on_streams(meeting_t *meeting, int rank, int ranks) {
  ncclComm_t comm = meet(meeting, rank, ranks);
  void *native = native_stream();
  work_on(comm, rank, ranks, native, (cudaStream_t)native);
  CHECK(ncclCommDestroy(comm));
  CU(cuStreamDestroy_v2, (void *), native);
}

int main(int argc, char **argv) { return run_ranks(argument(argc, argv, 2), on_streams); }
