// Selection of the rows of a matrix in memory.
#pragma once

#include <cstdint>
#include <vector>

#include "rows/selection.h"

namespace infall {

// Rows of a matrix in memory; strides in elements.
struct MatrixRows {
    const void* data;
    int64_t row_stride, column_stride;
    int64_t dim;
};

struct MatrixKernels {
    // scores (batch, count): the projections of `count` rows on w (batch, dim), every sum over the
    // columns in order, one fused multiply-add each.
    void (*project_float32)(const MatrixRows& rows, int64_t count, const float* w, int64_t batch,
                            float* scores);
    void (*project_float64)(const MatrixRows& rows, int64_t count, const double* w, int64_t batch,
                            double* scores);

    // Positions i < count with scores[i] (or |scores[i]|) >= threshold, ascending; returns how
    // many, or -1 if a score is not finite.
    int64_t (*passing_float32)(const float* scores, int64_t count, double threshold, bool absolute,
                               int32_t* positions);
    int64_t (*passing_float64)(const double* scores, int64_t count, double threshold, bool absolute,
                               int32_t* positions);
};
const MatrixKernels& matrix_kernels();

// One selection per direction; w is (batch, dim) of the matrix's own type. Throws NonFinite where a
// projection is not a finite number.
struct NonFinite {
    int64_t row, direction;
};
std::vector<Selection> select_matrix(const MatrixRows& rows, bool is_float64,
                                     const SelectionTask& task, const void* w, int64_t batch);

}  // namespace infall
