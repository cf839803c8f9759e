/* A double of NVIDIA's libcuda.so.1, for tests on machines without a GPU: those functions of the driver that dure-cuda uses, on
 * memory of the host. It is no GPU and says nothing about one's speed, nor about what a driver does that this does not know of.
 *
 * - Memory of a device is a file without a name (memfd). Its addresses have no access rights: whoever follows one dies. The bytes
 *   are mapped elsewhere, for the functions here only.
 * - A stream is a thread: work is done later than it is told, in order.
 * - Kernels are the functions of kernels.cu, compiled for this processor. They are found by name, if the text of the module has an
 *   entry of that name with one argument as long as theirs.
 * - Handles for other processes name the file by /proc/PID/fd. A process cannot open its own, nor a handle twice.
 * - Misuse is an error where a driver's may not be: a call without a context, a copy that names pageable memory, a copy of rows that
 *   overlap.
 * - Where the environment names a file by CUDA_DOUBLE_LOST, all calls fail as soon as that exists. CUDA_DOUBLE_DEVICES is how many
 *   devices there are (2), CUDA_DOUBLE_VERSION the version of the driver (12000).
 */
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "shim.h"

namespace kernels {
#include "kernels.cu"
}

#define EXPORT extern "C" __attribute__((visibility("default")))

enum Code {
  OK = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_CONTEXT = 201,
  ALREADY_MAPPED = 208,
  NOT_MAPPED = 211,
  INVALID_PTX = 218,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  PEER_ACCESS_ALREADY_ENABLED = 704,
  LAUNCH_FAILED = 719,
};

typedef uint64_t Address;
static const size_t MEMORY = size_t(1) << 30;
static const size_t ALIGNMENT = 512;

static int setting(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text ? atoi(text) : otherwise;
}

/* ---- Memory -------------------------------------------------------------------------------------------------------------- */

struct Allocation {
  size_t bytes;
  uint64_t number;
  bool of_pool;
};

/* Addresses without access rights, and where the bytes are. */
struct Mapping {
  Address base;
  size_t bytes;
  char *bytes_at;
};

static Mapping map_file(int file, off_t offset, size_t bytes) {
  /* A mapping begins and ends at a page. */
  size_t page = sysconf(_SC_PAGESIZE), lead = offset % page, whole = (lead + bytes + page - 1) / page * page;
  void *there = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_SHARED, file, offset - lead);
  void *here = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (there == MAP_FAILED || here == MAP_FAILED) return Mapping{0, 0, nullptr};
  return Mapping{Address(here) + lead, bytes, static_cast<char *>(there) + lead};
}

static void unmap(const Mapping &mapping) {
  size_t page = sysconf(_SC_PAGESIZE), lead = mapping.base % page;
  munmap(reinterpret_cast<void *>(mapping.base - lead), lead + mapping.bytes);
  munmap(mapping.bytes_at - lead, lead + mapping.bytes);
}

struct Context {
  int ordinal;
  int retained;
};

struct Gpu {
  Context context;
  int file = -1;
  Mapping all{0, 0, nullptr};
  std::map<Address, Allocation> allocations;
  uint64_t reached = 0; /* bit k: device k was made reachable */
};

struct Handle {
  uint64_t process, file, offset, bytes, ordinal;
  unsigned char rest[24];
};

struct Imported {
  Mapping mapping;
  Handle handle;
};

struct Process {
  std::recursive_mutex lock;
  bool ready = false;
  std::vector<Gpu> gpus;
  std::map<Address, Imported> imported;
  std::map<Address, size_t> pinned;
  uint64_t numbers = 0;
};

/* Never ended: threads of streams may outlive main. */
static Process &process() {
  static Process *one = new Process;
  return *one;
}

static thread_local std::vector<Context *> contexts;

static Gpu &gpu_of(Context *context) { return process().gpus[context->ordinal]; }

static bool lost() {
  static const char *file = getenv("CUDA_DOUBLE_LOST");
  return file && access(file, F_OK) == 0;
}

#define NEEDS_INIT \
  std::lock_guard<std::recursive_mutex> guard(process().lock); \
  if (!process().ready) return NOT_INITIALIZED; \
  if (lost()) return LAUNCH_FAILED

