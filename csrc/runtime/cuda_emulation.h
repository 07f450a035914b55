// CUDA kernels on the host, so that what they compute is tested where there is no GPU: a block is
// a set of fibers on one thread that take turns at each barrier, of the block or of a warp; blocks
// run one after the other. Device memory is host memory. This proves the kernels' logic and bits,
// not their speed, and not what the hardware adds (memory order, launch limits).
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <type_traits>
#include <vector>

#if defined(__has_feature)
#define INFALL_ADDRESS_SANITIZER __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define INFALL_ADDRESS_SANITIZER 1
#else
#define INFALL_ADDRESS_SANITIZER 0
#endif
#if INFALL_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

inline dim3 gridDim, blockDim, blockIdx, threadIdx;

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0 };
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
inline cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
    std::memset(p, value, bytes);
    return cudaSuccess;
}

namespace infall {
namespace emulation {

// AddressSanitizer is told of every change from one stack to another.
#if INFALL_ADDRESS_SANITIZER
constexpr size_t stack_bytes = 256 * 1024;  // it keeps a distance between local arrays
inline void leave_stack(void** frames, const void* bottom, size_t bytes) {
    __sanitizer_start_switch_fiber(frames, bottom, bytes);
}
inline void arrive_on_stack(void* frames, const void** bottom, size_t* bytes) {
    __sanitizer_finish_switch_fiber(frames, bottom, bytes);
}
#else
constexpr size_t stack_bytes = 64 * 1024;
inline void leave_stack(void**, const void*, size_t) {}
inline void arrive_on_stack(void*, const void**, size_t*) {}
#endif

class Block {
  public:
    static Block& current() {
        static Block block;
        return block;
    }

    void run(dim3 threads, const std::function<void()>& kernel) {
        kernel_ = &kernel;
        const size_t count = size_t{threads.x} * threads.y * threads.z;
        fibers_.resize(count);
        for (std::vector<uint64_t>& values : exchanged_) values.resize(count);
        for (std::vector<char>& votes : votes_) votes.assign(count, false);
        for (size_t i = 0; i < count; ++i) {
            Fiber& fiber = fibers_[i];
            if (!fiber.stack) fiber.stack.reset(new char[stack_bytes]);
            fiber.state = State::runs;
            fiber.exchanges = fiber.votes = 0;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.get();
            fiber.context.uc_stack.ss_size = stack_bytes;
            fiber.context.uc_link = nullptr;  // fibers leave by themselves
            makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Block::enter), 0);
        }
        do {  // one round between two barriers
            for (current_ = 0; current_ < count; ++current_) {
                if (fibers_[current_].state != State::runs) continue;
                const auto i = static_cast<unsigned>(current_);
                threadIdx =
                    dim3(i % threads.x, i / threads.x % threads.y, i / (threads.x * threads.y));
                void* frames = nullptr;
                leave_stack(&frames, fibers_[current_].stack.get(), stack_bytes);
                swapcontext(&scheduler_, &fibers_[current_].context);
                arrive_on_stack(frames, nullptr, nullptr);
            }
        } while (pass_barriers());
    }

    void barrier() { wait(State::at_barrier); }
    void warp_barrier() { wait(State::at_warp_barrier); }

    // Each thread of a warp gives its bits and gets those of all, lane by lane. They stay as they
    // are until the next exchange but one, to which no thread comes before all have read them.
    const uint64_t* exchange(uint64_t bits) {
        const size_t self = current_;
        std::vector<uint64_t>& values = exchanged_[fibers_[self].exchanges++ % 2];
        values[self] = bits;
        warp_barrier();
        return values.data() + self / warp_threads * warp_threads;
    }
    size_t lane() const { return current_ % warp_threads; }

    // Whether a thread of the block votes for it; votes stay as values do above.
    bool any(bool vote) {
        std::vector<char>& votes = votes_[fibers_[current_].votes++ % 2];
        votes[current_] = vote;
        barrier();
        return std::find(votes.begin(), votes.end(), true) != votes.end();
    }

    static constexpr size_t warp_threads = 32;

  private:
    enum class State { runs, at_barrier, at_warp_barrier, done };

    struct Fiber {
        ucontext_t context;
        std::unique_ptr<char[]> stack;
        State state;
        size_t exchanges, votes;
    };

    static void enter() {
        Block& block = current();
        arrive_on_stack(nullptr, &block.scheduler_bottom_, &block.scheduler_bytes_);
        (*block.kernel_)();
        block.fibers_[block.current_].state = State::done;
        leave_stack(nullptr, block.scheduler_bottom_, block.scheduler_bytes_);
        setcontext(&block.scheduler_);
    }

