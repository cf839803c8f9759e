/* Two hosts, one message after the other from one to the other: rail receive PORT, or rail send PORT ADDRESS SECONDS
 * Over all RDMA devices of the host as one device of NCCL. What was received is compared; the log goes to standard error. */
#include "driver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

enum { SIZE = 1 << 20, END = 1, MOST = 8 };

static struct sockaddr_in at(const char *address, const char *port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
  EXPECT(inet_pton(AF_INET, address, &to.sin_addr) == 1);
  return to;
}

/* A socket to the other side, over which the handle goes. */
static int meet(int sends, const char *port, const char *address) {
  struct sockaddr_in to = at(address, port);
  if (sends) {
    for (int tries = 0; tries < 600; tries++) {
      int out = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(out, (struct sockaddr *)&to, sizeof to) == 0) return out;
      close(out);
      usleep(100000);
    }
    EXPECT(!"the receiver can be reached");
  }
  int in = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT(bind(in, (struct sockaddr *)&to, sizeof to) == 0 && listen(in, 1) == 0);
  return accept(in, NULL, NULL);
}

/* All devices as one, as NCCL joins them. */
static int device(plugin_t *p) {
  ncclNetVDeviceProps_v12_t members = {0, {0}};
  int count, joined = 0;
  CHECK(ALIKE(p, devices, &count));
  for (; members.ndevs < count && members.ndevs < MOST; members.ndevs++) members.devs[members.ndevs] = members.ndevs;
  if (count > 1) CHECK(TABLE(p, 12)->makeVDevice(&joined, &members));
  properties_t props;
  CHECK(net_properties(p, joined, &props));
  EXPECT(props.members == count);
  return joined;
}

static unsigned send_all(plugin_t *p, void *comm, unsigned char *bytes, void *memory, int seconds) {
  unsigned sent = 0;
  for (time_t end = time(NULL) + seconds; time(NULL) < end; sent++) {
    fill(bytes, SIZE, sent);
    EXPECT(finish(p, begin_send(p, comm, bytes, SIZE, 0, memory)) == SIZE);
  }
  finish(p, begin_send(p, comm, bytes, END, 0, memory));
  return sent;
}

static unsigned receive_all(plugin_t *p, void *comm, unsigned char *bytes, void *memory) {
  for (unsigned received = 0;; received++) {
    size_t size = finish(p, begin_receive(p, comm, bytes, SIZE, 0, memory));
    if (size == END) return received;
    EXPECT(size == SIZE && is_filled(bytes, SIZE, received));
    memset(bytes, 0, SIZE);
  }
}

int main(int argc, char **argv) {
  int sends = argc == 5 && strcmp(argv[1], "send") == 0;
  if (!sends && (argc != 3 || strcmp(argv[1], "receive") != 0)) return 2;
  char handle[NCCL_NET_HANDLE_MAXSIZE];
  void *comm = NULL, *listener = NULL, *memory;
  unsigned char *bytes = malloc(SIZE);
  verbose = 1;
  int peer = meet(sends, argv[2], sends ? argv[3] : "0.0.0.0");
  plugin_t plugin = plugin_open(0);
  CHECK(net_init(&plugin));
  int joined = device(&plugin);
  if (sends) {
    EXPECT(recv(peer, handle, sizeof handle, MSG_WAITALL) == sizeof handle);
  } else {
    CHECK(net_listen(&plugin, joined, handle, &listener));
    EXPECT(write(peer, handle, sizeof handle) == sizeof handle);
  }
  while (comm == NULL)
    CHECK(sends ? net_connect(&plugin, joined, handle, &comm) : ALIKE(&plugin, accept, listener, &comm, NULL));
  CHECK(ALIKE(&plugin, regMr, comm, bytes, SIZE, NCCL_PTR_HOST, &memory));
  unsigned count = sends ? send_all(&plugin, comm, bytes, memory, atoi(argv[4]))
                         : receive_all(&plugin, comm, bytes, memory);
  /* Nobody closes before both are done. */
  EXPECT(write(peer, handle, 1) == 1 && read(peer, handle, 1) == 1);
  CHECK(ALIKE(&plugin, deregMr, comm, memory));
  CHECK(sends ? ALIKE(&plugin, closeSend, comm) : ALIKE(&plugin, closeRecv, comm));
  CHECK(net_finalize(&plugin));
  printf("%u messages, all right\n", count);
  return 0;
}
