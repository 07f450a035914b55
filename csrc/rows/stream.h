// Projections of the rows of a Gaussian layer, which are drawn and never stored.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "random/gaussian.h"
#include "rows/blocks.h"
#include "rows/selection.h"
#include "rows/weights.h"
#include "runtime/parallel.h"

namespace infall {

// Ranges of rows, or of pairs of rows, start at a multiple of this and are as long as one: no
// vector has more lanes.
constexpr int64_t row_multiple = 16;

// Rows of a block that are projected on `batch` directions. For a batch four vectors of rows are
// drawn together, and fewer would be drawn in vain.
inline int64_t stream_block_rows(int64_t width, int64_t batch) {
    return block_rows_for(width, std::min(batch, max_batch),
                          batch > 1 ? 4 * row_multiple : row_multiple);
}

struct StreamKernels {
    // scores is (batch, rows): the projections of the rows first_row, ... on each direction; every
    // sum runs over the columns in order, one fused multiply-add each. A call takes the columns of
    // the Philox blocks first_block ... end_block among those of `weights`, and goes on from what
    // the call for those before has left in scores.
    void (*project_layer)(const GaussianLayer& layer, int64_t first_row, int64_t rows,
                          const Weights& weights, int64_t first_block, int64_t end_block,
                          float* scores);

    // scores (rows): the same projections on one direction, of the rows with the lower words
    // low_rows (rows) and the upper word of first_row; `rows` is a multiple of row_multiple.
    void (*project_rows)(const GaussianLayer& layer, int64_t first_row, const uint32_t* low_rows,
                         int64_t rows, const Weights& weights, float* scores);

    // Positions i < count with scores[i] (or |scores[i]|) >= threshold, ascending; returns how
    // many.
    int64_t (*at_least)(const float* scores, int64_t count, float threshold, bool absolute,
                        int32_t* positions);
};
const StreamKernels& stream_kernels();

// As StreamKernels::project_layer, all columns.
void project_block(const GaussianLayer& layer, int64_t first_row, int64_t rows,
                   const Weights& weights, float* scores, Pulse& pulse);

// One selection per direction. Only candidates that score at least `threshold` are seen: a result
// shorter than num_rows means that the threshold was too high. w is (batch, padded_dim), zeros
// behind dim. Whether rows are screened by estimates first (rows/screen.h) changes the time it
// takes and no bit; the tests choose for themselves.
std::vector<Selection> select_stream(const GaussianLayer& layer, const SelectionTask& task,
                                     const float* w, int64_t batch, float threshold,
                                     std::optional<bool> screened = std::nullopt);

}  // namespace infall
