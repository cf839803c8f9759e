/* FuriosaAI's RNGD as far as its host side is public, as a plug-in for devices.
 *
 * Public are: the folders of the driver below /sys/class/rngd_mgmt; that the NPU's memory is seen through the BAR device
 * /dev/rngd/npuNbar4 from 256 MiB on, which mmap takes, and an ioctl of that device exports as a dma-buf (furiosa-ai/tokio-rdma,
 * examples/common/mod.rs and examples/dmabuf_rdma.rs); and how far two NPUs are from each other (furiosa_smi.h of
 * furiosa-ai/libfuriosa-kubernetes). Not public are the allocator and the copy engines. So the memory offered here is a window
 * that the user names and nobody else may use, and the processor copies:
 *
 *   RNGD_WINDOW   bytes of each NPU's memory, from 256 MiB of its BAR on. Without it there is no device.
 *   RNGD_ROOT     folder that stands for / (a double of the driver).
 *
 * cc -shared -fPIC -fvisibility=hidden -I transport/device/abi/include rngd.c -ldl -o librngd.so */

#define _GNU_SOURCE
#include <dure_device.h>

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST 64
#define PAGE 4096ull
/* Where the memory begins in the BAR (tokio-rdma: "must be >= 256MB for BAR4"). */
#define FIRST (256ull << 20)

/* What the ioctl takes: bytes of the BAR; the dma-buf comes back. */
struct region {
  uint64_t offset, size;
  int32_t fd;
} __attribute__((packed));
#define EXPORT_DMABUF _IOWR('N', 1, struct region)
_Static_assert(EXPORT_DMABUF == 0xc0144e01, "tokio-rdma, examples/dmabuf_rdma.rs");

struct dureDevice {
  uint32_t number;
  int bar;
  /* The window, mapped. */
  char *base;
  uint64_t bytes;
  pthread_mutex_t lock;
  /* For each page one more than the page that its allocation begins at, or 0 where it is free; and the allocation's bytes. */
  uint32_t *first;
  uint64_t *allocated;
  dureDeviceCounters_t moved;
};

struct dureDeviceStream {
  struct dureDevice *device;
  uint64_t event;
};

static _Thread_local char why[512];

static dureDeviceStatus_t fail(dureDeviceStatus_t status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why, sizeof why, format, arguments);
  va_end(arguments);
  return status;
}

static const char *last_error(void) { return why; }

/* A structure of which the caller knows so much as its first field says. */
static void give(void *into, const void *from, size_t size) {
  uint32_t theirs = *(uint32_t *)into;
  memcpy(into, from, theirs < size ? theirs : size);
  *(uint32_t *)into = theirs;
}

/* What the driver says. */

static const char *root(void) {
  const char *named = getenv("RNGD_ROOT");
  return named ? named : "";
}

/* The first line of a file, empty when there is none. */
static void line_of(char *into, size_t size, const char *format, ...) {
  char path[512];
  va_list arguments;
  va_start(arguments, format);
  int length = snprintf(path, sizeof path, "%s", root());
  vsnprintf(path + length, sizeof path - (size_t)length, format, arguments);
  va_end(arguments);
  into[0] = 0;
  FILE *file = fopen(path, "re");
  if (!file) return;
  if (!fgets(into, (int)size, file)) into[0] = 0;
  fclose(file);
  into[strcspn(into, "\n")] = 0;
}

/* Bytes of the window: whole pages. */
static dureDeviceStatus_t window(uint64_t *bytes) {
  const char *named = getenv("RNGD_WINDOW");
  char *end;
  *bytes = 0;
  if (!named) return dureDeviceOk;
  errno = 0;
  uint64_t read = strtoull(named, &end, 10);
  if (errno || *end || read < PAGE || read % PAGE || read / PAGE >= UINT32_MAX) {
    return fail(dureDeviceInvalid, "RNGD_WINDOW=%s is no size (allowed: bytes, a multiple of %llu)", named, PAGE);
  }
  *bytes = read;
  return dureDeviceOk;
}

