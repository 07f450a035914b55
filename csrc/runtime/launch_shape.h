// How many blocks and threads kernels are launched with.
#pragma once

#include <cstdint>

#include "runtime/cuda_launch.h"

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

// A thread for each element of a matrix, x along a row and y from row to row, so that no thread
// divides to know which is its. The grid has all columns; of rows it may have fewer:
//
//     const int64_t column = thread_of_grid();
//     for (int64_t row = row_of_grid(); row < rows; row += rows_of_grid())
struct ElementShape {
    dim3 grid, block;
};

inline ElementShape shape_for_elements(int64_t rows, int64_t columns) {
    unsigned along = 1;  // a power of two: a row takes less than twice the threads it needs
    while (along < columns && along < block_threads) along *= 2;
    const unsigned across = block_threads / along;
    return {dim3(exact_grid(columns, along), grid_for(blocks_of(rows, across))),
            dim3(along, across)};
}

}  // namespace infall::device
