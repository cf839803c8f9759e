#include <oneapi/ccl.h>

#define API(name) oneccl##name
#include "../../../common/testing/ranks.h"
