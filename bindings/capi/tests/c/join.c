/* A stream of the maker's own, joined. */
#include "ranks.h"

typedef dureStream_t stream_t;

#include "../../../common/testing/join.h"

static void joined(meeting_t *meeting, int rank, int ranks) {
  dureComm_t comm = meet(meeting, rank, ranks);
  dureStream_t stream = NULL;
  void *native = native_stream();
  EXPECT_ERROR(dureInvalidArgument, "device 1 is none (allowed: 0 to 0", dureStreamJoin(native, 1, &stream));
  CHECK(dureStreamJoin(native, 0, &stream));
  work_on(comm, rank, ranks, native, stream);
  CHECK(dureStreamSynchronize(stream));
  CHECK(dureStreamDestroy(stream));
  CU(cuStreamDestroy_v2, (void *), native);
  CHECK(dureCommDestroy(comm));
}

int main(int argc, char **argv) { return run_ranks(argument(argc, argv, 2), joined); }
