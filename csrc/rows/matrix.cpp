#include "rows/matrix.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rows/blocks.h"
#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(MatrixKernels, matrix_kernels)

namespace {

template <class T, class Project, class Passing>
std::vector<Selection> select(const MatrixRows& matrix, const SelectionTask& task, const T* w,
                              int64_t batch, const Project& project, const Passing& passing) {
    const AlignedBlocks blocks(task.first_row, task.end_row,
                               block_rows_for(matrix.dim, std::min(batch, max_batch)));
    const int64_t together = std::max<int64_t>(1, part_work / (blocks.rows * matrix.dim));
    Collectors collectors(task, batch, -std::numeric_limits<double>::infinity());
    PerThread<std::vector<T>> scores(task.num_threads);
    PerThread<std::vector<int32_t>> positions(task.num_threads, std::vector<int32_t>(blocks.rows));
    const auto select_block = [&](int64_t from, int64_t count, int64_t first_direction,
                                  int64_t num_directions, int thread) {
        MatrixRows rows = matrix;
        rows.data = static_cast<const T*>(matrix.data) + from * matrix.row_stride;
        std::vector<T>& projections = scores[thread];
        projections.resize(static_cast<size_t>(num_directions * count));
        project(rows, count, w + first_direction * matrix.dim, num_directions, projections.data());
        std::vector<int32_t>& passed = positions[thread];
        for (int64_t d = 0; d < num_directions; ++d) {
            TopRows& top = collectors.at(thread, first_direction + d);
            const T* scores_of = projections.data() + d * count;
            const int64_t num_passed =
                passing(scores_of, count, top.threshold(), task.absolute, passed.data());
            if (num_passed < 0) {
                int64_t i = 0;
                while (std::isfinite(scores_of[i])) ++i;
                throw NonFinite{from + i, first_direction + d};
            }
            for (int64_t i = 0; i < num_passed; ++i)
                top.add(static_cast<double>(scores_of[passed[i]]), from + passed[i]);
        }
    };
    for_passes(blocks, batch, task.num_threads, task.watch,
               [&](int64_t block, int64_t first_direction, int64_t end_direction, int thread,
                   Pulse& pulse) {
                   const int64_t from = blocks.valid_from(block),
                                 count = blocks.valid_to(block) - from;
                   for (int64_t d = first_direction; d < end_direction; d += together) {
                       if (d > first_direction) pulse();
                       select_block(from, count, d, std::min(together, end_direction - d), thread);
                   }
                   return end_direction == batch ? count : 0;
               });
    return collectors.merged();
}

}  // namespace

std::vector<Selection> select_matrix(const MatrixRows& rows, bool is_float64,
                                     const SelectionTask& task, const void* w, int64_t batch) {
    const MatrixKernels& kernels = matrix_kernels();
    if (is_float64)
        return select(rows, task, static_cast<const double*>(w), batch, kernels.project_float64,
                      kernels.passing_float64);
    return select(rows, task, static_cast<const float*>(w), batch, kernels.project_float32,
                  kernels.passing_float32);
}

}  // namespace infall
