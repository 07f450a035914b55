// How many blocks and threads kernels are launched with.
#pragma once

#include <cstdint>

namespace infall::device {

constexpr int block_threads = 256;
constexpr int max_grid_y = 65535;  // CUDA's own limit

// Kernels go on grid by grid where there are more blocks of work than these: as many as any card of
// today runs at a time, for blocks that have something to set up, or many more.
constexpr int64_t resident_blocks = 132 * 16;
constexpr int64_t many_blocks = int64_t{1} << 20;

inline int64_t blocks_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

inline unsigned grid_for(int64_t blocks, int64_t most = resident_blocks) {
    return static_cast<unsigned>(blocks < 1 ? 1 : blocks < most ? blocks : most);
}
inline unsigned grid_for_elements(int64_t elements) {
    return grid_for(blocks_of(elements, block_threads), many_blocks);
}

inline unsigned exact_grid(int64_t count, int64_t size) {
    return static_cast<unsigned>(blocks_of(count, size));
}

}  // namespace infall::device
