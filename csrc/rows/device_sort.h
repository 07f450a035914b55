// A merge sort of candidates in a total order, for one block or a whole grid: runs are merged by
// the place each candidate has in the run beside its own. Included by the CUDA sources only.
#pragma once

#include <cstdint>
#include <utility>

#include "runtime/candidate.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

struct LowerRow {
    INFALL_HD bool operator()(const Candidate& a, const Candidate& b) const {
        return a.row < b.row;
    }
};

// Sorts the block_threads candidates from `first` on, in place. All threads of a block call it
// together.
template <class Before>
__device__ void sort_tile(Candidate* candidates, int64_t first, int64_t count, Before before) {
    __shared__ Candidate tile[block_threads];
    const int64_t here = count - first < block_threads ? count - first : block_threads;
    const bool inside = threadIdx.x < here;
    __syncthreads();
    if (inside) tile[threadIdx.x] = candidates[first + threadIdx.x];
    __syncthreads();
    if (!inside) return;
    const Candidate mine = tile[threadIdx.x];
    int64_t rank = 0;
    for (int64_t j = 0; j < here; ++j) rank += before(tile[j], mine);
    candidates[first + rank] = mine;
}

// Puts candidate i, of sorted runs `run` long, a power of two, to its place in runs twice as long.
template <class Before>
__device__ void merge_one(const Candidate* from, Candidate* to, int64_t count, int64_t run,
                          int64_t i, Before before) {
    const Candidate mine = from[i];
    const int64_t place = i & (run - 1), beside = (i - place) ^ run;
    int64_t low = beside < count ? beside : count;
    int64_t high = count - low < run ? count : low + run;
    const int64_t first = low;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (before(from[middle], mine))
            low = middle + 1;
        else
            high = middle;
    }
    to[((i - place) & ~run) + place + (low - first)] = mine;
}

// Sorts with `spare`, as long as `candidates`, to merge to; returns the one that is sorted. All
// threads of a block call it together.
template <class Before>
__device__ Candidate* sort_in_block(Candidate* candidates, Candidate* spare, int64_t count,
                                    Before before) {
    for (int64_t first = 0; first < count; first += block_threads)
        sort_tile(candidates, first, count, before);
    for (int64_t run = block_threads; run < count; run *= 2) {
        __syncthreads();
        for (int64_t i = threadIdx.x; i < count; i += block_threads)
            merge_one(candidates, spare, count, run, i, before);
        Candidate* merged = spare;
        spare = candidates;
        candidates = merged;
    }
    __syncthreads();
    return candidates;
}

// Candidates are (batch, stride); count(direction) of each direction are sorted.
template <class Count, class Before>
__global__ void __launch_bounds__(block_threads)
    sort_tiles_kernel(Candidate* candidates, int64_t stride, Count count, Before before) {
    const int64_t direction = blockIdx.y, first = int64_t{blockIdx.x} * block_threads;
    if (first < count(direction))
        sort_tile(candidates + direction * stride, first, count(direction), before);
}

template <class Count, class Before>
__global__ void __launch_bounds__(block_threads)
    merge_kernel(const Candidate* from, Candidate* to, int64_t stride, int64_t run, Count count,
                 Before before) {
    const int64_t direction = blockIdx.y, i = thread_of_grid();
    if (i < count(direction))
        merge_one(from + direction * stride, to + direction * stride, count(direction), run, i,
                  before);
}

// Queues the sort of at most `most` candidates per direction; returns the one of the two arrays
// that will be sorted, for all directions alike.
template <class Count, class Before>
Candidate* sort(Candidate* candidates, Candidate* spare, int64_t stride, int64_t batch,
                int64_t most, Count count, Before before, void* stream) {
    const dim3 grid(exact_grid(most, block_threads), static_cast<unsigned>(batch));
    launch("sorting", sort_tiles_kernel<Count, Before>, grid, block_threads, stream, candidates,
           stride, count, before);
    for (int64_t run = block_threads; run < most; run *= 2) {
        launch("merging", merge_kernel<Count, Before>, grid, block_threads, stream, candidates,
               spare, stride, run, count, before);
        std::swap(candidates, spare);
    }
    return candidates;
}

}  // namespace
}  // namespace infall::device
