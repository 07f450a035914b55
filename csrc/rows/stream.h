// Projections of the rows of a Gaussian layer, which are drawn and never stored.
#pragma once

#include <cstdint>
#include <vector>

#include "random/gaussian.h"
#include "rows/selection.h"
#include "runtime/parallel.h"

namespace infall {

// Ranges of rows, or of pairs of rows, start at a multiple of this and are as long as one: no
// vector has more lanes.
constexpr int64_t row_multiple = 16;

struct StreamKernels {
    // scores is (batch, rows): the projections of the rows first_row, ... on each of the directions
    // w, (batch, padded_dim) with zeros behind dim; every sum runs over the columns in order, one
    // fused multiply-add each. A call takes the columns of the Philox blocks first_block ...
    // end_block, and goes on from what the call for those before has left in scores.
    void (*project_layer)(const GaussianLayer& layer, int64_t first_row, int64_t rows,
                          int64_t first_block, int64_t end_block, const float* w, int64_t batch,
                          float* scores);

    // Positions i < count with scores[i] (or |scores[i]|) >= threshold, ascending; returns how
    // many.
    int64_t (*at_least)(const float* scores, int64_t count, float threshold, bool absolute,
                        int32_t* positions);
};
const StreamKernels& stream_kernels();

// As StreamKernels::project_layer, all columns.
void project_block(const GaussianLayer& layer, int64_t first_row, int64_t rows, const float* w,
                   int64_t batch, float* scores, Pulse& pulse);

// One selection per direction. Only candidates that score at least `threshold` are seen: a result
// shorter than num_rows means that the threshold was too high. w is (batch, padded_dim), zeros
// behind dim.
std::vector<Selection> select_stream(const GaussianLayer& layer, const SelectionTask& task,
                                     const float* w, int64_t batch, float threshold);

}  // namespace infall