#define NEEDS_CONTEXT \
  NEEDS_INIT; \
  if (contexts.empty()) return INVALID_CONTEXT

/* The allocation that an address is in, and its device. */
static std::pair<const Address, Allocation> *find(Address address, int *ordinal) {
  for (Gpu &gpu : process().gpus) {
    auto next = gpu.allocations.upper_bound(address);
    if (next == gpu.allocations.begin()) continue;
    auto &found = *std::prev(next);
    if (address - found.first < found.second.bytes) {
      if (ordinal) *ordinal = gpu.context.ordinal;
      return &found;
    }
  }
  return nullptr;
}

static const Imported *find_imported(Address address) {
  auto next = process().imported.upper_bound(address);
  if (next == process().imported.begin()) return nullptr;
  const Imported &found = std::prev(next)->second;
  return address - found.mapping.base < found.mapping.bytes ? &found : nullptr;
}

/* Where the bytes of a device's address are; nullptr where it is no memory of a device, or less than `bytes` of it. */
static char *bytes_of_device(Address address, size_t bytes) {
  int ordinal = 0;
  if (auto found = find(address, &ordinal)) {
    if (address - found->first + bytes > found->second.bytes) return nullptr;
    Gpu &gpu = process().gpus[ordinal];
    bool reaches = contexts.back()->ordinal == ordinal || gpu_of(contexts.back()).reached >> ordinal & 1;
    return reaches ? gpu.all.bytes_at + (address - gpu.all.base) : nullptr;
  }
  if (auto found = find_imported(address)) {
    if (address - found->mapping.base + bytes > found->mapping.bytes) return nullptr;
    return found->mapping.bytes_at + (address - found->mapping.base);
  }
  return nullptr;
}

/* The same, pinned memory included. */
static char *bytes_at(Address address, size_t bytes) {
  auto next = process().pinned.upper_bound(address);
  if (next != process().pinned.begin()) {
    auto &found = *std::prev(next);
    if (address - found.first + bytes <= found.second) return reinterpret_cast<char *>(address);
  }
  return bytes_of_device(address, bytes);
}

/* ---- Streams and events -------------------------------------------------------------------------------------------------- */

struct Stream {
  std::mutex lock;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;
  bool busy = false, ended = false;

  void tell(std::function<void()> piece) {
    std::lock_guard<std::mutex> guard(lock);
    work.push_back(std::move(piece));
    changed.notify_all();
  }

  bool idle() {
    std::lock_guard<std::mutex> guard(lock);
    return work.empty() && !busy;
  }

  void wait_until_idle() {
    std::unique_lock<std::mutex> guard(lock);
    changed.wait(guard, [&] { return work.empty() && !busy; });
  }

  void run() {
    std::unique_lock<std::mutex> guard(lock);
    for (;;) {
      changed.wait(guard, [&] { return ended || !work.empty(); });
      if (work.empty()) return;
      std::function<void()> piece = std::move(work.front());
      work.pop_front();
      busy = true;
      guard.unlock();
      /* A device that is lost does nothing any more. */
      if (!lost()) piece();
      piece = nullptr;
      guard.lock();
      busy = false;
      changed.notify_all();
    }
  }
};

struct Flag {
  std::mutex lock;
  std::condition_variable changed;
  bool set = false;

  void raise() {
    std::lock_guard<std::mutex> guard(lock);
    set = true;
    changed.notify_all();
  }

  bool is_set() {
    std::lock_guard<std::mutex> guard(lock);
    return set;
  }

  void wait() {
    std::unique_lock<std::mutex> guard(lock);
    changed.wait(guard, [&] { return set; });
  }
};

struct Event {
  std::shared_ptr<Flag> flag; /* none: never recorded, which counts as complete */
};

typedef std::shared_ptr<Stream> StreamHandle;

static Stream *stream_at(void *handle) { return handle ? static_cast<StreamHandle *>(handle)->get() : nullptr; }

/* ---- Kernels ------------------------------------------------------------------------------------------------------------- */

struct Function {
  void (*reduce)(kernels::Reduce);
  void (*scale)(kernels::Scale);
  size_t element;
};

static size_t size_of_element(const std::string &type) {
  if (type == "half" || type == "bfloat16") return 2;
  if (type == "int32" || type == "uint32" || type == "float") return 4;
  if (type == "int64" || type == "uint64" || type == "double") return 8;
  return 1;
}

