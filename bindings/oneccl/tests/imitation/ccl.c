/* Stands in for oneCCL's libccl.so.2 where that is not installed: takes the plug-in that CCL_PLUGIN names, in each thread, and
 * hands calls on to it as that does. It has the communicators of 2022.2.0; IMITATED_VERSION is the version that it says it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <oneapi/ccl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INIT = 1, INIT_ID, INIT_COMM, INIT_DEVICE, INIT_KVS, GROUP_START, GROUP_END, SCORE, MEM_ALLOC, MEM_FREE };

struct onecclComm {
  size_t size;
  int magic, version;
  void *extension;
  onecclUniqueId id;
  onecclConfig_t config;
  onecclResult_t error;
  onecclResult_t (*allreduce)(void *, void *, size_t, onecclDataType_t, onecclRedOp_t, onecclComm_t, void *);
  onecclResult_t (*allgather)(const void *, void *, size_t, onecclDataType_t, onecclComm_t, void *);
  onecclResult_t (*alltoall)(const void *, void *, size_t, onecclDataType_t, onecclComm_t, void *);
  onecclResult_t (*alltoallv)(const void *, const size_t *, void *, const size_t *, onecclDataType_t, onecclComm_t, void *);
  onecclResult_t (*broadcast)(const void *, void *, size_t, onecclDataType_t, int, onecclComm_t, void *);
  onecclResult_t (*reduce)(const void *, void *, size_t, onecclDataType_t, onecclRedOp_t, int, onecclComm_t, void *);
  onecclResult_t (*reduce_scatter)(const void *, void *, size_t, onecclDataType_t, onecclRedOp_t, onecclComm_t, void *);
  onecclResult_t (*scatter)(const void *, void *, size_t, onecclDataType_t, int, onecclComm_t, void *);
  onecclResult_t (*send)(const void *, size_t, onecclDataType_t, int, onecclComm_t, void *);
  onecclResult_t (*recv)(void *, size_t, onecclDataType_t, int, onecclComm_t, void *);
  onecclResult_t (*barrier)(onecclComm_t);
  onecclResult_t (*get_rank)(onecclComm_t, int *);
  onecclResult_t (*get_local_rank)(onecclComm_t, int *);
  onecclResult_t (*get_size)(onecclComm_t, int *);
  onecclResult_t (*get_local_size)(onecclComm_t, int *);
  onecclResult_t (*get_device)(onecclComm_t, int *);
  onecclResult_t (*mem_alloc)(void **, size_t);
  onecclResult_t (*mem_free)(void *);
  onecclResult_t (*comm_register)(onecclComm_t, void *, size_t, void **);
  onecclResult_t (*comm_deregister)(onecclComm_t, void *);
  onecclResult_t (*comm_window_register)(onecclComm_t, void *, size_t, onecclWindow_t *, onecclWindowFlags_t);
  onecclResult_t (*comm_window_deregister)(onecclComm_t, onecclWindow_t);
  onecclResult_t (*dev_comm_create)(onecclComm_t, const void *, void *);
  onecclResult_t (*dev_comm_destroy)(onecclComm_t, const void *);
  onecclResult_t (*create_pre_mul_sum)(onecclRedOp_t *, void *, onecclDataType_t, onecclScalarResidence_t, onecclComm_t);
  onecclResult_t (*reduction_destroy)(onecclRedOp_t, onecclComm_t);
  onecclResult_t (*split)(onecclComm_t, int, int, onecclComm_t *, onecclConfig_t *);
  onecclResult_t (*destroy)(onecclComm_t);
  onecclResult_t (*finalize)(onecclComm_t);
  onecclResult_t (*abort)(onecclComm_t);
};

static _Thread_local void *(*entry)(int);
static _Thread_local char kept[256];

void onecclDebugLog(int level, const char *where, int line, const char *format, ...) {
  char text[1024];
  va_list arguments;
  (void)level, (void)line;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fprintf(stderr, "%s: %s\n", where, text);
  snprintf(kept, sizeof kept, "%.255s", text);
}

/* Takes the plug-in, once in each thread. */
static int ready(void) {
  if (entry != NULL) return 1;
  void *plugin = dlopen(getenv("CCL_PLUGIN"), RTLD_LAZY);
  void *(*found)(int) = plugin == NULL ? NULL : (void *(*)(int))dlsym(plugin, "onecclPluginCall");
  if (found == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 0;
  }
  onecclResult_t (*init)(void) = (onecclResult_t(*)(void))found(INIT);
  if (init != NULL && init() != onecclSuccess) return 0;
  entry = found;
  return 1;
}

