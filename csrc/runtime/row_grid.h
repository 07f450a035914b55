// Launches over the rows of a matrix: threads are numbered by column and row, so that none divides
// its number by the length of a row, which costs more than what is done with an element.
#pragma once

#include <cstdint>

#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"

namespace infall::device {

// Loads of a thread that are on their way together: what is in flight on a whole device then covers
// the latency of its memory.
constexpr int row_loads = 4;

// Blocks are as wide as the rows are long, and have several rows where these are short.
inline ElementShape grid_of_rows(int64_t rows, int64_t columns) {
    unsigned width = 32;
    while (width < block_threads && int64_t{width} * row_loads < columns) width *= 2;
    const unsigned height = block_threads / width;
    return {dim3(grid_for(blocks_of(columns, int64_t{width} * row_loads), many_blocks),
                 grid_for(blocks_of(rows, height), max_grid_y)),
            dim3(width, height)};
}

// out[c] = result(c, x[c]) for the columns c of this thread; out may be x.
template <class X, class Out, class Result>
__device__ void map_row(const X* x, int64_t columns, Out* out, const Result& result) {
    const int64_t step = threads_of_grid();
#pragma unroll 1  // to unroll it, nvcc would divide by the step
    for (int64_t first = thread_of_grid(); first < columns; first += row_loads * step) {
        if (first + (row_loads - 1) * step < columns) {
            X entries[row_loads];
#pragma unroll
            for (int k = 0; k < row_loads; ++k) entries[k] = x[first + k * step];
#pragma unroll
            for (int k = 0; k < row_loads; ++k)
                out[first + k * step] = result(first + k * step, entries[k]);
        } else {
#pragma unroll 1
            for (int64_t c = first; c < columns; c += step) out[c] = result(c, x[c]);
        }
    }
}

}  // namespace infall::device