static const std::map<std::string, Function> &functions() {
  static std::map<std::string, Function> *all = [] {
    auto *all = new std::map<std::string, Function>;
#define ADD(NAME, TYPE) \
  (*all)["dure_reduce_" #NAME] = Function{kernels::dure_reduce_##NAME, nullptr, size_of_element(#NAME)}; \
  (*all)["dure_scale_" #NAME] = Function{nullptr, kernels::dure_scale_##NAME, size_of_element(#NAME)};
    using namespace kernels;
    ENTRIES(ADD)
    return all;
  }();
  return *all;
}

template <class Job>
static void run(void (*kernel)(Job), const Job &job, unsigned blocks, unsigned threads) {
  gridDim = Index{blocks, 1, 1};
  blockDim = Index{threads, 1, 1};
  for (unsigned block = 0; block < blocks; block++) {
    for (unsigned thread = 0; thread < threads; thread++) {
      blockIdx = Index{block, 0, 0};
      threadIdx = Index{thread, 0, 0};
      kernel(job);
    }
  }
}

struct Module {
  std::string text;
};

/* Whether the text has an entry of this name with one argument of so many bytes. */
static bool has_entry(const std::string &text, const std::string &name, size_t argument) {
  size_t at = text.find(".entry " + name + "(");
  if (at == std::string::npos) return false;
  std::string list = text.substr(at, text.find(')', at) - at);
  size_t first = list.find(".param"), second = list.find(".param", first + 1);
  std::string length = "_param_0[" + std::to_string(argument) + "]";
  return first != std::string::npos && second == std::string::npos && list.find(length) != std::string::npos;
}

/* ---- The driver's functions ---------------------------------------------------------------------------------------------- */

EXPORT int cuInit(unsigned flags) {
  std::lock_guard<std::recursive_mutex> guard(process().lock);
  if (flags != 0) return INVALID_VALUE;
  if (process().ready) return OK;
  int devices = setting("CUDA_DOUBLE_DEVICES", 2);
  if (devices == 0) return NO_DEVICE;
  process().gpus.resize(devices);
  for (int k = 0; k < devices; k++) process().gpus[k].context = Context{k, 0};
  process().ready = true;
  return OK;
}

EXPORT int cuDriverGetVersion(int *version) {
  *version = setting("CUDA_DOUBLE_VERSION", 12000);
  return OK;
}

EXPORT int cuGetErrorString(int code, const char **text) {
  static const std::map<int, const char *> texts = {
      {INVALID_VALUE, "invalid argument"},
      {OUT_OF_MEMORY, "out of memory"},
      {NOT_INITIALIZED, "initialization error"},
      {INVALID_DEVICE, "invalid device ordinal"},
      {INVALID_CONTEXT, "invalid device context"},
      {ALREADY_MAPPED, "resource already mapped"},
      {INVALID_PTX, "a PTX JIT compilation failed"},
      {INVALID_HANDLE, "invalid resource handle"},
      {NOT_FOUND, "named symbol not found"},
      {LAUNCH_FAILED, "unspecified launch failure"},
  };
  auto found = texts.find(code);
  *text = found == texts.end() ? nullptr : found->second;
  return found == texts.end() ? INVALID_VALUE : OK;
}

EXPORT int cuDeviceGetCount(int *count) {
  NEEDS_INIT;
  *count = int(process().gpus.size());
  return OK;
}

EXPORT int cuDeviceGet(int *device, int ordinal) {
  NEEDS_INIT;
  if (ordinal < 0 || ordinal >= int(process().gpus.size())) return INVALID_DEVICE;
  *device = ordinal;
  return OK;
}

EXPORT int cuDeviceGetName(char *name, int length, int device) {
  NEEDS_INIT;
  snprintf(name, length, "double of a GPU, number %d", device);
  return OK;
}

EXPORT int cuDeviceGetUuid(unsigned char *uuid, int device) {
  NEEDS_INIT;
  memset(uuid, 0, 16);
  uuid[15] = static_cast<unsigned char>(device + 1);
  return OK;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int) {
  NEEDS_INIT;
  static const std::map<int, int> values = {{16, 2}, {75, 7}, {76, 0}, {118, 100}, {122, 1}, {124, 1}};
  auto found = values.find(attribute);
  if (found == values.end()) return INVALID_VALUE;
  *value = found->second;
  return OK;
}

EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int) {
  NEEDS_INIT;
  *bytes = MEMORY;
  return OK;
}

EXPORT int cuDeviceGetPCIBusId(char *id, int length, int device) {
  NEEDS_INIT;
  snprintf(id, length, "FFFF:%02X:1F.0", device);
  return OK;
}

EXPORT int cuDeviceCanAccessPeer(int *can, int, int) {
  NEEDS_INIT;
  *can = 1;
  return OK;
}

EXPORT int cuDevicePrimaryCtxRetain(Context **context, int device) {
  NEEDS_INIT;
  Gpu &gpu = process().gpus[device];
  if (gpu.file < 0) {
    gpu.file = memfd_create("memory of a double of a GPU", MFD_CLOEXEC);
    if (gpu.file < 0 || ftruncate(gpu.file, MEMORY) != 0) return OUT_OF_MEMORY;
    gpu.all = map_file(gpu.file, 0, MEMORY);
    if (!gpu.all.bytes_at) return OUT_OF_MEMORY;
  }
  gpu.context.retained++;
  *context = &gpu.context;
  return OK;
}

/* The memory stays, as processes do not retain again and again; what was allocated goes. */
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
  NEEDS_INIT;
  Gpu &gpu = process().gpus[device];
  if (gpu.context.retained == 0) return INVALID_CONTEXT;
  if (--gpu.context.retained == 0) gpu.allocations.clear();
  return OK;
}

