// What the device selections share: candidates are collected in any order, and cut exactly.
// Included by the CUDA sources only; everything here is local to each of them.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "rows/device.h"
#include "rows/device_sort.h"
#include "runtime/candidate.h"
#include "runtime/cuda_launch.h"
#include "runtime/launch_shape.h"

namespace infall::device {
namespace {

// Candidates one direction has seen in each of the two passes.
struct Found {
    unsigned long long count[2];
};

struct Workspace {
    Found* found;           // (batch,)
    Candidate* candidates;  // (batch, capacity)
    Candidate* spare;       // (batch, capacity)
    int64_t capacity;
};

// Up to so many candidates are compared pair by pair, in two launches; more are sorted, in many.
constexpr int64_t most_compared = 16 * block_threads;

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
template <class Before>
__device__ int64_t rank_among(const Candidate* candidates, int64_t count, const Candidate& mine,
                              Before before) {
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

// Candidates that found room in the pass that counts.
struct Collected {
    DeviceSelection task;
    Workspace space;
    __device__ int64_t operator()(int64_t direction) const {
        const Found& found = space.found[direction];
        const auto capacity = static_cast<unsigned long long>(space.capacity);
        const unsigned long long seen =
            found.count[settled(found, task.num_rows, space.capacity) ? 0 : 1];
        return static_cast<int64_t>(seen < capacity ? seen : capacity);
    }
};

struct Fixed {
    int64_t count;
    __device__ int64_t operator()(int64_t) const { return count; }
};

// For a place that nothing is left for: a matrix of NaN has no rows to select. No two are equal.
inline __device__ Candidate nothing_at(int64_t place) { return Candidate{NAN, -1 - place}; }

inline __device__ void write_row(const DeviceSelection& task, int64_t direction, int64_t place,
                                 const Candidate& candidate) {
    const int64_t at = direction * task.num_rows + place;
    task.indices[at] = candidate.row < 0 ? -1 : candidate.row;
    task.projections[at] = candidate.projection;
}

// Few candidates: the best of them, each to its place, by comparing all pairs.
__global__ void __launch_bounds__(block_threads)
    rank_kernel(DeviceSelection task, Workspace space) {
    const int64_t direction = blockIdx.y, i = thread_of_grid();
    const int64_t count = Collected{task, space}(direction);
    Candidate* best = space.spare + direction * space.capacity;
    if (i >= count && i < task.num_rows) best[i] = nothing_at(i);
    if (int64_t{blockIdx.x} * blockDim.x >= count) return;
    const Candidate* candidates = space.candidates + direction * space.capacity;
    Candidate mine{0.0, 0};
    if (i < count) mine = candidates[i];
    const int64_t rank = rank_among(candidates, count, mine, RanksBefore{task.absolute});
    if (i < count && rank < task.num_rows) best[rank] = mine;
}

__global__ void __launch_bounds__(block_threads)
    place_kernel(DeviceSelection task, const Candidate* best, int64_t stride) {
    const int64_t direction = blockIdx.y, i = thread_of_grid();
    if (int64_t{blockIdx.x} * blockDim.x >= task.num_rows) return;
    const Candidate* mine = best + direction * stride;
    const Candidate candidate = mine[i < task.num_rows ? i : 0];
    const int64_t place =
        task.by_index ? rank_among(mine, task.num_rows, candidate, LowerRow{}) : i;
    if (i < task.num_rows) write_row(task, direction, place, candidate);
}

// Many candidates: sorted, in two orders where they are wanted by index.
__global__ void __launch_bounds__(block_threads)
    fill_kernel(DeviceSelection task, Workspace space, Candidate* sorted) {
    const int64_t direction = blockIdx.y, i = thread_of_grid();
    if (i >= Collected{task, space}(direction) && i < task.num_rows)
        sorted[direction * space.capacity + i] = nothing_at(i);
}

__global__ void __launch_bounds__(block_threads)
    write_kernel(DeviceSelection task, const Candidate* sorted, int64_t stride) {
    const int64_t direction = blockIdx.y, i = thread_of_grid();
    if (i < task.num_rows) write_row(task, direction, i, sorted[direction * stride + i]);
}

inline void clear(const Workspace& space, int64_t batch, Stream stream) {
    if (batch > max_grid_y)
        throw std::invalid_argument("w has " + std::to_string(batch) +
                                    " rows; on a device at most 65535 share a selection");
    const size_t bytes = static_cast<size_t>(batch) * sizeof(Found);
    check(cudaMemsetAsync(space.found, 0, bytes, static_cast<cudaStream_t>(stream)),
          "clearing counters");
}

inline void cut(const DeviceSelection& task, const Workspace& space, Stream stream) {
    const auto batch = static_cast<unsigned>(task.batch);
    const dim3 rows(exact_grid(task.num_rows, block_threads), batch);
    if (space.capacity <= most_compared) {
        launch("ranking", rank_kernel, dim3(exact_grid(space.capacity, block_threads), batch),
               block_threads, stream, task, space);
        launch("placing", place_kernel, rows, block_threads, stream, task,
               const_cast<const Candidate*>(space.spare), space.capacity);
        return;
    }
    Candidate* sorted =
        sort(space.candidates, space.spare, space.capacity, task.batch, space.capacity,
             Collected{task, space}, RanksBefore{task.absolute}, stream);
    launch("filling", fill_kernel, rows, block_threads, stream, task, space, sorted);
    if (task.by_index)
        sorted =
            sort(sorted, sorted == space.spare ? space.candidates : space.spare, space.capacity,
                 task.batch, task.num_rows, Fixed{task.num_rows}, LowerRow{}, stream);
    launch("writing", write_kernel, rows, block_threads, stream, task,
           const_cast<const Candidate*>(sorted), space.capacity);
}

}  // namespace
}  // namespace infall::device
