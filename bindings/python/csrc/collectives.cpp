// Collectives: arguments are checked by whoever calls, the call itself is made on the lane.

#include "group.h"

namespace dure {

namespace {

using c10d::OpType;

// Tensors of several lists, one after the other.
Tensors flat(const std::vector<Tensors>& lists) {
  Tensors all;
  for (const auto& list : lists) {
    all.insert(all.end(), list.begin(), list.end());
  }
  return all;
}

// Refuses a pair of a tensor and one that has a block of its length for each rank.
void check_pair(const char* call, const at::Tensor& whole, const at::Tensor& part, int size) {
  check_dense(call, whole);
  check_dense(call, part);
  check_same_type(call, whole, part);
  check_count(call, "the longer tensor", whole, part.numel() * size);
}

void check_pairs(const char* call, const Tensors& some, const Tensors& others) {
  TORCH_CHECK_VALUE(some.size() == others.size(), call, ": ", others.size(), " inputs and ", some.size(),
                    " outputs (allowed: as many of both)");
}

void all_gather(const char* name, const at::Tensor& output, const at::Tensor& input, dureComm_t comm) {
  const Elements elements(input);
  check(dureAllGather(input.data_ptr(), output.data_ptr(), elements.count(input), elements.type, comm, nullptr), name);
}

void reduce_scatter(const char* name, const at::Tensor& output, const at::Tensor& input, const Reduction& reduction,
                    dureComm_t comm) {
  const auto call = [&](dureRedOp_t op) {
    return dureReduceScatter(input.data_ptr(), output.data_ptr(), output.numel(), reduction.type(), op, comm, nullptr);
  };
  check(reduction.with(comm, call), name);
}

void all_reduce(const char* name, const at::Tensor& tensor, const Reduction& reduction, dureComm_t comm) {
  const auto call = [&](dureRedOp_t op) {
    return dureAllReduce(tensor.data_ptr(), tensor.data_ptr(), tensor.numel(), reduction.type(), op, comm, nullptr);
  };
  check(reduction.with(comm, call), name);
}

// All-gather to a tensor for each rank, whose lengths may differ.
class ToBlocks {
 public:
  ToBlocks(const char* name, const Tensors& outputs, const at::Tensor& input, int rank)
      : name_(name), blocks_(name, outputs), input_(input) {
    check_dense(name, input);
    check_same_type(name, outputs[0], input);
    check_count(name, "this rank's input", input, outputs[rank].numel());
  }

  void operator()(dureComm_t comm) const {
    const Elements elements(input_);
    const auto count = elements.count(input_);
    if (blocks_.uniform()) {
      check(dureAllGather(input_.data_ptr(), blocks_.data(), count, elements.type, comm, nullptr), name_);
    } else {
      const auto counts = blocks_.counts(elements);
      check(dureAllGatherv(input_.data_ptr(), count, blocks_.data(), counts.data(), nullptr, elements.type, comm,
                           nullptr),
            name_);
    }
    blocks_.store();
  }