EXPORT int cuCtxPushCurrent_v2(Context *context) {
  NEEDS_INIT;
  if (!context || context->retained == 0) return INVALID_CONTEXT;
  contexts.push_back(context);
  return OK;
}

EXPORT int cuCtxPopCurrent_v2(Context **context) {
  if (contexts.empty()) return INVALID_CONTEXT;
  *context = contexts.back();
  contexts.pop_back();
  return OK;
}

EXPORT int cuCtxEnablePeerAccess(Context *context, unsigned flags) {
  NEEDS_CONTEXT;
  if (!context || flags != 0) return INVALID_VALUE;
  uint64_t &reached = gpu_of(contexts.back()).reached, bit = uint64_t(1) << context->ordinal;
  if (reached & bit) return PEER_ACCESS_ALREADY_ENABLED;
  reached |= bit;
  return OK;
}

EXPORT int cuCtxGetStreamPriorityRange(int *lowest, int *highest) {
  NEEDS_CONTEXT;
  *lowest = 0;
  *highest = -5;
  return OK;
}

static int allocate(Address *address, size_t bytes, bool of_pool) {
  Gpu &gpu = gpu_of(contexts.back());
  if (bytes == 0) return INVALID_VALUE;
  size_t taken = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  Address at = gpu.all.base;
  for (auto &one : gpu.allocations) {
    if (one.first - at >= taken) break;
    at = (one.first + one.second.bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }
  if (at + taken > gpu.all.base + MEMORY) return OUT_OF_MEMORY;
  gpu.allocations[at] = Allocation{bytes, ++process().numbers, of_pool};
  /* What a GPU has there is what was there before. */
  memset(gpu.all.bytes_at + (at - gpu.all.base), 0xa5, taken);
  *address = at;
  return OK;
}

EXPORT int cuMemAlloc_v2(Address *address, size_t bytes) {
  NEEDS_CONTEXT;
  return allocate(address, bytes, false);
}

/* Not of the driver: memory as its pools give it, for which there is no handle. */
EXPORT int doubleAllocOfPool(Address *address, size_t bytes) {
  NEEDS_CONTEXT;
  return allocate(address, bytes, true);
}

EXPORT int cuMemFree_v2(Address address) {
  NEEDS_CONTEXT;
  for (Gpu &gpu : process().gpus)
    if (gpu.allocations.erase(address)) return OK;
  return INVALID_VALUE;
}

EXPORT int cuMemHostAlloc(void **address, size_t bytes, unsigned) {
  NEEDS_CONTEXT;
  if (posix_memalign(address, 4096, bytes) != 0) return OUT_OF_MEMORY;
  process().pinned[Address(*address)] = bytes;
  return OK;
}

EXPORT int cuMemFreeHost(void *address) {
  NEEDS_CONTEXT;
  if (!process().pinned.erase(Address(address))) return INVALID_VALUE;
  free(address);
  return OK;
}

EXPORT int cuMemGetAddressRange_v2(Address *base, size_t *bytes, Address address) {
  NEEDS_CONTEXT;
  if (auto found = find(address, nullptr)) {
    *base = found->first;
    *bytes = found->second.bytes;
    return OK;
  }
  if (auto found = find_imported(address)) {
    *base = found->mapping.base;
    *bytes = found->mapping.bytes;
    return OK;
  }
  return INVALID_VALUE;
}

static int attribute_of(void *into, int attribute, Address address) {
  int ordinal = 0;
  auto found = find(address, &ordinal);
  auto imported = find_imported(address);
  if (!found && !imported) return INVALID_VALUE;
  if (imported) ordinal = int(imported->handle.ordinal);
  switch (attribute) {
  case 1: *static_cast<Context **>(into) = &process().gpus[ordinal].context; return OK;
  case 2: *static_cast<unsigned *>(into) = 2; return OK;
  case 7: *static_cast<uint64_t *>(into) = found ? found->second.number : 0; return OK;
  case 8: *static_cast<unsigned char *>(into) = 0; return OK;
  case 9: *static_cast<int *>(into) = ordinal; return OK;
  default: return INVALID_VALUE;
  }
}

EXPORT int cuPointerGetAttribute(void *into, int attribute, Address address) {
  NEEDS_CONTEXT;
  return attribute_of(into, attribute, address);
}

/* Of an address that is none of CUDA's it says nothing, and that is no error. */
EXPORT int cuPointerGetAttributes(unsigned count, int *attributes, void **into, Address address) {
  NEEDS_CONTEXT;
  for (unsigned k = 0; k < count; k++)
    if (attribute_of(into[k], attributes[k], address) != OK && attributes[k] == 2) *static_cast<unsigned *>(into[k]) = 0;
  return OK;
}

EXPORT int cuMemGetHandleForAddressRange(void *into, Address address, size_t bytes, int kind, unsigned long long flags) {
  NEEDS_CONTEXT;
  size_t page = sysconf(_SC_PAGESIZE);
  int ordinal = 0;
  if (kind != 1 || flags != 0 || address % page || bytes % page || !find(address, &ordinal)) return INVALID_VALUE;
  /* The bytes as they are now: files do not begin in the middle of others. */
  Gpu &gpu = process().gpus[ordinal];
  off_t from = address - gpu.all.base;
  int copy = memfd_create("dma-buf of a double of a GPU", MFD_CLOEXEC);
  while (bytes > 0) {
    ssize_t copied = sendfile(copy, gpu.file, &from, bytes);
    if (copied <= 0) return close(copy), OUT_OF_MEMORY;
    bytes -= copied;
  }
  *static_cast<int *>(into) = copy;
  return OK;
}

EXPORT int cuIpcGetMemHandle(Handle *handle, Address address) {
  NEEDS_CONTEXT;
  int ordinal = 0;
  auto found = find(address, &ordinal);
  if (!found || found->first != address || found->second.of_pool) return INVALID_VALUE;
  Gpu &gpu = process().gpus[ordinal];
  memset(handle, 0, sizeof *handle);
  handle->process = getpid();
  handle->file = gpu.file;
  handle->offset = address - gpu.all.base;
  handle->bytes = found->second.bytes;
  handle->ordinal = ordinal;
  return OK;
}

EXPORT int cuIpcOpenMemHandle_v2(Address *address, Handle handle, unsigned flags) {
  NEEDS_CONTEXT;
  if (flags != 1) return INVALID_VALUE;
  if (handle.process == uint64_t(getpid())) return INVALID_CONTEXT;
  for (auto &one : process().imported)
    if (memcmp(&one.second.handle, &handle, sizeof handle) == 0) return ALREADY_MAPPED;
  std::string path = "/proc/" + std::to_string(handle.process) + "/fd/" + std::to_string(handle.file);
  int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return INVALID_HANDLE;
  Mapping mapping = map_file(file, handle.offset, handle.bytes);
  close(file);
  if (!mapping.bytes_at) return OUT_OF_MEMORY;
  process().imported[mapping.base] = Imported{mapping, handle};
  *address = mapping.base;
  return OK;
}

EXPORT int cuIpcCloseMemHandle(Address address) {
  NEEDS_CONTEXT;
  auto found = process().imported.find(address);
  if (found == process().imported.end()) return NOT_MAPPED;
  unmap(found->second.mapping);
  process().imported.erase(found);
  return OK;
}

EXPORT int cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
  NEEDS_CONTEXT;
  if (flags > 1 || priority > 0 || priority < -5) return INVALID_VALUE;
  auto *handle = new StreamHandle(std::make_shared<Stream>());
  StreamHandle shared = *handle;
  std::thread([shared] { shared->run(); }).detach();
  *stream = handle;
  return OK;
}

