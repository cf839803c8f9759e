/* A peer that is killed in the middle: an error that names it, on whichever side is left, and no hang. killed sender|receiver */
#include "driver.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* What both processes see. */
typedef struct {
  volatile int listens, flows;
  char handle[NCCL_NET_HANDLE_MAXSIZE];
} shared_t;

enum { SIZE = 1 << 20 };

/* Sends or receives until that fails; the result of the call that did. */
static int go_on(plugin_t *p, shared_t *shared, int sends, void *comm, void *memory, unsigned char *bytes) {
  for (;;) {
    void *request = NULL;
    int done = 0, tag = 0, result = SUCCESS;
    void *data = bytes;
    size_t size = SIZE;
    while (request == NULL && result == SUCCESS)
      result = sends ? net_isend(p, comm, bytes, SIZE, tag, memory, &request)
                     : net_irecv(p, comm, 1, &data, &size, &tag, &memory, &request);
    while (!done && result == SUCCESS) result = ALIKE(p, test, request, &done, NULL);
    if (result != SUCCESS) return result;
    __atomic_store_n(&shared->flows, 1, __ATOMIC_RELEASE);
  }
}

static int play(shared_t *shared, int sends) {
  plugin_t plugin = plugin_open(0);
  void *comm = NULL, *listener = NULL, *memory;
  unsigned char *bytes = malloc(SIZE);
  CHECK(net_init(&plugin));
  if (!sends) {
    CHECK(net_listen(&plugin, 0, shared->handle, &listener));
    __atomic_store_n(&shared->listens, 1, __ATOMIC_RELEASE);
  }
  while (!__atomic_load_n(&shared->listens, __ATOMIC_ACQUIRE)) usleep(1000);
  while (comm == NULL)
    CHECK(sends ? net_connect(&plugin, 0, shared->handle, &comm) : ALIKE(&plugin, accept, listener, &comm, NULL));
  CHECK(ALIKE(&plugin, regMr, comm, bytes, SIZE, NCCL_PTR_HOST, &memory));
  int result = go_on(&plugin, shared, sends, comm, memory, bytes);
  EXPECT(result == REMOTE_ERROR || result == SYSTEM_ERROR);
  /* It stays so, and all can be given back. */
  void *request = NULL, *data = bytes;
  size_t size = 1;
  int tag = 0;
  if (sends)
    EXPECT_RESULT(result, net_isend(&plugin, comm, bytes, 1, tag, memory, &request));
  else
    EXPECT_RESULT(result, net_irecv(&plugin, comm, 1, &data, &size, &tag, &memory, &request));
  CHECK(ALIKE(&plugin, deregMr, comm, memory));
  CHECK(sends ? ALIKE(&plugin, closeSend, comm) : ALIKE(&plugin, closeRecv, comm));
  CHECK(net_finalize(&plugin));
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  int victim_sends = strcmp(argv[1], "sender") == 0;
  shared_t *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT(shared != MAP_FAILED);
  pid_t victim = fork();
  if (victim == 0) return play(shared, victim_sends);
  pid_t killer = fork();
  if (killer == 0) {
    while (!__atomic_load_n(&shared->flows, __ATOMIC_ACQUIRE)) usleep(1000);
    usleep(50000);
    return kill(victim, SIGKILL);
  }
  play(shared, !victim_sends);
  char who[64];
  snprintf(who, sizeof who, "(process %d, ", victim);
  EXPECT(strstr(warning, who) != NULL && strstr(warning, "is lost") != NULL);
  EXPECT(waitpid(killer, NULL, 0) == killer && waitpid(victim, NULL, 0) == victim);
  printf("%s\n", warning);
  return 0;
}
