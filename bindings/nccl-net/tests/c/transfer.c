/* Two processes, one of which sends to the other: transfer VERSION [LIBRARY's settings are the environment's]
 * VERSION 0 looks for the highest, as NCCL does. */
#include "driver.h"

#include <sys/socket.h>
#include <sys/wait.h>

enum { COMMS = 3, FLIGHT = 32, MEGA = 1 << 20, LONGEST = 4 * MEGA };

/* One side: the plug-in, the way to the other side, its connections, and memory that is registered with each. */
typedef struct {
  plugin_t net;
  int peer;
  int sends;
  void *comm[COMMS];
  /* The other way. */
  void *back;
  unsigned char *bytes;
  void *memory[COMMS];
  void *back_memory;
} side_t;

static void tell(side_t *side, const void *what, size_t size) {
  EXPECT(write(side->peer, what, size) == (ssize_t)size);
}

static void hear(side_t *side, void *what, size_t size) {
  for (size_t got = 0; got < size;) {
    ssize_t more = read(side->peer, (char *)what + got, size - got);
    EXPECT(more > 0);
    got += (size_t)more;
  }
}

/* Both sides are here. */
static void meet(side_t *side) {
  char word = 'x';
  tell(side, &word, 1);
  hear(side, &word, 1);
}

static void look_at_devices(side_t *side) {
  int count = 0;
  CHECK(ALIKE(&side->net, devices, &count));
  EXPECT(count > 0);
  for (int device = 0; device < count; device++) {
    properties_t props;
    CHECK(net_properties(&side->net, device, &props));
    EXPECT(strlen(props.name) > 0 && props.speed > 0 && props.maxComms >= 1024 && props.maxRecvs >= 1);
    EXPECT((props.ptrSupport & NCCL_PTR_HOST) && props.netDeviceType == 0 && props.members == 1);
    EXPECT(props.maxP2pBytes == (size_t)1 << 30 && (props.regIsGlobal == 0));
    EXPECT(props.pciPath == NULL || strncmp(props.pciPath, "/sys/devices/", 13) == 0);
  }
}

/* Connections to the receiver, and one back. They come up while both sides ask again and again. */
static void connect_all(side_t *side) {
  char handles[COMMS + 1][NCCL_NET_HANDLE_MAXSIZE];
  void *listeners[COMMS + 1];
  int first = side->sends ? COMMS : 0, end = side->sends ? COMMS + 1 : COMMS;
  for (int at = first; at < end; at++) CHECK(net_listen(&side->net, 0, handles[at], &listeners[at]));
  tell(side, handles[first], (size_t)(end - first) * NCCL_NET_HANDLE_MAXSIZE);
  int theirs = side->sends ? 0 : COMMS, theirs_end = side->sends ? COMMS : COMMS + 1;
  hear(side, handles[theirs], (size_t)(theirs_end - theirs) * NCCL_NET_HANDLE_MAXSIZE);
  void *comms[COMMS + 1] = {NULL};
  for (int up = 0; up < COMMS + 1;) {
    up = 0;
    for (int at = 0; at < COMMS + 1; at++) {
      if (comms[at] == NULL && at >= first && at < end)
        CHECK(ALIKE(&side->net, accept, listeners[at], &comms[at], NULL));
      else if (comms[at] == NULL)
        CHECK(net_connect(&side->net, 0, handles[at], &comms[at]));
      up += comms[at] != NULL;
    }
  }
  for (int at = first; at < end; at++) CHECK(ALIKE(&side->net, closeListen, listeners[at]));
  memcpy(side->comm, comms, sizeof side->comm);
  side->back = comms[COMMS];
}

static void register_memory(side_t *side) {
  /* Some bytes behind the last that is received, to see that nothing lands there. */
  side->bytes = malloc(LONGEST + 64);
  EXPECT(side->bytes != NULL);
  for (int at = 0; at < COMMS; at++)
    CHECK(ALIKE(&side->net, regMr, side->comm[at], side->bytes, LONGEST + 64, NCCL_PTR_HOST, &side->memory[at]));
  CHECK(ALIKE(&side->net, regMr, side->back, side->bytes, LONGEST + 64, NCCL_PTR_HOST, &side->back_memory));
}

static void all_sizes(side_t *side) {
  const size_t sizes[] = {0, 1, 8, 4096, MEGA, LONGEST, 3, 4097, 65537, MEGA - 1, 0};
  for (unsigned at = 0; at < sizeof sizes / sizeof *sizes; at++) {
    size_t size = sizes[at];
    if (side->sends) {
      fill(side->bytes, size, at);
      /* No memory is needed for no bytes. */
      void *memory = size ? side->memory[0] : NULL;
      EXPECT(finish(&side->net, begin_send(&side->net, side->comm[0], side->bytes, size, 7, memory)) == size);
    } else {
      memset(side->bytes, 0xee, size + 64);
      /* A receive may be for more bytes than come. */
      void *request = begin_receive(&side->net, side->comm[0], side->bytes, size + 64, 7, side->memory[0]);
      EXPECT(finish(&side->net, request) == size);
      EXPECT(is_filled(side->bytes, size, at) && side->bytes[size] == 0xee);
    }
    meet(side);
  }
}

