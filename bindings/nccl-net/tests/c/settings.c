/* What the plug-in makes of its settings: settings init NAME VALUE | differ | accept | connect */
#include "driver.h"

#include <sys/socket.h>
#include <sys/wait.h>

/* What init says: its result, and the warning. */
static int init(const char *name, const char *value) {
  setenv(name, value, 1);
  plugin_t plugin = plugin_open(0);
  int result = net_init(&plugin);
  printf("%d %s\n", result, warning);
  return 0;
}

/* Two sides that may not use the same transports: both hear of it. */
static int differ(void) {
  char handle[NCCL_NET_HANDLE_MAXSIZE];
  int pair[2], status, result = SUCCESS;
  void *listener, *comm = NULL;
  EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  pid_t child = fork();
  setenv("DURE_TRANSPORT", child ? "tcp" : "tcp,pool", 1);
  plugin_t plugin = plugin_open(0);
  CHECK(net_init(&plugin));
  if (child) {
    CHECK(net_listen(&plugin, 0, handle, &listener));
    EXPECT(write(pair[0], handle, sizeof handle) == sizeof handle);
    while (result == SUCCESS) result = ALIKE(&plugin, accept, listener, &comm, NULL);
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
    printf("%d %s\n", result, warning);
  } else {
    EXPECT(read(pair[1], handle, sizeof handle) == sizeof handle);
    while (result == SUCCESS) result = net_connect(&plugin, 0, handle, &comm);
    EXPECT(result == INVALID_USAGE);
  }
  return 0;
}

/* One side of a connection to which the other does not come. */
static int alone(int connects) {
  char handle[NCCL_NET_HANDLE_MAXSIZE];
  int result = SUCCESS;
  void *listener, *comm = NULL;
  setenv("DURE_TIMEOUT", "200ms", 1);
  plugin_t plugin = plugin_open(0);
  CHECK(net_init(&plugin));
  CHECK(net_listen(&plugin, 0, handle, &listener));
  while (result == SUCCESS)
    result = connects ? net_connect(&plugin, 0, handle, &comm) : ALIKE(&plugin, accept, listener, &comm, NULL);
  EXPECT(comm == NULL);
  printf("%d %s\n", result, warning);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "init") == 0) return init(argv[2], argv[3]);
  if (argc != 2) return 2;
  return strcmp(argv[1], "differ") == 0 ? differ() : alone(strcmp(argv[1], "connect") == 0);
}
