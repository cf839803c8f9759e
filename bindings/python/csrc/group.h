// The process group as torch sees it: each of its calls becomes one of the C interface, on a lane.

#pragma once

#include <map>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <tuple>

#include "lane.h"
#include "tensors.h"

namespace dure {

// What the options of a call say on how it is made.
struct Terms {
  bool background;
  std::chrono::milliseconds timeout;

  template <typename Opts>
  explicit Terms(const Opts& opts) : background(opts.asyncOp), timeout(opts.timeout) {}
};

class Group final : public c10d::Backend {
 public:
  // Meets the other ranks, by an id that rank 0 puts into the store.
  Group(c10::intrusive_ptr<c10d::Store> store, int rank, int size, std::chrono::milliseconds timeout, std::string name);
  ~Group() override;
  // As shutdown, but others are not waited for long, and what goes wrong is a warning.
  void leave() noexcept;

  const std::string getBackendName() const override { return "dure"; }
  c10::intrusive_ptr<Options> getBackendOptions() override;
  uint64_t getSequenceNumberForGroup() override { return sequence_; }

  bool supportsSplitting() const override { return true; }
  c10::intrusive_ptr<Backend> split(const c10::intrusive_ptr<c10d::Store>& store, const std::vector<int>& ranks,
                                    const c10::intrusive_ptr<Options>& opts) override;
  void abort() override;
  void shutdown() override;
  void startCoalescing() override;
  c10::intrusive_ptr<c10d::Work> endCoalescing() override;

  using Work = c10::intrusive_ptr<c10d::Work>;

  Work broadcast(Tensors& tensors, const c10d::BroadcastOptions& opts) override;
  Work allreduce(Tensors& tensors, const c10d::AllreduceOptions& opts) override;
  Work allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& opts) override;
  Work reduce(Tensors& tensors, const c10d::ReduceOptions& opts) override;
  Work allgather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::AllgatherOptions& opts) override;
  Work allgather_coalesced(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::AllgatherOptions& opts) override;
  Work _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& opts) override;
  Work allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs, const c10d::AllgatherOptions& opts) override;
  Work gather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::GatherOptions& opts) override;
  Work gather_into_tensor(at::Tensor& output, at::Tensor& input, const c10d::GatherOptions& opts) override;
  Work scatter(Tensors& outputs, std::vector<Tensors>& inputs, const c10d::ScatterOptions& opts) override;
  Work reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs, const c10d::ReduceScatterOptions& opts) override;
  Work _reduce_scatter_base(at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions& opts) override;
  Work reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                       const c10d::ReduceScatterOptions& opts) override;
  Work alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& opts) override;
  Work alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_splits,
                     std::vector<int64_t>& input_splits, const c10d::AllToAllOptions& opts) override;
  Work send(Tensors& tensors, int peer, int tag) override;
  Work recv(Tensors& tensors, int peer, int tag) override;
  Work recvAnysource(Tensors& tensors, int tag) override;
  Work barrier(const c10d::BarrierOptions& opts) override;
  void monitoredBarrier(const c10d::BarrierOptions& opts, bool wait_all_ranks) override;

 private:
  Work make(c10d::OpType type, const char* name, const Terms& terms, Tensors inputs, Tensors results, Call::Body body);
  Work message(c10d::OpType type, const char* name, const Tensors& tensors, int peer, int tag);
  Work track(c10::intrusive_ptr<Call> call, bool background, Lane& lane);
  int check_root(const char* name, int64_t root) const;
  // Refuses tensors that are not all on one device, and memory that Dure knows nothing of: it would be taken for the
  // host's. What the device was given so far is marked.
  std::optional<Mark> mark(const char* name, const Tensors& inputs, const Tensors& results) const;
  std::shared_ptr<Lane> lane(const std::string& key, int rank, int size);
  std::vector<std::shared_ptr<Lane>> lanes();

  c10::intrusive_ptr<c10d::Store> store_;
  std::chrono::milliseconds timeout_;
  std::string name_;
  std::atomic<uint64_t> sequence_{0};
  int64_t barriers_ = 0;

  // The last group that was split off, and the store that it was given.
  c10::weak_intrusive_ptr<Backend> child_{c10::intrusive_ptr<Backend>()};
  c10::intrusive_ptr<c10d::Store> child_store_;

  // What collectives are made on.
  std::shared_ptr<Lane> main_;
  // Messages have a lane for each sender, receiver and tag: torch lets those of different peers, directions and tags
  // pass one another. Ranks leave them in this order, since they wait for each other.
  std::mutex mutex_;
  std::map<std::tuple<int, int, int>, std::shared_ptr<Lane>> messages_;
  // Calls since startCoalescing.
  std::optional<std::vector<Work>> together_;
};

}  // namespace dure
