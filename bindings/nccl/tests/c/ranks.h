#include <nccl.h>

#define API(name) nccl##name
#include "../../../common/testing/ranks.h"