EXPORT int cuStreamDestroy_v2(void *stream) {
  NEEDS_CONTEXT;
  if (!stream) return INVALID_HANDLE;
  {
    std::lock_guard<std::mutex> inner(stream_at(stream)->lock);
    stream_at(stream)->ended = true;
    stream_at(stream)->changed.notify_all();
  }
  delete static_cast<StreamHandle *>(stream);
  return OK;
}

EXPORT int cuStreamQuery(void *stream) {
  NEEDS_CONTEXT;
  if (!stream) return INVALID_HANDLE;
  return stream_at(stream)->idle() ? OK : NOT_READY;
}

EXPORT int cuStreamSynchronize(void *stream) {
  if (!stream) return INVALID_HANDLE;
  if (contexts.empty()) return INVALID_CONTEXT;
  stream_at(stream)->wait_until_idle();
  return lost() ? LAUNCH_FAILED : OK;
}

EXPORT int cuStreamWaitEvent(void *stream, Event *event, unsigned flags) {
  NEEDS_CONTEXT;
  if (!stream || !event || flags != 0) return INVALID_HANDLE;
  if (std::shared_ptr<Flag> flag = event->flag) stream_at(stream)->tell([flag] { flag->wait(); });
  return OK;
}

/* The default stream is of use where streams of a program's are: behind events and values. */
static Stream *native_at(void *handle) {
  static StreamHandle *standard = nullptr;
  if (!handle && !standard) {
    standard = new StreamHandle(std::make_shared<Stream>());
    std::thread([] { (*standard)->run(); }).detach();
  }
  return handle ? stream_at(handle) : standard->get();
}

