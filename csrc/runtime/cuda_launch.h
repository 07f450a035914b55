// What the CUDA sources need of CUDA, from nvcc or, for tests on machines without a GPU, from an
// emulation on the host (csrc/runtime/cuda_emulation.h).
#pragma once

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "runtime/cuda_emulation.h"
#endif

#include <cstdint>
#include <stdexcept>
#include <string>

namespace infall::device {

inline void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess)
        throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

// The number of a thread among those of the grid, and theirs.
inline __device__ int64_t thread_of_grid() {
    return int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
inline __device__ int64_t threads_of_grid() { return int64_t{gridDim.x} * blockDim.x; }

// The same along y, where threads of a grid take rows of a matrix and x counts their elements.
inline __device__ int64_t row_of_grid() { return int64_t{blockIdx.y} * blockDim.y + threadIdx.y; }
inline __device__ int64_t rows_of_grid() { return int64_t{gridDim.y} * blockDim.y; }

// Deduced from the kernel alone: arguments are converted to what it takes.
template <class T>
struct Converted {
    using type = T;
};

template <class... Parameters>
void launch(const char* what, void (*kernel)(Parameters...), dim3 grid, dim3 block, void* stream,
            typename Converted<Parameters>::type... arguments) {
#if defined(__CUDACC__)
    void* pointers[] = {&arguments...};
    const cudaError_t status = cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block,
                                                pointers, 0, static_cast<cudaStream_t>(stream));
    if (status != cudaSuccess) cudaGetLastError();  // is told here, and not to others once more
    check(status, what);
#else
    static_cast<void>(stream);
    if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || block.x * block.y > 1024)
        throw std::runtime_error(std::string("CUDA: ") + what + ": invalid configuration argument");
    emulation::run(grid, block, [&] { kernel(arguments...); });
#endif
}

}  // namespace infall::device
