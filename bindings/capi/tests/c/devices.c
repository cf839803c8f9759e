/* Memory of a device that DURE_DEVICE names: allocated, reduced from the host to there, in place, on a stream, and back. */
#include "ranks.h"

enum { COUNT = 50000 };

static void on_device(meeting_t *meeting, int rank, int ranks) {
  static int here[COUNT];
  dureComm_t comm = meet(meeting, rank, ranks);
  dureStream_t stream;
  void *there = NULL, *handle = NULL;
  CHECK(dureMemAlloc(&there, sizeof here));
  CHECK(dureCommRegister(comm, there, sizeof here, &handle));
  CHECK(dureStreamCreate(&stream));
  int device = 7;
  CHECK(dureCommMemDevice(comm, (char *)there + sizeof here - 1, &device));
  EXPECT(device == 0);
  CHECK(dureCommMemDevice(comm, here, &device));
  EXPECT(device == DURE_DEVICE_HOST);
  for (int i = 0; i < COUNT; i++) here[i] = rank + i;
  CHECK(dureAllReduce(here, there, COUNT, dureInt, dureSum, comm, NULL));
  CHECK(dureAllReduce(there, there, COUNT, dureInt, dureSum, comm, stream));
  CHECK(dureStreamSynchronize(stream));
  CHECK(dureAllReduce(there, here, COUNT, dureInt, dureMax, comm, NULL));
  for (int i = 0; i < COUNT; i++) EXPECT(here[i] == ranks * (ranks * (ranks - 1) / 2 + ranks * i));
  CHECK(dureCommDeregister(comm, handle));
  CHECK(dureStreamDestroy(stream));
  CHECK(dureCommDestroy(comm));
  EXPECT_ERROR(dureInvalidArgument, "ptr", dureMemFree((char *)there + 64));
  CHECK(dureMemFree(there));
}

int main(int argc, char **argv) { return run_ranks(argument(argc, argv, 2), on_device); }
