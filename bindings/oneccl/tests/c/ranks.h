#include <dure_oneccl.h>
#include <oneapi/ccl.h>

#define API(name) oneccl##name
#include "../../../common/testing/ranks.h"

/* As EXPECT_ERROR, for a call after whose failure oneCCL has a text of its own. */
#define EXPECT_UNMADE(wanted, text, call)                      \
  do {                                                         \
    EXPECT_RESULT(wanted, call);                               \
    EXPECT(strstr(dureOnecclGetLastError(NULL), text) != NULL); \
  } while (0)
