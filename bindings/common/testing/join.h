/* Calls on a stream of the maker's own: they see what it did before, and it sees what they did. On a double of NVIDIA's driver. The
 * includer has `stream_t`, the type of a call's last argument. */
#include <dlfcn.h>
#include <stdint.h>
#include <time.h>

enum { COUNT = 20000, ROUNDS = 3 };

typedef void (*function_t)(void);

static function_t driver(const char *name) {
  static void *library;
  function_t found = NULL;
  if (!library) library = dlopen("libcuda.so.1", RTLD_NOW);
  EXPECT(library != NULL);
  *(void **)&found = dlsym(library, name);
  EXPECT(found != NULL);
  return found;
}

/* A function of the driver's, with the types of its arguments. */
#define CU(name, types, ...) EXPECT(((int(*) types)driver(#name))(__VA_ARGS__) == 0)

/* What is told behind this begins a while later. */
static void a_while(void *nothing) {
  struct timespec time = {0, 20 * 1000 * 1000};
  (void)nothing;
  nanosleep(&time, NULL);
}

/* A stream as a program makes it, in a context that stays current. */
static void *native_stream(void) {
  void *context = NULL, *native = NULL;
  CU(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
  CU(cuCtxPushCurrent_v2, (void *), context);
  CU(cuStreamCreateWithPriority, (void **, unsigned, int), &native, 1, 0);
  return native;
}

static void copy_on(void *native, void *to, void *from) {
  CU(cuMemcpyAsync, (uint64_t, uint64_t, size_t, void *), (uintptr_t)to, (uintptr_t)from, COUNT * sizeof(int), native);
}

/* Between copies of the program's, on its stream; nobody waits for a call but the stream. */
static void work_on(API(Comm_t) comm, int rank, int ranks, void *native, stream_t stream) {
  void *there = NULL, *pinned = NULL;
  CU(cuMemHostAlloc, (void **, size_t, unsigned), &pinned, COUNT * sizeof(int), 0);
  CHECK(API(MemAlloc)(&there, COUNT * sizeof(int)));
  int *here = pinned, scale = 1;
  for (int i = 0; i < COUNT; i++) here[i] = rank + i;
  for (int round = 0; round < ROUNDS; round++) {
    CU(cuLaunchHostFunc, (void *, void (*)(void *), void *), native, a_while, NULL);
    copy_on(native, there, pinned);
    CHECK(API(AllReduce)(there, there, COUNT, API(Int), API(Max), comm, stream));
    CHECK(API(AllReduce)(there, there, COUNT, API(Int), API(Sum), comm, stream));
    copy_on(native, pinned, there);
    scale *= ranks;
  }
  CU(cuStreamSynchronize, (void *), native);
  for (int i = 0; i < COUNT; i++) EXPECT(here[i] == scale * (ranks - 1 + i));
  CHECK(API(MemFree)(there));
}