/* A send long before its receive is told to try again; a receive waits long for its send. */
static void one_before_the_other(side_t *side) {
  if (side->sends) {
    void *request = NULL;
    fill(side->bytes, 1000, 1);
    for (int tries = 0; tries < 1000; tries++) {
      CHECK(net_isend(&side->net, side->comm[0], side->bytes, 1000, 7, side->memory[0], &request));
      EXPECT(request == NULL);
    }
    meet(side);
    finish(&side->net, begin_send(&side->net, side->comm[0], side->bytes, 1000, 7, side->memory[0]));
    meet(side);
    finish(&side->net, begin_send(&side->net, side->comm[0], side->bytes, 500, 7, side->memory[0]));
  } else {
    meet(side);
    finish(&side->net, begin_receive(&side->net, side->comm[0], side->bytes, 1000, 7, side->memory[0]));
    EXPECT(is_filled(side->bytes, 1000, 1));
    void *request = begin_receive(&side->net, side->comm[0], side->bytes, 1000, 7, side->memory[0]);
    for (int tries = 0; tries < 1000; tries++) {
      int done = 1;
      CHECK(ALIKE(&side->net, test, request, &done, NULL));
      EXPECT(done == 0);
    }
    meet(side);
    EXPECT(finish(&side->net, request) == 500);
  }
  meet(side);
}

/* As many at once as NCCL may have, asked for from behind. */
static void all_in_flight(side_t *side) {
  enum { SIZE = 100000 };
  void *requests[FLIGHT];
  if (!side->sends)
    for (int at = 0; at < FLIGHT; at++)
      requests[at] =
          begin_receive(&side->net, side->comm[1], side->bytes + at * SIZE, SIZE, 7, side->memory[1]);
  meet(side);
  for (int at = 0; side->sends && at < FLIGHT; at++) {
    fill(side->bytes + at * SIZE, SIZE, (unsigned)at);
    requests[at] = begin_send(&side->net, side->comm[1], side->bytes + at * SIZE, SIZE, 7, side->memory[1]);
  }
  for (int at = FLIGHT - 1; at >= 0; at--) {
    EXPECT(finish(&side->net, requests[at]) == SIZE);
    EXPECT(is_filled(side->bytes + at * SIZE, SIZE, (unsigned)at));
  }
  meet(side);
}

/* Receives of one group are done together; each takes the next send of its tag. */
static void groups_and_tags(side_t *side) {
  if (side->sends) {
    const int tags[] = {6, 5, 5};
    const size_t sizes[] = {30, 10, 20};
    for (unsigned at = 0; at < 3; at++) {
      fill(side->bytes, sizes[at], at);
      finish(&side->net, begin_send(&side->net, side->comm[2], side->bytes, sizes[at], tags[at], side->memory[2]));
    }
  } else {
    void *data[] = {side->bytes, side->bytes + 100, side->bytes + 200}, *request = NULL;
    void *memory[] = {side->memory[2], side->memory[2], side->memory[2]};
    size_t room[] = {100, 100, 100};
    int tags[] = {5, 6, 5}, done = 0, sizes[8] = {0};
    while (request == NULL)
      CHECK(net_irecv(&side->net, side->comm[2], 3, data, room, tags, memory, &request));
    while (!done) CHECK(ALIKE(&side->net, test, request, &done, sizes));
    EXPECT(sizes[0] == 10 && sizes[1] == 30 && sizes[2] == 20);
    EXPECT(is_filled(data[0], 10, 1) && is_filled(data[1], 30, 0) && is_filled(data[2], 20, 2));
    /* Memory of the host needs no flush. */
    request = side;
    CHECK(ALIKE(&side->net, iflush, side->comm[2], 3, data, sizes, memory, &request));
    EXPECT(request == NULL);
  }
  meet(side);
}

/* Size of the n-th message of a connection. */
static size_t varied(int comm, int n) { return (size_t)((n * 7919 + comm * 104729) % 50000); }

