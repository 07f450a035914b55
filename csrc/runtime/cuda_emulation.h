// CUDA kernels on the host, so that what they compute is tested where there is no GPU: a block is
// a set of fibers on one thread that take turns at each barrier; blocks run one after the other.
// Device memory is host memory. This proves the kernels' logic and bits, not their speed, and not
// what the hardware adds (memory order, launch limits).
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
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
#define __launch_bounds__(threads)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

inline dim3 gridDim, blockDim, blockIdx, threadIdx;

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
        for (size_t i = 0; i < count; ++i) {
            Fiber& fiber = fibers_[i];
            if (!fiber.stack) fiber.stack.reset(new char[stack_bytes]);
            fiber.done = false;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.get();
            fiber.context.uc_stack.ss_size = stack_bytes;
            fiber.context.uc_link = nullptr;  // fibers leave by themselves
            makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Block::enter), 0);
        }
        for (bool alive = true; alive;) {  // one round between two barriers
            alive = false;
            for (current_ = 0; current_ < count; ++current_) {
                if (fibers_[current_].done) continue;
                const auto i = static_cast<unsigned>(current_);
                threadIdx =
                    dim3(i % threads.x, i / threads.x % threads.y, i / (threads.x * threads.y));
                void* frames = nullptr;
                leave_stack(&frames, fibers_[current_].stack.get(), stack_bytes);
                swapcontext(&scheduler_, &fibers_[current_].context);
                arrive_on_stack(frames, nullptr, nullptr);
                alive = alive || !fibers_[current_].done;
            }
        }
    }

    void barrier() {
        const dim3 mine = threadIdx;
        const size_t self = current_;
        void* frames = nullptr;
        leave_stack(&frames, scheduler_bottom_, scheduler_bytes_);
        swapcontext(&fibers_[self].context, &scheduler_);
        arrive_on_stack(frames, &scheduler_bottom_, &scheduler_bytes_);
        threadIdx = mine;
    }

    // All threads of the block vote.
    uint32_t ballot(bool vote) {
        if (votes_.size() < fibers_.size()) votes_.resize(fibers_.size());
        const size_t self = current_;
        votes_[self] = vote;
        barrier();
        uint32_t bits = 0;
        for (size_t lane = 0; lane < 32 && self / 32 * 32 + lane < fibers_.size(); ++lane)
            bits |= static_cast<uint32_t>(votes_[self / 32 * 32 + lane]) << lane;
        barrier();
        return bits;
    }

  private:
    struct Fiber {
        ucontext_t context;
        std::unique_ptr<char[]> stack;
        bool done;
    };

    static void enter() {
        Block& block = current();
        arrive_on_stack(nullptr, &block.scheduler_bottom_, &block.scheduler_bytes_);
        (*block.kernel_)();
        block.fibers_[block.current_].done = true;
        leave_stack(nullptr, block.scheduler_bottom_, block.scheduler_bytes_);
        setcontext(&block.scheduler_);
    }

    const std::function<void()>* kernel_ = nullptr;
    std::vector<Fiber> fibers_;
    std::vector<char> votes_;
    ucontext_t scheduler_;
    const void* scheduler_bottom_ = nullptr;
    size_t scheduler_bytes_ = 0;
    size_t current_ = 0;
};

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
inline uint32_t __ballot_sync(uint32_t, bool vote) {
    return infall::emulation::Block::current().ballot(vote);
}
inline int __popc(uint32_t x) { return __builtin_popcount(x); }
inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long value) {
    const unsigned long long before = *p;
    *p += value;
    return before;
}
