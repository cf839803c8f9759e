#include "tensors.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <cstring>

#include "mark.h"

namespace dure {

namespace {

std::optional<dureDataType_t> type_of(at::ScalarType type) {
  switch (type) {
    case at::kBool:
    case at::kByte:
      return dureUint8;
    case at::kChar:
      return dureInt8;
    case at::kInt:
      return dureInt32;
    case at::kUInt32:
      return dureUint32;
    case at::kLong:
      return dureInt64;
    case at::kUInt64:
      return dureUint64;
    case at::kHalf:
      return dureFloat16;
    case at::kFloat:
      return dureFloat32;
    case at::kDouble:
      return dureFloat64;
    case at::kBFloat16:
      return dureBfloat16;
    case at::kFloat8_e4m3fn:
      return dureFloat8e4m3;
    case at::kFloat8_e5m2:
      return dureFloat8e5m2;
    default:
      return std::nullopt;
  }
}

// Truth values are bytes of 0 and 1: their sum is "or", and their product "and".
dureRedOp_t op_of(c10d::ReduceOp::RedOpType op, bool truth) {
  using Op = c10d::ReduceOp;
  switch (op) {
    case Op::SUM:
      return truth ? dureMax : dureSum;
    case Op::PRODUCT:
      return truth ? dureMin : dureProd;
    case Op::MIN:
      return dureMin;
    case Op::MAX:
      return dureMax;
    case Op::BAND:
      return dureBitAnd;
    case Op::BOR:
      return dureBitOr;
    case Op::BXOR:
      return dureBitXor;
    case Op::AVG:
      return dureAvg;
    default:
      return dureSum;
  }
}

}  // namespace

const at::Tensor& single(const char* call, const Tensors& tensors) {
  TORCH_CHECK_VALUE(tensors.size() == 1, call, ": ", tensors.size(), " tensors (allowed: 1)");
  check_dense(call, tensors[0]);
  return tensors[0];
}

const Tensors& single(const char* call, const std::vector<Tensors>& lists, int size) {
  TORCH_CHECK_VALUE(lists.size() == 1, call, ": ", lists.size(), " lists of tensors (allowed: 1)");
  TORCH_CHECK_VALUE(lists[0].size() == static_cast<size_t>(size), call, ": a list of ", lists[0].size(),
                    " tensors (allowed: ", size, ", one a rank)");
  return lists[0];
}

void check_dense(const char* call, const at::Tensor& tensor) {
  TORCH_CHECK_VALUE(tensor.layout() == at::kStrided, call, ": a tensor of layout ", tensor.layout(),
                    " (allowed: dense ones)");
  TORCH_CHECK_VALUE(tensor.is_contiguous(), call, ": a tensor of sizes ", tensor.sizes(), " and strides ",
                    tensor.strides(), " (allowed: contiguous ones)");
}

void check_same_type(const char* call, const at::Tensor& one, const at::Tensor& other) {
  TORCH_CHECK_VALUE(one.scalar_type() == other.scalar_type(), call, ": tensors of types ", one.scalar_type(), " and ",
                    other.scalar_type(), " (allowed: one type)");
}

void check_count(const char* call, const char* what, const at::Tensor& tensor, int64_t count) {
  TORCH_CHECK_VALUE(tensor.numel() == count, call, ": ", what, " of ", tensor.numel(), " elements (allowed: ", count,
                    ")");
}

Elements::Elements(const at::Tensor& tensor) {
  const auto known = type_of(tensor.scalar_type());
  type = known.value_or(dureUint8);
  factor = known ? 1 : tensor.element_size();
}

Reduction::Reduction(const char* call, const c10d::ReduceOp& op, const at::Tensor& tensor) {
  const auto dtype = tensor.scalar_type();
  const auto known = type_of(dtype);
  TORCH_CHECK_VALUE(known, call, ": elements of type ", dtype,
                    " cannot be combined (allowed: Bool, Byte, Char, Int, UInt32, Long, UInt64, Half, BFloat16, Float, "
                    "Double, Float8_e4m3fn, Float8_e5m2)");
  type_ = *known;
  const bool truth = dtype == at::kBool;
  const bool integral = at::isIntegralType(dtype, /*includeBool=*/true);
  const auto kind = op.op_;
  TORCH_CHECK_VALUE(kind < c10d::ReduceOp::UNUSED, call, ": operation ", static_cast<int>(kind),
                    " (allowed: SUM, AVG, PRODUCT, MIN, MAX, BAND, BOR, BXOR, PREMUL_SUM)");
  TORCH_CHECK_VALUE(!truth || kind != c10d::ReduceOp::AVG, call, ": AVG of Bool (allowed: of numbers)");
  const bool bitwise = kind >= c10d::ReduceOp::BAND && kind <= c10d::ReduceOp::BXOR;
  TORCH_CHECK_VALUE(integral || !bitwise, call, ": a bitwise operation on ", dtype, " (allowed: on integers and Bool)");
  op_ = op_of(kind, truth);
  if (kind == c10d::ReduceOp::PREMUL_SUM) {
    TORCH_CHECK_VALUE(!integral, call, ": PREMUL_SUM of ", dtype, " (allowed: of floating-point numbers)");
    const auto* supplement = dynamic_cast<const c10d::PreMulSumSupplement*>(op.supplement_.get());
    TORCH_CHECK_VALUE(supplement != nullptr, call, ": PREMUL_SUM without a factor");
    factor_ = supplement->tensor_factor.defined() ? supplement->tensor_factor.to(at::kCPU, dtype).contiguous()
                                                  : at::scalar_tensor(supplement->double_factor, dtype);
  }
}

dureResult_t Reduction::with(dureComm_t comm, const std::function<dureResult_t(dureRedOp_t)>& body) const {
  if (!factor_) {
    return body(op_);
  }
  dureRedOp_t op = dureSum;
  auto result = dureRedOpCreatePreMulSum(&op, factor_->data_ptr(), type_, dureScalarHostImmediate, comm);
  if (result == dureSuccess) {
    result = body(op);
    dureRedOpDestroy(op, comm);
  }
  return result;
}

Blocks::Blocks(const char* call, Tensors tensors) : tensors_(std::move(tensors)) {
  int64_t total = 0;
  for (const auto& tensor : tensors_) {
    check_dense(call, tensor);
    check_same_type(call, tensors_[0], tensor);
    total += tensor.numel();
  }
  if (!adjacent()) {
    copy_ = at::empty({total}, tensors_[0].options());
  }
  data_ = copy_ ? copy_->data_ptr() : tensors_[0].data_ptr();
}

bool Blocks::adjacent() const {
  const char* next = static_cast<const char*>(tensors_[0].data_ptr());
  for (const auto& tensor : tensors_) {
    if (tensor.data_ptr() != next || !tensor.is_alias_of(tensors_[0])) {
      return false;
    }
    next += tensor.nbytes();
  }
  return true;
}

bool Blocks::uniform() const {
  for (const auto& tensor : tensors_) {
    if (tensor.numel() != tensors_[0].numel()) {
      return false;
    }
  }
  return true;
}

std::vector<size_t> Blocks::counts(const Elements& elements) const {
  std::vector<size_t> counts;
  for (const auto& tensor : tensors_) {
    counts.push_back(elements.count(tensor));
  }
  return counts;
}

template <typename Copy>
void Blocks::each(Copy copy) const {
  auto* place = static_cast<char*>(data_);
  for (const auto& tensor : tensors_) {
    if (copy_ && tensor.nbytes() != 0) {
      copy(place, static_cast<char*>(tensor.data_ptr()), tensor.nbytes());
    }
    place += tensor.nbytes();
  }
}

template <typename Copy>
void Blocks::each_on_device(Copy copy) const {
  // Autograd has no part in what a call does to its tensors.
  const at::AutoDispatchBelowADInplaceOrView guard;
  int64_t begin = 0;
  for (const auto& tensor : tensors_) {
    copy(copy_->narrow(0, begin, tensor.numel()), tensor.view(-1));
    begin += tensor.numel();
  }
  Mark(copy_->device()).wait();
}

void Blocks::load() const {
  if (copy_ && !copy_->is_cpu()) {
    return each_on_device([](const at::Tensor& place, const at::Tensor& tensor) { place.copy_(tensor); });
  }
  each([](char* place, const char* tensor, size_t bytes) { std::memcpy(place, tensor, bytes); });
}

void Blocks::store() const {
  if (copy_ && !copy_->is_cpu()) {
    return each_on_device([](const at::Tensor& place, const at::Tensor& tensor) { tensor.copy_(place); });
  }
  each([](const char* place, char* tensor, size_t bytes) { std::memcpy(tensor, place, bytes); });
}

}  // namespace dure
