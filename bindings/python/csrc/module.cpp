// What Python sees of the back end: how to make a process group.

#include <torch/csrc/utils/pybind.h>
#include <torch/csrc/distributed/c10d/Types.hpp>

#include "group.h"

namespace {

c10::intrusive_ptr<c10d::Backend> create(const c10d::DistributedBackendOptions& opts, const pybind11::object&) {
  const auto timeout = std::chrono::duration_cast<std::chrono::milliseconds>(opts.timeout);
  const pybind11::gil_scoped_release released;
  return c10::make_intrusive<dure::Group>(opts.store, opts.group_rank, opts.group_size, timeout, opts.group_id);
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("create", &create, "Makes the process group that c10d's options describe.");
}
