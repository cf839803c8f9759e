/* What the library relies on of oneCCL's public header: sizes, offsets and numbers. Most of this test is what the compiler
 * checks. */
#include <oneapi/ccl.h>
#include <stddef.h>

#include "../../include/dure_oneccl.h"

#define PIN(expression, value) _Static_assert((long long)(expression) == (value), #expression)

PIN(sizeof(onecclUniqueId), 4096);
PIN(_Alignof(onecclUniqueId), 1);
PIN(sizeof(onecclComm_t), 8);
PIN(sizeof(onecclWindow_t), 8);

PIN(onecclSuccess, 0);
PIN(onecclError, 1);
PIN(onecclSystemError, 2);
PIN(onecclInternalError, 3);
PIN(onecclInvalidArgument, 4);
PIN(onecclInvalidUsage, 5);
PIN(onecclInProgress, 6);
PIN(onecclFailureGPU, 7);
PIN(onecclFailureCPU, 8);
PIN(onecclAllocFailureCPU, 9);
PIN(onecclAllocFailureGPU, 10);
PIN(onecclPluginException, 11);
PIN(onecclNotImplemented, 12);
PIN(sizeof(onecclResult_t), 4);

PIN(onecclInt8, 0);
PIN(onecclUint8, 1);
PIN(onecclInt32, 2);
PIN(onecclUint32, 3);
PIN(onecclInt64, 4);
PIN(onecclUint64, 5);
PIN(onecclFloat16, 6);
PIN(onecclFloat32, 7);
PIN(onecclFloat64, 8);
PIN(onecclBfloat16, 9);
PIN(sizeof(onecclDataType_t), 4);

PIN(onecclSum, 0);
PIN(onecclProd, 1);
PIN(onecclMax, 2);
PIN(onecclMin, 3);
PIN(onecclAvg, 4);
PIN(onecclNumOps, 5);
PIN(sizeof(onecclRedOp_t), 4);

PIN(onecclScalarDevice, 0);
PIN(onecclScalarHostImmediate, 1);
PIN(sizeof(onecclScalarResidence_t), 4);
PIN(ONECCL_WINDOW_COLL_SYMMETRIC, 1);
PIN(sizeof(onecclWindowFlags_t), 4);
PIN(ONECCL_SPLIT_NOCOLOR, -1);

PIN(DURE_ONECCL_FINALIZE, 0x44757201);
PIN(DURE_ONECCL_ABORT, 0x44757202);
PIN(DURE_ONECCL_ASYNC_ERROR, 0x44757203);
PIN(DURE_ONECCL_LAST_ERROR, 0x44757204);

int main(void) {
  return 0;
}
