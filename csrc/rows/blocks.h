// How rows are cut into blocks of work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>

namespace infall {

constexpr int64_t max_batch = 256;  // directions that share one pass over the layer
constexpr int64_t block_work = int64_t{1}
                               << 20;  // multiply-adds of a block, about half a millisecond
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

}  // namespace infall
