// How the ranks of a communicator meet: by an id in torch's store.

#pragma once

#include <dure.h>

#include <atomic>
#include <chrono>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace dure {

struct Meeting {
  c10::intrusive_ptr<c10d::Store> store;
  // Where in the store: another for each communicator that is made.
  std::string key;
  int rank;
  int size;
  std::chrono::milliseconds timeout;
  // Begins the texts of errors.
  std::string name;
};

// Whether somebody sets a key of a store, `within` this time.
bool came(c10d::Store& store, const std::string& key, std::chrono::milliseconds within);

// Begins to make a communicator, which goes on in the background. Rank 0 publishes an id; the others wait for it, at
// most until the timeout, and only while nobody has aborted.
dureComm_t meet(const Meeting& meeting, const std::atomic<bool>& aborted);

}  // namespace dure
