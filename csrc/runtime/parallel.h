// Blocks of work over threads. Which thread runs which block is left open: what a block computes
// must not depend on it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace infall {

// What a long call answers to while it runs; called on the calling thread only. A watch has a clock
// of its own: it may be polled after every block, and answers only now and then.
class Watch {
  public:
    virtual ~Watch() = default;
    // Throws in order to stop the call.
    virtual void poll(int64_t done) = 0;
};

// Counts on from what the runs before, of the same call, have done.
class PartWatch final : public Watch {
  public:
    PartWatch(Watch* whole, int64_t done_before) : whole_(whole), done_before_(done_before) {}
    void poll(int64_t done) override {
        if (whole_) whole_->poll(done_before_ + done);
    }

  private:
    Watch* whole_;
    int64_t done_before_;
};

// For blocks too long to go without an answer: called between the parts of one, it polls the watch
// on the calling thread, and throws on every thread once the blocks have been stopped.
class Pulse {
  public:
    virtual ~Pulse() = default;
    virtual void operator()() = 0;
};

using Block = std::function<int64_t(int64_t block, int thread, Pulse& pulse)>;
void run_pulsed_blocks(int64_t blocks, int num_threads, const Block& body, Watch* watch);

// Runs body(block, thread) or body(block, thread, pulse) for every block, thread < num_threads;
// body returns the units of work it has done, whose sum the watch is told after every block of the
// calling thread, and in the end. An exception stops all threads and is thrown here: that of the
// watch, else that of the lowest block that throws, whichever thread ran it.
template <class Body>
void run_blocks(int64_t blocks, int num_threads, const Body& body, Watch* watch) {
    if constexpr (std::is_invocable_v<const Body&, int64_t, int, Pulse&>)
        run_pulsed_blocks(blocks, num_threads, std::cref(body), watch);
    else
        run_pulsed_blocks(
            blocks, num_threads,
            [&](int64_t block, int thread, Pulse&) -> int64_t { return body(block, thread); },
            watch);
}

// Runs body(first, last) or body(first, last, thread) for every range of `step` of [0, count), the
// last one shorter; the units of work are the numbers in it.
template <class Body>
void run_ranges(int64_t count, int64_t step, int num_threads, const Body& body, Watch* watch) {
    run_blocks((count + step - 1) / step, num_threads,
               [&](int64_t block, int thread) {
                   const int64_t first = block * step, last = std::min(first + step, count);
                   if constexpr (std::is_invocable_v<const Body&, int64_t, int64_t, int>)
                       body(first, last, thread);
                   else
                       body(first, last);
                   return last - first;
               },
               watch);
}

// Multiply-adds of a block, about half a millisecond.
constexpr int64_t block_work = int64_t{1} << 20;

// Blocks times passes over them; more than an int64 counts is work for no machine.
inline int64_t total_blocks(int64_t blocks, int64_t passes) {
    int64_t total;
    if (__builtin_mul_overflow(blocks, passes, &total))
        throw std::overflow_error("too many rows times vectors for one call; split them");
    return total;
}

// What each thread has to itself.
template <class T>
class PerThread {
  public:
    template <class... Initial>
    explicit PerThread(int num_threads, const Initial&... initial)
        : of_thread_(static_cast<size_t>(std::max(num_threads, 1)), initial...) {}

    T& operator[](int thread) { return of_thread_[static_cast<size_t>(thread)]; }
    int size() const { return static_cast<int>(of_thread_.size()); }

  private:
    std::vector<T> of_thread_;
};

// Threads to wake for so many operations on numbers: fewer than these, some 50 us of work, cost
// more to hand over than they take.
constexpr int64_t operations_worth_a_thread = int64_t{1} << 16;
inline int threads_for(int64_t operations, int num_threads) {
    return static_cast<int>(
        std::clamp<int64_t>(operations / operations_worth_a_thread, 1, std::max(num_threads, 1)));
}

}  // namespace infall
