#include "rows/stream.h"

#include <algorithm>

#include "rows/blocks.h"
#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(StreamKernels, stream_kernels)

void project_block(const GaussianLayer& layer, int64_t first_row, int64_t rows, const float* w,
                   int64_t batch, float* scores, Pulse& pulse) {
    const StreamKernels& kernels = stream_kernels();
    const int64_t blocks = padded_dim(layer.dim) / 4;
    const int64_t step = std::max<int64_t>(1, part_work / 4 / (rows * (1 + batch / 8)));
    for (int64_t first = 0; first < blocks; first += step) {
        if (first > 0) pulse();
        kernels.project_layer(layer, first_row, rows, first, std::min(blocks, first + step), w,
                              batch, scores);
    }
}

std::vector<Selection> select_stream(const GaussianLayer& layer, const SelectionTask& task,
                                     const float* w, int64_t batch, float threshold) {
    const StreamKernels& kernels = stream_kernels();
    const int64_t width = padded_dim(layer.dim);
    const AlignedBlocks blocks(task.first_row, task.end_row,
                               block_rows_for(width, std::min(batch, max_batch)));
    Collectors collectors(task, batch, threshold);
    PerThread<std::vector<float>> scores(task.num_threads);
    PerThread<std::vector<int32_t>> positions(task.num_threads, std::vector<int32_t>(blocks.rows));
    for_passes(
        blocks, batch, task.num_threads, task.watch,
        [&](int64_t block, int64_t first_direction, int64_t end_direction, int thread,
            Pulse& pulse) {
            const int64_t start = blocks.start(block), directions = end_direction - first_direction;
            std::vector<float>& projections = scores[thread];
            int32_t* passing = positions[thread].data();
            projections.resize(static_cast<size_t>(directions * blocks.rows));
            project_block(layer, start, blocks.rows, w + first_direction * width, directions,
                          projections.data(), pulse);
            const int64_t from = blocks.valid_from(block), to = blocks.valid_to(block);
            for (int64_t d = 0; d < directions; ++d) {
                TopRows& top = collectors.at(thread, first_direction + d);
                const float* valid = projections.data() + d * blocks.rows + (from - start);
                const int64_t num_passing = kernels.at_least(
                    valid, to - from, static_cast<float>(top.threshold()), task.absolute, passing);
                for (int64_t i = 0; i < num_passing; ++i)
                    top.add(static_cast<double>(valid[passing[i]]), from + passing[i]);
            }
            return end_direction == batch ? to - from : 0;
        });
    return collectors.merged();
}

}  // namespace infall
