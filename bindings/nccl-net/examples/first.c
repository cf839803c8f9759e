/* Moves some bytes from one end of a connection to the other, both in this process. */
#include <dlfcn.h>
#include <dure_nccl_net.h>
#include <stdio.h>

int main(void) {
  void *library = dlopen("libnccl-net-dure.so", RTLD_NOW);
  const ncclNet_v9_t *net = library ? dlsym(library, "ncclNetPlugin_v9") : NULL;
  char handle[NCCL_NET_HANDLE_MAXSIZE], sent[] = "bytes over Dure", got[32] = "";
  void *listener, *to = NULL, *from = NULL, *memory[2], *sending = NULL, *receiving, *into = got;
  size_t room = sizeof got;
  int tag = 0, done = 0, size = 0, failed = 0;
  if (net == NULL || net->init(NULL) || net->listen(0, handle, &listener)) return 1;
  while (!failed && (to == NULL || from == NULL)) {
    if (to == NULL) failed |= net->connect(0, handle, &to, NULL);
    if (from == NULL) failed |= net->accept(listener, &from, NULL);
  }
  if (failed || net->regMr(to, sent, sizeof sent, NCCL_PTR_HOST, &memory[0]) ||
      net->regMr(from, got, sizeof got, NCCL_PTR_HOST, &memory[1]) ||
      net->irecv(from, 1, &into, &room, &tag, &memory[1], &receiving))
    return 1;
  while (!failed && sending == NULL) failed = net->isend(to, sent, sizeof sent, tag, memory[0], &sending);
  while (!failed && !done) failed = net->test(receiving, &done, &size);
  printf("%d: %s\n", size, got);
  return failed;
}
