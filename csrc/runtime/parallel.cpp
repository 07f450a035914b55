#include "runtime/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace infall {

void run_blocks(int64_t blocks, int num_threads,
                const std::function<int64_t(int64_t block, int thread)>& body, Watch* watch) {
    using Clock = std::chrono::steady_clock;
    constexpr auto interval = std::chrono::milliseconds(50);

    std::atomic<int64_t> next{0}, done{0};
    std::atomic<bool> stop{false};
    std::exception_ptr failure;
    std::mutex failure_mutex;

    const auto work = [&](int thread) {
        try {
            auto last_poll = Clock::now();
            for (int64_t block; !stop && (block = next++) < blocks;) {
                done += body(block, thread);
                if (thread == 0 && watch && Clock::now() - last_poll >= interval) {
                    watch->poll(done);
                    last_poll = Clock::now();
                }
            }
        } catch (...) {
            const std::lock_guard<std::mutex> lock(failure_mutex);
            if (!failure) failure = std::current_exception();
            stop = true;
        }
    };

    std::vector<std::thread> helpers;
    const int wanted = static_cast<int>(std::min<int64_t>(num_threads, blocks));
    helpers.reserve(static_cast<size_t>(std::max(wanted, 1)));
    try {
        for (int thread = 1; thread < wanted; ++thread) helpers.emplace_back(work, thread);
    } catch (const std::system_error&) {
        // The system has no more threads to give: those at hand share the work.
    }
    work(0);
    for (std::thread& helper : helpers) helper.join();
    if (failure) std::rethrow_exception(failure);
    if (watch) watch->poll(done);
}

}  // namespace infall
