// What the device selections share: candidates are collected in any order, and cut exactly.
// Included by the CUDA sources only; everything here is local to each of them.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "rows/candidate.h"
#include "rows/device.h"
#include "rows/device_grid.h"
#include "runtime/cuda_launch.h"

namespace infall {
namespace device {
namespace {

// Candidates one direction has seen in each of the two passes.
struct Found {
    unsigned long long count[2];
};

struct Workspace {
    Found* found;           // (batch,)
    Candidate* candidates;  // (batch, capacity)
    Candidate* best;        // (batch, num_rows)
    int64_t capacity;
};

inline size_t found_bytes(int64_t batch) { return static_cast<size_t>(batch) * sizeof(Found); }

__device__ bool settled(const Found& found, int64_t num_rows, int64_t capacity) {
    return found.count[0] >= static_cast<unsigned long long>(num_rows) &&
           found.count[0] <= static_cast<unsigned long long>(capacity);
}

// Whether any direction still needs the second pass; the same for all threads of a block.
__device__ bool needed(const DeviceSelection& task, const Workspace& space, int pass,
                       int64_t direction, int count) {
    if (pass == 0) return true;
    for (int64_t d = direction; d < direction + count && d < task.batch; ++d)
        if (!settled(space.found[d], task.num_rows, space.capacity)) return true;
    return false;
}

// Keeps a candidate. The order of candidates is left to chance; the total order of the cut makes up
// for it.
__device__ void offer(const DeviceSelection& task, const Workspace& space, int pass,
                      int64_t direction, const Candidate& candidate) {
    if (pass == 1 && settled(space.found[direction], task.num_rows, space.capacity)) return;
    const unsigned long long at = atomicAdd(&space.found[direction].count[pass], 1ull);
    if (at < static_cast<unsigned long long>(space.capacity))
        space.candidates[direction * space.capacity + static_cast<int64_t>(at)] = candidate;
}

// Ranks behind every row.
inline __device__ Candidate no_limit(bool absolute) {
    return Candidate{absolute ? 0.0 : -INFINITY, INT64_MAX};
}

// Number of the candidates that rank before `mine`: its place in the total order, in which no two
// are equal. All threads of a block call it together.
__device__ int64_t rank_among(const Candidate* candidates, int64_t count, const Candidate& mine,
                              RanksBefore before) {
    __shared__ Candidate others[block_threads];
    int64_t rank = 0;
    for (int64_t first = 0; first < count; first += block_threads) {
        __syncthreads();
        if (first + threadIdx.x < count) others[threadIdx.x] = candidates[first + threadIdx.x];
        __syncthreads();
        const int64_t here = count - first < block_threads ? count - first : block_threads;
        for (int64_t j = 0; j < here; ++j) rank += before(others[j], mine);
    }
    return rank;
}

// The best of the candidates, each to its place: the cut needs neither a sort nor a buffer.
__global__ void __launch_bounds__(block_threads)
    rank_kernel(DeviceSelection task, Workspace space) {
    const int64_t direction = blockIdx.y, i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    const Found& found = space.found[direction];
    const auto capacity = static_cast<unsigned long long>(space.capacity);
    const unsigned long long seen =
        found.count[settled(found, task.num_rows, space.capacity) ? 0 : 1];
    const int64_t count = static_cast<int64_t>(seen < capacity ? seen : capacity);
    // Places that nothing is left for: a matrix of NaN has no rows to select.
    if (i >= count && i < task.num_rows)
        space.best[direction * task.num_rows + i] = Candidate{NAN, -1};
    if (int64_t{blockIdx.x} * blockDim.x >= count) return;
    const Candidate* candidates = space.candidates + direction * space.capacity;
    Candidate mine{0.0, 0};
    if (i < count) mine = candidates[i];
    const int64_t rank = rank_among(candidates, count, mine, RanksBefore{task.absolute});
    if (i < count && rank < task.num_rows) space.best[direction * task.num_rows + rank] = mine;
}

__global__ void __launch_bounds__(block_threads)
    write_selection_kernel(DeviceSelection task, Workspace space) {
    const int64_t direction = blockIdx.y, i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i >= task.num_rows) return;
    const Candidate* best = space.best + direction * task.num_rows;
    int64_t place = i;
    if (task.by_index) {
        place = 0;
        for (int64_t j = 0; j < task.num_rows; ++j)
            place += best[j].row < best[i].row || (best[j].row == best[i].row && j < i);
    }
    task.indices[direction * task.num_rows + place] = best[i].row;
    task.projections[direction * task.num_rows + place] = best[i].projection;
}

inline void clear(const Workspace& space, int64_t batch, Stream stream) {
    if (batch > max_grid_y)
        throw std::invalid_argument("w has " + std::to_string(batch) +
                                    " rows; on a device at most 65535 share a selection");
    check(cudaMemsetAsync(space.found, 0, found_bytes(batch), static_cast<cudaStream_t>(stream)),
          "clearing counters");
}

inline void cut(const DeviceSelection& task, const Workspace& space, Stream stream) {
    const auto batch = static_cast<unsigned>(task.batch);
    launch("ranking", rank_kernel, dim3(exact_grid(space.capacity, block_threads), batch),
           block_threads, stream, task, space);
    launch("writing", write_selection_kernel, dim3(exact_grid(task.num_rows, block_threads), batch),
           block_threads, stream, task, space);
}

}  // namespace
}  // namespace device
}  // namespace infall
