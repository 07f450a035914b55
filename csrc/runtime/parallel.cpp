#include "runtime/parallel.h"

#include <cxxabi.h>

#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/float_environment.h"

namespace infall {
namespace {

struct Stopped {};  // ends a block that nobody waits for any more

// What the threads of one call share.
class Region {
  public:
    Region(int64_t blocks, const Block& body, Watch* watch)
        : body_(body), watch_(watch), end_(blocks) {}

    void work(int thread) {
        ThreadPulse pulse(*this, thread);
        while ((pulse.block = next_++) < end_) {
            try {
                done_ += body_(pulse.block, thread, pulse);
            } catch (const Stopped&) {
                return;
#if defined(__GLIBCXX__)
            } catch (const abi::__forced_unwind&) {
                throw;  // this thread is being ended, and must not be kept from it
#endif
            } catch (...) {
                fail(pulse.polling ? none : pulse.block);
                return;
            }
            if (thread == 0) poll();
        }
    }

    void stop() { end_ = none; }

    // Throws what a block has thrown.
    void finish() {
        if (failure_) std::rethrow_exception(failure_);
        poll();
    }

  private:
    static constexpr int64_t none = -1;

    class ThreadPulse final : public Pulse {
      public:
        ThreadPulse(Region& region, int thread) : region_(region), thread_(thread) {}
        void operator()() override {
            if (block >= region_.end_) throw Stopped{};
            if (thread_ != 0) return;
            polling = true;
            region_.poll();
            polling = false;
        }
        int64_t block = 0;
        bool polling = false;

      private:
        Region& region_;
        int thread_;
    };

    void poll() {
        if (watch_) watch_->poll(done_);
    }

    // Blocks are begun in order, and those before one that fails are finished: the lowest of all
    // that fail is always found.
    void fail(int64_t block) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (block >= end_) return;
        failure_ = std::current_exception();
        end_ = block;
    }

    const Block& body_;
    Watch* const watch_;
    std::atomic<int64_t> next_{0}, done_{0};
    std::atomic<int64_t> end_;  // blocks from here on are not wanted, or not any more
    std::mutex mutex_;
    std::exception_ptr failure_;
};

// Threads that are stopped and waited for, however the calling thread leaves.
class Helpers {
  public:
    Helpers(Region& region, int count) : region_(region) {
        try {
            threads_.reserve(static_cast<size_t>(std::max(count, 0)));
            for (int thread = 1; thread <= count; ++thread)
                threads_.emplace_back([&region, thread] {
                    const FloatEnvironment environment;
                    region.work(thread);
                });
        } catch (const std::exception&) {
            // The system has no more threads, or memory for them: those at hand share the work.
        }
    }
    ~Helpers() {
        region_.stop();
        join();
    }
    Helpers(const Helpers&) = delete;
    Helpers& operator=(const Helpers&) = delete;

    void join() {
        for (std::thread& thread : threads_) thread.join();
        threads_.clear();
    }

  private:
    Region& region_;
    std::vector<std::thread> threads_;
};

}  // namespace

void run_pulsed_blocks(int64_t blocks, int num_threads, const Block& body, Watch* watch) {
    Region region(blocks, body, watch);
    {
        Helpers helpers(region, static_cast<int>(std::min<int64_t>(num_threads, blocks)) - 1);
        region.work(0);
        helpers.join();
    }
    region.finish();
}

}  // namespace infall
