#include "mark.h"

#include <c10/core/DeviceGuard.h>
#include <c10/util/Exception.h>

namespace dure {

Mark::Mark(c10::Device device) : device_(device) {
  const c10::impl::VirtualGuardImpl guard(device.type());
  const auto stream = guard.getStream(device);
  try {
    event_.emplace(device.type());
    event_->record(stream);
  } catch (const c10::Error&) {
    // torch does not say in any other way that a device has no events. One that is broken fails here again.
    event_.reset();
    guard.synchronizeStream(stream);
  }
}

void Mark::wait() const {
  if (event_) {
    // A thread that nobody has told of this device may otherwise open another one.
    const c10::DeviceGuard guard(device_);
    event_->synchronize();
  }
}

}  // namespace dure
