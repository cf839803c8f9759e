#include <dure.h>

#define API(name) dure##name
#include "../../../common/testing/ranks.h"