 private:
  const char* name_;
  Blocks blocks_;
  at::Tensor input_;
};

// Lengths of blocks of an all-to-all as the call takes them, from splits of the first dimension. Without splits blocks
// are equal.
std::vector<size_t> lengths(const char* name, const char* what, const at::Tensor& tensor,
                            const std::vector<int64_t>& splits, int size) {
  const int64_t rows = tensor.dim() == 0 ? 1 : tensor.size(0);
  const auto elements = Elements(tensor).count(tensor);
  if (splits.empty()) {
    TORCH_CHECK_VALUE(rows % size == 0, name, ": ", what, " of ", rows, " rows without splits (allowed: a multiple of ",
                      size, ", the number of ranks)");
    return std::vector<size_t>(size, elements / size);
  }
  TORCH_CHECK_VALUE(splits.size() == static_cast<size_t>(size), name, ": ", splits.size(), " splits of ", what,
                    " (allowed: ", size, ", one a rank)");
  int64_t sum = 0;
  std::vector<size_t> counts;
  for (const auto split : splits) {
    TORCH_CHECK_VALUE(split >= 0, name, ": a split of ", what, " is ", split, " (allowed: 0 and up)");
    sum += split;
    counts.push_back(rows == 0 ? 0 : split * (elements / rows));
  }
  TORCH_CHECK_VALUE(sum == rows, name, ": splits of ", what, " add up to ", sum, " (allowed: ", rows, ", its rows)");
  return counts;
}

}  // namespace

Group::Work Group::broadcast(Tensors& tensors, const c10d::BroadcastOptions& opts) {
  const auto& tensor = single("broadcast", tensors);
  const int root = check_root("broadcast", opts.rootRank);
  return make(OpType::BROADCAST, "broadcast", Terms(opts), tensors, tensors, [tensor, root](dureComm_t comm) {
    const Elements elements(tensor);
    check(dureBcast(tensor.data_ptr(), elements.count(tensor), elements.type, root, comm, nullptr), "broadcast");
  });
}

Group::Work Group::allreduce(Tensors& tensors, const c10d::AllreduceOptions& opts) {
  const auto& tensor = single("all_reduce", tensors);
  const Reduction reduction("all_reduce", opts.reduceOp, tensor);
  return make(OpType::ALLREDUCE, "all_reduce", Terms(opts), tensors, tensors,
              [tensor, reduction](dureComm_t comm) { all_reduce("all_reduce", tensor, reduction, comm); });
}

Group::Work Group::allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& opts) {
  const char* name = "all_reduce_coalesced";
  std::vector<Reduction> reductions;
  for (const auto& tensor : tensors) {
    check_dense(name, tensor);
    reductions.emplace_back(name, opts.reduceOp, tensor);
  }
  return make(OpType::ALLREDUCE_COALESCED, name, Terms(opts), tensors, tensors,
              [tensors, reductions, name](dureComm_t comm) {
                for (size_t i = 0; i < tensors.size(); ++i) {
                  all_reduce(name, tensors[i], reductions[i], comm);
                }
              });
}

Group::Work Group::reduce(Tensors& tensors, const c10d::ReduceOptions& opts) {
  const auto& tensor = single("reduce", tensors);
  const Reduction reduction("reduce", opts.reduceOp, tensor);
  const int root = check_root("reduce", opts.rootRank);
  return make(OpType::REDUCE, "reduce", Terms(opts), tensors, tensors, [tensor, reduction, root](dureComm_t comm) {
    const auto call = [&](dureRedOp_t op) {
      return dureReduce(tensor.data_ptr(), tensor.data_ptr(), tensor.numel(), reduction.type(), op, root, comm,
                        nullptr);
    };
    check(reduction.with(comm, call), "reduce");
  });
}

Group::Work Group::allgather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::AllgatherOptions& opts) {
  const auto& input = single("all_gather", inputs);
  const auto& list = single("all_gather", outputs, size_);
  return make(OpType::ALLGATHER, "all_gather", Terms(opts), inputs, list, ToBlocks("all_gather", list, input, rank_));
}

Group::Work Group::allgather_coalesced(std::vector<Tensors>& outputs, Tensors& inputs,
                                       const c10d::AllgatherOptions& opts) {
  // torch orders the outputs by rank: outputs[rank][i] is of inputs[i].
  const char* name = "all_gather_coalesced";
  TORCH_CHECK_VALUE(outputs.size() == static_cast<size_t>(size_), name, ": ", outputs.size(),
                    " lists of outputs (allowed: ", size_, ", one a rank)");
  std::vector<ToBlocks> gathers;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Tensors of_input;
    for (const auto& list : outputs) {
      check_pairs(name, list, inputs);
      of_input.push_back(list[i]);
    }
    gathers.emplace_back(name, of_input, inputs[i], rank_);
  }
  return make(OpType::ALLGATHER_COALESCED, name, Terms(opts), inputs, flat(outputs), [gathers](dureComm_t comm) {
    for (const auto& gather : gathers) {
      gather(comm);
    }
  });
}

