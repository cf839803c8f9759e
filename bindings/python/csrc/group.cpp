#include "group.h"

#include <c10/util/Exception.h>

#include <future>

#include "meeting.h"

namespace dure {

namespace {

// How long a rank that ends without destroying its group waits for the others to end too. They may as well be waiting
// for it in a call that it never makes; those that are late have no call left that needs it.
constexpr std::chrono::seconds PATIENCE{5};

// How many tags the messages of a rank to another may have: each has a connection.
constexpr int MOST_TAGS = 64;

}  // namespace

Group::Group(c10::intrusive_ptr<c10d::Store> store, int rank, int size, std::chrono::milliseconds timeout,
             std::string name)
    : Backend(rank, size), store_(std::move(store)), timeout_(timeout), name_(std::move(name)) {
  main_ = lane("id", rank, size);
  main_->open();
  if (rank == 0) {
    // Everybody has it. A group of the same name that is made later must not find it.
    store_->deleteKey("id");
  }
}

Group::~Group() { leave(); }

void Group::leave() noexcept {
  try {
    auto left = std::async(std::launch::async, [this] { shutdown(); });
    if (left.wait_for(PATIENCE) == std::future_status::timeout) {
      abort();
    }
    left.get();
  } catch (const std::exception& error) {
    TORCH_WARN("dure: leaving process group ", name_, ": ", error.what());
  }
}

std::shared_ptr<Lane> Group::lane(const std::string& key, int rank, int size) {
  Meeting meeting{store_, key, rank, size, timeout_, c10::str("process group ", name_)};
  return std::make_shared<Lane>([meeting](const std::atomic<bool>& aborted) mutable {
    // Waiting keeps a store's connection busy.
    meeting.store = meeting.store->clone();
    return meet(meeting, aborted);
  });
}

std::vector<std::shared_ptr<Lane>> Group::lanes() {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Lane>> lanes;
  for (const auto& [_, lane] : messages_) {
    lanes.push_back(lane);
  }
  lanes.push_back(main_);
  return lanes;
}

c10::intrusive_ptr<c10d::Backend::Options> Group::getBackendOptions() {
  return c10::make_intrusive<Options>("dure", timeout_);
}

c10::intrusive_ptr<c10d::Backend> Group::split(const c10::intrusive_ptr<c10d::Store>& store,
                                               const std::vector<int>& ranks, const c10::intrusive_ptr<Options>& opts) {
  const auto mine = std::find(ranks.begin(), ranks.end(), rank_);
  if (mine == ranks.end()) {
    return nullptr;
  }
  // torch asks once for each type of devices, with the same store.
  auto child = child_.lock();
  if (!child || child_store_ != store) {
    child = c10::make_intrusive<Group>(store, static_cast<int>(mine - ranks.begin()), static_cast<int>(ranks.size()),
                                       opts->timeout, opts->group_name);
    child_ = child;
    child_store_ = store;
  }
  return child;
}

void Group::abort() {
  for (const auto& lane : lanes()) {
    lane->abort();
  }
}

void Group::shutdown() {
  std::exception_ptr first;
  for (const auto& lane : lanes()) {
    try {
      lane->close();
    } catch (...) {
      first = first ? first : std::current_exception();
    }
  }
  if (first) {
    std::rethrow_exception(first);
  }
}

void Group::startCoalescing() { together_.emplace(); }

Group::Work Group::endCoalescing() {
  TORCH_CHECK(together_, "dure: endCoalescing without startCoalescing");
  auto works = std::move(*together_);
  together_.reset();
  // Collectives among them are done when this runs; messages go on on lanes of their own.
  return make(c10d::OpType::COALESCED, "coalesced", Terms(c10d::AllreduceOptions()), {}, {}, [works](dureComm_t) {
    for (const auto& work : works) {
      work->wait();
    }
  });
}

Group::Work Group::track(c10::intrusive_ptr<Call> call, bool background, Lane& lane) {
  if (background) {
    lane.start(call);
  } else {
    lane.perform(call);
  }
  if (together_) {
    together_->push_back(call);
  }
  return call;
}

std::optional<Mark> Group::mark(const char* name, const Tensors& inputs, const Tensors& results) const {
  std::optional<c10::Device> device;
  for (const auto* tensors : {&inputs, &results}) {
    for (const auto& tensor : *tensors) {
      const auto place = tensor.device();
      TORCH_CHECK_VALUE(device.value_or(place) == place, name, ": tensors on ", *device, " and on ", place, " on rank ",
                        rank_, " (allowed: one device)");
      device = place;
      TORCH_CHECK_VALUE(place.is_cpu() || tensor.nbytes() == 0 || main_->on_device(tensor.data_ptr(), name), name,
                        ": a tensor on ", place, " on rank ", rank_,
                        " (allowed: cpu, and memory of the devices that DURE_DEVICE names)");
    }
  }
  return device && !device->is_cpu() ? std::optional<Mark>(*device) : std::nullopt;
}

Group::Work Group::make(c10d::OpType type, const char* name, const Terms& terms, Tensors inputs, Tensors results,
                        Call::Body body) {
  auto marked = mark(name, inputs, results);
  ++sequence_;
  auto call = c10::make_intrusive<Call>(main_, rank_, type, name, std::move(inputs), std::move(results), terms.timeout,
                                        std::move(marked), std::move(body));
  // The thread of the caller cannot watch a clock of its own while it runs the call.
  return track(std::move(call), terms.background || terms.timeout > kNoTimeout, *main_);
}

int Group::check_root(const char* name, int64_t root) const {
  TORCH_CHECK_VALUE(root >= 0 && root < size_, name, ": root ", root, " on rank ", rank_, " (allowed: 0 to ", size_ - 1,
                    ")");
  return static_cast<int>(root);
}

Group::Work Group::barrier(const c10d::BarrierOptions& opts) {
  return make(c10d::OpType::BARRIER, "barrier", Terms(opts), {}, {},
              [](dureComm_t comm) { check(dureBarrier(comm, nullptr), "barrier"); });
}

Group::Work Group::message(c10d::OpType type, const char* name, const Tensors& tensors, int peer, int tag) {
  const auto& tensor = single(name, tensors);
  TORCH_CHECK_VALUE(peer >= 0 && peer < size_ && peer != rank_, name, ": peer ", peer, " on rank ", rank_,
                    " (allowed: 0 to ", size_ - 1, ", but not itself)");
  TORCH_CHECK_VALUE(tag >= 0 && tag < MOST_TAGS, name, ": tag ", tag, " on rank ", rank_, " (allowed: 0 to ",
                    MOST_TAGS - 1, "; each has a connection of its own)");
  auto marked = mark(name, tensors, {});
  const bool sends = type == c10d::OpType::SEND;
  const auto [from, to] = sends ? std::pair(rank_, peer) : std::pair(peer, rank_);
  std::shared_ptr<Lane> mine;
  {
    const std::lock_guard lock(mutex_);
    auto& place = messages_[{from, to, tag}];
    if (!place) {
      place = lane(c10::str("messages from ", from, " to ", to, " with tag ", tag), sends ? 0 : 1, 2);
    }
    mine = place;
  }
  auto body = [tensor, sends, name](dureComm_t comm) {
    const Elements elements(tensor);
    const auto count = elements.count(tensor);
    check(sends ? dureSend(tensor.data_ptr(), count, elements.type, 1, comm, nullptr)
                : dureRecv(tensor.data_ptr(), count, elements.type, 0, comm, nullptr),
          name);
  };
  auto call = c10::make_intrusive<Call>(mine, rank_, type, name, Tensors{tensor}, Tensors{tensor}, c10d::kUnsetTimeout,
                                        std::move(marked), std::move(body));
  return track(std::move(call), true, *mine);
}

Group::Work Group::send(Tensors& tensors, int peer, int tag) {
  return message(c10d::OpType::SEND, "send", tensors, peer, tag);
}

Group::Work Group::recv(Tensors& tensors, int peer, int tag) {
  return message(c10d::OpType::RECV, "recv", tensors, peer, tag);
}

Group::Work Group::recvAnysource(Tensors&, int) {
  C10_THROW_ERROR(NotImplementedError, c10::str("recv from any rank, on rank ", rank_,
                                                ": dure receives from a rank that is named (src=...)"));
}

void Group::monitoredBarrier(const c10d::BarrierOptions& opts, bool wait_all_ranks) {
  const auto timeout = opts.timeout == c10d::kUnsetTimeout ? timeout_ : opts.timeout;
  TORCH_CHECK_WITH(DistBackendError, timeout.count() > 0, "monitored_barrier: Rank ", rank_,
                   " timed out in monitoredBarrier: a timeout of ", timeout.count(), " ms (allowed: more than 0)");
  const auto round = c10::str("monitored barrier ", barriers_++);
  const auto key = [&round](int rank) { return c10::str(round, ", rank ", rank); };
  if (rank_ != 0) {
    store_->set(key(rank_), "");
    // Rank 0 answers when it knows who came, at its own deadline at the latest.
    const auto missing = came(*store_, key(0), 2 * timeout) ? store_->get_to_str(key(0)) : "it did not answer";
    TORCH_CHECK_WITH(DistBackendError, missing.empty(), "monitored_barrier: Rank ", rank_,
                     " successfully reached monitoredBarrier, but received errors while waiting for send/recv from "
                     "rank 0: ",
                     missing);
    return;
  }
  const auto end = std::chrono::steady_clock::now() + timeout;
  std::vector<int> missing;
  for (int rank = 1; rank < size_ && (missing.empty() || wait_all_ranks); ++rank) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (!came(*store_, key(rank), std::max(left, std::chrono::milliseconds(1)))) {
      missing.push_back(rank);
    }
  }
  const auto text = missing.empty() ? std::string()
                                    : c10::str(missing.size() == 1 ? "Rank " : "Ranks ", c10::Join(", ", missing),
                                               " failed to pass monitoredBarrier in ", timeout.count(), " ms");
  store_->set(key(0), text);
  TORCH_CHECK_WITH(DistBackendError, missing.empty(), "monitored_barrier on rank 0: ", text);
}

}  // namespace dure