EXPORT int cuStreamWaitValue64_v2(void *stream, Address address, uint64_t value, unsigned flags) {
  NEEDS_CONTEXT;
  if (flags != 0 || !process().pinned.count(address)) return INVALID_VALUE;
  native_at(stream)->tell([=] {
    while (__atomic_load_n(reinterpret_cast<uint64_t *>(address), __ATOMIC_ACQUIRE) < value && !lost()) std::this_thread::yield();
  });
  return OK;
}

EXPORT int cuLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
  NEEDS_CONTEXT;
  if (!stream || !function) return INVALID_HANDLE;
  stream_at(stream)->tell([=] { function(data); });
  return OK;
}

EXPORT int cuEventCreate(Event **event, unsigned flags) {
  NEEDS_CONTEXT;
  if (flags > 3) return INVALID_VALUE;
  *event = new Event;
  return OK;
}

EXPORT int cuEventRecord(Event *event, void *stream) {
  NEEDS_CONTEXT;
  if (!event) return INVALID_HANDLE;
  auto flag = std::make_shared<Flag>();
  event->flag = flag;
  native_at(stream)->tell([flag] { flag->raise(); });
  return OK;
}

EXPORT int cuEventQuery(Event *event) {
  NEEDS_CONTEXT;
  return !event->flag || event->flag->is_set() ? OK : NOT_READY;
}

EXPORT int cuEventDestroy_v2(Event *event) {
  NEEDS_CONTEXT;
  delete event;
  return OK;
}

EXPORT int cuMemcpyAsync(Address dst, Address src, size_t bytes, void *stream) {
  NEEDS_CONTEXT;
  if (!stream) return INVALID_HANDLE;
  char *to = bytes_at(dst, bytes), *from = bytes_at(src, bytes);
  if (!to || !from) return INVALID_VALUE;
  stream_at(stream)->tell([=] { memmove(to, from, bytes); });
  return OK;
}

