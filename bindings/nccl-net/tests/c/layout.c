/* Sizes, places and numbers as the header has them: one line a fact, as layout.txt pins them. */
#include <dure_nccl_net.h>
#include <stdio.h>

#define SIZE(name, type) printf("%s %zu\n", name, sizeof(type))
#define PLACE(version, field) \
  printf("properties_v" #version "." #field " %zu\n", offsetof(ncclNetProperties_v##version##_t, field))

int main(void) {
  printf("PTR_HOST %d\nPTR_CUDA %d\nPTR_DMABUF %d\n", NCCL_PTR_HOST, NCCL_PTR_CUDA, NCCL_PTR_DMABUF);
  printf("HANDLE_MAXSIZE %d\n", NCCL_NET_HANDLE_MAXSIZE);
  SIZE("properties_v8", ncclNetProperties_v8_t);
  PLACE(8, speed);
  PLACE(8, netDeviceVersion);
  SIZE("properties_v9", ncclNetProperties_v9_t);
  PLACE(9, forceFlush);
  PLACE(9, vProps);
  PLACE(9, maxCollBytes);
  SIZE("properties_v10", ncclNetProperties_v10_t);
  SIZE("properties_v11", ncclNetProperties_v11_t);
  PLACE(11, maxMultiRequestSize);
  SIZE("properties_v12", ncclNetProperties_v12_t);
  PLACE(12, maxP2pBytes);
  PLACE(12, railId);
  PLACE(12, planeId);
  SIZE("vdevice_v9", ncclNetVDeviceProps_v9_t);
  SIZE("vdevice_v12", ncclNetVDeviceProps_v12_t);
  SIZE("net_v8", ncclNet_v8_t);
  SIZE("net_v9", ncclNet_v9_t);
  SIZE("net_v10", ncclNet_v10_t);
  SIZE("net_v11", ncclNet_v11_t);
  SIZE("net_v12", ncclNet_v12_t);
  return 0;
}
