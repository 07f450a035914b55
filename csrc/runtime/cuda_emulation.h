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
#include <mutex>
#include <vector>

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
            fiber.stack.resize(stack_bytes);
            fiber.done = false;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = fiber.stack.size();
            fiber.context.uc_link = &scheduler_;
            makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Block::enter), 0);
        }
        for (bool alive = true; alive;) {  // one round between two barriers
            alive = false;
            for (current_ = 0; current_ < count; ++current_) {
                if (fibers_[current_].done) continue;
                const auto i = static_cast<unsigned>(current_);
                threadIdx =
                    dim3(i % threads.x, i / threads.x % threads.y, i / (threads.x * threads.y));
                swapcontext(&scheduler_, &fibers_[current_].context);
                alive = alive || !fibers_[current_].done;
            }
        }
    }

    void barrier() {
        const dim3 mine = threadIdx;
        const size_t self = current_;
        swapcontext(&fibers_[self].context, &scheduler_);
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
    static constexpr size_t stack_bytes = 64 * 1024;

    struct Fiber {
        ucontext_t context;
        std::vector<char> stack;
        bool done;
    };

    static void enter() {
        Block& block = current();
        (*block.kernel_)();
        block.fibers_[block.current_].done = true;
    }

    const std::function<void()>* kernel_ = nullptr;
    std::vector<Fiber> fibers_;
    std::vector<char> votes_;
    ucontext_t scheduler_;
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
