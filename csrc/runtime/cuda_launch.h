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

namespace infall {
namespace device {

inline void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess)
        throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

#if defined(__CUDACC__)
template <class... Parameters, class... Arguments>
void launch(const char* what, void (*kernel)(Parameters...), dim3 grid, dim3 block, void* stream,
            Arguments... arguments) {
    kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
    check(cudaGetLastError(), what);
}
#else
template <class... Parameters, class... Arguments>
void launch(const char* what, void (*kernel)(Parameters...), dim3 grid, dim3 block, void*,
            Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || block.x * block.y > 1024)
        throw std::runtime_error(std::string("CUDA: ") + what + ": invalid configuration argument");
    emulation::run(grid, block, [&] { kernel(arguments...); });
}
#endif

}  // namespace device
}  // namespace infall
