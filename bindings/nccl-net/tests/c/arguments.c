/* Wrong arguments: each is an error of its own kind, and the log says which argument, and what is allowed. */
#include "driver.h"

/* A connection of this process with itself. */
static void connect_here(plugin_t *p, void **to, void **from) {
  char handle[NCCL_NET_HANDLE_MAXSIZE];
  void *listener;
  CHECK(net_listen(p, 0, handle, &listener));
  *to = *from = NULL;
  while (*to == NULL || *from == NULL) {
    if (*to == NULL) CHECK(net_connect(p, 0, handle, to));
    if (*from == NULL) CHECK(ALIKE(p, accept, listener, from, NULL));
  }
  void *again = NULL;
  EXPECT_ERROR(INVALID_USAGE, "one for each listen", ALIKE(p, accept, listener, &again, NULL));
  CHECK(ALIKE(p, closeListen, listener));
}

static void before_a_connection(plugin_t *p) {
  char handle[NCCL_NET_HANDLE_MAXSIZE] = {0};
  void *made = NULL;
  int count, device = 0;
  properties_t props;
  CHECK(ALIKE(p, devices, &count));
  EXPECT_ERROR(INVALID_ARGUMENT, "ndev", ALIKE(p, devices, NULL));
  EXPECT_ERROR(INVALID_ARGUMENT, "there is no device -1 (allowed: 0 to ", net_properties(p, -1, &props));
  EXPECT_ERROR(INVALID_ARGUMENT, "there is no device", net_properties(p, count, &props));
  EXPECT_ERROR(INVALID_ARGUMENT, "there is no device", net_listen(p, count, handle, &made));
  EXPECT_ERROR(INVALID_ARGUMENT, "handle: null", net_listen(p, 0, NULL, &made));
  EXPECT_ERROR(INVALID_ARGUMENT, "listenComm", net_listen(p, 0, handle, NULL));
  memset(handle, 0, sizeof handle);
  EXPECT_ERROR(INVALID_ARGUMENT, "handle: not what listen", net_connect(p, 0, handle, &made));
  EXPECT_ERROR(INVALID_ARGUMENT, "handle: null", net_connect(p, 0, NULL, &made));
  EXPECT_ERROR(INVALID_ARGUMENT, "listenComm: null", ALIKE(p, accept, NULL, &made, NULL));
  EXPECT_ERROR(INVALID_ARGUMENT, "listenComm: something else", ALIKE(p, closeListen, handle));
  EXPECT(made == NULL);
  if (p->version == 12) {
    ncclNetVDeviceProps_v12_t members = {9, {0}};
    EXPECT_ERROR(INVALID_ARGUMENT, "ndevs (allowed: 1 to 8)", TABLE(p, 12)->makeVDevice(&device, &members));
    EXPECT_ERROR(INVALID_ARGUMENT, "props", TABLE(p, 12)->makeVDevice(&device, NULL));
    EXPECT_ERROR(INVALID_ARGUMENT, "ctx: null", TABLE(p, 12)->listen(NULL, 0, handle, &made));
    EXPECT_ERROR(INVALID_ARGUMENT, "ctx: null", TABLE(p, 12)->finalize(NULL));
  }
}

