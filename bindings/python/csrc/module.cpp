// What Python sees of the back end: how to make a process group, and how to leave all of them.

#include <torch/csrc/utils/pybind.h>

#include <mutex>
#include <torch/csrc/distributed/c10d/Types.hpp>

#include "group.h"

namespace {

std::mutex mutex;
std::vector<c10::weak_intrusive_ptr<dure::Group>> groups;

c10::intrusive_ptr<c10d::Backend> create(const c10d::DistributedBackendOptions& opts, const pybind11::object&) {
  const auto timeout = std::chrono::duration_cast<std::chrono::milliseconds>(opts.timeout);
  const pybind11::gil_scoped_release released;
  auto group = c10::make_intrusive<dure::Group>(opts.store, opts.group_rank, opts.group_size, timeout, opts.group_id);
  const std::lock_guard lock(mutex);
  groups.erase(std::remove_if(groups.begin(), groups.end(), [](const auto& one) { return one.expired(); }),
               groups.end());
  groups.emplace_back(group);
  return group;
}

void leave() {
  const std::lock_guard lock(mutex);
  for (auto one = groups.rbegin(); one != groups.rend(); ++one) {
    if (const auto group = one->lock()) {
      group->leave();
    }
  }
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  using Released = pybind11::release_gil_before_calling_cpp_dtor;
  pybind11::class_<dure::Group, c10d::Backend, c10::intrusive_ptr<dure::Group>>(module, "Group", Released())
      .def(
          "perform_nocolor_split", [](const dure::Group&, const pybind11::object&) {},
          "torch calls it where init_process_group was given a device, on ranks that a new group leaves out.");
  module.def("create", &create, "Makes the process group that c10d's options describe.");
  module.def("leave", &leave, pybind11::call_guard<pybind11::gil_scoped_release>(),
             "Leaves every process group that was not destroyed, the youngest one first.");
}
