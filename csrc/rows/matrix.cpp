#include "rows/matrix.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rows/blocks.h"
#include "runtime/isa.h"

namespace infall {

INFALL_KERNEL_TABLES(MatrixKernels, matrix_kernels)

namespace {

template <class T>
std::vector<Selection> select(const MatrixRows& matrix, const SelectionTask& task, const T* w,
                              int64_t batch,
                              void (*project)(const MatrixRows&, int64_t, const T*, T*)) {
    const AlignedBlocks blocks(task.first_row, task.end_row,
                               block_rows_for(matrix.dim, std::min(batch, max_batch)));
    Collectors collectors(task, batch, -std::numeric_limits<double>::infinity());
    PerThread<std::vector<T>> scores(task.num_threads,
                                     std::vector<T>(static_cast<size_t>(blocks.rows)));
    for_passes(blocks, batch, task.num_threads, task.watch,
               [&](int64_t block, int64_t first_direction, int64_t end_direction, int thread,
                   Pulse& pulse) {
                   const int64_t from = blocks.valid_from(block),
                                 count = blocks.valid_to(block) - from;
                   MatrixRows rows = matrix;
                   rows.data = static_cast<const T*>(matrix.data) + from * matrix.row_stride;
                   T* projections = scores[thread].data();
                   for (int64_t d = first_direction; d < end_direction; ++d) {
                       if (d > first_direction) pulse();
                       project(rows, count, w + d * matrix.dim, projections);
                       TopRows& top = collectors.at(thread, d);
                       for (int64_t i = 0; i < count; ++i) {
                           const auto projection = static_cast<double>(projections[i]);
                           if (!std::isfinite(projection)) throw NonFinite{from + i, d};
                           const double score = task.absolute ? std::fabs(projection) : projection;
                           if (score >= top.threshold()) top.add(projection, from + i);
                       }
                   }
                   return end_direction == batch ? count : 0;
               });
    return collectors.merged();
}

}  // namespace

std::vector<Selection> select_matrix(const MatrixRows& rows, bool is_float64,
                                     const SelectionTask& task, const void* w, int64_t batch) {
    const MatrixKernels& kernels = matrix_kernels();
    return is_float64
               ? select(rows, task, static_cast<const double*>(w), batch, kernels.project_float64)
               : select(rows, task, static_cast<const float*>(w), batch, kernels.project_float32);
}

}  // namespace infall
