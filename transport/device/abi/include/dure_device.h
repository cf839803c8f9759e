/* What an accelerator's maker brings to Dure: a plug-in, a shared object that exports `dureGetDevicePlugin`.
 *
 * Dure loads it at run time (DURE_DEVICE_PLUGINS), checks what it says, and moves and reduces memory of its devices with it.
 * docs/devices.md shows how to write one; npu_b.c beside it is one. `dure device check PLUGIN` tests one.
 *
 * - Every structure begins with its size in bytes as its writer knows it. A reader takes what both know; what is missing is 0.
 * - A function returns dureDeviceOk or why it could not. What is not offered is NULL, and its capability bit is 0.
 * - Functions of different devices and streams may be called by several threads at once; those of one stream by one at a time.
 * - No function waits for work, but those of a device without DURE_DEVICE_ASYNC, which return when their work is done.
 * - Nothing is unloaded: a plug-in stays in the process until that ends.
 */
#ifndef DURE_DEVICE_H
#define DURE_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this file. A plug-in of another version is refused. */
#define DURE_DEVICE_ABI 2

/* Bytes of a dureDeviceHandle_t. */
#define DURE_DEVICE_HANDLE 96

typedef enum {
  dureDeviceOk = 0,
  /* The stream has no room: the same call again, once some of its work is done. */
  dureDeviceBusy = 1,
  /* An argument is none of this device's. */
  dureDeviceInvalid = 2,
  dureDeviceOutOfMemory = 3,
  dureDeviceUnsupported = 4,
  /* It was reset, or is not there any more. All that was made on it may only be ended. */
  dureDeviceGone = 5,
  /* Something else; dureDevicePlugin_t.error says what. */
  dureDeviceFailed = 6
} dureDeviceStatus_t;

/* What a device can do. */
/* Streams work later than they are told; otherwise each call returns when its work is done. */
#define DURE_DEVICE_ASYNC (1u << 0)
/* Memory can be named to another process, whose device of this kind reaches it itself. */
#define DURE_DEVICE_PEER (1u << 1)
/* Memory is exported as a dma-buf of the kernel, for a NIC. */
#define DURE_DEVICE_DMABUF (1u << 2)
/* Memory can be mapped for the processor. */
#define DURE_DEVICE_MAP (1u << 3)
/* Bytes do not lie in memory as they are addressed: only the device's own copies may move them. */
#define DURE_DEVICE_OPAQUE (1u << 4)
/* Whom it can reach is said once, when it is opened. */
#define DURE_DEVICE_FIXED_PEERS (1u << 5)
/* What others have written to its memory is seen by its streams after `flush` only. */
#define DURE_DEVICE_FLUSH (1u << 6)
/* Streams of the maker's own, such as a cudaStream_t, can be joined: work waits for what they hold, and they for work. */
#define DURE_DEVICE_JOIN (1u << 7)

/* Operations of reductions, as dure.h numbers them; types are dureDataType_t's numbers. */
#define DURE_DEVICE_SUM 0
#define DURE_DEVICE_PROD 1
#define DURE_DEVICE_MAX 2
#define DURE_DEVICE_MIN 3
#define DURE_DEVICE_OPS 4

typedef struct {
  uint32_t size;
  /* DURE_DEVICE_ASYNC and the others. */
  uint32_t capabilities;
  /* For people: maker and model. Ends with a 0. */
  char name[64];
  /* The same for the same device always, and for no other. Ends with a 0. */
  char serial[64];
  /* Where it is on the PCI bus, as 0000:17:00.0; empty when it is on none. */
  char pci[16];
  /* Its NUMA node, or -1. */
  int32_t numa;
  /* Which part of the device of this serial number it is, where it is divided. */
  uint32_t partition;
  /* Bytes of its memory. */
  uint64_t memory;
  /* Most sources of one reduction; 0 where it reduces nothing. */
  uint32_t most_sources;
  /* How many devices it can reach at once. */
  uint32_t most_peers;
  /* Bit t of word o: it can reduce type t by operation o. */
  uint32_t reduces[DURE_DEVICE_OPS];
  /* Bit t: it can scale type t. */
  uint32_t scales;
} dureDeviceInfo_t;

