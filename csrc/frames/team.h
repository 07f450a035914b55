// How the work on vectors is shared: many vectors, one after the other on each thread, or one
// vector at a time, of which every thread takes blocks.
#pragma once

#include <algorithm>

#include "runtime/parallel.h"

namespace infall {

// Threads that share the blocks of one vector; without them the caller's own runs them.
struct Team {
    int num_threads;
    Watch* watch;

    // body(block) for the blocks that `elements` elements are cut into.
    template <class Body>
    static void run(const Team* team, int64_t blocks, int64_t elements, const Body& body) {
        if (!team) {
            for (int64_t block = 0; block < blocks; ++block) body(block);
            return;
        }
        run_blocks(
            blocks, threads_for(elements, team->num_threads),
            [&](int64_t block, int) {
                body(block);
                return int64_t{0};
            },
            team->watch);
    }
};

// Tells a watch of the vectors that are done, whatever the blocks of the one under way report.
class VectorWatch final : public Watch {
  public:
    explicit VectorWatch(Watch* watch) : watch_(watch) {}
    void poll(int64_t) override {
        if (watch_) watch_->poll(done);
    }
    int64_t done = 0;

  private:
    Watch* watch_;
};

// Longer vectors are shared by the threads, however many there are: one would keep Ctrl-C waiting.
constexpr int64_t longest_alone = int64_t{1} << 22;
// What a thread takes at a time.
constexpr int64_t part_length = int64_t{1} << 15;

// Threads that share a vector wait for each other after each of its passes: vectors go first, as
// long as they give work to half as many threads as their parts would.
inline bool is_shared(int64_t count, int64_t length, int num_threads) {
    return length > longest_alone ||
           2 * count < std::min<int64_t>(num_threads, length / part_length);
}

// body(vector, thread, team) for each of `count` vectors of `length` elements.
template <class Body>
void for_vectors(int64_t count, int64_t length, int num_threads, Watch* watch, const Body& body) {
    if (is_shared(count, length, num_threads)) {
        VectorWatch vectors(watch);
        const Team team{num_threads, &vectors};
        for (int64_t i = 0; i < count; ++i) {
            body(i, 0, &team);
            vectors.done = i + 1;
            vectors.poll(0);
        }
        return;
    }
    const int64_t step = std::max<int64_t>(1, part_length / length);
    run_ranges(
        count, step, threads_for(count * length, num_threads),
        [&](int64_t first, int64_t end, int thread) {
            for (int64_t i = first; i < end; ++i)
                body(i, thread, static_cast<const Team*>(nullptr));
        },
        watch);
}

}  // namespace infall
