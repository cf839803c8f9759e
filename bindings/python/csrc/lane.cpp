#include "lane.h"

#include <c10/util/Exception.h>

namespace dure {

namespace {

constexpr const char* ABORTED = "the process group was aborted";

}  // namespace

void check(dureResult_t result, const std::string& what) {
  if (result == dureSuccess || result == dureDegraded) {
    return;
  }
  const std::string text = what + (result == dureTimeout ? ": the timeout passed: " : ": ") + dureGetLastError(nullptr);
  if (result == dureInvalidArgument) {
    C10_THROW_ERROR(ValueError, text);
  }
  C10_THROW_ERROR(DistBackendError, text);
}

Call::Call(std::shared_ptr<Lane> lane, int rank, c10d::OpType type, const char* name, std::vector<at::Tensor> inputs,
           std::vector<at::Tensor> results, std::chrono::milliseconds timeout, std::optional<Mark> mark, Body body)
    : Work(rank, type, c10::str("dure:", name).c_str(), std::move(inputs)),
      lane_(std::move(lane)),
      name_(name),
      results_(std::move(results)),
      timeout_(timeout),
      mark_(std::move(mark)),
      body_(std::move(body)) {}

bool Call::wait(std::chrono::milliseconds timeout) {
  const auto limit = timeout > kNoTimeout ? timeout : timeout_;
  std::unique_lock lock(mutex_);
  const auto done = [this] { return completed_; };
  if (limit <= kNoTimeout) {
    cv_.wait(lock, done);
  } else if (!cv_.wait_for(lock, limit, done)) {
    lock.unlock();
    lane_->abort();
    lock.lock();
    cv_.wait(lock, done);
    C10_THROW_ERROR(DistBackendError, c10::str(name_, ": not done on rank ", rank_, " within ", limit.count(),
                                               " ms, and therefore ended on all ranks"));
  }
  if (exception_) {
    std::rethrow_exception(exception_);
  }
  return true;
}

void Call::abort() { lane_->abort(); }

std::vector<at::Tensor> Call::result() { return results_; }

std::chrono::milliseconds Call::getTimeout() const { return timeout_; }

c10::intrusive_ptr<c10::ivalue::Future> Call::getFuture() {
  const std::lock_guard lock(future_mutex_);
  if (!future_) {
    std::vector<c10::Device> devices;
    if (!results_.empty() && !results_[0].is_cpu()) {
      devices.push_back(results_[0].device());
    }
    future_ = c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()), devices);
    if (isCompleted()) {
      settle();
    }
  }
  return future_;
}

void Call::run() noexcept {
  std::exception_ptr error;
  try {
    const auto comm = lane_->open();
    if (mark_) {
      mark_->wait();
    }
    body_(comm);
  } catch (...) {
    error = std::current_exception();
    if (lane_->aborted_) {
      // The C interface only knows that the handle is gone.
      error = std::make_exception_ptr(
          c10::DistBackendError({__func__, __FILE__, __LINE__}, c10::str(name_, ": ", ABORTED)));
    }
  }
  // What the body keeps is of no use any more.
  body_ = nullptr;
  const std::lock_guard lock(future_mutex_);
  finish(error);
}

bool Call::has_future() {
  const std::lock_guard lock(future_mutex_);
  return future_ != nullptr;
}

void Call::settle() {
  if (future_->completed()) {
    return;
  }
  if (exception_) {
    future_->setError(exception_);
  } else {
    // Nobody needs to wait for what devices still do to the results: it is done.
    future_->markCompleted(c10::IValue(results_), std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>>());
  }
}

dureComm_t Lane::open() {
  if (failure_) {
    std::rethrow_exception(failure_);
  }
  TORCH_CHECK_WITH(DistBackendError, !aborted_, ABORTED);
  if (comm_ != nullptr) {
    return comm_;
  }
  try {
    comm_ = meet_(aborted_);
    if (aborted_) {
      abort();
    }
    // The ranks meet in the background, so that the lane can be aborted meanwhile; this waits for them.
    int size = 0;
    check(dureCommCount(comm_, &size), "meeting the other ranks");
  } catch (...) {
    failure_ = std::current_exception();
    abort();
    throw;
  }
  return comm_;
}

bool Lane::on_device(const void* address, const char* call) const {
  dureComm_t comm = comm_;
  TORCH_CHECK_WITH(DistBackendError, comm != nullptr, call, ": the process group was aborted or shut down");
  int device = DURE_DEVICE_HOST;
  check(dureCommMemDevice(comm, address, &device), call);
  return device != DURE_DEVICE_HOST;
}

void Lane::start(const c10::intrusive_ptr<Call>& call) {
  const std::lock_guard lock(mutex_);
  TORCH_CHECK_WITH(DistBackendError, !closing_, "the process group was shut down");
  waiting_.push_back(call);
  ensure_server();
  changed_.notify_all();
}

void Lane::ensure_server() {
  if (servers_ == 0 && !waiting_.empty()) {
    ++servers_;
    threads_.emplace_back([this] { serve(); });
  }
}

void Lane::perform(const c10::intrusive_ptr<Call>& call) {
  {
    std::unique_lock lock(mutex_);
    if (busy_ || !waiting_.empty() || closing_) {
      lock.unlock();
      return start(call);
    }
    busy_ = true;
  }
  call->run();
  const std::lock_guard lock(mutex_);
  busy_ = false;
  changed_.notify_all();
}

void Lane::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return !busy_ && (closing_ || !waiting_.empty()); });
    if (waiting_.empty()) {
      return;
    }
    auto call = std::move(waiting_.front());
    waiting_.pop_front();
    busy_ = true;
    lock.unlock();
    call->run();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
    if (call->has_future()) {
      // Callbacks may wait for calls behind this one.
      --servers_;
      ensure_server();
      lock.unlock();
      call->settle();
      lock.lock();
      ++servers_;
    }
    lock.unlock();
    // Its last reference may be this one, and tensors take their time to go.
    call.reset();
    lock.lock();
  }
}

void Lane::abort() {
  aborted_ = true;
  // Whoever uses the handle at this moment, or later, is told that it is gone.
  if (auto* comm = comm_.exchange(nullptr)) {
    dureCommAbort(comm);
  }
}

void Lane::drain() {
  {
    std::unique_lock lock(mutex_);
    closing_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !busy_ && waiting_.empty(); });
  }
  for (auto& thread : threads_) {
    thread.join();
  }
  threads_.clear();
}

void Lane::close() {
  drain();
  dureResult_t state = dureSuccess;
  if (comm_ == nullptr || dureCommGetAsyncError(comm_, &state) != dureSuccess) {
    return;
  }
  if (state != dureSuccess && state != dureDegraded) {
    // Whoever made the call that failed was told; there is nobody left to part from.
    return abort();
  }
  // The handle stays meanwhile, so that this can be aborted.
  const auto left = dureCommFinalize(comm_);
  if (auto* comm = comm_.exchange(nullptr)) {
    check(left, "shutdown");
    dureCommDestroy(comm);
  }
}

}  // namespace dure