Group::Work Group::_allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& opts) {
  const char* name = "all_gather_into_tensor";
  check_pair(name, output, input, size_);
  return make(OpType::_ALLGATHER_BASE, name, Terms(opts), {input}, {output},
              [output, input, name](dureComm_t comm) { all_gather(name, output, input, comm); });
}

Group::Work Group::allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                   const c10d::AllgatherOptions& opts) {
  const char* name = "all_gather_into_tensor_coalesced";
  check_pairs(name, outputs, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_pair(name, outputs[i], inputs[i], size_);
  }
  return make(OpType::ALLGATHER_INTO_TENSOR_COALESCED, name, Terms(opts), inputs, outputs,
              [outputs, inputs, name](dureComm_t comm) {
                for (size_t i = 0; i < inputs.size(); ++i) {
                  all_gather(name, outputs[i], inputs[i], comm);
                }
              });
}

Group::Work Group::gather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::GatherOptions& opts) {
  const auto& input = single("gather", inputs);
  const int root = check_root("gather", opts.rootRank);
  Tensors list;
  std::optional<Blocks> blocks;
  if (rank_ == root) {
    list = single("gather", outputs, size_);
    blocks.emplace("gather", list);
    check_same_type("gather", list[0], input);
    for (const auto& output : list) {
      check_count("gather", "an output", output, input.numel());
    }
  }
  return make(OpType::GATHER, "gather", Terms(opts), inputs, list, [input, blocks, root](dureComm_t comm) {
    const Elements elements(input);
    void* output = blocks ? blocks->data() : nullptr;
    check(dureGather(input.data_ptr(), output, elements.count(input), elements.type, root, comm, nullptr), "gather");
    if (blocks) {
      blocks->store();
    }
  });
}

Group::Work Group::gather_into_tensor(at::Tensor& output, at::Tensor& input, const c10d::GatherOptions& opts) {
  const char* name = "gather_into_tensor";
  const int root = check_root(name, opts.rootRank);
  if (rank_ == root) {
    check_pair(name, output, input, size_);
  }
  check_dense(name, input);
  const auto results = output.defined() ? Tensors{output} : Tensors();
  return make(OpType::GATHER, name, Terms(opts), {input}, results, [output, input, root, name](dureComm_t comm) {
    const Elements elements(input);
    void* place = output.defined() ? output.data_ptr() : nullptr;
    check(dureGather(input.data_ptr(), place, elements.count(input), elements.type, root, comm, nullptr), name);
  });
}

Group::Work Group::scatter(Tensors& outputs, std::vector<Tensors>& inputs, const c10d::ScatterOptions& opts) {
  const auto& output = single("scatter", outputs);
  const int root = check_root("scatter", opts.rootRank);
  std::optional<Blocks> blocks;
  if (rank_ == root) {
    const auto& list = single("scatter", inputs, size_);
    blocks.emplace("scatter", list);
    check_same_type("scatter", list[0], output);
    for (const auto& input : list) {
      check_count("scatter", "an input", input, output.numel());
    }
  }
  return make(OpType::SCATTER, "scatter", Terms(opts), flat(inputs), outputs, [output, blocks, root](dureComm_t comm) {
    const Elements elements(output);
    if (blocks) {
      blocks->load();
    }
    const void* input = blocks ? blocks->data() : nullptr;
    check(dureScatter(input, output.data_ptr(), elements.count(output), elements.type, root, comm, nullptr), "scatter");
  });
}

