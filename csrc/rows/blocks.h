// How rows are cut into blocks of work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "rows/kernels.h"
#include "runtime/parallel.h"

namespace infall {

constexpr int64_t max_batch = 256;  // directions that share one pass over the layer
constexpr int64_t block_work = int64_t{1}
                               << 20;  // multiply-adds of a block, about half a millisecond
// Those of a part of a block, for rows so long that a few of them are too many for a block.
constexpr int64_t part_work = int64_t{1} << 22;
constexpr int64_t min_block_rows = 16, max_block_rows = 4096;

// Blocks of [first, end) that start at multiples of `rows`, a power of two: none crosses a multiple
// of 2^32, and every block but the outer ones is whole.
struct AlignedBlocks {
    int64_t first, end, rows, origin;

    AlignedBlocks(int64_t first_, int64_t end_, int64_t rows_)
        : first(first_), end(end_), rows(rows_), origin(first_ - first_ % rows_) {}

    int64_t count() const { return (end - 1 - origin) / rows + 1; }
    int64_t start(int64_t block) const { return origin + block * rows; }
    int64_t valid_from(int64_t block) const { return std::max(first, start(block)); }
    int64_t valid_to(int64_t block) const {
        return end - start(block) < rows ? end : start(block) + rows;
    }
};

// Blocks times passes over them; more than an int64 counts is work for no machine.
inline int64_t total_blocks(int64_t blocks, int64_t passes) {
    int64_t total;
    if (__builtin_mul_overflow(blocks, passes, &total))
        throw std::overflow_error("too many rows times vectors for one call; split them");
    return total;
}

inline int64_t block_rows_for(int64_t work_per_row) {
    int64_t rows = max_block_rows;
    while (rows > min_block_rows && rows * work_per_row > block_work) rows /= 2;
    return rows;
}

// Projections of `rows` rows of a layer, a whole number of groups: see RowKernels::project_layer.
inline void project_block(const RowKernels& kernels, const GaussianLayer& layer, int64_t first_row,
                          int64_t rows, const float* w, int64_t batch, float* scores,
                          Pulse& pulse) {
    const int64_t blocks = padded_dim(layer.dim) / 4;
    const int64_t step = std::max<int64_t>(1, part_work / 4 / (rows * (1 + batch / 8)));
    for (int64_t first = 0; first < blocks; first += step) {
        if (first > 0) pulse();
        kernels.project_layer(layer, first_row, rows / kernels.lanes, first,
                              std::min(blocks, first + step), w, batch, scores);
    }
}

}  // namespace infall
