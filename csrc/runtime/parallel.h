// Blocks of work over threads. Which thread runs which block is left open: what a block computes
// must not depend on it.
#pragma once

#include <cstdint>
#include <functional>

namespace infall {

// What a long call answers to while it runs; called on the calling thread only.
class Watch {
  public:
    virtual ~Watch() = default;
    // Throws in order to stop the call.
    virtual void poll(int64_t done) = 0;
};

// Runs body(block, thread) for every block, thread < num_threads; body returns the units of work it
// has done, whose sum the watch is told at least every 50 ms between blocks. The first exception of
// a block or of the watch stops all threads and is thrown here.
void run_blocks(int64_t blocks, int num_threads,
                const std::function<int64_t(int64_t block, int thread)>& body, Watch* watch);

}  // namespace infall