Group::Work Group::reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                  const c10d::ReduceScatterOptions& opts) {
  const char* name = "reduce_scatter";
  const auto& output = single(name, outputs);
  const auto& list = single(name, inputs, size_);
  const Blocks blocks(name, list);
  check_same_type(name, list[0], output);
  check_count(name, "this rank's output", output, list[rank_].numel());
  const Reduction reduction(name, opts.reduceOp, output);
  return make(OpType::REDUCE_SCATTER, name, Terms(opts), list, outputs,
              [output, blocks, reduction, name](dureComm_t comm) {
                blocks.load();
                const auto call = [&](dureRedOp_t op) {
                  if (blocks.uniform()) {
                    return dureReduceScatter(blocks.data(), output.data_ptr(), output.numel(), reduction.type(), op,
                                             comm, nullptr);
                  }
                  const auto counts = blocks.counts(Elements(output));
                  return dureReduceScatterv(blocks.data(), counts.data(), nullptr, output.data_ptr(), output.numel(),
                                            reduction.type(), op, comm, nullptr);
                };
                check(reduction.with(comm, call), name);
              });
}

Group::Work Group::_reduce_scatter_base(at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions& opts) {
  const char* name = "reduce_scatter_tensor";
  check_pair(name, input, output, size_);
  const Reduction reduction(name, opts.reduceOp, output);
  return make(OpType::_REDUCE_SCATTER_BASE, name, Terms(opts), {input}, {output},
              [output, input, reduction, name](dureComm_t comm) {
                dure::reduce_scatter(name, output, input, reduction, comm);
              });
}

Group::Work Group::reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                   const c10d::ReduceScatterOptions& opts) {
  const char* name = "reduce_scatter_tensor_coalesced";
  check_pairs(name, outputs, inputs);
  std::vector<Reduction> reductions;
  for (size_t i = 0; i < inputs.size(); ++i) {
    check_pair(name, inputs[i], outputs[i], size_);
    reductions.emplace_back(name, opts.reduceOp, outputs[i]);
  }
  return make(OpType::REDUCE_SCATTER_TENSOR_COALESCED, name, Terms(opts), inputs, outputs,
              [outputs, inputs, reductions, name](dureComm_t comm) {
                for (size_t i = 0; i < inputs.size(); ++i) {
                  dure::reduce_scatter(name, outputs[i], inputs[i], reductions[i], comm);
                }
              });
}

Group::Work Group::alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& opts) {
  const char* name = "all_to_all";
  const Blocks to(name, single(name, std::vector<Tensors>{outputs}, size_));
  const Blocks from(name, single(name, std::vector<Tensors>{inputs}, size_));
  check_same_type(name, outputs[0], inputs[0]);
  const Elements elements(inputs[0]);
  return make(OpType::ALLTOALL, name, Terms(opts), inputs, outputs, [to, from, elements, name](dureComm_t comm) {
    from.load();
    const auto sent = from.counts(elements), received = to.counts(elements);
    check(dureAllToAllv(from.data(), sent.data(), nullptr, to.data(), received.data(), nullptr, elements.type, comm,
                        nullptr),
          name);
    to.store();
  });
}

Group::Work Group::alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_splits,
                                 std::vector<int64_t>& input_splits, const c10d::AllToAllOptions& opts) {
  const char* name = "all_to_all_single";
  check_dense(name, output);
  check_dense(name, input);
  check_same_type(name, output, input);
  const auto sent = lengths(name, "the input", input, input_splits, size_);
  const auto received = lengths(name, "the output", output, output_splits, size_);
  const auto type = Elements(input).type;
  // Ranks that give no splits must agree that nobody does: equal blocks are another call than those of any length.
  const bool equal = input_splits.empty() && output_splits.empty();
  if (equal) {
    check_count(name, "the output", output, input.numel());
  }
  return make(OpType::ALLTOALL_BASE, name, Terms(opts), {input}, {output},
              [output, input, sent, received, type, equal, name](dureComm_t comm) {
                check(equal ? dureAlltoAll(input.data_ptr(), output.data_ptr(), sent[0], type, comm, nullptr)
                            : dureAllToAllv(input.data_ptr(), sent.data(), nullptr, output.data_ptr(), received.data(),
                                            nullptr, type, comm, nullptr),
                      name);
              });
}

}  // namespace dure
