#include "runtime/parallel.h"

#include <cxxabi.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

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

    // Of the pool's, under its lock.
    int helpers = 0;
    std::condition_variable left;

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

// Threads that outlive the calls they help: one that is parked is at work three times sooner than a
// new one, and many of them ten times. They are never ended; a process that ends leaves them
// parked.
class Pool {
  public:
    // That of this process: a fork leaves the threads behind, and locks as they were.
    static Pool& current() {
        static std::atomic<Pool*> current{nullptr};
        Pool* pool = current;
        while (!pool || pool->process_ != getpid()) {
            std::unique_ptr<Pool> other(new Pool);
            if (current.compare_exchange_strong(pool, other.get())) pool = other.release();
        }
        return *pool;
    }

    // Threads 1 ... count work on the region as soon as there are any for it.
    void help(Region& region, int count) {
        const std::lock_guard<std::mutex> lock(mutex_);
        try {
            for (int thread = 1; thread <= count; ++thread) tickets_.push_back({&region, thread});
            for (; idle_ < static_cast<int64_t>(tickets_.size()); ++idle_)
                std::thread([this] { serve(); }).detach();
        } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
            // The system has no more threads, or memory for them: those at hand share the work.
        }
        for (int thread = 1; thread <= count; ++thread) wanted_.notify_one();
    }

    // Returns when no thread works on the region, nor will.
    void leave(Region& region) {
        std::unique_lock<std::mutex> lock(mutex_);
        tickets_.erase(std::remove_if(tickets_.begin(), tickets_.end(),
                                      [&](const Ticket& t) { return t.region == &region; }),
                       tickets_.end());
        region.left.wait(lock, [&] { return region.helpers == 0; });
    }

  private:
    struct Ticket {
        Region* region;
        int thread;
    };

    void serve() {
        const FloatEnvironment environment;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wanted_.wait(lock, [&] { return !tickets_.empty(); });
            const Ticket ticket = tickets_.front();
            tickets_.pop_front();
            --idle_;
            ++ticket.region->helpers;
            lock.unlock();
            ticket.region->work(ticket.thread);
            lock.lock();
            ++idle_;
            if (--ticket.region->helpers == 0) ticket.region->left.notify_one();
        }
    }

    const pid_t process_ = getpid();
    std::mutex mutex_;
    std::condition_variable wanted_;
    std::deque<Ticket> tickets_;
    int64_t idle_ = 0;  // threads that wait for a ticket, or are about to
};

// The help of other threads, stopped and waited for however the calling thread leaves.
class Help {
  public:
    Help(Region& region, int count) : region_(region) {
        if (count <= 0) return;
        pool_ = &Pool::current();
        pool_->help(region, count);
    }
    ~Help() {
        region_.stop();
        wait();
    }
    Help(const Help&) = delete;
    Help& operator=(const Help&) = delete;

    void wait() {
        if (pool_) pool_->leave(region_);
        pool_ = nullptr;
    }

  private:
    Region& region_;
    Pool* pool_ = nullptr;
};

}  // namespace

void run_pulsed_blocks(int64_t blocks, int num_threads, const Block& body, Watch* watch) {
    Region region(blocks, body, watch);
    {
        Help help(region, static_cast<int>(std::min<int64_t>(num_threads, blocks)) - 1);
        region.work(0);
        help.wait();
    }
    region.finish();
}

}  // namespace infall
