/* An NPU in software, as a plug-in for devices: the reference in C, which tests run and docs/devices.md explains.
 *
 * It stands for a maker whose devices reach nobody and reduce nothing, and whose calls return when their work is done. Bytes do
 * not lie in its memory as they are addressed. The memory is in a process of its own, the engine, which this one talks to
 * through a socket; nothing of it is ever mapped here.
 *
 * cc -shared -fPIC -fvisibility=hidden -I transport/device/abi/include npu_b.c -o libnpu_b.so */

#define _GNU_SOURCE
#include <dure_device.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICES 16
#define MEMORY (1ull << 30)
#define ALLOCATIONS 4096
#define ALIGN 64
/* Seconds after which an engine that does not answer has failed. */
#define PATIENCE 20

/* What the engine is told. Bytes follow a WRITE, and are the answer to a READ. */
enum { WRITE, READ, MOVE, ZERO };

struct order {
  uint32_t kind;
  uint64_t at, to, bytes;
};

struct allocation {
  uint64_t at, bytes;
};

struct dureDevice {
  pid_t engine;
  int socket;
  /* Addresses that stand for the memory: reserved, and without access rights. */
  char *base;
  pthread_mutex_t lock;
  /* Sorted by where they are. */
  struct allocation allocations[ALLOCATIONS];
  size_t count;
  dureDeviceCounters_t moved;
};

struct dureDeviceStream {
  struct dureDevice *device;
  uint64_t event;
};

static _Thread_local char why[256];

static dureDeviceStatus_t fail(dureDeviceStatus_t status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why, sizeof why, format, arguments);
  va_end(arguments);
  return status;
}

static const char *last_error(void) { return why; }

/* The engine. */

/* Where byte `at` lies: each run of 256 bytes is the other way around. */
static uint64_t tiled(uint64_t at) { return (at & ~255ull) | (255 - (at & 255)); }

