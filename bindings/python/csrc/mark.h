// What a device was given to do before a call, and when that is done.

#pragma once

#include <c10/core/Event.h>

#include <optional>

namespace dure {

// The work on this thread's current stream of a device, up to now.
class Mark {
 public:
  // Where a device has no events, this waits.
  explicit Mark(c10::Device device);

  // Waits until the work is done; any thread may.
  void wait() const;

 private:
  c10::Device device_;
  std::optional<c10::Event> event_;
};

}  // namespace dure
