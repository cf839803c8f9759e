/* The interface of NCCL's network plug-ins, v8 to v12, as libnccl-net-dure.so has it: for programs that load the plug-in
 * themselves, as its tests do. NCCL has headers of its own, which also say what the functions do:
 * https://github.com/NVIDIA/nccl/tree/master/src/include/plugin/net
 *
 * Functions return ncclResult_t of nccl.h: 0 is success. Where `void *` stands for a structure, this plug-in does not look
 * at it. */
#ifndef DURE_NCCL_NET_H
#define DURE_NCCL_NET_H

#include <stddef.h>
#include <stdint.h>

#define NCCL_NET_HANDLE_MAXSIZE 128

/* Whose memory it is: of regMr, and in ptrSupport. */
#define NCCL_PTR_HOST 0x1
#define NCCL_PTR_CUDA 0x2
#define NCCL_PTR_DMABUF 0x4

/* Levels of the log. */
#define NCCL_LOG_WARN 2
#define NCCL_LOG_INFO 3

typedef void (*ncclDebugLogger_t)(int level, unsigned long flags, const char *file, int line, const char *fmt, ...);

typedef struct {
  int trafficClass;
} ncclNetCommConfig_t;

/* v8: what the plug-in exports as ncclNetPlugin_v8. */
typedef struct {
  char *name;
  char *pciPath;
  uint64_t guid;
  int ptrSupport;
  int regIsGlobal;
  int speed;
  int port;
  float latency;
  int maxComms;
  int maxRecvs;
  int netDeviceType;
  int netDeviceVersion;
} ncclNetProperties_v8_t;

typedef struct {
  const char *name;
  int (*init)(ncclDebugLogger_t log);
  int (*devices)(int *ndev);
  int (*getProperties)(int dev, ncclNetProperties_v8_t *props);
  int (*listen)(int dev, void *handle, void **listenComm);
  int (*connect)(int dev, void *handle, void **sendComm, void **sendDevComm);
  int (*accept)(void *listenComm, void **recvComm, void **recvDevComm);
  int (*regMr)(void *comm, void *data, size_t size, int type, void **mhandle);
  int (*regMrDmaBuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **mhandle);
  int (*deregMr)(void *comm, void *mhandle);
  int (*isend)(void *sendComm, void *data, int size, int tag, void *mhandle, void **request);
  int (*irecv)(void *recvComm, int n, void **data, int *sizes, int *tags, void **mhandles, void **request);
  int (*iflush)(void *recvComm, int n, void **data, int *sizes, void **mhandles, void **request);
  int (*test)(void *request, int *done, int *sizes);
  int (*closeSend)(void *sendComm);
  int (*closeRecv)(void *recvComm);
  int (*closeListen)(void *listenComm);
  int (*getDeviceMr)(void *comm, void *mhandle, void **dptr_mhandle);
  int (*irecvConsumed)(void *recvComm, int n, void *request);
} ncclNet_v8_t;

/* v9: what the plug-in exports as ncclNetPlugin_v9. */
typedef struct {
  int ndevs;
  int devs[4];
} ncclNetVDeviceProps_v9_t;

typedef struct {
  char *name;
  char *pciPath;
  uint64_t guid;
  int ptrSupport;
  int regIsGlobal;
  int forceFlush;
  int speed;
  int port;
  float latency;
  int maxComms;
  int maxRecvs;
  int netDeviceType;
  int netDeviceVersion;
  ncclNetVDeviceProps_v9_t vProps;
  size_t maxP2pBytes;
  size_t maxCollBytes;
} ncclNetProperties_v9_t;