static int send_all(int socket, const void *bytes, size_t count) {
  const char *at = bytes;
  while (count > 0) {
    ssize_t sent = send(socket, at, count, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return 0;
    at += sent;
    count -= (size_t)sent;
  }
  return 1;
}

static int receive_all(int socket, void *bytes, size_t count) {
  char *at = bytes;
  while (count > 0) {
    ssize_t came = recv(socket, at, count, 0);
    if (came < 0 && errno == EINTR) continue;
    if (came <= 0) return 0;
    at += came;
    count -= (size_t)came;
  }
  return 1;
}

static int obey(int socket, unsigned char *memory, const struct order *order) {
  unsigned char piece[4096];
  for (uint64_t done = 0; done < order->bytes;) {
    uint64_t count = order->bytes - done < sizeof piece ? order->bytes - done : sizeof piece;
    if (order->kind == WRITE && !receive_all(socket, piece, count)) return 0;
    for (uint64_t i = 0; i < count; i++) {
      unsigned char *here = &memory[tiled(order->at + done + i)];
      switch (order->kind) {
        case WRITE: *here = piece[i]; break;
        case READ: piece[i] = *here; break;
        case MOVE: memory[tiled(order->to + done + i)] = *here; break;
        default: *here = 0;
      }
    }
    if (order->kind == READ && !send_all(socket, piece, count)) return 0;
    done += count;
  }
  char answer = 1;
  return order->kind == READ || send_all(socket, &answer, 1);
}

static void run_engine(int socket, uint32_t index) {
  char name[16] = "npu-b:";
  name[6] = (char)('0' + index / 10);
  name[7] = (char)('0' + index % 10);
  prctl(PR_SET_NAME, name);
  void *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  struct order order;
  while (memory != MAP_FAILED && receive_all(socket, &order, sizeof order) && obey(socket, memory, &order)) {
  }
  _exit(0);
}

/* The side of the process that uses the device. */

static dureDeviceStatus_t lost(void) {
  if (errno == EAGAIN || errno == EWOULDBLOCK) {
    return fail(dureDeviceFailed, "the engine does not answer for %d seconds", PATIENCE);
  }
  return fail(dureDeviceGone, "the engine is gone");
}

/* One order. What a thread says is not mixed with what another does. */
static dureDeviceStatus_t tell(struct dureDevice *device, struct order order, const void *write, void *read) {
  pthread_mutex_lock(&device->lock);
  errno = 0;
  char answer;
  int done = send_all(device->socket, &order, sizeof order) && (!write || send_all(device->socket, write, order.bytes)) &&
             (read ? receive_all(device->socket, read, order.bytes) : receive_all(device->socket, &answer, 1));
  dureDeviceStatus_t status = done ? dureDeviceOk : lost();
  pthread_mutex_unlock(&device->lock);
  return status;
}

static dureDeviceStatus_t count(uint32_t *devices) {
  *devices = DEVICES;
  return dureDeviceOk;
}

static dureDeviceStatus_t check_index(uint32_t index) {
  if (index < DEVICES) return dureDeviceOk;
  return fail(dureDeviceInvalid, "there is no device %u (allowed: 0 to %d)", index, DEVICES - 1);
}

/* A structure of which the caller knows so much as its first field says. */
static void give(void *into, const void *from, size_t size) {
  uint32_t theirs = *(uint32_t *)into;
  memcpy(into, from, theirs < size ? theirs : size);
  *(uint32_t *)into = theirs;
}

static dureDeviceStatus_t describe(uint32_t index, dureDeviceInfo_t *info) {
  if (check_index(index)) return dureDeviceInvalid;
  dureDeviceInfo_t about = {.size = sizeof about, .capabilities = DURE_DEVICE_OPAQUE, .name = "npu-b (software)", .numa = -1};
  snprintf(about.serial, sizeof about.serial, "npu-b-%u", index);
  about.memory = MEMORY;
  give(info, &about, sizeof about);
  return dureDeviceOk;
}

static dureDeviceStatus_t open_device(uint32_t index, const uint32_t *peers, uint32_t peer_count, dureDevice_t **device) {
  (void)peers, (void)peer_count;
  if (check_index(index)) return dureDeviceInvalid;
  struct dureDevice *opened = calloc(1, sizeof *opened);
  int ends[2];
  if (!opened || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    free(opened);
    return fail(dureDeviceFailed, "socketpair: %s", strerror(errno));
  }
  opened->base = mmap(NULL, MEMORY, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  opened->engine = opened->base == MAP_FAILED ? -1 : fork();
  if (opened->engine == 0) {
    /* Connections of this process must not outlive it in the engine. */
    int socket = dup2(ends[1], 3);
    close_range(4, ~0u, 0);
    run_engine(socket, index);
  }
  close(ends[1]);
  if (opened->engine < 0) {
    close(ends[0]);
    free(opened);
    return fail(dureDeviceFailed, "fork: %s", strerror(errno));
  }
  struct timeval patience = {PATIENCE, 0};
  setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  opened->socket = ends[0];
  pthread_mutex_init(&opened->lock, NULL);
  *device = opened;
  return dureDeviceOk;
}

static dureDeviceStatus_t close_device(dureDevice_t *device) {
  close(device->socket);
  kill(device->engine, SIGKILL);
  waitpid(device->engine, NULL, 0);
  munmap(device->base, MEMORY);
  pthread_mutex_destroy(&device->lock);
  free(device);
  return dureDeviceOk;
}

static dureDeviceStatus_t health(dureDevice_t *device) {
  char byte;
  ssize_t came = recv(device->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (came == 0 || (came < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) {
    return fail(dureDeviceGone, "the engine is gone");
  }
  return dureDeviceOk;
}

static dureDeviceStatus_t counters(dureDevice_t *device, dureDeviceCounters_t *into) {
  pthread_mutex_lock(&device->lock);
  give(into, &device->moved, sizeof device->moved);
  pthread_mutex_unlock(&device->lock);
  return dureDeviceOk;
}

static dureDeviceStatus_t alloc_memory(dureDevice_t *device, uint64_t bytes, void **address) {
  uint64_t size = (bytes + (bytes == 0) + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
  if (size < bytes || size > MEMORY) return fail(dureDeviceOutOfMemory, "%llu bytes are too many", (unsigned long long)bytes);
  pthread_mutex_lock(&device->lock);
  uint64_t at = 0;
  size_t place = 0;
  for (; place < device->count && device->allocations[place].at - at < size; place++) {
    struct allocation before = device->allocations[place];
    at = (before.at + before.bytes + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
  }
  int fits = device->count < ALLOCATIONS && MEMORY - at >= size;
  if (fits) {
    memmove(&device->allocations[place + 1], &device->allocations[place], (device->count - place) * sizeof(struct allocation));
    device->allocations[place] = (struct allocation){at, bytes + (bytes == 0)};
    device->count++;
  }
  pthread_mutex_unlock(&device->lock);
  if (!fits) return fail(dureDeviceOutOfMemory, "there is no room for %llu bytes", (unsigned long long)bytes);
  *address = device->base + at;
  return tell(device, (struct order){ZERO, at, 0, bytes}, NULL, NULL);
}

/* The allocation that an address is in; the lock is held. */
static struct allocation *find(struct dureDevice *device, const void *address) {
  uint64_t at = (uint64_t)((const char *)address - device->base);
  for (size_t i = 0; i < device->count; i++) {
    struct allocation *one = &device->allocations[i];
    if ((const char *)address >= device->base && at >= one->at && at - one->at < one->bytes) return one;
  }
  return NULL;
}

static dureDeviceStatus_t free_memory(dureDevice_t *device, void *address) {
  pthread_mutex_lock(&device->lock);
  struct allocation *found = find(device, address);
  int whole = found && device->base + found->at == address;
  if (whole) {
    size_t behind = device->count - (size_t)(found - device->allocations) - 1;
    memmove(found, found + 1, behind * sizeof *found);
    device->count--;
  }
  pthread_mutex_unlock(&device->lock);
  return whole ? dureDeviceOk : fail(dureDeviceInvalid, "%p is no allocation", address);
}

static dureDeviceStatus_t query(dureDevice_t *device, const void *address, dureDeviceRange_t *range) {
  pthread_mutex_lock(&device->lock);
  struct allocation *found = find(device, address);
  dureDeviceRange_t about = {.size = sizeof about};
  if (found) {
    about.base = device->base + found->at;
    about.bytes = found->bytes;
  }
  pthread_mutex_unlock(&device->lock);
  if (!found) return fail(dureDeviceInvalid, "%p is in no allocation", address);
  give(range, &about, sizeof about);
  return dureDeviceOk;
}

static dureDeviceStatus_t open_stream(dureDevice_t *device, dureDeviceStream_t **stream) {
  struct dureDeviceStream *opened = calloc(1, sizeof *opened);
  if (!opened) return fail(dureDeviceOutOfMemory, "there is no room for a stream");
  opened->device = device;
  *stream = opened;
  return dureDeviceOk;
}

static dureDeviceStatus_t close_stream(dureDeviceStream_t *stream) {
  free(stream);
  return dureDeviceOk;
}

static int inside(struct dureDevice *device, const void *address, uint64_t bytes) {
  const char *at = address;
  return at >= device->base && at <= device->base + MEMORY && bytes <= (uint64_t)(device->base + MEMORY - at);
}

static dureDeviceStatus_t copy_row(struct dureDevice *device, const dureDeviceCopy_t *copy, const char *src, char *dst) {
  uint64_t from = (uint64_t)(src - device->base), to = (uint64_t)(dst - device->base), bytes = copy->bytes;
  if (copy->src_is_host) {
    device->moved.from_host += bytes;
    return tell(device, (struct order){WRITE, to, 0, bytes}, src, NULL);
  }
  if (copy->dst_is_host) {
    device->moved.to_host += bytes;
    return tell(device, (struct order){READ, from, 0, bytes}, NULL, dst);
  }
  device->moved.inside += bytes;
  return tell(device, (struct order){MOVE, from, to, bytes}, NULL, NULL);
}

static dureDeviceStatus_t copy_one(struct dureDevice *device, const dureDeviceCopy_t *copy) {
  uint64_t last = copy->rows > 0 ? copy->rows - 1 : 0;
  if (copy->src_is_host && copy->dst_is_host) return fail(dureDeviceInvalid, "both sides of a copy are the host's");
  if ((!copy->src_is_host && !inside(device, copy->src, last * copy->src_pitch + copy->bytes)) ||
      (!copy->dst_is_host && !inside(device, copy->dst, last * copy->dst_pitch + copy->bytes))) {
    return fail(dureDeviceInvalid, "a copy names what is no memory of this device");
  }
  for (uint64_t row = 0; row < copy->rows; row++) {
    const char *src = (const char *)copy->src + row * copy->src_pitch;
    dureDeviceStatus_t status = copy_row(device, copy, src, (char *)copy->dst + row * copy->dst_pitch);
    if (status) return status;
  }
  return dureDeviceOk;
}

static dureDeviceStatus_t copy(dureDeviceStream_t *stream, const dureDeviceCopy_t *copies, uint32_t copy_count) {
  for (uint32_t i = 0; i < copy_count; i++) {
    dureDeviceStatus_t status = copy_one(stream->device, copies);
    if (status) return status;
    copies = (const dureDeviceCopy_t *)((const char *)copies + copies->size);
  }
  stream->event++;
  return dureDeviceOk;
}

static dureDeviceStatus_t record(dureDeviceStream_t *stream, uint64_t *event) {
  *event = stream->event;
  return dureDeviceOk;
}

static dureDeviceStatus_t completed(dureDeviceStream_t *stream, uint64_t *event) {
  *event = stream->event;
  return dureDeviceOk;
}

static const dureDevicePlugin_t table = {
    .size = sizeof table,
    .abi = DURE_DEVICE_ABI,
    .vendor = "npu-b",
    .version = "1",
    .error = last_error,
    .count = count,
    .describe = describe,
    .open = open_device,
    .close = close_device,
    .health = health,
    .counters = counters,
    .alloc = alloc_memory,
    .free = free_memory,
    .query = query,
    .stream_open = open_stream,
    .stream_close = close_stream,
    .copy = copy,
    .record = record,
    .completed = completed,
};

__attribute__((visibility("default"))) const dureDevicePlugin_t *dureGetDevicePlugin(void) { return &table; }