    void wait(State barrier) {
        Fiber& fiber = fibers_[current_];
        fiber.state = barrier;
        void* frames = nullptr;
        leave_stack(&frames, scheduler_bottom_, scheduler_bytes_);
        swapcontext(&fiber.context, &scheduler_);
        arrive_on_stack(frames, &scheduler_bottom_, &scheduler_bytes_);
    }

    bool all(size_t first, size_t end, State state, State or_state) const {
        for (size_t i = first; i < end; ++i)
            if (fibers_[i].state != state && fibers_[i].state != or_state) return false;
        return true;
    }

    // Lets go on whoever has nobody to wait for: a warp at its barrier needs all its 32 threads,
    // the block those that are not done. False when all are.
    bool pass_barriers() {
        const size_t count = fibers_.size();
        bool passed = false;
        for (size_t first = 0; first + warp_threads <= count; first += warp_threads) {
            const size_t end = first + warp_threads;
            if (!all(first, end, State::at_warp_barrier, State::at_warp_barrier)) continue;
            for (size_t i = first; i < end; ++i) fibers_[i].state = State::runs;
            passed = true;
        }
        if (passed) return true;
        if (all(0, count, State::done, State::done)) return false;
        if (!all(0, count, State::at_barrier, State::done))
            throw std::logic_error("CUDA: threads wait at a barrier to which others never come");
        for (Fiber& fiber : fibers_)
            if (fiber.state == State::at_barrier) fiber.state = State::runs;
        return true;
    }

    const std::function<void()>* kernel_ = nullptr;
    std::vector<Fiber> fibers_;
    std::vector<uint64_t> exchanged_[2];
    std::vector<char> votes_[2];
    ucontext_t scheduler_;
    const void* scheduler_bottom_ = nullptr;
    size_t scheduler_bytes_ = 0;
    size_t current_ = 0;
};

// The value that the thread of another lane gives.
template <class T>
T from_lane(T value, size_t lane) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = Block::current().exchange(bits)[lane];
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Where the errors of approximate functions lie, in units of the largest one allowed: anywhere in a
// range, by a hash of the argument. A device has errors of its own, which no test may rest on.
struct ErrorRange {
    double low = -1.0, high = 1.0;
};
inline ErrorRange approximation_errors;

inline float approximation(float argument, double exact, double largest_error) {
    const auto [low, high] = approximation_errors;
    uint32_t hash;
    std::memcpy(&hash, &argument, sizeof hash);
    hash = (hash ^ hash >> 15) * 0x2C1B3C6Du;
    hash = (hash ^ hash >> 12) * 0x297A2D39u;
    hash ^= hash >> 15;
    const double error = largest_error * (low + (high - low) * (hash * 0x1p-32));
    const auto result = static_cast<float>(exact + error);
    // Rounded, it may be farther off than it is allowed to be.
    const double largest = largest_error * std::fmax(std::fabs(low), std::fabs(high));
    const bool too_far = std::fabs(static_cast<double>(result) - exact) > largest;
    return too_far ? std::nextafter(result, static_cast<float>(exact)) : result;
}

inline void run(dim3 grid, dim3 block, const std::function<void()>& kernel) {
    static std::mutex mutex;  // threadIdx and what is __shared__ are one for all
    const std::lock_guard<std::mutex> lock(mutex);
    gridDim = grid;
    blockDim = block;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = dim3(x, y, z);
                Block::current().run(block, kernel);
            }
}

}  // namespace emulation
}  // namespace infall

inline void __syncthreads() { infall::emulation::Block::current().barrier(); }
inline int __syncthreads_or(int vote) { return infall::emulation::Block::current().any(vote != 0); }

// Of full warps, whatever the mask.
inline uint32_t __ballot_sync(uint32_t, bool vote) {
    const uint64_t* votes = infall::emulation::Block::current().exchange(vote);
    uint32_t bits = 0;
    for (size_t lane = 0; lane < infall::emulation::Block::warp_threads; ++lane)
        bits |= static_cast<uint32_t>(votes[lane]) << lane;
    return bits;
}
template <class T>
T __shfl_sync(uint32_t, T value, unsigned lane) {
    return infall::emulation::from_lane(value, lane % 32);
}
template <class T>
T __shfl_xor_sync(uint32_t, T value, unsigned mask) {
    return infall::emulation::from_lane(value, infall::emulation::Block::current().lane() ^ mask);
}
template <class T>
T __shfl_down_sync(uint32_t, T value, unsigned delta) {
    const size_t self = infall::emulation::Block::current().lane(), lane = self + delta;
    return infall::emulation::from_lane(value, lane < 32 ? lane : self);
}

inline int __popc(uint32_t x) { return __builtin_popcount(x); }
template <class T>
T atomicAdd(T* p, T value) {
    const T before = *p;
    *p += value;
    return before;
}
