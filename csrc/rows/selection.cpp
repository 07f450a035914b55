#include "rows/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rows/blocks.h"
#include "rows/top_rows.h"
#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(RowKernels, row_kernels)

std::vector<Selection> select_stream(const GaussianLayer& layer, const SelectionTask& task,
                                     const float* w, int64_t batch, float threshold) {
    const RowKernels& kernels = row_kernels();
    const int64_t width = padded_dim(layer.dim), group = std::min(batch, max_batch);
    const AlignedBlocks blocks(task.first_row, task.end_row,
                               block_rows_for(width * (1 + group / 8)));
    const int64_t passes = (batch + max_batch - 1) / max_batch;
    Collectors collectors(task, batch, threshold);
    const auto threads = static_cast<size_t>(std::max(task.num_threads, 1));
    std::vector<std::vector<float>> scores(threads);
    std::vector<std::vector<int32_t>> positions(threads, std::vector<int32_t>(blocks.rows));

    run_blocks(
        total_blocks(blocks.count(), passes), task.num_threads,
        [&](int64_t number, int thread, Pulse& pulse) {
            const int64_t block = number / passes, first_direction = number % passes * max_batch;
            const int64_t directions = std::min(max_batch, batch - first_direction);
            std::vector<float>& projections = scores[static_cast<size_t>(thread)];
            int32_t* found = positions[static_cast<size_t>(thread)].data();
            projections.resize(static_cast<size_t>(directions * blocks.rows));
            project_block(kernels, layer, blocks.start(block), blocks.rows,
                          w + first_direction * width, directions, projections.data(), pulse);
            const int64_t from = blocks.valid_from(block), to = blocks.valid_to(block);
            for (int64_t d = 0; d < directions; ++d) {
                TopRows& top = collectors.at(thread, first_direction + d);
                const float* valid =
                    projections.data() + d * blocks.rows + (from - blocks.start(block));
                const int64_t hits = kernels.at_least(
                    valid, to - from, static_cast<float>(top.threshold()), task.absolute, found);
                for (int64_t i = 0; i < hits; ++i)
                    top.add(static_cast<double>(valid[found[i]]), from + found[i]);
            }
            return first_direction + directions == batch ? to - from : 0;
        },
        task.watch);
    return collectors.merged();
}

std::vector<Selection> select_matrix(const MatrixRows& rows, bool is_float64,
                                     const SelectionTask& task, const void* w, int64_t batch) {
    const RowKernels& kernels = row_kernels();
    const AlignedBlocks blocks(task.first_row, task.end_row,
                               block_rows_for(rows.dim * (1 + std::min(batch, max_batch) / 8)));
    const int64_t passes = (batch + max_batch - 1) / max_batch;
    Collectors collectors(task, batch, -std::numeric_limits<double>::infinity());
    const auto threads = static_cast<size_t>(std::max(task.num_threads, 1));
    const auto size = static_cast<size_t>(blocks.rows);
    std::vector<std::vector<float>> scores32(threads, std::vector<float>(is_float64 ? 0 : size));
    std::vector<std::vector<double>> scores64(threads, std::vector<double>(size));

    run_blocks(
        total_blocks(blocks.count(), passes), task.num_threads,
        [&](int64_t number, int thread, Pulse& pulse) {
            const int64_t block = number / passes, first_direction = number % passes * max_batch;
            const int64_t last_direction = std::min(first_direction + max_batch, batch);
            const int64_t from = blocks.valid_from(block), count = blocks.valid_to(block) - from;
            MatrixRows here = rows;
            const int64_t bytes = is_float64 ? sizeof(double) : sizeof(float);
            here.data = static_cast<const char*>(rows.data) + from * rows.row_stride * bytes;
            double* projections = scores64[static_cast<size_t>(thread)].data();
            float* single = scores32[static_cast<size_t>(thread)].data();
            for (int64_t d = first_direction; d < last_direction; ++d) {
                if (d > first_direction) pulse();
                if (is_float64) {
                    kernels.project_float64(here, count,
                                            static_cast<const double*>(w) + d * rows.dim, 1, count,
                                            projections);
                } else {
                    kernels.project_float32(
                        here, count, static_cast<const float*>(w) + d * rows.dim, 1, count, single);
                    std::copy(single, single + count, projections);
                }
                TopRows& top = collectors.at(thread, d);
                for (int64_t i = 0; i < count; ++i) {
                    if (!std::isfinite(projections[i])) throw NonFinite{from + i, d};
                    const double score = task.absolute ? std::fabs(projections[i]) : projections[i];
                    if (score >= top.threshold()) top.add(projections[i], from + i);
                }
            }
            return last_direction == batch ? count : 0;
        },
        task.watch);
    return collectors.merged();
}

void gaussian_rows(const GaussianLayer& layer, const int64_t* indices, int64_t count,
                   int num_threads, Watch* watch, float* out) {
    const RowKernels& kernels = row_kernels();
    // Some short rows, or a part of a long one.
    const int64_t rows = std::max<int64_t>(1, block_work / 4 / std::max<int64_t>(layer.dim, 1));
    const int64_t columns = std::min(layer.dim, block_work);
    const int64_t parts = (layer.dim + columns - 1) / columns;
    run_blocks(
        total_blocks((count + rows - 1) / rows, parts), num_threads,
        [&](int64_t number, int) {
            const int64_t first = number / parts * rows, here = std::min(rows, count - first);
            const int64_t column = number % parts * columns;
            kernels.gaussian_rows(layer, indices + first, here, column,
                                  std::min(columns, layer.dim - column),
                                  out + first * layer.dim + column);
            return column + columns >= layer.dim ? here : 0;
        },
        watch);
}

}  // namespace infall