typedef struct {
  const char *name;
  int (*init)(ncclDebugLogger_t log);
  int (*devices)(int *ndev);
  int (*getProperties)(int dev, ncclNetProperties_v9_t *props);
  int (*listen)(int dev, void *handle, void **listenComm);
  int (*connect)(int dev, void *handle, void **sendComm, void **sendDevComm);
  int (*accept)(void *listenComm, void **recvComm, void **recvDevComm);
  int (*regMr)(void *comm, void *data, size_t size, int type, void **mhandle);
  int (*regMrDmaBuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **mhandle);
  int (*deregMr)(void *comm, void *mhandle);
  int (*isend)(void *sendComm, void *data, size_t size, int tag, void *mhandle, void **request);
  int (*irecv)(void *recvComm, int n, void **data, size_t *sizes, int *tags, void **mhandles, void **request);
  int (*iflush)(void *recvComm, int n, void **data, int *sizes, void **mhandles, void **request);
  int (*test)(void *request, int *done, int *sizes);
  int (*closeSend)(void *sendComm);
  int (*closeRecv)(void *recvComm);
  int (*closeListen)(void *listenComm);
  int (*getDeviceMr)(void *comm, void *mhandle, void **dptr_mhandle);
  int (*irecvConsumed)(void *recvComm, int n, void *request);
  int (*makeVDevice)(int *d, ncclNetVDeviceProps_v9_t *props);
} ncclNet_v9_t;

/* v10: what the plug-in exports as ncclNetPlugin_v10. */
typedef struct {
  int ndevs;
  int devs[4];
} ncclNetVDeviceProps_v10_t;

typedef struct {
  char *name;
  char *pciPath;
  uint64_t guid;
  int ptrSupport;
  int regIsGlobal;
  int forceFlush;
  int speed;
  int port;
  float latency;
  int maxComms;
  int maxRecvs;
  int netDeviceType;
  int netDeviceVersion;
  ncclNetVDeviceProps_v10_t vProps;
  size_t maxP2pBytes;
  size_t maxCollBytes;
} ncclNetProperties_v10_t;

typedef struct {
  const char *name;
  int (*init)(ncclDebugLogger_t log, void *profiler);
  int (*devices)(int *ndev);
  int (*getProperties)(int dev, ncclNetProperties_v10_t *props);
  int (*listen)(int dev, void *handle, void **listenComm);
  int (*connect)(int dev, ncclNetCommConfig_t *config, void *handle, void **sendComm, void **sendDevComm);
  int (*accept)(void *listenComm, void **recvComm, void **recvDevComm);
  int (*regMr)(void *comm, void *data, size_t size, int type, void **mhandle);
  int (*regMrDmaBuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **mhandle);
  int (*deregMr)(void *comm, void *mhandle);
  int (*isend)(void *sendComm, void *data, size_t size, int tag, void *mhandle, void *phandle, void **request);
  int (*irecv)(void *recvComm, int n, void **data, size_t *sizes, int *tags, void **mhandles, void **phandles, void **request);
  int (*iflush)(void *recvComm, int n, void **data, int *sizes, void **mhandles, void **request);
  int (*test)(void *request, int *done, int *sizes);
  int (*closeSend)(void *sendComm);
  int (*closeRecv)(void *recvComm);
  int (*closeListen)(void *listenComm);
  int (*getDeviceMr)(void *comm, void *mhandle, void **dptr_mhandle);
  int (*irecvConsumed)(void *recvComm, int n, void *request);
  int (*makeVDevice)(int *d, ncclNetVDeviceProps_v10_t *props);
} ncclNet_v10_t;

/* v11: what the plug-in exports as ncclNetPlugin_v11. */
typedef struct {
  int ndevs;
  int devs[4];
} ncclNetVDeviceProps_v11_t;

typedef struct {
  char *name;
  char *pciPath;
  uint64_t guid;
  int ptrSupport;
  int regIsGlobal;
  int forceFlush;
  int speed;
  int port;
  float latency;
  int maxComms;
  int maxRecvs;
  int netDeviceType;
  int netDeviceVersion;
  ncclNetVDeviceProps_v11_t vProps;
  size_t maxP2pBytes;
  size_t maxCollBytes;
  int maxMultiRequestSize;
} ncclNetProperties_v11_t;

