// A lane: one communicator, and the calls on it, one after the other.

#pragma once

#include <dure.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <vector>

#include "mark.h"

namespace dure {

// Throws what a result of the C interface means, unless it is success. `what` names the call.
void check(dureResult_t result, const std::string& what);

class Lane;

// A call as torch sees it. Its body runs on the lane's thread, or on that of the caller.
class Call final : public c10d::Work {
 public:
  using Body = std::function<void(dureComm_t)>;

  // `inputs` is what the call reads, whose shapes profilers show, `results` what it has written when it is done; the
  // body keeps both. It begins when what is before the mark is done.
  Call(std::shared_ptr<Lane> lane, int rank, c10d::OpType type, const char* name, std::vector<at::Tensor> inputs,
       std::vector<at::Tensor> results, std::chrono::milliseconds timeout, std::optional<Mark> mark, Body body);

  // Waits at most `timeout`, or what the call was given. When that has passed the lane is aborted on all ranks: a
  // buffer that peers still write to cannot be handed back.
  bool wait(std::chrono::milliseconds timeout) override;
  void abort() override;
  std::vector<at::Tensor> result() override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;
  std::chrono::milliseconds getTimeout() const override;

 private:
  friend class Lane;

  void run() noexcept;
  bool has_future();
  // Tells the future, which runs its callbacks.
  void settle();

  std::shared_ptr<Lane> lane_;
  const char* name_;
  std::vector<at::Tensor> results_;
  std::chrono::milliseconds timeout_;
  std::optional<Mark> mark_;
  Body body_;
  // Made when somebody asks for it. The mutex orders that and the call's end.
  std::mutex future_mutex_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

class Lane {
 public:
  // Starts to make the communicator; it may wait, as long as the lane is not aborted.
  using Meet = std::function<dureComm_t(const std::atomic<bool>& aborted)>;

  // Whoever makes a lane closes it.
  explicit Lane(Meet meet) : meet_(std::move(meet)) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // The communicator. The first call of this makes it, and waits for its ranks. Only whoever has the lane to itself may
  // ask for it.
  dureComm_t open();
  // Whether the memory at an address is that of a device which the communicator knows. It must have been opened; any
  // thread may ask.
  bool on_device(const void* address, const char* call) const;
  // Runs a call in the background, behind those before it.
  void start(const c10::intrusive_ptr<Call>& call);
  // Runs a call here and now if nothing is before it, or else as `start` does.
  void perform(const c10::intrusive_ptr<Call>& call);
  // Ends the communicator on all ranks; calls under way and later ones fail.
  void abort();
  // Waits for the calls, and leaves the communicator together with its other ranks.
  void close();

 private:
  friend class Call;

  void serve();
  void ensure_server();
  void drain();

  Meet meet_;
  std::exception_ptr failure_;
  std::atomic<dureComm_t> comm_{nullptr};
  std::atomic<bool> aborted_{false};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<c10::intrusive_ptr<Call>> waiting_;
  // A call is under way: whoever set this has the lane to itself.
  bool busy_ = false;
  bool closing_ = false;
  // One thread, and more when callbacks of futures wait for calls; how many are not in a callback.
  std::vector<std::thread> threads_;
  int servers_ = 0;
};

}  // namespace dure
