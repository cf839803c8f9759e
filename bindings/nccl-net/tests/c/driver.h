/* Calls a plug-in as NCCL does, through the table of whatever version; and checks that say where they failed. */
#ifndef DRIVER_H
#define DRIVER_H

#include <dlfcn.h>
#include <dure_nccl_net.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE_ERROR = 6 };

/* The last warning, and whether all of the log is printed. */
static char warning[4096];
static int verbose;

static void logger(int level, unsigned long flags, const char *file, int line, const char *format, ...) {
  char text[4096];
  va_list arguments;
  (void)flags;
  (void)line;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (level == NCCL_LOG_WARN) strcpy(warning, text);
  if (verbose) fprintf(stderr, "%s %s: %s\n", level == NCCL_LOG_WARN ? "WARN" : "INFO", file, text);
}

#define EXPECT(condition)                                                                                        \
  do {                                                                                                           \
    if (!(condition)) {                                                                                          \
      fprintf(stderr, "%s:%d: not true: %s; last warning: %s\n", __FILE__, __LINE__, #condition, warning);       \
      _exit(1);                                                                                                  \
    }                                                                                                            \
  } while (0)

#define EXPECT_RESULT(wanted, call)                                                                              \
  do {                                                                                                           \
    int result_ = (call);                                                                                        \
    if (result_ != (wanted)) {                                                                                   \
      fprintf(stderr, "%s:%d: %s returned %d instead of %d; last warning: %s\n", __FILE__, __LINE__, #call,      \
              result_, (int)(wanted), warning);                                                                  \
      _exit(1);                                                                                                  \
    }                                                                                                            \
  } while (0)

#define CHECK(call) EXPECT_RESULT(SUCCESS, call)

/* The call fails with `wanted`, and the log says why: `text`. */
#define EXPECT_ERROR(wanted, text, call)                                                                         \
  do {                                                                                                           \
    warning[0] = 0;                                                                                              \
    EXPECT_RESULT(wanted, call);                                                                                 \
    if (strstr(warning, text) == NULL) {                                                                         \
      fprintf(stderr, "%s:%d: \"%s\" does not contain \"%s\"\n", __FILE__, __LINE__, warning, text);             \
      _exit(1);                                                                                                  \
    }                                                                                                            \
  } while (0)

typedef struct {
  int version;
  const void *table;
  /* From v11 on. */
  void *context;
} plugin_t;

/* The plug-in, by the table of a version; 0: the highest that there is, which NCCL looks for first. */
static inline plugin_t plugin_open(int version) {
  plugin_t plugin = {0, NULL, NULL};
  void *library = dlopen("libnccl-net-dure.so", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fprintf(stderr, "%s\n", dlerror());
  EXPECT(library != NULL);
  for (int candidate = version ? version : 12; candidate >= (version ? version : 8); candidate--) {
    char name[32];
    snprintf(name, sizeof name, "ncclNetPlugin_v%d", candidate);
    plugin.table = dlsym(library, name);
    plugin.version = candidate;
    if (plugin.table != NULL) break;
  }
  EXPECT(plugin.table != NULL);
  EXPECT(strcmp(*(const char *const *)plugin.table, "Dure") == 0);
  return plugin;
}

#define TABLE(p, v) ((const ncclNet_v##v##_t *)(p)->table)

/* A function that has the same arguments in all versions. */
#define ALIKE(p, function, ...)                                  \
  ((p)->version == 8    ? TABLE(p, 8)->function(__VA_ARGS__)     \
   : (p)->version == 9  ? TABLE(p, 9)->function(__VA_ARGS__)     \
   : (p)->version == 10 ? TABLE(p, 10)->function(__VA_ARGS__)    \
   : (p)->version == 11 ? TABLE(p, 11)->function(__VA_ARGS__)    \
                        : TABLE(p, 12)->function(__VA_ARGS__))

static inline int net_init(plugin_t *p) {
  ncclNetCommConfig_t config = {-1};
  switch (p->version) {
  case 8: return TABLE(p, 8)->init(logger);
  case 9: return TABLE(p, 9)->init(logger);
  case 10: return TABLE(p, 10)->init(logger, NULL);
  case 11: return TABLE(p, 11)->init(&p->context, 42, &config, logger, NULL);
  default: return TABLE(p, 12)->init(&p->context, 42, &config, logger, NULL);
  }
}

static inline int net_finalize(plugin_t *p) {
  if (p->version < 11) return SUCCESS;
  return p->version == 11 ? TABLE(p, 11)->finalize(p->context) : TABLE(p, 12)->finalize(p->context);
}

/* What all versions say of a device, and what the later ones add. */
typedef struct {
  const char *name, *pciPath;
  int ptrSupport, regIsGlobal, speed, maxComms, maxRecvs, netDeviceType, members;
  size_t maxP2pBytes;
} properties_t;

#define READ_PROPERTIES(p, v, device, to, members_, bytes)                                                       \
  do {                                                                                                           \
    ncclNetProperties_v##v##_t props;                                                                            \
    memset(&props, 0xff, sizeof props);                                                                          \
    int result = TABLE(p, v)->getProperties(device, &props);                                                     \
    if (result != SUCCESS) return result;                                                                        \
    properties_t read = {props.name,     props.pciPath,       props.ptrSupport, props.regIsGlobal, props.speed,  \
                         props.maxComms, props.maxRecvs,      props.netDeviceType, members_,       bytes};       \
    *(to) = read;                                                                                                \
    return SUCCESS;                                                                                              \
  } while (0)

static inline int net_properties(plugin_t *p, int device, properties_t *to) {
  memset(to, 0, sizeof *to);
  switch (p->version) {
  case 8: READ_PROPERTIES(p, 8, device, to, 1, (size_t)1 << 30);
  case 9: READ_PROPERTIES(p, 9, device, to, props.vProps.ndevs, props.maxP2pBytes);
  case 10: READ_PROPERTIES(p, 10, device, to, props.vProps.ndevs, props.maxP2pBytes);
  case 11: READ_PROPERTIES(p, 11, device, to, props.vProps.ndevs, props.maxP2pBytes);
  default: READ_PROPERTIES(p, 12, device, to, props.vProps.ndevs, props.maxP2pBytes);
  }
}

static inline int net_listen(plugin_t *p, int device, void *handle, void **listener) {
  switch (p->version) {
  case 8: return TABLE(p, 8)->listen(device, handle, listener);
  case 9: return TABLE(p, 9)->listen(device, handle, listener);
  case 10: return TABLE(p, 10)->listen(device, handle, listener);
  case 11: return TABLE(p, 11)->listen(p->context, device, handle, listener);
  default: return TABLE(p, 12)->listen(p->context, device, handle, listener);
  }
}

static inline int net_connect(plugin_t *p, int device, void *handle, void **comm) {
  ncclNetCommConfig_t config = {-1};
  void *none = NULL;
  switch (p->version) {
  case 8: return TABLE(p, 8)->connect(device, handle, comm, &none);
  case 9: return TABLE(p, 9)->connect(device, handle, comm, &none);
  case 10: return TABLE(p, 10)->connect(device, &config, handle, comm, &none);
  case 11: return TABLE(p, 11)->connect(p->context, device, handle, comm, &none);
  default: return TABLE(p, 12)->connect(p->context, device, handle, comm, &none);
  }
}

static inline int net_isend(plugin_t *p, void *comm, void *data, size_t size, int tag, void *memory, void **request) {
  switch (p->version) {
  case 8: return TABLE(p, 8)->isend(comm, data, (int)size, tag, memory, request);
  case 9: return TABLE(p, 9)->isend(comm, data, size, tag, memory, request);
  case 10: return TABLE(p, 10)->isend(comm, data, size, tag, memory, NULL, request);
  case 11: return TABLE(p, 11)->isend(comm, data, size, tag, memory, NULL, request);
  default: return TABLE(p, 12)->isend(comm, data, size, tag, memory, NULL, request);
  }
}

static inline int net_irecv(plugin_t *p, void *comm, int n, void **data, size_t *sizes, int *tags, void **memory,
                            void **request) {
  int ints[64];
  /* A hint of NCCL's, which a plug-in need not take. */
  *request = (void *)1;
  for (int at = 0; at < n && at < 64; at++) ints[at] = (int)sizes[at];
  switch (p->version) {
  case 8: return TABLE(p, 8)->irecv(comm, n, data, ints, tags, memory, request);
  case 9: return TABLE(p, 9)->irecv(comm, n, data, sizes, tags, memory, request);
  case 10: return TABLE(p, 10)->irecv(comm, n, data, sizes, tags, memory, NULL, request);
  case 11: return TABLE(p, 11)->irecv(comm, n, data, sizes, tags, memory, NULL, request);
  default: return TABLE(p, 12)->irecv(comm, n, data, sizes, tags, memory, NULL, request);
  }
}

/* Sends; tries again until the receiver has offered a place. */
static inline void *begin_send(plugin_t *p, void *comm, void *data, size_t size, int tag, void *memory) {
  void *request = NULL;
  while (request == NULL) CHECK(net_isend(p, comm, data, size, tag, memory, &request));
  return request;
}

/* Receives into one place. */
static inline void *begin_receive(plugin_t *p, void *comm, void *data, size_t size, int tag, void *memory) {
  void *request = NULL;
  while (request == NULL) CHECK(net_irecv(p, comm, 1, &data, &size, &tag, &memory, &request));
  return request;
}

/* Waits for a request; the bytes of its first part. */
static inline size_t finish(plugin_t *p, void *request) {
  int done = 0, sizes[8] = {-1};
  while (!done) CHECK(ALIKE(p, test, request, &done, sizes));
  return (size_t)sizes[0];
}

/* Bytes that differ from message to message and from place to place. */
static inline void fill(unsigned char *bytes, size_t size, unsigned message) {
  for (size_t at = 0; at < size; at++) bytes[at] = (unsigned char)(at * 31 + (at >> 8) + message * 7 + 1);
}

static inline int is_filled(const unsigned char *bytes, size_t size, unsigned message) {
  for (size_t at = 0; at < size; at++)
    if (bytes[at] != (unsigned char)(at * 31 + (at >> 8) + message * 7 + 1)) return 0;
  return 1;
}

#endif