struct Copy2d {
  size_t src_x, src_y;
  unsigned src_type;
  const void *src_host;
  Address src_device;
  void *src_array;
  size_t src_pitch, dst_x, dst_y;
  unsigned dst_type;
  void *dst_host;
  Address dst_device;
  void *dst_array;
  size_t dst_pitch, width, height;
};

EXPORT int cuMemcpy2DAsync_v2(const Copy2d *copy, void *stream) {
  NEEDS_CONTEXT;
  if (!stream) return INVALID_HANDLE;
  Copy2d c = *copy;
  if (c.src_type != 4 || c.dst_type != 4 || c.src_x || c.src_y || c.dst_x || c.dst_y || !c.height) return INVALID_VALUE;
  if (c.src_pitch < c.width || c.dst_pitch < c.width) return INVALID_VALUE;
  char *to = bytes_at(c.dst_device, (c.height - 1) * c.dst_pitch + c.width);
  char *from = bytes_at(c.src_device, (c.height - 1) * c.src_pitch + c.width);
  if (!to || !from) return INVALID_VALUE;
  stream_at(stream)->tell([=] {
    for (size_t row = 0; row < c.height; row++) memmove(to + row * c.dst_pitch, from + row * c.src_pitch, c.width);
  });
  return OK;
}

EXPORT int cuMemsetD8Async(Address dst, unsigned char value, size_t bytes, void *stream) {
  NEEDS_CONTEXT;
  if (!stream) return INVALID_HANDLE;
  char *to = bytes_of_device(dst, bytes);
  if (!to) return INVALID_VALUE;
  stream_at(stream)->tell([=] { memset(to, value, bytes); });
  return OK;
}

EXPORT int cuModuleLoadData(Module **module, const void *image) {
  NEEDS_CONTEXT;
  std::string text(static_cast<const char *>(image));
  if (text.find(".version ") == std::string::npos || text.find(".target sm_70") == std::string::npos) return INVALID_PTX;
  *module = new Module{text};
  return OK;
}

EXPORT int cuModuleUnload(Module *module) {
  NEEDS_CONTEXT;
  delete module;
  return OK;
}

EXPORT int cuModuleGetFunction(const Function **function, Module *module, const char *name) {
  NEEDS_CONTEXT;
  auto found = functions().find(name);
  if (found == functions().end()) return NOT_FOUND;
  size_t argument = found->second.reduce ? sizeof(kernels::Reduce) : sizeof(kernels::Scale);
  if (!has_entry(module->text, name, argument)) return NOT_FOUND;
  *function = &found->second;
  return OK;
}

EXPORT int cuLaunchKernel(const Function *function, unsigned blocks, unsigned blocks_y, unsigned blocks_z, unsigned threads,
                          unsigned threads_y, unsigned threads_z, unsigned shared, void *stream, void **arguments, void **extra) {
  NEEDS_CONTEXT;
  if (!stream) return INVALID_HANDLE;
  bool flat = blocks_y == 1 && blocks_z == 1 && threads_y == 1 && threads_z == 1 && shared == 0 && !extra;
  if (!function || !flat || blocks == 0 || threads == 0 || threads > 1024) return INVALID_VALUE;
  /* A kernel is given addresses of the device: here they become those of the bytes. */
  auto bytes = [&](const void *address, size_t count) {
    return bytes_of_device(Address(address), count * function->element);
  };
  if (function->reduce) {
    kernels::Reduce job = *static_cast<kernels::Reduce *>(arguments[0]);
    for (unsigned s = 0; s < job.sources; s++)
      if (!(job.srcs[s] = bytes(job.srcs[s], job.count))) return INVALID_VALUE;
    if (!(job.dst = bytes(job.dst, job.count))) return INVALID_VALUE;
    stream_at(stream)->tell([=] { run(function->reduce, job, blocks, threads); });
  } else {
    kernels::Scale job = *static_cast<kernels::Scale *>(arguments[0]);
    if (!(job.src = bytes(job.src, job.count)) || !(job.dst = bytes(job.dst, job.count))) return INVALID_VALUE;
    stream_at(stream)->tell([=] { run(function->scale, job, blocks, threads); });
  }
  return OK;
}
