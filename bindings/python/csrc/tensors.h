// What tensors are to the C interface: addresses, counts, types and reductions. Whatever cannot be is refused here,
// with a ValueError that names the call, what was given and what is allowed.

#pragma once

#include <ATen/core/Tensor.h>
#include <dure.h>

#include <functional>
#include <optional>
#include <torch/csrc/distributed/c10d/Types.hpp>
#include <vector>

namespace dure {

using Tensors = std::vector<at::Tensor>;

// The only tensor of a list.
const at::Tensor& single(const char* call, const Tensors& tensors);
// The only list of a list, with a tensor for each rank.
const Tensors& single(const char* call, const std::vector<Tensors>& lists, int size);
// Refuses tensors that are not dense, or not contiguous.
void check_dense(const char* call, const at::Tensor& tensor);
// Refuses two tensors of different types.
void check_same_type(const char* call, const at::Tensor& one, const at::Tensor& other);
// Refuses a tensor that does not have `count` elements.
void check_count(const char* call, const char* what, const at::Tensor& tensor, int64_t count);

// How elements travel that nobody combines: as what they are, or, if the C interface does not know their type, as
// bytes.
struct Elements {
  dureDataType_t type;
  // Elements of `type` in one of the tensor's.
  size_t factor;

  explicit Elements(const at::Tensor& tensor);
  size_t count(const at::Tensor& tensor) const { return factor * static_cast<size_t>(tensor.numel()); }
};

// How elements of a tensor are combined.
class Reduction {
 public:
  Reduction(const char* call, const c10d::ReduceOp& op, const at::Tensor& tensor);

  dureDataType_t type() const { return type_; }
  // Runs `body` with the operation's number on a communicator.
  dureResult_t with(dureComm_t comm, const std::function<dureResult_t(dureRedOp_t)>& body) const;

 private:
  dureDataType_t type_;
  dureRedOp_t op_ = dureSum;
  // What elements are multiplied with before they are added up: one element of the tensors' type.
  std::optional<at::Tensor> factor_;
};

// Tensors, one a rank, as the one buffer that a call takes: the tensors' own memory where they follow one another in
// it, or else memory of the same device that they are copied from and to.
class Blocks {
 public:
  Blocks(const char* call, Tensors tensors);

  void* data() const { return data_; }
  // Whether all have the same length.
  bool uniform() const;
  // Lengths as a call takes them.
  std::vector<size_t> counts(const Elements& elements) const;
  // Copies from the tensors to the buffer, before a call that reads it.
  void load() const;
  // Copies from the buffer to the tensors, after a call that wrote it.
  void store() const;

 private:
  bool adjacent() const;
  template <typename Copy>
  void each(Copy copy) const;
  // The same where the processor cannot copy: the device is asked to, and waited for.
  template <typename Copy>
  void each_on_device(Copy copy) const;

  Tensors tensors_;
  std::optional<at::Tensor> copy_;
  void* data_;
};

}  // namespace dure