static int by_number(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

/* The numbers of the NPUs, ascending. */
static uint32_t find_all(uint32_t numbers[MOST]) {
  char path[512];
  snprintf(path, sizeof path, "%s/sys/class/rngd_mgmt", root());
  DIR *folder = opendir(path);
  uint32_t count = 0;
  if (!folder) return 0;
  for (struct dirent *entry; count < MOST && (entry = readdir(folder));) {
    int read = 0;
    uint32_t number;
    if (sscanf(entry->d_name, "rngd!npu%umgmt%n", &number, &read) == 1 && read > 0 && !entry->d_name[read]) {
      numbers[count++] = number;
    }
  }
  closedir(folder);
  qsort(numbers, count, sizeof *numbers, by_number);
  return count;
}

static dureDeviceStatus_t count(uint32_t *devices) {
  uint32_t numbers[MOST];
  uint64_t bytes;
  dureDeviceStatus_t status = window(&bytes);
  *devices = bytes ? find_all(numbers) : 0;
  return status;
}

static dureDeviceStatus_t number_of(uint32_t index, uint32_t *number) {
  uint32_t numbers[MOST], found = find_all(numbers);
  if (index >= found) return fail(dureDeviceInvalid, "there is no NPU %u (found: %u)", index, found);
  *number = numbers[index];
  return dureDeviceOk;
}

static void pci_of(char *into, size_t size, uint32_t number) {
  line_of(into, size, "/sys/class/rngd_mgmt/rngd!npu%umgmt/busname", number);
}

static dureDeviceStatus_t describe(uint32_t index, dureDeviceInfo_t *info) {
  dureDeviceInfo_t about = {.size = sizeof about, .capabilities = DURE_DEVICE_DMABUF};
  uint32_t number = 0;
  char text[64];
  if (number_of(index, &number) || window(&about.memory)) return dureDeviceInvalid;
  line_of(text, sizeof text, "/sys/class/rngd_mgmt/rngd!npu%umgmt/device_type", number);
  snprintf(about.name, sizeof about.name, "FuriosaAI %.48s", text[0] ? text : "RNGD");
  line_of(about.serial, sizeof about.serial, "/sys/class/rngd_mgmt/rngd!npu%umgmt/device_uuid", number);
  pci_of(about.pci, sizeof about.pci, number);
  line_of(text, sizeof text, "/sys/bus/pci/devices/%s/numa_node", about.pci);
  about.numa = text[0] ? atoi(text) : -1;
  give(info, &about, sizeof about);
  return dureDeviceOk;
}

/* Links, as furiosa-smi knows them. */

struct smi {
  int (*init)(void);
  int (*by_bdf)(const char *, uint32_t *);
  int (*link_type)(uint32_t, uint32_t, int *);
  int (*accessible)(uint32_t, uint32_t, bool *);
};

static struct smi smi;
static pthread_once_t smi_once = PTHREAD_ONCE_INIT;

static void load_smi(void) {
  void *library = dlopen("libfuriosa_smi.so", RTLD_NOW | RTLD_LOCAL);
  if (!library) return;
  *(void **)&smi.by_bdf = dlsym(library, "furiosa_smi_get_device_handle_by_bdf");
  *(void **)&smi.link_type = dlsym(library, "furiosa_smi_get_device_to_device_link_type");
  *(void **)&smi.accessible = dlsym(library, "furiosa_smi_get_p2p_accessible");
  *(void **)&smi.init = dlsym(library, "furiosa_smi_init");
  if (smi.init && smi.init() != 0) smi.init = NULL;
}

/* FuriosaSmiDeviceToDeviceLinkType. */
static uint32_t link_of(int type) {
  switch (type) {
    case 10: return dureDeviceLinkSystem;  /* the same machine */
    case 20: return dureDeviceLinkBridge;  /* the same processor */
    case 30: return dureDeviceLinkSwitch;  /* the same switch */
    case 70: return dureDeviceLinkPackage; /* the same socket */
    default: return dureDeviceLinkNone;
  }
}

static dureDeviceStatus_t find_link(uint32_t from, uint32_t to, dureDeviceLink_t *into) {
  char pci[2][16];
  uint32_t number = 0, handles[2];
  int type;
  bool accessible;
  pthread_once(&smi_once, load_smi);
  if (!smi.init || !smi.by_bdf || !smi.link_type || !smi.accessible) {
    return fail(dureDeviceUnsupported, "libfuriosa_smi.so, which knows links, is not there or lacks functions");
  }
  for (int end = 0; end < 2; end++) {
    if (number_of(end ? to : from, &number)) return dureDeviceInvalid;
    pci_of(pci[end], sizeof pci[end], number);
    if (smi.by_bdf(pci[end], &handles[end])) return fail(dureDeviceFailed, "furiosa-smi does not know %s", pci[end]);
  }
  if (smi.link_type(handles[0], handles[1], &type) || smi.accessible(handles[0], handles[1], &accessible)) {
    return fail(dureDeviceFailed, "furiosa-smi does not say how %s reaches %s", pci[0], pci[1]);
  }
  dureDeviceLink_t about = {.size = sizeof about, .type = link_of(type), .peer_access = accessible};
  give(into, &about, sizeof about);
  return dureDeviceOk;
}

/* The memory. */

static dureDeviceStatus_t end(struct dureDevice *device, dureDeviceStatus_t status) {
  if (device->base && device->base != MAP_FAILED) munmap(device->base, device->bytes);
  if (device->bar >= 0) close(device->bar);
  free(device->first);
  free(device->allocated);
  free(device);
  return status;
}

static dureDeviceStatus_t open_device(uint32_t index, const uint32_t *peers, uint32_t peer_count, dureDevice_t **device) {
  (void)peers, (void)peer_count;
  char path[512];
  struct dureDevice *opened = calloc(1, sizeof *opened);
  if (!opened) return fail(dureDeviceOutOfMemory, "there is no room for a device");
  opened->bar = -1;
  if (number_of(index, &opened->number) || window(&opened->bytes)) return end(opened, dureDeviceInvalid);
  snprintf(path, sizeof path, "%s/dev/rngd/npu%ubar4", root(), opened->number);
  opened->bar = open(path, O_RDWR | O_CLOEXEC);
  if (opened->bar < 0) return end(opened, fail(dureDeviceFailed, "%s: %s", path, strerror(errno)));
  opened->base = mmap(NULL, opened->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, opened->bar, (off_t)FIRST);
  if (opened->base == MAP_FAILED) {
    return end(opened, fail(dureDeviceFailed, "%s, %llu bytes from 256 MiB on: %s", path, (unsigned long long)opened->bytes,
                            strerror(errno)));
  }
  opened->first = calloc(opened->bytes / PAGE, sizeof *opened->first);
  opened->allocated = calloc(opened->bytes / PAGE, sizeof *opened->allocated);
  if (!opened->first || !opened->allocated) return end(opened, fail(dureDeviceOutOfMemory, "there is no room for a device"));
  pthread_mutex_init(&opened->lock, NULL);
  *device = opened;
  return dureDeviceOk;
}

static dureDeviceStatus_t close_device(dureDevice_t *device) {
  pthread_mutex_destroy(&device->lock);
  return end(device, dureDeviceOk);
}

static dureDeviceStatus_t health(dureDevice_t *device) {
  char pci[16];
  pci_of(pci, sizeof pci, device->number);
  return pci[0] ? dureDeviceOk : fail(dureDeviceGone, "the driver does not list npu%u any more", device->number);
}

static dureDeviceStatus_t counters(dureDevice_t *device, dureDeviceCounters_t *into) {
  pthread_mutex_lock(&device->lock);
  give(into, &device->moved, sizeof device->moved);
  pthread_mutex_unlock(&device->lock);
  return dureDeviceOk;
}

/* What was written may wait in the processor: before anybody hears of it, it leaves. */
static void leave(void) { __sync_synchronize(); }

/* The first of so many free pages in a row, or how many pages there are. */
static uint64_t find_free(const struct dureDevice *device, uint64_t wanted) {
  uint64_t pages = device->bytes / PAGE, run = 0;
  for (uint64_t page = 0; page < pages; page++) {
    run = device->first[page] ? 0 : run + 1;
    if (run == wanted) return page + 1 - wanted;
  }
  return pages;
}

static dureDeviceStatus_t alloc_memory(dureDevice_t *device, uint64_t bytes, void **address) {
  if (bytes > device->bytes) return fail(dureDeviceOutOfMemory, "%llu bytes are too many", (unsigned long long)bytes);
  uint64_t wanted = bytes ? (bytes + PAGE - 1) / PAGE : 1;
  pthread_mutex_lock(&device->lock);
  uint64_t at = find_free(device, wanted);
  bool fits = at < device->bytes / PAGE;
  for (uint64_t page = at; fits && page < at + wanted; page++) device->first[page] = (uint32_t)(at + 1);
  if (fits) device->allocated[at] = bytes ? bytes : 1;
  pthread_mutex_unlock(&device->lock);
  if (!fits) return fail(dureDeviceOutOfMemory, "there is no room for %llu bytes", (unsigned long long)bytes);
  *address = device->base + at * PAGE;
  memset(*address, 0, wanted * PAGE);
  leave();
  return dureDeviceOk;
}

static bool inside(const struct dureDevice *device, const void *address, uint64_t bytes) {
  const char *at = address;
  return at >= device->base && at <= device->base + device->bytes && bytes <= (uint64_t)(device->base + device->bytes - at);
}

/* The page that the allocation of an address begins at, or -1; the lock is held. */
static int64_t start_of(const struct dureDevice *device, const void *address) {
  if (!inside(device, address, 1)) return -1;
  uint64_t at = (uint64_t)((const char *)address - device->base);
  int64_t start = (int64_t)device->first[at / PAGE] - 1;
  return start >= 0 && at - (uint64_t)start * PAGE < device->allocated[start] ? start : -1;
}

static dureDeviceStatus_t free_memory(dureDevice_t *device, void *address) {
  pthread_mutex_lock(&device->lock);
  int64_t start = start_of(device, address);
  bool whole = start >= 0 && device->base + (uint64_t)start * PAGE == address;
  for (uint64_t page = (uint64_t)start; whole && page < device->bytes / PAGE && device->first[page] == start + 1; page++) {
    device->first[page] = 0;
  }
  pthread_mutex_unlock(&device->lock);
  return whole ? dureDeviceOk : fail(dureDeviceInvalid, "%p is no allocation", address);
}

static dureDeviceStatus_t query(dureDevice_t *device, const void *address, dureDeviceRange_t *range) {
  dureDeviceRange_t about = {.size = sizeof about};
  pthread_mutex_lock(&device->lock);
  int64_t start = start_of(device, address);
  if (start >= 0) {
    about.base = device->base + (uint64_t)start * PAGE;
    about.bytes = device->allocated[start];
  }
  pthread_mutex_unlock(&device->lock);
  if (start < 0) return fail(dureDeviceInvalid, "%p is in no allocation", address);
  give(range, &about, sizeof about);
  return dureDeviceOk;
}

static dureDeviceStatus_t export_dmabuf(dureDevice_t *device, void *address, uint64_t bytes, int *fd, uint64_t *offset) {
  if (!inside(device, address, bytes)) return fail(dureDeviceInvalid, "%p is no memory of this device", address);
  uint64_t at = (uint64_t)((char *)address - device->base), begin = at / PAGE * PAGE;
  struct region region = {FIRST + begin, (at + bytes - begin + PAGE - 1) / PAGE * PAGE, -1};
  if (ioctl(device->bar, EXPORT_DMABUF, &region) != 0) {
    return fail(dureDeviceFailed, "the driver of npu%u exports no dma-buf: %s", device->number, strerror(errno));
  }
  *fd = region.fd;
  *offset = at - begin;
  return dureDeviceOk;
}

/* Copies, by the processor. */

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

static dureDeviceStatus_t copy_one(struct dureDevice *device, const dureDeviceCopy_t *copy) {
  uint64_t last = copy->rows > 0 ? copy->rows - 1 : 0;
  if (copy->src_is_host && copy->dst_is_host) return fail(dureDeviceInvalid, "both sides of a copy are the host's");
  if ((!copy->src_is_host && !inside(device, copy->src, last * copy->src_pitch + copy->bytes)) ||
      (!copy->dst_is_host && !inside(device, copy->dst, last * copy->dst_pitch + copy->bytes))) {
    return fail(dureDeviceInvalid, "a copy names what is no memory of this device");
  }
  for (uint64_t row = 0; row < copy->rows; row++) {
    memmove((char *)copy->dst + row * copy->dst_pitch, (const char *)copy->src + row * copy->src_pitch, copy->bytes);
  }
  leave();
  pthread_mutex_lock(&device->lock);
  uint64_t *counter = copy->src_is_host ? &device->moved.from_host : &device->moved.inside;
  *(copy->dst_is_host ? &device->moved.to_host : counter) += copy->rows * copy->bytes;
  pthread_mutex_unlock(&device->lock);
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

static const dureDevicePlugin_t table = {
    .size = sizeof table,
    .abi = DURE_DEVICE_ABI,
    .vendor = "rngd",
    .version = "1",
    .error = last_error,
    .count = count,
    .describe = describe,
    .link = find_link,
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
    .completed = record,
    .export_dmabuf = export_dmabuf,
};

__attribute__((visibility("default"))) const dureDevicePlugin_t *dureGetDevicePlugin(void) { return &table; }
