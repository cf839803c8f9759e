/* A oneCCL of a version that the plug-in does not know: it makes nothing, and says why. */
#include "ranks.h"

int main(void) {
  onecclUniqueId id;
  onecclComm_t comm = NULL;
  memset(&id, 0, sizeof id);
  EXPECT_ERROR(onecclInvalidUsage, "this is oneCCL 2031.4.1, whose communicators", onecclGetUniqueId(&id));
  EXPECT_UNMADE(onecclInvalidUsage, "known: 2021.17.0, 2021.17.2, 2022.0.0", onecclCommInitRank(&comm, 1, id, 0));
  EXPECT(comm == NULL);
  return 0;
}
