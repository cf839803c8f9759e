#include "meeting.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <vector>

#include "lane.h"

namespace dure {

namespace {

// How long one look into the store lasts: an abort waits no longer.
constexpr std::chrono::milliseconds LOOK{1000};

std::vector<uint8_t> await(const Meeting& meeting, const std::atomic<bool>& aborted) {
  const auto end = std::chrono::steady_clock::now() + meeting.timeout;
  while (!came(*meeting.store, meeting.key, std::min(LOOK, meeting.timeout))) {
    TORCH_CHECK_WITH(DistBackendError, !aborted, "the process group was aborted");
    TORCH_CHECK_WITH(DistBackendError, std::chrono::steady_clock::now() < end, meeting.name, ": rank ", meeting.rank,
                     " of ", meeting.size, " found no id at '", meeting.key, "' in the store within ",
                     meeting.timeout.count(), " ms: rank 0 did not come");
  }
  return meeting.store->get(meeting.key);
}

dureUniqueId agree(const Meeting& meeting, const std::atomic<bool>& aborted) {
  dureUniqueId id;
  if (meeting.rank == 0) {
    check(dureGetUniqueId(&id), meeting.name);
    const auto* bytes = reinterpret_cast<const uint8_t*>(id.internal);
    meeting.store->set(meeting.key, std::vector<uint8_t>(bytes, bytes + sizeof id.internal));
    return id;
  }
  const auto found = await(meeting, aborted);
  TORCH_CHECK_WITH(DistBackendError, found.size() == sizeof id.internal, meeting.name, ": the id at '", meeting.key,
                   "' in the store has ", found.size(), " bytes (allowed: ", sizeof id.internal, ")");
  std::memcpy(id.internal, found.data(), found.size());
  return id;
}

}  // namespace

bool came(c10d::Store& store, const std::string& key, std::chrono::milliseconds within) {
  try {
    store.wait({key}, within);
    return true;
  } catch (const c10::DistNetworkError&) {
    throw;
  } catch (const c10::Error&) {
    // Stores say in different ways that the time has passed.
    return false;
  }
}

dureComm_t meet(const Meeting& meeting, const std::atomic<bool>& aborted) {
  const auto id = agree(meeting, aborted);
  dureConfig_t config = DURE_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.commName = meeting.name.c_str();
  config.timeoutMs = static_cast<int>(std::clamp<int64_t>(meeting.timeout.count(), 1, INT_MAX));
  dureComm_t comm = nullptr;
  const auto result = dureCommInitRankConfig(&comm, meeting.size, id, meeting.rank, &config);
  if (result != dureInProgress) {
    check(result, meeting.name);
  }
  return comm;
}

}  // namespace dure