/* Eight at a time on each connection, all connections in turn. */
static void connections_at_once(side_t *side) {
  enum { DEPTH = 8, MESSAGES = 300, ROOM = 50000 };
  int begun[COMMS] = {0}, ended[COMMS] = {0};
  void *requests[COMMS][DEPTH];
  for (int left = COMMS; left > 0;) {
    left = 0;
    for (int c = 0; c < COMMS; c++) {
      unsigned char *place = side->bytes + ((size_t)c * DEPTH + (size_t)begun[c] % DEPTH) * ROOM;
      if (begun[c] < MESSAGES && begun[c] < ended[c] + DEPTH) {
        void *request = NULL, *memory = side->memory[c], *data = place;
        size_t size = side->sends ? varied(c, begun[c]) : ROOM;
        int tag = 3;
        if (side->sends) {
          fill(place, size, (unsigned)(c * 1000 + begun[c]));
          CHECK(net_isend(&side->net, side->comm[c], place, size, tag, memory, &request));
        } else {
          CHECK(net_irecv(&side->net, side->comm[c], 1, &data, &size, &tag, &memory, &request));
        }
        if (request != NULL) requests[c][begun[c]++ % DEPTH] = request;
      }
      if (ended[c] < begun[c]) {
        int done = 0, size = 0;
        CHECK(ALIKE(&side->net, test, requests[c][ended[c] % DEPTH], &done, &size));
        if (done) {
          place = side->bytes + ((size_t)c * DEPTH + (size_t)ended[c] % DEPTH) * ROOM;
          EXPECT((size_t)size == varied(c, ended[c]));
          EXPECT(side->sends || is_filled(place, (size_t)size, (unsigned)(c * 1000 + ended[c])));
          ended[c]++;
        }
      }
      left += ended[c] < MESSAGES;
    }
  }
  meet(side);
}

/* Messages that answer one another, which go to and fro. */
static void there_and_back(side_t *side) {
  void *out = side->sends ? side->comm[0] : side->back, *in = side->sends ? side->back : side->comm[0];
  void *out_memory = side->sends ? side->memory[0] : side->back_memory;
  void *in_memory = side->sends ? side->back_memory : side->memory[0];
  for (unsigned turn = 0; turn < 200; turn++) {
    void *receive = begin_receive(&side->net, in, side->bytes, 8, 1, in_memory);
    fill(side->bytes + 100, 8, turn);
    if (side->sends) finish(&side->net, begin_send(&side->net, out, side->bytes + 100, 8, 1, out_memory));
    EXPECT(finish(&side->net, receive) == 8 && is_filled(side->bytes, 8, turn));
    if (!side->sends) finish(&side->net, begin_send(&side->net, out, side->bytes + 100, 8, 1, out_memory));
  }
  meet(side);
}

/* Both sides hear of a message that is longer than its receive. */
static void too_long(side_t *side) {
  int result = SUCCESS, done = 0;
  void *request = NULL;
  if (side->sends) {
    while (result == SUCCESS)
      result = net_isend(&side->net, side->comm[2], side->bytes, 101, 7, side->memory[2], &request);
  } else {
    request = begin_receive(&side->net, side->comm[2], side->bytes, 100, 7, side->memory[2]);
    while (result == SUCCESS) result = ALIKE(&side->net, test, request, &done, NULL);
  }
  EXPECT_RESULT(INVALID_USAGE, result);
  EXPECT(strstr(warning, "101 bytes") && strstr(warning, "connection from "));
  meet(side);
}

static void close_all(side_t *side) {
  for (int at = 0; at < COMMS; at++) {
    CHECK(ALIKE(&side->net, deregMr, side->comm[at], side->memory[at]));
    CHECK(side->sends ? ALIKE(&side->net, closeSend, side->comm[at]) : ALIKE(&side->net, closeRecv, side->comm[at]));
  }
  CHECK(ALIKE(&side->net, deregMr, side->back, side->back_memory));
  CHECK(side->sends ? ALIKE(&side->net, closeRecv, side->back) : ALIKE(&side->net, closeSend, side->back));
  CHECK(net_finalize(&side->net));
  free(side->bytes);
}

static void play(int version, int peer, int sends) {
  side_t side = {.peer = peer, .sends = sends, .net = plugin_open(version)};
  EXPECT(version == 0 ? side.net.version == 12 : side.net.version == version);
  CHECK(net_init(&side.net));
  look_at_devices(&side);
  connect_all(&side);
  register_memory(&side);
  all_sizes(&side);
  one_before_the_other(&side);
  all_in_flight(&side);
  groups_and_tags(&side);
  connections_at_once(&side);
  there_and_back(&side);
  too_long(&side);
  close_all(&side);
}

int main(int argc, char **argv) {
  int pair[2], status;
  if (argc != 2) return 2;
  EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  pid_t child = fork();
  EXPECT(child >= 0);
  play(atoi(argv[1]), pair[child == 0], child == 0);
  if (child == 0) return 0;
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
  puts("all right");
  return 0;
}