#define READY \
  if (!ready()) return onecclError
/* Calls what the plug-in has for a number. */
#define ASK(number, type, ...)                                                  \
  READY;                                                                        \
  onecclResult_t(*asked) type = (onecclResult_t(*) type)entry(number);          \
  return asked == NULL ? onecclNotImplemented : asked(__VA_ARGS__)
/* Calls a function of a communicator. */
#define HAND_ON(function, ...)                     \
  READY;                                           \
  if (comm == NULL) return onecclInvalidArgument;  \
  return comm->function == NULL ? onecclNotImplemented : comm->function(__VA_ARGS__)

onecclResult_t onecclGetVersion(int *version) {
  READY;
  const char *imitated = getenv("IMITATED_VERSION");
  *version = imitated == NULL ? 20220200 : atoi(imitated);
  return onecclSuccess;
}

const char *onecclGetErrorString(onecclResult_t result) {
  return result == onecclSuccess ? "success" : "no success";
}

const char *onecclGetLastError(onecclComm_t comm) {
  (void)comm;
  return kept;
}

onecclResult_t onecclGetUniqueId(onecclUniqueId *id) {
  ASK(INIT_ID, (onecclUniqueId *), id);
}

onecclResult_t onecclCommInitRankConfig(onecclComm_t *comm, size_t nranks, onecclUniqueId id, int rank,
                                        const onecclConfig_t *config) {
  READY;
  onecclResult_t (*init)(onecclComm_t *, size_t, onecclUniqueId, int, const onecclConfig_t *) =
      (onecclResult_t(*)(onecclComm_t *, size_t, onecclUniqueId, int, const onecclConfig_t *))entry(INIT_COMM);
  onecclComm_t made = (onecclComm_t)calloc(1, sizeof *made);
  made->id = id;
  made->config = *config;
  onecclResult_t result = init(&made, nranks, id, rank, config);
  if (result == onecclSuccess) {
    *comm = made;
  } else {
    onecclDebugLog(3, __func__, 0, "the plug-in has made no communicator");
    free(made);
  }
  return result;
}

onecclResult_t onecclCommInitRank(onecclComm_t *comm, size_t nranks, onecclUniqueId id, int rank) {
  onecclConfig_t config;
  memset(&config, 0, sizeof config);
  return onecclCommInitRankConfig(comm, nranks, id, rank, &config);
}

onecclResult_t onecclCommSplit(onecclComm_t comm, int color, int key, onecclComm_t *newcomm, onecclConfig_t *config) {
  READY;
  *newcomm = (onecclComm_t)calloc(1, sizeof **newcomm);
  (*newcomm)->config = config == NULL ? comm->config : *config;
  onecclResult_t result = comm->split(comm, color, key, newcomm, &(*newcomm)->config);
  if (result != onecclSuccess) {
    free(*newcomm);
    *newcomm = NULL;
  }
  return result;
}

onecclResult_t onecclCommFinalize(onecclComm_t comm) {
  HAND_ON(finalize, comm);
}

/* As in oneCCL, it is there though the header does not let a program call it. */
onecclResult_t onecclCommAbort(onecclComm_t comm) {
  HAND_ON(abort, comm);
}

onecclResult_t onecclDevCommCreate(onecclComm_t comm, const void *requirements, void *made) {
  HAND_ON(dev_comm_create, comm, requirements, made);
}

onecclResult_t onecclCommDestroy(onecclComm_t comm) {
  READY;
  onecclResult_t result = comm->destroy(comm);
  if (result == onecclSuccess) free(comm);
  return result;
}

onecclResult_t onecclCommCount(onecclComm_t comm, int *size) {
  HAND_ON(get_size, comm, size);
}

onecclResult_t onecclCommUserRank(onecclComm_t comm, int *rank) {
  HAND_ON(get_rank, comm, rank);
}

onecclResult_t onecclCommDevice(onecclComm_t comm, int *device) {
  HAND_ON(get_device, comm, device);
}