/* How far two devices are from each other, nearest first. */
typedef enum {
  dureDeviceLinkNone = 0,
  /* Parts of one chip or package. */
  dureDeviceLinkPackage = 1,
  /* A link of the maker's. */
  dureDeviceLinkOwn = 2,
  /* One PCIe switch. */
  dureDeviceLinkSwitch = 3,
  /* One host bridge. */
  dureDeviceLinkBridge = 4,
  /* Through the processors. */
  dureDeviceLinkSystem = 5
} dureDeviceLinkType_t;

typedef struct {
  uint32_t size;
  /* A dureDeviceLinkType_t. */
  uint32_t type;
  /* Whether the first reaches memory of the second itself: 1 or 0. */
  uint32_t peer_access;
  /* Nanoseconds. */
  uint32_t latency;
  /* GB/s one way. */
  double bandwidth;
} dureDeviceLink_t;

typedef struct dureDevice dureDevice_t;
typedef struct dureDeviceStream dureDeviceStream_t;

/* The allocation that an address is in. */
typedef struct {
  uint32_t size;
  uint32_t reserved;
  void *base;
  uint64_t bytes;
} dureDeviceRange_t;

/* Memory as another process names it. It means something to the same plug-in on the same host only. */
typedef struct {
  unsigned char bytes[DURE_DEVICE_HANDLE];
} dureDeviceHandle_t;

/* `rows` rows of `bytes` bytes, whose starts are `src_pitch` and `dst_pitch` bytes apart. They may begin and end at any byte. At
 * most one side is the host's. */
typedef struct {
  uint32_t size;
  /* 1 where the address is of the host's memory, 0 where it is of this device's, or was imported. */
  uint32_t src_is_host;
  uint32_t dst_is_host;
  uint32_t rows;
  const void *src;
  void *dst;
  uint64_t bytes;
  uint64_t src_pitch;
  uint64_t dst_pitch;
} dureDeviceCopy_t;

/* dst[i] = srcs[0][i] op srcs[1][i] op ... on memory of the device, or imported. dst may be one of the sources. Sums of types of
 * 8 and 16 bits of more than two sources are rounded once. */
typedef struct {
  uint32_t size;
  uint32_t sources;
  uint32_t type;
  uint32_t op;
  const void *const *srcs;
  void *dst;
  /* Elements. */
  uint64_t count;
} dureDeviceReduce_t;

/* What elements are scaled by. */
typedef enum {
  /* `factor`: f64 multiplies in f64, other floating-point types in f32 with one rounding; integers by the factor converted to
   * their type, and wrap. */
  dureDeviceScaleBy = 0,
  /* `integer`: integers only, which wrap. */
  dureDeviceScaleByInteger = 1,
  /* Divide by `integer`, at least 1: floating-point types in the precision of the first, integers towards zero. */
  dureDeviceScaleOver = 2
} dureDeviceScaleKind_t;

/* dst[i] = src[i] scaled; dst may be src. */
typedef struct {
  uint32_t size;
  uint32_t type;
  /* A dureDeviceScaleKind_t. */
  uint32_t kind;
  uint32_t reserved;
  const void *src;
  void *dst;
  /* Elements. */
  uint64_t count;
  double factor;
  int64_t integer;
} dureDeviceScale_t;

/* What a device has moved since it was opened, in bytes. */
typedef struct {
  uint32_t size;
  uint32_t reserved;
  uint64_t from_host;
  uint64_t to_host;
  /* Within its own memory, and between it and memory that was imported. */
  uint64_t inside;
  uint64_t peer;
  /* Bytes of the sources of reductions. */
  uint64_t reduced;
} dureDeviceCounters_t;

