#include <cmath>
#include <optional>
#include <stdexcept>

#include "rows/device_projections.h"
#include "rows/device_screen.h"
#include "rows/device_threshold.h"
#include "rows/screen.h"

namespace infall::device {
namespace {

// Tiles of rows: the first one starts at a multiple of projected_rows, at first_row or before.
struct RowTiles {
    int64_t origin, count;

    __device__ RowTiles(int64_t first_row, int64_t end_row)
        : origin(first_row - first_row % projected_rows),
          count((end_row - 1 - origin) / projected_rows + 1) {}
};

template <int directions>
__global__ void __launch_bounds__(block_threads)
    select_stream_kernel(GaussianLayer layer, PhiloxRoundKeys keys, DeviceSelection task,
                         Workspace space, int pass, const float* __restrict__ w) {
    __shared__ ColumnTile<directions> tile;
    const int64_t direction = int64_t{blockIdx.y} * directions;
    if (!needed(task, space, pass, direction, directions)) return;
    const RowTiles tiles(task.first_row, task.end_row);
    int64_t loaded = -1;
    for (int64_t i = blockIdx.x; i < tiles.count; i += gridDim.x) {
        const int64_t start = tiles.origin + i * projected_rows;
        float sums[thread_rows][directions];
        project_tile<directions>(layer, keys, start, w, direction, task.batch, tile, loaded, sums);
#pragma unroll
        for (int r = 0; r < thread_rows; ++r)
#pragma unroll
            for (int d = 0; d < directions; ++d)
                if (direction + d < task.batch)
                    offer_row(task, space, pass, direction + d, static_cast<double>(sums[r][d]),
                              start + r * block_threads + threadIdx.x);
    }
}

// Rows of a block that estimates have not ruled out. They wait until there is one for each thread:
// up to block_threads - 1 of them, and those of one more tile.
struct WaitingRows {
    int count;
    int64_t rows[block_threads + projected_rows];
};

// Four blocks of a multiprocessor are enough to hide latencies. For more of them nvcc would compute
// the constants of rows again in every turn of the loop.
__global__ void __launch_bounds__(block_threads, 4)
    screen_stream_kernel(GaussianLayer layer, PhiloxRoundKeys keys, DeviceSelection task,
                         Workspace space, int pass, const float* __restrict__ w) {
    __shared__ EstimateTile estimate_columns;
    __shared__ ColumnTile<1> columns;
    __shared__ WaitingRows waiting;
    if (!needed(task, space, pass, 0, 1)) return;
    if (threadIdx.x == 0) waiting.count = 0;
    const float bound =
        screen_bound(threshold_of(task, pass), screen_margin(w, padded_dim(layer.dim)));
    int64_t loaded = -1, estimates_loaded = -1;

    // Projects rows that wait, as many as there are threads at a time, while there are `least`. All
    // that wait share their upper word.
    const auto project_waiting = [&](int least) {
        int count = waiting.count;
        while (count >= least) {
            const int taken = count < block_threads ? count : block_threads;
            const auto thread = static_cast<int>(threadIdx.x);
            const int64_t row = waiting.rows[count - taken + (thread < taken ? thread : 0)];
            const PhiloxRows<ScalarWide> rows[1] = {
                PhiloxRows<ScalarWide>({static_cast<uint32_t>(row), 0}, layer.layer, keys)};
            float sums[1][1];
            project_rows<1>(layer, keys, static_cast<uint32_t>(row >> 32), rows, thread < taken, w,
                            0, 1, columns, loaded, sums);
            if (thread < taken)
                offer_row(task, space, pass, 0, static_cast<double>(sums[0][0]), row);
            count -= taken;
        }
        __syncthreads();
        if (threadIdx.x == 0) waiting.count = count;
        __syncthreads();
    };

    const RowTiles tiles(task.first_row, task.end_row);
    int64_t before = tiles.origin;
    for (int64_t i = blockIdx.x; i < tiles.count; i += gridDim.x) {
        const int64_t start = tiles.origin + i * projected_rows;
        if ((start ^ before) >> 32 != 0) project_waiting(1);
        before = start;
        float estimates[thread_rows];
        estimate_tile(layer, keys, start, w, estimate_columns, estimates_loaded, estimates);
        bool full = false;
#pragma unroll
        for (int r = 0; r < thread_rows; ++r) {
            const int64_t row = start + r * block_threads + threadIdx.x;
            const float score = task.absolute ? fabsf(estimates[r]) : estimates[r];
            if (row >= task.first_row && row < task.end_row && !(score < bound)) {
                const int place = atomicAdd(&waiting.count, 1);
                waiting.rows[place] = row;
                full = full || place + 1 >= block_threads;
            }
        }
        if (__syncthreads_or(full)) project_waiting(block_threads);
    }
    project_waiting(1);
}

__global__ void __launch_bounds__(block_threads)
    screen_estimates_kernel(GaussianLayer layer, PhiloxRoundKeys keys, int64_t first_row,
                            int64_t count, const float* __restrict__ w,
                            float* __restrict__ estimates, double* __restrict__ margin) {
    __shared__ EstimateTile columns;
    const double most = screen_margin(w, padded_dim(layer.dim));
    if (blockIdx.x == 0 && threadIdx.x == 0) *margin = most;
    const RowTiles tiles(first_row, first_row + count);
    int64_t loaded = -1;
    for (int64_t i = blockIdx.x; i < tiles.count; i += gridDim.x) {
        const int64_t start = tiles.origin + i * projected_rows;
        float of_rows[thread_rows];
        estimate_tile(layer, keys, start, w, columns, loaded, of_rows);
#pragma unroll
        for (int r = 0; r < thread_rows; ++r) {
            const int64_t place = start + r * block_threads + threadIdx.x - first_row;
            if (place >= 0 && place < count) estimates[place] = of_rows[r];
        }
    }
}

// An estimated row takes half the instructions of an exact one, and one that passes takes both.
// Where blocks are few, all would wait for the few rows that pass.
bool is_worth_screening(int64_t dim, int64_t rows, double threshold, bool absolute) {
    if (rows < int64_t{1} << 17) return false;
    const auto pairs = static_cast<double>(padded_dim(dim) / 2);
    return share_above(threshold - screen_margin(std::sqrt(pairs), pairs), absolute) < 0.3;
}

bool is_screened(const GaussianLayer& layer, const DeviceSelection& task, double threshold,
                 std::optional<bool> screened) {
    if (screened.value_or(false) && task.batch != 1)
        throw std::invalid_argument("only one direction can be screened");
    if (screened) return *screened;
    const int64_t rows = task.end_row - task.first_row;
    return task.batch == 1 && is_worth_screening(layer.dim, rows, threshold, task.absolute);
}

unsigned grid_of_tiles(int64_t rows) { return grid_for(blocks_of(rows, projected_rows) + 1); }

}  // namespace

size_t selection_workspace(int64_t num_rows, int64_t available_rows, int64_t batch) {
    Layout layout;
    workspace_of(num_rows, available_rows, batch, layout);
    return layout.bytes();
}

void select_stream(const GaussianLayer& layer, const DeviceSelection& task, const float* w,
                   std::optional<bool> screened, Stream stream) {
    const unsigned tiles = grid_of_tiles(task.end_row - task.first_row);
    const PhiloxRoundKeys keys = PhiloxRoundKeys::from_seed(layer.seed);
    select(task, stream, [&](const Workspace& space, int pass) {
        if (is_screened(layer, task, threshold_of(task, pass), screened))
            launch("select_stream", screen_stream_kernel, tiles, block_threads, stream, layer, keys,
                   task, space, pass, w);
        else if (task.batch == 1)
            launch("select_stream", select_stream_kernel<1>, tiles, block_threads, stream, layer,
                   keys, task, space, pass, w);
        else
            launch("select_stream", select_stream_kernel<tile_directions>,
                   dim3(tiles, exact_grid(task.batch, tile_directions)), block_threads, stream,
                   layer, keys, task, space, pass, w);
    });
}

void screen_estimates(const GaussianLayer& layer, int64_t first_row, int64_t count, const float* w,
                      float* estimates, double* margin, Stream stream) {
    launch("screen_estimates", screen_estimates_kernel, grid_of_tiles(count), block_threads, stream,
           layer, PhiloxRoundKeys::from_seed(layer.seed), first_row, count, w, estimates, margin);
}

}  // namespace infall::device