onecclResult_t onecclSetDevice(uint32_t index) {
  ASK(INIT_DEVICE, (uint32_t), index);
}

onecclResult_t onecclGroupStart(void) {
  ASK(GROUP_START, (void));
}

onecclResult_t onecclGroupEnd(void) {
  ASK(GROUP_END, (void));
}

onecclResult_t onecclMemAlloc(void **ptr, size_t size) {
  ASK(MEM_ALLOC, (void **, size_t), ptr, size);
}

onecclResult_t onecclMemFree(void *ptr) {
  ASK(MEM_FREE, (void *), ptr);
}

onecclResult_t onecclCommRegister(onecclComm_t comm, void *buff, size_t size, void **handle) {
  HAND_ON(comm_register, comm, buff, size, handle);
}

onecclResult_t onecclCommDeregister(onecclComm_t comm, void *handle) {
  HAND_ON(comm_deregister, comm, handle);
}

onecclResult_t onecclCommWindowRegister(onecclComm_t comm, void *buff, size_t size, onecclWindow_t *window,
                                        onecclWindowFlags_t flags) {
  HAND_ON(comm_window_register, comm, buff, size, window, flags);
}

onecclResult_t onecclCommWindowDeregister(onecclComm_t comm, onecclWindow_t window) {
  HAND_ON(comm_window_deregister, comm, window);
}

onecclResult_t onecclRedOpCreatePreMulSum(onecclRedOp_t *op, void *scalar, onecclDataType_t type,
                                          onecclScalarResidence_t residence, onecclComm_t comm) {
  HAND_ON(create_pre_mul_sum, op, scalar, type, residence, comm);
}

onecclResult_t onecclRedOpDestroy(onecclRedOp_t op, onecclComm_t comm) {
  HAND_ON(reduction_destroy, op, comm);
}

onecclResult_t onecclAllReduce(void *send, void *recv, size_t count, onecclDataType_t type, onecclRedOp_t op,
                               onecclComm_t comm, void *stream) {
  HAND_ON(allreduce, send, recv, count, type, op, comm, stream);
}

onecclResult_t onecclReduce(const void *send, void *recv, size_t count, onecclDataType_t type, onecclRedOp_t op, int root,
                            onecclComm_t comm, void *stream) {
  HAND_ON(reduce, send, recv, count, type, op, root, comm, stream);
}

onecclResult_t onecclReduceScatter(const void *send, void *recv, size_t count, onecclDataType_t type, onecclRedOp_t op,
                                   onecclComm_t comm, void *stream) {
  HAND_ON(reduce_scatter, send, recv, count, type, op, comm, stream);
}

onecclResult_t onecclBroadcast(const void *send, void *recv, size_t count, onecclDataType_t type, int root,
                               onecclComm_t comm, void *stream) {
  HAND_ON(broadcast, send, recv, count, type, root, comm, stream);
}

onecclResult_t onecclAllGather(const void *send, void *recv, size_t count, onecclDataType_t type, onecclComm_t comm,
                               void *stream) {
  HAND_ON(allgather, send, recv, count, type, comm, stream);
}

onecclResult_t onecclAllToAll(const void *send, void *recv, size_t count, onecclDataType_t type, onecclComm_t comm,
                              void *stream) {
  HAND_ON(alltoall, send, recv, count, type, comm, stream);
}

onecclResult_t onecclAllToAllV(const void *send, const size_t *send_counts, void *recv, const size_t *recv_counts,
                               onecclDataType_t type, onecclComm_t comm, void *stream) {
  HAND_ON(alltoallv, send, send_counts, recv, recv_counts, type, comm, stream);
}

onecclResult_t onecclScatter(const void *send, void *recv, size_t count, onecclDataType_t type, int root, onecclComm_t comm,
                             void *stream) {
  HAND_ON(scatter, send, recv, count, type, root, comm, stream);
}

onecclResult_t onecclSend(const void *send, size_t count, onecclDataType_t type, int peer, onecclComm_t comm, void *stream) {
  HAND_ON(send, send, count, type, peer, comm, stream);
}

onecclResult_t onecclRecv(void *recv, size_t count, onecclDataType_t type, int peer, onecclComm_t comm, void *stream) {
  HAND_ON(recv, recv, count, type, peer, comm, stream);
}
