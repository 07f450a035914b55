// How many blocks and threads the row kernels are launched with.
#pragma once

#include <cstdint>

namespace infall {
namespace device {

constexpr int block_threads = 256;
constexpr int max_grid = 132 * 16;  // grid-stride kernels: enough blocks for any card of today
constexpr int max_grid_y = 65535;   // CUDA's own limit

inline unsigned grid_for(int64_t blocks) {
    return static_cast<unsigned>(blocks < 1 ? 1 : blocks < max_grid ? blocks : max_grid);
}

inline int64_t blocks_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

inline unsigned exact_grid(int64_t count, int64_t size) {
    return static_cast<unsigned>(blocks_of(count, size));
}

}  // namespace device
}  // namespace infall
