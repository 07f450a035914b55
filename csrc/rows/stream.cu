#include "rows/device_projections.h"
#include "rows/device_threshold.h"

namespace infall::device {
namespace {

template <int directions>
__global__ void __launch_bounds__(block_threads)
    select_stream_kernel(GaussianLayer layer, PhiloxRoundKeys keys, DeviceSelection task,
                         Workspace space, int pass, const float* __restrict__ w) {
    __shared__ ColumnTile<directions> tile;
    const int64_t direction = int64_t{blockIdx.y} * directions;
    if (!needed(task, space, pass, direction, directions)) return;
    const int64_t origin = task.first_row - task.first_row % projected_rows;
    const int64_t tiles = (task.end_row - 1 - origin) / projected_rows + 1;
    int64_t loaded = -1;
    for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
        const int64_t start = origin + i * projected_rows;
        float sums[thread_rows][directions];
        project_rows<directions>(layer, keys, start, w, direction, task.batch, tile, loaded, sums);
#pragma unroll
        for (int r = 0; r < thread_rows; ++r)
#pragma unroll
            for (int d = 0; d < directions; ++d)
                if (direction + d < task.batch)
                    offer_row(task, space, pass, direction + d, static_cast<double>(sums[r][d]),
                              start + r * block_threads + threadIdx.x);
    }
}

}  // namespace

size_t selection_workspace(int64_t num_rows, int64_t available_rows, int64_t batch) {
    Layout layout;
    workspace_of(num_rows, available_rows, batch, layout);
    return layout.bytes();
}

void select_stream(const GaussianLayer& layer, const DeviceSelection& task, const float* w,
                   Stream stream) {
    const unsigned tiles = grid_for(blocks_of(task.end_row - task.first_row, projected_rows) + 1);
    const PhiloxRoundKeys keys = PhiloxRoundKeys::from_seed(layer.seed);
    select(task, stream, [&](const Workspace& space, int pass) {
        if (task.batch == 1)
            launch("select_stream", select_stream_kernel<1>, tiles, block_threads, stream, layer,
                   keys, task, space, pass, w);
        else
            launch("select_stream", select_stream_kernel<tile_directions>,
                   dim3(tiles, exact_grid(task.batch, tile_directions)), block_threads, stream,
                   layer, keys, task, space, pass, w);
    });
}

}  // namespace infall::device