typedef struct {
  const char *name;
  int (*init)(void **ctx, uint64_t commId, ncclNetCommConfig_t *config, ncclDebugLogger_t log, void *profiler);
  int (*devices)(int *ndev);
  int (*getProperties)(int dev, ncclNetProperties_v11_t *props);
  int (*listen)(void *ctx, int dev, void *handle, void **listenComm);
  int (*connect)(void *ctx, int dev, void *handle, void **sendComm, void **sendDevComm);
  int (*accept)(void *listenComm, void **recvComm, void **recvDevComm);
  int (*regMr)(void *comm, void *data, size_t size, int type, void **mhandle);
  int (*regMrDmaBuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **mhandle);
  int (*deregMr)(void *comm, void *mhandle);
  int (*isend)(void *sendComm, void *data, size_t size, int tag, void *mhandle, void *phandle, void **request);
  int (*irecv)(void *recvComm, int n, void **data, size_t *sizes, int *tags, void **mhandles, void **phandles, void **request);
  int (*iflush)(void *recvComm, int n, void **data, int *sizes, void **mhandles, void **request);
  int (*test)(void *request, int *done, int *sizes);
  int (*closeSend)(void *sendComm);
  int (*closeRecv)(void *recvComm);
  int (*closeListen)(void *listenComm);
  int (*getDeviceMr)(void *comm, void *mhandle, void **dptr_mhandle);
  int (*irecvConsumed)(void *recvComm, int n, void *request);
  int (*makeVDevice)(int *d, ncclNetVDeviceProps_v11_t *props);
  int (*finalize)(void *ctx);
  int (*setNetAttr)(void *ctx, void *netAttr);
} ncclNet_v11_t;

/* v12: what the plug-in exports as ncclNetPlugin_v12. */
typedef struct {
  int ndevs;
  int devs[8];
} ncclNetVDeviceProps_v12_t;

typedef struct {
  char *name;
  char *pciPath;
  uint64_t guid;
  int ptrSupport;
  int regIsGlobal;
  int forceFlush;
  int speed;
  int port;
  float latency;
  int maxComms;
  int maxRecvs;
  int netDeviceType;
  int netDeviceVersion;
  ncclNetVDeviceProps_v12_t vProps;
  size_t maxP2pBytes;
  size_t maxCollBytes;
  int maxMultiRequestSize;
  int16_t railId;
  int16_t planeId;
} ncclNetProperties_v12_t;

typedef struct {
  const char *name;
  int (*init)(void **ctx, uint64_t commId, ncclNetCommConfig_t *config, ncclDebugLogger_t log, void *profiler);
  int (*devices)(int *ndev);
  int (*getProperties)(int dev, ncclNetProperties_v12_t *props);
  int (*listen)(void *ctx, int dev, void *handle, void **listenComm);
  int (*connect)(void *ctx, int dev, void *handle, void **sendComm, void **sendDevComm);
  int (*accept)(void *listenComm, void **recvComm, void **recvDevComm);
  int (*regMr)(void *comm, void *data, size_t size, int type, void **mhandle);
  int (*regMrDmaBuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **mhandle);
  int (*deregMr)(void *comm, void *mhandle);
  int (*isend)(void *sendComm, void *data, size_t size, int tag, void *mhandle, void *phandle, void **request);
  int (*irecv)(void *recvComm, int n, void **data, size_t *sizes, int *tags, void **mhandles, void **phandles, void **request);
  int (*iflush)(void *recvComm, int n, void **data, int *sizes, void **mhandles, void **request);
  int (*test)(void *request, int *done, int *sizes);
  int (*closeSend)(void *sendComm);
  int (*closeRecv)(void *recvComm);
  int (*closeListen)(void *listenComm);
  int (*getDeviceMr)(void *comm, void *mhandle, void **dptr_mhandle);
  int (*irecvConsumed)(void *recvComm, int n, void *request);
  int (*makeVDevice)(int *d, ncclNetVDeviceProps_v12_t *props);
  int (*finalize)(void *ctx);
  int (*setNetAttr)(void *ctx, void *netAttr);
} ncclNet_v12_t;

#endif
