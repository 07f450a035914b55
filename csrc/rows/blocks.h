// How rows are cut into blocks of work.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/parallel.h"

namespace infall {

constexpr int64_t max_batch = 256;  // directions that share one pass over the layer
// Multiply-adds of a part of a block, for rows so long that a few of them are too many for a block.
constexpr int64_t part_work = int64_t{1} << 22;

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

    // The valid rows of a block, and those beside them that make up multiples of `multiple`.
    struct Range {
        int64_t first, rows;
    };
    Range padded(int64_t block, int64_t multiple) const {
        const int64_t from = valid_from(block), first = from - from % multiple;
        return {first, (valid_to(block) - first + multiple - 1) / multiple * multiple};
    }
};

// Rows of a block that are projected on `batch` directions; `least` is a power of two.
inline int64_t block_rows_for(int64_t dim, int64_t batch, int64_t least = 16) {
    constexpr int64_t most = 4096;
    int64_t rows = most;
    while (rows > least && rows * dim * (1 + batch / 8) > block_work) rows /= 2;
    return rows;
}

// Runs body(block, first_direction, end_direction, thread, pulse) for every block of rows and, for
// each, all directions, max_batch at a time; body returns the units of work it has done.
template <class Body>
void for_passes(const AlignedBlocks& blocks, int64_t batch, int num_threads, Watch* watch,
                const Body& body) {
    const int64_t passes = (batch + max_batch - 1) / max_batch;
    run_blocks(
        total_blocks(blocks.count(), passes), num_threads,
        [&](int64_t number, int thread, Pulse& pulse) -> int64_t {
            const int64_t first = number % passes * max_batch;
            return body(number / passes, first, std::min(first + max_batch, batch), thread, pulse);
        },
        watch);
}

}  // namespace infall
