// A device of torch for tests, "npu": the memory of npu:0 is that of the first device that DURE_DEVICE names, which
// this process cannot touch itself; nobody may touch that of npu:1, and Dure does not know it. All operations are the
// processor's, on copies. Work that was put off is done when somebody waits for it, and no earlier.

#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <dure.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <deque>
#include <functional>
#include <mutex>

namespace {

constexpr auto TYPE = c10::DeviceType::PrivateUse1;
constexpr c10::DeviceIndex UNKNOWN = 1;

thread_local c10::DeviceIndex current_device = 0;
thread_local c10::StreamId current_stream = 0;
std::atomic<bool> has_events{true};

void check(dureResult_t result) { TORCH_CHECK(result == dureSuccess, "npu: ", dureGetLastError(nullptr)); }

// Copies bytes of the host and of the device: a communicator of one rank gathers them.
void copy_bytes(void* to, const void* from, size_t bytes) {
  static std::mutex mutex;
  static dureComm_t comm = [] {
    dureUniqueId id;
    dureComm_t made = nullptr;
    check(dureGetUniqueId(&id));
    check(dureCommInitRank(&made, 1, id, 0));
    return made;
  }();
  const std::lock_guard lock(mutex);
  check(dureAllGather(from, to, bytes, dureUint8, comm, nullptr));
}

// The work that was put off, of all streams.
class Queue {
 public:
  void put_off(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(work));
    ++given_;
  }

  uint64_t given() {
    const std::lock_guard lock(mutex_);
    return given_;
  }

  void work_until(uint64_t number) {
    const std::lock_guard lock(mutex_);
    for (; done_ < number; ++done_) {
      waiting_.front()();
      waiting_.pop_front();
    }
  }

  uint64_t done() {
    const std::lock_guard lock(mutex_);
    return done_;
  }

  void finish() { work_until(given()); }

 private:
  std::mutex mutex_;
  std::deque<std::function<void()>> waiting_;
  uint64_t given_ = 0, done_ = 0;
};

Queue& queue() {
  static Queue all;
  return all;
}

// An event is the number of what had been given before.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return TYPE; }
  c10::Device exchangeDevice(c10::Device device) const override {
    return {TYPE, std::exchange(current_device, device.index())};
  }
  c10::Device getDevice() const override { return {TYPE, current_device}; }
  void setDevice(c10::Device device) const override { current_device = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current_device = device.index(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 2; }

  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::UNSAFE, device, current_stream);
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    return c10::Stream(c10::Stream::UNSAFE, device, 1);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return c10::Stream(c10::Stream::UNSAFE, stream.device(), std::exchange(current_stream, stream.id()));
  }
  bool queryStream(const c10::Stream&) const override { return queue().done() == queue().given(); }
  void synchronizeStream(const c10::Stream&) const override { queue().finish(); }
  void synchronizeDevice(c10::DeviceIndex) const override { queue().finish(); }

  void record(void** event, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {
    TORCH_CHECK(has_events, "npu has no events");
    delete static_cast<uint64_t*>(*event);
    *event = new uint64_t(queue().given());
  }
  // One queue has the work of all streams.
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void* event) const override { return queue().done() >= *static_cast<uint64_t*>(event); }
  void synchronizeEvent(void* event) const override { queue().work_until(*static_cast<uint64_t*>(event)); }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override { delete static_cast<uint64_t*>(event); }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

// What torch asks an accelerator.
struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 2; }
  c10::DeviceIndex getCurrentDevice() const override { return current_device; }
};

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* place = nullptr;
    const c10::Device device(TYPE, current_device);
    if (bytes != 0 && current_device != UNKNOWN) {
      check(dureMemAlloc(&place, bytes));
    } else if (bytes != 0) {
      place = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    return {place, place, current_device == UNKNOWN ? [](void*) {} : free, device};
  }
  static void free(void* place) { dureMemFree(place); }
  void copy_data(void* to, const void* from, size_t bytes) const override { copy_bytes(to, from, bytes); }
};

Memory memory;

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(device.value_or(c10::Device(TYPE, current_device)));
  return at::detail::empty_strided_generic(sizes, strides, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           dtype.value_or(at::kFloat));
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(device.value_or(c10::Device(TYPE, current_device)));
  return at::detail::empty_generic(sizes, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   dtype.value_or(at::kFloat), format);
}

// Bytes from a tensor's first element to its last one.
size_t span(const at::Tensor& tensor) {
  return at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.element_size());
}

// A copy that the processor can look into, with all that is between the elements.
at::Tensor on_host(const at::Tensor& tensor) {
  if (tensor.is_cpu()) {
    return tensor;
  }
  queue().finish();
  auto copy = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
  if (tensor.numel() != 0) {
    copy_bytes(copy.data_ptr(), tensor.data_ptr(), span(tensor));
  }
  return copy;
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool) {
  auto copy = on_host(to);
  copy.copy_(on_host(self));
  if (!to.is_cpu() && to.numel() != 0) {
    copy_bytes(to.data_ptr(), copy.data_ptr(), span(to));
  }
  return to;
}

const at::Tensor& resize(const at::Tensor& self, at::IntArrayRef sizes, std::optional<at::MemoryFormat>) {
  if (self.sizes() != sizes) {
    const auto other = empty(sizes, self.scalar_type(), {}, self.device(), {}, {});
    self.unsafeGetTensorImpl()->set_storage_keep_dtype(other.storage());
    self.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  }
  return self;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  return copy_from(self, resize(to, self.sizes(), {}), false);
}

// Gives the device a copy to do, later.
void put_off_copy(const at::Tensor& to, const at::Tensor& from) {
  queue().put_off([to, from] { copy_bytes(to.data_ptr(), from.data_ptr(), to.nbytes()); });
}

void on_processor(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_processor>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("resize_", resize);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("view_as_real", at::native::view_as_real);
  m.impl("_reshape_alias", at::native::_reshape_alias);
}

TORCH_LIBRARY(dure_npu, m) {
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  m.def("put_off_copy(Tensor to, Tensor source) -> ()", put_off_copy);
  m.def("set_events(bool there) -> ()", [](bool there) { has_events = there; });
}
