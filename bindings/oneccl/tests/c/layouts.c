/* Asks oneCCL, with the plug-in of probe.c, where its communicators have the functions that its own functions call: prints
 * version, offset and name of each, as layouts.txt has them. */
#include <dlfcn.h>
#include <oneapi/ccl.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 10 };

/* The function of oneCCL, the name of what it calls, and the number of its argument that is the communicator. */
static const struct {
  const char *function, *name;
  int comm;
} asked[] = {
    {"onecclAllReduce", "allreduce", 5},
    {"onecclAllGather", "allgather", 4},
    {"onecclAllToAll", "alltoall", 4},
    {"onecclAllToAllV", "alltoallv", 5},
    {"onecclBroadcast", "broadcast", 5},
    {"onecclReduce", "reduce", 6},
    {"onecclReduceScatter", "reduce_scatter", 5},
    {"onecclScatter", "scatter", 5},
    {"onecclGather", "gather", 5},
    {"onecclSend", "send", 4},
    {"onecclRecv", "recv", 4},
    {"onecclCommUserRank", "get_rank", 0},
    {"onecclCommCount", "get_size", 0},
    {"onecclCommDevice", "get_device", 0},
    {"onecclCommRegister", "comm_register", 0},
    {"onecclCommDeregister", "comm_deregister", 0},
    {"onecclCommWindowRegister", "comm_window_register", 0},
    {"onecclCommWindowDeregister", "comm_window_deregister", 0},
    {"onecclDevCommCreate", "dev_comm_create", 0},
    {"onecclDevCommDestroy", "dev_comm_destroy", 0},
    {"onecclRedOpCreatePreMulSum", "create_pre_mul_sum", 4},
    {"onecclRedOpDestroy", "reduction_destroy", 1},
    {"onecclCommSplit", "split", 0},
    {"onecclCommFinalize", "finalize", 0},
    {"onecclCommAbort", "abort", 0},
    {"onecclCommGetAsyncError", "get_async_error", 0},
    /* The last, as it frees the structure. */
    {"onecclCommDestroy", "destroy", 0},
};

typedef int (*function_t)(void *, void *, void *, void *, void *, void *, void *, void *, void *, void *);

/* Calls a function of oneCCL with something in the place of each argument, which no function of the probe looks at. */
static void call(void *function, onecclComm_t comm, int at) {
  static void *anything[64];
  void *a[MOST];
  for (int i = 0; i < MOST; i++) a[i] = i == at ? (void *)comm : (void *)anything;
  ((function_t)function)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]);
}

int main(void) {
  int version;
  onecclUniqueId id;
  onecclComm_t comm;
  if (onecclGetVersion(&version) || onecclGetUniqueId(&id) || onecclCommInitRank(&comm, 1, id, 0)) return 1;
  void *probe = dlopen(getenv("CCL_PLUGIN"), RTLD_LAZY);
  size_t *probed = (size_t *)dlsym(probe, "probed");
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
    void *function = dlsym(RTLD_DEFAULT, asked[i].function);
    if (function == NULL) continue;
    *probed = 0;
    call(function, comm, asked[i].comm);
    if (*probed != 0) printf("%d %zu %s\n", version, *probed, asked[i].name);
  }
  return 0;
}