static void memory_and_messages(plugin_t *p, void *to, void *from) {
  char bytes[100];
  void *memory[8], *mine, *request = NULL, *data[9] = {bytes};
  size_t sizes[9] = {100};
  int tags[9] = {0}, done, flushed[1] = {100};
  EXPECT_ERROR(INVALID_ARGUMENT, "comm: null", ALIKE(p, regMr, NULL, bytes, 100, NCCL_PTR_HOST, &mine));
  EXPECT_ERROR(INVALID_ARGUMENT, "data: null", ALIKE(p, regMr, to, NULL, 100, NCCL_PTR_HOST, &mine));
  EXPECT_ERROR(INVALID_ARGUMENT, "size: 0 bytes", ALIKE(p, regMr, to, bytes, 0, NCCL_PTR_HOST, &mine));
  EXPECT_ERROR(INVALID_ARGUMENT, "type: 9 (allowed: ", ALIKE(p, regMr, to, bytes, 100, 9, &mine));
  EXPECT_ERROR(INVALID_ARGUMENT, "mhandle: null", ALIKE(p, regMr, to, bytes, 100, NCCL_PTR_HOST, NULL));
  EXPECT_ERROR(INVALID_USAGE, "dma-buf", ALIKE(p, regMr, to, bytes, 100, NCCL_PTR_CUDA, &mine));
  EXPECT_ERROR(INVALID_ARGUMENT, "fd: -1", ALIKE(p, regMrDmaBuf, to, bytes, 100, NCCL_PTR_CUDA, 0, -1, &mine));
  EXPECT_ERROR(INVALID_USAGE, "memory of a GPU on the connection from",
               ALIKE(p, regMrDmaBuf, to, bytes, 100, NCCL_PTR_CUDA, 0, 0, &mine));
  CHECK(ALIKE(p, regMr, to, bytes, 100, NCCL_PTR_HOST, &mine));
  CHECK(ALIKE(p, regMr, from, bytes, 100, NCCL_PTR_HOST, &memory[0]));

  EXPECT_ERROR(INVALID_ARGUMENT, "sendComm: null", net_isend(p, NULL, bytes, 1, 0, mine, &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "sendComm: it receives", net_isend(p, from, bytes, 1, 0, memory[0], &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "mhandle: null", net_isend(p, to, bytes, 1, 0, NULL, &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "another connection", net_isend(p, to, bytes, 1, 0, memory[0], &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "are not inside", net_isend(p, to, bytes, 101, 0, mine, &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "are not inside", net_isend(p, to, bytes - 1, 2, 0, mine, &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "request: null", net_isend(p, to, bytes, 1, 0, mine, NULL));
  if (p->version == 8)
    EXPECT_ERROR(INVALID_ARGUMENT, "size: -1", net_isend(p, to, bytes, (size_t)-1, 0, mine, &request));
  else
    EXPECT_ERROR(INVALID_ARGUMENT, "maxP2pBytes", net_isend(p, to, bytes, ((size_t)1 << 30) + 1, 0, mine, &request));
  EXPECT(request == NULL);

  EXPECT_ERROR(INVALID_ARGUMENT, "recvComm: it sends", net_irecv(p, to, 1, data, sizes, tags, &mine, &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "n: 0 receives (allowed: 1 to 8", net_irecv(p, from, 0, data, sizes, tags, memory, &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "n: 9 receives", net_irecv(p, from, 9, data, sizes, tags, memory, &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "mhandles: null", net_irecv(p, from, 1, data, sizes, tags, NULL, &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "tags: null", net_irecv(p, from, 1, data, sizes, NULL, memory, &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "recvComm: it sends", ALIKE(p, iflush, to, 1, data, flushed, &mine, &request));
  EXPECT_ERROR(INVALID_ARGUMENT, "request: null", ALIKE(p, test, NULL, &done, NULL));

  request = begin_receive(p, from, bytes, 50, 0, memory[0]);
  EXPECT_ERROR(INVALID_ARGUMENT, "done: null", ALIKE(p, test, request, NULL, NULL));
  void *sending = begin_send(p, to, bytes, 50, 0, mine);
  EXPECT(finish(p, request) == 50 && finish(p, sending) == 50);
  EXPECT_ERROR(INVALID_ARGUMENT, "reported as done already", ALIKE(p, test, request, &done, NULL));

  EXPECT_ERROR(INVALID_ARGUMENT, "another connection", ALIKE(p, deregMr, to, memory[0]));
  EXPECT_ERROR(INVALID_ARGUMENT, "mhandle: null", ALIKE(p, deregMr, to, NULL));
  CHECK(ALIKE(p, deregMr, to, mine));
  CHECK(ALIKE(p, deregMr, from, memory[0]));
  EXPECT_ERROR(INVALID_ARGUMENT, "sendComm: null", ALIKE(p, closeSend, NULL));
}

/* A joined device is one more; NCCL that begins anew finds those of the host. */
static void joined_devices(plugin_t *p) {
  ncclNetVDeviceProps_v12_t members = {1, {0}};
  int before, count, device;
  CHECK(ALIKE(p, devices, &before));
  CHECK(TABLE(p, 12)->makeVDevice(&device, &members));
  CHECK(ALIKE(p, devices, &count));
  EXPECT(device == before && count == before + 1);
  plugin_t second = plugin_open(12);
  CHECK(net_init(&second));
  CHECK(ALIKE(p, devices, &count));
  EXPECT(count == before + 1);
  CHECK(net_finalize(&second));
  CHECK(net_finalize(p));
  CHECK(net_init(p));
  CHECK(ALIKE(p, devices, &count));
  EXPECT(count == before);
}

int main(void) {
  for (int version = 8; version <= 12; version++) {
    void *to, *from;
    plugin_t plugin = plugin_open(version);
    CHECK(net_init(&plugin));
    before_a_connection(&plugin);
    connect_here(&plugin, &to, &from);
    memory_and_messages(&plugin, to, from);
    CHECK(ALIKE(&plugin, closeSend, to));
    CHECK(ALIKE(&plugin, closeRecv, from));
    if (version == 12) joined_devices(&plugin);
    CHECK(net_finalize(&plugin));
  }
  puts("all right");
  return 0;
}