typedef struct {
  uint32_t size;
  /* DURE_DEVICE_ABI. */
  uint32_t abi;
  /* For people: who made the plug-in, and its version. */
  const char *vendor;
  const char *version;

  /* Why the last call of this thread that failed did: a sentence, until the thread's next call. */
  const char *(*error)(void);

  dureDeviceStatus_t (*count)(uint32_t *devices);
  dureDeviceStatus_t (*describe)(uint32_t index, dureDeviceInfo_t *info);
  dureDeviceStatus_t (*link)(uint32_t from, uint32_t to, dureDeviceLink_t *link);

  /* `peers` are the devices that it is to reach, where it must know. */
  dureDeviceStatus_t (*open)(uint32_t index, const uint32_t *peers, uint32_t count, dureDevice_t **device);
  dureDeviceStatus_t (*close)(dureDevice_t *device);
  /* dureDeviceOk, or dureDeviceGone when it was reset or has disappeared. */
  dureDeviceStatus_t (*health)(dureDevice_t *device);
  dureDeviceStatus_t (*counters)(dureDevice_t *device, dureDeviceCounters_t *counters);

  /* Allocations begin at multiples of 64 bytes. Addresses are of no other use to the processor than to be given to these functions, and lie in nobody else's memory. They
   * may be added to, within an allocation. Memory is zeroed. */
  dureDeviceStatus_t (*alloc)(dureDevice_t *device, uint64_t bytes, void **address);
  dureDeviceStatus_t (*free)(dureDevice_t *device, void *address);
  /* dureDeviceInvalid when the address is in no allocation of this device. Frameworks' allocations count, where the maker knows of
   * them. */
  dureDeviceStatus_t (*query)(dureDevice_t *device, const void *address, dureDeviceRange_t *range);

  /* Work of one stream is done in the order of the calls; streams are independent. */
  dureDeviceStatus_t (*stream_open)(dureDevice_t *device, dureDeviceStream_t **stream);
  /* What was told is done nevertheless. */
  dureDeviceStatus_t (*stream_close)(dureDeviceStream_t *stream);
  /* All of them, or none. Each begins where the one before ends by its `size`. */
  dureDeviceStatus_t (*copy)(dureDeviceStream_t *stream, const dureDeviceCopy_t *copies, uint32_t count);
  dureDeviceStatus_t (*reduce)(dureDeviceStream_t *stream, const dureDeviceReduce_t *reduce);
  dureDeviceStatus_t (*scale)(dureDeviceStream_t *stream, const dureDeviceScale_t *scale);
  /* An event: its number is complete when all that the stream was told before is done. Numbers go up. */
  dureDeviceStatus_t (*record)(dureDeviceStream_t *stream, uint64_t *event);
  /* The last event that is complete. */
  dureDeviceStatus_t (*completed)(dureDeviceStream_t *stream, uint64_t *event);
  /* What the stream is told next is done after an event of another stream of the same device. */
  dureDeviceStatus_t (*wait)(dureDeviceStream_t *stream, dureDeviceStream_t *other, uint64_t event);

  /* DURE_DEVICE_PEER. What was imported is read and written by copies and reductions of the importing device, until `forget`. */
  dureDeviceStatus_t (*export_handle)(dureDevice_t *device, void *address, uint64_t bytes, dureDeviceHandle_t *handle);
  dureDeviceStatus_t (*import_handle)(dureDevice_t *device, const dureDeviceHandle_t *handle, void **address);
  dureDeviceStatus_t (*forget)(dureDevice_t *device, void *address);
  /* DURE_DEVICE_DMABUF. The descriptor is the caller's; the address is `offset` bytes into it. */
  dureDeviceStatus_t (*export_dmabuf)(dureDevice_t *device, void *address, uint64_t bytes, int *fd, uint64_t *offset);
  /* DURE_DEVICE_MAP. */
  dureDeviceStatus_t (*map)(dureDevice_t *device, void *address, uint64_t bytes, void **host);
  dureDeviceStatus_t (*unmap)(dureDevice_t *device, void *host);
  /* DURE_DEVICE_FLUSH. */
  dureDeviceStatus_t (*flush)(dureDevice_t *device, void *address, uint64_t bytes);

  /* DURE_DEVICE_JOIN. A stream over one of the maker's own, which its owner goes on using. It is given no work: `record` is behind what
   * the owner has told it so far, and `stream_close` ends this view of it. */
  dureDeviceStatus_t (*stream_join)(dureDevice_t *device, void *native, dureDeviceStream_t **stream);
  /* What the owner tells such a stream next waits until `release` with this number, or a later one. Numbers go up. */
  dureDeviceStatus_t (*hold)(dureDeviceStream_t *stream, uint64_t *number);
  /* Any thread may call it, whatever others do with the stream. */
  dureDeviceStatus_t (*release)(dureDeviceStream_t *stream, uint64_t number);
} dureDevicePlugin_t;

/* The one name that a plug-in exports. The table stays where it is. */
const dureDevicePlugin_t *dureGetDevicePlugin(void);

#ifdef __cplusplus
}
#endif

#endif
